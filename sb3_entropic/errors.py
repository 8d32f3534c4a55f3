"""Errors a user can act on: one sentence with what was given, what is allowed and the nearest valid choice."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Iterable
from types import FrameType

LIBRARIES = ("stable_baselines3", "sb3_contrib", "sb3_entropic", "torch", "gymnasium", "numpy")
"""Packages that refuse what a user has set by an error of their own."""


class UserError(ValueError):
    """A wrong input; its message is one clear sentence, shown by the commands without a traceback (exit code 2)."""


class HyperparameterError(UserError):
    """A hyperparameter that the algorithm does not have, or a value it does not take."""


class HyperparameterWarning(UserWarning):
    """A value that is allowed and does what its user cannot want; its message says what, and what to take instead."""


def is_refusal(error: Exception) -> bool:
    """Whether libraries alone have raised an error, for a value that they do not take, and no code of the user's had a part.

    :param error: as the function has it that has called them
    """
    _, *frames = traceback.walk_tb(error.__traceback__)
    # A class of the user's checks its arguments by these, too.
    if frames and frames[-1][0].f_globals.get("__name__") == "sb3_entropic.checks":
        return True
    return not any(is_of_users(frame) for frame, _ in frames)


def is_of_users(frame: FrameType) -> bool:
    """Whether code is neither a library's nor Python's own."""
    return frame.f_globals.get("__name__", "").partition(".")[0] not in {*LIBRARIES, *sys.stdlib_module_names}


def article(noun: str) -> str:
    """``"an"`` before a vowel, else ``"a"``."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


def nearest(given: str, allowed: Iterable[str], cutoff: float = 0.6) -> str:
    """The ending of a message: ``": did you mean 'x'?"``, or a full stop where nothing is near.

    :param given: what the user wrote
    :param allowed: the valid choices
    :param cutoff: how alike they have to be, 0 to 1
    """
    by_lower = {choice.lower(): choice for choice in allowed}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=cutoff)
    return f": did you mean {by_lower[close[0]]!r}?" if close else "."
