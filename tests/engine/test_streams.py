"""Every seed of a stack draws the random numbers that it draws alone."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from sb3_entropic import MSAC, train_seeds
from sb3_entropic.engine.streams import Streams, numpys_generator_given_back
from tests.engine.cases import FAST

ARGUMENTS = {"policy_kwargs": {"net_arch": [8]}, "batch_size": 8, "device": "cpu"}


class OneSpaceForAll(gym.Env):
    """Its action space is the class's, and its rewards are numpy's."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.clip(np.random.normal(size=2), -1, 1).astype(np.float32), np.random.normal(), False, False, {}


class ActsItself(OneSpaceForAll):
    """One with a space of its own, which it draws from, too."""

    def __init__(self):
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def step(self, action):
        return np.zeros(2, np.float32), float(self.action_space.sample()[0]), False, False, {}


class DrawsNormals(BaseCallback):
    def __init__(self):
        super().__init__()
        self.drawn = []

    def _on_step(self):
        self.drawn.append(np.random.normal())
        return True


@pytest.fixture
def streams():
    found = []
    for seed in (1, 2):
        np.random.seed(seed)
        found.append(Streams(own=True))
    return found


def test_normal_numbers_that_numpy_draws_in_advance_are_kept(streams):
    alone = [np.random.RandomState(seed) for seed in (1, 2)]
    with numpys_generator_given_back():
        for turn in range(8):
            for stream, generator in zip(streams, alone, strict=True):
                stream.enter()
                stream.enter()
                # Not always a number of them that leaves none.
                assert np.random.normal(size=1 + turn % 2).tolist() == generator.normal(size=1 + turn % 2).tolist()
                assert np.random.randint(0, 100) == generator.randint(0, 100)


@pytest.mark.parametrize("drawn", [1, 2])
def test_the_users_generator_is_as_it_was(drawn, streams):
    np.random.seed(7)
    alone = np.random.RandomState(7)
    assert np.random.normal(size=drawn).tolist() == alone.normal(size=drawn).tolist()
    with numpys_generator_given_back():
        streams[0].enter()
        np.random.normal()
    with streams[1].alone():
        np.random.normal()
    with numpys_generator_given_back():
        pass
    assert [np.random.normal(), np.random.rand()] == [alone.normal(), alone.rand()]


def test_a_seeds_generator_is_numpys_to_all_who_use_it(streams):
    with numpys_generator_given_back():
        streams[0].enter()
        np.random.seed(5)
        alone, copied = np.random.RandomState(5), copy.deepcopy(np.random.get_bit_generator())
        sent = pickle.loads(pickle.dumps(np.random.get_bit_generator()))
        state = np.random.get_state()
        assert np.random.normal() == alone.normal()
        assert np.random.get_state()[2:] == alone.get_state()[2:]
        np.random.set_state(state)
        assert np.random.RandomState(copied).rand() == np.random.RandomState(sent).rand() == np.random.rand()


@pytest.mark.parametrize(
    ("noise", "environment"),
    [
        (NormalActionNoise, OneSpaceForAll),
        (OrnsteinUhlenbeckActionNoise, OneSpaceForAll),
        (None, OneSpaceForAll),
        (None, ActsItself),
    ],
)
def test_a_seed_of_a_stack_draws_what_it_draws_alone(noise, environment):
    arguments = {**ARGUMENTS, "action_noise": noise and noise(np.zeros(1), 0.1 * np.ones(1)), "learning_starts": 30}
    callbacks = {seed: DrawsNormals() for seed in (0, 1)}
    models = train_seeds(
        MSAC, "MlpPolicy", environment, seeds=[0, 1], total_timesteps=40, callback=callbacks.get, engine=FAST, **arguments
    )
    for seed, model in enumerate(models):
        arguments["action_noise"] = noise and noise(np.zeros(1), 0.1 * np.ones(1))
        of_sb3s_loop, callback = MSAC("MlpPolicy", environment(), seed=seed, engine="sb3", **arguments), DrawsNormals()
        of_sb3s_loop.learn(40, callback)
        assert callbacks[seed].drawn == callback.drawn
        theirs = of_sb3s_loop.replay_buffer
        assert (model.replay_buffer.actions[:30] == theirs.actions[:30]).all()
        assert (model.replay_buffer.rewards[:40] == theirs.rewards[:40]).all()
