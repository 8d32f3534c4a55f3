"""Soft Actor-Critic for discrete actions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch.nn import functional as F

from sb3_entropic.actor_critic.discrete_policies import CategoricalActor, CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_entropic.actor_critic.loop import ActorCriticLoop
from sb3_entropic.actor_critic.networks import DiscreteNetworks
from sb3_entropic.checks import (
    check_actions,
    check_at_least_zero,
    check_choice,
    check_clip,
    check_flag,
    check_fraction,
    check_network,
    check_scheduled,
    warn_of_narrow_clip,
)
from sb3_entropic.operators import action_gap, is_off, sample_boltzmann, soft_td_target
from sb3_entropic.signature import extends
from sb3_entropic.temperature import as_scheduled, current_temperature, largest, temperature_loss
from sb3_entropic.updates import Metrics, bonus_metrics


class _TakesDiscreteActions(OffPolicyAlgorithm):
    """Stands behind SAC in the bases, where SAC says which actions it takes."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "supported_action_spaces": (spaces.Discrete,), "sde_support": False})


@extends(SAC)
class DiscreteSAC(ActorCriticLoop, SAC, _TakesDiscreteActions):
    """Soft Actor-Critic with a categorical policy and exact expectations over actions (arXiv 1910.07207).

    ::

        y      = r + gamma (1 - done) sum_a' pi(a'|s') (min_i Q_i(s', a') - ent_coef log pi(a'|s'))
        actor  = sum_a pi(a|s) (ent_coef log pi(a|s) - min_i Q_i(s, a))

    The actor's loss reads the critics from before this gradient step's update of them, which the critics' loss has
    evaluated already.

    Every argument of :class:`stable_baselines3.SAC` is accepted but ``action_noise`` and gSDE's, in the same order and
    with the same default; see https://stable-baselines3.readthedocs.io/en/master/modules/sac.html. ``target_entropy``,
    in nats, is by default that of an epsilon-greedy policy with ``epsilon = 0.1``: the ``0.98 log(n_actions)`` of the
    paper would keep a policy over two actions near chance. The keyword-only arguments are ours:

    :param critic_reduction: ``"min"`` over the critics, or their ``"mean"`` (double average Q-learning, arXiv 2209.10081)
    :param entropy_in_target: whether the critics value the entropy of later states; without it the temperature shapes
        the actor alone (arXiv 2509.09838)
    :param entropy_penalty: weight of ``(H(pi) - H(old pi))^2 / 2`` in the actor's loss, >= 0 (arXiv 2209.10081).
        The old policy is a Polyak average of the actor rather than what was stored with the transition, so every replay
        buffer serves.
    :param munchausen_alpha: weight of ``clip(ent_coef log pi(a|s))`` added to the reward, in [0, 1]; 0 for none
    :param munchausen_clip: its lower limit in reward units, < 0; ``None`` for none

    With ``n_steps > 1`` the target keeps the bonus of the *first* action and the entropy at the bootstrap state; those of
    the steps between are dropped.

    Logged besides SAC's: ``train/policy_entropy`` (nats) and ``train/action_gap`` (reward units); with
    ``munchausen_alpha > 0`` also ``train/munchausen_bonus`` and ``train/munchausen_clip_fraction``.

    :raises ValueError: for a value that is not allowed
    """

    kinds_of_actions: ClassVar[tuple[type[spaces.Space], ...]] = (spaces.Discrete,)
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    def __init__(
        self,
        *args: Any,
        critic_reduction: str = "min",
        entropy_in_target: bool = True,
        entropy_penalty: float = 0.0,
        munchausen_alpha: float = 0.0,
        munchausen_clip: float | None = -1.0,
        **kwargs: Any,
    ):
        self.critic_reduction = critic_reduction
        self.entropy_in_target = entropy_in_target
        self.entropy_penalty = entropy_penalty
        self.munchausen_alpha = munchausen_alpha
        self.munchausen_clip = munchausen_clip
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        check_actions(self.action_space)
        # Where one that is learned ends nobody knows.
        if self.munchausen_alpha > 0 and self.ent_coef_optimizer is None:
            temperature = largest(self.ent_coef) if callable(self.ent_coef) else current_temperature(self).item()
            warn_of_narrow_clip(self.munchausen_clip, temperature)

    def _create_aliases(self) -> None:
        check_network(self, "actor", CategoricalActor)
        super()._create_aliases()

    def check_arguments(self) -> None:
        """Those of the family, and ours."""
        super().check_arguments()
        check_choice("critic_reduction", self.critic_reduction, ("min", "mean"))
        check_flag("entropy_in_target", self.entropy_in_target)
        check_at_least_zero("entropy_penalty", self.entropy_penalty)
        check_fraction("munchausen_alpha", self.munchausen_alpha)
        check_clip(self.munchausen_clip)
        if self.action_noise is not None:
            raise ValueError("DiscreteSAC takes no action_noise: it is for continuous actions.")
        n_actions = int(self.action_space.n)
        self.target_entropy = as_scheduled("target_entropy", self.target_entropy)
        if self.target_entropy == "auto":
            self.target_entropy = epsilon_greedy_entropy(0.1, n_actions)
        check_scheduled("target_entropy", self.target_entropy, check_at_least_zero)
        highest = largest(self.target_entropy)
        if not highest < math.log(n_actions) and (n_actions > 1 or highest > 0):
            raise ValueError(
                f"target_entropy={highest} cannot be reached: {n_actions} action{'s have' if n_actions > 1 else ' has'} at "
                f"most {math.log(n_actions):.3f} nats."
            )

    def make_networks(self) -> DiscreteNetworks:
        """The actor and the critics for one gradient step."""
        return DiscreteNetworks(self)

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weights of the bonus and of the entropy penalty."""
        ours = {"munchausen_alpha": self.munchausen_alpha, "entropy_penalty": self.entropy_penalty}
        return {**super().coefficients(), **ours}

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> None:
        """Expectations are exact: nothing to draw."""

    def acting_noise(self, observations: th.Tensor, generator: th.Generator | None = None) -> th.Tensor:
        """Of the Gumbel-max trick: uniform, one for each action."""
        shape, like = (len(observations), int(self.action_space.n)), next(self.actor.parameters())
        return th.rand(shape, generator=generator, dtype=like.dtype, device=observations.device)

    def act(self, networks: DiscreteNetworks, observations: th.Tensor, noise: th.Tensor | None) -> th.Tensor:
        """Sampled from the policy, ``(n_envs,)``."""
        return sample_boltzmann(networks.log_policy(observations), 1.0, noise)

    def before_updates(self, networks: DiscreteNetworks, batch: Any, noise: None) -> Metrics:
        """The temperature and the policy's mean entropy."""
        entropy = _entropy(networks.log_policy(batch.observations)).detach().mean()
        return {"ent_coef": networks.temperature, "policy_entropy": entropy}

    def after_training(self, networks: DiscreteNetworks, batch: Any) -> Metrics:
        """The mean action gap of the last batch."""
        return {"action_gap": action_gap(self._reduce(networks.all_values(batch.observations).detach())).mean()}

    def temperature_loss(self, networks: DiscreteNetworks, batch: Any, noise: None) -> tuple[th.Tensor, Metrics]:
        """See :func:`sb3_entropic.temperature.temperature_loss`, with the exact entropy."""
        entropy = _entropy(networks.log_policy(batch.observations))
        return temperature_loss(networks.log_temperature, -entropy, self.current_target_entropy()), {}

    def actor_loss(self, networks: DiscreteNetworks, batch: Any, noise: None) -> tuple[th.Tensor, Metrics]:
        """``sum_a pi(a|s) (ent_coef log pi(a|s) - Q(s, a))`` (arXiv 1910.07207, eq. 12), and the entropy penalty."""
        log_policy = networks.log_policy(batch.observations)
        values = self._reduce(networks.all_values(batch.observations).detach())
        loss = (log_policy.exp() * (networks.temperature * log_policy - values)).sum(dim=1).mean()
        if not is_off(self.entropy_penalty):
            with th.no_grad():
                old_entropy = _entropy(networks.target_log_policy(batch.observations))
            loss = loss + 0.5 * self.entropy_penalty * F.mse_loss(_entropy(log_policy), old_entropy)
        return loss, {}

    def td_target(self, networks: DiscreteNetworks, batch: Any, noise: None) -> tuple[th.Tensor, Metrics]:
        """Soft Bellman target with the expectation over the next action (arXiv 1910.07207, eq. 10)."""
        log_policy = networks.log_policy(batch.next_observations)
        values = self._reduce(networks.target_values(batch.next_observations))
        next_values = (log_policy.exp() * values).sum(dim=1, keepdim=True)
        entropy_term = -networks.temperature * _entropy(log_policy) if self.entropy_in_target else th.zeros_like(next_values)
        rewards, metrics = self.regularised_rewards(networks, batch)
        discounts = self.discounts_of(batch)
        return soft_td_target(rewards, batch.dones, discounts, next_values, entropy_term), metrics

    def regularised_rewards(self, networks: DiscreteNetworks, batch: Any) -> tuple[th.Tensor, Metrics]:
        """``r + alpha clip(ent_coef log pi(a|s))``, ``a`` from the replay buffer."""
        if is_off(self.munchausen_alpha):
            return batch.rewards, {}
        unclipped = networks.temperature * networks.log_policy(batch.observations).gather(1, batch.actions.long())
        bonus = unclipped if self.munchausen_clip is None else unclipped.clamp(min=self.munchausen_clip)
        return batch.rewards + self.munchausen_alpha * bonus.detach(), bonus_metrics(bonus, bonus != unclipped)

    def target_networks(self) -> list[tuple[th.nn.Module, th.nn.Module]]:
        """The target critics follow the critics, and the old policy the actor."""
        return [*super().target_networks(), (self.policy.actor_target, self.actor)]

    def _reduce(self, values: th.Tensor) -> th.Tensor:
        return values.amin(dim=0) if self.critic_reduction == "min" else values.mean(dim=0)


def epsilon_greedy_entropy(epsilon: float, n_actions: int) -> float:
    """Entropy of a policy that takes one action with ``1 - epsilon`` and shares ``epsilon`` among the others, in nats.

    :param epsilon: in (0, 1)
    :param n_actions: with a single action the entropy is 0
    """
    if n_actions == 1:
        return 0.0
    return -(1 - epsilon) * math.log(1 - epsilon) - epsilon * math.log(epsilon / (n_actions - 1))


def _entropy(log_policy: th.Tensor) -> th.Tensor:
    """``(batch, 1)``, nats."""
    return -(log_policy.exp() * log_policy).sum(dim=1, keepdim=True)
