"""``python -m sb3_entropic.zoo``: the commands of rl-baselines3-zoo, with every algorithm of this package."""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from types import ModuleType

from sb3_entropic.cli import ArgumentParser, exit_code_of, show_warnings_in_one_line
from sb3_entropic.errors import UserError
from sb3_entropic.zoo.plugin import register

PROG = "python -m sb3_entropic.zoo"
COMMANDS = ("train", "enjoy", "record_video")

NEEDS = "It needs rl_zoo3: pip install rl_zoo3 requests."

EXAMPLES = f"""\
examples:
  {PROG} train --algo msac --env Pendulum-v1 -f logs
  {PROG} train --algo mdqn --env CartPole-v1 -optimize --n-trials 100
  {PROG} enjoy --algo msac --env Pendulum-v1 -f logs
  {PROG} train --help
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for a wrong input, 130 after Ctrl-C."""
    parser = ArgumentParser(
        prog=PROG, description=f"{__doc__} {NEEDS}", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, help=f"of rl_zoo3: {', '.join(COMMANDS)}")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="what rl_zoo3's command takes")

    def command() -> int:
        arguments = parser.parse_args(argv)
        register()
        show_warnings_in_one_line()
        _run(arguments.command, arguments.arguments)
        return 0

    return exit_code_of(command)


def _run(command: str, arguments: list[str]) -> None:
    """Run a command of rl_zoo3's, which reads what it is called with from ``sys.argv``."""
    before, sys.argv = sys.argv, [f"{PROG} {command}", *arguments]
    try:
        if command == "record_video":
            runpy.run_module("rl_zoo3.record_video", run_name="__main__")
        else:
            getattr(_module(command), command)()
    finally:
        sys.argv = before


def _module(command: str) -> ModuleType:
    try:
        return importlib.import_module(f"rl_zoo3.{command}")
    except ModuleNotFoundError as error:
        # Such as requests, which enjoy imports and pip does not bring along.
        raise UserError(f"rl_zoo3's {command} needs {error.name}: run `pip install {error.name}`.") from None


if __name__ == "__main__":
    sys.exit(main())
