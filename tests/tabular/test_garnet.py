"""The error-averaging experiment of the example: its claims on fewer Garnets, and that it writes what it says."""

import pytest
import torch as th

from sb3_entropic.tabular import (
    dynamic_policy_programming,
    garnet,
    momentum_value_iteration,
    munchausen_value_iteration,
    soft_value_iteration,
    value_iteration,
)
from tests.load_example import load_example


@pytest.fixture(scope="module")
def example():
    return load_example("garnet")


def final_error(solve, *arguments):
    mdp = garnet(30, 4, 4, gamma=0.9, seed=0, batch=10)
    return solve(mdp, *arguments, n_iterations=800, generator=th.Generator().manual_seed(0)).errors.mean().item()


def test_averaging_errors_is_worth_a_factor_of_twenty():
    avi = final_error(value_iteration)
    assert avi > 20 * final_error(dynamic_policy_programming, 0.1)
    assert avi > 20 * final_error(momentum_value_iteration)


def test_munchausen_ends_below_soft_value_iteration():
    assert final_error(munchausen_value_iteration, 0.01, 0.9) < 0.5 * final_error(soft_value_iteration, 1e-3)


def test_the_example_writes_a_figure_and_a_table(example, tmp_path, capsys):
    example.main(["--out", str(tmp_path), "--garnets", "2", "--iterations", "30"])
    assert (tmp_path / "garnet.png").stat().st_size > 10_000
    table = (tmp_path / "garnet.md").read_text()
    assert "| AVI" in table
    assert "k = 25" in table
    assert "k = 100" not in table
    assert "seconds" in capsys.readouterr().out


def test_the_example_says_what_it_does(example, capsys):
    with pytest.raises(SystemExit) as end:
        example.main(["--help"])
    assert end.value.code == 0
    assert "--out" in capsys.readouterr().out
