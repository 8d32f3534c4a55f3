"""Munchausen TQC."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch as th
from sb3_contrib import TQC

from sb3_entropic.actor_critic.munchausen import Munchausen
from sb3_entropic.actor_critic.networks import ModuleNetworks, PolicyNoise
from sb3_entropic.operators import quantile_huber_loss
from sb3_entropic.signature import extends


@extends(TQC)
class MTQC(Munchausen, TQC):
    """Truncated Quantile Critics (arXiv 2005.04269) with the bounded log-policy of the replayed action as a bonus.

    ::

        y_j = r + alpha * f(temperature * (log pi(a|s) + target_entropy))
                + gamma (1 - done) (z_(j)(s', a') - g(temperature * log pi(a'|s'))),       a' ~ pi(.|s')

    with ``z_(1) <= z_(2) <= ...`` the quantiles of all target critics, pooled and sorted, without the
    ``top_quantiles_to_drop_per_net * n_critics`` largest. Everything else is as in :class:`sb3_entropic.MSAC`; with
    ``munchausen_alpha=0`` it is TQC, bit for bit with ``engine="sb3"``.

    Every argument of :class:`sb3_contrib.TQC` is accepted, in the same order and with the same default; see
    https://sb3-contrib.readthedocs.io/en/master/modules/tqc.html. The keyword-only arguments are ours: see
    :class:`sb3_entropic.actor_critic.munchausen.Munchausen`. ``MTQC.load`` also opens a model saved by ``TQC``.

    :raises ValueError: for a value that is not allowed
    """

    def _setup_model(self) -> None:
        super()._setup_model()
        each, drop = self.critic.quantiles_total // self.critic.n_critics, self.top_quantiles_to_drop_per_net
        if not isinstance(drop, Integral) or not 0 <= drop < each:
            raise ValueError(
                f"top_quantiles_to_drop_per_net={drop!r} is not a whole number from 0 to {each - 1}: a critic has {each}."
            )

    def critic_loss(self, networks: ModuleNetworks, batch: Any, noise: PolicyNoise) -> tuple[th.Tensor, dict]:
        """Quantile Huber loss of every critic against the same targets, mean over quantiles (arXiv 2005.04269, eq. 12)."""
        with th.no_grad():
            target, metrics = self.td_target(networks, batch, noise)
        quantiles = networks.values(batch.observations, batch.actions)
        return quantile_huber_loss(quantiles, target.unsqueeze(1), sum_over_quantiles=False), metrics

    def actor_values(self, networks: ModuleNetworks, observations: Any, actions: th.Tensor) -> th.Tensor:
        """What the actor ascends, ``(batch, 1)``: the mean of all quantiles."""
        return networks.values(observations, actions).mean(dim=2).mean(dim=1, keepdim=True)

    def next_values(self, networks: ModuleNetworks, observations: Any, actions: th.Tensor) -> th.Tensor:
        """The smallest of the target critics' quantiles, sorted, ``(batch, kept)``."""
        quantiles = networks.target_values(observations, actions).flatten(1)
        kept = self.critic.quantiles_total - self.top_quantiles_to_drop_per_net * self.critic.n_critics
        return quantiles.sort(dim=1).values[:, :kept]
