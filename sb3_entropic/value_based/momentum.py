"""Momentum DQN."""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import get_parameters_by_name, polyak_update
from torch.nn import functional as F

from sb3_entropic.checks import check_fraction, check_network
from sb3_entropic.operators import policy_value
from sb3_entropic.signature import extends
from sb3_entropic.updates import Metrics, Update
from sb3_entropic.value_based import policies
from sb3_entropic.value_based.loop import ValueBasedLoop
from sb3_entropic.value_based.networks import AveragedNetworks, Fractions


@extends(DQN)
class MoDQN(ValueBasedLoop, DQN):
    """Momentum DQN: acts greedily with respect to an average of successive Q-functions (arXiv 1910.09322, section 5).

    ::

        y_Q = r + gamma (1 - done) Q(s', argmax_a H(s', a))          targets of both networks
        y_H = (1 - momentum) Q(s, .) + momentum H(s, .)              online Q, target H; every action of s

    Averaging makes the errors of single iterations cancel, as regularising towards the previous policy does.

    Every argument of :class:`stable_baselines3.DQN` is accepted, in the same order and with the same default; see
    https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html. ``policy_kwargs={"dueling": True}`` splits the
    last layer into a state value and advantages. The keyword-only arguments are ours:

    :param momentum: weight of the average so far, in [0, 1); 0 follows Q. It follows copies
        of itself that change when networks are copied to their targets, if there were gradient steps since, so it spans about
        ``max(target_update_interval, train_freq * n_envs) / (1 - momentum)`` environment steps; with ``tau`` below 1, whose
        copies take several changes to arrive, it is about ``1 / tau`` times as much
    :param temperature: of ``exploration="boltzmann"``, in reward units, and of the entropy that is logged
    :param exploration: see :class:`sb3_entropic.value_based.loop.ValueBasedLoop`, of ``H``

    Logged besides DQN's: ``train/average_loss``, and ``train/policy_entropy``, ``train/action_gap`` and
    ``train/temperature`` as in :class:`sb3_entropic.MDQN`, of ``H``.

    :raises ValueError: for a value that is not allowed
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": policies.AveragingMlpPolicy,
        "CnnPolicy": policies.AveragingCnnPolicy,
        "MultiInputPolicy": policies.AveragingMultiInputPolicy,
    }

    def __init__(
        self,
        *args: Any,
        momentum: float = 0.9,
        temperature: float | Schedule = 0.03,
        exploration: str = "epsilon",
        **kwargs: Any,
    ):
        self.momentum = momentum
        super().__init__(*args, temperature=temperature, exploration=exploration, **kwargs)

    def _create_aliases(self) -> None:
        check_network(self, "average_net")
        super()._create_aliases()

    def check_arguments(self) -> None:
        """Check the arguments that are ours."""
        super().check_arguments()
        check_fraction("momentum", self.momentum)
        if self.momentum == 1:
            raise ValueError("momentum=1 would never let the average follow: give less, such as 0.99.")

    def coefficients(self) -> dict[str, float]:
        """The family's, and the momentum."""
        return {**super().coefficients(), "momentum": self.momentum}

    def updates(self) -> list[Update]:
        """Q, then the average."""
        return [*super().updates(), Update("average", self.policy.average_optimizer, self.average_loss, self.max_grad_norm)]

    def make_networks(self) -> AveragedNetworks:
        """The four networks and the temperature for one gradient step."""
        return AveragedNetworks(self.policy, self.current_temperature())

    def td_target(self, networks: AveragedNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """``r + gamma (1 - done) Q(s', argmax_a H(s', a))``."""
        returns = networks.target_quantiles(batch.next_observations)
        greedy = networks.target_averages(batch.next_observations)
        discounts = self.discounts_of(batch)
        next_values = policy_value(returns, greedy, networks.temperature, "max")
        return batch.rewards + (1 - batch.dones) * discounts * next_values, {}

    def average_loss(self, networks: AveragedNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """The distance of ``H(s, .)`` from ``(1 - momentum) Q(s, .) + momentum H(s, .)``."""
        with th.no_grad():
            q, averages = networks.values(batch.observations), networks.target_averages(batch.observations)
            # To the bit where the two are the same, as at the start: Adam makes steps of gradients that are rounding errors.
            target = q + self.momentum * (averages - q)
        return F.smooth_l1_loss(networks.averages(batch.observations), target), {}

    def acting_values(self, networks: AveragedNetworks, observations: PyTorchObs) -> th.Tensor:
        """``H(s, .)``."""
        return networks.averages(observations)

    def _on_step(self) -> None:
        super()._on_step()
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            online, target = self.policy.average_net, self.policy.average_net_target
            polyak_update(online.parameters(), target.parameters(), self.tau)
            polyak_update(get_parameters_by_name(online, ["running_"]), get_parameters_by_name(target, ["running_"]), 1.0)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return [*state_dicts, "policy.average_optimizer"], tensors
