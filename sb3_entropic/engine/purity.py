"""What a loss may read and may not do, seen when it is recorded: later it is never called again."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sb3_entropic.engine.trace import Stage, is_same_graph, swapped_attributes
from sb3_entropic.errors import LIBRARIES

COUNTS = ("num_timesteps", "_n_updates", "_episode_num")


@contextmanager
def restored_attributes(model: Any) -> Iterator[None]:
    """Let nothing that is recorded stay in a model's attributes: nobody could read or save it."""
    before = dict(vars(model))
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(before)


@contextmanager
def moved_on(model: Any, followed: Collection[str]) -> Iterator[None]:
    """Let a model be at another point of its training for a while.

    :param followed: attributes that are inputs of what is recorded
    """
    later = {name: getattr(model, name) + 1009 for name in COUNTS if hasattr(model, name)}
    later["_current_progress_remaining"] = 0.03 + 0.61 * model._current_progress_remaining
    # A term that is left out as long as its coefficient is 0.
    unused = {name: 0.0 for name in model.coefficients() if name not in followed}
    with swapped_attributes(model, {**later, **unused}):
        yield


def check_same(stages: Sequence[Stage], record_again: Callable[[], Sequence[Stage]]) -> None:
    """Check that what is recorded is the same at another point of training.

    :param stages: what was recorded
    :param record_again: at another point; what the losses have kept of the first time they find there
    :raises ValueError: if it is not
    """
    cause = None
    try:
        again = zip(stages, record_again(), strict=True)
        if all(is_same_graph(first.function, second.function) for first, second in again):
            return
    except Exception as error:
        cause = error
    raise ValueError(
        "they read something that changes besides networks, batch and noise. Let draw_noise draw random numbers, let "
        "coefficients return a number that is set or scheduled, by the name of its attribute, and keep nothing of a step"
    ) from cause


def told(error: Exception) -> str:
    """An error in a clause, with the place in a user's code that it came from."""
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if "randomness" in first:
        said = "they draw random numbers, which draw_noise is for"
    known = {*LIBRARIES, *sys.stdlib_module_names}
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(f, line) for f, line in frames if f.f_globals.get("__name__", "").partition(".")[0] not in known]
    if not own:
        return said
    frame, line = own[-1]
    return f"{said}, in {frame.f_code.co_name}, line {line} of {Path(frame.f_code.co_filename).name}"
