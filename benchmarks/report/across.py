"""Algorithms over several environments, by their normalised scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pandas as pd

from benchmarks.report.build import shares_of_budgets
from benchmarks.report.cautions import caution_on_episodes, cautions_on, cautions_on_budgets
from benchmarks.report.leaderboard import Leaderboard, Pair, Row
from benchmarks.statistics import Aggregate, Estimate, Scores, aggregate, performance_profile, probability_of_improvement
from sb3_entropic.catalog import STAND_INS

THRESHOLDS, FAR_BELOW = 101, -0.25
ENOUGH = 10
"""So many environments are ranked by the IQM of all their runs, as is usual; of fewer it can be blind to a whole one."""


@dataclass(frozen=True, eq=False)
class AcrossRow:
    """One algorithm of a table over several environments.

    :param label: the algorithm, with the hyperparameters that were overridden
    :param rows: of each environment's table the one that is meant
    :param scores: normalised final scores, one a seed, by task
    :param summary: their aggregate
    :param profile: their performance profile: columns ``threshold``, ``share``, ``low``, ``high``
    """

    label: str
    rows: tuple[Row, ...]
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
    of its longest runs, and an algorithm that is in a table more than once with its most seeds, of equally many the latest.

    :param boards: the tables of single environments
    """
    longest: dict[str, Leaderboard] = {}
    for board in sorted(boards, key=lambda board: (board.steps, len(board.rows))):
        if board.scale is not None and any(row.scores for row in board.rows):
            longest[board.env] = board
    environments: dict[str, set[str]] = defaultdict(set)
    for board in longest.values():
        for row in board.ranked:
            environments[row.variant].add(board.env)
    sets = sorted(
        {tuple(sorted(envs)) for envs in environments.values() if len(envs) > 1}, key=lambda envs: (-len(envs), envs)
    )
    left_out = sorted({board.env for board in boards} - longest.keys())
    return [_across([longest[env] for env in envs], boards, left_out) for envs in sets]


def _across(members: list[Leaderboard], boards: Sequence[Leaderboard], left_out: list[str]) -> Across:
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for board in members:
        for row in board.ranked:
            found[row.variant][board.env].append(row)
    found = {name: by_env for name, by_env in found.items() if len(by_env) == len(members)}
    # A baseline is SB3's own on one environment and our losses on another.
    stand_ins = _baselines_in_parts(members, found)
    complete = {name: _meant(by_env) for name, by_env in {**found, **stand_ins}.items()}
    scores = {
        name: {board.env: board.scale.normalise(rows[board.env].scores) for board in members}
        for name, rows in complete.items()
    }
    thresholds = _thresholds(scores.values())
    rows = [
        AcrossRow(name, tuple(by_env.values()), of, aggregate(of, normalised=True), performance_profile(of, thresholds))
        for (name, by_env), of in zip(complete.items(), scores.values(), strict=True)
    ]
    rows.sort(key=lambda row: (-row.score.value, row.label))
    names = dict.fromkeys(pair for board in members for pair in _pairs_of_names(board, stand_ins))
    pairs = [
        Pair(x, y, probability_of_improvement(scores[x], scores[y]))
        for x, y in names
        if x in scores and y in scores and x != y
    ]
    meant = {
        board.env: [
            replace(rows[board.env], label=f"{name} on {board.env}" if name in stand_ins else name)
            for name, rows in complete.items()
        ]
        for board in members
    }
    cautions = [caution_on_episodes({board.episodes for board in members})]
    cautions += cautions_on(list(chain(*meant.values())), tasks=len(members))
    for board in members:
        shares = shares_of_budgets(meant[board.env], board.env, board.steps)
        cautions += [f"{board.env}: {caution}" for caution in cautions_on_budgets(shares)]
    for name, by_env in found.items():
        if several := [env for env, rows in by_env.items() if len(rows) > 1]:
            cautions.append(
                f"{name} is more than once in the table of {' and '.join(several)}: here it is of a version that is in all of "
                "them, if there is one, with the most seeds, of equally many the latest."
            )
    if left_out:
        cautions.append(f"Left out, having no entry in benchmarks/normalisation.csv or no scores: {', '.join(left_out)}.")
    if several := [board.env for board in members if sum(other.env == board.env for other in boards) > 1]:
        cautions.append(f"Of several tables one of the longest runs is meant: {', '.join(several)}.")
    return Across(tuple(members), tuple(rows), tuple(pairs), tuple(cautions))


def _baselines_in_parts(
    members: Sequence[Leaderboard], complete: Mapping[str, Mapping[str, list[Row]]]
) -> dict[str, dict[str, list[Row]]]:
    """By name, baselines that are on every environment only if their losses in our training loop count, and their rows.

    :param members: the environments' tables
    :param complete: what is on every environment under one name
    """
    found = {}
    for parent in dict.fromkeys(STAND_INS.values()):
        same = {parent, *(label for label, of in STAND_INS.items() if of == parent)}
        own = {board.env: [row for row in board.ranked if row.variant == parent] for board in members}
        other = {board.env: [row for row in board.ranked if row.variant in same] for board in members}
        by_env = {env: own[env] or other[env] for env in own}
        if not same & complete.keys() and all(by_env.values()):
            found[parent] = by_env
    return found


def _meant(by_env: dict[str, list[Row]]) -> dict[str, Row]:
    """Of each environment's rows of an algorithm one, of the same version if one is everywhere."""
    common = set.intersection(*({row.package for row in rows} for rows in by_env.values()))
    among = {env: [row for row in rows if row.package in common] or rows for env, rows in by_env.items()}
    if len(common) > 1:
        every = [row for rows in among.values() for row in rows]
        best = max(common, key=lambda package: max(_seeds_and_date(row) for row in every if row.package == package))
        among = {env: [row for row in rows if row.package == best] for env, rows in among.items()}
    return {env: max(rows, key=_seeds_and_date) for env, rows in among.items()}


def _seeds_and_date(row: Row) -> tuple[int, str]:
    return len(row.scores), row.last_started


def _pairs_of_names(board: Leaderboard, stand_ins: Collection[str]) -> list[tuple[str, str]]:
    """The pairs of a table, by names; of :func:`_baselines_in_parts` by theirs."""
    names = {row.label: row.variant for row in board.rows}
    names |= {row.label: STAND_INS[row.variant] for row in board.rows if STAND_INS.get(row.variant) in stand_ins}
    return [(names[pair.x], names[pair.y]) for pair in board.pairs]


def _thresholds(scores: Iterable[Scores]) -> np.ndarray:
    """From the random policy to the reference, and on to what the scores reach, but for those far below it."""
    every = np.concatenate([values for of in scores for values in of.values()])
    return np.linspace(np.clip(every.min(), FAR_BELOW, 0.0), max(1.0, every.max()), THRESHOLDS)
