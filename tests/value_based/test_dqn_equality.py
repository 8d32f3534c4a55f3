"""With ``munchausen_alpha=0`` and ``soft_value="max"`` the family *is* DQN, and MQRDQN is QR-DQN: to the bit."""

import numpy as np
import pytest
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic import ALDQN, MQRDQN, SoftDQN
from tests.extractors import BatchNormExtractor, DropoutExtractor
from tests.same_bits import same_bits

SMALL = {"net_arch": [24, 24]}
OFF = {"munchausen_alpha": 0.0, "soft_value": "max"}
QUANTILES = {**SMALL, "n_quantiles": 7}
PAIRS = {"DQN": (SoftDQN, DQN, {}), "QRDQN": (MQRDQN, QRDQN, {"policy_kwargs": QUANTILES})}
both_parents = pytest.mark.parametrize(("ours", "theirs", "base"), PAIRS.values(), ids=PAIRS.keys())


def vector_env():
    return make_vec_env("CartPole-v1", seed=3)


def train_both(ours, theirs, base, steps, policy="MlpPolicy", make_env=vector_env, **arguments):
    defaults = {
        **{"policy_kwargs": SMALL, "batch_size": 32, "buffer_size": 2000, "learning_starts": 50, "train_freq": 2},
        **{"target_update_interval": 60, "exploration_fraction": 0.5, "device": "cpu", "seed": 3, **base},
    }
    policy_kwargs = {**defaults["policy_kwargs"], **arguments.pop("policy_kwargs", {})}
    models = []
    for constructor, off in ((ours, OFF), (theirs, {})):
        env = make_env()
        env.observation_space.seed(0)
        model = constructor(policy, env, **{**defaults, **arguments, "policy_kwargs": policy_kwargs}, **off)
        models.append(model.learn(steps))
    return models


CONFIGURATIONS = {
    "defaults": {},
    "three-step returns": {"n_steps": 3},
    "Polyak averaging": {"tau": 0.05, "target_update_interval": 1},
    "updates after episodes": {"train_freq": (1, "episode"), "gradient_steps": -1},
    "two environments": {"make_env": lambda: make_vec_env("CartPole-v1", n_envs=2, seed=3), "gradient_steps": -1},
    "a low gradient norm": {"max_grad_norm": 0.1},
    "normalised observations": {"make_env": lambda: VecNormalize(vector_env())},
    "a learning-rate schedule": {"learning_rate": lambda progress: 1e-3 * progress},
    "another optimiser": {"policy_kwargs": {"optimizer_class": th.optim.RMSprop}},
    "memory optimisation": {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    },
    "batch norm": {"policy_kwargs": {"features_extractor_class": BatchNormExtractor}},
    "dropout": {"policy_kwargs": {"features_extractor_class": DropoutExtractor}},
}


@both_parents
@pytest.mark.parametrize("arguments", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_same_parameters(ours, theirs, base, arguments):
    our, their = train_both(ours, theirs, base, 600, **arguments)
    assert our._n_updates == their._n_updates > 20
    same_bits(our.get_parameters(), their.get_parameters())
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    for deterministic in (True, False):
        predictions = []
        for model in (our, their):
            np.random.seed(0)
            model.action_space.seed(0)
            predictions += [model.predict(observations, deterministic=deterministic)[0] for _ in range(5)]
        assert np.array_equal(predictions[:5], predictions[5:])


@both_parents
def test_same_parameters_from_images(ours, theirs, base):
    def images():
        return FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)

    kwargs = {"net_arch": [16], "features_extractor_kwargs": {"features_dim": 16}}
    our, their = train_both(ours, theirs, base, 100, "CnnPolicy", images, policy_kwargs=kwargs, batch_size=8)
    same_bits(our.get_parameters(), their.get_parameters())


@both_parents
def test_same_parameters_from_dictionaries(ours, theirs, base):
    def dictionaries():
        # Its observations are drawn once, from the global generator.
        np.random.seed(0)
        return SimpleMultiObsEnv(discrete_actions=True)

    our, their = train_both(ours, theirs, base, 200, "MultiInputPolicy", dictionaries)
    same_bits(our.get_parameters(), their.get_parameters())


def test_the_named_members_are_the_same_class_with_other_defaults():
    """ALDQN with its term off, for one, is DQN too."""
    our, their = train_both(ALDQN, DQN, {}, 300)
    same_bits(our.get_parameters(), their.get_parameters())


@both_parents
def test_same_loss_is_logged(ours, theirs, base):
    our, their = train_both(ours, theirs, base, 300, gradient_steps=3)
    for key in ("train/loss", "train/n_updates", "train/learning_rate", "rollout/exploration_rate"):
        assert our.logger.name_to_value[key] == pytest.approx(their.logger.name_to_value[key], rel=1e-12), key


@both_parents
def test_the_regularised_form_differs(ours, theirs, base):
    """Otherwise everything above would hold of a class that ignores its arguments."""
    arguments = {"device": "cpu", "seed": 3, "learning_starts": 50, **base}
    regularised = ours("MlpPolicy", "CartPole-v1", **arguments).learn(300).policy.state_dict()
    plain = ours("MlpPolicy", "CartPole-v1", **arguments, **OFF).learn(300).policy.state_dict()
    assert any(not th.equal(value, plain[key]) for key, value in regularised.items())
