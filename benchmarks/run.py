"""Runs in a process of their own, one or a stack of seeds: train, evaluate on the way, leave complete records.

``python -m benchmarks.run`` reads a job from its standard input and writes its progress to its standard output, a JSON
object a line, with ``run``, its position in the job, where it is about one of the runs; :mod:`benchmarks.executors`
starts it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from benchmarks.plan import RunSpec
from benchmarks.stacks import AUTO
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.engine.compiler import decide
from sb3_entropic.engine.gemm import fast_matrix_products
from sb3_entropic.engine.lockstep import gradient_steps_to_go
from sb3_entropic.engine.options import as_engine
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.off_policy import OffPolicyLoop
from sb3_entropic.train_seeds import train_together
from sb3_entropic.zoo import env_wrapper, make_model

Report = Callable[[dict[str, Any]], None]

REPORT_EVERY = 0.5
MEASURE_SECONDS = 4.0
MEASURE_WARM_UP = 200
SB3 = "sb3"


@dataclass(frozen=True)
class Job:
    """What a worker process is asked for.

    :param specs: runs that differ in nothing but their seed; several are trained together
    :param folders: an empty folder for each to write in; ``None`` to only measure the training speed
    :param matrix_library: see :class:`benchmarks.plan.Plan`
    """

    specs: tuple[RunSpec, ...]
    folders: tuple[Path, ...] | None
    matrix_library: str = AUTO

    def to_json(self) -> str:
        """For the worker's standard input."""
        folders = None if self.folders is None else [str(folder) for folder in self.folders]
        specs = [asdict(spec) for spec in self.specs]
        return json.dumps({"specs": specs, "folders": folders, "matrix_library": self.matrix_library})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of :meth:`to_json`."""
        content = json.loads(text)
        specs = tuple(RunSpec(**spec) for spec in content["specs"])
        folders = None if content["folders"] is None else tuple(map(Path, content["folders"]))
        return cls(specs, folders, content["matrix_library"])


def execute(job: Job, report: Report) -> list[dict[str, Any]]:
    """Train and evaluate the runs of a job; returns the record of each, ``{"error": traceback}`` of one that raised.

    Writes ``evaluations.parquet`` (a row an evaluation episode: ``env``, ``label``, ``seed``, ``step``, ``timesteps``
    actually taken, ``train_seconds`` without the evaluations, ``episode_seed``, ``return``, ``length``), SB3's
    ``progress.csv`` and the final ``model.zip`` (with ``vecnormalize.pkl`` where observations are normalised).

    Runs of a stack share their time, so ``train_seconds`` is the stack's: the wall-clock seconds in which all of its seeds
    were trained, without the evaluations of any. ``steps_per_second`` is the stack's too: environment steps of all its
    seeds over these seconds. ``stack`` is the number of its seeds, 1 for a run that was trained alone.

    :param job: with folders
    :param report: called with the progress of each run about twice a second
    """
    origin, started, start = provenance(), datetime.now(timezone.utc), time.perf_counter()
    clock = TrainingClock()
    callbacks = [EvaluateAtPoints(spec, partial(_report_of, report, run), clock) for run, spec in enumerate(job.specs)]
    models, errors, library = _train(job, callbacks, job.folders)
    shared = {
        "started": started.isoformat(timespec="seconds"),
        "device": str(models[0].device),
        "threads": th.get_num_threads(),
        "matrix_library": library.partition(",")[0],
        **origin,
    }
    records = []
    for model, error, callback, folder in zip(models, errors, callbacks, job.folders, strict=True):
        try:
            if error is not None:
                raise error
            _write(model, callback, folder)
            wall = {"wall_seconds": round(time.perf_counter() - start, 3)}
            records.append({**_how_it_ran(model, callback, models), **wall, **shared})
        except Exception:
            records.append({"error": traceback.format_exc()})
    return records


def measure(job: Job) -> dict[str, Any]:
    """Training speed from a few seconds of it, and the most the evaluations of a run can take.

    Nothing is compiled, which would take longer than the measurement: a run that will be is faster than this says.

    :param job: of runs that are trained as they will be, alone or together
    :return: ``rate`` in environment steps of all its runs per second, 0 if they are too short to tell,
        ``evaluation_seconds`` of one, and ``compiles``, whether the runs will be compiled
    """
    spec = job.specs[0]
    hyperparameters = dict(spec.hyperparameters)
    if hyperparameters.get("learning_starts", 0) > MEASURE_WARM_UP:
        hyperparameters["learning_starts"] = MEASURE_WARM_UP
    shorter = replace(job, specs=tuple(replace(spec, hyperparameters=hyperparameters) for spec in job.specs))
    callbacks = [MeasureSpeed() for _ in job.specs]
    models, errors, _ = _train(shorter, callbacks, None)
    for error in filter(None, errors):
        raise error
    evaluator, start = evaluator_of(spec), time.perf_counter()
    longest = max(episode.length for episode in evaluator.evaluate(models[0]))
    # The episodes run side by side, so an evaluation takes as long as its longest; a better policy may last to the limit.
    stretch = max(1.0, (evaluator.max_episode_steps or 0) / longest)
    seconds = spec.evaluations * stretch * (time.perf_counter() - start)
    rate = sum(callback.rate() for callback in callbacks)
    return {"rate": rate, "evaluation_seconds": seconds, "compiles": _will_compile(models[0], spec)}


def _will_compile(model: BaseAlgorithm, spec: RunSpec) -> bool:
    if getattr(model, "engine_used", SB3) == SB3:
        return False
    # The measured model may have begun to learn earlier.
    model.learning_starts = spec.hyperparameters.get("learning_starts", model.learning_starts)
    wanted = as_engine(spec.hyperparameters.get("engine", AUTO)).compile
    return decide(wanted, gradient_steps_to_go(model, 0, spec.steps))[0]


def _report_of(report: Report, run: int, message: dict[str, Any]) -> None:
    report({"run": run, **message})


def _train(
    job: Job, callbacks: list[BaseCallback], folders: tuple[Path, ...] | None
) -> tuple[list[BaseAlgorithm], list[Exception | None], str]:
    """Train the runs of a job; returns the models, what each raised, and the library that multiplied matrices.

    :param folders: where each logs; ``None`` for a measurement
    """
    makers = [partial(_make, job, run, folders and folders[run]) for run in range(len(job.specs))]
    steps, ours = job.specs[0].steps, issubclass(ALGORITHMS[job.specs[0].algo].constructor, OffPolicyLoop)
    wanted = job.matrix_library == AUTO
    if ours and len(makers) > 1:
        models, errors = train_together(makers, steps, lambda run, _: callbacks[run])
        # The stack has chosen for itself, in the same way.
        with fast_matrix_products(models[0].policy, wanted) as library:
            return models, errors, library
    models, errors, library = [], [], ""
    for make, callback in zip(makers, callbacks, strict=True):
        models.append(make())
        # Around SB3's own algorithms too: otherwise a comparison would be one of matrix libraries.
        with fast_matrix_products(models[-1].policy, wanted) as library:
            errors.append(_error_of(partial(models[-1].learn, steps, callback=callback)))
    return models, errors, library


def _make(job: Job, run: int, folder: Path | None) -> BaseAlgorithm:
    spec = job.specs[run]
    model = make_model(ALGORITHMS[spec.algo], spec.env, spec.hyperparameters, seed=spec.seed, device="cpu")
    if isinstance(model, OffPolicyLoop):
        compiled = False if folder is None else model.engine.compile
        model.engine = replace(model.engine, compile=compiled, onednn=job.matrix_library == AUTO)
    if folder is not None:
        model.set_logger(configure(str(folder), ["csv"]))
    return model


def _error_of(function: Callable[[], Any]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def _write(model: BaseAlgorithm, callback: EvaluateAtPoints, folder: Path) -> None:
    pd.DataFrame(callback.rows).to_parquet(folder / "evaluations.parquet", index=False)
    model.save(folder / "model.zip")
    if (normalize := model.get_vec_normalize_env()) is not None:
        normalize.save(str(folder / "vecnormalize.pkl"))


def _how_it_ran(model: BaseAlgorithm, callback: EvaluateAtPoints, models: list[BaseAlgorithm]) -> dict[str, Any]:
    """What a record says of the run's engine and speed, with the stack it was trained in."""
    engine = getattr(model, "engine_used", SB3)
    stack = [model] if engine == SB3 else models
    seconds = max(round(callback.train_seconds, 3), 0.001)
    return {
        "engine": engine,
        "stack": len(stack),
        "timesteps": model.num_timesteps,
        "train_seconds": seconds,
        "steps_per_second": round(sum(member.num_timesteps for member in stack) / seconds, 3),
    }


def evaluator_of(spec: RunSpec) -> Evaluator:
    """The evaluation episodes of a run, in environments wrapped like those it trains in."""
    return Evaluator(spec.env, spec.episodes, spec.evaluation_seed, env_wrapper(spec.hyperparameters))


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
        self._points = [round(spec.steps * (k + 1) / spec.evaluations) for k in range(spec.evaluations)]
        self._evaluator = evaluator_of(spec)
        self._began = self._last_report = 0.0

    def _on_training_start(self) -> None:
        self._clock.start()
        self._began = self._clock.seconds()

    def _on_step(self) -> bool:
        while len(self._points) > 1 and self.num_timesteps >= self._points[0]:
            self._evaluate(self._points.pop(0))
        now = time.perf_counter()
        if now - self._last_report >= REPORT_EVERY:
            self._last_report = now
            self._report({"timesteps": self.num_timesteps, "train_seconds": self._clock.seconds() - self._began})
        return True

    def _on_training_end(self) -> None:
        for point in self._points:
            self._evaluate(point)
        self._evaluator.close()

    def _evaluate(self, step: int) -> None:
        self.train_seconds = self._clock.seconds() - self._began
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


def provenance() -> dict[str, Any]:
    """Versions, commit and machine: what a reader needs to repeat a number, and nothing about who ran it."""
    packages = (
        "sb3_entropic",
        "stable_baselines3",
        "sb3_contrib",
        "torch",
        "numpy",
        "gymnasium",
        "mujoco",
        "box2d",
        "minatar",
        "sbx_rl",
        "jax",
    )
    return {
        "versions": {"python": platform.python_version(), **{p: v for p in packages if (v := _version(p))}},
        "commit": _commit(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this checkout, marked where files differ from it; ``None`` outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def main() -> int:
    """Do the job on standard input; 0 if it was done, 1 if it raised (the traceback is the last line reported)."""
    warnings.filterwarnings("ignore")
    job = Job.from_json(sys.stdin.read())
    # Whatever a library prints, in C too, must not be mistaken for progress.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=channel, flush=True)
        except BrokenPipeError:
            # Nobody is listening: the grid was killed, and these runs will be begun again.
            os._exit(1)

    try:
        th.set_num_threads(1)
        if job.folders is None:
            report(measure(job))
            return 0
        records = execute(job, report)
        for run, record in enumerate(records):
            report({"run": run, **({"error": record["error"]} if "error" in record else {"record": record})})
        return int(any("error" in record for record in records))
    except Exception:
        report({"error": traceback.format_exc()})
        return 1


if __name__ == "__main__":
    sys.exit(main())
