"""Log-densities and entropies of Gaussian policies, squashed or not: pure tensor functions of a few lines.

Notation: ``u`` is the Gaussian action before the squash, ``a = tanh(u)`` the action SB3 stores, both of shape
``(batch, action_dim)``; log-densities have shape ``(batch,)`` and are in nats. Those of a given action take any number of
leading dimensions.
"""

from __future__ import annotations

import math

import torch as th
from torch.nn import functional as F

LOG_SQRT_2PI = math.log(math.sqrt(2 * math.pi))


def gaussian_log_prob(u: th.Tensor, mean: th.Tensor, std: th.Tensor) -> th.Tensor:
    """Log-density of a diagonal Gaussian, summed over action dimensions.

    :param u: point, ``(batch, action_dim)``
    :param mean: ``(batch, action_dim)``
    :param std: standard deviation > 0, ``(batch, action_dim)``
    :return: ``(batch,)``
    """
    # The order of operations is that of torch.distributions.Normal, so that a loss built on this has SAC's bits.
    return (-((u - mean) ** 2) / (2 * std**2) - std.log() - LOG_SQRT_2PI).sum(dim=-1)


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
    return gaussian_log_prob(u, mean, std) - tanh_log_det(u).sum(dim=-1)


def log_prob_of_action(
    action: th.Tensor, mean: th.Tensor, std: th.Tensor, squashed: bool = True, margin: float = 1e-6
) -> th.Tensor:
    """Log-density of a given action ``a`` in [-1, 1] under ``a = tanh(u)``, ``u ~ N(mean, std^2)``.

    32 bits round ``tanh(u)`` to ±1 from about ``|u| = 9`` on. An action at the limit therefore stands for every ``u`` beyond
    it, and of these for the likeliest: the mean, where the mean is beyond. So a policy that has saturated finds its own
    actions likely, as :func:`sample_squashed_gaussian` does, and one that has not finds them as unlikely as the limit.

    :param action: ``(batch, action_dim)``
    :param mean: ``(batch, action_dim)``
    :param std: standard deviation > 0, ``(batch, action_dim)``
    :param squashed: whether it is the density of ``a``, or else that of ``u``
    :param margin: distance from ±1 that is the limit
    :return: ``(batch,)``
    """
    u = unsquash(action, margin)
    beyond = u.sign() * th.maximum(u.abs(), u.sign() * mean)
    log_prob = gaussian_log_prob(th.where(action.abs() > 1.0 - margin, beyond, u), mean, std)
    return log_prob - tanh_log_det(u).sum(dim=-1) if squashed else log_prob


def gaussian_entropy(std: th.Tensor) -> th.Tensor:
    """Entropy of a diagonal Gaussian, ``sum_i (log std_i + log(2 pi e) / 2)``.

    :param std: standard deviation > 0, ``(batch, action_dim)``; ``-> 0`` gives minus infinity
    :return: nats, ``(batch,)``
    """
    return (std.log() + 0.5 + LOG_SQRT_2PI).sum(dim=-1)


def squashed_gaussian_entropy(mean: th.Tensor, std: th.Tensor, noise: th.Tensor) -> th.Tensor:
    """An unbiased estimate of the entropy of ``tanh(u)``, ``u ~ N(mean, std^2)``, from one sample.

    The Gaussian's entropy plus ``E[log |d tanh(u) / du|]``, of which only the second has no closed form. Its gradient is
    that of ``-log pi(tanh(mean + noise std))``, and so is its mean; its variance is smaller for narrow policies (``std`` below
    about 0.5) and larger for wide ones. The entropy is at most ``action_dim log 2``, that of the uniform distribution.

    :param mean: ``(batch, action_dim)``
    :param std: standard deviation > 0, ``(batch, action_dim)``
    :param noise: standard normal, ``(batch, action_dim)``
    :return: nats, ``(batch,)``
    """
    return gaussian_entropy(std) + tanh_log_det(mean + noise * std).sum(dim=-1)


def sample_squashed_gaussian(
    mean: th.Tensor, std: th.Tensor, noise: th.Tensor, epsilon: float = 1e-6
) -> tuple[th.Tensor, th.Tensor]:
    """A reparameterised action ``tanh(mean + noise * std)`` and its log-density, with SB3's squash correction.

    SB3 corrects by ``log(1 - a^2 + epsilon)``; the actor and the target terms keep that, so that an algorithm with its
    entropic term off is its SB3 parent to the bit. For a *given* action use :func:`log_prob_of_action`.

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
