"""With its entropic term off MSAC *is* SAC, and MTQC TQC: the same parameters, to the bit."""

import numpy as np
import pytest
import torch as th
from sb3_contrib import TQC
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.sac.policies import Actor, SACPolicy

from sb3_entropic import MSAC, MTQC
from tests.extractors import BatchNormExtractor, DropoutExtractor
from tests.same_bits import same_bits

SMALL = {"net_arch": [24, 24]}
SACS, TQCS = (MSAC, SAC), (MTQC, TQC)


def train_both(classes, steps, env="Pendulum-v1", policy="MlpPolicy", n_envs=1, **arguments):
    arguments = {"policy_kwargs": SMALL, "batch_size": 32, "buffer_size": 3000, "device": "cpu", "seed": 3, **arguments}
    models = []
    for constructor, ours in zip(classes, ({"munchausen_alpha": 0}, {}), strict=True):
        model = constructor(policy, make_vec_env(env, n_envs=n_envs, seed=3), **arguments, **ours)
        models.append(model.learn(steps))
    return models


CONFIGURATIONS = {
    "learned temperature": {},
    "fixed temperature": {"ent_coef": 0.1},
    "gSDE": {"use_sde": True, "sde_sample_freq": 8},
    "three-step returns": {"n_steps": 3},
    "updates after episodes": {"train_freq": (1, "episode"), "gradient_steps": -1},
    "two environments": {"n_envs": 2, "gradient_steps": -1},
}


@pytest.mark.parametrize("classes", [SACS, TQCS], ids=["SAC", "TQC"])
@pytest.mark.parametrize("arguments", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_same_parameters_after_hundreds_of_steps(classes, arguments):
    ours, theirs = train_both(classes, 300, **arguments)
    assert ours._n_updates == theirs._n_updates > 150
    same_bits(ours.get_parameters(), theirs.get_parameters())
    if theirs.log_ent_coef is not None:
        assert th.equal(ours.log_ent_coef, theirs.log_ent_coef)
    observations = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    assert np.array_equal(
        ours.predict(observations, deterministic=True)[0], theirs.predict(observations, deterministic=True)[0]
    )


class ShiftedActor(Actor):
    """A user's actor with a way of sampling that we know nothing of."""

    def action_log_prob(self, obs):
        actions, log_prob = super().action_log_prob(obs)
        return (actions * 0.9), log_prob + 0.1


class CoarseActor(Actor):
    """SB3's distribution with another guard against log(0)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.action_dist.epsilon = 1e-2


class CoarsePolicy(SACPolicy):
    def make_actor(self, features_extractor=None):
        return CoarseActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


class ShiftedPolicy(SACPolicy):
    def make_actor(self, features_extractor=None):
        return ShiftedActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)


UNUSUAL = {
    "batch norm": {"policy_kwargs": {**SMALL, "features_extractor_class": BatchNormExtractor}},
    "batch norm, fixed temperature": {
        "ent_coef": 0.2,
        "policy_kwargs": {**SMALL, "features_extractor_class": BatchNormExtractor},
    },
    "shared features": {
        "policy_kwargs": {**SMALL, "features_extractor_class": BatchNormExtractor, "share_features_extractor": True}
    },
    "an actor of one's own": {"policy": ShiftedPolicy},
    "dropout": {"policy_kwargs": {**SMALL, "features_extractor_class": DropoutExtractor}},
    "another epsilon": {"policy": CoarsePolicy},
    "one critic": {"policy_kwargs": {**SMALL, "n_critics": 1}},
    "another optimiser": {"policy_kwargs": {**SMALL, "optimizer_class": th.optim.RMSprop}},
    "rare target updates": {"target_update_interval": 4, "gradient_steps": 8, "train_freq": 8},
    "memory optimisation": {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    },
    "action noise": {"action_noise": NormalActionNoise(np.zeros(1), np.full(1, 0.2))},
    "gSDE with expln": {"use_sde": True, "policy_kwargs": {**SMALL, "use_expln": True}},
}


@pytest.mark.parametrize("arguments", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_same_parameters_in_unusual_settings(arguments):
    same_bits(*(model.get_parameters() for model in train_both(SACS, 200, **arguments)))


TRUNCATED = {
    "four truncated critics": {
        "top_quantiles_to_drop_per_net": 3,
        "policy_kwargs": {**SMALL, "n_critics": 4, "n_quantiles": 7},
    },
    "nothing truncated": {"top_quantiles_to_drop_per_net": 0},
    **{name: UNUSUAL[name] for name in ("batch norm", "shared features", "dropout", "rare target updates")},
}


@pytest.mark.parametrize("arguments", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_same_parameters_of_truncated_critics(arguments):
    same_bits(*(model.get_parameters() for model in train_both(TQCS, 200, **arguments)))


def test_same_parameters_from_images():
    def image_env():
        return FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False)

    models = []
    for constructor, ours in ((MSAC, {"munchausen_alpha": 0}), (SAC, {})):
        env = image_env()
        env.action_space.seed(0)
        policy_kwargs = {"net_arch": [16], "features_extractor_kwargs": {"features_dim": 16}}
        model = constructor(
            "CnnPolicy",
            env,
            seed=0,
            buffer_size=100,
            batch_size=8,
            learning_starts=20,
            policy_kwargs=policy_kwargs,
            device="cpu",
            **ours,
        )
        env.observation_space.seed(0)
        models.append(model.learn(60))
    same_bits(*(model.get_parameters() for model in models))


def test_same_numbers_are_logged():
    ours, theirs = train_both(SACS, 300, gradient_steps=2)
    for key in ("train/ent_coef", "train/actor_loss", "train/critic_loss", "train/ent_coef_loss", "train/n_updates"):
        assert ours.logger.name_to_value[key] == pytest.approx(theirs.logger.name_to_value[key], rel=1e-12), key


def test_the_bonus_makes_a_difference():
    """Otherwise everything above would hold of a class that ignores its argument."""
    with_bonus = MSAC("MlpPolicy", "Pendulum-v1", seed=3, policy_kwargs=SMALL, device="cpu").learn(300)
    without = MSAC("MlpPolicy", "Pendulum-v1", seed=3, policy_kwargs=SMALL, device="cpu", munchausen_alpha=0).learn(300)
    assert not th.equal(with_bonus.critic.qf0[0].weight, without.critic.qf0[0].weight)
