"""What the commands share: arguments that are checked as they are read, and what they print to."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import rich.console

from sb3_entropic.errors import HyperparameterWarning, UserError, nearest


def positive(text: str) -> int:
    """An argument that counts something: a whole number above 0, also written ``1e6`` or ``50_000``."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer() or number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0.")
    return int(number)


def amount(text: str) -> float:
    """An argument that is a share of something: a number from 0."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.")
    return number


def seed(text: str) -> int:
    """An argument that seeds random generators: a whole number from 0."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}.")
    return int(text)


def exit_code_of(command: Callable[[], int]) -> int:
    """A command's own, 2 for a wrong input, which is printed as one sentence, or 130 after Ctrl-C.

    :param command: to run
    """
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def show_warnings_in_one_line() -> None:
    """Let a warning of a hyperparameter be one sentence, said once, without the line of code that it comes from."""
    # Python's own "once" counts anew whenever filters change.
    warnings.filterwarnings("always", category=HyperparameterWarning)
    show, said = warnings.showwarning, set()

    def show_in_one_line(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if not issubclass(category, HyperparameterWarning):
            show(message, category, *args, **kwargs)
        elif str(message) not in said:
            said.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show_in_one_line


class ArgumentParser(argparse.ArgumentParser):
    """A parser that answers a misspelt command, option or choice by the nearest one, in one sentence and with exit code 2."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As in ``argparse``, with nothing left over; of a command's arguments its own parser is asked."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]!r}{nearest(unknown[0], self._option_string_actions)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the message and where help is, without the usage block that would bury it."""
        print(f"error: {message}\nhelp:  {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = list(map(str, action.choices or ()))
        if action.choices is not None and value not in action.choices:
            # A command is named by its place, not by the list of all of them.
            named = None if isinstance(action, argparse._SubParsersAction) else action
            raise argparse.ArgumentError(named, f"{value!r} is none of {', '.join(choices)}{nearest(str(value), choices)}")


class Console(rich.console.Console):
    """One that falls silent when nobody reads it any more, instead of ending what it tells of."""

    def on_broken_pipe(self) -> None:
        """As in rich, without the exit."""
        self.quiet = True
        # What Python writes on its way out would fail, too.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _check_buffer(self) -> None:
        # What all of rich's ways to print come to; a terminal that is gone is a reader that is gone.
        try:
            super()._check_buffer()
        except OSError:
            self._buffer.clear()
            self.quiet = True
