"""MinAtar's observations reach SB3's networks whole, and its episodes can be repeated."""

import importlib.util

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DQN
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first, preprocess_obs

from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.envs import MinAtarCNN, MinAtarImages
from sb3_entropic.envs.registry import find_environment
from sb3_entropic.errors import UserError
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import env_wrapper, load_hyperparameters, make_model

with_minatar = pytest.mark.skipif(importlib.util.find_spec("minatar") is None, reason="minatar is not installed")
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
POLICY = {"features_extractor_class": MinAtarCNN, "net_arch": []}


class FakeGame(gym.Env):
    """As MinAtar: booleans with the channels last, and the last action kept over the end of an episode."""

    def __init__(self, shape=(10, 10, 4)):
        self.observation_space = spaces.Box(0, 1, shape, bool)
        self.action_space = spaces.Discrete(3)
        self.game = self
        self.last_action = 0
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        reward, self.last_action = float(self.last_action), int(action)
        return self._observe(), reward, self.steps == 5, False, {}

    def _observe(self):
        return self.np_random.random(self.observation_space.shape) < 0.3


@pytest.mark.parametrize("channels", [4, 10])
def test_an_image_has_the_channels_first_and_nothing_else_changed(channels):
    env = MinAtarImages(FakeGame((10, 10, channels)))
    image, _ = env.reset(seed=0)
    raw, _ = FakeGame((10, 10, channels)).reset(seed=0)
    assert env.observation_space.contains(image)
    assert set(np.unique(image)) == {0, 255}
    assert all(np.array_equal(image[channel] == 255, raw[:, :, channel]) for channel in range(channels))


@pytest.mark.parametrize("channels", [4, 10])
def test_sb3_takes_the_image_as_it_is_and_gives_the_network_zeros_and_ones(channels):
    env = MinAtarImages(FakeGame((10, 10, channels)))
    assert is_image_space(env.observation_space)
    assert is_image_space_channels_first(env.observation_space)
    model = DQN("CnnPolicy", env, policy_kwargs=POLICY, buffer_size=100, learning_starts=10, device="cpu", seed=0).learn(40)
    assert model.observation_space.shape == (channels, 10, 10), "not transposed"
    assert model.replay_buffer.observations.dtype == np.uint8
    batch = model.replay_buffer.sample(8).observations
    assert set(preprocess_obs(batch, model.observation_space).unique().tolist()) == {0.0, 1.0}


def test_the_network_is_minatars():
    network = MinAtarCNN(spaces.Box(0, 255, (4, 10, 10), np.uint8))
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    assert shapes == [(16, 4, 3, 3), (16,), (128, 16 * 8 * 8), (128,)]
    assert network(th.zeros(7, 4, 10, 10)).shape == (7, 128)
    assert network(th.rand(7, 4, 10, 10)).min() == 0, "ends with a ReLU"


@pytest.mark.parametrize("env", [gym.make("CartPole-v1"), MinAtarImages(FakeGame())])
def test_other_observations_are_refused(env):
    with pytest.raises(UserError, match=r"MinAtarImages takes booleans \(height, width, channels\), and .* has Box"):
        MinAtarImages(env)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(0, 1, (4,)), spaces.Box(0, 255, (4, 2, 10), np.uint8)])
def test_the_network_refuses_what_is_no_image_of_its_size(space):
    with pytest.raises(UserError, match=r"MinAtarCNN takes images \(channels, height, width\) of at least 3 x 3, not"):
        MinAtarCNN(space)


def test_an_episode_does_not_depend_on_the_one_before():
    gym.register("FakeGame-v0", entry_point=FakeGame)
    model = DQN("CnnPolicy", MinAtarImages(FakeGame()), policy_kwargs=POLICY, buffer_size=10, device="cpu", seed=0)
    model.predict = lambda observations, **_: (np.full(len(observations), 2), None)
    evaluator = Evaluator("FakeGame-v0", episodes=2, wrapper=MinAtarImages)
    assert [episode.total_reward for episode in evaluator.evaluate(model)] == [8.0, 8.0]
    assert [episode.total_reward for episode in evaluator.evaluate(model)] == [8.0, 8.0]


@with_minatar
@pytest.mark.filterwarnings("ignore:.*is out of date.*")
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("version", [0, 1])
def test_every_game_is_there(game, version):
    env_id = f"MinAtar/{game}-v{version}"
    n_actions = find_environment(env_id).action_space.n
    assert n_actions == 6 if version == 0 else n_actions <= 6
    env = MinAtarImages(gym.make(env_id))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert is_image_space_channels_first(env.observation_space)


@with_minatar
def test_an_idle_diver_is_stopped():
    evaluator = Evaluator("MinAtar/Seaquest-v1", episodes=1, wrapper=MinAtarImages)
    model = DQN("CnnPolicy", MinAtarImages(FakeGame()), policy_kwargs=POLICY, buffer_size=10, device="cpu", seed=0)
    model.predict = lambda observations, **_: (np.zeros(len(observations), dtype=int), None)
    assert evaluator.evaluate(model)[0].length == evaluator.max_episode_steps == 10_000


@with_minatar
@pytest.mark.parametrize("game", GAMES)
def test_the_zoos_entries_train_and_are_evaluated(game):
    env_id = f"MinAtar/{game}-v1"
    hyperparameters = {**load_hyperparameters(ALGORITHMS["dqn"], env_id), "learning_starts": 20, "buffer_size": 200}
    model = make_model(ALGORITHMS["dqn"], env_id, hyperparameters, seed=0, device="cpu").learn(60)
    assert isinstance(model.policy.q_net.features_extractor, MinAtarCNN)
    assert model.policy.optimizer.param_groups[0]["eps"] == 0.0003125
    wrapper = env_wrapper(hyperparameters)
    # An untrained player of Seaquest may idle until the time limit.
    evaluator = Evaluator(env_id, episodes=2, wrapper=lambda env: TimeLimit(wrapper(env), 200))
    assert evaluator.evaluate(model) == evaluator.evaluate(model)
