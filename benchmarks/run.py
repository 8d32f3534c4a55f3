"""One run in a process of its own: train, evaluate on the way, leave a complete record.

``python -m benchmarks.run`` reads a job from its standard input and writes its progress to its standard output, a JSON
object a line; :mod:`benchmarks.executors` starts it.
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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from benchmarks.plan import RunSpec
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import env_wrapper, make_model

Report = Callable[[dict[str, Any]], None]

REPORT_EVERY = 0.5
MEASURE_SECONDS = 4.0
MEASURE_WARM_UP = 200


@dataclass(frozen=True)
class Job:
    """What a worker process is asked for.

    :param spec: the run
    :param folder: an empty folder to write in; ``None`` to only measure the training speed
    """

    spec: RunSpec
    folder: Path | None

    def to_json(self) -> str:
        """For the worker's standard input."""
        return json.dumps({"spec": asdict(self.spec), "folder": None if self.folder is None else str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of :meth:`to_json`."""
        content = json.loads(text)
        folder = content["folder"]
        return cls(RunSpec(**content["spec"]), None if folder is None else Path(folder))


def execute(spec: RunSpec, folder: Path, report: Report) -> dict[str, Any]:
    """Train and evaluate one run; returns its record.

    Writes ``evaluations.parquet`` (a row an evaluation episode: ``env``, ``label``, ``seed``, ``step``, ``timesteps``
    actually taken, ``train_seconds`` without the evaluations, ``episode_seed``, ``return``, ``length``), SB3's
    ``progress.csv`` and the final ``model.zip`` (with ``vecnormalize.pkl`` where observations are normalised).

    :param spec: the run
    :param folder: where to write
    :param report: called with the progress about twice a second
    :raises FloatingPointError: if an evaluation's return is not a finite number
    """
    origin, started, start = provenance(), datetime.now(timezone.utc), time.perf_counter()
    model = make_model(ALGORITHMS[spec.algo], spec.env, spec.hyperparameters, seed=spec.seed, device="cpu")
    model.set_logger(configure(str(folder), ["csv"]))
    callback = EvaluateAtPoints(spec, report)
    model.learn(spec.steps, callback=callback)
    pd.DataFrame(callback.rows).to_parquet(folder / "evaluations.parquet", index=False)
    model.save(folder / "model.zip")
    if (normalize := model.get_vec_normalize_env()) is not None:
        normalize.save(str(folder / "vecnormalize.pkl"))
    return {
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": round(time.perf_counter() - start, 3),
        "train_seconds": max(round(callback.train_seconds, 3), 0.001),
        "timesteps": model.num_timesteps,
        "device": str(model.device),
        "threads": th.get_num_threads(),
        **origin,
    }


def measure(spec: RunSpec) -> dict[str, float]:
    """Training speed from a few seconds of it, and the most the evaluations of the run can take.

    :param spec: the run
    :return: ``rate`` in environment steps per second, 0 if the run is too short to tell, and ``evaluation_seconds``
    """
    hyperparameters = dict(spec.hyperparameters)
    if hyperparameters.get("learning_starts", 0) > MEASURE_WARM_UP:
        hyperparameters["learning_starts"] = MEASURE_WARM_UP
    model = make_model(ALGORITHMS[spec.algo], spec.env, hyperparameters, seed=0, device="cpu")
    callback = MeasureSpeed()
    model.learn(spec.steps, callback=callback)
    evaluator, start = evaluator_of(spec), time.perf_counter()
    longest = max(episode.length for episode in evaluator.evaluate(model))
    # The episodes run side by side, so an evaluation takes as long as its longest; a better policy may last to the limit.
    stretch = max(1.0, (evaluator.max_episode_steps or 0) / longest)
    return {"rate": callback.rate(), "evaluation_seconds": spec.evaluations * stretch * (time.perf_counter() - start)}


def evaluator_of(spec: RunSpec) -> Evaluator:
    """The evaluation episodes of a run, in environments wrapped like those it trains in."""
    return Evaluator(spec.env, spec.episodes, spec.evaluation_seed, env_wrapper(spec.hyperparameters))


class EvaluateAtPoints(BaseCallback):
    """Evaluates at evenly spaced steps; at the last one, after the last update.

    :param spec: the run
    :param report: called with the progress
    """

    def __init__(self, spec: RunSpec, report: Report):
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        """One an evaluation episode."""
        self.train_seconds = 0.0
        """Seconds of training so far, without the evaluations."""
        self._spec, self._report = spec, report
        self._points = [round(spec.steps * (k + 1) / spec.evaluations) for k in range(spec.evaluations)]
        self._evaluator = evaluator_of(spec)
        self._resumed = self._last_report = 0.0

    def _on_training_start(self) -> None:
        self._resumed = time.perf_counter()

    def _on_step(self) -> bool:
        while len(self._points) > 1 and self.num_timesteps >= self._points[0]:
            self._evaluate(self._points.pop(0))
        now = time.perf_counter()
        if now - self._last_report >= REPORT_EVERY:
            self._last_report = now
            self._report({"timesteps": self.num_timesteps, "train_seconds": self.train_seconds + now - self._resumed})
        return True

    def _on_training_end(self) -> None:
        for point in self._points:
            self._evaluate(point)
        self._evaluator.close()

    def _evaluate(self, step: int) -> None:
        self.train_seconds += time.perf_counter() - self._resumed
        origin = {"env": self._spec.env, "label": self._spec.label, "seed": self._spec.seed}
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
        self._resumed = time.perf_counter()


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
        print(json.dumps(message), file=channel, flush=True)

    try:
        th.set_num_threads(1)
        if job.folder is None:
            report(measure(job.spec))
        else:
            report({"record": execute(job.spec, job.folder, report)})
        return 0
    except BrokenPipeError:
        # Nobody is listening: the grid was killed, and this run will be begun again.
        os._exit(1)
    except Exception:
        report({"error": traceback.format_exc()})
        return 1


if __name__ == "__main__":
    sys.exit(main())
