"""The variational-free-energy agent for discrete actions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch.nn import functional as F

from sb3_entropic.active_inference.transitions import MlpPolicy, TransitionEnsemble, information_gain
from sb3_entropic.checks import check_at_least_zero, check_every_state, check_flag, check_network, check_vectors
from sb3_entropic.densities import gaussian_log_prob
from sb3_entropic.errors import UserError
from sb3_entropic.operators import is_off, scaled_log_softmax
from sb3_entropic.signature import extends
from sb3_entropic.temperature import Scheduled
from sb3_entropic.updates import Metrics, Update
from sb3_entropic.value_based.loop import ValueBasedLoop
from sb3_entropic.value_based.networks import Fractions, ValueNetworks


class FreeEnergyNetworks(ValueNetworks):
    """The networks of expected free energy, of the policy and of the transitions, seen for one gradient step.

    :param policy: has ``q_net`` and its target, ``actor`` and ``transitions``
    :param temperature: of the prior over actions, reward units
    """

    def __init__(self, policy: Any, temperature: float):
        super().__init__(policy.q_net, policy.q_net_target, temperature)
        self._actor, self._transitions = policy.actor, policy.transitions

    def free_energies(self, observations: PyTorchObs) -> th.Tensor:
        """``G(s, .)``, ``(batch, n_actions)``, reward units."""
        return -self.values(observations)

    def target_free_energies(self, observations: PyTorchObs) -> th.Tensor:
        """``G(s, .)`` of the target network, ``(batch, n_actions)``, reward units."""
        return -self.target_values(observations)

    def log_policy(self, observations: PyTorchObs) -> th.Tensor:
        """``log pi(.|s)``, ``(batch, n_actions)``, nats."""
        return self._forwards.once(lambda: self._actor.log_policy(observations), self._actor, observations)

    def log_transitions(self, batch: Any) -> th.Tensor:
        """``log p_k(s'|s, a)`` of every member, ``(n_members, batch)``, nats of a density."""
        changes = self._transitions.changes(batch.observations, batch.next_observations)
        return gaussian_log_prob(changes, *self._predictions(batch))

    def information_gain(self, batch: Any) -> th.Tensor:
        """``I(s, a)``, ``(batch, 1)``, nats."""
        return information_gain(*self._predictions(batch)).unsqueeze(1)

    def _predictions(self, batch: Any) -> tuple[th.Tensor, th.Tensor]:
        inputs = (batch.observations, batch.actions)
        return self._forwards.once(lambda: self._transitions(*inputs), self._transitions, *inputs)


@extends(DQN)
class VFE(ValueBasedLoop, DQN):
    """Deep active inference: a policy that minimises variational free energy, under a prior that expects little of it.

    ::

        transitions = -log p(s'|s, a)                                               an ensemble of Gaussians
        y_G    = -r - epistemic_weight I(s, a) + gamma (1 - done) sum_a' pi(a'|s') G(s', a')
        policy = KL(pi(.|s) || softmax(-G(s, .) / temperature))
        F      = transitions + policy

    (arXiv 1907.03876, for states that are fully observed; the precision is ``1 / temperature``.) ``G`` is the expected free
    energy, drawn to ``y_G`` by squares. Rewards are log-densities of preferred observations, so ``-r`` is its *extrinsic*
    part. The *epistemic* part is the information ``I`` that the next state is expected to give about the transitions: it
    lowers ``G``, so that the agent looks for what it does not know yet. (The code of arXiv 2009.03622 adds the error of
    prediction to ``G`` instead, and so avoids it.) ``I`` is that of
    :func:`sb3_entropic.active_inference.transitions.information_gain`.

    The policy that minimises ``F`` is the prior itself, ``softmax(-G / temperature)``: its entropy shapes how it acts, not
    what ``G`` says of it. With ``entropy_in_target`` it does, and the exact policy's target is that of
    ``SoftDQN(double_q=True)`` with ``Q = -G`` and rewards ``r + epistemic_weight I``: the policy follows the online ``G``,
    and the target one says what it is worth. That form has one fixed point, the other may have several; the zoo's entry for
    CartPole-v1 relies on the first. ``temperature -> 0`` makes the policy greedy and, without the epistemic part, the target
    that of Double DQN.

    ==============================  ============  ===================================================================
    logged as ``train/...``         unit          what it is, a mean over the batch
    ==============================  ============  ===================================================================
    ``free_energy``                 nats          ``F``, the sum of the next two
    ``transition_loss``             nats          ``-log p(s'|s, a)``, a mean over members; of a density, so any sign
    ``policy_loss``                 nats          the divergence of the policy from its prior, >= 0
    ``expected_free_energy``        reward units  ``sum_a pi(a|s) G(s, a)``
    ``extrinsic_value``             reward units  ``r``, which lowers ``G``
    ``epistemic_value``             reward units  ``epistemic_weight I``, which lowers ``G``, too
    ``information_gain``            nats          ``I``, >= 0
    ==============================  ============  ===================================================================

    All are from before the gradient step's updates. Besides them there are DQN's own, with ``train/loss`` that of ``G``, and
    ``train/policy_entropy``, ``train/action_gap`` and ``train/temperature`` as in :class:`sb3_entropic.MDQN`, of
    ``temperature log pi``.

    Every argument of :class:`stable_baselines3.DQN` is accepted, in the same order and with the same default; see
    https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html. Observations are vectors, and ``n_steps > 1`` and
    ``optimize_memory_usage`` are refused: they drop states that are to be predicted. ``policy_kwargs`` may have
    ``n_members``, ``transition_arch`` and ``dueling``, see :class:`sb3_entropic.active_inference.transitions.MlpPolicy`. The
    keyword-only arguments are ours:

    :param epistemic_weight: reward units for a nat of information, >= 0; 1 where rewards are log-densities in nats
    :param entropy_in_target: whether ``G`` counts the policy's entropy in later states, ``temperature log pi(a'|s')``
    :param temperature: of the prior, the inverse of its precision, in reward units, > 0; or a function of the remaining
        progress (1 to 0) that stays above 0
    :param exploration: ``"boltzmann"`` samples from the policy after the warm-up, and so does ``predict`` with
        ``deterministic=False``; ``"epsilon"`` takes its likeliest action, or with DQN's exploration rate a random one

    :raises ValueError: for a value that is not allowed
    :raises UserError: for observations that are no vectors
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MlpPolicy}

    def __init__(
        self,
        *args: Any,
        epistemic_weight: float = 1.0,
        entropy_in_target: bool = False,
        temperature: Scheduled = 1.0,
        exploration: str = "boltzmann",
        **kwargs: Any,
    ):
        self.epistemic_weight = epistemic_weight
        self.entropy_in_target = entropy_in_target
        super().__init__(*args, temperature=temperature, exploration=exploration, **kwargs)

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        # What is chosen for images and dictionaries: they are refused before SB3 says that it knows no such policy.
        if policy_name in DQN.policy_aliases.keys() - self.policy_aliases:
            raise UserError(
                f"VFE takes vectors of observations, not those of {policy_name}: put gymnasium.wrappers.FlattenObservation "
                "around the environment and take 'MlpPolicy'."
            )
        return super()._get_policy_from_name(policy_name)

    def _setup_model(self) -> None:
        check_vectors("VFE", self.observation_space)
        super()._setup_model()
        check_every_state(self)

    def _create_aliases(self) -> None:
        check_network(self, "transitions", TransitionEnsemble)
        super()._create_aliases()

    def check_arguments(self) -> None:
        """Check the arguments that are ours."""
        super().check_arguments()
        check_at_least_zero("epistemic_weight", self.epistemic_weight)
        check_flag("entropy_in_target", self.entropy_in_target)

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weight of the information gain."""
        return {**super().coefficients(), "epistemic_weight": self.epistemic_weight}

    def updates(self) -> list[Update]:
        """The transitions, the expected free energy, the policy; each sees the others from before the step."""
        return [
            Update("transition", self.policy.transition_optimizer, self.transition_loss, self.max_grad_norm),
            *super().updates(),
            Update("policy", self.policy.actor_optimizer, self.policy_loss, self.max_grad_norm),
        ]

    def make_networks(self) -> FreeEnergyNetworks:
        """The networks and the temperature for one gradient step."""
        return FreeEnergyNetworks(self.policy, self.current_temperature())

    def transition_loss(self, networks: FreeEnergyNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """``-log p_k(s'|s, a)``, a mean over members."""
        return -networks.log_transitions(batch).mean(), {}

    def td_target(self, networks: FreeEnergyNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """``-y_G``: what is regressed is ``Q = -G``."""
        log_policy = networks.log_policy(batch.next_observations)
        later = networks.target_free_energies(batch.next_observations)
        if self.entropy_in_target:
            later = later + networks.temperature * log_policy
        later = (log_policy.exp() * later).sum(dim=1, keepdim=True)
        information = networks.information_gain(batch)
        extrinsic, epistemic = batch.rewards, self.epistemic_weight * information
        now = -extrinsic if is_off(self.epistemic_weight) else -extrinsic - epistemic
        free_energy = now + (1 - batch.dones) * self.discounts_of(batch) * later
        parts = {"extrinsic_value": extrinsic, "epistemic_value": epistemic, "information_gain": information}
        return -free_energy, {name: part.mean() for name, part in parts.items()}

    def regression_loss(self, current: th.Tensor, target: th.Tensor, noise: Fractions) -> th.Tensor:
        """Half the squared error: its minimum is the mean, where DQN's Huber loss counts a rare termination for little."""
        return 0.5 * F.mse_loss(current, target)

    def policy_loss(self, networks: FreeEnergyNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """``KL(pi(.|s) || softmax(-G(s, .) / temperature))``, and ``F`` with it."""
        log_policy = networks.log_policy(batch.observations)
        free_energies = networks.free_energies(batch.observations).detach()
        log_prior = scaled_log_softmax(-free_energies, networks.temperature) / networks.temperature
        policy = log_policy.exp()
        divergence = (policy * (log_policy - log_prior)).sum(dim=1).mean()
        return divergence, {
            "free_energy": divergence - networks.log_transitions(batch).mean(),
            "expected_free_energy": (policy * free_energies).sum(dim=1).mean(),
        }

    def acting_values(self, networks: FreeEnergyNetworks, observations: PyTorchObs) -> th.Tensor:
        """``temperature log pi(.|s)``, whose Boltzmann policy is the policy network."""
        return networks.temperature * networks.log_policy(observations)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return [*state_dicts, "policy.transition_optimizer", "policy.actor_optimizer"], tensors
