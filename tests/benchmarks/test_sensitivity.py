"""A sweep of two hyperparameters is drawn as a map, and nothing else is."""

import itertools

import pytest

from benchmarks.report import Grid, build_leaderboards, write_page, write_report
from benchmarks.report.sensitivity import find_sensitivities

ALPHAS, TEMPERATURES = (0.0, 0.5, 0.9), (0.01, 0.1)


@pytest.fixture
def sweep(store, make_spec, finish):
    def sweep(combinations, **constant):
        for alpha, temperature in combinations:
            label = f"mdqn[munchausen_alpha={alpha},temperature={temperature}]"
            hyperparameters = {"munchausen_alpha": alpha, "temperature": temperature, **constant}
            for seed in range(2):
                spec = make_spec(algo="mdqn", label=label, seed=seed, hyperparameters=hyperparameters)
                finish(spec, [0.0, 100 * alpha + temperature])
        (board,) = build_leaderboards(store)
        return board

    return sweep


def test_every_combination_has_its_place(sweep, make_spec, finish, store, tmp_path):
    finish(make_spec(algo="mdqn", label="mdqn", hyperparameters={}), [0.0, 1.0])
    finish(make_spec(algo="dqn", label="dqn", hyperparameters={}), [0.0, 1.0])
    board = sweep(itertools.product(ALPHAS, TEMPERATURES), gamma=0.9)
    (found,) = find_sensitivities(board)
    assert (found.algo, found.y, found.x) == ("mdqn", "munchausen_alpha", "temperature")
    assert (found.lines, found.columns) == (ALPHAS, TEMPERATURES)
    for alpha, temperature in itertools.product(ALPHAS, TEMPERATURES):
        assert found.cells[alpha, temperature].summary.iqm.value == pytest.approx(100 * alpha + temperature)
    assert found.ends == pytest.approx((0.01, 90.1))
    written = write_report([board], [], tmp_path)
    assert tmp_path / "sensitivity-Pendulum-v1-100-mdqn.png" in written
    assert "(sensitivity-Pendulum-v1-100-mdqn.png)" in (tmp_path / "leaderboard.md").read_text()
    page = write_page([Grid("", [board], [])], tmp_path / "index.html").read_text()
    assert '--by:100.0%">90.1<small>' in page
    assert '--by:0.0%">0.01<small>' in page


@pytest.mark.parametrize(
    "combinations",
    [
        [(0.0, 0.1), (0.5, 0.01), (0.5, 0.1)],
        [(0.0, 0.1), (0.5, 0.1)],
        [(0.0, "lin_0.1"), (0.0, "lin_0.2"), (0.5, "lin_0.1"), (0.5, "lin_0.2")],
    ],
    ids=["a combination is missing", "one hyperparameter", "not numbers"],
)
def test_what_is_no_map_is_not_drawn(combinations, store, make_spec, finish):
    for alpha, temperature in combinations:
        hyperparameters = {"munchausen_alpha": alpha, "temperature": temperature}
        finish(make_spec(algo="mdqn", label=f"mdqn[{alpha},{temperature}]", hyperparameters=hyperparameters), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert find_sensitivities(board) == []


def test_equal_scores_make_a_map_too(store, make_spec, finish, tmp_path):
    for alpha, temperature in itertools.product(ALPHAS, TEMPERATURES):
        hyperparameters = {"munchausen_alpha": alpha, "temperature": temperature}
        finish(make_spec(algo="mdqn", label=f"mdqn[{alpha},{temperature}]", hyperparameters=hyperparameters), [0.0, 1.0])
    boards = build_leaderboards(store)
    assert (tmp_path / "sensitivity-Pendulum-v1-100-mdqn.png") in write_report(boards, [], tmp_path)
    assert '--by:0%">1.00' in write_page([Grid("", boards, [])], tmp_path / "index.html").read_text()
