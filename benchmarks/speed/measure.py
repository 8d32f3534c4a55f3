"""Rounds of timings, each in fresh processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch as th
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.speed.cases import PEERS, Case, System
from benchmarks.speed.worker import LEARNING_STARTS
from sb3_entropic.engine.compiler import has_compiler
from sb3_entropic.engine.gemm import check_matrix_library

# Every library's own name for it; the last two are JAX's.
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


class TimingError(RuntimeError):
    """A system could not be timed; the message is its last word."""


@dataclass(frozen=True)
class Timing:
    """What was measured of a system in a round.

    :param case: name of the case
    :param system: label of the system
    :param round: from 0
    :param measured: empty if it failed. ``steps_per_second`` of all seeds and processes; ``update_ms`` of a gradient step of
        a seed, with the sampling of its batch; ``startup_seconds`` until training runs at that speed (imports, tracing,
        compiling); ``peak_bytes`` of all processes; ``cores_used`` by one. Where asked for the rates ``gflops`` of torch's
        own and ``gflops_switched`` of our choice of a matrix library, and ``floor_ms`` of a gradient step at the higher one
    """

    case: str
    system: str
    round: int
    measured: dict[str, float]


def runnable(case: Case, peers: list[str]) -> tuple[Case, dict[str, str]]:
    """The systems of a case that can be timed here, and why the others cannot, by label; those nobody asked for are neither.

    :param peers: packages whose systems are timed beside ours; what others are compared with always is
    """
    compared_with, kept, reasons = {system.peer for system in case.systems}, [], {}
    for system in case.systems:
        if system.package in PEERS.values() and system.package not in peers and system.label not in compared_with:
            continue
        if find_spec(system.package) is None:
            reasons[system.label] = f"{system.package} is not installed, `pip install -e '.[speed]'` does that"
        elif system.device == "cuda" and not th.cuda.is_available():
            reasons[system.label] = "there is no GPU that torch can use"
        elif system.is_compiled and not has_compiler(system.device):
            reasons[system.label] = "there is no compiler"
        elif (reason := _why_not_rounded(system)) is not None:
            reasons[system.label] = reason
        else:
            kept.append(system)
    return Case(case.name, case.title, tuple(kept)), reasons


def _why_not_rounded(system: System) -> str | None:
    try:
        check_matrix_library((system.engine or {}).get("matrix_library", "auto"), system.device)
    except ValueError as error:
        return str(error).partition(":")[0]
    return None


def measure(cases: list[Case], rounds: int, steps: int, console: Console) -> Iterator[Timing]:
    """Time every system of every case in every round; one that fails is told of, once, and left out from then on.

    :param steps: environment steps of a timing, see :attr:`benchmarks.speed.cases.System.scale`
    :param console: for the progress
    """
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), MofNCompleteColumn())
    # Timings differ much in length, so the time left is told from the mean of all.
    progress = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, speed_estimate_period=1e9)
    failed: set[tuple[str, str]] = set()
    with progress, tempfile.TemporaryDirectory() as scratch:
        bar = progress.add_task("", total=rounds * sum(len(case.systems) for case in cases))
        for index in range(rounds):
            for case, system in _turns(cases, index):
                name = f"{case.name}, {system.label}"
                progress.update(bar, description=escape(f"round {index + 1}: {system.label}"))
                if (case.name, system.label) not in failed:
                    # Compilers are called by shells, which stumble over what labels have in them.
                    measured, told = _attempt(system, steps, Path(scratch) / re.sub(r"\W+", "-", name))
                    progress.console.print(f"round {index + 1}  {escape(f'{name}: {told}')}", highlight=False)
                    if not measured:
                        failed.add((case.name, system.label))
                    yield Timing(case.name, system.label, index, measured)
                progress.advance(bar)


def _turns(cases: list[Case], index: int) -> Iterator[tuple[Case, System]]:
    """The order of a round: rotated, so that no system always follows the same neighbour."""
    for case in cases:
        shift = index % max(len(case.systems), 1)
        for system in (*case.systems[shift:], *case.systems[:shift]):
            yield case, system


def _attempt(system: System, steps: int, scratch: Path) -> tuple[dict[str, float], str]:
    """What was measured, nothing if it failed, and how to tell it."""
    try:
        measured = time_system(system, steps, scratch)
    except TimingError as error:
        return {}, f"failed, {error}"
    return measured, f"{measured['steps_per_second']:,.0f} steps/s"


def time_system(system: System, steps: int, scratch: Path) -> dict[str, float]:
    """One timing; see :class:`Timing` for what is returned.

    :param scratch: a folder of this system alone: what the compiler leaves there, a later timing finds
    :raises TimingError: if a process ended before its time
    """
    scratch.mkdir(exist_ok=True)
    starts = system.arguments.get("learning_starts", LEARNING_STARTS)
    of_a_seed = system.steps_of_a_seed(steps)
    # Long enough for the exploration rate of DQN, which falls over the first tenth, to have fallen.
    training_before = max(of_a_seed // 4, 10)
    # On-policy algorithms update between rollouts alone: two of them have seen an update, which compiles it.
    warm_up = starts + training_before if system.rollout == 1 else 2 * system.rollout
    job = {
        **{name: getattr(system, name) for name in ("algorithm", "env", "arguments", "engine", "switch", "device")},
        "probe": system.step_flop is not None,
        "warm_up": warm_up,
        "steps": of_a_seed,
    }
    with ExitStack() as stack:
        begin = time.perf_counter()
        workers = [
            stack.enter_context(_Worker({**job, "seeds": list(range(k * system.seeds, (k + 1) * system.seeds))}, scratch))
            for k in range(system.processes)
        ]
        for worker in workers:
            worker.hear()
        ready = time.perf_counter() - begin
        for worker in workers:
            worker.tell("go")
        heard = [worker.hear() for worker in workers]
    together = {name: statistics.mean(result[name] for result in heard) for name in heard[0]}
    total = {name: sum(result[name] for result in heard) for name in ("steps_per_second", "peak_bytes")}
    if system.step_flop is not None:
        together["floor_ms"] = system.step_flop / max(together["gflops"], together["gflops_switched"]) / 1e6
    training = training_before * system.seeds * system.processes / total["steps_per_second"]
    return {**together, **total, "startup_seconds": max(ready - training, 0.0)}


class _Worker:
    """A process that times, ended with its block."""

    def __init__(self, job: dict[str, Any], scratch: Path):
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Asked for a GPU that it cannot use, JAX would take the CPU without a word.
        devices = {"JAX_PLATFORMS": job["device"]}
        places = {"TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD, **devices, **places, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C reaches the command alone, which then ends its processes.
            start_new_session=True,
        )
        self.tell(json.dumps(job))

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        # macOS refuses it for a group of which only what has ended is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def tell(self, line: str) -> None:
        """Write a line to the process; one that is gone is noticed when it is heard."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, float]:
        """What the process says next; waits for it."""
        line = self._process.stdout.readline()
        if not line:
            raise TimingError(f"the process ended with exit code {self._process.wait()}")
        said = json.loads(line)
        if "error" in said:
            raise TimingError(said["error"])
        return said
