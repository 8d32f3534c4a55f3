"""The shared maths: pure tensor functions of a few lines.

None of them holds state, syncs with the host or branches on a tensor's values, so each can be differentiated,
compiled and vectorised over seeds.

Discrete actions are the last dimension of ``values``, ``(..., n_actions)``. A temperature is in reward units: a number
> 0 or a tensor without dimensions. Every function shifts by the largest value before it divides by the
temperature, so ``temperature -> 0`` loses no digits.

An action whose value is minus infinity cannot be taken: it has probability 0 and adds nothing to a value or an entropy, but is
one of the ``n_actions`` of :func:`mellowmax`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch as th

BoundLike = Sequence[float] | str | Callable[[th.Tensor], th.Tensor] | None
"""What a user may write for a :class:`Bound`: see :func:`as_bound`."""

SoftValue = Literal["lse", "mellowmax", "boltzmann", "max"]
"""The value ``m q`` of a state in the gap-increasing family: see :func:`soft_value`."""

Temperature = th.Tensor | float


def log_sum_exp(values: th.Tensor, temperature: Temperature) -> th.Tensor:
    """``temperature * log sum_a exp(q_a / temperature)``: the largest ``<pi, q> + temperature * H(pi)`` over policies.

    Within ``[max q, max q + temperature log n_actions]``; ``temperature -> 0`` gives the max. Its gradient is
    :func:`boltzmann_policy`.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0
    :return: ``(...,)``
    """
    largest = values.amax(-1, keepdim=True).detach()
    return largest.squeeze(-1) + temperature * th.logsumexp((values - largest) / temperature, dim=-1)


def mellowmax(values: th.Tensor, temperature: Temperature) -> th.Tensor:
    """:func:`log_sum_exp` with the mean in place of the sum (arXiv 1612.05628).

    Within ``[mean q, max q]``: ``temperature -> 0`` gives the max, ``temperature -> inf`` the mean.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0
    :return: ``(...,)``
    """
    largest = values.amax(-1, keepdim=True).detach()
    scaled = (values - largest) / temperature
    # At a large temperature the mean of exponentials is near 1, and only what it lacks of it keeps its digits.
    lack = th.expm1(scaled).mean(-1)
    usual = th.logsumexp(scaled, dim=-1) - math.log(values.shape[-1])
    return largest.squeeze(-1) + temperature * th.where(lack > -0.5, th.log1p(lack), usual)


def boltzmann_policy(values: th.Tensor, temperature: Temperature) -> th.Tensor:
    """``softmax(q / temperature)``, the policy that :func:`log_sum_exp` is the value of.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0; ``-> 0`` gives the greedy policy, shared evenly where values tie
    :return: probabilities, ``(..., n_actions)``
    """
    return th.softmax((values - values.amax(-1, keepdim=True)) / temperature, dim=-1)


def scaled_log_softmax(values: th.Tensor, temperature: Temperature) -> th.Tensor:
    """``temperature * log softmax(q / temperature) = q - log_sum_exp(q) <= 0``, without ever taking the log of a probability.

    ``temperature -> 0`` gives ``q - max q``.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0
    :return: reward units, ``(..., n_actions)``
    """
    shifted = values - values.amax(-1, keepdim=True)
    return shifted - temperature * th.logsumexp(shifted / temperature, dim=-1, keepdim=True)


def boltzmann_mean(values: th.Tensor, temperature: Temperature) -> th.Tensor:
    """``sum_a softmax(q / temperature)_a q_a``, the value of the Boltzmann policy without its entropy.

    Within ``[mean q, max q]``, but not a non-expansion: alone it makes no contraction (arXiv 1612.05628, section 3).
    It is what Dynamic Policy Programming backs up (Azar et al., JMLR 13).

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0; ``-> 0`` gives the max
    :return: ``(...,)``
    """
    return _expectation(boltzmann_policy(values, temperature), values)


def soft_value(values: th.Tensor, temperature: Temperature, kind: SoftValue) -> th.Tensor:
    """The value of a state, by name: ``"lse"``, ``"mellowmax"``, ``"boltzmann"`` (mean) or ``"max"``.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0; ``"max"`` does not read it
    :param kind: which
    :return: ``(...,)``
    """
    if kind == "max":
        return values.amax(-1)
    return {"lse": log_sum_exp, "mellowmax": mellowmax, "boltzmann": boltzmann_mean}[kind](values, temperature)


def regularised_advantage(values: th.Tensor, temperature: Temperature, kind: SoftValue) -> th.Tensor:
    """``q(s, a) - m q(s)``: for ``"lse"`` the scaled log-policy, for ``"max"`` the negated action gap.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0
    :param kind: which value ``m``, see :func:`soft_value`
    :return: reward units, ``(..., n_actions)``; ``<= 0`` for ``"lse"`` and ``"max"``, else at most
        ``temperature * log n_actions``
    """
    if kind == "lse":
        return scaled_log_softmax(values, temperature)
    shifted = values - values.amax(-1, keepdim=True)
    return shifted - soft_value(shifted, temperature, kind).unsqueeze(-1)


def policy_value(returns: th.Tensor, preferences: th.Tensor, temperature: Temperature, kind: SoftValue) -> th.Tensor:
    """The value of a state where one table says how to act and another what it is worth.

    ``policy_value(q, q) = soft_value(q)``. With the policy of the online network and the values of the target network it
    is double Q-learning (arXiv 1509.06461), with the quantiles of a return distribution, one value for each quantile.

    ::

        max         returns(argmax preferences)
        boltzmann   sum_a pi(a) returns(a)                               pi = softmax(preferences / temperature)
        lse         sum_a pi(a) (returns(a) - temperature log pi(a))
        mellowmax   lse - temperature log n_actions

    :param returns: ``(batch, n_quantiles, n_actions)``
    :param preferences: ``(batch, n_actions)``
    :param temperature: reward units, > 0
    :param kind: see :func:`soft_value`
    :return: ``(batch, n_quantiles)``
    """
    if kind == "max":
        greedy = preferences.argmax(dim=1)[:, None, None].expand(-1, returns.shape[1], 1)
        return returns.gather(dim=2, index=greedy).squeeze(dim=2)
    policy = boltzmann_policy(preferences, temperature).unsqueeze(1)
    if kind == "boltzmann":
        return _expectation(policy, returns)
    # Of mellowmax relative to the uniform policy, which is all of the shift.
    log_policy = regularised_advantage(preferences, temperature, kind).unsqueeze(1)
    return _expectation(policy, returns - _finite(log_policy))


def policy_entropy(values: th.Tensor, temperature: Temperature) -> th.Tensor:
    """Entropy of ``softmax(q / temperature)``.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0; ``-> 0`` gives 0, ``-> inf`` gives ``log n_actions``
    :return: nats, ``(...,)``
    """
    log_policy = scaled_log_softmax(values, temperature) / temperature
    return -_expectation(log_policy.exp(), log_policy)


def _finite(values: th.Tensor) -> th.Tensor:
    return values.clamp(min=th.finfo(values.dtype).min)


def _expectation(policy: th.Tensor, values: th.Tensor) -> th.Tensor:
    # Zero times minus infinity is meant to be zero.
    return (policy * _finite(values)).sum(-1)


def action_gap(values: th.Tensor) -> th.Tensor:
    """How far the best action's value is above the second best's (arXiv 1512.04860).

    :param values: ``(..., n_actions)``; with a single action the gap is 0
    :return: reward units, >= 0, ``(...,)``
    """
    best = values.topk(min(2, values.shape[-1]), dim=-1).values
    return best[..., 0] - best[..., -1]


def sample_boltzmann(values: th.Tensor, temperature: Temperature, uniform: th.Tensor) -> th.Tensor:
    """An action of ``softmax(q / temperature)`` for given noise, by the Gumbel-max trick.

    :param values: ``(..., n_actions)``
    :param temperature: reward units, > 0
    :param uniform: uniform on [0, 1), shape of ``values``
    :return: action indices, ``(...,)``
    """
    # A draw of exactly 0 stands for the middle of the cell that was rounded to it.
    exponential = -th.log1p(-uniform).clamp(max=-th.finfo(uniform.dtype).eps / 4)
    shifted = (values - values.amax(-1, keepdim=True)) / temperature
    return (shifted - exponential.log()).argmax(-1)


def scaled_log_policy(log_prob: th.Tensor, temperature: th.Tensor, target_entropy: float) -> th.Tensor:
    """Munchausen bonus before its bound, ``temperature * (log_prob + target_entropy)``, in reward units.

    The shift by the target entropy is a constant (no state-dependent shaping) and centres the bonus: at the entropy
    constraint ``E[log_prob] = -target_entropy`` its mean over the policy's own actions is 0, so it pays neither for long
    episodes nor for short ones; over a replay buffer's, which are older, it is below 0.
    ``temperature -> 0`` gives 0. The discrete form, without the shift, is that of Munchausen RL (arXiv 2007.14430).

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


def quantile_huber_loss(
    current: th.Tensor, target: th.Tensor, fractions: th.Tensor | None = None, sum_over_quantiles: bool = True
) -> th.Tensor:
    """Quantile regression's loss of every pair of a current and a target quantile (arXiv 1710.10044, eq. 10).

    ::

        |tau_i - 1{u_ij < 0}| huber(u_ij),        u_ij = target_j - current_i,    huber(u) = u^2 / 2 up to 1, then |u| - 1/2

    Value and gradient are those of sb3-contrib's function of that name, to the bit. The gradient in closed form, a slope
    for each current quantile, keeps nothing of the pairs for a backward pass.

    :param current: ``(batch, [n_critics,] n_quantiles)``; the gradient flows into it alone
    :param target: ``(batch, [1,] n_target_quantiles)``
    :param fractions: ``tau``, in (0, 1), ``(batch, n_quantiles)``; ``None`` for the midpoints of equal parts
    :param sum_over_quantiles: the sum over ``i`` and mean over ``j``, as in QR-DQN, or the mean over both, as in TQC
    :return: scalar
    """
    n = current.shape[-1]
    if fractions is None:
        fractions = (th.arange(n, device=current.device, dtype=th.float) + 0.5) / n
    with th.no_grad():
        errors = target.unsqueeze(-2) - current.unsqueeze(-1)
        weights = (fractions.unsqueeze(-1) - (errors < 0).float()).abs()
        distances = errors.abs()
        losses = weights * th.where(distances > 1, distances - 0.5, errors**2 * 0.5)
        value = losses.sum(dim=-2).mean() if sum_over_quantiles else losses.mean()
        share = (n if sum_over_quantiles else 1) / losses.numel()
        slopes = -(share * weights * errors.clamp(-1, 1)).sum(dim=-1)
    return value + (slopes * (current - current.detach())).sum()


def clipped_surrogate(ratio: th.Tensor, advantages: th.Tensor, clip_range: th.Tensor | float) -> th.Tensor:
    """``min(ratio A, clip(ratio, 1 - c, 1 + c) A)``, what PPO ascends (arXiv 1707.06347, eq. 7).

    :param ratio: ``pi(a|s) / pi_old(a|s)``, ``(batch,)``
    :param advantages: ``(batch,)``
    :param clip_range: ``c >= 0``; 0 leaves only the gradient that takes a step back
    :return: ``(batch,)``
    """
    return th.min(advantages * ratio, advantages * th.clamp(ratio, 1 - clip_range, 1 + clip_range))


def kl_from_old(log_ratio: th.Tensor) -> th.Tensor:
    """An estimate of ``KL(pi || pi_old)`` from an action of the old policy, ``r log r - (r - 1) >= 0``.

    Unbiased, and so is its gradient; both are 0 where the policies agree. It is the divergence of mirror descent (arXiv
    2005.09814), and needs nothing of a policy but its density.

    :param log_ratio: ``log r = log pi(a|s) - log pi_old(a|s)`` with ``a ~ pi_old``, ``(batch,)``
    :return: nats, ``(batch,)``
    """
    return log_ratio.exp() * log_ratio - log_ratio.expm1()


def kl_to_new(log_ratio: th.Tensor) -> th.Tensor:
    """The same of ``KL(pi_old || pi)``, ``r - 1 - log r >= 0``: what SB3's PPO logs and stops early by.

    :param log_ratio: see :func:`kl_from_old`
    :return: nats, ``(batch,)``
    """
    return (log_ratio.exp() - 1) - log_ratio


def is_off(weight: th.Tensor | float) -> bool:
    """Whether a term is left out of a loss: its weight is the number 0. A tensor of weights never says so."""
    return not isinstance(weight, th.Tensor) and weight == 0


class Bound(NamedTuple):
    """An elementwise function that limits a term of the critic target, in reward units, and where it does."""

    limit: Callable[[th.Tensor], th.Tensor]
    is_reached: Callable[[th.Tensor], th.Tensor]


def as_bound(bound: BoundLike, name: str = "bound") -> Bound:
    """Turn what a user writes for a bound into a function.

    ===================  ================================================================================================
    ``None``             no limit
    ``(low, high)``      a clip, ``low <= high``; ``(0, 0)`` takes the term away
    ``"clip(x/10)"``     ``x / 10`` clipped to [-1, 1]; any positive number in the place of 10, ``"clip(x)"`` without it
    ``"tanh(x/10)"``     the smooth form of it; reached where it is within a hundredth of its limit
    a function           of a tensor, such as ``torch.tanh``; reached wherever it is not the identity
    ===================  ================================================================================================

    The words are functions that Mirror Descent Actor Critic compares (arXiv 2502.03854).

    :param bound: one of these
    :param name: the argument's name, for the message
    :raises ValueError: if it is none of these, or ``low > high``
    """
    if bound is None:
        return Bound(lambda x: x, th.zeros_like)
    if callable(bound):
        return Bound(bound, lambda x: bound(x) != x)
    if isinstance(bound, str):
        return _named_bound(bound, name)
    try:
        low, high = (float(limit) for limit in bound)
        if math.isnan(low) or math.isnan(high):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{name}={bound!r} is not a bound: give None, {_BOUNDS}.") from None
    if not low <= high:
        raise ValueError(f"{name}=({low:g}, {high:g}) has low > high: did you mean ({high:g}, {low:g})?")
    return Bound(lambda x: x.clamp(low, high), lambda x: (x < low) | (x > high))


def check_bound(bound: BoundLike, name: str) -> None:
    """Check what a user writes for a bound, see :func:`as_bound`; a function is tried on a tensor.

    :param name: the argument's name, for the message
    :raises ValueError: if it is none, or not a function of a tensor
    """
    limit, cause = as_bound(bound, name).limit, None
    try:
        fits = limit(th.zeros(2)).shape == (2,)
    except Exception as error:
        fits, cause = False, error
    if not fits:
        message = f"{name}={bound!r} does not take a tensor to one of its shape: torch.tanh is such a function."
        raise ValueError(message) from cause


_BOUNDS = 'a pair (low, high), "clip(x/10)" or "tanh(x/10)", or a tensor function'


def _named_bound(text: str, name: str) -> Bound:
    found = re.fullmatch(r"(clip|tanh)\(x(?:/(\d+\.?\d*|\.\d+))?\)", text.replace(" ", ""))
    scale = float(found[2] or 1) if found else 0.0
    if not found or scale == 0:
        raise ValueError(f"{name}={text!r} is not a bound: give None, {_BOUNDS}.")
    if found[1] == "clip":
        return Bound(lambda x: (x / scale).clamp(-1.0, 1.0), lambda x: x.abs() > scale)
    return Bound(lambda x: th.tanh(x / scale), lambda x: x.abs() > scale * math.atanh(0.99))
