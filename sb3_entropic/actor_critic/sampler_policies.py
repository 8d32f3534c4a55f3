"""Policies of soft Q-learning: an actor that is a sampler and has no density."""

from __future__ import annotations

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac import policies as sac
from torch import nn


class Sampler(BasePolicy):
    """``a = tanh(f(s, xi))`` with ``xi`` standard normal, of as many dimensions as the action.

    :param observation_space: of the environment
    :param action_space: a box
    :param net_arch: hidden layers
    :param features_extractor: in front of them
    :param features_dim: its output's width
    :param activation_fn: between layers
    :param normalize_images: divide images by 255
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
    ):
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
            squash_output=True,
        )
        self.action_dim = get_action_dim(action_space)
        self.net = nn.Sequential(*create_mlp(features_dim + self.action_dim, self.action_dim, net_arch, activation_fn))

    def unsquashed(self, features: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """``f(s, xi)``, several for each state.

        :param features: ``(batch, features_dim)``
        :param noise: standard normal, ``(batch, n, action_dim)``
        :return: shape of ``noise``
        """
        return over_pairs(self.net, features, noise)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """Actions in (-1, 1), ``(batch, action_dim)``: sampled, or the one at ``xi = 0``."""
        features = self.extract_features(obs, self.features_extractor)
        like = next(self.parameters())
        noise = th.zeros((len(features), 1, self.action_dim), dtype=like.dtype, device=like.device)
        return th.tanh(self.unsquashed(features, noise if deterministic else noise.normal_()).squeeze(1))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)


def over_pairs(network: nn.Module, features: th.Tensor, points: th.Tensor) -> th.Tensor:
    """A network on every pair of a state and one of its points.

    :param network: takes ``(., features_dim + dim)``
    :param features: ``(batch, features_dim)``
    :param points: ``(batch, n, dim)``
    :return: ``(batch, n, .)``
    """
    batch, n, _ = points.shape
    pairs = th.cat([features.unsqueeze(1).expand(-1, n, -1), points], dim=2)
    return network(pairs.flatten(0, 1)).unflatten(0, (batch, n))


class _Sampling(BasePolicy):
    """SAC's policy with the actor a sampler."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Sampler:
        """The sampler."""
        return Sampler(**self._update_features_extractor(self.net_args, features_extractor)).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "share_features_extractor": self.share_features_extractor}


class MlpPolicy(_Sampling, sac.MlpPolicy):
    """For vectors."""


class CnnPolicy(_Sampling, sac.CnnPolicy):
    """For images."""


class MultiInputPolicy(_Sampling, sac.MultiInputPolicy):
    """For dictionaries."""
