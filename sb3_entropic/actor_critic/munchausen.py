"""The Munchausen term of the actor-critic family."""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_entropic.actor_critic.loop import ActorCriticLoop
from sb3_entropic.actor_critic.networks import ModuleNetworks, has_known_density
from sb3_entropic.checks import check_choice, check_flag, check_fraction
from sb3_entropic.densities import log_prob_of_action
from sb3_entropic.operators import BoundLike, as_bound, check_bound, is_off, scaled_log_policy
from sb3_entropic.updates import bonus_metrics

DENSITIES = ("squashed", "pretanh")


class Munchausen(ActorCriticLoop):
    """Adds the bounded log-policy of the replayed action to the reward; to be placed before the SB3 parent in the bases.

    ::

        r + alpha * f(temperature * (log pi(a|s) + target_entropy))

    with ``a`` from the replay buffer, ``f`` the :attr:`munchausen_bound`, and without gradient.

    :param munchausen_alpha: weight of the bonus, in [0, 1]; 0, with ``entropy_bound=None``, is the SB3 parent, bit for bit
        with ``engine="sb3"``
    :param munchausen_bound: limit of the bonus in reward units, before ``munchausen_alpha``; see
        :func:`sb3_entropic.operators.as_bound`. ``None`` is unstable: the density of a saturated or an old action has no
        bound. Scale it with the rewards.
    :param entropy_bound: the same for the entropy term of the next state; ``None``, the default, is the parent's, and
        ``(0, 0)`` leaves entropy out of the target (the hard backup of arXiv 2302.02948)
    :param munchausen_shift: whether the target entropy is added to ``log pi(a|s)``. It is a constant that makes the bonus
        zero on average over the policy's own actions where it has its target entropy, so that it pays neither for long
        episodes nor for short; actions replayed from older policies are less likely, and their mean is below zero. It does
        so for the squashed density alone
    :param munchausen_density: of the action (``"squashed"``) or of its inverse under tanh (``"pretanh"``). The first grows
        without bound towards the ends of the action space, so that saturated actions are paid for; the second does not
    :raises ValueError: if ``munchausen_alpha`` is outside [0, 1], a bound is none of those, the policy's density is not
        known, or another value is not allowed
    """

    def __init__(
        self,
        *args: Any,
        munchausen_alpha: float = 0.5,
        munchausen_bound: BoundLike = (-1.0, 1.0),
        entropy_bound: BoundLike = None,
        munchausen_shift: bool = True,
        munchausen_density: str = "squashed",
        **kwargs: Any,
    ):
        self.munchausen_alpha = munchausen_alpha
        self.munchausen_bound = munchausen_bound
        self.entropy_bound = entropy_bound
        self.munchausen_shift = munchausen_shift
        self.munchausen_density = munchausen_density
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.munchausen_alpha > 0 and not has_known_density(self.actor):
            raise ValueError(
                f"munchausen_alpha={self.munchausen_alpha} needs the density of a replayed action, which is not known for "
                f"{type(self.actor).__name__}: keep the action_log_prob and action_dist of SB3's Actor, or set it to 0."
            )

    def check_arguments(self) -> None:
        """Those of the family, and ours."""
        super().check_arguments()
        check_fraction("munchausen_alpha", self.munchausen_alpha)
        check_bound(self.munchausen_bound, "munchausen_bound")
        check_bound(self.entropy_bound, "entropy_bound")
        check_flag("munchausen_shift", self.munchausen_shift)
        check_choice("munchausen_density", self.munchausen_density, DENSITIES)

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weight of the bonus."""
        return {**super().coefficients(), "munchausen_alpha": self.munchausen_alpha}

    def regularised_rewards(self, networks: ModuleNetworks, batch: Any) -> tuple[th.Tensor, dict]:
        """``r + alpha f(temperature (log pi(a|s) + target_entropy))``, ``a`` from the replay buffer."""
        if is_off(self.munchausen_alpha):
            return batch.rewards, {}
        mean, std = networks.gaussian(batch.observations)
        squashed = self.munchausen_density == "squashed"
        log_prob = log_prob_of_action(batch.actions.to(mean.dtype), mean, std, squashed)
        shift = self.current_target_entropy() if self.munchausen_shift else 0.0
        unbounded = scaled_log_policy(log_prob.reshape(-1, 1), networks.temperature, shift)
        bound = as_bound(self.munchausen_bound)
        bonus = bound.limit(unbounded)
        return batch.rewards + self.munchausen_alpha * bonus, bonus_metrics(bonus, bound.is_reached(unbounded))

    def bounded_entropy_term(self, entropy_term: th.Tensor) -> th.Tensor:
        """``g(temperature * log pi(a'|s'))``, ``g`` the :attr:`entropy_bound`."""
        return as_bound(self.entropy_bound).limit(entropy_term)
