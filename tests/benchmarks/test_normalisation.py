"""0 is a random policy, 1 the reference, and both are what the table says."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import normalisation
from benchmarks.normalisation import COLUMNS, TABLE, find_scale, main, random_score


def test_a_random_policy_scores_nought_and_the_reference_one():
    scale = find_scale("Pendulum-v1")
    np.testing.assert_allclose(scale.normalise([scale.random, scale.reference, -682.2775]), [0.0, 1.0, 0.5])
    assert find_scale("gymnasium.envs:Pendulum-v1") is scale, "a module only says where the id is registered"


@pytest.mark.parametrize("env", ["Pendulum-v0", "Pendulum", "Hopper-v5", "NoSuch-v1"])
def test_only_the_very_version_has_a_scale(env):
    assert find_scale(env) is None


def test_every_entry_is_whole():
    table = pd.read_csv(TABLE)
    assert tuple(table.columns) == COLUMNS
    assert table.notna().all(axis=None)
    assert table["env"].is_unique
    assert (table["reference"] > table["random"]).all()
    assert table["env"].str.fullmatch(r".+-v\d+").all()


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_the_random_score_is_what_is_measured(env):
    assert random_score(env) == pytest.approx(find_scale(env).random, rel=1e-4)


def test_a_new_environment_gets_a_row_to_fill_in(tmp_path, monkeypatch, capsys):
    table = tmp_path / "normalisation.csv"
    table.write_bytes(TABLE.read_bytes())
    monkeypatch.setattr(normalisation, "TABLE", table)
    monkeypatch.setattr(normalisation, "EPISODES", 1)
    normalisation._scales.cache_clear()
    monkeypatch.setattr(normalisation, "random_score", lambda env: 12.3456)
    try:
        assert main(["CartPole-v0", "CartPole"]) == 0
        written = pd.read_csv(table).set_index("env")
        assert written.loc["CartPole-v0", "random"] == written.loc["CartPole-v1", "random"] == 12.346
        assert written.loc["CartPole-v0"].drop("random").isna().all()
        assert find_scale("CartPole-v0") is None, "without a reference it is no scale"
        assert find_scale("CartPole-v1").reference == 500.0
        assert main(["CartPol-v1"]) == 2
        assert "did you mean 'CartPole-v1'" in capsys.readouterr().err
    finally:
        normalisation._scales.cache_clear()
