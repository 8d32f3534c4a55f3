"""A file that cannot be used is named in a sentence, and the rest of the report is made."""

import json
import re
import shutil

import pandas as pd
import pytest

from benchmarks import statistics
from benchmarks.__main__ import main
from benchmarks.records import SCHEMA
from benchmarks.report import build_leaderboards
from benchmarks.store import EVALUATIONS, RECORD
from sb3_entropic.errors import UserError


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 100)


@pytest.fixture
def runs(store, make_spec, finish):
    """Three runs, of which the first is to be broken."""
    for seed in range(3):
        finish(make_spec(seed=seed), [1.0, 2.0 + seed], stack=1)
    return store


def without(*keys):
    def change(path):
        content = json.loads(path.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        path.write_text(json.dumps(content))

    return change


def with_value(value, *keys):
    def change(path):
        content = json.loads(path.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        path.write_text(json.dumps(content))

    return change


OTHER = "has other evaluations than its record says: 2 until step 100, of 3 episodes with seeds 10000 to 10002."


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rows(change):
    def rewrite(path):
        change(pd.read_parquet(path)).to_parquet(path, index=False)

    return rewrite


BROKEN = {
    "a truncated Parquet file": (EVALUATIONS, half, "cannot be read: "),
    "an empty Parquet file": (EVALUATIONS, lambda path: path.write_bytes(b""), "cannot be read: "),
    "no Parquet file": (EVALUATIONS, lambda path: path.unlink(), "cannot be read: "),
    "a column missing": (EVALUATIONS, rows(lambda frame: frame.drop(columns="return")), "has no column 'return', only 'env'"),
    "no rows": (EVALUATIONS, rows(lambda frame: frame.head(0)), "has no evaluations."),
    "a return that is not a number": (
        EVALUATIONS,
        rows(lambda frame: frame.assign(**{"return": float("nan")})),
        "something else than finite numbers in the column 'return'",
    ),
    "text in the place of steps": (
        EVALUATIONS,
        rows(lambda frame: frame.assign(step="x")),
        "something else than finite numbers in the column 'step'",
    ),
    "a truncated JSON file": (RECORD, half, "cannot be read: "),
    "bytes in the place of JSON": (RECORD, lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read: "),
    "a list in the place of a record": (RECORD, lambda path: path.write_text("[]"), "is not a record of a run"),
    "a key missing": (RECORD, without("train_seconds"), "lacks 'train_seconds'."),
    "a key of the run missing": (RECORD, without("spec", "env"), "lacks 'spec.env'."),
    "all that the run is missing": (RECORD, without("spec"), "lacks 'spec'."),
    "a wrong type": (RECORD, with_value("many", "spec", "steps"), "has 'many' as 'spec.steps'."),
    "no hyperparameters": (RECORD, without("spec", "hyperparameters"), "lacks 'spec.hyperparameters'."),
    "an error that says nothing": (RECORD, with_value(None, "error"), "has None as 'error'."),
    "an error without a word": (RECORD, with_value(" ", "error"), "has nothing as 'error'."),
    "no list of interruptions": (RECORD, with_value(None, "resumed"), "has None as 'resumed'."),
    "an interruption that is none": (RECORD, with_value(["x"], "resumed"), "has ['x'] as 'resumed'."),
    "a schema that is no number": (RECORD, with_value("1", "schema"), "has '1' as 'schema', which is a whole number."),
    "another run's folder": (RECORD, with_value(7, "spec", "seed"), "/seed-7, and lies in Pendulum-v1/msac/"),
    "half of the evaluations": (
        EVALUATIONS,
        rows(lambda frame: frame[frame["step"] <= 50]),
        "has evaluations until step 50 of 100 alone.",
    ),
    "a truth for a number": (RECORD, with_value(True, "spec", "seed"), "has True as 'spec.seed'."),
    "a number beyond all sums": (RECORD, with_value(10**400, "spec", "steps"), " as 'spec.steps'."),
    "an id that is none": (RECORD, with_value("Pendulum-v1 <b>", "spec", "env"), "has 'Pendulum-v1 <b>' as 'spec.env'."),
    "a label for terminals": (RECORD, with_value("msac[\x1b[2J]", "spec", "label"), "has 'msac[\\x1b[2J]' as 'spec.label'."),
    "another's label": (RECORD, with_value("mdqn", "spec", "label"), "is of 'msac', and has 'mdqn' as 'spec.label'."),
    "a setting from elsewhere": (RECORD, with_value(1, "spec", "wings"), "is not one of this version's: "),
    "too few steps": (RECORD, with_value(1, "timesteps"), "has 1 as 'timesteps' of 100."),
    "half a character": (RECORD, with_value("\ud800", "command"), "has text that no file can hold."),
    "a date that is a number": (RECORD, with_value(5, "started"), "has 5 as 'started'."),
    "where interruptions led": (RECORD, with_value([{"environment": {}}], "resumed"), "as 'resumed'."),
    "endless lists": (RECORD, lambda path: path.write_text("[" * 100_000), "cannot be read: "),
    "an episode too few": (EVALUATIONS, rows(lambda frame: frame.iloc[:-1]), OTHER),
    "all of it twice": (EVALUATIONS, rows(lambda frame: pd.concat([frame, frame])), OTHER),
    "other episodes": (EVALUATIONS, rows(lambda frame: frame.assign(episode_seed=frame["episode_seed"] + 1)), OTHER),
    "an evaluation elsewhere": (EVALUATIONS, rows(lambda frame: frame.replace({"step": {50: 60}})), OTHER),
    "no number among them": (
        EVALUATIONS,
        rows(lambda frame: frame.assign(**{"return": pd.array([None, *frame["return"][1:]], dtype="Float64")})),
        "has something else than finite numbers in the column 'return'.",
    ),
    "steps in words": (
        EVALUATIONS,
        rows(lambda frame: frame.astype({"timesteps": str})),
        "has something else than finite numbers in the column 'timesteps'.",
    ),
    "the rows of another": (
        EVALUATIONS,
        rows(lambda frame: frame.assign(seed=1)),
        "has rows of another run: not all have 0 in the column 'seed'.",
    ),
    "time that goes back": (
        EVALUATIONS,
        rows(lambda frame: frame.assign(train_seconds=-frame["train_seconds"])),
        "has evaluations whose steps or seconds go backwards.",
    ),
    "an impossible number": (RECORD, with_value(0, "stack"), "has 0 as 'stack'."),
    "a time that is not a number": (RECORD, with_value(float("nan"), "train_seconds"), "has nan as 'train_seconds'."),
    "a newer schema": (
        RECORD,
        with_value(SCHEMA + 1, "schema"),
        f"has schema {SCHEMA + 1}, and this version reads schema {SCHEMA}: update sb3_entropic to read it.",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_file_is_named_and_the_rest_is_reported(case, runs, make_spec):
    name, change, message = BROKEN[case]
    broken = runs.out / make_spec().path / name
    change(broken)
    problems = []
    (board,) = build_leaderboards(runs, problems)
    assert [row.seeds for row in board.rows] == [(1, 2)]
    (problem,) = problems
    assert problem.startswith(str(broken))
    assert message in problem


def test_what_is_left_out_is_printed_and_written(runs, make_spec, capsys):
    broken = runs.out / make_spec().path / EVALUATIONS
    half(broken)
    assert main(["report", "--out", str(runs.out)]) == 0
    assert f"left out: {broken} cannot be read" in capsys.readouterr().out
    content = json.loads((runs.out / "report" / "leaderboard.json").read_text())
    (problem,) = content["problems"]
    assert problem.startswith(str(broken))
    assert problem in (runs.out / "report" / "leaderboard.md").read_text()
    assert content["boards"][0]["rows"][0]["seeds"] == [1, 2]


def test_every_broken_file_is_named(runs, make_spec):
    for seed in range(2):
        half(runs.out / make_spec(seed=seed).path / RECORD)
    half(runs.out / make_spec(seed=2).path / EVALUATIONS)
    problems = []
    assert build_leaderboards(runs, problems) == []
    assert len(problems) == 3


def test_without_a_list_to_take_it_the_first_problem_is_an_error(runs, make_spec):
    half(runs.out / make_spec().path / EVALUATIONS)
    with pytest.raises(UserError, match=EVALUATIONS):
        build_leaderboards(runs)
    half(runs.out / make_spec().path / RECORD)
    with pytest.raises(UserError, match=RECORD):
        runs.records()


def test_a_folder_of_which_nothing_can_be_used_is_a_wrong_input(store, make_spec, finish, refusal):
    finish(make_spec(), [1.0, 2.0])
    path = store.out / make_spec().path / RECORD
    half(path)
    printed = refusal(main, ["report", "--out", str(store.out)])
    assert f"There are no usable runs in {store.out}" in printed.err
    assert str(path) in printed.out


def test_an_empty_grid_is_a_wrong_input(store, refusal):
    (store.out / "plans").mkdir(parents=True)
    assert f"There are no runs in {store.out}" in refusal(main, ["report", "--out", str(store.out)]).err


def test_failed_runs_need_no_numbers(store, make_spec):
    store.fail(make_spec(), store.begin(make_spec()), "ValueError: no")
    problems = []
    (board,) = build_leaderboards(store, problems)
    assert (problems, board.rows[0].failures, board.rows[0].summary) == ([], 1, None)


def test_records_are_written_with_the_schema(runs, make_spec):
    assert json.loads((runs.out / make_spec().path / RECORD).read_text())["schema"] == SCHEMA
    without("schema")(runs.out / make_spec().path / RECORD)
    assert len(runs.records()) == 3, "without one it is the first"


def test_a_copy_of_a_run_is_no_further_seed(runs, make_spec):
    folder = runs.out / make_spec(seed=0).path
    # A copy of a folder above it holds runs of these names, too.
    shutil.copytree(folder.parent, folder.parent.with_name(f"{folder.parent.name}.bak"))
    for name in ("seed-0-backup", "seed-0 copy"):
        shutil.copytree(folder, folder.with_name(name))
    problems = []
    (board,) = build_leaderboards(runs, problems)
    assert board.rows[0].seeds == (0, 1, 2)
    assert len(problems) == 2 + len(board.rows[0].seeds)
    assert all(re.search(r"is the record of .*/seed-\d, and lies in .*: is it a copy\?$", problem) for problem in problems)
