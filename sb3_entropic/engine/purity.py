"""What a loss may read and may not do, seen when it is recorded: later it is never called again."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import torch as th
from torch.utils import _pytree as pytree

from sb3_entropic.engine.trace import Layout, Stage, StepInputs, is_same_graph, run_with
from sb3_entropic.errors import is_of_users

COUNTS = ("num_timesteps", "_n_updates", "_episode_num")


@contextmanager
def restored_attributes(model: Any) -> Iterator[None]:
    """Let nothing that is recorded stay in a model's attributes, nor in lists and dictionaries there: nobody could save it.

    :raises ValueError: if such a list or dictionary was changed; names it
    """
    before = dict(vars(model))
    held = {name: copy(value) for name, value in before.items() if isinstance(value, _CONTAINERS)}
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(before)
        changed = [name for name, value in held.items() if not _holds_the_same(before[name], value)]
        for name in changed:
            before[name].clear()
            getattr(before[name], "extend" if isinstance(before[name], list | deque) else "update")(held[name])
    if changed:
        raise ValueError(f"they change {', '.join(f'self.{name}' for name in changed)}, and a loss keeps nothing of a step")


_CONTAINERS = (list, deque, dict, set)


def _holds_the_same(now: Any, before: Any) -> bool:
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(now[key] is before[key] for key in now)
    return len(now) == len(before) and (isinstance(now, set) or all(a is b for a, b in zip(now, before, strict=True)))


@contextmanager
def moved_on(model: Any, followed: Collection[str]) -> Iterator[None]:
    """Let a model be at another point of its training for a while.

    :param followed: attributes that are inputs of what is recorded
    """
    later = {name: getattr(model, name) + 1009 for name in COUNTS if hasattr(model, name)}
    later["_current_progress_remaining"] = 0.03 + 0.61 * model._current_progress_remaining
    # What is 0 now is left out as long as it is, so that a schedule has not moved on.
    scheduled = [name for name in model.coefficients() if name not in followed and callable(vars(model).get(name))]
    changed = {**later, **dict.fromkeys(scheduled, _nothing)}
    before = {name: vars(model)[name] for name in changed}
    # Not by setattr, which a family may have copy a schedule's value elsewhere.
    vars(model).update(changed)
    try:
        yield
    finally:
        vars(model).update(before)


def _nothing(remaining: float) -> float:
    return 0.0


def warm_up(model: Any, inputs: StepInputs, layout: Layout) -> None:
    """Call the losses once with numbers, so that constants that they make when they are first called are there.

    What goes wrong here goes wrong again when they are recorded, and is told then.

    :param inputs: as for recording, with a leading dimension of seeds
    :param layout: of batch and noise
    """
    one = pytree.tree_map(lambda value: value[0].detach().clone(), inputs)
    networks, batch, noise = model.make_networks(), layout.batch_of(one.batch), layout.noise_of(one.noise)

    def call() -> None:
        model.before_updates(networks, batch, noise)
        for update in model.updates():
            update.loss(networks, batch, noise)

    with suppress(Exception), th.random.fork_rng(devices=[]):
        run_with(model.policy, one.parameters, call)


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
    seen = f" ({told(cause)})" if cause else ""
    raise ValueError(
        f"they read something that changes besides networks, batch and noise{seen}. Let draw_noise draw random numbers, let "
        "coefficients return a number that is set or scheduled, by the name of its attribute, and keep nothing of a step"
    ) from cause


_IMPURITIES = {
    "randomness": "they draw random numbers, which draw_noise is for",
    "data-dependent control flow": "they branch on a tensor's value, where torch.where takes both sides",
    ".item()": "they take a number out of a tensor, which may stay one",
}
"""What torch's messages speak of, and what a user's loss did."""


def told(error: Exception) -> str:
    """An error in a clause, with the place in a user's code that it came from."""
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    said = next((plainly for sign, plainly in _IMPURITIES.items() if sign in first), said)
    own = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if is_of_users(frame)]
    if not own:
        return said
    frame, line = own[-1]
    return f"{said}, in {frame.f_code.co_name}, line {line} of {Path(frame.f_code.co_filename).name}"
