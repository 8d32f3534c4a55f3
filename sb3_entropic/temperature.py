"""A temperature under SB3's own names: fixed (``ent_coef_tensor``), scheduled (``ent_coef``) or learned (``log_ent_coef``).

SB3 calls the temperature ``ent_coef``; its ``tau`` is Polyak averaging.
"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule

from sb3_entropic.checks import POINTS, SCALES, check_at_least_zero, check_scale, check_scheduled
from sb3_entropic.errors import HyperparameterWarning

_NUMBER = r"(?:\d+\.?\d*(?:e-?\d+)?|\.\d+)"
Scheduled = float | Schedule
"""A number, or a function of the remaining progress (1 at the start, 0 at the end)."""


def at_progress(value: Any, remaining: float) -> Any:
    """What a schedule gives at this point of training; anything else as it is.

    :param value: see :data:`Scheduled`
    :param remaining: 1 to 0; several environments may step past the end
    """
    return float(value(max(remaining, 0.0))) if callable(value) else value


def as_scheduled(name: str, value: Any) -> Any:
    """``"lin_0.01"``, as rl-baselines3-zoo writes it, as a schedule from 0.01 to 0; anything else as it is.

    :param name: of the argument, for the message
    :raises ValueError: if what follows ``lin_`` is not a number
    """
    if not (isinstance(value, str) and value.startswith("lin_")):
        return value
    try:
        return LinearSchedule(float(value.removeprefix("lin_")), 0.0, 1.0)
    except ValueError:
        raise ValueError(f"{name}={value!r} is not a schedule: write lin_0.001, say.") from None


def learned_from(name: str, value: Any, default: float) -> float | None:
    """What a coefficient that is learned starts from, ``"auto"`` or ``"auto_0.1"``; ``None`` for one that is not.

    :param name: of the argument, for the message
    :param default: what ``"auto"`` starts from
    :raises ValueError: for any other text
    """
    if not isinstance(value, str):
        return None
    if value == "auto":
        return default
    found = re.fullmatch(rf"auto_({_NUMBER})", value)
    if found is None or not 0 < float(found[1]) < math.inf:
        raise ValueError(f'{name}={value!r} is none of "auto", "auto_0.01", "lin_0.01", a number and a function of progress.')
    return float(found[1])


def check_temperature(name: str, value: Any) -> None:
    """Check what SB3 takes for a temperature, or a schedule of it.

    :param name: of the argument, for the message
    :raises ValueError: if it is none of ``"auto"``, ``"auto_0.1"``, a number that is at least 0 and a function of progress
    """
    if not isinstance(value, str):
        check_scheduled(name, value, _check_size)
    elif value != "auto":
        found = re.fullmatch(rf"(auto_)?({_NUMBER})", value)
        if found is None:
            raise ValueError(
                f'{name}={value!r} is none of "auto", "auto_0.1", "lin_0.1", a number and a function of progress.'
            )
        # Only one that is learned needs a logarithm.
        (check_scale if found[1] else _check_size)(f"{name}={value!r}, of which {name}", float(found[2]))


def _check_size(name: str, value: Any) -> None:
    check_at_least_zero(name, value)
    if value != 0:
        check_scale(name, max(value, SCALES[0]))


def warn_of_unreachable_entropy(target_entropy: Any, action_dim: int) -> None:
    """Warn if a learned temperature would rise for ever: actions in [-1, 1] have at most ``log 2`` nats each.

    :param target_entropy: nats, a number or a schedule; ``"auto"`` is minus the number of actions
    :param action_dim: number of actions
    """
    limit, highest = action_dim * math.log(2), -math.inf if target_entropy == "auto" else largest(target_entropy)
    if highest >= limit:
        actions = "1 action has" if action_dim == 1 else f"{action_dim} actions have"
        named = f"target_entropy, up to {highest}," if callable(target_entropy) else f"target_entropy={highest}"
        ending = "meanwhile." if callable(target_entropy) else f"for ever. Did you mean {-abs(highest)}?"
        message = f"{named} is not reached: {actions} at most {limit:.3f} nats, and the temperature rises {ending}"
        warnings.warn(message, HyperparameterWarning, stacklevel=2)


def largest(value: Scheduled) -> float:
    """The largest that a schedule gives at :data:`~sb3_entropic.checks.POINTS`; a number as it is."""
    return max(at_progress(value, remaining) for remaining in POINTS)


def current_temperature(model: Any) -> th.Tensor:
    """The temperature a gradient step uses, detached: of shape ``(1,)`` if learned, ``()`` if fixed or scheduled.

    :param model: an algorithm with SB3's ``ent_coef``, ``ent_coef_optimizer``, ``log_ent_coef`` and ``ent_coef_tensor``
    """
    if model.ent_coef_optimizer is not None:
        return th.exp(model.log_ent_coef.detach())
    scheduled = model.ent_coef
    if callable(scheduled):
        like = next(model.policy.parameters())
        return like.new_tensor(at_progress(scheduled, model._current_progress_remaining))
    # While the fast engine records, a schedule's value is an input.
    return scheduled if isinstance(scheduled, th.Tensor) else model.ent_coef_tensor


def temperature_loss(log_temperature: th.Tensor, log_prob: th.Tensor, target_entropy: float) -> th.Tensor:
    """Loss whose descent moves the policy's entropy towards its target (arXiv 1812.05905, eq. 18).

    As in SB3, ``log_temperature`` stands where the paper has the temperature itself: same sign, same fixed point. Its
    gradient is ``entropy - target_entropy``: the temperature rises exactly while the policy is too deterministic.

    :param log_temperature: the learned parameter, ``(1,)``
    :param log_prob: log-density of actions sampled from the policy, ``(batch, 1)``; no gradient reaches the policy
    :param target_entropy: nats
    :return: scalar
    """
    return -(log_temperature * (log_prob + target_entropy).detach()).mean()
