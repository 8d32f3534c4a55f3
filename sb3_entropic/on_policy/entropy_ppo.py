"""PPO whose entropy is scheduled or controlled, and whose steps may be regularised towards the previous policy."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_action_dim

from sb3_entropic.checks import check_actions, check_at_least_zero, check_choice, check_finite, check_positive, check_scheduled
from sb3_entropic.densities import squashed_gaussian_entropy
from sb3_entropic.errors import HyperparameterWarning
from sb3_entropic.on_policy.coefficients import (
    DIVERGENCE_WEIGHTS,
    largest_entropy,
    towards_divergence,
    towards_entropy,
    usual_entropy,
)
from sb3_entropic.on_policy.loop import Evaluation, OnPolicyLoop
from sb3_entropic.operators import is_off, kl_from_old
from sb3_entropic.signature import extends
from sb3_entropic.temperature import Scheduled, as_scheduled, at_progress, largest, learned_from
from sb3_entropic.updates import Metrics

ESTIMATORS = ("pathwise", "sb3")


@extends(PPO)
class EntropyPPO(OnPolicyLoop, PPO):
    """Proximal Policy Optimization with control of its entropy and of its steps.

    ::

        loss = PPO's - ent_coef H(pi) + kl_coef KL(pi || pi_old)

    Every argument of :class:`stable_baselines3.PPO` is accepted, in the same order and with the same default; see
    https://stable-baselines3.readthedocs.io/en/master/modules/ppo.html. With the defaults below it *is* PPO: bit for bit with
    ``engine="sb3"``, and to rounding where a long run takes the fast engine; of a squashed policy with an ``ent_coef`` only
    with ``entropy_estimator="sb3"``.
    ``ent_coef``, in standard deviations of the advantage where that is normalised, may also be

    - a schedule: a function of the remaining progress (1 to 0), or ``"lin_0.01"`` from 0.01 to 0;
    - learned: ``"auto"`` (from 0.01) or ``"auto_0.1"`` holds the policy's entropy at ``target_entropy``. It follows after
      every rollout, bounded and without winding up: see :func:`sb3_entropic.on_policy.coefficients.towards_entropy`.

    The keyword-only arguments are ours:

    :param target_entropy: of a learned ``ent_coef``, in nats; a number or a function of the remaining progress. ``"auto"``
        is 0.7 of the largest entropy falling to a tenth of it, of continuous actions that of a Gaussian's standard deviation
        of 0.3 in actions scaled to [-1, 1] (squashed by tanh, one of 0.33 has as much)
    :param ent_coef_bounds: the smallest and the largest a learned ``ent_coef`` may be, > 0
    :param ent_coef_rate: by how much the logarithm of a learned ``ent_coef`` changes after a rollout for every nat that
        the entropy is off its target, > 0
    :param entropy_estimator: of a squashed policy, whose entropy has no closed form. ``"pathwise"`` draws a fresh
        action through which the gradient flows; ``"sb3"`` takes ``-log pi`` of the rollout's actions, whose gradient is
        zero on average until the policy has moved. What a learned ``ent_coef`` holds is what is estimated. Other policies
        have their closed form either way
    :param kl_coef: weight of the divergence from the policy that collected the rollout, >= 0; a number, a schedule like
        those of ``ent_coef``, or ``"auto"`` (from 1) or ``"auto_0.1"``: doubled after an update whose ``approx_kl`` came to
        more than 1.5 ``target_kl``, and halved after one that stayed below ``target_kl / 1.5`` (arXiv 1707.06347, section
        4). What is weighed is ``KL(pi || pi_old)``; ``approx_kl``, which SB3 logs and limits, is ``KL(pi_old || pi)``, the
        mean of the last pass, before each of its steps, so take ``n_epochs`` of 2 or more. Whenever ``target_kl`` is given
        an update stops early at 1.5 of it, as in SB3

    Logged besides PPO's ``train/...``: ``ent_coef``; ``target_entropy`` (nats) with a learned one; ``kl_coef`` and
    ``kl_from_old`` (nats) with ``kl_coef``.

    ``EntropyPPO.load`` also opens a model saved by ``PPO``; our arguments then take their defaults. A coefficient that is
    learned goes on from what it had come to, unless ``load`` is given another text for it.

    :raises ValueError: for a value that is not allowed
    """

    def __init__(
        self,
        *args: Any,
        target_entropy: Scheduled | str = "auto",
        ent_coef_bounds: tuple[float, float] = (1e-6, 0.5),
        ent_coef_rate: float = 0.1,
        entropy_estimator: str = "pathwise",
        kl_coef: Scheduled | str = 0.0,
        **kwargs: Any,
    ):
        self.target_entropy = target_entropy
        self.ent_coef_bounds = ent_coef_bounds
        self.ent_coef_rate = ent_coef_rate
        self.entropy_estimator = entropy_estimator
        self.kl_coef = kl_coef
        self.learned_ent_coef: float | None = None
        """What ``ent_coef="auto"`` has come to; saved with the model, as are the next two."""
        self.learned_kl_coef: float | None = None
        self._learned_under: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        # A loaded model gets its arguments after __init__.
        self._begin_with("ent_coef", 0.01)
        self._begin_with("kl_coef", 1.0)
        super()._setup_model()
        check_actions(self.action_space)
        self._check_target_entropy()

    def check_arguments(self) -> None:
        """Check the arguments that are ours, and keep what is learned within its bounds.

        :raises ValueError: for a value that is not allowed
        """
        super().check_arguments()
        check_choice("entropy_estimator", self.entropy_estimator, ESTIMATORS)
        check_positive("ent_coef_rate", self.ent_coef_rate)
        for name in ("ent_coef", "kl_coef"):
            self._check_coefficient(name)
        if getattr(self, "policy", None) is not None:
            self._check_target_entropy()
        try:
            low, high = (float(bound) for bound in self.ent_coef_bounds)
        except (TypeError, ValueError):
            low, high = 0.0, 0.0
        if not 0 < low <= high < math.inf:
            raise ValueError(f"ent_coef_bounds={self.ent_coef_bounds} are not two numbers with 0 < low <= high.")
        if self.learned_ent_coef is not None:
            within = min(max(self.learned_ent_coef, low), high)
            if within != self.learned_ent_coef == learned_from("ent_coef", self.ent_coef, 0.01):
                raise ValueError(f"ent_coef={self.ent_coef!r} starts at {self.learned_ent_coef}, outside ({low:g}, {high:g}).")
            self.learned_ent_coef = within
        if self.learned_kl_coef is not None and isinstance(self.kl_coef, str):
            self._check_learned_kl_coef()

    def _check_coefficient(self, name: str) -> None:
        value = as_scheduled(name, getattr(self, name))
        setattr(self, name, value)
        if not isinstance(value, str):
            check_scheduled(name, value, check_at_least_zero)
        elif learned_from(name, value, 1.0) and self._learned_under.get(name, "") not in ("", value):
            raise ValueError(f"{name}={value!r} would change nothing: this model learns it. Give another one to load().")

    def _check_learned_kl_coef(self) -> None:
        if self.target_kl is None:
            raise ValueError(f"kl_coef={self.kl_coef!r} adapts to target_kl, which is None: give one, such as 0.01.")
        if self.n_epochs == 1:
            warnings.warn(
                f"kl_coef={self.kl_coef!r} follows the divergence of the last pass over the rollout, which n_epochs=1 makes "
                "the first one, that begins at 0: give n_epochs=2 or more.",
                HyperparameterWarning,
                stacklevel=2,
            )
        low, high = DIVERGENCE_WEIGHTS
        if not low <= self.learned_kl_coef <= high:
            raise ValueError(f"kl_coef={self.kl_coef!r} starts at {self.learned_kl_coef:g}, outside ({low:g}, {high:g}).")

    def _begin_with(self, name: str, default: float) -> None:
        """Let a coefficient that is learned begin, or go on from what it had come to under the same text.

        :param default: what ``"auto"`` begins with
        """
        value = as_scheduled(name, getattr(self, name))
        if (initial := learned_from(name, value, default)) is None:
            setattr(self, f"learned_{name}", None)
        elif self._learned_under.get(name) != value:
            setattr(self, f"learned_{name}", initial)
        self._learned_under = {**self._learned_under, name: value if isinstance(value, str) else ""}

    def _check_target_entropy(self) -> None:
        if self.target_entropy == "auto":
            return
        check_scheduled("target_entropy", self.target_entropy, partial(check_finite, or_text="auto"))
        if self.learned_ent_coef is None:
            message = f"target_entropy is not read with ent_coef={self.ent_coef!r}: ent_coef='auto' learns to hold it."
            warnings.warn(message, HyperparameterWarning, stacklevel=2)
            return
        if not isinstance(self.action_space, spaces.Box):
            check_scheduled("target_entropy", self.target_entropy, check_at_least_zero)
        most = largest_entropy(self.action_space, is_squashed(self.policy))
        if not largest(self.target_entropy) < most:
            raise ValueError(
                f"target_entropy={largest(self.target_entropy)} cannot be reached: these actions have at most {most:.3f} nats."
            )

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weights of entropy and divergence."""
        return {**super().coefficients(), "ent_coef": self.current_ent_coef(), "kl_coef": self.current_kl_coef()}

    def current_ent_coef(self) -> float:
        """The entropy coefficient at this point of training."""
        return self._learned_or_scheduled("ent_coef", self.learned_ent_coef)

    def current_kl_coef(self) -> float:
        """The weight of the divergence from the previous policy at this point of training."""
        return self._learned_or_scheduled("kl_coef", self.learned_kl_coef)

    def _learned_or_scheduled(self, name: str, learned: float | None) -> Any:
        value = getattr(self, name)
        # While the fast engine records, the value is an input.
        if not isinstance(value, str):
            return at_progress(value, self._current_progress_remaining)
        if learned is None:
            raise ValueError(f"{name}={value!r} cannot be set on a model that has begun without it: give it to load().")
        return learned

    def current_target_entropy(self) -> float:
        """What a learned entropy coefficient holds the entropy at, at this point of training, in nats."""
        if self.target_entropy == "auto":
            remaining = max(self._current_progress_remaining, 0.0)
            return usual_entropy(self.action_space, is_squashed(self.policy), remaining)
        return at_progress(self.target_entropy, self._current_progress_remaining)

    def bonus_weight(self) -> float:
        """The weight of the entropy of the rollout's states in the loss."""
        return self.current_ent_coef()

    def regularisation(self, evaluation: Evaluation, log_ratio: th.Tensor) -> tuple[th.Tensor, Metrics]:
        """``-weight H(pi) + kl_coef KL(pi || pi_old)``."""
        entropy_loss = -evaluation.entropy.mean()
        loss, metrics = self.bonus_weight() * entropy_loss, {"entropy_loss": entropy_loss}
        if not is_off(self.kl_coef):
            divergence = kl_from_old(log_ratio).mean()
            loss = loss + self.current_kl_coef() * divergence
            metrics["kl_from_old"] = divergence
        return loss, metrics

    def draw_noise(self, batch: Any, generator: th.Generator | None = None) -> th.Tensor | None:
        """Standard-normal draws for a fresh action, ``(batch, action_dim)``, if its entropy has to be estimated."""
        needed = isinstance(self.ent_coef, str) or not is_off(self.bonus_weight())
        if not needed or self.entropy_estimator == "sb3" or not is_squashed(self.policy):
            return None
        shape, like = (len(batch.actions), get_action_dim(self.action_space)), next(self.policy.parameters())
        return th.empty(shape, dtype=like.dtype, device=like.device).normal_(generator=generator)

    def evaluate(self, networks: ActorCriticPolicy, batch: Any, noise: th.Tensor | None) -> Evaluation:
        """With an estimate of the entropy where it has no closed form."""
        evaluation = super().evaluate(networks, batch, noise)
        if evaluation.entropy is not None:
            return evaluation
        if noise is None:
            return evaluation._replace(entropy=-evaluation.log_prob)
        # Nothing has used it since: evaluating the actions has left the Gaussian before the squash in it.
        gaussian = networks.action_dist.distribution
        return evaluation._replace(entropy=squashed_gaussian_entropy(gaussian.mean, gaussian.stddev, noise))

    def after_training(self, metrics: dict[str, float], stopped_early: bool) -> dict[str, float]:
        """Let the coefficients that are learned follow what the update has come to."""
        logged = {"ent_coef": self.current_ent_coef()}
        if isinstance(self.ent_coef, str):
            entropy, target = -metrics["entropy_loss"], self.current_target_entropy()
            logged["target_entropy"] = target
            self.learned_ent_coef = towards_entropy(
                self.learned_ent_coef, entropy, target, self.ent_coef_rate, self.ent_coef_bounds
            )
        if not is_off(self.kl_coef):
            logged["kl_coef"] = self.current_kl_coef()
        if isinstance(self.kl_coef, str):
            # The last pass's mean says little of one that ended at its first minibatch too far away.
            divergence = math.inf if stopped_early else metrics["approx_kl"]
            self.learned_kl_coef = towards_divergence(self.learned_kl_coef, divergence, self.target_kl)
        return logged


def is_squashed(policy: ActorCriticPolicy) -> bool:
    """Whether the policy's actions are a Gaussian's under tanh: with gSDE's ``squash_output``, or of a user's own."""
    distribution = policy.action_dist
    squashed = isinstance(distribution, SquashedDiagGaussianDistribution)
    return squashed or getattr(distribution, "bijector", None) is not None
