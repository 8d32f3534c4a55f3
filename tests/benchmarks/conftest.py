"""Records of runs that never ran, for the tests that need many."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.spec import RunSpec
from benchmarks.store import Store


@pytest.fixture
def make_spec():
    def make(**changes):
        content = {
            "env": "Pendulum-v1",
            "algo": "msac",
            "label": "msac",
            "seed": 0,
            "steps": 100,
            "evaluations": 2,
            "episodes": 3,
            "evaluation_seed": 10_000,
            "hyperparameters": {},
            "package": "sb3_entropic 0.1.0",
        }
        # A label begins with its algorithm.
        named = {"algo": changes["label"].partition("[")[0]} if "label" in changes else {}
        return RunSpec(**{**content, **named, **changes})

    return make


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def finish(store):
    """:func:`finish_run` in ``store``."""

    def finish(spec, means, seconds=10.0, **record):
        finish_run(store, spec, means, seconds, **record)

    return finish


def finish_run(store, spec, means, seconds=10.0, **record):
    """Finish a run whose evaluations have the given mean returns."""
    folder = store.begin(spec)
    steps = [round(spec.steps * (k + 1) / len(means)) for k in range(len(means))]
    offsets = np.arange(spec.episodes) - (spec.episodes - 1) / 2
    rows = [
        {
            "env": spec.env,
            "label": spec.label,
            "seed": spec.seed,
            "step": step,
            "timesteps": step,
            "train_seconds": seconds * step / spec.steps,
            "episode_seed": spec.evaluation_seed + episode,
            "return": mean + offset,
        }
        for step, mean in zip(steps, means, strict=True)
        for episode, offset in enumerate(offsets)
    ]
    pd.DataFrame(rows).to_parquet(folder / "evaluations.parquet", index=False)
    store.finish(spec, folder, {"timesteps": spec.steps, "train_seconds": seconds, **record})
