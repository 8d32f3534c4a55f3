"""Errors a user can act on: one sentence with what was given, what is allowed and the nearest valid choice."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable
from typing import Any, NoReturn


class UserError(ValueError):
    """A wrong input; its message is one clear sentence, shown by the commands without a traceback (exit code 2)."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """The ending of a message: ``": did you mean 'x'?"``, or a full stop where nothing is near.

    :param given: what the user wrote
    :param allowed: the valid choices
    """
    by_lower = {choice.lower(): choice for choice in allowed}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1)
    return f": did you mean {by_lower[close[0]]!r}?" if close else "."


def positive(text: str) -> int:
    """An argument that counts something: a whole number above 0, also written ``1e6`` or ``50_000``."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer() or number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, such as 50000.")
    return int(number)


class ArgumentParser(argparse.ArgumentParser):
    """A parser that answers a misspelt option by the nearest one, in one sentence and with exit code 2."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As in ``argparse``."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]!r}{nearest(unknown[0], self._all_options())}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message and where help is, without the usage block that would bury it."""
        print(f"error: {message}\nhelp:  {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def _all_options(self) -> list[str]:
        children = [a.choices.values() for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        options = list(self._option_string_actions)
        return options + [option for group in children for child in group for option in child._option_string_actions]
