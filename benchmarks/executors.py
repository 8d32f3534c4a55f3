"""Carry out a plan with worker processes on this machine, one torch thread each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.plan import Plan, RunSpec
from benchmarks.run import Job
from benchmarks.store import Store

POLL_SECONDS = 0.1
LINE_SECONDS = 300.0
LOG = "log.txt"


@dataclass
class Outcome:
    """What became of a grid's runs.

    :param finished: runs that finished in this call
    :param kept: runs that were finished before it
    :param failed: runs that ended in an error, in this call or before it
    :param interrupted: whether the grid was stopped before its end
    """

    finished: list[RunSpec] = field(default_factory=list)
    kept: list[RunSpec] = field(default_factory=list)
    failed: list[RunSpec] = field(default_factory=list)
    interrupted: bool = False


class Worker:
    """A worker process, and the latest it has said."""

    def __init__(self, job: Job):
        self.job = job
        self.said: dict[str, Any] = {}
        log = subprocess.DEVNULL if job.folder is None else open(job.folder / LOG, "wb")  # noqa: SIM115
        paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C reaches the grid alone, which then stops its workers in order.
            start_new_session=True,
        )
        if log is not subprocess.DEVNULL:
            log.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(job.to_json())
            self._process.stdin.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def has_ended(self) -> bool:
        """Whether the process is gone and everything it said is read."""
        if self._process.poll() is None:
            return False
        # Not for ever: an environment may have left a child that holds the pipe open.
        self._reader.join(timeout=5)
        return True

    def error(self) -> str:
        """Why there is no record: the traceback, or how the process died and the end of its log."""
        if "error" in self.said:
            return self.said["error"]
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        log = "" if self.job.folder is None else (self.job.folder / LOG).read_text(errors="replace")[-4000:]
        return f"{log}\nThe worker process {how}."

    def stop(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                self.said = {**self.said, **json.loads(line)}


@dataclass(frozen=True)
class Pace:
    """How fast a kind of run is: environment steps per second of training, and the most its evaluations take."""

    steps_per_second: float
    evaluation_seconds: float


def measure_paces(plan: Plan, specs: list[RunSpec], console: Console) -> dict[str, Pace]:
    """The pace of every group of runs, by group; without those too short to measure.

    As many are measured at a time as will run at a time, so that they share the machine as the grid will.
    """
    one_each = list({spec.group: spec for spec in specs}.values())
    paces: dict[str, Pace] = {}
    with console.status(f"measuring the training speed of {len(one_each)} kinds of run"), _pool() as workers:
        queue = deque(one_each)
        while queue or workers:
            while queue and len(workers) < plan.workers:
                workers.append(Worker(Job(queue.popleft(), None)))
            for worker in [w for w in workers if w.has_ended()]:
                workers.remove(worker)
                if worker.said.get("rate"):
                    paces[worker.job.spec.group] = Pace(worker.said["rate"], worker.said["evaluation_seconds"])
            time.sleep(POLL_SECONDS)
    return paces


def run_locally(
    plan: Plan, store: Store, console: Console, command: str = "", fresh: bool = False, retry_failed: bool = False
) -> Outcome:
    """Run everything of the plan that has no record yet. A run's failure is recorded and the others go on.

    Ctrl-C or SIGTERM ends the workers; the runs that were under way leave nothing and are begun again by the next call.

    :param plan: the grid
    :param store: where records are and go
    :param console: for the progress
    :param command: what the user called, kept in every record
    :param fresh: run everything; an earlier record is replaced when its run has finished again
    :param retry_failed: run those again that failed before
    """
    store.sweep()
    outcome = Outcome(kept=[spec for spec in plan.runs if store.is_finished(spec) and not fresh])
    if not (fresh or retry_failed):
        outcome.failed = [spec for spec in plan.runs if store.has_failed(spec)]
    queue = deque(spec for spec in plan.runs if spec not in outcome.kept and spec not in outcome.failed)
    if not queue:
        return outcome
    display = _Display(console, queue)
    with display, _pool() as workers, _sigterm_as_ctrl_c():
        try:
            while queue or workers:
                while queue and len(workers) < plan.workers:
                    spec = queue.popleft()
                    workers.append(Worker(Job(spec, store.begin(spec))))
                for worker in list(workers):
                    if worker.has_ended():
                        _settle(worker, store, outcome, display, command, fresh)
                        workers.remove(worker)
                    else:
                        display.update(worker.job.spec, worker.said)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            outcome.interrupted = True
            for worker in workers:
                if "record" in worker.said and worker.job.folder.exists():
                    # Finished in the same moment: nothing finished is lost.
                    _settle(worker, store, outcome, display, command, fresh)
                worker.stop()
                shutil.rmtree(worker.job.folder, ignore_errors=True)
    return outcome


def _settle(worker: Worker, store: Store, outcome: Outcome, display: _Display, command: str, fresh: bool) -> None:
    spec, folder = worker.job.spec, worker.job.folder
    error = None if "record" in worker.said else worker.error()
    if error is None:
        record = worker.said["record"]
        try:
            store.finish(spec, folder, {"command": command, **record}, replace=fresh)
        except OSError as reason:
            error = f"The record could not be written: {reason}"
    if error is None:
        outcome.finished.append(spec)
        rate = record["timesteps"] / record["train_seconds"]
        display.end(spec, f"[green]done[/]    {escape(spec.title)}: return {worker.said['return']:,.1f}, {rate:,.0f} steps/s")
    else:
        # A full disk may keep even the failure from being written; the grid goes on and counts it.
        with contextlib.suppress(OSError):
            store.fail(spec, folder, error)
        outcome.failed.append(spec)
        display.end(spec, f"[red]failed[/]  {escape(spec.title)}: {escape(error.strip().splitlines()[-1])}")


class _Display:
    """A bar for the grid, a line a run with its speed and the time left."""

    def __init__(self, console: Console, queue: deque[RunSpec]):
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[count]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[score]}"))
        self._progress = Progress(*columns, *times, console=console, speed_estimate_period=120)
        self._total = len(queue)
        self._ended = 0
        self._start = self._last_line = time.monotonic()
        self._steps = {spec.path: 0 for spec in queue}
        self._all_steps = sum(spec.steps for spec in queue)
        self._grid = self._progress.add_task("[bold]grid", total=self._all_steps, count=f"0/{self._total} runs", score="")
        self._lines: dict[Path, TaskID] = {}

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for line in self._lines.values():
            self._progress.remove_task(line)
        self._progress.stop()

    def update(self, spec: RunSpec, said: dict[str, Any]) -> None:
        if spec.path not in self._lines:
            self._lines[spec.path] = self._progress.add_task(escape(spec.title), total=spec.steps, count="starting", score="")
        if "timesteps" in said:
            rate = said["timesteps"] / max(said["train_seconds"], 1e-9)
            score = f"return {said['return']:,.1f}" if "return" in said else ""
            self._progress.update(
                self._lines[spec.path], completed=said["timesteps"], count=f"{rate:,.0f} steps/s", score=score
            )
            self._count(spec, said["timesteps"])

    def end(self, spec: RunSpec, line: str) -> None:
        self._ended += 1
        if spec.path in self._lines:
            self._progress.remove_task(self._lines.pop(spec.path))
        self._count(spec, spec.steps)
        self._progress.console.print(line, highlight=False)

    def _count(self, spec: RunSpec, steps: int) -> None:
        self._steps[spec.path] = min(steps, spec.steps)
        done, count = sum(self._steps.values()), f"{self._ended}/{self._total} runs"
        self._progress.update(self._grid, completed=done, count=count)
        now = time.monotonic()
        if not self._progress.console.is_terminal and now - self._last_line >= LINE_SECONDS:
            # A log file shows no bar, so it gets a line from time to time.
            self._last_line = now
            left = (now - self._start) * (self._all_steps / max(done, 1) - 1) / 60
            self._progress.console.print(f"{count}, {done:,} of {self._all_steps:,} steps, {left:.0f} minutes left")


@contextlib.contextmanager
def _pool() -> Iterator[list[Worker]]:
    """A list of workers, none of which outlives the block."""
    workers: list[Worker] = []
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
