"""Errors a user can act on: one sentence with what was given, what is allowed and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A wrong input; its message is one clear sentence, shown by the commands without a traceback (exit code 2)."""


class HyperparameterWarning(UserWarning):
    """A value that is allowed and does what its user cannot want; its message says what, and what to take instead."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """The ending of a message: ``": did you mean 'x'?"``, or a full stop where nothing is near.

    :param given: what the user wrote
    :param allowed: the valid choices
    """
    by_lower = {choice.lower(): choice for choice in allowed}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1)
    return f": did you mean {by_lower[close[0]]!r}?" if close else "."
