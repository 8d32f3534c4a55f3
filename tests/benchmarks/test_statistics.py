"""rliable's numbers to rounding, from the same draws; and what must hold of any scores."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import library, metrics

from benchmarks import statistics
from benchmarks.statistics import (
    SEED,
    Estimate,
    aggregate,
    iqm_difference,
    learning_curve,
    performance_profile,
    probability_of_improvement,
)

REPETITIONS = 200
THRESHOLDS = np.linspace(-1.0, 2.0, 13)


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", REPETITIONS)


def labelled(matrix):
    """rliable's ``(seeds, tasks)`` as ours."""
    return {f"task-{index:02d}": column for index, column in enumerate(matrix.T)}


def sorted_scores(seed, seeds, tasks, ties=False):
    """Ascending in every task, as ours are before drawing: rliable's draws are of positions."""
    scores = np.random.default_rng(seed).normal(0.5, 0.5, size=(seeds, tasks))
    return np.sort(np.round(scores, 1) if ties else scores, axis=0)


def rliables(function, *matrices):
    """Value and interval of rliable, its draws seeded as ours are."""
    np.random.seed(SEED)
    scores = matrices[0] if len(matrices) == 1 else list(matrices)
    value, interval = library.get_interval_estimates({"x": scores}, lambda *x: np.atleast_1d(function(*x)), reps=REPETITIONS)
    return np.array([value["x"], *interval["x"]])


def as_array(estimate):
    return np.array([[estimate.value], [estimate.low], [estimate.high]])


SHAPES = pytest.mark.parametrize(("seeds", "tasks"), [(2, 1), (3, 1), (5, 1), (10, 1), (5, 4), (7, 3), (3, 11)])


@SHAPES
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("iqm", metrics.aggregate_iqm),
        ("mean", metrics.aggregate_mean),
        ("median", metrics.aggregate_median),
        ("optimality_gap", metrics.aggregate_optimality_gap),
    ],
)
def test_aggregates_are_rliables(name, reference, seeds, tasks, ties):
    matrix = sorted_scores(0, seeds, tasks, ties)
    if (name, tasks) == ("median", 1):
        # Of a single task rliable's is the mean.
        reference = np.median
    ours = getattr(aggregate(labelled(matrix), normalised=True), name)
    np.testing.assert_allclose(as_array(ours), rliables(reference, matrix), atol=1e-12)


@SHAPES
def test_profiles_are_rliables(seeds, tasks):
    matrix = sorted_scores(1, seeds, tasks)
    np.random.seed(SEED)
    profile, band = library.create_performance_profile({"x": matrix}, THRESHOLDS, reps=REPETITIONS)
    ours = performance_profile(labelled(matrix), THRESHOLDS)
    np.testing.assert_allclose(ours[["share", "low", "high"]].to_numpy().T, [profile["x"], *band["x"]], atol=1e-12)


@pytest.mark.parametrize(("seeds", "tasks"), [(2, 1), (5, 1), (4, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_probability_of_improvement_is_rliables(seeds, tasks, ties):
    # Of two algorithms the one with the smaller scores is drawn first.
    x, y = sorted((sorted_scores(seed, seeds, tasks, ties) for seed in (2, 3)), key=lambda scores: sorted(scores.ravel()))
    ours = probability_of_improvement(labelled(x), labelled(y))
    np.testing.assert_allclose(as_array(ours), rliables(metrics.probability_of_improvement, x, y), atol=1e-12)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_a_pair_has_one_interval_whichever_way_it_is_asked(x, y):
    ours, theirs = (probability_of_improvement({"": a}, {"": b}) for a, b in ((x, y), (y, x)))
    assert ours.value == pytest.approx(1 - theirs.value)
    if not math.isnan(ours.low):
        assert (ours.low, ours.high) == (pytest.approx(1 - theirs.high), pytest.approx(1 - theirs.low))
    assert ours.excludes(0.5) == theirs.excludes(0.5)


@SHAPES
def test_differences_are_rliables(seeds, tasks):
    x, y = (sorted_scores(seed, seeds, tasks) for seed in (4, 5))

    def difference(a, b):
        return metrics.aggregate_iqm(a) - metrics.aggregate_iqm(b)

    np.testing.assert_allclose(as_array(iqm_difference(labelled(x), labelled(y))), rliables(difference, x, y), atol=1e-12)


def test_unequal_numbers_of_seeds_of_two_algorithms_are_rliables_to_the_noise_of_the_draws(monkeypatch):
    x, y = sorted_scores(6, 6, 2), sorted_scores(7, 4, 2)
    theirs = rliables(metrics.probability_of_improvement, x, y)
    monkeypatch.setattr(statistics, "REPETITIONS", 20_000)
    ours = as_array(probability_of_improvement(labelled(x), labelled(y)))
    assert ours[0] == pytest.approx(theirs[0])
    np.testing.assert_allclose(ours, theirs, atol=0.1)


def test_by_hand():
    summary = aggregate({"task": [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5]})
    # sorted: 1 1.5 | 2.6 3 3.5 4 | 5 9; a quarter of eight cut at each end
    assert summary.iqm.value == pytest.approx((2.6 + 3 + 3.5 + 4) / 4)
    assert summary.median.value == pytest.approx(3.25)
    assert summary.mean.value == pytest.approx(3.7)
    assert (summary.n, summary.tasks, summary.optimality_gap) == (8, 1, None)


@pytest.mark.parametrize("seeds", [5, 7, 10])
def test_where_all_scores_are_the_same_it_is_one_half_to_the_last_bit(seeds):
    """The sum of the wins of ten and ten is 0.5000000000000001 in some draws."""
    assert probability_of_improvement({"a": [1.0] * seeds}, {"a": [1.0] * seeds}) == Estimate(0.5, 0.5, 0.5)


def test_tasks_with_different_numbers_of_seeds_weigh_the_same():
    ragged = {"a": [0.0, 1.0], "b": [2.0, 2.0, 2.0, 2.0, 5.0, 5.0]}
    summary = aggregate(ragged, normalised=True)
    assert summary.mean.value == pytest.approx((0.5 + 3.0) / 2)
    assert summary.median.value == pytest.approx((0.5 + 3.0) / 2)
    assert summary.optimality_gap.value == pytest.approx(0.25)
    # Each of a's scores is a quarter of all weight, and each of b's a twelfth: left are 1 and three of b's 2.
    assert summary.iqm.value == pytest.approx((1.0 + 2.0) / 2)
    (share,) = performance_profile(ragged, [1.5])["share"]
    assert share == pytest.approx(0.5)
    assert probability_of_improvement(ragged, {"a": [0.5], "b": [2.0]}).value == pytest.approx((0.5 + 4 / 6) / 2)


def test_unequal_seeds_that_repeat_scores_are_equal_seeds():
    """Twice each of a task's scores is the same distribution."""
    few, more = {"a": [0.0, 1.0], "b": [2.0, 4.0]}, {"a": [0.0, 1.0], "b": [2.0, 2.0, 4.0, 4.0]}
    first, second = aggregate(few, normalised=True), aggregate(more, normalised=True)
    for name in ("mean", "median", "optimality_gap"):
        assert getattr(first, name).value == pytest.approx(getattr(second, name).value)


def test_the_same_scores_give_the_same_interval_whatever_else_is_asked():
    scores, other = {"a": [1.0, 2.0, 4.0], "b": [3.0, 1.0]}, {"a": [5.0, 6.0], "b": [0.0, 2.0, 9.0]}
    first = aggregate(scores)
    aggregate(other)
    probability_of_improvement(scores, other)
    before = np.random.get_state()[1].tolist()
    statistics._draws.cache_clear()
    assert aggregate(scores) == first
    assert np.random.get_state()[1].tolist() == before, "numpy's global generator is not ours"


def test_a_seed_each_has_no_interval():
    for summary in (aggregate({"a": [2.0]}), aggregate({"a": [2.0], "b": [2.0]})):
        assert summary.iqm.value == summary.mean.value == summary.median.value == 2.0
        assert np.isnan([summary.iqm.low, summary.iqm.high]).all()
    assert not np.isnan(aggregate({"a": [2.0], "b": [1.0, 3.0]}).iqm.low)


@pytest.mark.parametrize("scores", [{}, {"a": []}, {"a": [[1.0, 2.0]]}, {"a": [1.0, float("nan")]}])
def test_what_is_no_labelled_finite_score_is_refused(scores):
    with pytest.raises(ValueError, match=r"^Scores "):
        aggregate(scores)


def test_only_the_same_tasks_are_compared():
    with pytest.raises(ValueError, match="same tasks"):
        probability_of_improvement({"Hopper-v4": [1.0]}, {"Hopper-v5": [1.0]})


def evaluations(times, scores, task="task", along="step"):
    return pd.DataFrame(
        {"task": task, "seed": seed, along: time, "score": score}
        for seed, (run, values) in enumerate(zip(times, scores, strict=True))
        for time, score in zip(run, values, strict=True)
    )


def test_every_point_of_a_curve_is_rliables():
    scores = np.sort(np.random.default_rng(0).normal(size=(7, 5)), axis=0)
    curve = learning_curve(evaluations([range(10, 60, 10)] * 7, scores).sample(frac=1.0, random_state=0))
    assert curve["step"].tolist() == [10, 20, 30, 40, 50]
    for point, row in enumerate(curve[["iqm", "low", "high"]].to_numpy()):
        np.testing.assert_allclose(row, rliables(metrics.aggregate_iqm, scores[:, [point]]).ravel(), atol=1e-12)
    final = aggregate({"task": scores[:, -1]}).iqm
    assert Estimate(*curve[["iqm", "low", "high"]].iloc[-1]) == final


def test_a_curve_in_time_takes_what_had_been_evaluated_by_then():
    rows = evaluations([[1.0, 2.0, 3.0], [1.5, 4.0, 9.0]], [[10.0, 20.0, 30.0], [0.0, 2.0, 4.0]], along="seconds")
    curve = learning_curve(rows, along="seconds")
    assert curve["seconds"].tolist() == [1.5, 4.0, 9.0]
    # The fast run has its first score at 1.5 s, and keeps its last from 3 s on.
    assert curve["iqm"].tolist() == [(10 + 0) / 2, (30 + 2) / 2, (30 + 4) / 2]


def test_a_curve_begins_where_every_run_has_been_evaluated():
    rows = evaluations([[1.0, 4.0, 9.0], [2.0, 3.0]], [[0.0, 10.0, 20.0], [6.0, 8.0]], along="seconds")
    curve = learning_curve(rows, along="seconds")
    assert curve["seconds"].tolist() == [4.0, 9.0]
    assert curve["iqm"].tolist() == [9.0, 14.0]


def test_a_curve_of_several_tasks_pools_them():
    one = evaluations([[0.5, 1.0]] * 3, [[1.0, 2.0]] * 3, "one", "share")
    two = evaluations([[0.25, 1.0]] * 5, [[3.0, 8.0]] * 5, "two", "share")
    curve = learning_curve(pd.concat([one, two]), along="share")
    assert curve["share"].tolist() == [0.5, 1.0]
    assert curve["iqm"].tolist() == pytest.approx([2.0, 5.0])


TASKS = st.lists(
    st.lists(st.floats(-1e3, 1e3).map(lambda score: round(score, 2)), min_size=1, max_size=6), min_size=1, max_size=4
)
PAIRS = st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.lists(TASKS.map(lambda t: t[0]), min_size=n, max_size=n)] * 2))


def by_name(columns):
    return {f"task-{index}": column for index, column in enumerate(columns)}


def all_estimates(columns):
    summary = aggregate(by_name(columns), normalised=True)
    return [summary.iqm, summary.median, summary.mean, summary.optimality_gap]


@settings(deadline=None, max_examples=40)
@given(TASKS, st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_tasks_says_nothing(columns, random):
    shuffled = [random.sample(column, len(column)) for column in columns]
    names = random.sample(range(len(columns)), len(columns))
    first = aggregate(by_name(columns))
    second = aggregate({f"task-{name}": shuffled[name] for name in names})
    np.testing.assert_array_equal(as_array(first.iqm), as_array(second.iqm))
    np.testing.assert_array_equal(as_array(first.median), as_array(second.median))


@settings(deadline=None, max_examples=40)
@given(TASKS)
def test_intervals_lie_within_the_scores_and_their_ends_in_order(columns):
    scores = list(itertools.chain(*columns))
    for estimate in all_estimates(columns)[:3]:
        assert min(scores) - 1e-9 <= estimate.value <= max(scores) + 1e-9
        if max(map(len, columns)) > 1:
            assert min(scores) - 1e-9 <= estimate.low <= estimate.high <= max(scores) + 1e-9


@settings(deadline=None, max_examples=40)
@given(TASKS, st.floats(0.1, 10.0), st.floats(-100.0, 100.0))
def test_another_unit_of_the_scores_changes_nothing_else(columns, scale, offset):
    changed = [[scale * score + offset for score in column] for column in columns]
    for before, after in zip(all_estimates(columns)[:3], all_estimates(changed)[:3], strict=True):
        np.testing.assert_allclose(as_array(after), scale * as_array(before) + offset, atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=12))
def test_intervals_contain_what_they_are_of(scores):
    summary = aggregate({"task": scores})
    for estimate in (summary.iqm, summary.median, summary.mean):
        assert estimate.low - 1e-12 <= estimate.value <= estimate.high + 1e-12


@settings(deadline=None, max_examples=40)
@given(PAIRS)
def test_one_of_two_is_better(pair):
    x, y = map(by_name, pair)
    ours, theirs = probability_of_improvement(x, y), probability_of_improvement(y, x)
    assert ours.value + theirs.value == pytest.approx(1.0)
    assert 0.0 <= ours.value <= 1.0 + 1e-12
    assert probability_of_improvement(x, x).value == pytest.approx(0.5)
    assert iqm_difference(x, y).value == pytest.approx(-iqm_difference(y, x).value, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(TASKS)
def test_profiles_fall_from_one_to_nothing(columns):
    profile = performance_profile(by_name(columns), np.linspace(-1001.0, 1001.0, 21))
    for name in ("share", "low", "high"):
        assert (np.diff(profile[name].dropna()) <= 1e-12).all()
    assert profile["share"].iloc[[0, -1]].tolist() == [pytest.approx(1.0), 0.0]
    known = profile.dropna()
    assert (known["low"] <= known["share"] + 1e-12).all()
    assert (known["share"] <= known["high"] + 1e-12).all()
