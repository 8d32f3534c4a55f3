"""A run's record is whole or not there."""

import json
import platform
import subprocess
import sys

import pytest

from benchmarks.plan import Plan
from benchmarks.store import Store
from sb3_entropic.errors import UserError

TRAINED = {"timesteps": 1, "train_seconds": 1.0}


def test_a_run_is_finished_when_its_record_is_and_not_before(store, make_spec):
    spec = make_spec()
    folder = store.begin(spec)
    (folder / "evaluations.parquet").write_bytes(b"half")
    assert not store.is_finished(spec)
    assert store.records() == []
    store.finish(spec, folder, TRAINED)
    assert store.is_finished(spec)
    assert not folder.exists()
    (record,) = store.records()
    assert record["spec"]["seed"] == 0
    assert record["timesteps"] == 1


def test_a_failure_is_recorded_and_forgotten_after_a_success(store, make_spec):
    spec = make_spec()
    store.fail(spec, store.begin(spec), "Traceback\nValueError: no")
    assert store.has_failed(spec)
    assert not store.is_finished(spec)
    assert store.records()[0]["error"].endswith("ValueError: no")
    store.finish(spec, store.begin(spec), TRAINED)
    assert not store.has_failed(spec)
    assert ["error" in record for record in store.records()] == [False]


def test_the_first_to_finish_a_run_is_kept(store, make_spec):
    spec = make_spec()
    mine, other = store.begin(spec), Store(store.out)
    theirs = mine.with_name(".partial-seed-0@elsewhere-1")
    theirs.mkdir()
    store.finish(spec, mine, {**TRAINED, "who": "first"})
    other.finish(spec, theirs, {**TRAINED, "who": "second"})
    assert store.records()[0]["who"] == "first"
    assert not theirs.exists()


def test_sweeping_removes_what_the_dead_left_and_nothing_else(store, make_spec, finish):
    finish(make_spec(seed=1), [1.0, 2.0])
    living = store.begin(make_spec())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = living.with_name(f".partial-seed-2@{platform.node()}-{dead.pid}")
    others = [living.with_name(f".partial-seed-2@elsewhere-{dead.pid}"), living.with_name(".partial-of-a-stranger")]
    for folder in (left, *others):
        folder.mkdir()
    store.sweep()
    assert living.exists()
    assert not left.exists()
    assert all(folder.exists() for folder in others), "another machine's process may be alive"
    assert store.is_finished(make_spec(seed=1))


def test_a_record_is_replaced_only_by_a_whole_one(store, make_spec, finish):
    spec = make_spec()
    finish(spec, [1.0, 2.0])
    folder = store.begin(spec)
    assert store.is_finished(spec), "the earlier record stays until the new one is whole"
    store.finish(spec, folder, {**TRAINED, "who": "second"}, replace=True)
    assert [record["who"] for record in store.records()] == ["second"]
    assert list((store.out / spec.path).parent.iterdir()) == [store.out / spec.path]


def test_killed_while_replacing_the_earlier_record_comes_back(store, make_spec, finish):
    spec = make_spec()
    finish(spec, [1.0, 2.0])
    final = store.out / spec.path
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    final.rename(final.with_name(f".partial-replaced-seed-0@{platform.node()}-{dead.pid}"))
    store.sweep()
    assert store.is_finished(spec)
    assert [path.name for path in final.parent.iterdir()] == ["seed-0"]


def test_a_failure_after_a_success_is_not_hidden(store, make_spec, finish):
    finish(make_spec(), [1.0, 2.0])
    store.fail(make_spec(), store.begin(make_spec()), "ValueError: no")
    assert sorted("error" in record for record in store.records()) == [False, True]


def test_a_plan_is_kept_as_a_file(store, make_spec):
    store.write_plan(Plan("short", (make_spec(), make_spec(seed=1)), 2), "python -m benchmarks run")
    (path,) = (store.out / "plans").iterdir()
    content = json.loads(path.read_text())
    assert content["command"] == "python -m benchmarks run"
    assert [run["seed"] for run in content["runs"]] == [0, 1]


def test_a_file_in_the_folders_place_is_named(tmp_path):
    path = tmp_path / "runs"
    path.write_text("")
    with pytest.raises(UserError, match="is a file: name a folder"):
        Store(path)


def test_a_folder_below_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file" / "runs")
