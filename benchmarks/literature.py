"""Scores that others have published: ``literature.csv`` has a row each, with where it stands and how it was measured.

They are shown beside ours, never pooled with them: nobody measures in the same way, and the table says what differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from sb3_entropic.envs.registry import without_module

TABLE = Path(__file__).parent / "literature.csv"
OUR_METRIC = "deterministic evaluation of the final model"


@dataclass(frozen=True)
class PublishedScore:
    """A score of somebody else.

    :param env: the environment id it was made on
    :param algorithm: its name there
    :param algo: the short name of the algorithm that it is to be compared with
    :param steps: environment steps; 0 where the source does not say
    :param seeds: number of runs
    :param metric: how it was measured
    :param score: the return
    :param spread: of whatever ``spread_kind`` says; may be empty
    :param spread_kind: such as ``std``
    :param hyperparameters: what is known of how they differ from the zoo's, which are ours; may be empty
    :param source: where it was published
    """

    env: str
    algorithm: str
    algo: str
    steps: int
    seeds: int
    metric: str
    score: float
    spread: str
    spread_kind: str
    hyperparameters: str
    source: str

    def differences(self, env: str, steps: int, seeds: int | None = None) -> list[str]:
        """What in how it was made is another than in a run of ours, a few words each.

        :param env: our environment id
        :param steps: our environment steps
        :param seeds: our number of seeds; ``None`` where there is nothing of ours to compare with
        """
        differ = [self.env] if self.env != without_module(env) else []
        if self.steps != steps:
            differ.append(f"{self.steps:,} steps" if self.steps else "steps not said")
        if self.seeds != seeds:
            differ.append(f"{self.seeds} seed{'s' if self.seeds != 1 else ''}")
        # Ours is over a number of episodes, theirs may be over a number of steps.
        size = self.metric.removeprefix(OUR_METRIC)
        differ += [f"evaluation{size}" if size != self.metric else self.metric] if size else []
        return differ + [self.hyperparameters] * bool(self.hyperparameters)


def published_scores(env: str) -> list[PublishedScore]:
    """What others have published of an environment, of all of its versions.

    :param env: environment id with its version
    """
    return [score for score in _scores() if _family(score.env) == _family(env)]


def _family(env: str) -> str:
    return without_module(env).rpartition("-v")[0]


@lru_cache(maxsize=1)
def _scores() -> tuple[PublishedScore, ...]:
    table = pd.read_csv(TABLE, dtype={"spread": str}).fillna(
        {"spread": "", "spread_kind": "", "hyperparameters": "", "steps": 0}
    )
    return tuple(PublishedScore(**row) for row in table.astype({"steps": int}).to_dict(orient="records"))
