"""Runs in a process of their own, one or a stack of seeds: train, evaluate on the way, leave complete records.

``python -m benchmarks.run`` reads a job from its standard input and writes its progress to its standard output, a JSON
object a line, with ``run``, its position in the job, where it is about one of the runs; :mod:`benchmarks.executors`
starts it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure

import sb3_entropic
from benchmarks.callbacks import (
    CheckpointMoments,
    EvaluateAtPoints,
    MeasureSpeed,
    Report,
    SaveCheckpoints,
    TrainingClock,
    evaluator_of,
)
from benchmarks.checkpoint import Checkpoint, UnreadableCheckpointError
from benchmarks.plan import package_of
from benchmarks.provenance import provenance
from benchmarks.spec import RunSpec
from benchmarks.stacks import AUTO
from benchmarks.store import CHECKPOINT, remove_checkpoints
from sb3_entropic.catalog import find_algorithm, import_module
from sb3_entropic.engine.compiler import decide
from sb3_entropic.engine.gemm import fast_matrix_products
from sb3_entropic.engine.options import Engine, as_engine
from sb3_entropic.envs.registry import find_environment
from sb3_entropic.errors import HyperparameterWarning, UserError
from sb3_entropic.evaluation import MOST_STEPS
from sb3_entropic.learner import Learner
from sb3_entropic.train_seeds import train_together
from sb3_entropic.zoo import make_model

MEASURE_WARM_UP = 200
SB3 = "sb3"


@dataclass(frozen=True)
class Job:
    """What a worker process is asked for.

    :param specs: runs that differ in nothing but their seed; several are trained together
    :param folders: a folder for each to write in; ``None`` to only measure the training speed
    :param matrix_library: see :class:`benchmarks.plan.Plan`
    :param resume: environment steps after which the checkpoints were taken that the runs go on from; ``None`` to begin
    :param checkpoint_seconds: between checkpoints; by default there are none
    :param device: torch's
    :param modules: to import first, such as those that register environments
    """

    specs: tuple[RunSpec, ...]
    folders: tuple[Path, ...] | None
    matrix_library: str = AUTO
    resume: int | None = None
    checkpoint_seconds: float = math.inf
    device: str = "cpu"
    modules: tuple[str, ...] = ()

    def to_json(self) -> str:
        """For the worker's standard input, a line."""
        folders = None if self.folders is None else [str(folder) for folder in self.folders]
        return json.dumps({**vars(self), "specs": [asdict(spec) for spec in self.specs], "folders": folders})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of :meth:`to_json`."""
        content = json.loads(text)
        specs = tuple(RunSpec(**spec) for spec in content["specs"])
        folders = None if content["folders"] is None else tuple(map(Path, content["folders"]))
        return cls(**{**content, "specs": specs, "folders": folders, "modules": tuple(content["modules"])})


def execute(job: Job, report: Report, moments: CheckpointMoments | None = None) -> list[dict[str, Any]]:
    """Train and evaluate the runs of a job; returns the record of each, ``{"error": traceback}`` of one that raised.

    Writes ``evaluations.parquet`` (a row an evaluation episode: ``env``, ``label``, ``seed``, ``step``, ``timesteps``
    actually taken, ``train_seconds`` without the evaluations, ``episode_seed``, ``return``, ``length``), SB3's
    ``progress.csv`` and the final ``model.zip`` (with ``vecnormalize.pkl`` where observations are normalised).

    Runs of a stack share their time, so ``train_seconds`` is the stack's: the wall-clock seconds in which all of its seeds
    were trained, without the evaluations of any. ``steps_per_second`` is the stack's too: environment steps of all its
    seeds over these seconds. ``stack`` is the number of its seeds, 1 for a run that was trained alone.

    A run that goes on from checkpoints ends as an undisturbed one would, if the state of its environments could be kept
    (:func:`benchmarks.checkpoint.environment_state`); else the episode it was in is lost, and ``resumed`` says so of every
    time it was gone on with, and at which commit and on which device it had run before, and with what other ``versions``,
    ``machine`` and ``threads`` if they were others. All times are sums over its parts. Runs whose
    checkpoints cannot be read, perhaps since a package was upgraded, begin anew.

    :param job: with folders
    :param report: called with the progress of each run about twice a second
    :param moments: when to take checkpoints; by default every ``job.checkpoint_seconds``
    """
    try:
        return _execute(job, report, moments)
    except UnreadableCheckpointError:
        traceback.print_exc()
        print("The checkpoints cannot be read: the runs begin anew.", file=sys.stderr)
        for folder in job.folders:
            remove_checkpoints(folder)
        return _execute(replace(job, resume=None), report, moments)


def _execute(job: Job, report: Report, moments: CheckpointMoments | None) -> list[dict[str, Any]]:
    moments = moments or CheckpointMoments(job.folders, job.checkpoint_seconds)
    origin, clock, parts = {"threads": th.get_num_threads(), **provenance(_device_of(job))}, TrainingClock(), []
    for run, (spec, folder) in enumerate(zip(job.specs, job.folders, strict=True)):
        evaluate = EvaluateAtPoints(spec, partial(_report_of, report, run), clock)
        parts.append(_Part(job, spec, folder, evaluate, origin))
    models, errors, library = _train(
        job, [part.make for part in parts], [part.callback(moments) for part in parts], steps=parts[0].steps_to_go()
    )
    shared = {
        "device": str(models[0].device),
        "matrix_library": library.partition(",")[0],
        "defaults": find_algorithm(job.specs[0].algo).own_defaults,
        **origin,
    }
    records = []
    for model, error, part in zip(models, errors, parts, strict=True):
        try:
            if error is not None:
                raise error
            part.write(model)
            records.append({**_how_it_ran(model, part.evaluate, models), **part.history(), **shared})
        except Exception:
            records.append({"error": traceback.format_exc()})
    return records


class _Part:
    """A run from its beginning, or from a checkpoint, to its end."""

    def __init__(self, job: Job, spec: RunSpec, folder: Path, evaluate: EvaluateAtPoints, origin: dict[str, Any]):
        self._job, self._spec, self._folder, self._origin = job, spec, folder, origin
        self.evaluate = evaluate
        self._start, self._started = time.perf_counter(), datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._before, self._resumed, self._from = 0.0, [], None
        if job.resume is not None:
            self._from = Checkpoint(folder / f"{CHECKPOINT}{job.resume}")
            kept = self._from.extra
            self._started, self._before = kept["started"], kept["wall_seconds"]
            environment = "restored" if self._from.environment_restored else "new episode"
            part = {name: kept[name] for name in ("commit", "device") if name in kept}
            others = ("versions", "machine", "threads")
            part |= {name: kept[name] for name in others if kept.get(name, origin[name]) != origin[name]}
            part |= {"timesteps": job.resume, "environment": environment}
            self._resumed = [*kept["resumed"], part]
            evaluate.resume(kept["evaluate"])

    def steps_to_go(self) -> int:
        return self._spec.steps - (self._job.resume or 0)

    def make(self) -> BaseAlgorithm:
        model = _make(self._job, self._spec, self._folder)
        if self._from is None:
            return model
        model = self._from.load(model)
        if isinstance(model, Learner):
            # What remains may be too short for what the whole run was worth.
            engine = _engine_again(model.engine, self._from.extra["engine"])
            model.engine = replace(engine, matrix_library=self._job.matrix_library)
        return model

    def callback(self, moments: CheckpointMoments) -> BaseCallback:
        seeds = [spec.seed for spec in self._job.specs]
        return CallbackList([self.evaluate, SaveCheckpoints(self._folder, seeds, moments, self._extra, self._from)])

    def _extra(self, model: BaseAlgorithm) -> dict[str, Any]:
        used = getattr(model, "engine_used", SB3)
        where = {**self._origin, "device": str(model.device)}
        return {"evaluate": self.evaluate.state(), "engine": used, **where, **self.history()}

    def history(self) -> dict[str, Any]:
        wall = round(self._before + time.perf_counter() - self._start, 3)
        return {"started": self._started, "wall_seconds": wall, "resumed": self._resumed}

    def write(self, model: BaseAlgorithm) -> None:
        pd.DataFrame(self.evaluate.rows).to_parquet(self._folder / "evaluations.parquet", index=False)
        model.save(self._folder / "model.zip")
        if (normalize := model.get_vec_normalize_env()) is not None:
            normalize.save(str(self._folder / "vecnormalize.pkl"))


def _engine_again(engine: Engine, used: str) -> Engine:
    """The choices that an engine has made, as ``engine_used`` names them, in the place of ``"auto"``."""
    if used == SB3:
        return replace(engine, kind=SB3)
    return replace(engine, kind="fast", compile=not used.endswith("not compiled"))


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
    models, errors, _ = _train(shorter, [partial(_make, shorter, each) for each in shorter.specs], callbacks, spec.steps)
    for error in filter(None, errors):
        raise error
    evaluator, start = evaluator_of(spec), time.perf_counter()
    longest = max(episode.length for episode in evaluator.evaluate(models[0]))
    # The episodes run side by side, so an evaluation takes as long as its longest; a better policy may last to the limit.
    stretch = max(1.0, (evaluator.max_episode_steps or MOST_STEPS) / longest)
    seconds = spec.evaluations * stretch * (time.perf_counter() - start)
    rate = sum(callback.rate() for callback in callbacks)
    return {"rate": rate, "evaluation_seconds": seconds, "compiles": _will_compile(models[0], spec)}


def _will_compile(model: BaseAlgorithm, spec: RunSpec) -> bool:
    if getattr(model, "engine_used", SB3) == SB3:
        return False
    if hasattr(model, "learning_starts"):
        # The measured model may have begun to learn earlier.
        model.learning_starts = spec.hyperparameters.get("learning_starts", model.learning_starts)
    wanted = as_engine(spec.hyperparameters.get("engine", AUTO)).compile
    return decide(wanted, model.gradient_steps_between(0, spec.steps), model.device.type)[0]


def _report_of(report: Report, run: int, message: dict[str, Any]) -> None:
    report({"run": run, **message})


def _train(
    job: Job, makers: list[Callable[[], BaseAlgorithm]], callbacks: list[BaseCallback], steps: int
) -> tuple[list[BaseAlgorithm], list[Exception | None], str]:
    """Train the runs of a job; returns the models, what each raised, and the library that multiplied matrices.

    :param makers: of the models
    :param steps: environment steps to go
    """
    ours = issubclass(find_algorithm(job.specs[0].algo).constructor, Learner)
    wanted, begin = job.matrix_library, job.resume is None
    if ours and len(makers) > 1:
        models, errors = train_together(makers, steps, lambda run, _: callbacks[run], reset_num_timesteps=begin)
        # The stack has chosen for itself, in the same way; what turned out not to fit the fast engine had torch's own.
        with fast_matrix_products(models[0].policy, "torch" if models[0].engine_used == SB3 else wanted) as library:
            return models, errors, library
    models, errors, library = [], [], ""
    for make, callback in zip(makers, callbacks, strict=True):
        models.append(make())
        # Around SB3's own algorithms too: otherwise a comparison would be one of matrix libraries.
        with fast_matrix_products(models[-1].policy, wanted) as library:
            errors.append(_error_of(partial(models[-1].learn, steps, callback=callback, reset_num_timesteps=begin)))
    return models, errors, library


def _make(job: Job, spec: RunSpec, folder: Path | None = None) -> BaseAlgorithm:
    """A new model that logs to a folder; without one it is for a measurement."""
    model = make_model(find_algorithm(spec.algo), spec.env, spec.hyperparameters, seed=spec.seed, device=_device_of(job))
    if isinstance(model, Learner):
        compiled = False if folder is None else model.engine.compile
        model.engine = replace(model.engine, compile=compiled, matrix_library=job.matrix_library)
    if folder is not None:
        model.set_logger(configure(str(folder), ["csv"]))
    return model


def _device_of(job: Job) -> str:
    # On-policy algorithms gain nothing on a GPU: SB3 says so, and its users leave them on the CPU.
    return "cpu" if find_algorithm(job.specs[0].algo).is_on_policy else job.device


def _error_of(function: Callable[[], Any]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


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


def main() -> int:
    """Do the job on the first line of standard input; 0 if it was done, 1 if it raised (the last line reported tells).

    The end of standard input is the grid's: then the process ends too. SIGTERM asks for checkpoints before it does.
    Warnings go to the log, and this package's and the harness's own, such as of a full disk, to the grid as well.
    """
    job = Job.from_json(os.fdopen(0, "rb", buffering=0, closefd=False).readline())
    threading.Thread(target=_end_with_the_grid, daemon=True).start()
    # Whatever a library prints, in C too, must not be mistaken for progress.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=channel, flush=True)
        except BrokenPipeError:
            os._exit(1)

    _tell_own_warnings(report)
    try:
        th.set_num_threads(1)
        for module in job.modules:
            import_module(module)
        if job.folders is None:
            report(measure(job))
            return 0
        _check_packages(job.specs[0])
        moments = CheckpointMoments(job.folders, job.checkpoint_seconds)
        signal.signal(signal.SIGTERM, lambda *_: moments.stop())
        records = execute(job, report, moments)
        for run, record in enumerate(records):
            report({"run": run, **({"error": record["error"]} if "error" in record else {"record": record})})
        return int(any("error" in record for record in records))
    except Exception:
        report({"error": traceback.format_exc()})
        return 1


def _tell_own_warnings(report: Report) -> None:
    show, own = warnings.showwarning, (Path(__file__).parent, Path(sb3_entropic.__file__).parent)

    def show_and_tell(message: Any, category: type[Warning], filename: str, *others: Any) -> None:
        show(message, category, filename, *others)
        # Those of hyperparameters are told with the plan.
        if not issubclass(category, HyperparameterWarning) and not set(own).isdisjoint(Path(filename).parents):
            report({"run": 0, "warning": str(message)})

    warnings.showwarning = show_and_tell


def _check_packages(spec: RunSpec) -> None:
    """The files may have been edited since the grid was planned, or another machine have other versions."""
    package = package_of(find_algorithm(spec.algo), find_environment(spec.env), spec.hyperparameters)
    if package != spec.package:
        raise UserError(
            f"{spec.label} on {spec.env} is not what this grid was planned with: {spec.package} then, {package} now. The same "
            "call runs what there is now, as another algorithm."
        )


def _end_with_the_grid() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
