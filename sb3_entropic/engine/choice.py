"""What ``"auto"`` chooses for a run, and how that is told."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from sb3_entropic.engine.compiler import LONG_RUN
from sb3_entropic.engine.step import RecordingError
from sb3_entropic.engine.support import why_not_unasked


def why_not_alone(model: Any, total_timesteps: int, reset_num_timesteps: bool) -> str | None:
    """Why ``"auto"`` leaves a single model's run to SB3's own loop, as a clause; ``None`` if it does not."""
    done = 0 if reset_num_timesteps else model.num_timesteps
    steps = model.gradient_steps_between(done, done + total_timesteps)
    return f"{steps:,} gradient steps would not repay the fast engine" if steps < LONG_RUN else why_not_unasked(model)


def leave_to_sb3(model: Any, reason: str, cause: Exception | None = None) -> None:
    """Say why a model is left to SB3's own loop.

    :param cause: what has led to it, if something was raised
    :raises ValueError: if the user has asked for the fast engine
    """
    if model.engine.kind == "fast":
        raise ValueError(f'engine="fast" cannot run this: {reason}. engine="auto" runs it with SB3\'s own loop.') from cause
    say(model, f"SB3's own loop: {reason}")


def cannot_record(model: Any, error: RecordingError) -> str:
    """The reason to leave a model to SB3's own loop, told even where nothing is printed: it is several times as slow.

    :param error: that recording its losses has raised
    """
    if model.engine.kind == "auto":
        warnings.warn(f'{error}, so SB3\'s own loop is used, which engine="sb3" asks for', stacklevel=3)
    return str(error)


def say(model: Any, message: str) -> None:
    """Log a choice, and print it as SB3 prints its own."""
    logging.getLogger("sb3_entropic").info(message)
    if model.verbose >= 1:
        print(message)
