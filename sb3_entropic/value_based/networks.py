"""What a value-based loss sees of the networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_entropic.forwards import SharedForwards


class Fractions(NamedTuple):
    """The quantile fractions of one gradient step, each ``(batch, n)`` in [0, 1).

    ``None`` where the network has fractions of its own: DQN has a single mean, QR-DQN fixed midpoints.
    """

    current: th.Tensor | None = None
    """Where the online network is trained."""
    target: th.Tensor | None = None
    """Where the target's distribution is evaluated."""
    policy: th.Tensor | None = None
    """Where the values that define the policy in ``s`` are averaged."""
    next_policy: th.Tensor | None = None
    """The same in ``s'``."""


class ValueNetworks:
    """An online and a target value network, seen for one gradient step.

    A network that gives one value an action is one with a single quantile, so the whole family has one shape.

    :param online: ``observations -> (batch, n_actions)`` or ``(batch, n_quantiles, n_actions)``
    :param target: the same
    :param temperature: reward units
    """

    def __init__(self, online: th.nn.Module, target: th.nn.Module, temperature: float):
        self.temperature = temperature
        self._online, self._target = online, target
        self._forwards = SharedForwards()

    def quantiles(self, observations: PyTorchObs, fractions: th.Tensor | None = None) -> th.Tensor:
        """Quantiles of the online network, ``(batch, n_quantiles, n_actions)``."""
        return self._quantiles(self._online, observations, fractions)

    def target_quantiles(self, observations: PyTorchObs, fractions: th.Tensor | None = None) -> th.Tensor:
        """Quantiles of the target network, ``(batch, n_quantiles, n_actions)``."""
        return self._quantiles(self._target, observations, fractions)

    def values(self, observations: PyTorchObs, fractions: th.Tensor | None = None) -> th.Tensor:
        """``Q(s, .)`` of the online network, ``(batch, n_actions)``."""
        return self.quantiles(observations, fractions).mean(dim=1)

    def target_values(self, observations: PyTorchObs, fractions: th.Tensor | None = None) -> th.Tensor:
        """``Q(s, .)`` of the target network, ``(batch, n_actions)``."""
        return self.target_quantiles(observations, fractions).mean(dim=1)

    def _quantiles(self, network: th.nn.Module, observations: PyTorchObs, fractions: th.Tensor | None) -> th.Tensor:
        def forward() -> th.Tensor:
            output = network(observations) if fractions is None else network(observations, fractions)
            return output.unsqueeze(1) if output.ndim == 2 else output

        return self._forwards.once(forward, network, observations, fractions)


class AveragedNetworks(ValueNetworks):
    """The Q-network and the network that averages it.

    :param policy: has ``q_net``, ``average_net`` and the target of each
    :param temperature: reward units
    """

    def __init__(self, policy: Any, temperature: float):
        super().__init__(policy.q_net, policy.q_net_target, temperature)
        self._average, self._average_target = policy.average_net, policy.average_net_target

    def averages(self, observations: PyTorchObs) -> th.Tensor:
        """``H(s, .)``, ``(batch, n_actions)``."""
        return self._quantiles(self._average, observations, None).squeeze(1)

    def target_averages(self, observations: PyTorchObs) -> th.Tensor:
        """``H(s, .)`` of the averaging network's target, ``(batch, n_actions)``."""
        return self._quantiles(self._average_target, observations, None).squeeze(1)
