"""Policies of the value-based family: SB3's, with a dueling head, an averaging network or implicit quantiles."""

from __future__ import annotations

import math
from typing import Any

import torch as th
from sb3_contrib.qrdqn import policies as qrdqn
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn import policies as dqn
from torch import nn

from sb3_entropic.checks import check_count


class DuelingLinear(nn.Module):
    """Last layer ``V(s) + A(s, a) - mean_a A(s, a)`` (arXiv 1511.06581, eq. 9).

    :param in_features: width of the layer before
    :param n_actions: number of actions
    :param n_quantiles: values of each action
    """

    def __init__(self, in_features: int, n_actions: int, n_quantiles: int = 1):
        super().__init__()
        self.value = nn.Linear(in_features, n_quantiles)
        self.advantage = nn.Linear(in_features, n_quantiles * n_actions)
        self._shape = (n_quantiles, n_actions)

    def forward(self, latent: th.Tensor) -> th.Tensor:
        """``(..., in_features)`` to ``(..., n_quantiles * n_actions)``."""
        advantage = self.advantage(latent).unflatten(-1, self._shape)
        return (self.value(latent).unsqueeze(-1) + advantage - advantage.mean(-1, keepdim=True)).flatten(-2)


class _Dueling(BasePolicy):
    """Adds ``dueling`` to a policy's arguments.

    :param dueling: split the last layer into a state value and advantages, see :class:`DuelingLinear`
    """

    def __init__(self, *args: Any, dueling: bool = False, **kwargs: Any):
        self.dueling = dueling
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> dqn.QNetwork:
        """DQN's network."""
        network = super().make_q_net()
        self._duel(network.q_net, 1)
        return network

    def make_quantile_net(self) -> qrdqn.QuantileNetwork:
        """QR-DQN's network."""
        check_count("n_quantiles", self.n_quantiles)
        network = super().make_quantile_net()
        self._duel(network.quantile_net, network.n_quantiles)
        return network

    def _duel(self, layers: nn.Sequential, n_quantiles: int) -> None:
        if self.dueling:
            layers[-1] = DuelingLinear(layers[-1].in_features, int(self.action_space.n), n_quantiles).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "dueling": self.dueling}


class MlpPolicy(_Dueling, dqn.MlpPolicy):
    """DQN's policy for vectors, with ``dueling``."""


class CnnPolicy(_Dueling, dqn.CnnPolicy):
    """DQN's policy for images, with ``dueling``."""


class MultiInputPolicy(_Dueling, dqn.MultiInputPolicy):
    """DQN's policy for dictionaries, with ``dueling``."""


class QuantileMlpPolicy(_Dueling, qrdqn.MlpPolicy):
    """QR-DQN's policy for vectors, with ``dueling``."""


class QuantileCnnPolicy(_Dueling, qrdqn.CnnPolicy):
    """QR-DQN's policy for images, with ``dueling``."""


class QuantileMultiInputPolicy(_Dueling, qrdqn.MultiInputPolicy):
    """QR-DQN's policy for dictionaries, with ``dueling``."""


class AveragingPolicy(_Dueling):
    """Adds a network that averages the Q-network and that the policy is greedy with respect to, with its target."""

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.average_net, self.average_net_target = self.make_q_net(), self.make_q_net()
        for network in (self.average_net, self.average_net_target):
            network.load_state_dict(self.q_net.state_dict())
        self.average_net_target.set_training_mode(False)
        self.average_optimizer = self.optimizer_class(
            self.average_net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def _predict(self, obs: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self.average_net._predict(obs, deterministic=deterministic)

    def set_training_mode(self, mode: bool) -> None:
        """Of the networks that are trained."""
        super().set_training_mode(mode)
        self.average_net.set_training_mode(mode)


class AveragingMlpPolicy(AveragingPolicy, dqn.MlpPolicy):
    """DQN's policy for vectors, with ``dueling`` and an averaging network."""


class AveragingCnnPolicy(AveragingPolicy, dqn.CnnPolicy):
    """DQN's policy for images, with ``dueling`` and an averaging network."""


class AveragingMultiInputPolicy(AveragingPolicy, dqn.MultiInputPolicy):
    """DQN's policy for dictionaries, with ``dueling`` and an averaging network."""


class ImplicitQuantileNetwork(qrdqn.QuantileNetwork):
    """``Z_rho(s, a) = w_a . (psi(s) * phi(rho)) + b_a`` for any fraction ``rho`` (IQN, arXiv 1806.06923, section 3.1).

    ``psi`` is the features extractor and the layers of ``net_arch``, ``phi`` one ReLU layer on
    ``cos(pi i rho), i = 0, ..., embedding_dim - 1`` (eq. 4). The product is followed by the last, linear layer alone, so
    a further fraction costs little.

    :param embedding_dim: number of cosines
    :param dueling: see :class:`DuelingLinear`
    """

    def __init__(self, *args: Any, embedding_dim: int = 64, dueling: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_count("n_quantiles", self.n_quantiles)
        check_count("embedding_dim", embedding_dim)
        if embedding_dim == 1:
            raise ValueError("embedding_dim=1 is the constant cosine alone, which tells no fractions apart: give 2 or more.")
        n_actions, width = int(self.action_space.n), [self.features_dim, *self.net_arch][-1]
        self.quantile_net = nn.Sequential(*create_mlp(self.features_dim, -1, self.net_arch, self.activation_fn))
        self.embedding = nn.Sequential(nn.Linear(embedding_dim, width), nn.ReLU())
        self.head = DuelingLinear(width, n_actions) if dueling else nn.Linear(width, n_actions)
        midpoints = (th.arange(self.n_quantiles) + 0.5) / self.n_quantiles
        self.register_buffer("midpoints", midpoints[None], persistent=False)
        self.register_buffer("frequencies", math.pi * th.arange(embedding_dim), persistent=False)

    def forward(self, obs: PyTorchObs, fractions: th.Tensor | None = None) -> th.Tensor:
        """Quantiles ``(batch, n, n_actions)`` at fractions ``(batch, n)``; by default at ``n_quantiles`` midpoints."""
        fractions = self.midpoints if fractions is None else fractions
        state = self.quantile_net(self.extract_features(obs, self.features_extractor))
        return self.head(state.unsqueeze(1) * self.embedding(th.cos(fractions.unsqueeze(-1) * self.frequencies)))


class _Implicit(BasePolicy):
    """Implicit quantiles in the place of QR-DQN's.

    :param n_quantiles: fractions at which the values that define the policy are averaged
    :param embedding_dim: see :class:`ImplicitQuantileNetwork`
    :param dueling: see :class:`DuelingLinear`
    """

    def __init__(self, *args: Any, n_quantiles: int = 32, embedding_dim: int = 64, dueling: bool = False, **kwargs: Any):
        self._implicit = {"embedding_dim": embedding_dim, "dueling": dueling}
        super().__init__(*args, n_quantiles=n_quantiles, **kwargs)

    def make_quantile_net(self) -> ImplicitQuantileNetwork:
        """IQN's network."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return ImplicitQuantileNetwork(**arguments, **self._implicit).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._implicit}


class ImplicitMlpPolicy(_Implicit, qrdqn.MlpPolicy):
    """IQN's policy for vectors."""


class ImplicitCnnPolicy(_Implicit, qrdqn.CnnPolicy):
    """IQN's policy for images."""


class ImplicitMultiInputPolicy(_Implicit, qrdqn.MultiInputPolicy):
    """IQN's policy for dictionaries."""
