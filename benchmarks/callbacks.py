"""What happens to a run while it is trained: evaluations, checkpoints, measurements."""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.checkpoint import Checkpoint, discard_unfinished, save
from benchmarks.spec import RunSpec
from benchmarks.store import CHECKPOINT
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import env_wrapper

Report = Callable[[dict[str, Any]], None]

REPORT_EVERY = 0.5
MEASURE_SECONDS = 4.0
STOPPED = 75
"""Exit code of a process that was asked to stop, and can be gone on with."""
LEAST_SHARE = 20
"""Time between checkpoints, in times that one takes, at least."""


def evaluator_of(spec: RunSpec) -> Evaluator:
    """The evaluation episodes of a run, in environments wrapped like those it trains in."""
    return Evaluator(spec.env, spec.episodes, spec.evaluation_seed, env_wrapper(spec.hyperparameters, evaluates=True))


class TrainingClock:
    """Seconds of training in a process, which stand still while one of its runs is evaluated."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._resumed: float | None = None

    def start(self) -> None:
        """Let it run, if it does not yet."""
        if self._resumed is None:
            self._resumed = time.perf_counter()

    def seconds(self) -> float:
        """Since it was started, without the pauses."""
        return self._seconds + (0.0 if self._resumed is None else time.perf_counter() - self._resumed)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it stand still within the block."""
        self._seconds, self._resumed = self.seconds(), None
        try:
            yield
        finally:
            self.start()


class EvaluateAtPoints(BaseCallback):
    """Evaluates at evenly spaced steps; at the last one, after the last update.

    :param spec: the run
    :param report: called with the progress
    :param clock: of the process; runs that are trained together share it
    """

    def __init__(self, spec: RunSpec, report: Report, clock: TrainingClock):
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        """One an evaluation episode."""
        self.train_seconds = 0.0
        """Seconds of training up to the last evaluation, without the evaluations."""
        self._spec, self._report, self._clock = spec, report, clock
        self._points = spec.points
        self._evaluator = evaluator_of(spec)
        self._began = self._last_report = 0.0

    def seconds(self) -> float:
        """Of training so far, without the evaluations."""
        return self._clock.seconds() - self._began

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"rows": self.rows, "points": self._points, "seconds": self.seconds()}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`, before training starts."""
        self.rows, self._points, self._began = state["rows"], state["points"], -state["seconds"]

    def _on_training_start(self) -> None:
        self._clock.start()
        self._began += self._clock.seconds()

    def _on_step(self) -> bool:
        while len(self._points) > 1 and self.num_timesteps >= self._points[0]:
            self._evaluate(self._points.pop(0))
        now = time.perf_counter()
        if now - self._last_report >= REPORT_EVERY:
            self._last_report = now
            self._report({"timesteps": self.num_timesteps, "train_seconds": self.seconds()})
        return True

    def _on_training_end(self) -> None:
        for point in self._points:
            self._evaluate(point)
        self._evaluator.close()

    def _evaluate(self, step: int) -> None:
        self.train_seconds = self.seconds()
        origin = {"env": self._spec.env, "label": self._spec.label, "seed": self._spec.seed}
        with self._clock.paused():
            episodes = self._evaluator.evaluate(self.model)
        for episode in episodes:
            if not math.isfinite(episode.total_reward):
                raise FloatingPointError(f"The return of an evaluation episode at step {step} is {episode.total_reward}.")
            self.rows.append(
                {
                    **origin,
                    "step": step,
                    "timesteps": self.num_timesteps,
                    "train_seconds": round(self.train_seconds, 3),
                    "episode_seed": episode.seed,
                    "return": episode.total_reward,
                    "length": episode.length,
                }
            )
        self._report({"return": sum(episode.total_reward for episode in episodes) / len(episodes)})


class CheckpointMoments:
    """When the runs of a process are to be checkpointed: all of a stack between the same two rollouts.

    :param folders: of the runs
    :param seconds: between checkpoints; more where taking one lasts longer than a twentieth of that
    """

    def __init__(self, folders: Sequence[Path], seconds: float):
        self._stopping = False
        self._folders, self._seconds = folders, seconds
        self._next = math.inf
        self._began = 0.0
        self._steps, self._now = -1, False

    def stop(self) -> None:
        """Checkpoint as soon as that can be, and, a rollout later, raise ``SystemExit`` with the code :data:`STOPPED`."""
        self._stopping = True

    def is_now(self, steps: int) -> bool:
        """Whether the run that asks is to be checkpointed.

        :param steps: environment steps it has taken
        """
        if self._steps < 0:
            self._next = time.perf_counter() + self._seconds
        if steps != self._steps:
            # The first of the stack to ask: of the last rollout everyone has had a turn.
            if self._now:
                self._keep_only(self._steps)
                self._next = time.perf_counter() + max(self._seconds, LEAST_SHARE * (time.perf_counter() - self._began))
                if self._stopping:
                    raise SystemExit(STOPPED)
            self._began = time.perf_counter()
            self._steps, self._now = steps, self._stopping or self._began >= self._next
        return self._now

    def _keep_only(self, steps: int) -> None:
        for folder in self._folders:
            for path in folder.glob(f"{CHECKPOINT}*"):
                if path.name != f"{CHECKPOINT}{steps}" and (folder / f"{CHECKPOINT}{steps}").exists():
                    shutil.rmtree(path)


class SaveCheckpoints(BaseCallback):
    """Checkpoints a run when its moment has come.

    :param folder: of the run
    :param seeds: of the runs that are trained together
    :param moments: of the process
    :param extra: what to keep besides the model and its surroundings; called each time
    :param resumed: the checkpoint that this run goes on from
    """

    def __init__(
        self,
        folder: Path,
        seeds: Sequence[int],
        moments: CheckpointMoments,
        extra: Callable[[BaseAlgorithm], Any],
        resumed: Checkpoint | None,
    ):
        super().__init__()
        self._folder, self._seeds, self._moments, self._extra, self._resumed = folder, seeds, moments, extra, resumed

    def _on_training_start(self) -> None:
        if self._resumed is not None:
            self._resumed.training_starts(self.model)

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            self._resumed.first_rollout_starts(self.model, self.locals.get("generator"))
            self._resumed = None
        steps = self.model.num_timesteps
        folder = self._folder / f"{CHECKPOINT}{steps}"
        # Stopped before its first step, a run has the checkpoint that it was to go on from.
        if self._moments.is_now(steps) and not folder.exists():
            try:
                save(folder, self.model, self._seeds, self.locals.get("generator"), self._extra(self.model))
            except OSError as error:
                # A full disk is no reason to end what is to be protected; the checkpoint before is still there.
                discard_unfinished(folder)
                warnings.warn(f"no checkpoint could be written ({error})", stacklevel=1)

    def _on_step(self) -> bool:
        return True


class MeasureSpeed(BaseCallback):
    """Times whole cycles of collecting and updating, from the end of the first update, for a few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._start: float | None = None
        self._first = self._last = 0
        self._seconds = 0.0

    def rate(self) -> float:
        """Environment steps per second; 0 if there was no whole cycle."""
        return (self._last - self._first) / self._seconds if self._seconds else 0.0

    def _on_rollout_start(self) -> None:
        if self.model._n_updates == 0:
            return
        now = time.perf_counter()
        if self._start is None:
            self._start, self._first = now, self.num_timesteps
        self._seconds, self._last = now - self._start, self.num_timesteps

    def _on_step(self) -> bool:
        return self._seconds < MEASURE_SECONDS
