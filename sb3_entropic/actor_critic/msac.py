"""Munchausen Soft Actor-Critic."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3 import SAC

from sb3_entropic.actor_critic.loop import ActorCriticLoop
from sb3_entropic.actor_critic.networks import ModuleNetworks, has_known_density
from sb3_entropic.checks import check_fraction
from sb3_entropic.densities import squashed_gaussian_log_prob, unsquash
from sb3_entropic.operators import BoundLike, as_bound, is_off, scaled_log_policy
from sb3_entropic.signature import extends
from sb3_entropic.updates import bonus_metrics


@extends(SAC)
class MSAC(ActorCriticLoop, SAC):
    """Soft Actor-Critic whose reward is augmented by the bounded log-policy of the replayed action.

    ::

        y = r + alpha * f(temperature * (log pi(a|s) + target_entropy))
              + gamma (1 - done) (min_i Q_i(s', a') - g(temperature * log pi(a'|s'))),       a' ~ pi(.|s')

    with ``a`` the *replayed* action, ``f`` the :attr:`munchausen_bound`, ``g`` the :attr:`entropy_bound`, all of it
    without gradient; the actor's and the temperature's losses are SAC's. The bonus is implicit KL regularisation
    between successive policies: of the total ``temperature``, ``alpha`` weighs the KL divergence and ``1 - alpha`` the
    entropy (Munchausen RL, arXiv 2007.14430, theorem 1). Bounding both log-density terms is what makes the
    continuous case work (Mirror Descent Actor Critic, arXiv 2502.03854): a density is unbounded above.

    Every argument of :class:`stable_baselines3.SAC` is accepted, in the same order and with the same default; see
    https://stable-baselines3.readthedocs.io/en/master/modules/sac.html. The keyword-only arguments are ours:

    :param munchausen_alpha: weight of the bonus, in [0, 1]; 0 is SAC, bit for bit
    :param munchausen_bound: limit of the bonus in reward units, before ``munchausen_alpha``: ``(low, high)``, a function
        of a tensor such as ``torch.tanh``, or ``None`` for no limit (unstable: the density of a saturated or an old
        action has no bound). Scale it with the rewards.
    :param entropy_bound: the same for the entropy term of the next state, in reward units; ``None``, the default, is SAC

    With ``n_steps > 1`` the target keeps the bonus of the *first* action and the entropy at the bootstrap state; the
    bonuses and entropies of the steps between are dropped, as SB3's SAC drops the entropies.

    Logged besides SAC's ``train/...``: ``munchausen_bonus`` (mean of ``f(...)``, reward units),
    ``munchausen_clip_fraction`` (share of the batch that ``f`` changes) and ``policy_entropy`` (nats).

    ``MSAC.load`` also opens a model saved by ``SAC``; our arguments then take their defaults.

    :raises ValueError: if ``munchausen_alpha`` is outside [0, 1] or a bound is none of the above
    """

    def __init__(
        self,
        *args: Any,
        munchausen_alpha: float = 0.5,
        munchausen_bound: BoundLike = (-1.0, 1.0),
        entropy_bound: BoundLike = None,
        **kwargs: Any,
    ):
        self.munchausen_alpha = munchausen_alpha
        self.munchausen_bound = munchausen_bound
        self.entropy_bound = entropy_bound
        self._check_munchausen_arguments()
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        # A loaded model gets its arguments after __init__, so they are checked here as well.
        self._check_munchausen_arguments()
        super()._setup_model()
        if self.munchausen_alpha > 0 and not has_known_density(self.actor):
            raise ValueError(
                f"munchausen_alpha={self.munchausen_alpha} needs the density of a replayed action, which is not known for "
                f"{type(self.actor).__name__}: keep the action_log_prob and action_dist of SB3's Actor, or set it to 0."
            )

    def _check_munchausen_arguments(self) -> None:
        check_fraction("munchausen_alpha", self.munchausen_alpha)
        as_bound(self.munchausen_bound, "munchausen_bound")
        as_bound(self.entropy_bound, "entropy_bound")

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weight of the bonus."""
        return {**super().coefficients(), "munchausen_alpha": self.munchausen_alpha}

    def regularised_rewards(self, networks: ModuleNetworks, batch: Any) -> tuple[th.Tensor, dict]:
        """``r + alpha f(temperature (log pi(a|s) + target_entropy))``, ``a`` from the replay buffer."""
        if is_off(self.munchausen_alpha):
            return batch.rewards, {}
        mean, std = networks.gaussian(batch.observations)
        log_prob = squashed_gaussian_log_prob(unsquash(batch.actions.to(mean.dtype)), mean, std)
        unbounded = scaled_log_policy(log_prob.reshape(-1, 1), networks.temperature, self.target_entropy)
        bonus = as_bound(self.munchausen_bound)(unbounded)
        return batch.rewards + self.munchausen_alpha * bonus, bonus_metrics(bonus, unbounded)

    def bounded_entropy_term(self, entropy_term: th.Tensor) -> th.Tensor:
        """``g(temperature * log pi(a'|s'))``."""
        return as_bound(self.entropy_bound)(entropy_term)
