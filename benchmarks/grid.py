"""Carry out a plan: start its jobs, keep what they leave, go on where an earlier call or a lost job has stopped."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.markup import escape

from benchmarks.checkpoint import seeds_of
from benchmarks.display import Display
from benchmarks.executors import Executor, Worker
from benchmarks.executors.local import LOG, LocalExecutor
from benchmarks.plan import Plan
from benchmarks.run import Job
from benchmarks.spec import RunSpec, title_of
from benchmarks.store import Claim, Store

POLL_SECONDS = 0.1
STOP_SECONDS = 300.0
"""How long a stopped job may take to save where it is: a rollout of a slow environment, or an evaluation."""
ATTEMPTS = 3
"""Times that a job is started whose worker is killed, or whose machine is lost, without getting any further."""


@dataclass
class Outcome:
    """What became of a grid's runs.

    :param finished: runs that finished in this call
    :param kept: runs that were finished before it, or by another grid meanwhile
    :param failed: runs that ended in an error, in this call or before it
    :param interrupted: whether the grid was stopped before its end
    """

    finished: list[RunSpec] = field(default_factory=list)
    kept: list[RunSpec] = field(default_factory=list)
    failed: list[RunSpec] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class Unit:
    """Runs for one job.

    :param specs: that differ in nothing but their seed
    :param resume: environment steps at their checkpoints; ``None`` to begin
    :param attempts: how often it may still be started
    """

    specs: list[RunSpec]
    resume: int | None = None
    attempts: int = ATTEMPTS

    @property
    def steps_to_go(self) -> int:
        """Environment steps, of all its runs."""
        return sum(spec.steps - (self.resume or 0) for spec in self.specs)


def units_of(plan: Plan, store: Store, todo: Iterable[RunSpec], fresh: bool = False) -> list[Unit]:
    """Runs that are to do as jobs: first those that go on from checkpoints, together with those they were together with.

    :param plan: the grid
    :param store: where the checkpoints are
    :param todo: those of its runs that are not finished
    :param fresh: begin all of them
    """
    left = list(todo)
    if fresh:
        return [Unit(stack) for stack in plan.stacks(left)]
    together: dict[tuple[str, tuple[int, ...], int], list[RunSpec]] = defaultdict(list)
    for spec in left:
        for steps, path in store.checkpoints(spec).items():
            with contextlib.suppress(OSError, ValueError):
                together[spec.group, seeds_of(path), steps].append(spec)
    units = []
    # A stack that was killed while it wrote checkpoints has the latest of some seeds, and the one before of all.
    for key in sorted(together, key=lambda key: (len(together[key]), key[-1]), reverse=True):
        members = [spec for spec in together[key] if spec in left]
        if members:
            units.append(Unit(members, resume=key[-1]))
            left = [spec for spec in left if spec not in members]
    return units + [Unit(stack) for stack in plan.stacks(left)]


def run_grid(
    plan: Plan,
    store: Store,
    console: Console,
    command: str = "",
    fresh: bool = False,
    retry_failed: bool = False,
    executor: Executor | None = None,
    checkpoint_seconds: float = math.inf,
) -> Outcome:
    """Run everything of the plan that has no record yet, in its stacks. A run's failure is recorded and the others go on.

    Ctrl-C or SIGTERM lets the runs that are under way take checkpoints; the next call goes on from these, as it does from
    the latest ones after a crash. A second Ctrl-C ends them at once. What another grid is working on in the same folder is
    left to it, and waited for.

    :param plan: the grid
    :param store: where records are and go
    :param console: for the progress
    :param command: what the user called, kept in every record
    :param fresh: run everything from its beginning; an earlier record is replaced when its run has finished again
    :param retry_failed: run those again that failed before
    :param executor: by default processes on this machine; closed in the end
    :param checkpoint_seconds: between checkpoints of a run; by default it has them only where it is stopped in order
    """
    store.sweep()
    grid = _Grid(plan, store, console, command, fresh, retry_failed, executor or LocalExecutor(), checkpoint_seconds)
    outcome = grid.outcome
    outcome.kept = [spec for spec in plan.runs if store.is_finished(spec) and not fresh]
    if not (fresh or retry_failed):
        outcome.failed = [spec for spec in plan.runs if store.has_failed(spec)]
    todo = [spec for spec in plan.runs if spec not in outcome.kept and spec not in outcome.failed]
    if todo:
        grid.run(todo)
    return outcome


class _Grid:
    """A call of :func:`run_grid`."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        console: Console,
        command: str,
        fresh: bool,
        retry_failed: bool,
        executor: Executor,
        checkpoint_seconds: float,
    ):
        self.outcome = Outcome()
        self._plan, self._store, self._console = plan, store, console
        self._command, self._checkpoint_seconds = command, checkpoint_seconds
        self._fresh, self._retry_failed = fresh, retry_failed
        self._executor = executor
        self._queue: deque[Unit] = deque()
        self._under_way: dict[Worker, tuple[Unit, Claim]] = {}
        self._waited = False
        self._warned: set[str] = set()

    def run(self, todo: Sequence[RunSpec]) -> None:
        self._queue.extend(units_of(self._plan, self._store, todo, self._fresh))
        self._display = Display(self._console, list(todo))
        with self._display, _sigterm_as_ctrl_c():
            for unit in self._queue:
                if unit.resume is not None:
                    self._display.say(f"going on  {escape(title_of(unit.specs))}: from step {unit.resume:,}")
            try:
                while self._queue or self._under_way:
                    self._start_what_can_be()
                    self._look()
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                self.outcome.interrupted = True
                self._stop()
            finally:
                for worker, (_, claim) in self._under_way.items():
                    worker.stop()
                    claim.release()
                self._executor.close()

    def _units(self, todo: Sequence[RunSpec]) -> list[Unit]:
        return units_of(self._plan, self._store, todo)

    def _start_what_can_be(self) -> None:
        for _ in range(len(self._queue)):
            if len(self._under_way) >= self._plan.workers:
                return
            unit = self._queue.popleft()
            try:
                claim = self._store.claim(unit.specs)
            except OSError as error:
                self._cannot_begin(unit, error)
                continue
            if claim is None:
                self._queue.append(unit)
                self._say_that_it_waits(unit)
                continue
            again = self._as_it_is_now(unit)
            if len(again) != 1:
                # All of it is done, or it has come apart: parts of it have got further than others.
                claim.release()
                self._queue.extendleft(again)
                continue
            (mine,) = again
            try:
                folders = tuple(self._store.begin(spec, resume=mine.resume is not None) for spec in mine.specs)
            except OSError as error:
                claim.release()
                self._cannot_begin(mine, error)
                continue
            plan, seconds = self._plan, self._checkpoint_seconds
            job = Job(tuple(mine.specs), folders, plan.matrix_library, mine.resume, seconds, plan.device, plan.modules)
            self._under_way[self._executor.start(job, claim)] = mine, claim

    def _cannot_begin(self, unit: Unit, error: OSError) -> None:
        """Count runs as failed for which there is no place; the others go on."""
        for spec in unit.specs:
            self.outcome.failed.append(spec)
            self._display.end(spec, f"[red]failed[/]    {escape(spec.title)}: it cannot be written: {escape(str(error))}")

    def _as_it_is_now(self, unit: Unit) -> list[Unit]:
        """A unit that is claimed, without what another grid has done since it was planned, and from where that has stopped."""
        if self._fresh:
            return [unit]
        left = []
        for spec in unit.specs:
            if self._store.is_finished(spec):
                self.outcome.kept.append(spec)
                self._display.end(spec, f"kept      {escape(spec.title)}: finished by another grid")
            elif self._store.has_failed(spec) and not self._retry_failed:
                self.outcome.failed.append(spec)
                self._display.end(spec, f"[red]failed[/]    {escape(spec.title)}: in another grid")
            else:
                left.append(spec)
        return [replace(each, attempts=unit.attempts) for each in self._units(left)]

    def _say_that_it_waits(self, unit: Unit) -> None:
        if not self._waited and not self._under_way:
            self._waited = True
            self._display.say(f"waiting   {escape(title_of(unit.specs))}: another grid in this folder works on it")

    def _look(self) -> None:
        for worker, (unit, claim) in list(self._under_way.items()):
            ended = worker.has_ended()
            self._warn(worker)
            if not ended:
                self._display.update(worker)
                continue
            self._display.drop(worker)
            self._settle(worker, unit)
            # Only now, so that Ctrl-C on the way leaves it to be settled.
            del self._under_way[worker]
            claim.release()

    def _warn(self, worker: Worker) -> None:
        """Say what runs have warned of, such as that no checkpoint could be written, once in a grid."""
        for spec, said in zip(worker.job.specs, worker.said_of, strict=True):
            if (warning := said.get("warning")) is not None and warning not in self._warned:
                self._warned.add(warning)
                self._display.say(f"[yellow]warning[/]   {escape(spec.title)}: {escape(warning)}")

    def _settle(self, worker: Worker, unit: Unit) -> None:
        """Record what became of the runs of a worker that has ended, or see that they are begun again."""
        errors = worker.errors()
        for folder in worker.job.folders[1:]:
            # A full disk may keep the log from being written twice; the runs are what counts.
            with contextlib.suppress(OSError):
                shutil.copy(worker.job.folders[0] / LOG, folder)
        lost: dict[int, str] = {}
        for run, error in enumerate(errors):
            # One that has raised by itself would again.
            if error is not None and worker.was_lost() and "error" not in worker.said_of[run] and unit.attempts > 1:
                lost[run] = error.strip().splitlines()[-1]
            else:
                self._settle_run(worker, run, error)
        if lost:
            specs = [unit.specs[run] for run in lost]
            self._display.say(f"[yellow]lost[/]      {escape(title_of(specs))}: {next(iter(lost.values()))} Again.")
            for each in self._units(specs):
                further = (each.resume or 0) > (unit.resume or 0)
                self._queue.appendleft(replace(each, attempts=ATTEMPTS if further else unit.attempts - 1))

    def _settle_run(self, worker: Worker, run: int, error: str | None) -> None:
        spec, folder, said = worker.job.specs[run], worker.job.folders[run], worker.said_of[run]
        if error is None:
            record = said["record"]
            try:
                self._store.finish(spec, folder, {"command": self._command, **record}, replace=self._fresh)
            except OSError as reason:
                error = f"The record could not be written: {reason}"
        if error is None:
            self.outcome.finished.append(spec)
            stack = f" in a stack of {record['stack']}" if record["stack"] > 1 else ""
            rate = f"{record['steps_per_second']:,.0f} steps/s{stack}"
            line = f"[green]done[/]      {escape(spec.title)}: return {said['return']:,.1f}, {rate}"
        else:
            # A full disk may keep even the failure from being written; the grid goes on and counts it.
            with contextlib.suppress(OSError):
                self._store.fail(spec, folder, error)
            self.outcome.failed.append(spec)
            line = f"[red]failed[/]    {escape(spec.title)}: {escape(error.strip().splitlines()[-1])}"
        self._display.end(spec, line)

    def _stop(self) -> None:
        """Let every job save where it is, which it does between two rollouts; not for ever."""
        for worker in self._under_way:
            worker.ask_to_stop()
        self._display.say("Stopping: what is under way saves where it is. Ctrl-C again ends it at once.")
        end = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt):
            while self._under_way and time.monotonic() < end:
                for worker, (_, claim) in list(self._under_way.items()):
                    ended = worker.has_ended()
                    self._warn(worker)
                    if ended:
                        self._keep_finished(worker)
                        del self._under_way[worker]
                        claim.release()
                time.sleep(POLL_SECONDS)
        for worker, (unit, _) in self._under_way.items():
            worker.stop()
            self._warn(worker)
            self._keep_finished(worker)
            if not all("record" in said for said in worker.said_of):
                title = escape(title_of(unit.specs))
                self._display.say(f"not saved {title}: it goes on from its last checkpoint, if it has one")

    def _keep_finished(self, worker: Worker) -> None:
        """Record those runs of a stopped worker that have finished, and no other."""
        for run, said in enumerate(worker.said_of):
            if "record" in said and worker.job.folders[run].exists():
                self._settle_run(worker, run, None)


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
