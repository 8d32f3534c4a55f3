"""A run that goes on from a checkpoint ends as one that was never disturbed."""

import io
import json
import random
import threading

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch as th
from gymnasium import spaces
from rich.console import Console
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.callbacks import CheckpointMoments
from benchmarks.checkpoint import Checkpoint, environment_state, restore_environment, save
from benchmarks.grid import run_grid, units_of
from benchmarks.pace import Pace, kind_of
from benchmarks.plan import Plan
from benchmarks.preview import _estimate, show_plan
from benchmarks.provenance import provenance
from benchmarks.run import Job, execute
from benchmarks.store import CHECKPOINT
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.zoo import make_model

STEPS = 320
SMALL = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 250, "batch_size": 16, "learning_starts": 50, "train_freq": 4}
ON_POLICY = {"policy_kwargs": {"net_arch": [8]}, "n_steps": 16, "batch_size": 8, "n_epochs": 2}


class StopAt(CheckpointMoments):
    """Stops as the grid does, at a number of steps instead of at a time."""

    def __init__(self, folders, steps):
        super().__init__(folders, seconds=float("inf"))
        self._stop_at = steps

    def is_now(self, steps):
        if steps >= self._stop_at:
            self.stop()
        return super().is_now(steps)


@pytest.fixture
def specs_of(make_spec):
    def specs(algo, env=None, seeds=1, **hyperparameters):
        algorithm = ALGORITHMS[algo]
        env = env or ("CartPole-v1" if spaces.Discrete in algorithm.actions else "Pendulum-v1")
        small = ON_POLICY if issubclass(algorithm.constructor, OnPolicyAlgorithm) else SMALL
        short = {"env_wrapper": {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 23}}}
        hyperparameters = {**small, **short, **hyperparameters}
        common = {"env": env, "algo": algo, "label": algo, "steps": STEPS, "hyperparameters": hyperparameters}
        return tuple(make_spec(seed=seed, evaluations=4, **common) for seed in range(seeds))

    return specs


@pytest.fixture
def goals():
    """An environment with goals; its id."""
    gym.register("Goals-v0", lambda **_: BitFlippingEnv(n_bits=4, continuous=True, max_steps=10), max_episode_steps=10)
    yield "Goals-v0"
    gym.registry.pop("Goals-v0")


@pytest.fixture
def run(tmp_path):
    """Execute a job in one piece, or stopped on the way; returns the records and the folders of its runs."""

    def run(specs, stops=(), before_going_on=lambda folders: None):
        folders = tuple(tmp_path / f"{len(list(tmp_path.iterdir()))}-{spec.seed}" for spec in specs)
        for folder in folders:
            folder.mkdir()
        resume = None
        for stop in stops:
            disturb_everything(stop)
            with pytest.raises(SystemExit):
                execute(Job(specs, folders, resume=resume), lambda message: None, StopAt(folders, stop))
            (resume,) = {int(path.name.removeprefix(CHECKPOINT)) for f in folders for path in f.glob(f"{CHECKPOINT}*")}
            assert stop <= resume < STEPS
        disturb_everything(0)
        before_going_on(folders)
        return execute(Job(specs, folders, resume=resume), lambda message: None), folders

    return run


def disturb_everything(seed):
    """Another process begins with other random numbers."""
    random.seed(seed)
    np.random.seed(seed)
    th.manual_seed(seed)


def assert_same(folder, other):
    columns = ["step", "timesteps", "episode_seed", "return", "length"]
    evaluations = [pd.read_parquet(path / "evaluations.parquet")[columns] for path in (folder, other)]
    pd.testing.assert_frame_equal(*evaluations, check_exact=True)
    _, parameters, variables = load_from_zip_file(folder / "model.zip")
    _, others, other_variables = load_from_zip_file(other / "model.zip")
    th.utils._pytree.tree_map(assert_equal, [parameters, variables], [others, other_variables])
    logged, others = (pd.read_csv(path / "progress.csv") for path in (folder, other))
    counted_anew = ["time/fps", "time/time_elapsed", "time/iterations"]
    # An episode that ends before the next update has no losses to log.
    kept, others = (frame.drop(columns=counted_anew, errors="ignore") for frame in (logged.fillna(others), others))
    # SB3's logger has its columns in the order of a set, which is each process's own.
    pd.testing.assert_frame_equal(kept, others, check_exact=True, check_dtype=False, check_like=True)


def assert_equal(first, second):
    assert th.equal(first, second) if isinstance(first, th.Tensor) else first == second


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_stopped_twice_a_run_ends_as_an_undisturbed_one(algo, specs_of, run):
    specs = specs_of(algo)
    _, (undisturbed,) = run(specs)
    (record,), (stopped,) = run(specs, stops=(100, 210))
    assert_same(stopped, undisturbed)
    assert [part["environment"] for part in record["resumed"]] == ["restored"] * 2
    assert record["timesteps"] == STEPS


@pytest.mark.parametrize(
    ("algo", "hyperparameters"),
    [
        ("mdqn", {}),
        ("msac", {}),
        ("mdqn", {"engine": "sb3"}),
        ("mdqn", {"n_steps": 3}),
        ("msac", {"action_noise": None, "use_sde": True}),
        ("entropyppo", {"env": "Pendulum-v1", "use_sde": True}),
    ],
    ids=str,
)
def test_so_do_the_seeds_of_a_stack(algo, hyperparameters, specs_of, run):
    engine = hyperparameters.get("engine", "auto")
    specs = specs_of(algo, seeds=3, **hyperparameters)
    _, undisturbed = run(specs)
    records, stopped = run(specs, stops=() if engine == "sb3" else (100, 210))
    assert {record["stack"] for record in records} == {1 if engine == "sb3" else 3}
    for folder, other in zip(stopped, undisturbed, strict=True):
        assert_same(folder, other)


@pytest.mark.parametrize(
    ("algo", "hyperparameters"),
    [
        ("msac", {"env": "Hopper-v4"}),
        ("msac", {"action_noise": None, "use_sde": True}),
        ("mdqn", {"normalize": True}),
        ("mdqn", {"n_steps": 3}),
        ("mdqn", {"n_envs": 2}),
        ("msac", {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}),
    ],
    ids=str,
)
def test_so_do_other_worlds_and_buffers(algo, hyperparameters, specs_of, run):
    specs = specs_of(algo, **hyperparameters)
    _, (undisturbed,) = run(specs)
    _, (stopped,) = run(specs, stops=(100,))
    assert_same(stopped, undisturbed)


def test_where_the_world_cannot_be_kept_a_new_episode_begins(specs_of, run):
    (record,), (folder,) = run(specs_of("mdqn", env="LunarLander-v3"), stops=(100,))
    commit = provenance()["commit"]
    assert record["resumed"] == [{"timesteps": 100, "environment": "new episode", "commit": commit, "device": "cpu"}]
    assert record["defaults"]["munchausen_alpha"] == "0.9"
    assert record["timesteps"] == STEPS
    assert sorted(set(pd.read_parquet(folder / "evaluations.parquet")["step"])) == [80, 160, 240, 320]


@pytest.mark.parametrize("entry", [{"n_steps": 3}, {"replay_buffer_class": "HerReplayBuffer"}], ids=str)
def test_no_return_reaches_from_one_episode_into_another(entry, goals, tmp_path, monkeypatch):
    algorithm, entry = ALGORITHMS["msac"], {**SMALL, **entry, "learning_starts": 20}
    env = goals if "replay_buffer_class" in entry else "Pendulum-v1"
    model = make_model(algorithm, env, entry, seed=0, device="cpu").learn(101)
    # As if its world could not be kept.
    monkeypatch.setattr("benchmarks.checkpoint.environment_state", lambda *_: None)
    save(tmp_path / "there", model, [0], None, None)
    fresh = make_model(algorithm, env, entry, seed=0, device="cpu")
    fresh.set_logger(configure(None, []))
    found = Checkpoint(tmp_path / "there").load(fresh).replay_buffer
    assert (found.dones[found.pos - 2], found.timeouts[found.pos - 2]) == (0, 0)
    last = found.timeouts[found.pos - 1]
    assert last.tolist() == [1]
    if env == goals:
        assert found._current_ep_start.tolist() == [found.pos]


def test_what_is_relabelled_and_the_noise_are_kept(goals, specs_of, run):
    entry = {"replay_buffer_class": "HerReplayBuffer", "noise_type": "ornstein-uhlenbeck", "noise_std": 0.2}
    specs = specs_of("msac", env=goals, **entry)
    _, (undisturbed,) = run(specs)
    _, (stopped,) = run(specs, stops=(100,))
    assert_same(stopped, undisturbed)


def test_the_episode_that_begins_is_not_the_first_one_again(specs_of, run, monkeypatch):
    starts, step = [], DummyVecEnv.reset

    def note(env):
        starts.append(step(env)[0].tolist())
        return np.array([starts[-1]], dtype=np.float32)

    monkeypatch.setattr(DummyVecEnv, "reset", note)
    for _ in range(2):
        run(specs_of("mdqn", env="LunarLander-v3"), stops=(100, 200))
    first, second, third, *again = starts
    assert first != second != third != first
    assert again == [first, second, third], "what begins is determined by the seed and the steps"


@pytest.mark.parametrize("damaged", ["state.pkl", "model.zip", "replay.pkl"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_runs_whose_checkpoints_cannot_be_read_begin_anew(damaged, seeds, specs_of, run, capfd):
    specs = specs_of("mdqn", seeds=seeds)
    _, undisturbed = run(specs)

    def damage(folders):
        (path,) = folders[-1].glob(f"{CHECKPOINT}*/{damaged}")
        path.write_bytes(path.read_bytes()[:20])

    records, folders = run(specs, stops=(100,), before_going_on=damage)
    assert "The checkpoints cannot be read: the runs begin anew." in capfd.readouterr().err
    for record, folder, other in zip(records, folders, undisturbed, strict=True):
        assert (record["resumed"], record["timesteps"]) == ([], STEPS)
        assert list(folder.glob(f"{CHECKPOINT}*")) == []
        assert_same(folder, other)


@pytest.fixture
def checkpointed(store):
    """Leave an interrupted run with checkpoints at the given steps, taken together with the given seeds."""

    def leave(spec, seeds, *steps):
        for step in steps:
            folder = store.begin(spec, resume=True) / f"{CHECKPOINT}{step}"
            folder.mkdir()
            (folder / "seeds.json").write_text(json.dumps(seeds))

    return leave


def test_a_stack_goes_on_together_from_what_all_of_it_has(store, make_spec, checkpointed):
    specs = [make_spec(seed=seed) for seed in range(7)]
    plan = Plan("short", tuple(specs), workers=2, sizes={specs[0].group: 5})
    # Seeds 0 to 4 were a stack that was killed while it wrote its second checkpoint, and seed 2 had failed before that.
    for seed in (0, 1):
        checkpointed(specs[seed], [0, 1, 2, 3, 4], 100, 200)
    for seed in (3, 4):
        checkpointed(specs[seed], [0, 1, 2, 3, 4], 100)
    checkpointed(specs[2], [0, 1, 2, 3, 4], 50)
    checkpointed(specs[5], [5], 100)
    units = [([spec.seed for spec in unit.specs], unit.resume) for unit in units_of(plan, store, specs)]
    assert units == [([0, 1, 3, 4], 100), ([5], 100), ([2], 50), ([6], None)]
    units = [([spec.seed for spec in unit.specs], unit.resume) for unit in units_of(plan, store, specs, fresh=True)]
    assert units == [([0, 1, 2, 3], None), ([4, 5, 6], None)]


def test_what_is_announced_is_what_there_is_left_to_do(store, make_spec, checkpointed, capsys):
    specs = [make_spec(seed=seed, steps=1000) for seed in range(3)]
    plan = Plan("short", tuple(specs), workers=2)
    checkpointed(specs[1], [1], 900)
    units = units_of(plan, store, specs)
    show_plan(plan, units, [], Console())
    assert "3 runs, 1 of them goes on from a checkpoint; 2,100 steps to go" in capsys.readouterr().out
    # The first worker does what is left of one run and then another run, the second worker one run.
    pace = Pace(steps_per_second=0.1, evaluation_seconds=0.0)
    assert "Estimated time: [bold]3.1 hours" in _estimate(plan, units, {kind_of(specs[:1]): pace})


def test_a_checkpoint_that_cannot_be_read_is_not_gone_on_from(store, make_spec, checkpointed):
    spec = make_spec()
    checkpointed(spec, [0], 100)
    (store.partial(spec) / f"{CHECKPOINT}100" / "seeds.json").write_text("")
    assert [unit.resume for unit in units_of(Plan("short", (spec,), 1), store, [spec])] == [None]


def test_checkpoints_are_taken_by_all_of_a_stack_or_by_none(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.callbacks.time.perf_counter", lambda: now[0])
    folders = [tmp_path / "0", tmp_path / "1"]
    moments = CheckpointMoments(folders, seconds=10)

    def rollout(steps, *times):
        taken = []
        for folder, time in zip(folders, times, strict=True):
            now[0] = time
            taken.append(moments.is_now(steps))
            if taken[-1]:
                (folder / f"{CHECKPOINT}{steps}").mkdir(parents=True)
        return taken

    def kept():
        return sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(f"*/{CHECKPOINT}*"))

    assert rollout(1, 0, 9.9) == [False, False]
    assert rollout(2, 9.95, 10.5) == [False, False], "the first decides"
    assert rollout(3, 11, 11.25) == [True, True]
    assert rollout(4, 12, 12.1) == [False, False]
    # A checkpoint took a second with the step that came after it, so the next is no sooner than in twenty.
    assert rollout(5, 31.9, 31.9) == [False, False]
    assert rollout(6, 32, 32) == [True, True]
    assert kept() == [f"{seed}/{CHECKPOINT}{steps}" for seed in (0, 1) for steps in (3, 6)], "until all have the new one"
    rollout(7, 33, 33)
    assert kept() == [f"{seed}/{CHECKPOINT}6" for seed in (0, 1)]
    moments.stop()
    assert rollout(8, 34, 34) == [True, True]
    with pytest.raises(SystemExit):
        rollout(9, 35, 35)
    assert kept() == [f"{seed}/{CHECKPOINT}8" for seed in (0, 1)]


def test_a_grid_that_has_waited_goes_on_from_where_the_other_has_stopped(store, make_spec, checkpointed):
    class Refuses:
        """Notes the jobs it is given and stops the grid, as Ctrl-C would."""

        def __init__(self):
            self.jobs = []

        def start(self, job, claim=None):
            self.jobs.append(job)
            raise KeyboardInterrupt

        def close(self):
            pass

    specs = [make_spec(seed=seed) for seed in range(2)]
    plan, executor = Plan("short", tuple(specs), workers=1, sizes={specs[0].group: 2}), Refuses()
    others = store.claim(specs)
    letting_go = threading.Timer(0.5, others.release)
    # Both have begun elsewhere since this grid was planned, and the other process has died.
    later = threading.Timer(0.3, lambda: [checkpointed(spec, [0, 1], 100) for spec in specs])
    for timer in (later, letting_go):
        timer.start()
    assert run_grid(plan, store, Console(file=io.StringIO()), executor=executor).interrupted
    assert [(job.resume, [spec.seed for spec in job.specs]) for job in executor.jobs] == [(100, [0, 1])]
    assert all(store.checkpoints(spec).keys() == {100} for spec in specs)


@pytest.mark.parametrize("fresh", [False, True])
def test_only_a_job_that_is_lost_without_getting_further_is_given_up(store, make_spec, checkpointed, fresh):
    class Lost:
        """A worker whose machine is gone, after checkpoints at the given steps."""

        def __init__(self, job, step):
            self.job, self.said_of = job, [{}]
            if step:
                checkpointed(job.specs[0], [0], step)

        def has_ended(self):
            return True

        def was_lost(self):
            return True

        def errors(self):
            return ["The machine is gone."]

        def stop(self):
            pass

    class Loses:
        def __init__(self):
            self.jobs, self.steps = [], iter([0, 100, 0, 200, 0, 0, 0])

        def start(self, job, claim=None):
            self.jobs.append(job)
            (job.folders[0] / "log.txt").touch()
            return Lost(job, next(self.steps))

        def close(self):
            pass

    spec, executor = make_spec(steps=1000), Loses()
    outcome = run_grid(Plan("short", (spec,), 1), store, Console(file=io.StringIO()), fresh=fresh, executor=executor)
    assert outcome.failed == [spec]
    assert [job.resume for job in executor.jobs] == [None, None, 100, 100, 200, 200, 200]


def test_what_observations_are_normalised_by_outlives_a_world_that_cannot_be_kept(specs_of, run, monkeypatch):
    counts = []
    restore = Checkpoint.load

    def note(checkpoint, fresh):
        model = restore(checkpoint, fresh)
        counts.append(model.get_vec_normalize_env().obs_rms.count)
        return model

    monkeypatch.setattr(Checkpoint, "load", note)
    (record,), _ = run(specs_of("mdqn", env="LunarLander-v3", normalize=True), stops=(100,))
    assert record["resumed"][0]["environment"] == "new episode"
    assert counts[0] > 100


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v4", "LunarLander-v3"])
def test_environments_go_on_from_their_state(env_id):
    env = make_vec_env(env_id, n_envs=2, seed=0)
    env.reset()
    actions = [np.array([env.action_space.sample() for _ in range(2)]) for _ in range(40)]
    for action in actions[:15]:
        env.step(action)
    state = environment_state(env)
    if env_id == "LunarLander-v3":
        assert state is None, "Box2D's world cannot be had"
        return
    other = make_vec_env(env_id, n_envs=2, seed=1)
    other.reset()
    restore_environment(other, state)
    for action in actions[15:]:
        for first, second in zip(env.step(action)[:3], other.step(action)[:3], strict=True):
            np.testing.assert_array_equal(first, second)
