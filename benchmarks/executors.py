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

from benchmarks.plan import Plan, RunSpec, title_of
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
        """Of the job as a whole."""
        self.said_of: list[dict[str, Any]] = [{} for _ in job.specs]
        """Of each of its runs."""
        log = subprocess.DEVNULL if job.folders is None else open(job.folders[0] / LOG, "wb")  # noqa: SIM115
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

    def errors(self) -> list[str | None]:
        """Why a run has no record: its traceback, the job's, or how the process died and the end of its log."""
        return [None if "record" in said else said.get("error") or self._error() for said in self.said_of]

    def _error(self) -> str:
        if "error" in self.said:
            return self.said["error"]
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        log = "" if self.job.folders is None else (self.job.folders[0] / LOG).read_text(errors="replace")[-4000:]
        return f"{log}\nThe worker process {how}."

    def stop(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                message = json.loads(line)
                run = message.pop("run", None)
                if run is None:
                    self.said = {**self.said, **message}
                else:
                    self.said_of[run] = {**self.said_of[run], **message}


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


def measure_paces(plan: Plan, specs: list[RunSpec], console: Console) -> dict[str, Pace]:
    """The pace of every group of runs, by group, in a stack where that is how they run; without those too short to measure.

    As many are measured at a time as will run at a time, so that they share the machine as the grid will.
    """
    # The first of a group's stacks is the largest.
    one_each = list({stack[0].group: stack for stack in reversed(plan.stacks(specs))}.values())
    paces: dict[str, Pace] = {}
    with console.status(f"measuring the training speed of {len(one_each)} kinds of run"), _pool() as workers:
        queue = deque(one_each)
        while queue or workers:
            while queue and len(workers) < plan.workers:
                workers.append(Worker(Job(tuple(queue.popleft()), None, plan.matrix_library)))
            for worker in [w for w in workers if w.has_ended()]:
                workers.remove(worker)
                said = worker.said
                if said.get("rate"):
                    pace = Pace(said["rate"], said["evaluation_seconds"], said["compiles"])
                    paces[worker.job.specs[0].group] = pace
            time.sleep(POLL_SECONDS)
    return paces


def run_locally(
    plan: Plan, store: Store, console: Console, command: str = "", fresh: bool = False, retry_failed: bool = False
) -> Outcome:
    """Run everything of the plan that has no record yet, in its stacks. A run's failure is recorded and the others go on.

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
    queue = deque(plan.stacks(spec for spec in plan.runs if spec not in outcome.kept and spec not in outcome.failed))
    if not queue:
        return outcome
    display = _Display(console, queue)
    recorder = _Recorder(store, outcome, display, command, fresh)
    with display, _pool() as workers, _sigterm_as_ctrl_c():
        try:
            while queue or workers:
                while queue and len(workers) < plan.workers:
                    stack = queue.popleft()
                    folders = tuple(store.begin(spec) for spec in stack)
                    workers.append(Worker(Job(tuple(stack), folders, plan.matrix_library)))
                for worker in list(workers):
                    if worker.has_ended():
                        recorder.settle(worker)
                        workers.remove(worker)
                    else:
                        display.update(worker)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            outcome.interrupted = True
            for worker in workers:
                # Finished in the same moment: nothing finished is lost.
                recorder.settle_finished(worker)
                worker.stop()
                for folder in worker.job.folders:
                    shutil.rmtree(folder, ignore_errors=True)
    return outcome


@dataclass
class _Recorder:
    """Turns what workers leave into records."""

    store: Store
    outcome: Outcome
    display: _Display
    command: str
    fresh: bool

    def settle(self, worker: Worker) -> None:
        """Record what became of the runs of a worker that has ended."""
        errors = worker.errors()
        for folder in worker.job.folders[1:]:
            # A full disk may keep the log from being written twice; the runs are what counts.
            with contextlib.suppress(OSError):
                shutil.copy(worker.job.folders[0] / LOG, folder)
        for run, error in enumerate(errors):
            self._settle_run(worker, run, error)

    def settle_finished(self, worker: Worker) -> None:
        """Record those runs of a worker that have finished, and no other."""
        for run, said in enumerate(worker.said_of):
            if "record" in said and worker.job.folders[run].exists():
                self._settle_run(worker, run, None)

    def _settle_run(self, worker: Worker, run: int, error: str | None) -> None:
        spec, folder, said = worker.job.specs[run], worker.job.folders[run], worker.said_of[run]
        if error is None:
            record = said["record"]
            try:
                self.store.finish(spec, folder, {"command": self.command, **record}, replace=self.fresh)
            except OSError as reason:
                error = f"The record could not be written: {reason}"
        if error is None:
            self.outcome.finished.append(spec)
            stack = f" in a stack of {record['stack']}" if record["stack"] > 1 else ""
            rate = f"{record['steps_per_second']:,.0f} steps/s{stack}"
            line = f"[green]done[/]    {escape(spec.title)}: return {said['return']:,.1f}, {rate}"
        else:
            # A full disk may keep even the failure from being written; the grid goes on and counts it.
            with contextlib.suppress(OSError):
                self.store.fail(spec, folder, error)
            self.outcome.failed.append(spec)
            line = f"[red]failed[/]  {escape(spec.title)}: {escape(error.strip().splitlines()[-1])}"
        self.display.end(worker, spec, line)


class _Display:
    """A bar for the grid, a line a job, that is a run or a stack of seeds, with its speed and the time left."""

    def __init__(self, console: Console, queue: deque[list[RunSpec]]):
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[count]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[score]}"))
        self._progress = Progress(*columns, *times, console=console, speed_estimate_period=120)
        specs = [spec for stack in queue for spec in stack]
        self._total = len(specs)
        self._ended = 0
        self._start = self._last_line = time.monotonic()
        self._steps = {spec.path: 0 for spec in specs}
        self._all_steps = sum(spec.steps for spec in specs)
        self._grid = self._progress.add_task("[bold]grid", total=self._all_steps, count=f"0/{self._total} runs", score="")
        self._lines: dict[Worker, TaskID] = {}

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for line in self._lines.values():
            self._progress.remove_task(line)
        self._progress.stop()

    def update(self, worker: Worker) -> None:
        """Show how far a job is: of a stack the steps and steps/s of all its seeds, and the mean of their returns."""
        specs, said_of = worker.job.specs, [said for said in worker.said_of if "timesteps" in said]
        if worker not in self._lines:
            total = sum(spec.steps for spec in specs)
            self._lines[worker] = self._progress.add_task(escape(title_of(specs)), total=total, count="starting", score="")
        if said_of:
            steps = sum(said["timesteps"] for said in said_of)
            rate = steps / max(*(said["train_seconds"] for said in said_of), 1e-9)
            returns = [said["return"] for said in said_of if "return" in said]
            mean = "mean return" if len(specs) > 1 else "return"
            score = f"{mean} {sum(returns) / len(returns):,.1f}" if returns else ""
            self._progress.update(self._lines[worker], completed=steps, count=f"{rate:,.0f} steps/s", score=score)
            for spec, said in zip(specs, worker.said_of, strict=True):
                self._steps[spec.path] = min(said.get("timesteps", 0), spec.steps)
            self._count()

    def end(self, worker: Worker, spec: RunSpec, line: str) -> None:
        """Print what became of a run; its job's line goes."""
        self._ended += 1
        if worker in self._lines:
            self._progress.remove_task(self._lines.pop(worker))
        self._steps[spec.path] = spec.steps
        self._count()
        self._progress.console.print(line, highlight=False)

    def _count(self) -> None:
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
