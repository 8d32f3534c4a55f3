"""With its entropic terms off EntropyPPO *is* PPO, and MaxEntPPO, too: the same parameters, to the bit."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnvMultiBinary, IdentityEnvMultiDiscrete, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic import EntropyPPO, MaxEntPPO
from tests.extractors import BatchNormExtractor, DropoutExtractor
from tests.same_bits import same_bits

SMALL = {"net_arch": [8]}


def trained(constructor, env="Pendulum-v1", policy="MlpPolicy", steps=130, policy_kwargs=SMALL, **arguments):
    arguments = {"n_steps": 64, "batch_size": 32, "n_epochs": 3, "device": "cpu", "seed": 3, **arguments}
    # SB3 writes into policy_kwargs.
    return constructor(policy, env() if callable(env) else env, policy_kwargs=dict(policy_kwargs), **arguments).learn(steps)


def are_the_same(model, parent):
    """Every tensor of the parent's; the other critic, which has no gradient, is ours alone."""
    kept = {name: value for name, value in model.policy.state_dict().items() if not name.startswith("entropy_net")}
    same_bits(kept, parent.policy.state_dict())
    assert model._n_updates == parent._n_updates
    moments = zip(parent.policy.optimizer.state.values(), model.policy.optimizer.state.values(), strict=True)
    assert all(th.equal(a["exp_avg_sq"], b["exp_avg_sq"]) for a, b in moments if "exp_avg_sq" in a)


@pytest.mark.parametrize(("constructor", "off"), [(EntropyPPO, {}), (MaxEntPPO, {"ent_coef": 0.0})])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_at_defaults(constructor, off, env):
    """SB3's and our defaults, but for the length of a rollout."""
    defaults = {"steps": 300, "n_steps": 256, "policy_kwargs": {}, "batch_size": 64, "n_epochs": 10}
    model, parent = trained(constructor, env, **defaults, **off), trained(PPO, env, **defaults)
    are_the_same(model, parent)
    names = [name for name in parent.logger.name_to_value if name.startswith("train/")]
    assert len(names) >= 9
    for name in names:
        logged = (model.logger.name_to_value[name], parent.logger.name_to_value[name])
        assert logged[0] == pytest.approx(logged[1], rel=1e-5), name


def images():
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1)
    env.observation_space.seed(0)
    return env


def dictionaries():
    np.random.seed(0)
    return SimpleMultiObsEnv()


UNUSUAL = {
    "clipped values and ratios": {"learning_rate": 0.01, "clip_range_vf": 0.1, "clip_range": lambda progress: 0.2 * progress},
    "early stopping": {"target_kl": 1e-4, "learning_rate": 3e-3},
    "unnormalised advantages": {"normalize_advantage": False},
    "a last minibatch of one": {"n_steps": 33},
    "gSDE": {"use_sde": True, "sde_sample_freq": 4},
    "a squashed policy": {"use_sde": True, "policy_kwargs": {**SMALL, "squash_output": True}},
    "batch norm": {"policy_kwargs": {**SMALL, "features_extractor_class": BatchNormExtractor}},
    "dropout, features of their own": {
        "policy_kwargs": {**SMALL, "features_extractor_class": DropoutExtractor, "share_features_extractor": False}
    },
    "another optimiser": {"policy_kwargs": {**SMALL, "optimizer_class": th.optim.RMSprop}},
    "normalised environments": {"env": lambda: VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0)), "n_steps": 32},
    "several choices": {"env": lambda: IdentityEnvMultiDiscrete(3)},
    "switches": {"env": lambda: IdentityEnvMultiBinary(3)},
    "dictionaries": {"env": dictionaries, "policy": "MultiInputPolicy", "steps": 60},
    "images": {
        **{"env": images, "policy": "CnnPolicy", "steps": 32, "n_steps": 16, "batch_size": 8},
        "policy_kwargs": {**SMALL, "features_extractor_kwargs": {"features_dim": 16}},
    },
}


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("settings", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_in_unusual_settings(settings):
    parent = trained(PPO, **settings)
    are_the_same(trained(EntropyPPO, **settings), parent)
    are_the_same(trained(MaxEntPPO, ent_coef=0.0, **settings), parent)


@pytest.mark.parametrize("squashed", [False, True])
def test_with_a_bonus_like_sb3s(squashed):
    settings = {"use_sde": True, "policy_kwargs": {**SMALL, "squash_output": True}} if squashed else {}
    parent = trained(PPO, ent_coef=0.05, **settings)
    are_the_same(trained(EntropyPPO, ent_coef=0.05, entropy_estimator="sb3", **settings), parent)
    assert not squashed or not th.equal(
        trained(EntropyPPO, ent_coef=0.05, **settings).policy.log_std, parent.policy.log_std
    ), "the other estimator is another"


def test_the_entropic_terms_make_a_difference():
    """Otherwise everything above would hold of classes that ignore their arguments."""
    parent = trained(PPO).policy.state_dict()
    different = [
        trained(EntropyPPO, ent_coef="lin_0.1"),
        trained(EntropyPPO, kl_coef=1.0),
        trained(MaxEntPPO),
        trained(MaxEntPPO, entropy_critic=False),
    ]
    for model in different:
        assert not th.equal(model.policy.state_dict()["action_net.weight"], parent["action_net.weight"])
