"""What a user sees while a grid runs."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.executors import Worker
from benchmarks.spec import RunSpec, title_of

LINE_SECONDS = 300.0


class Display:
    """A bar for the grid, a line a job, that is a run or a stack of seeds, with its speed and the time left."""

    def __init__(self, console: Console, specs: list[RunSpec]):
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[count]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[score]}"))
        self._progress = Progress(*columns, *times, console=console, speed_estimate_period=120)
        self._total = len(specs)
        self._ended = 0
        self._start = self._last_line = time.monotonic()
        self._steps = {spec.path: 0 for spec in specs}
        self._before: dict[Path, int] = {}
        self._all_steps = sum(spec.steps for spec in specs)
        self._grid = self._progress.add_task("[bold]grid", total=self._all_steps, count=f"0/{self._total} runs", score="")
        self._lines: dict[Worker, TaskID] = {}

    def __enter__(self) -> Display:
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
                self._before.setdefault(spec.path, worker.job.resume or 0)
                self._steps[spec.path] = min(said.get("timesteps", 0), spec.steps)
            self._count()

    def end(self, spec: RunSpec, line: str) -> None:
        """Print what became of a run."""
        self._ended += 1
        # What this call has not taken, of a run that failed or that another grid has finished, says nothing of its speed.
        self._before[spec.path] = self._before.get(spec.path, 0) + spec.steps - self._steps[spec.path]
        self._steps[spec.path] = spec.steps
        self._count()
        self.say(line)

    def drop(self, worker: Worker) -> None:
        """A job's line goes."""
        if worker in self._lines:
            self._progress.remove_task(self._lines.pop(worker))

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, highlight=False)

    def _count(self) -> None:
        done, count = sum(self._steps.values()), f"{self._ended}/{self._total} runs"
        self._progress.update(self._grid, completed=done, count=count)
        now = time.monotonic()
        if not self._progress.console.is_terminal and now - self._last_line >= LINE_SECONDS:
            # A log file shows no bar, so it gets a line from time to time.
            self._last_line = now
            # What an earlier call has done took none of this one's time.
            pace = (done - sum(self._before.values())) / (now - self._start)
            left = (self._all_steps - done) / max(pace, 1e-9) / 60
            self._progress.console.print(f"{count}, {done:,} of {self._all_steps:,} steps, {left:.0f} minutes left")
