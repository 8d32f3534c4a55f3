"""Better or worse is said where the interval excludes one half, of plain algorithms and their own parents."""

import matplotlib.pyplot as plt
import pytest

from benchmarks.__main__ import main
from benchmarks.published import publish
from benchmarks.report import Grid, build_across, build_leaderboards
from benchmarks.report.figures import does_it_help
from benchmarks.report.verdicts import (
    BEGIN,
    END,
    cells_of_verdicts,
    chance,
    find_verdicts,
    in_short,
    notes_on_verdicts,
    write_into,
)
from benchmarks.report.words import notes_across, notes_on
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.engine.gemm import ROUNDED
from sb3_entropic.errors import UserError
from sb3_entropic.zoo import load_hyperparameters


@pytest.fixture
def fill(store, make_spec, finish):
    """Runs of two algorithms whose seeds differ by so much."""

    def fill(gap, seeds=5, **changes):
        for seed in range(seeds):
            finish(make_spec(seed=seed, algo="sac", label="sac", **changes), [0.0, -200.0 + seed])
            finish(make_spec(seed=seed, **changes), [0.0, -200.0 + seed + gap])

    return fill


def cells(store):
    boards = build_leaderboards(store)
    return cells_of_verdicts(find_verdicts([Grid("mine", boards, build_across(boards))]))


@pytest.mark.parametrize(("gap", "place"), [(50.0, 2), (-50.0, 3), (0.0, 4)])
def test_the_interval_decides(gap, place, store, fill):
    fill(gap)
    ((algo, parent, *columns),) = cells(store)
    assert (algo, parent) == ("msac", "sac")
    assert [column != "–" for column in columns] == [place == column for column in (2, 3, 4)]
    assert columns[place - 2].startswith("Pendulum-v1 (100): ")


def test_few_seeds_are_called_that(store, fill):
    fill(50.0, seeds=2)
    ((*_, better, worse, unknown),) = cells(store)
    assert (better, worse, unknown) == ("–", "–", "Pendulum-v1 (100), 2 seeds: 1.00 [1.00, 1.00], late 1.00")
    assert chance(find_verdicts([Grid("", build_leaderboards(store), [])])).startswith("0 of 0 comparisons")


def test_several_environments_are_also_taken_together(store, fill):
    fill(50.0)
    fill(50.0, env="Hopper-v4", steps=2000)
    ((*_, better, _, _),) = cells(store)
    assert "Hopper-v4 (2k): 1.00" in better
    assert "2 environments together (mine): 1.00" in better


def test_of_several_sets_of_environments_the_largest_counts(store, make_spec, finish, fill):
    for place in ({}, {"env": "Hopper-v4"}, {"env": "HalfCheetah-v4"}):
        fill(50.0, **place)
    for place in ({}, {"env": "Hopper-v4"}):
        finish(make_spec(algo="tqc", label="tqc", **place), [0.0, 1.0])
    boards = build_leaderboards(store)
    assert [len(table.boards) for table in build_across(boards)] == [3, 2]
    ((*_, better, _, _),) = cells(store)
    assert better.count("together") == 1
    assert "3 environments together" in better


def test_what_was_overridden_is_no_verdict_on_the_algorithm(store, make_spec, finish):
    finish(make_spec(algo="sac", label="sac"), [0.0, 1.0])
    finish(make_spec(label="msac[munchausen_alpha=0]"), [0.0, 2.0])
    assert cells(store) == []


def test_the_table_takes_the_place_of_the_one_before(tmp_path, store, fill):
    fill(50.0)
    publish(store, tmp_path / "results" / "mine")
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    call = ["leaderboard", "--results", str(tmp_path / "results"), "--readme", str(readme)]
    assert main(call) == 0
    text = readme.read_text()
    assert text.startswith(f"above\n{BEGIN}\n| algorithm |")
    assert (tmp_path / "results" / "does-it-help.png").is_file()
    assert text.endswith(f"{END}\nbelow\n")
    assert "| msac | sac | Pendulum-v1 (100): 1.00 [1.00, 1.00], late 1.00 | – | – |" in text
    assert main(call) == 0
    assert readme.read_text() == text


def test_in_short_what_one_cannot_say_is_counted(store, fill):
    fill(0.0)
    fill(50.0, env="Hopper-v4")
    boards = build_leaderboards(store)
    verdicts = find_verdicts([Grid("mine", boards, build_across(boards))])
    ((*_, better, worse, unknown),) = in_short(verdicts)
    assert "Hopper-v4 (100): 1.00 [1.00, 1.00], late 1.00" in better
    assert (worse, unknown) == ("–", "1 comparison: 0.50")
    fill(10.0, env="HalfCheetah-v4", seeds=3)
    fill(-10.0, env="Walker2d-v4", seeds=3)
    ((*_, unknown),) = in_short(find_verdicts([Grid("mine", build_leaderboards(store), [])]))
    assert unknown == "3 comparisons: 0.00 to 1.00"


def test_the_picture_has_a_matrix_for_algorithms_that_share_environments(store, make_spec, finish, fill):
    fill(50.0, seeds=3)
    fill(50.0, env="Hopper-v4")
    for seed in range(5):
        for name in ("dqn", "softdqn", "mdqn"):
            finish(make_spec(env="CartPole-v1", seed=seed, algo=name, label=name, hyperparameters={}), [0.0, float(seed)])
    boards = build_leaderboards(store)
    figure = does_it_help(find_verdicts([Grid("mine", boards, build_across(boards))]))
    continuous, discrete = figure.axes
    assert [label.get_text() for label in continuous.get_yticklabels()] == ["msac / sac"]
    assert [label.get_text() for label in discrete.get_yticklabels()] == ["softdqn / dqn", "mdqn / dqn"]
    assert [label.get_text() for label in continuous.get_xticklabels()] == ["Hopper-v4 (100)", "Pendulum-v1 (100)"]
    assert {text.get_text().strip() for text in continuous.texts} == {"1.00", "1.00–1.00", "1.00–1.00 (n=3)"}
    assert [text.get_weight() for text in continuous.texts if text.get_text() == "1.00"] == ["bold", "normal"]
    plt.close(figure)


def test_the_picture_says_what_its_marks_mean(store, make_spec, finish, fill):
    fill(50.0)
    figure = does_it_help(find_verdicts([Grid("", build_leaderboards(store), [])]))
    assert figure.get_supxlabel() == "bold: the interval excludes one half, of 5 seeds or more, none of which failed."
    plt.close(figure)
    for label in ("msac", "msac[munchausen_alpha=0]"):
        finish(make_spec(env="Hopper-v4", label=label), [0.0, 1.0])
    figure = does_it_help(find_verdicts([Grid("", build_leaderboards(store), [])]))
    assert figure.get_supxlabel().endswith("\n*: beside the parent's losses in our training loop.")
    plt.close(figure)


def test_an_interval_that_is_shown_is_explained(store, fill):
    fill(50.0, seeds=2)
    verdicts = find_verdicts([Grid("", build_leaderboards(store), [])])
    assert "interval that is a point" not in notes_on_verdicts(verdicts)
    assert "interval that is a point" in notes_on_verdicts(verdicts, every=True)


def test_a_text_without_the_place_is_left_alone(tmp_path):
    readme = tmp_path / "README.md"
    assert not write_into(readme, [])
    readme.write_text("nothing")
    assert not write_into(readme, [])
    assert readme.read_text() == "nothing"


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}"])
def test_half_a_place_is_answered(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(UserError, match="needs both"):
        write_into(readme, [])


def test_what_has_the_parents_losses_stands_for_it(store, make_spec, finish):
    off = {"label": "msac[munchausen_alpha=0]"}
    for seed in range(5):
        finish(make_spec(seed=seed), [0.0, 100.0 + seed])
        finish(make_spec(seed=seed, label="msac[munchausen_alpha=0.9]"), [0.0, 100.0 + seed])
        finish(make_spec(seed=seed, **off), [0.0, seed])
    (board,) = build_leaderboards(store)
    assert {(pair.x, pair.y) for pair in board.pairs} == {
        ("msac", off["label"]),
        ("msac[munchausen_alpha=0.9]", off["label"]),
    }
    assert f"{off['label']} is sac's losses in our training loop." in board.cautions
    assert board.literature[0].row.label == off["label"]
    ((algo, parent, better, *_),) = cells(store)
    assert (algo, parent, better) == ("msac", "sac", "Pendulum-v1 (100)*: 1.00 [1.00, 1.00], late 1.00")
    assert notes_on_verdicts(find_verdicts([Grid("", [board], [])])).endswith(
        "*: beside the parent's losses in our training loop. An interval that is a point says that every run of the one is "
        "above every run of the other: no certainty, since of equals two and two lie so in one of 3 comparisons, and five and "
        "five in one of 126."
    )
    finish(make_spec(algo="sac", label="sac[gamma=0.9]"), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert {pair.y for pair in board.pairs} == {off["label"], "sac[gamma=0.9]"}
    finish(make_spec(algo="sac", label="sac"), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert {pair.y for pair in board.pairs} == {"sac", "sac[gamma=0.9]", off["label"]}
    assert (off["label"], "sac") in {(pair.x, pair.y) for pair in board.pairs}
    for seed in range(1, 5):
        finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert {pair.y for pair in board.pairs} == {"sac", "sac[gamma=0.9]"}


def test_over_several_environments_too_it_is_said_what_stands_for_the_parent(store, make_spec, finish):
    off = "msac[munchausen_alpha=0]"
    for env in ("Pendulum-v1", "Hopper-v4"):
        for label in (off, "msac"):
            finish(make_spec(env=env, label=label), [0.0, 1.0])
    (across,) = build_across(build_leaderboards(store))
    assert notes_across(across).count(f"{off} is sac's losses in our training loop.") == 1


def test_of_the_parent_and_what_stands_for_it_the_one_with_more_seeds_counts(store, make_spec, finish):
    for seed in range(6):
        finish(make_spec(seed=seed), [0.0, 100.0 + seed])
        finish(make_spec(seed=seed, label="msac[munchausen_alpha=0]"), [0.0, 200.0 + seed])
    for seed in range(5):
        finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, seed])
    ((algo, parent, better, worse, _),) = cells(store)
    assert (algo, parent, better, worse) == ("msac", "sac", "–", "Pendulum-v1 (100)*: 0.00 [0.00, 0.00], late 0.00")
    finish(make_spec(seed=5, algo="sac", label="sac"), [0.0, 5.0])
    ((*_, better, worse, _),) = cells(store)
    assert (better, worse) == ("Pendulum-v1 (100): 1.00 [1.00, 1.00], late 1.00", "–")


def test_of_two_grids_the_one_with_more_seeds_counts(tmp_path, make_spec, finish, store):
    grids = []
    for name, seeds in (("few", 5), ("many", 6)):
        for seed in range(seeds):
            finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, seed])
            finish(make_spec(seed=seed), [0.0, seed + 100.0])
        grids.append(Grid(name, build_leaderboards(store), []))
    (verdict,) = find_verdicts(grids)
    assert (verdict.seeds, verdict.grid, verdict.where) == (6, "many", "Pendulum-v1 (100)")


def test_overrides_that_change_nothing_are_none(store, make_spec, finish):
    same = {"munchausen_alpha": 0.5, "munchausen_bound": [-1, 1]}
    for seed in range(5):
        finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, seed])
        finish(
            make_spec(seed=seed, label="msac[munchausen_alpha=0.5,munchausen_bound=[-1, 1]]", hyperparameters=same), [0.0, 9.0]
        )
        changed = {**same, "munchausen_alpha": 0.4}
        label = "msac[munchausen_alpha=0.4,munchausen_bound=[-1, 1]]"
        finish(make_spec(seed=seed, label=label, hyperparameters=changed), [0.0, -9.0])
    ((algo, parent, better, worse, unknown),) = cells(store)
    assert (algo, parent, better, worse, unknown) == (
        "msac",
        "sac",
        "Pendulum-v1 (100): 1.00 [1.00, 1.00], late 1.00",
        "–",
        "–",
    )


def test_rounded_products_of_either_side_are_marked(store, make_spec, finish):
    for place, library in (({}, ROUNDED["bf16"]), ({"env": "Hopper-v4"}, "torch's own matrix library")):
        for seed in range(2):
            finish(make_spec(seed=seed, algo="sac", label="sac", **place), [0.0, seed])
            finish(make_spec(seed=seed, **place), [0.0, seed], matrix_library=library)
    ((*_, unknown),) = cells(store)
    assert [entry.partition(",")[0] for entry in unknown.split("; ")] == [
        "Hopper-v4 (100)",
        "Pendulum-v1 (100)†",
        "2 environments together (mine)†",
    ]
    verdicts = find_verdicts([Grid("", build_leaderboards(store), [])])
    explained = "evidence. †: matrix products of inputs rounded to 16 bits or TF32, not SB3's 32 bits."
    assert explained in notes_on_verdicts(verdicts, every=True)
    # Nothing is called, so that in short no mark is shown.
    assert "†" not in notes_on_verdicts(verdicts)


def test_a_stand_in_of_two_versions_still_stands(store, make_spec, finish):
    for seed in range(5):
        finish(make_spec(seed=seed), [0.0, 100.0 + seed])
        finish(make_spec(seed=seed, label="msac[munchausen_alpha=0]"), [0.0, seed])
        finish(make_spec(seed=seed, label="msac[munchausen_alpha=0]", rounding="bf16"), [0.0, seed])
    (board,) = build_leaderboards(store)
    assert len(board.rows) == 3
    assert len([pair for pair in board.pairs if pair.x == "msac"]) == 2
    ((algo, parent, better, *_),) = cells(store)
    assert (algo, parent, better) == ("msac", "sac", "Pendulum-v1 (100)*: 1.00 [1.00, 1.00], late 1.00")


def test_the_same_place_in_two_grids_is_told_apart(store, fill):
    fill(50.0)
    boards = build_leaderboards(store)
    ((*_, better, _, _),) = cells_of_verdicts(find_verdicts([Grid(name, boards, []) for name in ("one", "other")]))
    assert [entry.partition(":")[0] for entry in better.split("; ")] == [
        "Pendulum-v1 (100) (one)",
        "Pendulum-v1 (100) (other)",
    ]


@pytest.mark.parametrize("ours", ["2026-01-01", "2026-01-09"])
@pytest.mark.parametrize(("started", "place"), [("2026-01-01", 2), ("2026-01-03", 3)])
def test_of_two_versions_with_as_many_seeds_the_latest_counts_once(started, place, ours, store, make_spec, finish):
    versions = (("2.9", 0.0, "2026-01-02"), ("2.8", 200.0, started))
    for seed in range(5):
        finish(make_spec(seed=seed), [0.0, 100.0 + seed], started=ours)
        for version, score, date in versions:
            spec = make_spec(seed=seed, algo="sac", label="sac", package=f"stable_baselines3 {version}")
            finish(spec, [0.0, score + seed], started=date)
    ((algo, parent, *columns),) = cells(store)
    assert (algo, parent) == ("msac", "sac")
    assert columns[place - 2].startswith("Pendulum-v1 (100): ")
    assert columns[place - 2].count("Pendulum") == 1
    assert chance(find_verdicts([Grid("", build_leaderboards(store), [])])).startswith("1 of 1 comparisons")


@pytest.mark.parametrize("algo", ["msac", "sac"])
def test_where_runs_failed_nothing_is_called(algo, store, make_spec, fill):
    fill(50.0)
    lost = make_spec(seed=5, algo=algo, label=algo)
    store.fail(lost, store.begin(lost), "ValueError: no")
    ((*_, better, worse, unknown),) = cells(store)
    assert (better, worse, unknown) == ("–", "–", "Pendulum-v1 (100), 1 of 11 runs failed: 1.00 [1.00, 1.00], late 1.00")
    (board,) = build_leaderboards(store)
    assert not board.is_called("msac", "sac")
    ((*_, counted),) = in_short(find_verdicts([Grid("", [board], [])]))
    assert counted == "1 comparison: 1.00 (1 runs failed)"
    figure = does_it_help(find_verdicts([Grid("", [board], [])]))
    assert "1 of 11 failed" in "".join(text.get_text() for text in figure.axes[0].texts)
    plt.close(figure)
    said = notes_on_verdicts(find_verdicts([Grid("", [board], [])]))
    assert said.startswith("0 of 0 comparisons")
    assert "interval that is a point" not in said


def test_an_override_that_changes_nothing_elsewhere_may_change_something_here(store, make_spec, finish):
    label, here, there = "maxentppo[ent_coef=0.04]", "LunarLander-v3", "Pendulum-v1"
    for env in (here, there):
        for seed in range(5):
            finish(make_spec(env=env, seed=seed, algo="ppo", label="ppo"), [0.0, -200.0 + seed])
            spec = make_spec(env=env, seed=seed, algo="maxentppo", label=label, hyperparameters={"ent_coef": 0.04})
            finish(spec, [0.0, -100.0 + seed])
    boards = build_leaderboards(store)
    assert {board.env: {row.label: row.variant for row in board.rows}[label] for board in boards} == {
        here: label,
        there: "maxentppo",
    }
    ((algo, _, better, *_),) = cells(store)
    assert (algo, better) == ("maxentppo", "Pendulum-v1 (100): 1.00 [1.00, 1.00], late 1.00")


def test_the_name_of_a_hyperparameter_may_end_like_anothers(store, make_spec, finish):
    hyperparameters = {"gamma": 0.8, "entropy_gamma": 0.9}
    spec = make_spec(algo="maxentppo", label="maxentppo[entropy_gamma=0.9]", hyperparameters=hyperparameters)
    finish(spec, [0.0, 1.0])
    (board,) = build_leaderboards(store)
    assert board.rows[0].variant == "maxentppo"


def test_how_many_would_be_called_by_chance_is_said(store, fill):
    for number in range(12):
        fill(50.0 if number == 0 else 0.0, steps=100 + number)
    said = chance(find_verdicts([Grid("", build_leaderboards(store), [])]))
    assert said.startswith("1 of 12 comparisons on one environment is called, 1 better and 0 worse. With so few seeds, ")
    assert said.endswith(
        "the interval excludes one half between equal algorithms in 10 % of cases with 5 seeds and 6 % with 10, so if none "
        "differed from its parent about 1 would be called, half of them each way: a single call is weak evidence. Late, by "
        "the last quarter of the evaluations, which decides nothing, 1 would be, 1 better and 0 worse."
    )


def test_how_many_of_few_would_be_called_by_chance_is_not_said(store, fill):
    fill(50.0)
    said = chance(find_verdicts([Grid("", build_leaderboards(store), [])]))
    assert "in 10 % of cases with 5 seeds and 6 % with 10: a single call is weak evidence. Late" in said


def test_calls_against_the_same_runs_are_told(store, make_spec, finish, fill):
    fill(-50.0)
    fill(-50.0, steps=2000)
    entry = load_hyperparameters(ALGORITHMS["softq"], "Pendulum-v1")
    for seed in range(5):
        finish(make_spec(seed=seed, algo="mdac", label="mdac"), [0.0, -300.0 + seed])
        finish(make_spec(seed=seed, algo="softq", label="softq", hyperparameters=entry), [0.0, -100.0 + seed])
    said = chance(find_verdicts([Grid("", build_leaderboards(store), [])]))
    assert said.startswith("4 of 4 comparisons on one environment are called, 1 better and 3 worse.")
    assert "evidence. 2 of the 3 worse are of Pendulum-v1 (100), against the same runs of one baseline. Late" in said


def test_a_call_by_the_last_evaluation_alone_is_seen_to_be_that(store, make_spec, finish):
    for seed in range(5):
        finish(make_spec(seed=seed, evaluations=6), [0.0, 0.0, 0.0, 0.0, -6.0, 10.0 + seed])
        finish(make_spec(seed=seed, evaluations=6, algo="sac", label="sac"), [0.0, 0.0, 0.0, 0.0, 9.0, seed])
    boards = build_leaderboards(store)
    row = next(row for row in boards[0].rows if row.label == "msac")
    assert row.last_quarter_scores == (2.0, 2.5, 3.0, 3.5, 4.0)
    assert row.last_quarter.value == 3.0
    verdicts = find_verdicts([Grid("", boards, [])])
    assert [verdict.text for verdict in verdicts] == ["Pendulum-v1 (100): 1.00 [1.00, 1.00], late 0.00"]
    assert verdicts[0].column == "better"
    assert chance(verdicts).endswith("which decides nothing, 1 would be, 0 better and 1 worse.")
    assert "msac over sac 1.00 [1.00, 1.00], late 0.00 [0.00, 0.00]" in notes_on(boards[0])[0]
