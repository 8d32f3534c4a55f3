"""A leaderboard says what the records say, failures and cautions included."""

import io
import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from rich.console import Console

from benchmarks import statistics
from benchmarks.__main__ import main
from benchmarks.report import Grid, build_across, build_leaderboards, show, write_page, write_report
from benchmarks.report.figures import learning_curves, wrapped
from benchmarks.report.show import show_notes
from benchmarks.report.words import cells_across, cells_of, ends, notes_on, share, title_of, with_losses, words_on_calls
from benchmarks.statistics import Estimate
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.zoo import load_hyperparameters


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    """The bootstrap itself is tested in test_statistics."""
    monkeypatch.setattr(statistics, "REPETITIONS", 100)


@pytest.fixture
def boards(store, make_spec, finish):
    for seed in range(5):
        finish(make_spec(seed=seed), [0.0, 100.0 + seed], seconds=2.0)
        finish(make_spec(seed=seed, algo="sac", label="sac", package="stable_baselines3 2.9"), [0.0, 200.0 + seed])
    failed = make_spec(seed=5, algo="sac", label="sac", package="stable_baselines3 2.9")
    store.fail(failed, store.begin(failed), "Traceback (most recent call last):\nValueError: it broke")
    return build_leaderboards(store)


def test_rows_are_ranked_and_complete(boards):
    (board,) = boards
    assert (board.env, board.steps, board.episodes) == ("Pendulum-v1", 100, 3)
    sac, msac = board.rows
    assert (sac.label, msac.label) == ("sac", "msac")
    assert msac.seeds == (0, 1, 2, 3, 4)
    assert msac.scores == (100.0, 101.0, 102.0, 103.0, 104.0)
    # five seeds: one is cut at each end
    assert msac.summary.iqm.value == pytest.approx(102.0)
    assert msac.steps_per_second == 50.0
    assert (sac.failures, msac.failures) == (1, 0)
    assert msac.curve["step"].tolist() == [50, 100]
    assert msac.curve["iqm"].tolist() == [0.0, pytest.approx(102.0)]


def test_cautions_and_failures_are_said(boards):
    (board,) = boards
    assert any("One environment" in caution for caution in board.cautions)
    assert any("Some runs failed" in caution for caution in board.cautions)
    assert not any("Fewer than 5" in caution for caution in board.cautions)
    assert board.failures == (
        ("sac seed 5", "ValueError: it broke", "Traceback (most recent call last):\nValueError: it broke"),
    )


def test_a_late_evaluation_is_drawn_where_it_was(store, make_spec):
    spec = make_spec(algo="ppo", label="ppo", episodes=1)
    folder = store.begin(spec)
    same = {"train_seconds": 1.0, "episode_seed": spec.evaluation_seed, "return": 1.0}
    each = [{"step": step, "timesteps": taken, **same} for step, taken in ((50, 50), (100, 150))]
    pd.DataFrame(each).to_parquet(folder / "evaluations.parquet", index=False)
    store.finish(spec, folder, {"timesteps": 150, "train_seconds": 1.0})
    (board,) = build_leaderboards(store)
    assert board.rows[0].curve["step"].tolist() == [50, 150]
    figure = learning_curves(board)
    assert figure.axes[0].get_xlim() == (0, 150)
    plt.close(figure)


def test_equal_iqms_are_ranked_by_the_mean(store, make_spec, finish):
    for seed in range(5):
        finish(make_spec(seed=seed, algo="dqn", label="dqn"), [0.0, 500.0 if seed else 100.0])
        finish(make_spec(seed=seed, algo="qrdqn", label="qrdqn"), [0.0, 500.0])
    (board,) = build_leaderboards(store)
    assert [(row.label, row.summary.iqm.value) for row in board.rows] == [("qrdqn", 500.0), ("dqn", 500.0)]


def test_how_rows_came_about_is_said(store, make_spec, finish):
    entry = load_hyperparameters(ALGORITHMS["softq"], "Pendulum-v1")
    finish(make_spec(algo="softq", label="softq", hyperparameters=entry), [0.0, 1.0])
    finish(make_spec(algo="softq", label="softq", hyperparameters={**entry, "train_freq": 2}), [0.0, 2.0])
    for seed, package in enumerate(("sb3_entropic 0.0.9", "sb3_entropic 0.1.0")):
        finish(make_spec(seed=seed, algo="sac", label="sac", package=package), [0.0, 3.0])
    label = "msac[munchausen_alpha=0.5]"
    finish(make_spec(label=label, hyperparameters={"munchausen_alpha": 0.5}), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert "sac appears more than once: its rows differ in package." in board.cautions
    # Which its entry has not.
    assert "softq[train_freq=2]" in {row.label for row in board.rows}
    assert "softq's hyperparameters were found on this environment: on seed 0, in runs of 8,000 steps." in board.cautions
    assert f"{label} is msac as it is." in board.cautions
    assert any(caution.startswith("Steps/s and times depend on what else a machine was doing") for caution in board.cautions)


def test_what_an_entry_did_not_say_then_was_the_constructors(store, make_spec, finish):
    now = {"temperature": 0.03, "entropy_in_target": True, "epistemic_weight": 0.01, "exploration": "epsilon"}
    for hyperparameters in ({}, now):
        spec = {"env": "LunarLander-v3", "algo": "vfe", "label": "vfe", "hyperparameters": hyperparameters}
        finish(make_spec(**spec), [0.0, 1.0], started="2026-01-01")
    (board,) = build_leaderboards(store)
    then = "vfe[entropy_in_target=False,epistemic_weight=1.0,exploration=boltzmann,temperature=1.0]"
    assert sorted(row.label for row in board.rows) == ["vfe", then]


def test_what_ran_with_another_entry_was_not_found_on_the_task(store, make_spec, finish):
    entry = load_hyperparameters(ALGORITHMS["vfe"], "Acrobot-v1")
    for hyperparameters, said in (({}, 0), (entry, 1)):
        finish(make_spec(env="Acrobot-v1", algo="vfe", label="vfe", hyperparameters=hyperparameters), [0.0, 1.0])
        (board,) = build_leaderboards(store)
        assert sum("were found on this environment" in caution for caution in board.cautions) == said


def test_runs_of_an_entry_that_has_changed_since_are_called_by_what_was_other(store, make_spec, finish):
    env = "MountainCarContinuous-v0"
    for seed in range(2):
        finish(make_spec(env=env, seed=seed, hyperparameters={"ent_coef": 0.1, "gamma": 0.9999}), [0.0, 1.0])
        finish(make_spec(env=env, seed=seed, hyperparameters={"ent_coef": 0.2, "gamma": 0.9999}), [0.0, 2.0])
        finish(make_spec(env=env, seed=seed, label="msac[munchausen_alpha=0]", hyperparameters={"ent_coef": 0.1}), [0.0, 3.0])
    (board,) = build_leaderboards(store)
    assert [row.label for row in board.rows] == ["msac[munchausen_alpha=0]", "msac", "msac[ent_coef=0.1]"]
    assert [row.variant for row in board.rows] == [row.label for row in board.rows]
    assert "msac[ent_coef=0.1] was run as msac, before its entry of hyperparameters was changed." in board.cautions
    assert sum("was run as" in caution for caution in board.cautions) == 1
    (board,) = build_leaderboards(store, as_run=True)
    assert {row.name for row in board.rows} == {"msac[munchausen_alpha=0]", "msac"}


def test_a_value_that_a_budget_cuts_is_not_the_usual_one(store, make_spec, finish):
    usual = {"learning_starts": 10_000}
    label = "msac[learning_starts=10000]"
    finish(make_spec(env="Hopper-v4", label=label, hyperparameters=usual, steps=30_000), [1.0, 2.0])
    finish(make_spec(env="Hopper-v4", label=label, hyperparameters=usual, steps=1_000_000), [1.0, 2.0])
    assert [board.rows[0].variant for board in build_leaderboards(store)] == [label, "msac"]


def test_pairs_may_be_named_without_the_version(store, make_spec, finish):
    for package in ("sb3_entropic 0.1.0", "sb3_entropic 0.2.0"):
        finish(make_spec(package=package), [1.0, 2.0])
    finish(make_spec(algo="sac", label="sac"), [1.0, 1.5])
    (board,) = build_leaderboards(store, pairs=[("msac", "sac")])
    assert [pair.y for pair in board.pairs] == ["sac", "sac"]


def test_how_many_pairs_of_equals_would_be_called(store, make_spec, finish):
    for algo in ("sac", "msac", "mdac", "softq"):
        for seed in range(5 if algo != "softq" else 4):
            finish(make_spec(seed=seed, algo=algo, label=algo), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert board.calls_of_equals == (3, pytest.approx(3 * 0.1))


def test_few_seeds_of_some_are_said_of_them(store, make_spec, finish):
    for seed in range(5):
        finish(make_spec(seed=seed), [1.0, 2.0])
    finish(make_spec(algo="sac", label="sac"), [1.0, 2.0])
    (board,) = build_leaderboards(store)
    assert any(caution.startswith("Fewer than 5 seeds of some (sac has 1)") for caution in board.cautions)
    assert any(caution.startswith("With so few seeds intervals are too narrow") for caution in board.cautions), "msac's"


def test_a_long_label_is_broken_where_a_part_of_it_ends():
    label = "msac[munchausen_density=pretanh,munchausen_bound=[-1, 1]]"
    assert wrapped(label, ": 1.0 (n=5)").split("\n") == [
        "msac[munchausen_density=",
        "pretanh,munchausen_bound=[-1,",
        "1]]: 1.0 (n=5)",
    ]


def test_what_most_rows_have_in_common_is_said_once(store, make_spec, finish, tmp_path):
    machine = {"cores": 2, "processor": "P"}
    for algo, commit in (("sac", "old"), ("msac", "new"), ("mdac", "new")):
        finish(make_spec(algo=algo, label=algo), [0.0, 1.0], commit=commit, machine=machine, threads=1)
    write_report(build_leaderboards(store), [], tmp_path)
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert "- Unless a row says otherwise: cores 2, processor P; 1 thread a run; commit new." in lines
    assert "- msac: sb3_entropic 0.1.0, seed 0, 0.00 hours." in lines
    assert "- sac: sb3_entropic 0.1.0, seed 0, 0.00 hours, commit old." in lines


def test_a_sweep_is_said_to_be_one(store, make_spec, finish):
    def said():
        (board,) = build_leaderboards(store)
        return [caution for caution in board.cautions if "settings" in caution]

    for alpha in (0, 0.5):
        finish(make_spec(label=f"msac[munchausen_alpha={alpha}]"), [1.0, 2.0])
    finish(make_spec(algo="sac", label="sac"), [1.0, 2.0])
    assert said() == [], "two are compared"
    finish(make_spec(label="msac"), [1.0, 2.0])
    assert said() == [], "one of the three is the baseline"
    finish(make_spec(label="msac[munchausen_alpha=0.7]"), [1.0, 2.0])
    assert said() == ["3 settings of msac were tried: the best of them owes something to chance."]


def test_few_and_unequal_seeds_are_said(store, make_spec, finish):
    for seed in range(3):
        finish(make_spec(seed=seed), [1.0, 2.0])
    finish(make_spec(algo="sac", label="sac"), [1.0, 2.0])
    (board,) = build_leaderboards(store)
    assert any("Fewer than 5 seeds (with fewer than 4 nothing is trimmed" in caution for caution in board.cautions)
    assert any("different numbers of seeds" in caution for caution in board.cautions)


@pytest.mark.parametrize(
    ("seeds", "beginning"), [(3, "Fewer than 5 seeds (with"), (4, "Fewer than 5 seeds: too few"), (5, None)]
)
def test_few_seeds_are_fewer_than_five(seeds, beginning, store, make_spec, finish):
    for seed in range(seeds):
        finish(make_spec(seed=seed), [1.0, 2.0])
    (board,) = build_leaderboards(store)
    said = [caution for caution in board.cautions if caution.startswith("Fewer")]
    assert said == [] if beginning is None else said[0].startswith(beginning)


def test_runs_that_differ_in_anything_but_the_seed_are_never_pooled(store, make_spec, finish):
    finish(make_spec(), [1.0, 2.0])
    finish(make_spec(seed=1, package="sb3_entropic 0.2.0"), [1.0, 4.0])
    finish(make_spec(seed=2, steps=200), [1.0, 6.0])
    finish(make_spec(seed=3, env="Pendulum-v0"), [1.0, 8.0])
    boards = build_leaderboards(store)
    assert [(board.env, board.steps, len(board.rows)) for board in boards] == [
        ("Pendulum-v0", 100, 1),
        ("Pendulum-v1", 100, 2),
        ("Pendulum-v1", 200, 1),
    ]
    assert len({row.label for row in boards[1].rows}) == 2
    assert any("appears more than once" in caution for caution in boards[1].cautions)


def test_different_origins_are_said(store, make_spec):
    for seed, commit in enumerate(("aaa", "bbb")):
        spec = make_spec(seed=seed, episodes=1)
        folder = store.begin(spec)
        same = {"seed": seed, "train_seconds": 1.0, "episode_seed": spec.evaluation_seed, "return": 1.0}
        rows = [{"step": step, "timesteps": step, **same} for step in (50, 100)]
        pd.DataFrame(rows).to_parquet(folder / "evaluations.parquet", index=False)
        store.finish(spec, folder, {"timesteps": 120, "train_seconds": 1.0, "commit": commit, "wall_seconds": 1800.0})
    (board,) = build_leaderboards(store)
    assert any("different commits" in caution for caution in board.cautions)
    assert not any("different machines" in caution for caution in board.cautions)
    assert any("took more steps than the table says (msac 120)" in caution for caution in board.cautions)
    assert board.rows[0].provenance["commit"] == ["aaa", "bbb"]
    assert board.rows[0].provenance["hours"] == 1.0


def test_a_run_in_two_parts_has_the_origins_of_both(make_spec, finish, store):
    part = {"timesteps": 50, "environment": "restored", "commit": "old", "versions": {"torch": "2.8"}}
    finish(make_spec(), [1.0, 2.0], commit="new", versions={"torch": "2.9"}, resumed=[part])
    (board,) = build_leaderboards(store)
    assert board.rows[0].provenance["commit"] == ["new", "old"]
    assert board.rows[0].provenance["versions"] == ["torch 2.8", "torch 2.9"]
    assert sum("different commits" in caution or "package versions" in caution for caution in board.cautions) == 2
    assert not any("new episode" in caution for caution in board.cautions)
    finish(make_spec(seed=1), [1.0, 2.0], resumed=[{"timesteps": 50, "environment": "new episode"}])
    (board,) = build_leaderboards(store)
    assert any("began a new episode" in caution and "msac" in caution for caution in board.cautions)


def test_changed_defaults_are_said(make_spec, finish, store):
    finish(make_spec(seed=0), [1.0, 2.0])
    for seed, alpha in ((1, "0.5"), (2, "0.5"), (3, "0.9")):
        finish(make_spec(seed=seed), [1.0, 2.0], defaults={"munchausen_alpha": alpha})
        (board,) = build_leaderboards(store)
        assert ("changed between the runs of msac" in " ".join(board.cautions)) == (seed == 3)
    assert board.rows[0].provenance["defaults"] == ["munchausen_alpha 0.5", "munchausen_alpha 0.9", "not recorded"]


def test_seeds_and_commits_are_written_as_they_are(make_spec, finish, store, tmp_path):
    for seed in (0, 4, 5):
        finish(make_spec(seed=seed), [1.0, 2.0], commit=f"{'0123456789' * 4}+changes")
    text = write_report(build_leaderboards(store), [], tmp_path)[0].read_text()
    assert "seeds 0, 4, 5, " in text
    assert "commit 0123456789+changes." in text


@pytest.mark.parametrize(("seeds", "called"), [(4, False), (5, True)])
def test_of_few_seeds_no_pair_is_called(seeds, called, make_spec, finish, store):
    for seed in range(seeds):
        finish(make_spec(seed=seed), [1.0, 2.0 + seed])
        finish(make_spec(seed=seed, algo="sac", label="sac"), [1.0, 12.0 + seed])
    (board,) = build_leaderboards(store)
    assert board.improvements["sac", "msac"].excludes(0.5)
    assert board.is_called("sac", "msac") == called


@pytest.mark.parametrize(("seeds", "said"), [(2, "Fewer than 5 seeds"), (5, "90 % of those with 5 seeds"), (20, None)])
def test_it_is_said_how_narrow_intervals_are(seeds, said, make_spec, finish, store):
    for seed in range(seeds):
        finish(make_spec(seed=seed), [1.0, 2.0 + seed])
    (board,) = build_leaderboards(store)
    about = [caution for caution in board.cautions if caution.startswith(("Fewer than", "With so few"))]
    assert len(about) == (said is not None)
    assert all(said in caution for caution in about)


def test_different_ways_of_training_are_said(store, make_spec, finish):
    ours = {"engine": "fast, compiled", "matrix_library": "oneDNN's matrix products", "stack": 2, "steps_per_second": 70.0}
    theirs = {"engine": "sb3", "matrix_library": "oneDNN's matrix products", "stack": 1, "steps_per_second": 10.0}
    for seed in range(2):
        finish(make_spec(seed=seed), [1.0, 2.0], wall_seconds=3600.0, **ours)
        finish(make_spec(seed=seed, algo="sac", label="sac"), [1.0, 3.0], **theirs)
    (board,) = build_leaderboards(store)
    assert "Engines differ: fast, compiled (msac); sb3 (sac)." in board.cautions
    assert "Steps/s are those of all seeds that were trained together: 1 (sac); 2 (msac)." in board.cautions
    assert not any("Matrix libraries" in caution for caution in board.cautions)
    assert [row.steps_per_second for row in board.rows] == [10.0, 70.0]
    assert board.rows[1].provenance["hours"] == 1.0, "two runs in the same hour"
    assert [row.curve_in_time["seconds"].tolist() for row in board.rows] == [[5.0, 10.0], [2.5, 5.0]], "and a share each"
    finish(make_spec(seed=2), [1.0, 2.0], **{**ours, "matrix_library": "torch's own matrix library"})
    (board,) = build_leaderboards(store)
    expected = "Matrix libraries differ: oneDNN's matrix products (sac, msac); torch's own matrix library (msac)."
    assert expected in board.cautions


def test_an_algorithm_of_which_every_run_failed_is_still_there(store, make_spec, finish):
    finish(make_spec(), [1.0, 2.0])
    failed = make_spec(algo="sac", label="sac")
    store.fail(failed, store.begin(failed), "RuntimeError: no")
    (board,) = build_leaderboards(store)
    assert [(row.label, row.summary is None, row.failures) for row in board.rows] == [("msac", False, 0), ("sac", True, 1)]


def test_what_is_printed_is_whole_in_eighty_columns(store, boards, make_spec, finish):
    label = "msac[gamma=0.9]"
    finish(make_spec(label=label, hyperparameters={"gamma": 0.9}), [0.0, -12_345.6])
    console = Console(width=80, record=True, file=io.StringIO())
    show(build_leaderboards(store)[0], console)
    printed = console.export_text()
    assert "Pendulum-v1 after 100 steps" in printed
    assert "…" not in printed
    low, high = boards[0].rows[1].summary.iqm.low, boards[0].rows[1].summary.iqm.high
    for words in (label, "102.0", f"[{low:.1f}, {high:.1f}]", "-12,346", "failed: sac seed 5: ValueError: it broke"):
        assert words in printed


def test_what_is_written(boards, tmp_path):
    markdown, data, table, *figures = write_report(boards, build_across(boards), tmp_path / "report")
    text = markdown.read_text()
    assert "| msac | 102.0 |" in text
    assert [figure.name.rpartition("-Pendulum")[0] for figure in figures] == [
        "learning-curve",
        "learning-curve-in-time",
        "performance-profile",
        "probability-of-improvement",
    ]
    assert all(f"]({figure.name})" in text for figure in figures)
    (board,) = json.loads(data.read_text())["boards"]
    assert [row["algorithm"] for row in board["rows"]] == ["sac", "msac"]
    assert board["rows"][1]["summary"]["iqm"]["value"] == pytest.approx(102.0)
    assert board["failures"] == [{"run": "sac seed 5", "error": "ValueError: it broke"}]
    rows = pd.read_csv(table)
    assert rows["algorithm"].tolist() == ["sac", "msac"]
    assert rows["iqm"].tolist() == pytest.approx([202.0, 102.0])
    assert rows["failed"].tolist() == [1, 0]
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)


def test_the_same_data_gives_the_same_bytes(boards, tmp_path):
    first, second = (
        write_report(boards, build_across(boards), tmp_path / name, suffixes=(".png", ".svg")) for name in ("one", "two")
    )
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_runs_that_were_scored_on_other_episodes_have_a_table_of_their_own(store, make_spec, finish):
    for first in (10_000, 5):
        finish(make_spec(evaluation_seed=first), [0.0, 1.0])
    titles = [title_of(board) for board in build_leaderboards(store)]
    assert titles == [f"Pendulum-v1 after 100 steps, return of 3 seeded episodes{end}" for end in (" from seed 5 on", "")]


def test_a_default_that_is_written_down_is_no_setting(store, make_spec, finish):
    entry = load_hyperparameters(ALGORITHMS["sac"], "Pendulum-v1")
    written = {"n_envs": 1, "normalize": False, "frame_stack": 1, "policy": "MlpPolicy", "policy_kwargs": {}, "gamma": 0.99}
    own = {"train_freq": [entry["train_freq"], "step"]} if isinstance(entry.get("train_freq"), int) else {}
    finish(make_spec(algo="sac", label="sac", hyperparameters={**written, **entry, **own}), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert [row.label for row in board.rows] == ["sac"]


def test_a_late_score_of_other_evaluations_is_told(store, make_spec, finish):
    finish(make_spec(), [0.0, 1.0])
    finish(make_spec(algo="sac", label="sac", evaluations=8), [float(k) for k in range(8)])
    (board,) = build_leaderboards(store)
    assert "Late is of different numbers of evaluations: 1 (msac); 2 (sac)." in board.cautions


def test_names_that_differ_in_signs_alone_have_figures_of_their_own(store, make_spec, finish, tmp_path):
    for env in ("a:Foo-v0", "a/Foo-v0"):
        finish(make_spec(env=env), [0.0, 1.0])
    boards = build_leaderboards(store)
    figures = [path.name for path in write_report(boards, [], tmp_path)[3:]]
    assert len(figures) == len(set(figures)) == 6
    html = write_page([Grid("", boards, [])], tmp_path / "page.html").read_text()
    sections = re.findall(r'id="(board-[^"]*)"', html)
    assert len(sections) == len(set(sections)) >= 2


def test_other_peoples_text_is_text(store, make_spec, finish, tmp_path):
    label = r"msac[x=$\foo$ <!-- end --> <b>a</b> [a](b)]"
    finish(make_spec(label=label), [0.0, 1.0])
    store.fail(make_spec(seed=1, label=label), store.begin(make_spec(seed=1, label=label)), "ValueError: `x` \x1b[2J <i>")
    (board,) = build_leaderboards(store)
    markdown, *_ = write_report([board], [], tmp_path)
    text = markdown.read_text()
    assert "&lt;!-- end -->" in text
    assert "<b>" not in text
    assert "[a](b)" not in text
    assert "`` ValueError: `x`  [2J <i> ``" in text, "within code nothing else is obeyed"
    assert (tmp_path / "learning-curve-Pendulum-v1-100.png").is_file()


def test_tables_that_differ_in_the_episodes_alone_have_figures_of_their_own(store, make_spec, finish, tmp_path):
    for episodes in (3, 5):
        finish(make_spec(episodes=episodes), [0.0, 1.0])
    _, _, table, *paths = write_report(build_leaderboards(store), [], tmp_path)
    assert pd.read_csv(table)["episodes"].tolist() == [3, 5]
    figures = [path.name for path in paths]
    kinds = ("learning-curve", "learning-curve-in-time", "performance-profile")
    assert figures == [f"{kind}-Pendulum-v1-100-{number}.png" for number in (1, 2) for kind in kinds]


def test_figures_of_the_report_before_are_removed_and_nothing_else(boards, tmp_path):
    before = write_report(boards, [], tmp_path, suffixes=(".png", ".svg"))
    others = [tmp_path / name for name in ("performance-profile-mine.png", "photo.png", "notes.md")]
    for path in others:
        path.write_text("mine")
    markdown = tmp_path / "leaderboard.md"
    markdown.write_text(markdown.read_text() + "![mine](photo.png)\n![away](../performance-profile-1.png)\n")
    (board,) = boards
    alone = replace(board, rows=board.rows[:1], pairs=())
    written = write_report([alone], [], tmp_path)
    assert set(tmp_path.glob("*.*")) == {*written, *others}
    assert len(written) == 6
    assert len(before) == 11, "a figure less, and none as SVG"


def test_profiles_and_improvements_are_those_of_the_scores(boards):
    (board,) = boards
    profile = board.profiles["msac"]
    assert profile["threshold"].tolist() == pytest.approx([96.88, 100, 101, 102, 103, 104, 207.12])
    assert profile["share"].tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0, 0])
    assert board.improvements["sac", "msac"].value == 1
    assert board.improvements["msac", "sac"].value == 0


def test_the_two_sides_of_a_comparison_add_up_to_one(store, make_spec, finish):
    for seed, (ours, theirs) in enumerate([(1.0, 2.0), (3.0, 2.0), (5.0, 4.0)]):
        finish(make_spec(seed=seed), [0.0, ours])
        finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, theirs])
    (board,) = build_leaderboards(store)
    one, other = board.improvements["msac", "sac"], board.improvements["sac", "msac"]
    assert one.value == pytest.approx(5 / 9)
    assert (one.value + other.value, one.low + other.high, one.high + other.low) == pytest.approx((1, 1, 1))


def test_few_algorithms_share_a_plot_and_many_get_one_each(store, make_spec, finish):
    def panels(count):
        for index in range(count):
            finish(make_spec(algo="msac", label=f"msac[x={index}]", package=f"{index}"), [0.0, float(index)])
        figure = learning_curves(build_leaderboards(store)[0])
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        lines = [len(axes.lines) for axes in figure.axes]
        plt.close(figure)
        return titles, lines

    assert panels(5)[1] == [5]
    titles, lines = panels(7)
    assert titles == [f"msac[x={index}]: {index}.00 (n=1, < 5)" for index in reversed(range(7))], "the best first"
    assert lines == [8] * 7, "each curve in front of all seven in grey"


def test_one_seed_has_no_interval_and_none_is_said_to_be_there(store, make_spec, finish):
    finish(make_spec(), [1.0, 2.0])
    finish(make_spec(algo="sac", label="sac"), [1.0, 3.0])
    (board,) = build_leaderboards(store)
    said = notes_on(board)
    assert said[0] == "Probability of improvement: msac over sac 0.00, late 0.00."
    assert not any("too narrow" in note for note in said)
    finish(make_spec(seed=1), [1.0, 2.0])
    said = notes_on(build_leaderboards(store)[0])
    assert (
        said[0]
        == "Probability of improvement, with its 95 % interval: msac over sac 0.00 [0.00, 0.00], late 0.00 [0.00, 0.00]."
    )
    assert any("the intervals are too narrow" in note for note in said)


def test_an_end_beside_one_half_is_not_written_as_one_half():
    assert [share(value) for value in (0.0, 0.497, 0.5, 0.5004, 0.503, 0.51)] == [
        "0.00",
        "0.497",
        "0.50",
        "0.5004",
        "0.503",
        "0.51",
    ]
    assert ends(Estimate(0.7, 0.502, 0.9)) == "0.502–0.90"
    assert ends(Estimate(0.7, float("nan"), float("nan"))) == ""


def test_few_runs_are_called_that_where_they_are_counted(store, make_spec, finish):
    for env in ("Pendulum-v1", "Hopper-v4"):
        for seed in range(5):
            finish(make_spec(env=env, seed=seed), [1.0, 2.0])
        for seed in range(3):
            finish(make_spec(env=env, seed=seed, algo="sac", label="sac"), [1.0, 1.0])
    boards = build_leaderboards(store)
    (across,) = build_across(boards)
    assert [cells_of(boards[0], row)[-2] for row in boards[0].rows] == ["5", "3 (< 5)"]
    assert [cells_across(across, row)[-1] for row in across.rows] == ["10", "6 (< 5 each)"]
    figure = learning_curves(boards[0])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["msac (n=5)", "sac (n=3, < 5)"]
    plt.close(figure)


def test_a_wide_band_does_not_flatten_the_curves(store, make_spec, finish):
    for seed in range(5):
        finish(make_spec(seed=seed), [-3000.0 if seed == 0 else 0.0, 10.0 + seed])
    (board,) = build_leaderboards(store)
    assert board.rows[0].curve["low"].min() < -500
    figure = learning_curves(board)
    assert figure.axes[0].get_ylim()[0] > -5
    assert figure.axes[0].get_title(loc="left").endswith("\nbands leave the frame")
    plt.close(figure)
    for seed in range(5):
        finish(make_spec(env="Hopper-v4", seed=seed), [float(seed), 10.0 + 9 * seed])
    figure = learning_curves(build_leaderboards(store)[0])
    assert "frame" not in figure.axes[0].get_title(loc="left")
    plt.close(figure)


def test_whose_losses_a_baseline_has_is_told():
    assert with_losses("msac[munchausen_alpha=0]") == "msac[munchausen_alpha=0] (SAC's losses)"
    assert with_losses("softdqn[soft_value=max] (1a2b)") == "softdqn[soft_value=max] (1a2b) (DQN's losses)"
    assert with_losses("msac") == "msac"


@pytest.mark.parametrize(("algorithms", "said"), [(2, ""), (5, ", so of these 10 pairs in about 1")])
def test_of_few_pairs_it_is_not_said_how_many_are_marked_by_chance(algorithms, said, store, make_spec, finish):
    for index in range(algorithms):
        for seed in range(5):
            finish(make_spec(label=f"msac[x={index}]", package=f"{index}", seed=seed), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    words = "the interval excludes one half, as it does between equals in 10 % of cases with 5 seeds and 6 % with 10"
    assert words_on_calls(board) == words + said


def test_a_note_is_an_item_of_a_list(capsys):
    console = Console(width=20, record=True, file=io.StringIO())
    show_notes(["one two three four five", "a-path/that-is-longer-than-a-line"], console)
    assert console.export_text().splitlines() == [
        "- one two three four",
        "  five",
        "-",
        "  a-path/that-is-longer-than-a-line",
    ]


def test_a_single_seed_is_valid_json(store, make_spec, finish, tmp_path):
    finish(make_spec(), [1.0, 2.0])
    _, data, *_ = write_report(build_leaderboards(store), [], tmp_path)
    (board,) = json.loads(data.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["boards"]
    assert board["rows"][0]["summary"]["iqm"]["interval"] is None


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("Pendulum-v1", ["Pendulum-v1"]),
        ("Pendulum", ["Pendulum-v0", "Pendulum-v1"]),
        ("my.module:Odd-v0,Pendulum-v0", ["Pendulum-v0", "my.module:Odd-v0"]),
        ("MinAtar/Breakout", ["MinAtar/Breakout-v1"]),
    ],
)
def test_the_report_of_some_environments(wanted, shown, store, make_spec, finish, capsys):
    there = ["MinAtar/Breakout-v1", "Pendulum-v0", "Pendulum-v1", "my.module:Odd-v0"]
    for env in there:
        finish(make_spec(env=env), [1.0, 2.0])
    assert main(["report", "--out", str(store.out), "--env", wanted]) == 0
    printed = capsys.readouterr().out
    assert [env for env in there if f"{env} after 100 steps" in printed] == shown


def test_a_report_of_what_never_ran_names_what_did(store, make_spec, finish, refusal):
    finish(make_spec(env="my.module:Odd-v0"), [1.0, 2.0])
    for wanted in ("Odd-v0", "my.module:Odd-v1", "Pendulum-v1"):
        printed = refusal(main, ["report", "--out", str(store.out), "--env", wanted])
        assert f"There are no runs of {wanted} in {store.out}, only of my.module:Odd-v0" in printed.err
    assert "did you mean" not in printed.err, "nothing is near"


def test_shares_of_the_steps_that_hyperparameters_were_made_for_are_told_where_they_differ(store, make_spec, finish):
    place = {"env": "Acrobot-v1", "steps": 50_000, "hyperparameters": {}}
    for algo in ("dqn", "mdqn"):
        finish(make_spec(algo=algo, label=algo, **place), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert not any("made for" in caution for caution in board.cautions)
    finish(make_spec(algo="ppo", label="ppo", **place), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    told = "Of the steps that its hyperparameters were made for, an algorithm has: 5 % (ppo); 50 % (dqn, mdqn)."
    assert told in board.cautions


def test_a_long_label_is_broken_above_its_plot(store, make_spec, finish):
    label = "msac[munchausen_alpha=0.9,munchausen_bound=[-1, 1],munchausen_shift=True]"
    finish(make_spec(label=label), [0.0, 1.0])
    for index in range(5):
        finish(make_spec(algo="sac", label=f"sac[x={index}]"), [0.0, 0.0])
    (board,) = build_leaderboards(store)
    title = learning_curves(board).axes[0].get_title(loc="left")
    assert title.split("\n") == [
        "msac[munchausen_alpha=0.9,",
        "munchausen_bound=[-1, 1],",
        "munchausen_shift=True]",
        "1.00 (n=1, < 5)",
    ]
