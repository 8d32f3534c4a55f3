"""rliable's numbers, the same every time."""

import numpy as np
import pytest
from rliable import library, metrics

from benchmarks.statistics import aggregate, iqm_interval

SCORES = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5])


def test_by_hand():
    summary, *_ = aggregate(SCORES[:, None])
    # sorted: 1 1.5 | 2.6 3 3.5 4 | 5 9; a quarter of eight cut at each end
    assert summary.iqm == pytest.approx((2.6 + 3 + 3.5 + 4) / 4)
    assert summary.median == pytest.approx(3.25)
    assert summary.mean == pytest.approx(3.7)
    assert summary.n == 8
    assert summary.low < summary.iqm < summary.high
    assert summary.low >= 1.0
    assert summary.high <= 9.0


def test_it_is_rliables_interquartile_mean_and_interval():
    np.random.seed(20_240_229)
    points, intervals = library.get_interval_estimates(
        {"a": SCORES[:, None]}, lambda runs: np.array([metrics.aggregate_iqm(runs)]), reps=2000
    )
    summary, *_ = aggregate(SCORES[:, None])
    assert summary.iqm == points["a"][0]
    assert (summary.low, summary.high) == (intervals["a"][0, 0], intervals["a"][1, 0])


def test_the_interval_is_the_same_every_time_and_the_global_generator_is_left_alone():
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    first, *_ = aggregate(SCORES[:, None])
    assert np.random.rand() == expected
    assert aggregate(SCORES[:, None])[0] == first


def test_every_point_of_a_curve_is_rliables():
    curves = np.random.default_rng(0).normal(size=(7, 5))
    iqm, low, high = iqm_interval(curves)
    assert iqm.tolist() == [metrics.aggregate_iqm(curves[:, None, point]) for point in range(5)]
    assert (low <= iqm).all()
    assert (iqm <= high).all()
    last, *_ = aggregate(curves)
    assert (last.iqm, last.low, last.high) == (iqm[-1], low[-1], high[-1])


def test_one_seed_has_no_interval():
    summary, *_ = aggregate(np.array([[2.0]]))
    assert summary.iqm == summary.mean == summary.median == 2.0
    assert np.isnan(summary.low)
    assert np.isnan(summary.high)
