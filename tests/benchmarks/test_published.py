"""Published runs give the report that the runs gave."""

import json
import math

import pandas as pd
import pytest

from benchmarks import statistics
from benchmarks.__main__ import main
from benchmarks.published import RUNS, Published, open_runs, publish
from benchmarks.records import SCHEMA
from benchmarks.report import build_leaderboards, write_report
from benchmarks.report.write import rounded
from benchmarks.store import EVALUATIONS, Store
from sb3_entropic.errors import UserError
from tests.benchmarks.conftest import finish_run


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 50)


@pytest.fixture
def folder(store, make_spec, finish, tmp_path):
    for seed in range(3):
        finish(make_spec(seed=seed), [1.0, 2.0 + seed])
    store.fail(make_spec(seed=3), store.begin(make_spec(seed=3)), "ValueError: no")
    publish(store, tmp_path / "published")
    return tmp_path / "published"


def test_the_report_is_the_same(folder, store, tmp_path):
    places = ((store.out, tmp_path / "report"), (folder, folder))
    written = [write_report(build_leaderboards(open_runs(place)), [], report) for place, report in places]
    for ours, theirs in zip(*written, strict=True):
        parts = [part for part in theirs.read_bytes().split(b"\n\n") if not part.startswith(b"The records are in ")]
        assert ours.read_bytes() == b"\n\n".join(parts)
    assert f"\n\nThe records are in [`{RUNS}`]({RUNS}), " in written[1][0].read_text()


def test_numbers_are_written_in_digits_that_processors_agree_on(folder, tmp_path):
    write_report(build_leaderboards(Published(folder)), [], tmp_path / "report")
    (board,) = json.loads((tmp_path / "report" / "leaderboard.json").read_text())["boards"]
    assert board["rows"][0]["summary"]["mean"]["value"] == 3.0
    assert rounded({"a": [1 / 3, 1], "b": (None, "x", True)}) == {"a": [0.3333333333, 1], "b": [None, "x", True]}


def test_a_line_that_cannot_be_used_costs_its_run_alone(folder):
    lines = (folder / RUNS).read_text().splitlines()
    newer = json.dumps({**json.loads(lines[1]), "schema": SCHEMA + 1})
    (folder / RUNS).write_bytes("\n".join([lines[0][:50], newer, lines[2]]).encode() + b"\n\xff\xfe")
    problems = []
    (board,) = build_leaderboards(Published(folder), problems)
    assert (board.rows[0].seeds, len(problems)) == ((2,), 3)
    assert problems[0].startswith(f"{folder / RUNS}, line 1, is not JSON")
    assert problems[1].startswith(f"{folder / RUNS}, line 2, has schema {SCHEMA + 1}")
    assert problems[2].startswith(f"{folder / RUNS}, line 4, is not JSON")
    with pytest.raises(UserError, match="line 1"):
        Published(folder).records()


def test_a_run_without_evaluations_is_left_out(folder):
    rows = pd.read_parquet(folder / EVALUATIONS)
    rows[rows["seed"] != 1].to_parquet(folder / EVALUATIONS)
    problems = []
    (board,) = build_leaderboards(Published(folder), problems)
    assert board.rows[0].seeds == (0, 2)
    (problem,) = problems
    assert "seed-1, has no evaluations." in problem


def test_a_damaged_run_is_left_out_when_the_others_are_exported(folder, store, make_spec, tmp_path, capsys):
    for seed, name in ((0, "run.json"), (1, EVALUATIONS)):
        path = store.out / make_spec(seed=seed).path / name
        path.write_bytes(path.read_bytes()[:50])
    out = tmp_path / "exported"
    assert main(["export", str(out), "--out", str(store.out)]) == 1
    printed = capsys.readouterr().out
    assert [line.partition("seed-")[2][0] for line in printed.splitlines() if line.startswith("- left out: ")] == ["0", "1"]
    assert sorted(record["spec"]["seed"] for record in Published(out).records()) == [2, 3]
    (board,) = build_leaderboards(Published(out))
    assert board.rows[0].seeds == (2,)


@pytest.mark.parametrize("name", ["run.json", EVALUATIONS])
def test_what_was_exported_stays_where_no_run_can_be_used_any_more(store, make_spec, finish, tmp_path, capsys, name):
    finish(make_spec(), [0.0, 1.0])
    publish(store, tmp_path / "published")
    before = (tmp_path / "published" / RUNS).read_bytes()
    (store.out / make_spec().path / name).write_text("{")
    assert main(["export", str(tmp_path / "published"), "--out", str(store.out)]) == 2
    printed = capsys.readouterr()
    assert f"{name} cannot be read" in printed.out
    assert "There are no usable runs in" in printed.err
    assert (tmp_path / "published" / RUNS).read_bytes() == before


def test_truncated_evaluations_are_one_problem(folder):
    path = folder / EVALUATIONS
    path.write_bytes(path.read_bytes()[:100])
    problems = []
    (board,) = build_leaderboards(Published(folder), problems)
    assert (board.rows[0].scores, board.rows[0].failures) == ((), 1), "failures need no evaluations"
    (problem,) = problems
    assert problem.startswith(f"{path} cannot be read")


def test_a_grid_goes_on_from_restored_runs(folder, store, make_spec, tmp_path, capsys):
    out = tmp_path / "elsewhere"
    assert main(["restore", str(folder), "--out", str(out)]) == 0
    assert f"Restored: 3 runs to {out}" in capsys.readouterr().out
    elsewhere = Store(out)
    assert [elsewhere.is_finished(make_spec(seed=seed)) for seed in range(4)] == [True, True, True, False]
    assert not elsewhere.has_failed(make_spec(seed=3)), "it is tried again"
    assert list(out.glob("*/*/*/.*")) == []
    again = tmp_path / "again"
    publish(elsewhere, again)
    assert (again / EVALUATIONS).read_bytes() == (folder / EVALUATIONS).read_bytes()
    assert (again / RUNS).read_text().splitlines() == (folder / RUNS).read_text().splitlines()[:3]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/seed-*/run.json")}
    assert main(["restore", str(folder), "--out", str(out)]) == 0
    assert "Restored: 0 runs" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_cannot_be_restored_is_named(folder, tmp_path, capsys):
    lines = (folder / RUNS).read_text().splitlines()
    stranger = json.loads(lines[0])
    stranger["spec"]["colour"] = "red"
    (folder / RUNS).write_text("\n".join([json.dumps(stranger), lines[1][:50], *lines[2:]]))
    assert main(["restore", str(folder), "--out", str(tmp_path / "out")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "is not one of this version's" in printed
    assert "colour" in printed
    assert "line 2, is not JSON" in printed
    assert "Restored: 1 run to" in printed
    assert main(["restore", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "There are no published runs in" in capsys.readouterr().err


def test_published_runs_can_be_compared(folder, store, monkeypatch):
    assert main(["compare", str(folder), str(store.out)]) == 0


def test_a_run_that_is_there_twice_counts_once(folder):
    lines = (folder / RUNS).read_text()
    (folder / RUNS).write_text(lines + lines)
    problems = []
    (board,) = build_leaderboards(Published(folder), problems)
    assert board.rows[0].seeds == (0, 1, 2)
    assert problems[0].startswith(f"{folder / RUNS}, line 5, is another record of Pendulum-v1/msac/")
    assert len(problems) == 4


def test_an_export_loses_no_published_run_unless_it_is_told_to(folder, make_spec, tmp_path, capsys):
    others = Store(tmp_path / "others")
    finish_run(others, make_spec(seed=9), [1.0, 2.0])
    before = (folder / RUNS).read_bytes()
    assert main(["export", str(folder), "--out", str(others.out)]) == 2
    printed = capsys.readouterr().err
    assert f"{folder} holds 3 finished runs such as Pendulum-v1/msac/" in printed
    assert f"which {others.out} lacks and would be lost" in printed
    assert (folder / RUNS).read_bytes() == before
    remedy = f"python -m benchmarks restore {folder} --out {others.out}"
    assert f"`{remedy}`" in printed
    assert main(remedy.split()[3:]) == 0
    assert main(["export", str(folder), "--out", str(others.out)]) == 0
    assert [record["spec"]["seed"] for record in Published(folder).records()] == [0, 1, 2, 9]
    alone = Store(tmp_path / "alone")
    finish_run(alone, make_spec(seed=5), [1.0, 2.0])
    assert main(["export", str(folder), "--out", str(alone.out), "--replace"]) == 0
    assert [record["spec"]["seed"] for record in Published(folder).records()] == [5]


def test_an_export_loses_nothing_that_it_cannot_read_or_that_was_damaged_since(folder, store, make_spec, capsys):
    evaluations = store.out / make_spec(seed=0).path / EVALUATIONS
    whole = evaluations.read_bytes()
    evaluations.write_bytes(b"x")
    assert main(["export", str(folder), "--out", str(store.out)]) == 2
    assert f"Delete {evaluations.parent} and restore it, or replace" in capsys.readouterr().err
    evaluations.write_bytes(whole)
    newer = {**json.loads((folder / RUNS).read_text().splitlines()[0]), "schema": SCHEMA + 1}
    with (folder / RUNS).open("a") as file:
        file.write(json.dumps(newer) + "\n")
    assert main(["export", str(folder), "--out", str(store.out)]) == 2
    assert f"has schema {SCHEMA + 1}" in capsys.readouterr().err


def test_a_copied_record_of_another_path_is_no_run(folder):
    lines = (folder / RUNS).read_text()
    copied = lines.splitlines()[0].replace("/seed-0", "/seed-0-copy")
    (folder / RUNS).write_text(lines + copied + "\n")
    problems = []
    build_leaderboards(Published(folder), problems)
    assert problems[0].endswith("/seed-0-copy: is it a copy?")


def test_a_hyperparameter_may_be_infinite(store, make_spec, finish, tmp_path):
    finish(make_spec(hyperparameters={"max_grad_norm": math.inf}), [0.0, 1.0])
    write_report(build_leaderboards(store), [], tmp_path / "report")
    (board,) = json.loads((tmp_path / "report" / "leaderboard.json").read_text())["boards"]
    assert board["rows"][0]["provenance"]["hyperparameters"] == {"max_grad_norm": "inf"}
