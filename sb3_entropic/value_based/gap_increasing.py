"""The gap-increasing family: one operator, and its named members.

::

    y = r + alpha * clip(Q(s, a) - mQ(s), munchausen_clip) + gamma (1 - done) mQ(s')

with ``Q`` the target network, ``a`` the replayed action and ``mQ`` the value of a state, ``m = soft_value``:

============  =========  =============  ====================================================================
class         ``alpha``  ``m``          source
============  =========  =============  ====================================================================
SB3's DQN     0          ``max``        the bits are SB3's
``SoftDQN``   0          ``lse``        soft Q-learning (arXiv 1702.08165); ``mellowmax`` (1612.05628)
``MDQN``      (0, 1)     ``lse``        Munchausen DQN (arXiv 2007.14430)
``CVIDQN``    (0, 1)     ``mellowmax``  Conservative Value Iteration (Kozuno et al., AISTATS 2019)
``ALDQN``     (0, 1)     ``max``        Advantage Learning (arXiv 1512.04860)
``DPP``       1          ``boltzmann``  Dynamic Policy Programming (Azar et al., JMLR 13)
============  =========  =============  ====================================================================

For ``lse`` the term in the clip is ``temperature * log pi(a|s)``, for ``max`` the negated action gap. Its weight
``alpha`` makes the operator regularise the policy towards its predecessor: of the total ``temperature``, ``alpha``
weighs that KL divergence and ``1 - alpha`` the entropy. Action gaps grow by ``1 / (1 - alpha)``, so with ``alpha = 1``
they grow for ever unless they are clipped. Where nothing terminates and nothing is clipped, ``lse`` and ``mellowmax`` differ
by a constant and define the same policies; where episodes terminate, ``lse`` pays for long ones and ``mellowmax`` for
short ones.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.policies import BasePolicy

from sb3_entropic.checks import check_choice, check_clip, check_flag, check_fraction, warn_of_narrow_clip
from sb3_entropic.operators import SoftValue, is_off, policy_value, regularised_advantage
from sb3_entropic.signature import extends, preset
from sb3_entropic.temperature import Scheduled, largest
from sb3_entropic.updates import Metrics, bonus_metrics
from sb3_entropic.value_based.loop import ValueBasedLoop
from sb3_entropic.value_based.networks import Fractions, ValueNetworks
from sb3_entropic.value_based.policies import CnnPolicy, MlpPolicy, MultiInputPolicy


class GapIncreasing(ValueBasedLoop):
    """The operator of this module, for one value an action or a whole distribution of returns.

    :param munchausen_alpha: weight of the gap-increasing term, in [0, 1]
    :param munchausen_clip: lower limit of that term before ``munchausen_alpha``, in reward units, < 0; ``None`` for none.
        Scale it with the rewards
    :param soft_value: value of a state, see :func:`sb3_entropic.operators.soft_value`
    :param double_q: the next state's policy is the online network's, its values the target network's (arXiv 1509.06461);
        the gap-increasing term stays the target network's
    """

    def __init__(
        self,
        *args: Any,
        temperature: Scheduled = 0.03,
        munchausen_alpha: float = 0.9,
        munchausen_clip: float | None = -1.0,
        soft_value: SoftValue = "lse",
        double_q: bool = False,
        exploration: str = "epsilon",
        **kwargs: Any,
    ):
        self.munchausen_alpha = munchausen_alpha
        self.munchausen_clip = munchausen_clip
        self.soft_value = soft_value
        self.double_q = double_q
        super().__init__(*args, temperature=temperature, exploration=exploration, **kwargs)

    def check_arguments(self) -> None:
        """Check the arguments that are ours."""
        super().check_arguments()
        check_fraction("munchausen_alpha", self.munchausen_alpha)
        check_choice("soft_value", self.soft_value, get_args(SoftValue))
        check_clip(self.munchausen_clip)
        check_flag("double_q", self.double_q)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.munchausen_alpha > 0 and self.soft_value != "max":
            n_actions = int(self.action_space.n)
            warn_of_narrow_clip(self.munchausen_clip, largest(self.temperature), self.soft_value, n_actions)

    def coefficients(self) -> dict[str, float]:
        """The family's, and the weight of the gap-increasing term."""
        return {**super().coefficients(), "munchausen_alpha": self.munchausen_alpha}

    def td_target(self, networks: ValueNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """``r + alpha clip(...) + gamma (1 - done) mQ(s')``, one for each quantile of the return."""
        returns = networks.target_quantiles(batch.next_observations, noise.target)
        policy_values = networks.values if self.double_q else networks.target_values
        preferences = policy_values(batch.next_observations, noise.next_policy)
        next_values = policy_value(returns, preferences, networks.temperature, self.soft_value)
        discounts = self.discounts_of(batch)
        rewards, metrics = self.regularised_rewards(networks, batch, noise)
        return rewards + (1 - batch.dones) * discounts * next_values, metrics

    def regularised_rewards(self, networks: ValueNetworks, batch: Any, noise: Fractions) -> tuple[th.Tensor, Metrics]:
        """``r + alpha clip(Q(s, a) - mQ(s))``, ``(batch, 1)``. At a terminal transition too: it is about ``s``."""
        if is_off(self.munchausen_alpha):
            return batch.rewards, {}
        values = networks.target_values(batch.observations, noise.policy)
        advantages = regularised_advantage(values, networks.temperature, self.soft_value).gather(1, batch.actions.long())
        bonus = advantages if self.munchausen_clip is None else advantages.clamp(min=self.munchausen_clip)
        return batch.rewards + self.munchausen_alpha * bonus, bonus_metrics(bonus, bonus != advantages)


@extends(DQN)
class GapIncreasingDQN(GapIncreasing, DQN):
    """The operator of this module on SB3's DQN; its named members differ in their defaults alone.

    Every argument of :class:`stable_baselines3.DQN` is accepted, in the same order and with the same default; see
    https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html. ``policy_kwargs={"dueling": True}`` splits the
    last layer into a state value and advantages. The keyword-only arguments are ours.

    With ``n_steps > 1`` the target keeps the gap-increasing term of the *first* action and the soft value of the bootstrap
    state; those of the steps between, and so their entropies, are dropped.

    Logged besides DQN's: ``train/policy_entropy`` (nats), ``train/action_gap`` and ``train/temperature`` (reward units)
    of the last gradient step; with ``munchausen_alpha > 0`` also ``train/munchausen_bonus`` (reward units) and
    ``train/munchausen_clip_fraction``.

    ``load`` also opens a model saved by ``DQN``; our arguments then take their defaults.

    :raises ValueError: for a value that is not allowed
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }


@preset(munchausen_alpha=0.0, munchausen_clip=None)
class SoftDQN(GapIncreasingDQN):
    """Soft Q-learning for discrete actions: ``y = r + gamma (1 - done) temperature log sum_a exp(Q(s', a) / temperature)``.

    ``temperature -> 0`` gives DQN. Values are up to ``temperature log(n_actions) / (1 - gamma)`` above the return; with
    ``soft_value="mellowmax"`` (arXiv 1612.05628) they are below. From arXiv 1702.08165. SB3's arguments, what is logged and
    what is loaded: :class:`GapIncreasingDQN`.

    :raises ValueError: for a value that is not allowed
    """


@preset()
class MDQN(GapIncreasingDQN):
    """Munchausen DQN: soft Q-learning with ``munchausen_alpha * temperature * log pi(a|s)`` added to the reward.

    Our arguments have the paper's values for Atari (arXiv 2007.14430), which suit rewards of the order of 1. SB3's arguments
    and their defaults, what is logged and what is loaded: :class:`GapIncreasingDQN`.

    :raises ValueError: for a value that is not allowed
    """


@preset(soft_value="mellowmax")
class CVIDQN(GapIncreasingDQN):
    """Conservative Value Iteration with function approximation: :class:`MDQN` with the mean in place of the sum.

    From Kozuno et al., AISTATS 2019. SB3's arguments, what is logged and what is loaded: :class:`GapIncreasingDQN`.

    :raises ValueError: for a value that is not allowed
    """


@preset(soft_value="max", munchausen_clip=None)
class ALDQN(GapIncreasingDQN):
    """Advantage Learning: ``munchausen_alpha`` times the action gap is taken from the value of every other action.

    It is the limit ``temperature -> 0`` of ``MDQN(munchausen_clip=None)``; the temperature is that of
    ``exploration="boltzmann"`` alone. From arXiv 1512.04860. SB3's arguments, what is logged and what is loaded:
    :class:`GapIncreasingDQN`.

    :raises ValueError: for a value that is not allowed
    """


@preset(munchausen_alpha=1.0, soft_value="boltzmann")
class DPP(GapIncreasingDQN):
    """Dynamic Policy Programming: all of the regularisation is towards the previous policy, none is entropy.

    Its errors average out over iterations. The preferences of all but the best action fall for ever, by the action gap
    an iteration; ``munchausen_clip`` bounds them, ``None`` is the algorithm as published (Azar et
    al., JMLR 13). SB3's arguments, what is logged and what is loaded: :class:`GapIncreasingDQN`.

    :raises ValueError: for a value that is not allowed
    """
