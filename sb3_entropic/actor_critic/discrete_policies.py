"""Policies of discrete SAC: a categorical actor and critics that value every action at once."""

from __future__ import annotations

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac import policies as sac
from torch import nn

from sb3_entropic.operators import sample_boltzmann


class CategoricalActor(BasePolicy):
    """``log pi(.|s)`` by a softmax.

    :param observation_space: of the environment
    :param action_space: discrete
    :param net_arch: hidden layers
    :param features_extractor: in front of them
    :param features_dim: its output's width
    :param activation_fn: between layers
    :param normalize_images: divide images by 255
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
    ):
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.logits_net = nn.Sequential(*create_mlp(features_dim, int(action_space.n), net_arch, activation_fn))

    def log_policy(self, obs: PyTorchObs) -> th.Tensor:
        """Log-probabilities, ``(batch, n_actions)``."""
        return th.log_softmax(self.logits_net(self.extract_features(obs, self.features_extractor)), dim=1)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """Actions, ``(batch,)``: the likeliest, or sampled."""
        log_policy = self.log_policy(obs)
        return log_policy.argmax(dim=1) if deterministic else sample_boltzmann(log_policy, 1.0, th.rand_like(log_policy))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)


class DiscreteCritic(BaseModel):
    """Several independent ``Q(s, .)``.

    :param observation_space: of the environment
    :param action_space: discrete
    :param net_arch: hidden layers of each
    :param features_extractor: in front of them
    :param features_dim: its output's width
    :param activation_fn: between layers
    :param normalize_images: divide images by 255
    :param n_critics: how many
    :param share_features_extractor: the extractor is the actor's, and learns from the actor's loss alone
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_critics: int = 2,
        share_features_extractor: bool = True,
    ):
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.share_features_extractor = share_features_extractor
        self.q_networks = nn.ModuleList(
            nn.Sequential(*create_mlp(features_dim, int(action_space.n), net_arch, activation_fn)) for _ in range(n_critics)
        )

    def forward(self, obs: PyTorchObs) -> tuple[th.Tensor, ...]:
        """``Q_i(s, .)`` of every critic, each ``(batch, n_actions)``."""
        with th.set_grad_enabled(th.is_grad_enabled() and not self.share_features_extractor):
            features = self.extract_features(obs, self.features_extractor)
        return tuple(q_network(features) for q_network in self.q_networks)


class _Discrete(BasePolicy):
    """SAC's policy for discrete actions, with a slowly moving copy of the actor."""

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.actor_target = self.make_actor()
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.actor_target.set_training_mode(False)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> CategoricalActor:
        """The categorical actor."""
        return CategoricalActor(**self._update_features_extractor(self.net_args, features_extractor)).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> DiscreteCritic:
        """The critics."""
        return DiscreteCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "share_features_extractor": self.share_features_extractor}


class MlpPolicy(_Discrete, sac.MlpPolicy):
    """For vectors."""


class CnnPolicy(_Discrete, sac.CnnPolicy):
    """For images."""


class MultiInputPolicy(_Discrete, sac.MultiInputPolicy):
    """For dictionaries."""
