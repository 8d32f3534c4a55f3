"""Normalised scores of one environment, and over several."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.console import Console

from benchmarks import statistics
from benchmarks.__main__ import main
from benchmarks.normalisation import find_scale
from benchmarks.report import Grid, build_across, build_leaderboards, show, show_across, write_page, write_report
from benchmarks.report.figures import performance_profiles
from benchmarks.report.verdicts import find_verdicts
from benchmarks.statistics import aggregate, probability_of_improvement


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 100)


@pytest.fixture
def finish_all(make_spec, finish):
    """Finish runs with the given normalised scores, one a seed."""

    def finish_all(env, label, scores, started="2026-01-01", **changes):
        scale = find_scale(env)
        for seed, score in enumerate(scores):
            value = scale.random + score * (scale.reference - scale.random) if scale else score
            finish(make_spec(env=env, label=label, seed=seed, **changes), [0.0, value], started=started)

    return finish_all


def printed(function, table):
    console = Console(width=80, record=True, file=io.StringIO())
    function(table, console)
    text = console.export_text()
    assert "…" not in text
    return " ".join(text.split())


def test_a_table_has_normalised_scores_where_there_is_a_scale(store, finish_all):
    finish_all("Pendulum-v1", "sac", [0.2, 0.4, 0.6, 0.8])
    finish_all("Odd-v1", "sac", [100.0, 200.0])
    odd, pendulum = build_leaderboards(store)
    assert pendulum.rows[0].normalised.iqm.value == pytest.approx(0.5)
    assert pendulum.rows[0].normalised.optimality_gap.value == pytest.approx(0.5)
    assert pendulum.rows[0].summary.iqm.value == pytest.approx(-682.2775)
    shown = printed(show, pendulum)
    assert "norm." in shown
    assert "0 is a random policy (-1,207.6), 1 is SAC on Pendulum-v1 (-157.0, deterministic evaluation" in shown
    assert odd.rows[0].normalised is None
    assert "Odd-v1 is not in benchmarks/normalisation.csv: there are no normalised scores of it." in odd.cautions
    assert "norm." not in printed(show, odd)


def test_algorithms_over_the_environments_they_were_all_run_on(store, finish_all):
    for env in ("Pendulum-v1", "Hopper-v4", "Ant-v4"):
        finish_all(env, "sac", [0.1, 0.2, 0.3, 0.4, 0.5])
    for env in ("Pendulum-v1", "Hopper-v4"):
        finish_all(env, "msac", [0.6, 0.7, 0.8])
    finish_all("Pendulum-v1", "tqc", [1.0])
    finish_all("Odd-v1", "msac", [100.0])
    boards = build_leaderboards(store)
    three, two = build_across(boards)
    assert [board.env for board in three.boards] == ["Ant-v4", "Hopper-v4", "Pendulum-v1"]
    assert [row.label for row in three.rows] == ["sac"]
    assert [board.env for board in two.boards] == ["Hopper-v4", "Pendulum-v1"]
    assert [row.label for row in two.rows] == ["msac", "sac"], "the best first"
    msac, sac = two.rows
    scores = {env: np.array([0.6, 0.7, 0.8]) for env in ("Hopper-v4", "Pendulum-v1")}
    for env, values in scores.items():
        np.testing.assert_allclose(msac.scores[env], values)
    assert msac.summary.iqm.value == pytest.approx(aggregate(scores).iqm.value)
    assert msac.summary.n == 6
    assert sac.summary.optimality_gap.value == pytest.approx(0.7)
    assert msac.profile["share"].iloc[[0, -1]].tolist() == [1.0, 0.0]
    (pair,) = two.pairs
    assert (pair.x, pair.y) == ("msac", "sac")
    assert pair.improvement == probability_of_improvement(msac.scores, sac.scores)
    assert "Left out, having no entry in benchmarks/normalisation.csv or no scores: Odd-v1." in two.cautions
    assert any(caution.startswith("Fewer than 5 seeds of some (msac has 3): ") for caution in two.cautions), (
        "six scores are trimmed"
    )
    assert "Algorithms or environments have different numbers of seeds." in two.cautions
    shown = printed(show_across, two)
    assert "Over Hopper-v4 (100 steps), Pendulum-v1 (100 steps), which weigh the same in the mean." in shown
    assert "highest quarter, each of which can be half of an environment." in shown
    assert "msac over sac 1.00 [1.00, 1.00]" in shown


def test_few_environments_are_ranked_by_the_mean_that_forgets_none(store, finish_all, monkeypatch, tmp_path):
    for env in ("Pendulum-v1", "Hopper-v4", "Ant-v4", "CartPole-v1"):
        finish_all(env, "sac", [0.0 if env == "Ant-v4" else 0.9] * 5)
        finish_all(env, "msac", [0.8] * 5)
    boards = build_leaderboards(store)
    (across,) = build_across(boards)
    assert [(row.label, round(row.score.value, 3), round(row.score.low, 3)) for row in across.rows] == [
        ("msac", 0.8, 0.8),
        ("sac", 0.675, 0.675),
    ]
    assert across.rows[1].summary.iqm.value == pytest.approx(0.9), "as if there were no Ant-v4"
    text = write_report(boards, [across], tmp_path)[0].read_text()
    assert "\n\n## 4 environments, normalised return\n\n| algorithm | mean | 95 % interval | IQM | median |" in text
    assert "- The gap is by how much" in text
    assert "can be a whole environment." in text
    page = write_page([Grid("", boards, [across])], tmp_path / "index.html").read_text()
    assert re.findall(r'class="score">([^<]*)', page)[:2] == ["0.80", "0.68"]
    monkeypatch.setattr("benchmarks.report.across.ENOUGH", 4)
    (across,) = build_across(boards)
    assert [row.label for row in across.rows] == ["sac", "msac"], "many are ranked by the IQM"
    text = write_report(boards, [across], tmp_path)[0].read_text()
    assert "| algorithm | IQM | 95 % interval |" in text.split("![")[0]
    assert "each of which" not in text


def test_the_longest_runs_of_an_environment_count_and_this_is_said(store, finish_all):
    finish_all("Pendulum-v1", "sac", [0.0], steps=50)
    finish_all("Pendulum-v1", "sac", [1.0], steps=500)
    finish_all("Hopper-v4", "sac", [1.0])
    (across,) = build_across(build_leaderboards(store))
    assert [(board.env, board.steps) for board in across.boards] == [("Hopper-v4", 100), ("Pendulum-v1", 500)]
    assert across.rows[0].summary.mean.value == pytest.approx(1.0)
    assert "Of several tables one of the longest runs is meant: Pendulum-v1." in across.cautions


@pytest.mark.parametrize(
    ("other", "date", "score"), [([0.9], "2026-01-02", 0.9), ([0.9], "2025-12-31", 0.5), ([0.7, 0.9], "2025-12-31", 0.8)]
)
def test_of_two_variants_the_one_with_more_seeds_or_the_latest_is_taken_and_never_both(other, date, score, store, finish_all):
    for env in ("Pendulum-v1", "Hopper-v4"):
        finish_all(env, "sac", [0.5], started="2026-01-01")
        finish_all(env, "msac", [0.1], started="2026-01-01")
    finish_all("Pendulum-v1", "sac", other, rounding="bf16", started=date)
    (across,) = build_across(build_leaderboards(store))
    scores = {row.label: row.scores for row in across.rows}
    np.testing.assert_allclose(scores["sac"]["Pendulum-v1"].mean(), score)
    assert [pair.x for pair in across.pairs] == ["msac"]
    assert any(caution.startswith("sac is more than once in the table of Pendulum-v1: here ") for caution in across.cautions)


def test_a_version_that_is_everywhere_goes_before_one_with_more_seeds(store, finish_all):
    for env in ("Pendulum-v1", "Hopper-v4"):
        finish_all(env, "sac", [0.5])
    finish_all("Pendulum-v1", "sac", [0.7, 0.9], package="stable_baselines3 3.0")
    (across,) = build_across(build_leaderboards(store))
    assert [len(scores) for scores in across.rows[0].scores.values()] == [1, 1]


def test_two_versions_that_are_compared_are_one_algorithm_over_environments(store, finish_all):
    for env in ("Pendulum-v1", "Hopper-v4"):
        for package in ("stable_baselines3 2.0", "stable_baselines3 3.0"):
            finish_all(env, "sac", [0.5], package=package)
    labels = [row.label for row in build_leaderboards(store)[0].rows]
    boards = build_leaderboards(store, pairs=[tuple(labels)])
    assert boards[0].pairs
    assert build_across(boards)[0].pairs == ()


def test_cautions_of_the_environments_are_the_tables_too(store, finish_all):
    for env in ("Acrobot-v1", "CartPole-v1"):
        for algo in ("dqn", "ppo"):
            finish_all(env, algo, [0.5, 0.6])
    (across,) = build_across(build_leaderboards(store))
    budgets = [caution for caution in across.cautions if "Of the steps that its hyperparameters were made for" in caution]
    assert [caution.partition(":")[0] for caution in budgets] == ["Acrobot-v1", "CartPole-v1"]
    assert any(caution.startswith("Every run is scored on the same 3 seeded episodes") for caution in across.cautions)


def test_one_environment_has_no_table_over_several(store, finish_all):
    finish_all("Pendulum-v1", "sac", [0.5, 0.6])
    assert build_across(build_leaderboards(store)) == []


def test_pairs_are_algorithms_and_parents_or_chosen(store, finish_all):
    for label, score in (("dqn", 0.1), ("mdqn", 0.2), ("aldqn", 0.3), ("ppo", 0.4)):
        finish_all("CartPole-v1", label, [score, score])
    (board,) = build_leaderboards(store)
    assert {(pair.x, pair.y) for pair in board.pairs} == {("mdqn", "dqn"), ("aldqn", "dqn")}
    (board,) = build_leaderboards(store, pairs=[("mdqn", "aldqn"), ("ppo", "none")])
    assert [(pair.x, pair.y, pair.improvement.value) for pair in board.pairs] == [("mdqn", "aldqn", 0.0)]


def test_a_pair_can_be_chosen_in_the_command(store, finish_all, capsys, refusal):
    for label in ("mdqn", "ppo"):
        finish_all("CartPole-v1", label, [0.5, 0.5])
    command = ["report", "--out", str(store.out), "--pair"]
    assert main([*command, "ppo", "mdqn"]) == 0
    assert "ppo over mdqn 0.50 [0.50, 0.50]" in " ".join(capsys.readouterr().out.split())
    assert (
        "There are no runs of 'mdqnn', only of mdqn, ppo: did you mean 'mdqn'?"
        in refusal(main, [*command, "ppo", "mdqnn"]).err
    )


def test_a_pair_of_which_no_table_has_both_is_said(store, finish_all, capsys):
    finish_all("CartPole-v1", "mdqn", [0.5, 0.5])
    finish_all("Acrobot-v1", "ppo", [0.5, 0.5])
    finish_all("Acrobot-v1", "ppo[mine (2).yml]", [0.5, 0.5])
    command = ["report", "--out", str(store.out), "--pair"]
    main([*command, "ppo", "mdqn", "--pair", "ppo[mine (2).yml]", "ppo"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "No table has scores of both ppo and mdqn." in printed
    assert "ppo[mine (2).yml] over ppo 0.50" in printed
    assert printed.count("No table has") == 1


def test_a_pair_may_be_of_a_name_and_of_one_of_its_versions(store, finish_all):
    for package in ("sb3_entropic 1", "sb3_entropic 2"):
        finish_all("Acrobot-v1", "mdqn", [0.5, 0.5], package=package)
    finish_all("Acrobot-v1", "ppo", [0.5, 0.5])
    (board,) = build_leaderboards(store)
    versions = [row.label for row in board.rows if row.name == "mdqn"]
    (chosen,) = build_leaderboards(store, pairs=[("ppo", versions[0])])
    assert [(pair.x, pair.y) for pair in chosen.pairs] == [("ppo", versions[0])]


def test_an_algorithm_is_what_it_is_over_environments_however_it_was_called(store, finish_all, make_spec, finish):
    finish_all("Pendulum-v1", "msac", [0.5, 0.7])
    for seed in range(2):
        spec = {"env": "MountainCarContinuous-v0", "algo": "msac", "label": "msac[ent_coef=0.2]", "seed": seed}
        finish(make_spec(**spec, hyperparameters={"ent_coef": 0.2}), [0.0, 50.0], started="2026-01-01")
    (across,) = build_across(build_leaderboards(store))
    assert [row.label for row in across.rows] == ["msac"]
    assert [row.label for row in across.rows[0].rows] == ["msac[ent_coef=0.2]", "msac"]


def test_what_is_written_over_several_environments(store, finish_all, tmp_path):
    for env in ("Pendulum-v1", "Hopper-v4"):
        finish_all(env, "sac", [0.25, 0.75])
    boards = build_leaderboards(store)
    markdown, _, _, profile, *curves = write_report(boards, build_across(boards), tmp_path)
    text = markdown.read_text()
    assert text.startswith("# Leaderboard\n\nA run's score is its mean return")
    assert text.index("## 2 environments, normalised return") < text.index("## Hopper-v4")
    assert "| algorithm | mean | 95 % interval | IQM | gap | n |" in text, "of two means the median is the mean"
    assert "| sac | 0.50 | [0.25, 0.75] | 0.50 | 0.50 | 4 (< 5 each) |" in text
    assert "- The gap is by how much runs fall short of 1 on average, those above it counting as 1." in text
    for path in (profile, *curves):
        assert f"]({path.name})" in text
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(curves) == 6


def test_tables_of_one_algorithm_come_last(store, finish_all, tmp_path):
    for env in ("Ant-v4", "Hopper-v4", "Pendulum-v1"):
        finish_all(env, "sac", [0.5])
    for env in ("Hopper-v4", "Pendulum-v1"):
        finish_all(env, "tqc", [0.5])
    boards = build_leaderboards(store)
    text = write_report(boards, build_across(boards), tmp_path)[0].read_text()
    titles = [line.split(",")[0].split(" after")[0] for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## 2 environments", "## Hopper-v4", "## Pendulum-v1", "## 3 environments", "## Ant-v4"]


def test_profiles_are_drawn_apart_where_they_are_many(store, finish_all):
    for env in ("Pendulum-v1", "Hopper-v4"):
        for index in range(6):
            finish_all(env, f"sac{index}", [index / 10, index / 10])
    (across,) = build_across(build_leaderboards(store))
    figure = performance_profiles(across)
    assert figure.axes[0].get_title(loc="left") == "sac5: 0.50 (n=4, < 5 each)"
    assert [len(axes.lines) for axes in figure.axes] == [7] * 6
    plt.close(figure)


def test_a_baseline_may_be_sb3s_here_and_its_losses_there(store, finish_all, make_spec, finish):
    off = {"label": "msac[munchausen_alpha=0]", "algo": "msac"}
    for env in ("Pendulum-v1", "Hopper-v4"):
        finish_all(env, "msac", [0.6, 0.7, 0.8, 0.9, 1.0])
    finish_all("Pendulum-v1", "sac", [0.1, 0.2, 0.3, 0.4, 0.5])
    scale = find_scale("Hopper-v4")
    for seed in range(5):
        finish(make_spec(env="Hopper-v4", seed=seed, **off), [0.0, scale.random])
    boards = build_leaderboards(store)
    (across,) = build_across(boards)
    assert [row.label for row in across.rows] == ["msac", "sac"]
    ((x, y, improvement),) = [(pair.x, pair.y, pair.improvement.value) for pair in across.pairs]
    assert (x, y, improvement) == ("msac", "sac", 1.0)
    assert "sac on Hopper-v4 is sac's losses in our training loop." in across.cautions
    together = [verdict for verdict in find_verdicts([Grid("", boards, [across])]) if verdict.together]
    assert [(verdict.algo, verdict.parent, verdict.stand_in) for verdict in together] == [("msac", "sac", True)]


def test_profiles_begin_little_below_the_random_policy(store, finish_all):
    for env in ("Pendulum-v1", "Hopper-v4"):
        finish_all(env, "sac", [-3.0, 0.5])
    (across,) = build_across(build_leaderboards(store))
    assert across.rows[0].profile[["threshold", "share"]].iloc[0].tolist() == [-0.25, 0.5]
