"""The gap-increasing operator on distributions of returns."""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th
from sb3_contrib import QRDQN
from stable_baselines3.common.policies import BasePolicy

from sb3_entropic.checks import check_count, check_network
from sb3_entropic.operators import quantile_huber_loss
from sb3_entropic.signature import extends
from sb3_entropic.value_based import policies
from sb3_entropic.value_based.gap_increasing import GapIncreasing
from sb3_entropic.value_based.networks import Fractions, ValueNetworks


class _QuantileLoss(GapIncreasing):
    """Quantile regression on sb3-contrib's networks."""

    def _create_aliases(self) -> None:
        check_network(self, "quantile_net")
        QRDQN._create_aliases(self)

    def make_networks(self) -> ValueNetworks:
        """sb3-contrib's modules and the temperature for one gradient step."""
        return ValueNetworks(self.quantile_net, self.quantile_net_target, self.current_temperature())

    def regression_loss(self, current: th.Tensor, target: th.Tensor, noise: Fractions) -> th.Tensor:
        """Quantile Huber loss, summed over the current quantiles (arXiv 1710.10044, eq. 10)."""
        return quantile_huber_loss(current, target, noise.current)


@extends(QRDQN)
class MQRDQN(_QuantileLoss, QRDQN):
    """Munchausen QR-DQN: the operator on each of the fixed quantiles of the return (arXiv 2007.14430, section 4.1).

    ::

        y_j = r + alpha clip(temperature log pi(a|s))
                + gamma (1 - done) sum_a' pi(a'|s') (Z_j(s', a') - temperature log pi(a'|s'))

    with ``pi = softmax(mean_j Z_j / temperature)``, all of it the target network's. The mean of the targets is
    :class:`MDQN`'s. With ``munchausen_alpha=0, soft_value="max"`` it is ``QRDQN``, bit for
    bit with ``engine="sb3"``.

    Every argument of :class:`sb3_contrib.QRDQN` is accepted, in the same order and with the same default; see
    https://sb3-contrib.readthedocs.io/en/master/modules/qrdqn.html. The keyword-only arguments are ours: see
    :class:`sb3_entropic.value_based.gap_increasing.GapIncreasing`; logged and loaded are the same things as in
    :class:`sb3_entropic.MDQN`.

    :raises ValueError: for a value that is not allowed
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": policies.QuantileMlpPolicy,
        "CnnPolicy": policies.QuantileCnnPolicy,
        "MultiInputPolicy": policies.QuantileMultiInputPolicy,
    }


class _SampledFractions(_QuantileLoss):
    """Fractions drawn anew in every gradient step.

    :param n_samples: fractions at which the online network is trained, ``N``
    :param n_target_samples: fractions of the target's distribution, ``N'``
    """

    def __init__(self, *args: Any, n_samples: int = 64, n_target_samples: int = 64, **kwargs: Any):
        self.n_samples = n_samples
        self.n_target_samples = n_target_samples
        super().__init__(*args, **kwargs)

    def _create_aliases(self) -> None:
        check_network(self, "quantile_net", policies.ImplicitQuantileNetwork)
        super()._create_aliases()

    def check_arguments(self) -> None:
        """Those of the family, and the numbers of fractions."""
        super().check_arguments()
        check_count("n_samples", self.n_samples)
        check_count("n_target_samples", self.n_target_samples)

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> Fractions:
        """Uniform fractions for each of the four uses."""
        counts = (self.n_samples, self.n_target_samples, self.n_quantiles, self.n_quantiles)
        return Fractions(
            *(th.rand(len(batch.rewards), count, generator=generator, device=batch.rewards.device) for count in counts)
        )


@extends(QRDQN)
class MIQN(_SampledFractions, QRDQN):
    """Munchausen IQN: :class:`MQRDQN` with quantiles at sampled fractions (arXiv 2007.14430, section 4.1).

    With ``munchausen_alpha=0, soft_value="max"`` it is IQN (arXiv 1806.06923); with ``munchausen_alpha=0`` alone soft IQN.
    The network is :class:`sb3_entropic.value_based.policies.ImplicitQuantileNetwork`;
    ``policy_kwargs={"n_quantiles": 32}`` are the fractions the policy's values are averaged over: drawn anew in the
    target, fixed midpoints in ``predict``.

    Every argument of :class:`sb3_contrib.QRDQN` is accepted, in the same order and with the same default. The
    keyword-only arguments are ours: those of :class:`sb3_entropic.value_based.gap_increasing.GapIncreasing`, and

    :param n_samples: fractions at which the online network is trained, ``N``
    :param n_target_samples: fractions of the target's distribution, ``N'``
    :raises ValueError: for a value that is not allowed
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": policies.ImplicitMlpPolicy,
        "CnnPolicy": policies.ImplicitCnnPolicy,
        "MultiInputPolicy": policies.ImplicitMultiInputPolicy,
    }
