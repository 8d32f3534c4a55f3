"""One run in a process of its own: train, evaluate on the way, leave a complete record.

``python -m benchmarks.run`` reads a job from its standard input and writes its progress to its standard output, a JSON
object a line; :mod:`benchmarks.executors` starts it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.plan import RunSpec

Report = Callable[[dict[str, Any]], None]

REPORT_EVERY = 0.5
MEASURE_SECONDS = 4.0


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
        return json.dumps({"spec": self.spec.__dict__, "folder": None if self.folder is None else str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of :meth:`to_json`."""
        content = json.loads(text)
        folder = content["folder"]
        return cls(RunSpec(**content["spec"]), None if folder is None else Path(folder))


def execute(spec: RunSpec, folder: Path, report: Report) -> dict[str, Any]:
    """Train and evaluate one run; returns its record.

    Writes ``evaluations.parquet`` (a row an evaluation episode: ``step``, ``timesteps`` actually taken,
    ``train_seconds`` without the evaluations, ``episode_seed``, ``return``, ``length``), SB3's ``progress.csv`` and the
    final ``model.zip``.

    :param spec: the run
    :param folder: where to write
    :param report: called with the progress about twice a second
    """
    import pandas as pd
    import torch as th
    from stable_baselines3.common.logger import configure

    from sb3_entropic.catalog import ALGORITHMS
    from sb3_entropic.zoo import make_model

    started, start = datetime.now(timezone.utc), time.perf_counter()
    model = make_model(ALGORITHMS[spec.algo], spec.env, spec.hyperparameters, seed=spec.seed, device="cpu")
    model.set_logger(configure(str(folder), ["csv"]))
    callback = _evaluation_callback(spec, report)
    model.learn(spec.steps, callback=callback)
    rows = pd.DataFrame(callback.rows)
    # The columns that say which run a row is from, so that tables of many runs can be put together as they are.
    for name, value in (("seed", spec.seed), ("label", spec.label), ("env", spec.env)):
        rows.insert(0, name, value)
    rows.to_parquet(folder / "evaluations.parquet", index=False)
    model.save(folder / "model.zip")
    return {
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": round(time.perf_counter() - start, 3),
        "train_seconds": round(callback.train_seconds(), 3),
        "timesteps": model.num_timesteps,
        "device": str(model.device),
        "threads": th.get_num_threads(),
        **provenance(),
    }


def measure(spec: RunSpec) -> float:
    """Environment steps per second of training, from a few seconds of it after the warm-up."""
    from sb3_entropic.catalog import ALGORITHMS
    from sb3_entropic.zoo import make_model

    hyperparameters = dict(spec.hyperparameters)
    if hyperparameters.get("learning_starts", 0) > 200:
        hyperparameters["learning_starts"] = 200
    model = make_model(ALGORITHMS[spec.algo], spec.env, hyperparameters, seed=0, device="cpu")
    callback = _speed_callback()
    model.learn(spec.steps, callback=callback)
    return callback.rate()


def provenance() -> dict[str, Any]:
    """Versions, commit and machine: what a reader needs to repeat a number, and nothing about who ran it."""
    packages = ("sb3_entropic", "stable_baselines3", "sb3_contrib", "torch", "numpy", "gymnasium", "mujoco", "box2d")
    return {
        "versions": {"python": platform.python_version(), **{p: v for p in packages if (v := _version(p))}},
        "commit": _commit(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
    }


def _evaluation_callback(spec: RunSpec, report: Report) -> Any:
    from stable_baselines3.common.callbacks import BaseCallback

    from sb3_entropic.evaluation import Evaluator

    class EvaluateAtPoints(BaseCallback):
        """Evaluates at evenly spaced steps; at the last one, after the last update."""

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[dict[str, Any]] = []
            self._points = [round(spec.steps * (k + 1) / spec.evaluations) for k in range(spec.evaluations)]
            self._evaluator = Evaluator(spec.env, spec.episodes, spec.evaluation_seed)
            self._evaluating = 0.0
            self._last_report = 0.0

        def train_seconds(self) -> float:
            return time.perf_counter() - self._start - self._evaluating

        def _on_training_start(self) -> None:
            self._start = time.perf_counter()

        def _on_step(self) -> bool:
            while len(self._points) > 1 and self.num_timesteps >= self._points[0]:
                self._evaluate(self._points.pop(0))
            now = time.perf_counter()
            if now - self._last_report >= REPORT_EVERY:
                self._last_report = now
                report({"timesteps": self.num_timesteps, "train_seconds": self.train_seconds()})
            return True

        def _on_training_end(self) -> None:
            for point in self._points:
                self._evaluate(point)
            self._evaluator.close()

        def _evaluate(self, step: int) -> None:
            train_seconds, before = self.train_seconds(), time.perf_counter()
            for episode in self._evaluator.evaluate(self.model):
                self.rows.append(
                    {
                        "step": step,
                        "timesteps": self.num_timesteps,
                        "train_seconds": round(train_seconds, 3),
                        "episode_seed": episode.seed,
                        "return": episode.total_reward,
                        "length": episode.length,
                    }
                )
            returns = [row["return"] for row in self.rows if row["step"] == step]
            report({"return": sum(returns) / len(returns)})
            self._evaluating += time.perf_counter() - before

    return EvaluateAtPoints()


def _speed_callback() -> Any:
    from stable_baselines3.common.callbacks import BaseCallback

    class MeasureSpeed(BaseCallback):
        """Times whole cycles of collecting and updating, from the end of the first update."""

        _start = _first = _last = 0.0
        _seconds = 0.0

        def rate(self) -> float:
            return (self._last - self._first) / self._seconds if self._seconds else 0.0

        def _on_rollout_start(self) -> None:
            if getattr(self.model, "_n_updates", 0) == 0:
                return
            now = time.perf_counter()
            if not self._start:
                self._start, self._first = now, self.num_timesteps
            self._seconds, self._last = now - self._start, self.num_timesteps

        def _on_step(self) -> bool:
            return self._seconds < MEASURE_SECONDS

    return MeasureSpeed()


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
    # Whatever a library prints must not be mistaken for progress.
    channel, sys.stdout = sys.stdout, sys.stderr

    def report(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=channel, flush=True)

    try:
        import torch as th

        th.set_num_threads(1)
        if job.folder is None:
            report({"rate": measure(job.spec)})
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
