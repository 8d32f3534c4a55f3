"""What an SB3 user relies on, on every algorithm of ours, with its entropic term on."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic.catalog import ALGORITHMS

OURS = [algorithm for algorithm in ALGORITHMS.values() if algorithm.parent]
every_algorithm = pytest.mark.parametrize("algorithm", OURS, ids=lambda a: a.name)

SMALL = {"policy_kwargs": {"net_arch": [16]}, "buffer_size": 300, "batch_size": 16, "learning_starts": 20, "device": "cpu"}


def parameters_moved(model, before):
    return any(not th.equal(value, before[key]) for key, value in model.policy.state_dict().items())


def learns(model, steps=100):
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(steps)
    assert parameters_moved(model, before)
    assert all(th.isfinite(value).all() for value in model.policy.state_dict().values())
    return model


VARIANTS = {
    "fixed temperature": {"ent_coef": 0.1},
    "learned temperature": {"ent_coef": "auto_0.5", "target_entropy": -0.5},
    "gSDE": {"use_sde": True},
    "n-step": {"n_steps": 3},
    "memory optimisation": {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    "episodic updates": {"train_freq": (1, "episode"), "gradient_steps": 3, "learning_starts": 0},
    "schedule": {"learning_rate": lambda progress: 1e-3 * progress},
    "AdamW": {
        "policy_kwargs": {"net_arch": [16], "optimizer_class": th.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
    },
}


@every_algorithm
@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS.keys())
def test_learns_with(algorithm, arguments):
    learns(algorithm.constructor("MlpPolicy", "Pendulum-v1", seed=0, **{**SMALL, **arguments}), steps=250)


@every_algorithm
def test_images(algorithm):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False)
    policy_kwargs = {"net_arch": [16], "features_extractor_kwargs": {"features_dim": 16}}
    learns(algorithm.constructor("CnnPolicy", env, **{**SMALL, "policy_kwargs": policy_kwargs}), steps=40)


@every_algorithm
def test_dict_observations(algorithm):
    learns(algorithm.constructor("MultiInputPolicy", SimpleMultiObsEnv(discrete_actions=False), **SMALL), steps=60)


@every_algorithm
def test_hindsight_experience_replay(algorithm):
    env = BitFlippingEnv(n_bits=3, continuous=True, max_steps=6)
    learns(algorithm.constructor("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **SMALL))


@every_algorithm
def test_normalised_vectorised_environments(algorithm):
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    learns(algorithm.constructor("MlpPolicy", env, gradient_steps=-1, **SMALL), steps=200)


@every_algorithm
def test_callbacks_and_tensorboard(algorithm, tmp_path):
    callbacks = [
        EvalCallback(Monitor(gym.make("Pendulum-v1")), eval_freq=100, n_eval_episodes=1, log_path=tmp_path, verbose=0),
        CheckpointCallback(100, tmp_path, save_replay_buffer=True),
        StopTrainingOnMaxEpisodes(1),
    ]
    model = algorithm.constructor("MlpPolicy", "Pendulum-v1", tensorboard_log=str(tmp_path / "tb"), **SMALL)
    model.learn(1000, callback=callbacks)
    assert model.num_timesteps == 200
    assert (tmp_path / "evaluations.npz").is_file()
    assert (tmp_path / "rl_model_100_steps.zip").is_file()
    name = algorithm.constructor.__name__
    assert list((tmp_path / "tb" / f"{name}_1").glob("events*")), "runs are logged under the algorithm's own name"


@every_algorithm
def test_a_saved_model_goes_on_as_if_it_had_never_stopped(algorithm, tmp_path):
    model = algorithm.constructor("MlpPolicy", "Pendulum-v1", seed=0, **SMALL).learn(150)
    model.save(tmp_path / "model")
    loaded = algorithm.constructor.load(tmp_path / "model", env=gym.make("Pendulum-v1"), device="cpu")
    loaded.set_logger(model.logger)
    loaded.replay_buffer = model.replay_buffer
    for each in (model, loaded):
        np.random.seed(0)
        th.manual_seed(0)
        each.train(gradient_steps=20, batch_size=16)
    for key, value in model.policy.state_dict().items():
        assert th.equal(value, loaded.policy.state_dict()[key]), key


@every_algorithm
def test_its_own_arguments_are_saved_and_can_be_changed_on_loading(algorithm, tmp_path):
    own = {"munchausen_alpha": 0.25, "munchausen_bound": (-0.5, 0.25), "entropy_bound": th.tanh}
    algorithm.constructor("MlpPolicy", "Pendulum-v1", **SMALL, **own).save(tmp_path / "model")
    loaded = algorithm.constructor.load(tmp_path / "model")
    assert loaded.munchausen_alpha == 0.25
    assert tuple(loaded.munchausen_bound) == (-0.5, 0.25)
    assert loaded.entropy_bound is th.tanh
    assert algorithm.constructor.load(tmp_path / "model", munchausen_alpha=0.75).munchausen_alpha == 0.75
    with pytest.raises(ValueError, match="munchausen_alpha=7"):
        algorithm.constructor.load(tmp_path / "model", munchausen_alpha=7)


@every_algorithm
def test_opens_a_model_of_its_parent_and_trains_it_on(algorithm, tmp_path):
    parent = ALGORITHMS[algorithm.parent].constructor("MlpPolicy", "Pendulum-v1", seed=0, **SMALL).learn(60)
    parent.save(tmp_path / "parent")
    ours = algorithm.constructor.load(tmp_path / "parent", env=gym.make("Pendulum-v1"))
    observation = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    assert np.array_equal(ours.predict(observation, deterministic=True)[0], parent.predict(observation, deterministic=True)[0])
    assert ours.munchausen_alpha > 0
    learns(ours)


@every_algorithm
def test_its_parent_opens_its_model(algorithm, tmp_path):
    algorithm.constructor("MlpPolicy", "Pendulum-v1", seed=0, **SMALL).learn(60).save(tmp_path / "ours")
    parent = ALGORITHMS[algorithm.parent].constructor.load(tmp_path / "ours", env=gym.make("Pendulum-v1"))
    assert type(parent) is ALGORITHMS[algorithm.parent].constructor
    learns(parent)


@every_algorithm
def test_the_same_seed_gives_the_same_model(algorithm):
    first, second = (algorithm.constructor("MlpPolicy", "Pendulum-v1", seed=7, **SMALL).learn(150) for _ in range(2))
    assert all(th.equal(value, second.policy.state_dict()[key]) for key, value in first.policy.state_dict().items())


@every_algorithm
def test_unsuitable_actions_are_refused(algorithm):
    with pytest.raises(AssertionError, match="action spaces"):
        algorithm.constructor("MlpPolicy", "CartPole-v1")
