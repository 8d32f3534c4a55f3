"""Checks of constructor arguments: one sentence that names what was given and what is allowed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer

from sb3_entropic.errors import HyperparameterWarning, UserError, article, nearest

POINTS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Where schedules are looked at before training begins: shares of it that remain."""
SCALES = (1e-15, 1e15)
"""What 32 bits can divide or multiply by, and square then."""


def check_fraction(name: str, value: Any) -> None:
    """Check that an argument is a number in [0, 1].

    :raises ValueError: if it is not; names the nearest that is
    """
    _check_number(name, value, "give one in [0, 1]")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is outside [0, 1]: the nearest choice is {min(max(value, 0), 1)}.")


def check_finite(name: str, value: Any, or_text: str | None = None) -> None:
    """Check that an argument is a finite number.

    :param or_text: what it may be besides, for the message
    :raises ValueError: if it is not
    """
    if or_text is not None and isinstance(value, str):
        raise ValueError(f"{name}={value!r} is neither {or_text!r} nor a number{nearest(value, [or_text])}")
    _check_number(name, value, "give one")
    if not math.isfinite(value):
        raise ValueError(f"{name}={value} is not finite.")


def check_positive(name: str, value: Any) -> None:
    """Check that an argument is a finite number above 0.

    :raises ValueError: if it is not
    """
    _check_number(name, value, "give one above 0")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} is not a finite number above 0.")


def check_count(name: str, value: Any) -> None:
    """Check that an argument is a whole number above 0.

    :raises ValueError: if it is not
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} is not a whole number above 0.")


def check_at_least_zero(name: str, value: Any) -> None:
    """Check that an argument is a finite number that is 0 or positive.

    :raises ValueError: if it is not
    """
    _check_number(name, value, "give one that is at least 0")
    if not value >= 0:
        raise ValueError(f"{name}={value} is below 0: the nearest choice is 0.")
    if value == math.inf:
        raise ValueError(f"{name}={value} is not finite.")


def check_scale(name: str, value: Any) -> None:
    """Check that an argument is a number above 0 of a size that 32 bits can calculate with, see :data:`SCALES`.

    :raises ValueError: if it is not; names the nearest that is
    """
    check_positive(name, value)
    low, high = SCALES
    if not low <= value <= high:
        nearest_choice = low if value < low else high
        raise ValueError(f"{name}={value:g} is outside [{low:g}, {high:g}]: the nearest choice is {nearest_choice:g}.")


def check_scheduled(name: str, value: Any, check: Callable[[str, Any], None]) -> None:
    """Check a number, or what a schedule gives at :data:`POINTS`.

    :param check: one of the checks of this module
    :raises ValueError: if one of them fails it
    """
    if callable(value):
        for remaining in POINTS:
            check(f"{name}({remaining})", value(remaining))
    else:
        check(name, value)


def check_inherited(arguments: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check arguments of an SB3 parent, with which it would train whatever they are, or fail late.

    :param arguments: by name; others may be among them
    :param names: of the parent's arguments
    :raises ValueError: for a value that is not allowed
    """
    for name in _INHERITED.keys() & arguments.keys() & set(names):
        if arguments[name] is not None:
            _INHERITED[name](name, arguments[name])


def check_flag(name: str, value: Any) -> None:
    """Check that an argument is ``True`` or ``False``.

    :raises ValueError: if it is not
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} is neither True nor False.")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Check that an argument is one of a few words.

    :raises ValueError: if it is not; names the nearest
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}{nearest(str(value), choices)}")


def check_clip(value: Any) -> None:
    """Check that ``munchausen_clip`` is ``None`` or a number below 0.

    :raises ValueError: if it is not; names the negated value
    """
    if value is None:
        return
    _check_number("munchausen_clip", value, "give one below 0, or None")
    if not value < 0:
        remedy = f": did you mean {-value}?" if value > 0 else ", and would leave nothing of the term: set its weight to 0."
        raise ValueError(f"munchausen_clip={value} is not below 0{remedy}")


def warn_of_narrow_clip(clip: float | None, temperature: float, soft_value: str = "lse", n_actions: int = 1) -> None:
    """Warn if the clip takes away most of what the log-policy has to say: less than five temperatures are left of it.

    :param clip: ``munchausen_clip``, in reward units
    :param temperature: the largest it will have, in reward units
    :param soft_value: the value that advantages are measured from, see :func:`sb3_entropic.operators.soft_value`
    :param n_actions: there are
    """
    width = math.inf if clip is None or temperature == 0 else -clip / temperature
    if width < 5:
        least = math.exp(-width) / (n_actions if soft_value == "mellowmax" else 1)
        worth = f"worth over {-clip:g} less than the policy's mean"
        clipped = worth if soft_value == "boltzmann" else f"less likely than {least:.2g}"
        times = "temperature" if width == 1 else "temperatures"
        warnings.warn(
            f"munchausen_clip={clip:g} is {width:.3g} {times} ({temperature:g}) wide: it clips every action {clipped}, "
            f"and with it most of the log-policy. Take {-33 * temperature:g}, say, or a lower temperature.",
            HyperparameterWarning,
            stacklevel=3,
        )


def check_network(model: Any, name: str, wanted: type | None = None) -> None:
    """Check that a policy brought the network an algorithm needs: one of the user's own, or of a loaded model, may not.

    :param model: the algorithm
    :param name: the network's name in its policy
    :param wanted: the class it must be of, if any
    :raises ValueError: if it is not there, or of another class
    """
    network = getattr(model.policy, name, None)
    if network is None or (wanted is not None and not isinstance(network, wanted)):
        kind = "" if wanted is None else f" that is {article(wanted.__name__)} {wanted.__name__}"
        aliases = ", ".join(map(repr, model.policy_aliases))
        raise ValueError(
            f"{type(model).__name__} needs a policy with {article(name)} {name}{kind}, which {type(model.policy).__name__} "
            f"has not: take one of {aliases}, or a subclass of {model.policy_aliases['MlpPolicy'].__name__}."
        )


def check_actions(space: spaces.Space) -> None:
    """Check that actions that are numbered are so from 0, as SB3 takes them to be.

    :raises ValueError: if they are not
    """
    if np.any(getattr(space, "start", 0)):
        raise ValueError(f"The actions {space} do not start at 0, as SB3 takes them to: wrap the environment so that they do.")


def is_vector(space: spaces.Space) -> bool:
    """Whether observations are vectors."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def check_vectors(algorithm: str, space: spaces.Space) -> None:
    """Check that observations are vectors.

    :param algorithm: which takes no others
    :raises UserError: if they are not
    """
    if not is_vector(space):
        raise UserError(
            f"{algorithm} takes vectors of observations and this environment has {space}: "
            "put gymnasium.wrappers.FlattenObservation around it."
        )


def check_gpu(device: str, given: str) -> None:
    """Check that there is a GPU if one is asked for; SB3 would take the CPU without a word.

    :param device: torch's
    :param given: what the user wrote, for the message
    :raises UserError: if there is none
    """
    if device.startswith("cuda") and not th.cuda.is_available():
        raise UserError(f"{given}: torch finds no GPU here, so that it must be 'cpu'.")


def check_every_state(model: Any) -> None:
    """Check that the replay buffer gives the state after every action.

    :param model: an off-policy algorithm that reads it
    :raises UserError: if some are dropped
    """
    if model.optimize_memory_usage or isinstance(model.replay_buffer, NStepReplayBuffer):
        setting = "optimize_memory_usage" if model.optimize_memory_usage else "n_steps"
        raise UserError(
            f"{type(model).__name__} reads the state after every action, some of which {setting} drops: leave it out."
        )


def _check_train_freq(name: str, value: Any) -> None:
    # SB3 takes a count, or one with its unit, and goes on for ever with 0.
    if isinstance(value, str):
        raise ValueError(f"{name}={value!r} is neither a whole number above 0 nor a pair, in YAML [1, episode].")
    check_count(name, value[0] if isinstance(value, tuple) and value else value)


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is not a whole number.")


def _check_limit(name: str, value: Any) -> None:
    if value != math.inf:
        check_at_least_zero(name, value)


def _check_clip(name: str, value: Any) -> None:
    check_scheduled(name, value, check_at_least_zero)


_INHERITED: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(("gamma", "tau", "gae_lambda"), check_fraction),
    **dict.fromkeys(("exploration_initial_eps", "exploration_final_eps"), check_fraction),
    **dict.fromkeys(("batch_size", "buffer_size", "n_steps", "n_epochs"), check_count),
    # SB3 compares and divides with these alone, so that a file may have them as 1e4; a fraction above 1 never ends.
    "target_update_interval": check_positive,
    "train_freq": _check_train_freq,
    "gradient_steps": _check_whole,
    "max_grad_norm": _check_limit,
    "vf_coef": check_at_least_zero,
    "target_kl": check_positive,
    **dict.fromkeys(("clip_range", "clip_range_vf"), _check_clip),
    **dict.fromkeys(("use_sde", "use_sde_at_warmup", "optimize_memory_usage", "normalize_advantage"), check_flag),
    "sde_sample_freq": _check_whole,
    **dict.fromkeys(("learning_starts", "exploration_fraction"), check_at_least_zero),
}


def _check_number(name: str, value: Any, remedy: str) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value):
        raise ValueError(f"{name}={value!r} is not a number: {remedy}.")
