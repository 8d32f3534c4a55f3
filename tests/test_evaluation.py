"""The same seeded episodes at every evaluation, and training none the wiser."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.envs.classic_control import PendulumEnv
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import SACPolicy

from sb3_entropic import MDQN, MSAC, evaluation
from sb3_entropic.evaluation import Evaluator, _vectors_on_the_cpu


@pytest.fixture(scope="module")
def model():
    return MSAC("MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs={"net_arch": [16]}, buffer_size=500, device="cpu").learn(150)


def test_every_call_plays_the_same_episodes(model):
    evaluator = Evaluator("Pendulum-v1", episodes=3, seed=5)
    first, second = evaluator.evaluate(model), evaluator.evaluate(model)
    assert first == second
    assert [episode.seed for episode in first] == [5, 6, 7]
    assert [episode.length for episode in first] == [200, 200, 200]
    assert len({episode.total_reward for episode in first}) == 3


def test_an_episode_is_the_one_a_plain_loop_plays(model):
    env = gym.make("Pendulum-v1")
    observation, _ = env.reset(seed=6)
    total, over = 0.0, False
    while not over:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, over = total + reward, terminated or truncated
    assert Evaluator("Pendulum-v1", episodes=3, seed=5).evaluate(model)[1].total_reward == pytest.approx(total, rel=1e-3)


def test_episodes_of_different_length():
    model = DQN("MlpPolicy", "CartPole-v1", seed=0, buffer_size=100, device="cpu")
    episodes = Evaluator("CartPole-v1", episodes=6).evaluate(model)
    assert all(episode.total_reward == episode.length for episode in episodes)
    assert len({episode.length for episode in episodes}) > 1


def test_a_policy_of_vectors_is_taken_from_the_gpu_to_be_evaluated_and_one_of_images_is_not():
    class SaysItIsOnAGpu(SACPolicy):
        on_gpu = True

        @property
        def device(self):
            return th.device("cuda" if self.on_gpu else "cpu")

        def cpu(self):
            self.on_gpu = False
            return super().cpu()

    model = MSAC("MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs={"net_arch": [16]}, buffer_size=500, device="cpu")
    evaluator = Evaluator("Pendulum-v1", episodes=1)
    expected = evaluator.evaluate(model)
    policy = model.policy
    policy.__class__ = SaysItIsOnAGpu
    assert evaluator.evaluate(model) == expected
    assert model.policy is policy
    assert policy.on_gpu
    with _vectors_on_the_cpu(model, deterministic=False):
        assert model.policy is policy
    model.use_sde = True
    with _vectors_on_the_cpu(model, deterministic=True):
        assert model.policy is policy
    model.use_sde = False
    with _vectors_on_the_cpu(model, deterministic=True):
        assert model.policy is not policy
    policy.features_extractor_class = NatureCNN
    with _vectors_on_the_cpu(model, deterministic=True):
        assert model.policy is policy


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU that torch's CUDA can use")
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_model_on_a_gpu_plays_the_same_episodes_and_stays_there(deterministic):
    arguments = {"seed": 0, "policy_kwargs": {"net_arch": [16]}, "exploration": "boltzmann", "temperature": 1e-8}
    on_cpu, on_gpu = (MDQN("MlpPolicy", "CartPole-v1", device=device, **arguments) for device in ("cpu", "cuda"))
    on_gpu.set_parameters(on_cpu.get_parameters())
    policy = on_gpu.policy
    evaluator = Evaluator("CartPole-v1", episodes=3)
    assert evaluator.evaluate(on_gpu, deterministic) == evaluator.evaluate(on_cpu, deterministic)
    assert on_gpu.policy is policy
    assert policy.device.type == "cuda"


def test_samples_are_played_where_they_are_asked_for(model):
    evaluator = Evaluator("Pendulum-v1", episodes=1)
    assert evaluator.evaluate(model, deterministic=False) != evaluator.evaluate(model)


def test_random_streams_are_left_alone(model):
    evaluator = Evaluator("Pendulum-v1", episodes=2)
    before = th.get_rng_state(), np.random.get_state()[1].copy()
    evaluator.evaluate(model)
    assert th.equal(before[0], th.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_normalised_observations_reach_the_policy_and_rewards_stay_raw():
    env = VecNormalize(make_vec_env("Pendulum-v1", seed=0))
    env.obs_rms.mean, env.obs_rms.var = np.array([10.0, 10.0, 10.0]), np.full(3, 4.0)
    model = PPO("MlpPolicy", env, seed=0, device="cpu")
    seen = []
    predict = model.predict
    model.predict = lambda observations, **kwargs: seen.append(observations) or predict(observations, **kwargs)
    episodes = Evaluator("Pendulum-v1", episodes=1, seed=3).evaluate(model)
    raw, _ = gym.make("Pendulum-v1").reset(seed=3)
    assert np.allclose(seen[0][0], (raw - 10.0) / 2.0, atol=1e-4)
    assert episodes[0].total_reward < -100, "Pendulum's own rewards, not normalised ones"


def test_a_policy_that_remembers_does_so_until_its_episode_ends():
    def longer_for(seed):
        return [200, 60, 130][seed - 5]

    class Ends(gym.Wrapper):
        def reset(self, *, seed=None, options=None):
            self.left = longer_for(seed)
            return self.env.reset(seed=seed, options=options)

        def step(self, action):
            self.left -= 1
            observation, reward, terminated, truncated, info = self.env.step(action)
            return observation, reward, terminated or self.left == 0, truncated, info

    sizes = {"lstm_hidden_size": 8, "net_arch": [8]}
    model = RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", n_steps=16, seed=0, policy_kwargs=sizes, device="cpu")
    with th.no_grad():
        # As it is made it hardly acts, and so remembers nothing that matters.
        for parameter in model.policy.parameters():
            parameter.mul_(3)
    played = Evaluator("Pendulum-v1", episodes=3, seed=5, wrapper=Ends).evaluate(model)
    for episode in played:
        env = Ends(gym.make("Pendulum-v1"))
        observation, total, state = env.reset(seed=episode.seed)[0], 0.0, None
        for step in range(longer_for(episode.seed)):
            action, state = model.predict(observation, state, np.array([step == 0]), deterministic=True)
            observation, reward, *_ = env.step(action)
            total += reward
        assert episode.length == longer_for(episode.seed)
        assert episode.total_reward == pytest.approx(total, rel=1e-5)


def test_dict_observations():
    gym.register("Multi-v0", entry_point=lambda **_: SimpleMultiObsEnv(discrete_actions=False))
    model = MSAC("MultiInputPolicy", SimpleMultiObsEnv(discrete_actions=False), buffer_size=50, device="cpu", seed=0)
    episodes = Evaluator("Multi-v0", episodes=2).evaluate(model, deterministic=False)
    assert all(episode.length > 0 for episode in episodes)


def test_episodes_without_a_time_limit_end(monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_STEPS", 20)
    gym.register("Endless-v0", entry_point=PendulumEnv)
    try:
        model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, device="cpu", buffer_size=10)
        assert [episode.length for episode in Evaluator("Endless-v0", 3).evaluate(model)] == [20, 20, 20]
    finally:
        del gym.registry["Endless-v0"]
