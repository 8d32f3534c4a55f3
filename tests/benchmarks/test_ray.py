"""A grid on a cluster that loses a machine."""

import io
import json
import threading
import time
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from benchmarks.grid import run_grid
from benchmarks.plan import make_plan
from benchmarks.store import Store
from sb3_entropic.errors import UserError

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

from benchmarks.executors.ray import RayExecutor  # noqa: E402

pytestmark = pytest.mark.harness

SMALL = ["policy_kwargs={net_arch: [8]}", "buffer_size=20000", "batch_size=16"]


@pytest.fixture
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def records(store):
    return list(store.out.glob("*/*/*/seed-*/run.json"))


def test_a_lost_machine_costs_nothing_that_is_finished_and_the_grid_completes(cluster, store, tmp_path):
    plan = make_plan(["Pendulum-v1"], ["msac"], seeds=4, steps=2000, overrides=SMALL, workers=2, stack=1)
    executor, finished = RayExecutor(), {}
    assert executor.room == 2, "one core a machine"

    def lose_a_machine():
        # Something is finished, and both machines are in the middle of something else.
        wait_for(
            lambda: records(store) and len({path.parent for path in store.out.glob("*/*/*/.partial-*/checkpoint-*")}) == 2
        )
        finished.update({path: path.stat().st_mtime_ns for path in records(store)})
        cluster.remove_node(cluster.second, allow_graceful=False)

    thief = threading.Thread(target=lose_a_machine)
    thief.start()
    console = Console(file=io.StringIO(), width=500)
    outcome = run_grid(plan, store, console, executor=executor, checkpoint_seconds=1)
    thief.join()
    printed = console.file.getvalue()
    assert finished
    assert len(outcome.finished) == 4, printed
    assert printed.count("lost ") == 1
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert list(store.out.glob("*/*/*/.*")) == []

    # The run that had lost its machine went on from the checkpoint that had come back, to where it would have come anyway.
    (lost,) = (spec for spec in plan.runs if json.loads((store.out / spec.path / "run.json").read_text())["resumed"])
    undisturbed = Store(tmp_path / "undisturbed")
    run_grid(replace(plan, runs=(lost,)), undisturbed, console)
    frames = [pd.read_parquet(folder / lost.path / "evaluations.parquet") for folder in (store.out, undisturbed.out)]
    pd.testing.assert_frame_equal(*(frame.drop(columns="train_seconds") for frame in frames), check_exact=True)


def test_what_does_not_fit_into_the_cluster_is_refused(cluster):
    with pytest.raises(UserError, match="No run fits into the Ray cluster, which has 2 CPUs and 0 GPUs"):
        RayExecutor(gpus_per_run=1)


def wait_for(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
