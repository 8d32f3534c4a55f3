"""A grid that is killed again and again ends as one that was not."""

import io
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.grid import run_grid
from benchmarks.plan import make_plan
from benchmarks.report import build_leaderboards
from benchmarks.store import Store
from tests.benchmarks.test_checkpoint import assert_same

pytestmark = pytest.mark.harness

KILLS, STEPS = 20, 8000
SMALL = [
    "policy_kwargs={net_arch: [16]}",
    "buffer_size=2000",
    "batch_size=32",
    "learning_starts=100",
    "train_freq=4",
    "gradient_steps=4",
]


def grid(out):
    """Twelve runs: stacks of the fast engine, and SB3's own loop."""
    plan = make_plan(["CartPole-v1"], ["mdqn", "dqn"], seeds=6, steps=STEPS, overrides=SMALL, workers=2)
    runs = tuple(replace(spec, evaluations=5, episodes=3) for spec in plan.runs)
    plan = replace(plan, runs=runs, sizes={spec.group: 3 for spec in runs if spec.algo == "mdqn"})
    return run_grid(plan, Store(out), Console(file=io.StringIO()), checkpoint_seconds=0.3)


def start(out):
    script = f"from pathlib import Path; from tests.benchmarks.test_kills import grid; grid(Path({str(out)!r}))"
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], cwd=Path(__file__).parents[2])


def achieved(out):
    """Environment steps that are kept, of all runs: up to their latest checkpoints, or all of those that are finished."""
    kept = {path.parent: STEPS for path in out.glob("*/*/*/seed-*/run.json")}
    for path in out.glob("*/*/*/.partial-*/checkpoint-*"):
        run = path.parent.with_name(path.parent.name.removeprefix(".partial-"))
        kept[run] = max(kept.get(run, 0), int(path.name.removeprefix("checkpoint-")))
    return sum(kept.values())


def records(out):
    return {path: (path.stat().st_mtime_ns, json.loads(path.read_text())) for path in out.glob("*/*/*/seed-*/run.json")}


def table(out):
    (board,) = build_leaderboards(Store(out))
    return [(row.label, row.summary, row.failures) for row in board.rows]


def test_killed_at_twenty_moments_nothing_is_repeated_lost_or_changed(tmp_path):
    out, moments = tmp_path / "killed", random.Random(0)
    finished = {}
    for _ in range(KILLS):
        # By what it has achieved, and then by the clock: how fast the machine is makes no difference.
        goal, process = achieved(out) + moments.randint(100, 2000), start(out)
        while process.poll() is None and achieved(out) < goal:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"it ended before it was killed {KILLS} times"
        now = records(out)
        assert {path: now[path] for path in finished} == finished, "what is finished stays as it is"
        finished = now
    assert finished, "some runs have ended between the kills"
    assert len(finished) < 12
    assert grid(out).failed == []
    assert {path: records(out)[path] for path in finished} == finished
    assert len(records(out)) == 12
    assert list(out.glob("*/*/*/.*")) == []
    gone_on = {(record["spec"]["algo"], record["stack"]) for _, record in records(out).values() if record["resumed"]}
    assert gone_on >= {("mdqn", 3), ("dqn", 1)}, "stacks and single runs"

    undisturbed = tmp_path / "undisturbed"
    grid(undisturbed)
    for path in records(out):
        assert_same(path.parent, undisturbed / path.parent.relative_to(out))
    assert table(out) == table(undisturbed)
