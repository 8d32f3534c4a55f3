"""The shared maths: pure tensor functions of a few lines.

None of them holds state, syncs with the host or branches on a tensor's values, so each can be differentiated,
compiled and vectorised over seeds.

Notation: ``u`` is the Gaussian action before the squash, ``a = tanh(u)`` the action SB3 stores, both of shape
``(batch, action_dim)``; log-densities have shape ``(batch,)`` and are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch as th
from torch.nn import functional as F

Bound = Callable[[th.Tensor], th.Tensor]
"""An elementwise function that limits a term of the critic target, in reward units."""

BoundLike = Sequence[float] | Bound | None
"""What a user may write for a :data:`Bound`: ``None``, ``(low, high)`` or a callable."""

LOG_SQRT_2PI = math.log(math.sqrt(2 * math.pi))


def gaussian_log_prob(u: th.Tensor, mean: th.Tensor, std: th.Tensor) -> th.Tensor:
    """Log-density of a diagonal Gaussian, summed over action dimensions.

    :param u: point, ``(batch, action_dim)``
    :param mean: ``(batch, action_dim)``
    :param std: standard deviation > 0, ``(batch, action_dim)``
    :return: ``(batch,)``
    """
    # The order of operations is that of torch.distributions.Normal, so that a loss built on this has SAC's bits.
    return (-((u - mean) ** 2) / (2 * std**2) - std.log() - LOG_SQRT_2PI).sum(dim=1)


def tanh_log_det(u: th.Tensor) -> th.Tensor:
    """``log |d tanh(u) / du| = log(1 - tanh(u)^2)``, elementwise and stable for any ``u``.

    Written as ``2 (log 2 - u - softplus(-2u))``: for large ``|u|`` it tends to ``2 log 2 - 2|u|``, where the direct
    form ``log(1 - tanh(u)^2 + 1e-6)`` saturates at -13.8 (8.8 nats off at ``|u| = 12``).

    :param u: any shape
    :return: same shape, <= 0
    """
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))


def unsquash(action: th.Tensor, margin: float = 1e-6) -> th.Tensor:
    """``atanh`` of an action, after moving it at least ``margin`` inside (-1, 1).

    :param action: in [-1, 1], any shape; a saturated action (exactly +-1) maps to about +-7.25
    :param margin: distance kept from +-1
    :return: finite, same shape
    """
    return th.atanh(action.clamp(-1.0 + margin, 1.0 - margin))


def squashed_gaussian_log_prob(u: th.Tensor, mean: th.Tensor, std: th.Tensor) -> th.Tensor:
    """Exact log-density of ``a = tanh(u)``, ``u ~ N(mean, std^2)``, given ``u`` (SAC, arXiv 1801.01290, eq. 21).

    The density is one on (-1, 1)^action_dim: it is unbounded above, so its logarithm may well be positive.

    :param u: action before the squash (see :func:`unsquash`), ``(batch, action_dim)``
    :param mean: ``(batch, action_dim)``
    :param std: standard deviation > 0, ``(batch, action_dim)``
    :return: ``(batch,)``
    """
    return gaussian_log_prob(u, mean, std) - tanh_log_det(u).sum(dim=1)


def sample_squashed_gaussian(
    mean: th.Tensor, std: th.Tensor, noise: th.Tensor, epsilon: float = 1e-6
) -> tuple[th.Tensor, th.Tensor]:
    """A reparameterised action ``tanh(mean + noise * std)`` and its log-density, with SB3's squash correction.

    SB3 corrects by ``log(1 - a^2 + epsilon)``; the actor and the target terms keep that, so that an algorithm with its
    entropic term off is its SB3 parent to the bit. For a *given* action use :func:`squashed_gaussian_log_prob`.

    :param mean: ``(batch, action_dim)``
    :param std: standard deviation > 0, ``(batch, action_dim)``
    :param noise: standard normal, ``(batch, action_dim)``
    :param epsilon: SB3's guard against ``log(0)``
    :return: action in (-1, 1), ``(batch, action_dim)``, and log-density ``(batch,)``
    """
    u = mean + noise * std
    action = th.tanh(u)
    log_prob = gaussian_log_prob(u, mean, std)
    return action, log_prob - th.sum(th.log(1 - action**2 + epsilon), dim=1)


def scaled_log_policy(log_prob: th.Tensor, temperature: th.Tensor, target_entropy: float) -> th.Tensor:
    """Munchausen bonus before its bound, ``temperature * (log_prob + target_entropy)``, in reward units.

    The shift by the target entropy is a constant (no state-dependent shaping) and centres the bonus: at the entropy
    constraint ``E[log_prob] = -target_entropy`` its mean is 0, so it pays neither for long episodes nor for short ones.
    ``temperature -> 0`` gives 0. The discrete form, without the shift, is in eq. 1 of Munchausen RL (arXiv 2007.14430).

    :param log_prob: log-density of the *replayed* action, any shape
    :param temperature: entropy coefficient >= 0, broadcastable
    :param target_entropy: nats
    :return: shape of ``log_prob``; no gradient flows through it
    """
    return (temperature * (log_prob + target_entropy)).detach()


def soft_td_target(
    rewards: th.Tensor, dones: th.Tensor, discounts: th.Tensor | float, next_values: th.Tensor, next_entropy_term: th.Tensor
) -> th.Tensor:
    """Soft Bellman target ``r + discount (1 - done) (Q' - entropy_term')`` (SAC, arXiv 1812.05905, eq. 3).

    :param rewards: (n-step) rewards plus any bonus, ``(batch, 1)``
    :param dones: 1 at true termination, 0 at a time limit, ``(batch, 1)``
    :param discounts: ``gamma`` or, for n-step targets, ``gamma^n`` of shape ``(batch, 1)``
    :param next_values: value of the next state's sampled action, ``(batch, 1)`` or ``(batch, n_quantiles)``
    :param next_entropy_term: ``temperature * log pi(a'|s')`` (bounded or not), ``(batch, 1)``
    :return: shape of ``next_values``
    """
    return rewards + (1 - dones) * discounts * (next_values - next_entropy_term)


def as_bound(bound: BoundLike, name: str = "bound") -> Bound:
    """Turn what a user writes for a bound into a function.

    :param bound: ``None`` (identity), ``(low, high)`` with ``low <= high`` (clip), or a callable ``Tensor -> Tensor``
        such as ``torch.tanh``
    :param name: the argument's name, for the message
    :raises ValueError: if it is none of these, or ``low > high``
    """
    if bound is None:
        return lambda x: x
    if callable(bound):
        return bound
    try:
        low, high = (float(limit) for limit in bound)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={bound!r} is not a bound: give None, a pair (low, high) or a tensor function.") from None
    if not low <= high:
        raise ValueError(f"{name}=({low:g}, {high:g}) has low > high: did you mean ({high:g}, {low:g})?")
    return lambda x: x.clamp(low, high)
