"""How many seeds of an experiment are trained together in one process, as a stack."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.machine import memory_bytes
from sb3_entropic.engine.support import why_not_together
from sb3_entropic.learner import Learner

AUTO = "auto"
ENOUGH = 5
"""Seeds in a stack where there is other work for every worker."""
MOST = 10
"""Seeds in a stack unless the user says otherwise."""
MEMORY_SHARE = 0.5

Run = TypeVar("Run")


@dataclass(frozen=True)
class Room:
    """What bounds the stacks of one experiment.

    :param seeds: how many runs it has
    :param most: how many of them may share a process, 1 for none
    """

    seeds: int
    most: int


def most_together(model: Any, steps: int, workers: int) -> int:
    """How many models that differ in their seed alone may share a process.

    1 for what the fast engine does not run: SB3's and sb3-contrib's own algorithms, and those of ours that it is not for.
    Else as many as leave half of the machine's memory free when every worker holds so many replay buffers: a stack keeps
    all of its own in memory at once, and one of Humanoid's can be several gigabytes.

    :param model: any SB3 model, made for the run
    :param steps: environment steps of a run
    :param workers: processes at a time
    """
    if not isinstance(model, Learner) or model.engine.kind == "sb3" or why_not_together([model]) is not None:
        return 1
    memory = MEMORY_SHARE * memory_bytes() / workers
    buffer = getattr(model, "replay_buffer", None) or model.rollout_buffer
    return max(1, int(memory / max(_buffer_bytes(buffer, steps), 1)))


def stack_sizes(experiments: Mapping[str, Room], workers: int) -> dict[str, int]:
    """The most seeds in a stack of each experiment that let a grid finish soonest.

    A stack costs less than its seeds one by one, since what small networks wait for is Python, which runs once for all. Most
    of that is won by five: after them the environments, which are stepped one by one, are what takes the time. So as long as
    every worker has something to do, seeds go five together; larger stacks would only leave workers idle at the end of the
    grid, and lose more where it is interrupted. A grid with fewer jobs than workers is done sooner with smaller stacks on all
    of them, so there an experiment's seeds are split over the workers that the others leave: five on two workers are three
    and two. Runs that cannot be stacked count as jobs that keep workers busy. A stack has :data:`MOST` seeds at most.

    :param experiments: by any name
    :param workers: processes at a time
    """
    busy = sum(room.seeds for room in experiments.values() if room.most == 1)
    stackable = sum(room.most > 1 for room in experiments.values())
    shares = max(1, math.ceil((workers - busy) / stackable)) if stackable else 1
    limit = ENOUGH if shares == 1 else MOST
    return {name: min(room.most, limit, math.ceil(room.seeds / shares)) for name, room in experiments.items()}


def split(runs: list[Run], most: int) -> list[list[Run]]:
    """Runs in their order, in the fewest stacks of at most ``most``, whose sizes differ by one at most."""
    parts = math.ceil(len(runs) / most)
    ends = [math.ceil(len(runs) * part / parts) for part in range(parts + 1)]
    return [runs[begin:end] for begin, end in itertools.pairwise(ends)]


def _buffer_bytes(buffer: Any, steps: int) -> float:
    """Bytes that a buffer takes after so many steps; the memory of transitions still to come is not taken."""
    arrays = sum(array.nbytes for array in vars(buffer).values() if hasattr(array, "nbytes"))
    return arrays * min(1.0, steps / (buffer.buffer_size * buffer.n_envs))
