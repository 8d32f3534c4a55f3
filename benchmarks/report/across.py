"""Algorithms over several environments, by their normalised scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.report.cautions import cautions_on
from benchmarks.report.leaderboard import Leaderboard, Pair, Row
from benchmarks.statistics import Aggregate, Estimate, Scores, aggregate, performance_profile, probability_of_improvement

THRESHOLDS = 101
ENOUGH = 10
"""So many environments are ranked by the IQM of all their runs, as is usual; of fewer it can be blind to a whole one."""


@dataclass(frozen=True, eq=False)
class AcrossRow:
    """One algorithm of a table over several environments.

    :param label: the algorithm, with the hyperparameters that were overridden
    :param scores: normalised final scores, one a seed, by task
    :param summary: their aggregate
    :param profile: their performance profile: columns ``threshold``, ``share``, ``low``, ``high``
    """

    label: str
    scores: Scores
    summary: Aggregate
    profile: pd.DataFrame

    @property
    def score(self) -> Estimate:
        """What ranks it: the mean over the environments, from :data:`ENOUGH` of them on the IQM."""
        return self.summary.mean if self.summary.tasks < ENOUGH else self.summary.iqm


@dataclass(frozen=True, eq=False)
class Across:
    """Algorithms over the environments that they were all run on, the best first.

    :param boards: the tables of these environments
    :param rows: the algorithms
    :param pairs: those that the tables compare, over all environments
    :param cautions: what a reader must know before believing the table, a sentence each
    """

    boards: tuple[Leaderboard, ...]
    rows: tuple[AcrossRow, ...]
    pairs: tuple[Pair, ...]
    cautions: tuple[str, ...]

    @property
    def ranked_by(self) -> str:
        """The name of :attr:`AcrossRow.score`."""
        return "mean" if len(self.boards) < ENOUGH else "IQM"


def build_across(boards: Sequence[Leaderboard]) -> list[Across]:
    """A table for each set of two or more environments that an algorithm was run on, the largest first.

    It has all the algorithms with scores on every one of them. An environment takes part if it has a scale, with the table
    of its longest runs.

    :param boards: the tables of single environments
    """
    longest: dict[str, Leaderboard] = {}
    for board in sorted(boards, key=lambda board: (board.steps, len(board.rows))):
        if board.scale is not None and any(row.scores for row in board.rows):
            longest[board.env] = board
    environments: dict[str, set[str]] = defaultdict(set)
    for board in longest.values():
        for row in board.rows:
            if row.scores:
                environments[row.label].add(board.env)
    sets = sorted(
        {tuple(sorted(envs)) for envs in environments.values() if len(envs) > 1}, key=lambda envs: (-len(envs), envs)
    )
    left_out = sorted({board.env for board in boards} - longest.keys())
    return [_across([longest[env] for env in envs], boards, left_out) for envs in sets]


def _across(members: list[Leaderboard], boards: Sequence[Leaderboard], left_out: list[str]) -> Across:
    by_label: dict[str, dict[str, Row]] = defaultdict(dict)
    for board in members:
        for row in board.rows:
            if row.scores:
                by_label[row.label][board.env] = row
    complete = {label: rows for label, rows in by_label.items() if len(rows) == len(members)}
    scores = {
        label: {board.env: board.scale.normalise(rows[board.env].scores) for board in members}
        for label, rows in complete.items()
    }
    thresholds = _thresholds(scores.values())
    rows = [
        AcrossRow(label, of, aggregate(of, normalised=True), performance_profile(of, thresholds))
        for label, of in scores.items()
    ]
    rows.sort(key=lambda row: (-row.score.value, row.label))
    names = dict.fromkeys((pair.x, pair.y) for board in members for pair in board.pairs)
    pairs = [Pair(x, y, probability_of_improvement(scores[x], scores[y])) for x, y in names if x in scores and y in scores]
    cautions = cautions_on([row for by_env in complete.values() for row in by_env.values()], tasks=len(members))
    if left_out:
        cautions.append(f"Left out, having no entry in benchmarks/normalisation.csv or no scores: {', '.join(left_out)}.")
    if several := [board.env for board in members if sum(other.env == board.env for other in boards) > 1]:
        cautions.append(f"Of several tables the one of the longest runs is meant: {', '.join(several)}.")
    return Across(tuple(members), tuple(rows), tuple(pairs), tuple(cautions))


def _thresholds(scores: Iterable[Scores]) -> np.ndarray:
    """From the random policy to the reference, and on to what the scores reach."""
    every = np.concatenate([values for of in scores for values in of.values()])
    return np.linspace(min(0.0, every.min()), max(1.0, every.max()), THRESHOLDS)
