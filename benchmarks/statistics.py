"""Aggregates with stratified-bootstrap intervals, reproducibly: rliable's numbers, without its loop in Python.

Scores come labelled, as ``{task: scores of its seeds}``, so that seeds and tasks cannot be mistaken for each other; tasks
may have different numbers of seeds and weigh the same. A task is an environment with its version and number of steps.

A replicate of the bootstrap redraws the seeds of every task, with replacement. To a statistic it is a weight on each score,
so the scores are sorted once and a statistic of all replicates is a few operations on a matrix of weights. The draws are
seeded afresh for every call: the same scores give the same interval, whatever else is in the table. Where tasks have equal
numbers of seeds they are those that rliable makes from the same seed (it ignores the random state it is given, and draws
from numpy's global one), which a test uses to hold every interval to rliable's.

Source: Agarwal et al. 2021, arXiv 2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

SEED = 20_240_229
REPETITIONS = 10_000
PERCENTILES = (2.5, 97.5)
DIGITS = 12
"""Of an estimate: sums of so few numbers have more."""
AT_ONCE = 2_048
"""Replicates whose weights are worked on together: they fit into a processor's cache."""

Scores = Mapping[str, Sequence[float] | np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % percentile interval.

    :param value: of the scores themselves
    :param low: lower end; ``nan`` where no task has a second seed
    :param high: upper end
    """

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether the interval lies wholly on one side of a value."""
        return self.low > value or self.high < value

    def of_the_opposite(self) -> Estimate:
        """Of a probability, that of the opposite."""
        return Estimate(*(float(f"{1 - number:.{DIGITS}g}") for number in (self.value, self.high, self.low)))


@dataclass(frozen=True)
class Aggregate:
    """What an algorithm scores, in the unit of the scores.

    :param iqm: interquartile mean of all scores; with fewer than 4 nothing is trimmed and it is the mean
    :param median: of one task over its seeds; of several over the tasks' means, as rliable has it
    :param mean: over the tasks' means
    :param n: number of scores
    :param tasks: number of tasks
    :param optimality_gap: by how much scores fall short of 1 on average; ``None`` where they are not normalised
    """

    iqm: Estimate
    median: Estimate
    mean: Estimate
    n: int
    tasks: int
    optimality_gap: Estimate | None = None


def aggregate(scores: Scores, normalised: bool = False) -> Aggregate:
    """IQM, median, mean and, of normalised scores, optimality gap.

    :param scores: by task, one a seed
    :param normalised: whether 1 is a reference's score, so that a gap to it means something
    :raises ValueError: for no scores, or some that are not finite
    """
    sample = _Sample(scores)
    gap = _estimate(sample.optimality_gap, sample) if normalised else None
    estimates = (_estimate(statistic, sample) for statistic in (sample.iqm, sample.median, sample.mean))
    return Aggregate(*estimates, n=len(sample.values), tasks=sample.n_tasks, optimality_gap=gap)


def performance_profile(scores: Scores, thresholds: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """The share of runs that score above each threshold, every task weighing the same, with pointwise 95 % bands.

    :param scores: by task, one a seed; comparable between tasks, so normalised where there are several
    :param thresholds: in the unit of the scores
    :return: columns ``threshold``, ``share``, ``low``, ``high``; the last two ``nan`` where no task has a second seed
    :raises ValueError: for no scores, or some that are not finite
    """
    sample, thresholds = _Sample(scores), np.asarray(thresholds, dtype=float)
    above = (sample.values[:, None] > thresholds).astype(float)
    share, low, high = _interval(lambda weights: weights @ above / len(above), sample)
    return pd.DataFrame({"threshold": thresholds, "share": share, "low": low, "high": high})


def probability_of_improvement(x: Scores, y: Scores) -> Estimate:
    """How often a run of X scores above one of Y on the same task, a tie being half, averaged over tasks.

    :param x: by task, one a seed
    :param y: of the same tasks
    :return: 1 where every run of X beats every run of Y; the other way round it is 1 less this, the ends of the interval too
    :raises ValueError: for different tasks, no scores, or some that are not finite
    """
    ours, theirs = _pair(x, y)
    # The draws of the first are others than those of the second, and one pair has one interval.
    first, second = ((*sample.values.tolist(), *sample.tasks.tolist()) for sample in (ours, theirs))
    if first > second:
        return probability_of_improvement(y, x).of_the_opposite()
    difference = ours.values[:, None] - theirs.values
    wins = np.where(ours.tasks[:, None] == theirs.tasks, 0.5 * (1.0 + np.sign(difference)), 0.0)
    wins *= ours.n_tasks / wins.size
    estimate = _estimate(lambda a, b: np.einsum("ri,ri->r", a @ wins, b), ours, theirs)
    if first < second:
        return estimate
    # Of equals neither comes first.
    opposite = estimate.of_the_opposite()
    return replace(estimate, low=min(estimate.low, opposite.low), high=max(estimate.high, opposite.high))


def iqm_difference(x: Scores, y: Scores) -> Estimate:
    """IQM of X less that of Y, with an interval for which both are redrawn.

    :param x: by task, one a seed
    :param y: of the same tasks
    :raises ValueError: for different tasks, no scores, or some that are not finite
    """
    ours, theirs = _pair(x, y)
    return _estimate(lambda a, b: ours.iqm(a) - theirs.iqm(b), ours, theirs)


def learning_curve(rows: pd.DataFrame, along: str = "step") -> pd.DataFrame:
    """IQM of the scores against environment steps, wall-clock time, or what else a column counts.

    A run's score at a point is that of its latest evaluation until then, and a finished run keeps its last. The points are
    the evaluations of the run that takes longest, from where all have been evaluated once. So the last point holds the final
    scores of all.

    :param rows: an evaluation each: columns ``task``, ``seed``, ``score`` and the one named by ``along``
    :param along: the column to draw against: ``"step"``, ``"seconds"``, ...
    :return: columns ``along``, ``iqm``, ``low``, ``high``; the last two ``nan`` where no task has a second seed
    :raises ValueError: for no rows, or scores that are not finite
    """
    runs = [(task, run.sort_values(along)) for (task, _), run in rows.groupby(["task", "seed"], sort=True)]
    if not runs:
        raise ValueError("A learning curve needs at least one evaluation.")
    begin = max(run[along].iloc[0] for _, run in runs)
    points = max((run[along].to_numpy() for _, run in runs), key=lambda times: times[-1])
    points = points[points >= begin]
    # (runs, points)
    latest = [run["score"].to_numpy()[np.searchsorted(run[along], points, side="right") - 1] for _, run in runs]
    tasks = np.array([task for task, _ in runs])
    estimates = []
    for column in np.array(latest).T:
        sample = _Sample({task: column[tasks == task] for task in dict.fromkeys(tasks)})
        estimates.append(_estimate(sample.iqm, sample))
    values = {name: [getattr(estimate, field) for estimate in estimates] for name, field in _CURVE.items()}
    return pd.DataFrame({along: points, **values})


_CURVE = {"iqm": "value", "low": "low", "high": "high"}


class _Sample:
    """Scores of all tasks, ascending, and statistics of them under weights ``(replicates, n)`` whose rows sum to n.

    :param scores: by task, one a seed
    """

    def __init__(self, scores: Scores):
        columns = {task: np.sort(np.asarray(values, dtype=float)) for task, values in sorted(scores.items())}
        if not columns or any(column.ndim != 1 or not len(column) for column in columns.values()):
            raise ValueError("Scores are {task: scores of its seeds}, with at least one task and one seed of each.")
        self.names = tuple(columns)
        self.sizes = tuple(map(len, columns.values()))
        self.n_tasks = len(columns)
        values = np.concatenate(list(columns.values()))
        if not np.isfinite(values).all():
            raise ValueError("Scores must be finite numbers.")
        self.order = np.argsort(values, kind="stable")
        self.values = values[self.order]
        self.tasks = np.repeat(np.arange(self.n_tasks), self.sizes)[self.order]
        # What one draw of a score weighs: 1 where tasks have equal numbers of seeds.
        self.unit = len(values) / (self.n_tasks * np.array(self.sizes, dtype=float)[self.tasks])
        self._by_task = self.values[:, None] * (self.tasks[:, None] == np.arange(self.n_tasks)) * (self.n_tasks / len(values))

    def iqm(self, weights: np.ndarray) -> np.ndarray:
        """``scipy.stats.trim_mean`` of a quarter at each end, weights being split where the quarter ends."""
        n = len(self.values)
        cut = n // 4
        if cut == 0:
            return self.mean(weights)
        kept = np.cumsum(weights, axis=1).clip(cut, n - cut)
        return np.diff(kept, axis=1, prepend=cut) @ self.values / (n - 2 * cut)

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """Over the tasks' means."""
        return weights @ self.values / len(self.values)

    def median(self, weights: np.ndarray) -> np.ndarray:
        """Over the seeds of a single task, else over the tasks' means."""
        if self.n_tasks > 1:
            return np.median(weights @ self._by_task, axis=1)
        n, reached = len(self.values), np.cumsum(weights, axis=1)
        middle = [(reached <= rank).sum(axis=1) for rank in ((n - 1) // 2, n // 2)]
        return self.values[middle].mean(axis=0)

    def optimality_gap(self, weights: np.ndarray) -> np.ndarray:
        """1 less the mean of the scores, of which none counts more than 1."""
        return 1.0 - weights @ np.minimum(self.values, 1.0) / len(self.values)


def _pair(x: Scores, y: Scores) -> tuple[_Sample, _Sample]:
    ours, theirs = _Sample(x), _Sample(y)
    if ours.names != theirs.names:
        raise ValueError(f"Only scores of the same tasks can be compared, not of {ours.names} and {theirs.names}.")
    return ours, theirs


def _estimate(statistic: Callable[..., np.ndarray], *samples: _Sample) -> Estimate:
    # An end that is one half but for the last bits would exclude it.
    return Estimate(*(float(f"{number:.{DIGITS}g}") for number in _interval(statistic, *samples)))


def _interval(statistic: Callable[..., np.ndarray], *samples: _Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic's value and the ends of its interval.

    :param statistic: of the weights of every sample, each ``(replicates, n)``, the replicates first in what it returns
    """
    value = statistic(*(sample.unit[None] for sample in samples))[0]
    if all(size == 1 for sample in samples for size in sample.sizes):
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    draws = _draws(tuple(sample.sizes for sample in samples), REPETITIONS)
    replicates = []
    for begin in range(0, REPETITIONS, AT_ONCE):
        weights = (
            drawn[begin : begin + AT_ONCE, sample.order] * sample.unit for drawn, sample in zip(draws, samples, strict=True)
        )
        replicates.append(statistic(*weights))
    low, high = np.percentile(np.concatenate(replicates), PERCENTILES, axis=0)
    return value, low, high


@lru_cache(maxsize=8)
def _draws(sizes: tuple[tuple[int, ...], ...], repetitions: int) -> tuple[np.ndarray, ...]:
    """How often each seed of each task is drawn, for every sample ``(repetitions, n)``, task after task.

    :param sizes: of every sample, the seeds of its tasks
    """
    random = np.random.RandomState(SEED)
    if len({size for sample in sizes for size in sample}) == 1:
        # The order of rliable's draws: replicates, samples, seeds, tasks.
        drawn = random.randint(0, sizes[0][0], size=(repetitions, len(sizes), sizes[0][0], len(sizes[0])))
        by_sample = [np.moveaxis(drawn[:, sample], 2, 1) for sample in range(len(sizes))]
        return tuple(np.concatenate([_counted(task) for task in np.moveaxis(s, 1, 0)], axis=1) for s in by_sample)
    return tuple(
        np.concatenate([_counted(random.randint(0, size, size=(repetitions, size))) for size in sample], axis=1)
        for sample in sizes
    )


def _counted(drawn: np.ndarray) -> np.ndarray:
    """How often each of n is in every row of ``(repetitions, n)`` draws."""
    repetitions, n = drawn.shape
    places = drawn + n * np.arange(repetitions)[:, None]
    return np.bincount(places.ravel(), minlength=drawn.size).reshape(repetitions, n).astype(np.uint16)
