"""The data of a report: a table for every environment and number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.literature import PublishedScore, published_scores
from benchmarks.normalisation import Scale
from benchmarks.report.cautions import FEW_SEEDS, NOT_RECORDED, false_call_rate
from benchmarks.statistics import Aggregate, Estimate, performance_profile, probability_of_improvement
from sb3_entropic.catalog import ALGORITHMS, STAND_INS
from sb3_entropic.engine.gemm import ROUNDED
from sb3_entropic.zoo import from_python, load_hyperparameters


@dataclass(frozen=True)
class Pair:
    """Two algorithms that are compared.

    :param x: label of the one
    :param y: label of the other
    :param improvement: the probability that a run of X scores above one of Y
    :param last_quarter: the same of the runs' means over the last quarter of their evaluations; ``None`` over several
        environments
    """

    x: str
    y: str
    improvement: Estimate
    last_quarter: Estimate | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One algorithm of a table.

    :param label: the algorithm, with the hyperparameters that were overridden; unique in its table
    :param name: the label without what makes it unique
    :param variant: the name without overrides that change nothing
    :param algo: the algorithm's short name
    :param package: what implements it, with the version
    :param seeds: the seeds that finished
    :param scores: final evaluation return of each of them
    :param last_quarter_scores: mean return of each of them over the last quarter of its evaluations
    :param summary: their aggregate; ``None`` if every run failed
    :param last_quarter: the interquartile mean of ``last_quarter_scores``; ``None`` if every run failed
    :param normalised: the aggregate of the normalised scores; ``None`` where the environment has no scale
    :param steps_per_second: environment steps per second of training, the median over runs; of a run that was trained in a
        stack, the steps of all its seeds
    :param failures: number of runs that ended in an error
    :param curve: columns ``step``, ``iqm``, ``low``, ``high``; an evaluation that was late is at the steps taken until then
    :param curve_in_time: columns ``seconds`` of training, ``iqm``, ``low``, ``high``; of a run that was trained in a stack,
        its share of the stack's seconds
    :param provenance: what the finished runs record of their origin, each a sorted list of the distinct values:
        ``commit``, ``versions``, ``defaults`` of our arguments, ``machine``, ``threads``, ``device``, ``command``,
        ``engine``, ``matrix_library``, ``stack``, ``started``; ``resumed``, in what of the environment after an
        interruption, ``restored`` or ``new episode``; ``hours``, their wall time in all; and ``hyperparameters``
    :param overshoot: environment steps actually taken, where they are over 1 % more than the run asked for; else 0
    :param ended: when the last of its runs failed, in ISO 8601, if all did
    """

    label: str
    name: str
    variant: str
    algo: str
    package: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    last_quarter_scores: tuple[float, ...]
    summary: Aggregate | None
    last_quarter: Estimate | None
    normalised: Aggregate | None
    steps_per_second: float
    failures: int
    curve: pd.DataFrame
    curve_in_time: pd.DataFrame
    provenance: dict[str, Any]
    overshoot: int = 0
    ended: str = ""

    @property
    def last_started(self) -> str:
        """When the last of its runs was started, or had failed if all have, in ISO 8601; empty where no record says."""
        return max((date for date in self.provenance.get("started", ()) if date != NOT_RECORDED), default=self.ended)


class Beside(NamedTuple):
    """Somebody else's score beside ours.

    :param published: theirs
    :param row: ours, of the same algorithm with nothing overridden, or with its losses; ``None`` if there is none
    :param differences: what in how theirs was made is another than in ours, a few words each
    """

    published: PublishedScore
    row: Row | None
    differences: tuple[str, ...]


class Failure(NamedTuple):
    """A run that ended in an error.

    :param run: label and seed
    :param error: the last line of the traceback
    :param traceback: all of it
    """

    run: str
    error: str
    traceback: str


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """One table: algorithms on one environment after the same number of steps, the best IQM first.

    :param env: environment id with its version
    :param steps: environment steps
    :param episodes: episodes of an evaluation
    :param rows: the algorithms
    :param cautions: what a reader must know before believing the table, a sentence each
    :param failures: every run that failed
    :param scale: of the normalised scores; ``None`` where the environment has none
    :param pairs: every algorithm beside its parent, or the pairs that were chosen
    :param evaluation_seed: of the first of the episodes
    """

    env: str
    steps: int
    episodes: int
    rows: tuple[Row, ...]
    cautions: tuple[str, ...]
    failures: tuple[Failure, ...]
    scale: Scale | None
    pairs: tuple[Pair, ...]
    evaluation_seed: int

    @property
    def ranked(self) -> list[Row]:
        """The rows that have scores."""
        return [row for row in self.rows if row.summary]

    @cached_property
    def literature(self) -> list[Beside]:
        """What others have published of the table's algorithms, or of their parents, on this environment."""
        algos = {row.algo for row in self.rows}
        algos |= {ALGORITHMS[algo].parent for algo in algos & ALGORITHMS.keys()}
        beside = []
        for score in published_scores(self.env):
            if score.algo in algos:
                row = next((row for row in self.ranked if row.variant == score.algo), None)
                row = row or next((row for row in self.ranked if STAND_INS.get(row.variant) == score.algo), None)
                seeds = len(row.scores) if row else None
                differences = score.differences(self.env, self.steps, seeds) + (_departures(row, self.env) if row else [])
                beside.append(Beside(score, row, tuple(differences)))
        # What was trained as long as ours comes first.
        return sorted(beside, key=lambda each: each.published.steps != self.steps)

    @cached_property
    def profiles(self) -> dict[str, pd.DataFrame]:
        """By label, the share of runs above a return, at the row's own scores and a little beyond everyone's.

        Between two of these thresholds share and interval stay as they are at the lower one. The columns are those of
        :func:`~benchmarks.statistics.performance_profile`.
        """
        scores = [score for row in self.rows for score in row.scores]
        beyond = (0.03 * np.ptp(scores) if scores else 0.0) or 1.0
        return {
            row.label: performance_profile(
                {self.env: row.scores}, np.unique([min(scores) - beyond, *row.scores, max(scores) + beyond])
            )
            for row in self.ranked
        }

    @cached_property
    def improvements(self) -> dict[tuple[str, str], Estimate]:
        """By two labels, how often a run of the first scores above one of the second."""
        estimates = {}
        for x, y in combinations(self.ranked, 2):
            estimate = probability_of_improvement({self.env: x.scores}, {self.env: y.scores})
            estimates[x.label, y.label] = estimate
            estimates[y.label, x.label] = estimate.of_the_opposite()
        return estimates

    def is_called(self, x: str, y: str) -> bool:
        """Whether the interval of two labels' :attr:`improvements` excludes one half, of seeds enough that did not fail."""
        enough = {row.label for row in self._may_be_called}
        return {x, y} <= enough and self.improvements[x, y].excludes(0.5)

    @property
    def calls_of_equals(self) -> tuple[int, float]:
        """How many pairs could be called, and how many of them would be if no algorithm differed from another."""
        pairs = [*combinations((len(row.scores) for row in self._may_be_called), 2)]
        return len(pairs), sum(false_call_rate(min(pair)) for pair in pairs)

    @property
    def _may_be_called(self) -> list[Row]:
        return [row for row in self.ranked if len(row.scores) >= FEW_SEEDS and not row.failures]


def _departures(row: Row, env: str) -> list[str]:
    """What a row of ours has other than the zoo's entry has, or SB3, a few words each."""
    theirs = load_hyperparameters(ALGORITHMS[STAND_INS.get(row.variant, row.algo)], env)
    pairs = zip(_cut(row.provenance["hyperparameters"]).items(), _cut(theirs).values(), strict=True)
    departures = [f"ours {name} {a} for {b}" for (name, a), b in pairs if a != b and b is not None]
    departures += ["ours our loop"] if row.variant in STAND_INS else []
    rounded = [name for name, words in ROUNDED.items() if words in row.provenance["matrix_library"]]
    return departures + [f"ours {name} matrix products" for name in rounded]


def _cut(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """What a budget may cut of them, see ``protocols.yml``."""
    policy_kwargs = from_python(hyperparameters.get("policy_kwargs"))
    cut = {name: hyperparameters.get(name) for name in ("learning_starts", "n_steps")}
    return {**cut, "n_quantiles": policy_kwargs.get("n_quantiles") if isinstance(policy_kwargs, dict) else None}
