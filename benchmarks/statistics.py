"""Aggregates with intervals, from rliable, reproducibly.

rliable draws its bootstrap from numpy's *global* generator and ignores the random state it is given, so that one is
seeded around every call and put back afterwards: the same scores give the same interval, whatever else is in the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rliable import library
from scipy.stats import trim_mean

SEED = 20_240_229
REPETITIONS = 2_000


@dataclass(frozen=True)
class Aggregate:
    """A sample of scores, one a seed, in the unit of the scores.

    :param iqm: interquartile mean; with fewer than 4 scores nothing is trimmed and it is the mean
    :param low: lower end of the 95 % percentile interval of the IQM, by stratified bootstrap; ``nan`` for one score
    :param high: its upper end
    :param median: median
    :param mean: mean
    :param n: number of scores
    """

    iqm: float
    low: float
    high: float
    median: float
    mean: float
    n: int


def aggregate(curves: np.ndarray) -> tuple[Aggregate, np.ndarray, np.ndarray, np.ndarray]:
    """Aggregate the learning curves of one algorithm on one environment; its score is the last point.

    :param curves: ``(n_seeds, n_points)``
    :return: the aggregate of the scores, then the IQM and the ends of its interval at every point, each ``(n_points,)``
    """
    iqm, low, high = iqm_interval(curves)
    scores = curves[:, -1]
    ends = float(low[-1]), float(high[-1])
    return Aggregate(float(iqm[-1]), *ends, float(np.median(scores)), float(np.mean(scores)), len(scores)), iqm, low, high


def iqm_interval(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean over seeds and its 95 % interval, at each point of a curve.

    :param curves: ``(n_seeds, n_points)``
    :return: IQM, lower and upper end, each ``(n_points,)``; the ends are ``nan`` for a single seed
    """
    curves = np.asarray(curves, dtype=float)

    def iqm(runs: np.ndarray) -> np.ndarray:
        # rliable's aggregate_iqm at every point of the single task, in one call instead of one a point.
        return trim_mean(runs[:, 0, :], proportiontocut=0.25, axis=0)

    # rliable's axes: runs, tasks, points.
    cube = curves[:, None, :]
    if len(curves) == 1:
        nothing = np.full(curves.shape[1], np.nan)
        return iqm(cube), nothing, nothing
    with _seeded():
        point, interval = library.get_interval_estimates({"": cube}, iqm, reps=REPETITIONS)
    return point[""], interval[""][0], interval[""][1]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(SEED)
    try:
        yield
    finally:
        np.random.set_state(state)
