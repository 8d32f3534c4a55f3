"""How fast the runs of a grid will be: each kind trained for a few seconds."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.executors.local import Process
from benchmarks.machine import cores
from benchmarks.plan import Plan
from benchmarks.run import Job
from benchmarks.spec import RunSpec

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Pace:
    """How fast a kind of run is.

    :param steps_per_second: environment steps of training, of all seeds of a stack; measured without compiling
    :param evaluation_seconds: the most that the evaluations of one run take
    :param compiles: whether the runs will be compiled, and so be faster
    """

    steps_per_second: float
    evaluation_seconds: float
    compiles: bool = False


def kind_of(stack: Sequence[RunSpec]) -> tuple[str, int]:
    """What makes jobs as fast as each other: their group, and how many seeds are trained together."""
    return stack[0].group, len(stack)


def measure_paces(plan: Plan, stacks: Iterable[Sequence[RunSpec]], console: Console) -> dict[tuple[str, int], Pace]:
    """The pace of every kind of job, by :func:`kind_of`; without those too short to measure.

    As many are measured at a time as will run at a time, so that they share the machine as the grid will; no more than it has
    cores, where they will run on other machines.
    """
    one_each = list({kind_of(stack): stack for stack in stacks}.values())
    paces: dict[tuple[str, int], Pace] = {}
    with console.status(f"measuring the training speed of {len(one_each)} kinds of run"), contextlib.ExitStack() as stopped:
        queue, workers = deque(one_each), []
        while queue or workers:
            while queue and len(workers) < min(plan.workers, cores()):
                workers.append(
                    Process(Job(tuple(queue.popleft()), None, plan.matrix_library, device=plan.device, modules=plan.modules))
                )
                stopped.callback(workers[-1].stop)
            for worker in [w for w in workers if w.has_ended()]:
                workers.remove(worker)
                said = worker.said
                if said.get("rate"):
                    pace = Pace(said["rate"], said["evaluation_seconds"], said["compiles"])
                    paces[kind_of(worker.job.specs)] = pace
            time.sleep(POLL_SECONDS)
    return paces
