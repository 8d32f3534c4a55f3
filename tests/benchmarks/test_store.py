"""A run's record is whole or not there."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.plan import Plan
from benchmarks.store import CHECKPOINT, RECORD, REPLACED, Store, check_folder
from sb3_entropic.errors import UserError

TRAINED = {"timesteps": 100, "train_seconds": 1.0}


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
    assert record["timesteps"] == 100


def test_a_failure_is_recorded_and_forgotten_after_a_success(store, make_spec):
    spec = make_spec()
    store.fail(spec, store.begin(spec), "Traceback\nValueError: no")
    assert store.has_failed(spec)
    assert not store.is_finished(spec)
    assert store.records()[0]["error"].endswith("ValueError: no")
    store.finish(spec, store.begin(spec), TRAINED)
    assert not store.has_failed(spec)
    assert ["error" in record for record in store.records()] == [False]


def test_a_run_is_claimed_by_one_process_at_a_time_and_a_dead_one_is_in_nobodys_way(store, make_spec):
    specs = [make_spec(seed=seed) for seed in range(3)]
    claim = store.claim(specs[:2])
    assert store.claim(specs[1:]) is None, "all or none"
    third = store.claim(specs[2:])
    assert third is not None, "what was not had is let go"
    third.release()
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=claim.descriptors)
    for descriptor in claim.descriptors:
        os.close(descriptor)
    assert store.claim(specs[:1]) is None, "whoever inherits the descriptors has the runs too"
    holder.kill()
    holder.wait()
    again = store.claim(specs)
    again.release()
    assert [path.name for path in (store.out / specs[0].path).parent.iterdir()] == []


def test_sweeping_removes_what_cannot_be_continued_and_nothing_else(store, make_spec, finish):
    finish(make_spec(seed=1), [1.0, 2.0])
    (store.out / make_spec(seed=1).path / f"{CHECKPOINT}50").mkdir()
    under_way, left, resumable = (make_spec(seed=seed) for seed in (0, 2, 3))
    folders = [store.begin(spec) for spec in (under_way, left, resumable)]
    (folders[2] / f"{CHECKPOINT}50").mkdir()
    claim = store.claim([under_way])
    store.sweep()
    assert [folder.exists() for folder in folders] == [True, False, True]
    assert store.checkpoints(resumable).keys() == {50}
    assert store.is_finished(make_spec(seed=1))
    assert not (store.out / make_spec(seed=1).path / f"{CHECKPOINT}50").exists(), "the run is finished"
    claim.release()


def test_a_new_beginning_forgets_checkpoints_and_so_does_a_failure(store, make_spec):
    spec = make_spec()
    (store.begin(spec) / f"{CHECKPOINT}50").mkdir()
    assert store.begin(spec, resume=True).is_dir()
    assert store.checkpoints(spec).keys() == {50}
    store.fail(spec, store.partial(spec), "ValueError: no")
    assert store.checkpoints(spec) == {}
    (store.begin(spec) / f"{CHECKPOINT}50").mkdir()
    store.begin(spec)
    assert store.checkpoints(spec) == {}


def test_a_record_is_replaced_only_by_a_whole_one(store, make_spec, finish):
    spec = make_spec()
    finish(spec, [1.0, 2.0])
    folder = store.begin(spec)
    assert store.is_finished(spec), "the earlier record stays until the new one is whole"
    store.finish(spec, folder, {**TRAINED, "who": "second"}, replace=True)
    assert [record["who"] for record in store.records()] == ["second"]
    assert list((store.out / spec.path).parent.iterdir()) == [store.out / spec.path]


def test_a_folder_without_a_record_is_in_nobodys_way(store, make_spec, finish):
    spec = make_spec()
    (store.out / spec.path).mkdir(parents=True)
    (store.out / spec.path / "log.txt").write_text("half a copy")
    finish(spec, [1.0, 2.0])
    assert store.is_finished(spec)
    assert not [path for path in (store.out / spec.path).parent.iterdir() if path.name != "seed-0"]


def test_killed_while_replacing_the_earlier_record_comes_back(store, make_spec, finish):
    spec = make_spec()
    finish(spec, [1.0, 2.0])
    final = store.out / spec.path
    final.rename(final.with_name(f"{REPLACED}seed-0"))
    store.sweep()
    assert store.is_finished(spec)
    assert [path.name for path in final.parent.iterdir()] == ["seed-0"]


def test_a_failure_after_a_success_leaves_the_record_and_its_traceback(store, make_spec, finish):
    finish(make_spec(), [1.0, 2.0])
    store.fail(make_spec(), store.begin(make_spec()), "ValueError: no")
    assert ["error" in record for record in store.records()] == [False]
    failure = store.out / f"{make_spec().path}.failed" / RECORD
    assert "ValueError: no" in failure.read_text()
    store.finish(make_spec(), store.begin(make_spec()), TRAINED, replace=True)
    assert not failure.exists()


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
        check_folder(tmp_path / "file" / "runs", "runs")


def test_a_folder_that_cannot_be_written_can_be_read(store, make_spec, finish, monkeypatch):
    finish(make_spec(), [1.0, 2.0])
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    assert len(Store(store.out).records()) == 1
    with pytest.raises(UserError, match="cannot be written"):
        check_folder(store.out, "runs")
