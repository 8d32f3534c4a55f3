"""Seeds of one experiment are trained together, and are as if they had been alone."""

import io
import json
import shutil

import pandas as pd
import pytest
from rich.console import Console

from benchmarks import stacks
from benchmarks.callbacks import TrainingClock
from benchmarks.grid import run_grid
from benchmarks.plan import make_plan
from benchmarks.run import Job, execute, measure
from benchmarks.stacks import Room, split, stack_sizes
from sb3_entropic.errors import UserError
from sb3_entropic.evaluation import Evaluator

SMALL = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 1000, "batch_size": 16, "learning_starts": 50, "train_freq": 4}


@pytest.fixture
def specs(make_spec):
    def make(algo="mdqn", seeds=3, **changes):
        hyperparameters = {**SMALL, **changes}
        common = {"env": "CartPole-v1", "algo": algo, "label": algo, "steps": 600, "hyperparameters": hyperparameters}
        return tuple(make_spec(seed=seed, **common) for seed in range(seeds))

    return make


@pytest.fixture
def run(tmp_path):
    """Execute a job; returns its records and the folders of its runs."""

    def run(specs, **options):
        folders = tuple(tmp_path / f"{len(list(tmp_path.iterdir()))}-{spec.seed}" for spec in specs)
        for folder in folders:
            folder.mkdir()
        return execute(Job(specs, folders, **options), lambda message: None), folders

    return run


def evaluations(folder):
    return pd.read_parquet(folder / "evaluations.parquet")


def test_a_stack_is_its_seeds_one_by_one(specs, run):
    records, folders = run(specs())
    assert [record["engine"] for record in records] == ["fast, not compiled"] * 3
    assert [(record["stack"], record["timesteps"]) for record in records] == [(3, 600)] * 3
    for spec, folder in zip(specs(), folders, strict=True):
        (alone,), (its_folder,) = run((spec,))
        assert (alone["engine"], alone["stack"]) == ("sb3", 1)
        same = ["seed", "step", "timesteps", "episode_seed", "return", "length"]
        pd.testing.assert_frame_equal(evaluations(folder)[same], evaluations(its_folder)[same])
        logged, alone_logged = (pd.read_csv(path / "progress.csv") for path in (folder, its_folder))
        columns = ["train/loss", "train/munchausen_bonus", "rollout/ep_rew_mean"]
        pd.testing.assert_frame_equal(logged[columns], alone_logged[columns], rtol=1e-3)
        assert (folder / "model.zip").is_file()


def test_a_stack_logs_as_often_as_a_run_alone(make_spec, run):
    hyperparameters = {"policy_kwargs": {"net_arch": [8]}, "n_steps": 16, "batch_size": 8, "n_epochs": 1}
    common = {"env": "CartPole-v1", "algo": "entropyppo", "steps": 160, "hyperparameters": hyperparameters}
    pair = tuple(make_spec(seed=seed, **common) for seed in range(2))
    _, folders = run(pair)
    _, (alone,) = run(pair[:1])
    logged, of_one = (pd.read_csv(folder / "progress.csv")["time/total_timesteps"] for folder in (folders[0], alone))
    assert logged.tolist() == of_one.tolist() == list(range(16, 161, 16))


def test_a_stacks_time_is_the_time_of_all_its_seeds_without_any_evaluation(specs, run, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("benchmarks.run.time.perf_counter", lambda: clock[0])
    evaluate = Evaluator.evaluate

    def slowly(self, model):
        clock[0] += 1000.0
        return evaluate(self, model)

    monkeypatch.setattr(Evaluator, "evaluate", slowly)
    monkeypatch.setattr(
        "sb3_entropic.engine.replay_lockstep.ReplayLockstep._train", lambda self, steps: clock.__setitem__(0, clock[0] + 1)
    )
    records, _ = run(specs())
    # 600 steps, trained every 4 after the first 52.
    assert [record["train_seconds"] for record in records] == [138.0] * 3
    assert records[0]["steps_per_second"] == pytest.approx(3 * 600 / 138, abs=1e-3)
    assert records[0]["wall_seconds"] > 6000


def test_a_clock_stands_still_while_paused(monkeypatch):
    now = [5.0]
    monkeypatch.setattr("benchmarks.run.time.perf_counter", lambda: now[0])
    clock = TrainingClock()
    assert clock.seconds() == 0
    clock.start()
    now[0] = 7.0
    with clock.paused():
        now[0] = 100.0
        assert clock.seconds() == 2.0
    now[0] = 101.0
    assert clock.seconds() == 3.0


@pytest.mark.parametrize("at", [300, 600])
def test_a_seed_that_fails_leaves_the_others(specs, run, monkeypatch, at):
    evaluate = Evaluator.evaluate

    def break_one(self, model):
        if model.seed == 1 and model.num_timesteps >= at:
            raise RuntimeError("it broke")
        return evaluate(self, model)

    monkeypatch.setattr(Evaluator, "evaluate", break_one)
    records, folders = run(specs())
    assert ["error" in record for record in records] == [False, True, False]
    assert records[1]["error"].startswith("Traceback")
    assert records[1]["error"].endswith("RuntimeError: it broke\n")
    assert [sorted(set(evaluations(folder)["step"])) for folder in (folders[0], folders[2])] == [[300, 600]] * 2


def test_what_was_asked_of_the_engine_is_recorded(specs, run):
    (asked,), _ = run(specs(seeds=1, engine="sb3"))
    (fast,), _ = run(specs(seeds=1, engine="fast"), matrix_library="torch")
    (baseline,), _ = run(specs("dqn", seeds=1))
    assert (asked["engine"], fast["engine"], baseline["engine"]) == ("sb3", "fast, not compiled", "sb3")
    assert fast["matrix_library"] == "torch's own matrix library"
    assert asked["matrix_library"] == baseline["matrix_library"]


def test_a_stack_is_measured_as_one(specs, monkeypatch):
    monkeypatch.setattr("benchmarks.callbacks.MEASURE_SECONDS", 0.2)
    measured = measure(Job(specs(), None))
    assert measured["rate"] > 0
    assert measured["evaluation_seconds"] > 0
    assert not measured["compiles"], "too short"


def sizes(algos, **options):
    plan = make_plan([options.pop("env", "CartPole-v1")], algos, seeds=options.pop("seeds", 5), **options)
    return [(stack[0].algo, [run.seed for run in stack]) for stack in plan.stacks(plan.runs)]


def test_few_experiments_are_split_over_the_workers_and_many_are_not():
    assert sizes(["mdqn"], workers=2) == [("mdqn", [0, 1, 2]), ("mdqn", [3, 4])]
    assert sizes(["mdqn"], workers=1) == [("mdqn", [0, 1, 2, 3, 4])]
    assert sizes(["mdqn", "dpp"], workers=2) == [("mdqn", [0, 1, 2, 3, 4]), ("dpp", [0, 1, 2, 3, 4])]


def test_what_the_fast_engine_does_not_run_is_never_stacked():
    alone = [[0], [1]]
    for algo in ("dqn", "qrdqn", "ppo"):
        assert [seeds for _, seeds in sizes([algo], seeds=2, stack=2)] == alone
    for override in ("engine=sb3", "normalize=true"):
        assert [seeds for _, seeds in sizes(["mdqn"], seeds=2, stack=2, overrides=[override])] == alone
    assert [seeds for _, seeds in sizes(["mdqn"], seeds=2, stack=2)] == [[0, 1]]


def test_the_engine_is_a_hyperparameter_where_it_is_asked_for_and_nowhere_else():
    plain, asked = (make_plan(["CartPole-v1"], ["mdqn"], seeds=1, overrides=o).runs[0] for o in ([], ["engine=sb3"]))
    assert asked.label == "mdqn[engine=sb3]"
    assert asked.group != plain.group
    stacked = make_plan(["CartPole-v1"], ["mdqn"], seeds=5, stack=5)
    apart = make_plan(["CartPole-v1"], ["mdqn"], seeds=5, stack=1, matrix_library="torch")
    assert stacked.runs == apart.runs, "how runs are carried out is not what they are"


def test_an_engine_that_cannot_is_refused_before_any_work():
    with pytest.raises(UserError, match="engine=fast cannot run this, observations or rewards are normalised"):
        make_plan(["CartPole-v1"], ["mdqn"], seeds=1, overrides=["engine=fast", "normalize=true"])


@pytest.mark.parametrize(
    ("rooms", "workers", "expected"),
    [
        ([(5, 9)], 8, [1]),
        ([(5, 9)], 2, [3]),
        ([(10, 99), (10, 99)], 2, [5, 5]),
        ([(30, 99)], 2, [10]),
        ([(30, 4)], 2, [4]),
        ([(5, 9), (5, 1)], 2, [5, 1]),
        ([(5, 9), (5, 1)], 8, [2, 1]),
        ([(5, 1)], 8, [1]),
    ],
)
def test_stack_sizes(rooms, workers, expected):
    experiments = {str(index): Room(*room) for index, room in enumerate(rooms)}
    assert list(stack_sizes(experiments, workers).values()) == expected


def test_seeds_are_split_evenly():
    assert split(list(range(5)), 4) == [[0, 1, 2], [3, 4]]
    assert split(list(range(12)), 10) == [list(range(6)), list(range(6, 12))]


def test_replay_buffers_leave_half_of_the_memory(monkeypatch):
    # Two observations of four 32-bit numbers, action (64 bits), reward, done and timeout: 52 bytes.
    monkeypatch.setattr(stacks, "memory_bytes", lambda: 2 * 52 * 1000 * 2 * 3.5)
    assert max(len(s) for _, s in sizes(["mdqn"], workers=2, seeds=9, stack=9, steps=1000)) == 3
    assert max(len(s) for _, s in sizes(["mdqn"], workers=2, seeds=9, stack=9, steps=100_000)) == 1


def test_the_plan_tells_the_stacks_and_a_later_call_keeps_them(store):
    plan = make_plan(["CartPole-v1"], ["mdqn"], seeds=5, workers=2)
    store.write_plan(plan, "python -m benchmarks run")
    (path,) = (store.out / "plans").iterdir()
    content = json.loads(path.read_text())
    assert content["stacks"] == ["mdqn CartPole-v1 seeds 0 to 2", "mdqn CartPole-v1 seeds 3, 4"]
    later = make_plan(["CartPole-v1"], ["mdqn"], seeds=5, workers=1)
    assert later.sizes != plan.sizes
    assert store.with_earlier_sizes(later).sizes == plan.sizes
    path.with_name("a-broken.json").write_text('{"stack": "auto", "ru')
    assert store.with_earlier_sizes(later).sizes == plan.sizes
    asked = make_plan(["CartPole-v1"], ["mdqn"], seeds=5, workers=1, stack=4)
    assert store.with_earlier_sizes(asked).sizes == asked.sizes
    assert [[run.seed for run in stack] for stack in plan.stacks(plan.runs[1:])] == [[1, 2], [3, 4]]


def test_a_grid_of_stacks_fails_finishes_and_goes_on_seed_by_seed(store):
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    plan = make_plan(["tests.benchmarks.fragile:Fragile-v0"], ["mdqn"], seeds=3, steps=300, overrides=settings)
    console = Console(file=io.StringIO(), width=500)
    outcome = run_grid(plan, store, console)
    printed = console.file.getvalue()
    assert "steps/s in a stack of 3" in printed
    assert "failed" in printed
    assert [[spec.seed for spec in specs] for specs in (outcome.finished, outcome.failed)] == [[0, 2], [1]]
    (failure,) = store.out.glob("*/*/*/seed-1.failed")
    assert "the pole snapped" in json.loads((failure / "run.json").read_text())["error"]
    assert (failure / "log.txt").is_file()
    first, last = sorted(store.out.glob("*/*/*/seed-?"))
    shutil.rmtree(first)
    before = (last / "run.json").stat().st_mtime_ns
    outcome = run_grid(plan, store, console, retry_failed=True)
    assert [[spec.seed for spec in specs] for specs in (outcome.finished, outcome.failed, outcome.kept)] == [[0], [1], [2]]
    assert json.loads((first / "run.json").read_text())["stack"] == 2
    assert (last / "run.json").stat().st_mtime_ns == before
    assert failure.is_dir()
    assert list(store.out.glob("*/*/*/.partial-*")) == []
