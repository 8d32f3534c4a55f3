"""Scores of others stand beside ours with what differs, and are never pooled with them."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from benchmarks.literature import OUR_METRIC, TABLE, PublishedScore, published_scores
from benchmarks.protocol import within_budget
from benchmarks.report import Grid, build_leaderboards, write_page, write_report
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.engine.gemm import ROUNDED
from sb3_entropic.zoo import load_hyperparameters


def test_every_entry_is_whole():
    table = pd.read_csv(TABLE)
    assert not table.duplicated().any()
    assert table[["env", "algorithm", "algo", "seeds", "metric", "score", "source"]].notna().all(axis=None)
    assert set(table["algo"]) <= ALGORITHMS.keys()
    assert table["env"].str.fullmatch(r".+-v\d+").all()
    assert (table["spread"].isna() == table["spread_kind"].isna()).all()


def test_all_versions_of_an_environment_are_found_and_no_other():
    assert {score.env for score in published_scores("Hopper-v4")} == {"Hopper-v2", "Hopper-v3"}
    assert published_scores("gymnasium.envs:Hopper-v4") == published_scores("Hopper-v4")
    assert {score.env for score in published_scores("LunarLander-v3")} == {"LunarLander-v2"}
    assert published_scores("Lunar-v3") == []


@pytest.mark.parametrize(
    ("ours", "differences"),
    [
        (("Walker2d-v3", 1000, 2), []),
        (("gymnasium.envs:Walker2d-v3", 1000, 2), []),
        (("Walker2d-v4", 1000, 2), ["Walker2d-v3"]),
        (("Walker2d-v3", 2000, 5), ["1,000 steps", "2 seeds"]),
        (("Walker2d-v3", 1000, None), ["2 seeds"]),
    ],
)
def test_what_differs_is_named(ours, differences):
    score = PublishedScore("Walker2d-v3", "SAC", "sac", 1000, 2, OUR_METRIC, 1.0, "", "", "", "x")
    assert score.differences(*ours) == differences
    assert replace(score, hyperparameters="its own").differences(*ours) == [*differences, "its own"]


def test_how_much_was_evaluated_is_named():
    score = PublishedScore("Walker2d-v3", "SAC", "sac", 1000, 2, f"{OUR_METRIC} over 9 steps", 1.0, "", "", "", "x")
    assert score.differences("Walker2d-v3", 1000, 2) == ["evaluation over 9 steps"]
    assert replace(score, metric="best").differences("Walker2d-v3", 1000, 2) == ["best"]


def test_a_report_shows_it_beside_ours(store, make_spec, finish, tmp_path):
    for seed in range(2):
        finish(make_spec(seed=seed), [0.0, -300.0])
        finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, -200.0])
    boards = build_leaderboards(store)
    (beside,) = boards[0].literature
    assert (beside.published.score, beside.row.label) == (-157.0, "sac")
    write_report(boards, [], tmp_path)
    (line,) = [line for line in (tmp_path / "leaderboard.md").read_text().splitlines() if "-157.0" in line and "|" in line]
    assert "-200.0" in line
    assert "20,000 steps; 1 seed; evaluation over 150,000 steps" in line
    (quoted,) = json.loads((tmp_path / "leaderboard.json").read_text())["boards"][0]["literature"]
    assert (quoted["score"], quoted["ours"], quoted["differences"]) == (
        -157.0,
        "sac",
        ["20,000 steps", "1 seed", "evaluation over 150,000 steps"],
    )
    page = write_page([Grid("", boards, [])], tmp_path / "index.html").read_text()
    assert "<td>20,000 steps; 1 seed; evaluation over 150,000 steps</td>" in page


def test_what_was_trained_as_long_comes_first(store, make_spec, finish):
    there = [score.steps for score in published_scores("Hopper-v4") if score.algo == "sac"]
    assert there[0] != there[-1]
    finish(make_spec(env="Hopper-v4", steps=there[-1]), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert board.literature[0].published.steps == there[-1]


def test_an_algorithm_without_its_parent_stands_beside_the_parents_scores(store, make_spec, finish):
    finish(make_spec(), [0.0, -300.0])
    (board,) = build_leaderboards(store)
    ((published, row, differences),) = board.literature
    assert (published.algo, row, differences) == (
        "sac",
        None,
        ("20,000 steps", "1 seed", "evaluation over 150,000 steps"),
    )


def test_what_ours_has_other_than_the_zoo_is_named(store, make_spec, finish):
    algorithm, place = ALGORITHMS["qrdqn"], {"env": "LunarLander-v3", "algo": "qrdqn", "steps": 20_000}
    cut = within_budget(load_hyperparameters(algorithm, place["env"]), algorithm, "short", place["steps"])
    finish(make_spec(**place, label="qrdqn", hyperparameters=cut), [0.0, 1.0])
    finish(
        make_spec(env="Walker2d-v4", label="msac[munchausen_alpha=0]", rounding="bf16"),
        [0.0, 1.0],
        matrix_library=ROUNDED["bf16"],
    )
    boards = build_leaderboards(store)
    named = {board.env: board.literature[-1].differences[3:] for board in boards}
    assert named["LunarLander-v3"] == ("ours learning_starts 2000 for 10000", "ours n_quantiles 25 for 170")
    (sac,) = {beside.differences[-2:] for board in boards for beside in board.literature if beside.published.algo == "sac"}
    assert sac == ("ours our loop", "ours bf16 matrix products")
