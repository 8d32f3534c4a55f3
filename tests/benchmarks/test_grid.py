"""Real grids in real processes: finished, interrupted, killed, failing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.__main__ import main
from benchmarks.callbacks import evaluator_of
from benchmarks.plan import make_plan
from benchmarks.run import Job, execute
from sb3_entropic.evaluation import Episode, Evaluator

ROOT = Path(__file__).parents[2]
SMALL = ["-p", "policy_kwargs={net_arch: [8]}", "-p", "buffer_size=2000", "-p", "batch_size=16"]
GRID = ["run", "--env", "Pendulum-v1", "--algos", "msac", "--workers", "2", *SMALL]


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def records(out):
    return sorted(out.glob("*/*/*/seed-*/run.json"))


def partials(out):
    return list(out.glob("*/*/*/.partial-*"))


def leftovers(out):
    """Whatever is neither a record nor a report."""
    return list(out.glob("*/*/*/.*")) + list(out.glob("*/*/*/*/checkpoint-*"))


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def workers_below(pid):
    """Processes that run a job of the grid with this process id."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    return [int(row[0]) for row in rows if int(row[1]) == pid and "benchmarks.run" in row[2]]


@pytest.fixture(scope="module")
def finished_grid(tmp_path_factory):
    out = tmp_path_factory.mktemp("grid") / "runs"
    process = start([*GRID, "--seeds", "2", "--steps", "300", "--out", str(out)])
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return out, printed


def test_a_grid_ends_with_a_leaderboard(finished_grid):
    out, printed = finished_grid
    assert len(records(out)) == 2
    assert "Estimated time" in printed
    assert "Pendulum-v1 after 300 steps" in printed
    assert (out / "report" / "leaderboard.md").is_file()
    (board,) = json.loads((out / "report" / "leaderboard.json").read_text())["boards"]
    assert board["rows"][0]["summary"]["n"] == 2


def test_a_record_tells_where_its_numbers_come_from(finished_grid):
    out, _ = finished_grid
    record = json.loads(records(out)[0].read_text())
    assert record["timesteps"] == 300
    assert record["threads"] == 1
    assert record["device"] == "cpu"
    assert (record["engine"], record["stack"]) == ("sb3", 1), "one seed for each of the two workers, and too short"
    assert record["command"].startswith("python -m benchmarks run --env Pendulum-v1")
    assert str(out) not in record["command"], "a machine's path determines no number"
    assert {"python", "torch", "stable_baselines3", "sb3_entropic", "gymnasium"} <= record["versions"].keys()
    assert record["machine"]["cores"] == os.cpu_count()
    assert 0 < record["train_seconds"] <= record["wall_seconds"]


def test_evaluations_are_evenly_spaced_and_of_the_same_episodes(finished_grid):
    out, _ = finished_grid
    for record in records(out):
        rows = pd.read_parquet(record.parent / "evaluations.parquet")
        assert sorted(rows["step"].unique()) == [15 * k for k in range(1, 21)]
        assert rows.groupby("step")["episode_seed"].apply(list).map(lambda seeds: seeds == list(range(10_000, 10_010))).all()
        assert rows["train_seconds"].is_monotonic_increasing
        assert (rows["return"] < 0).all()


def test_a_finished_run_is_not_run_again_and_fresh_runs_it_with_the_same_numbers(finished_grid, capsys):
    out, _ = finished_grid
    evaluations = records(out)[0].parent / "evaluations.parquet"
    first = pd.read_parquet(evaluations)["return"]
    before = {path: path.stat().st_mtime_ns for path in records(out)}
    arguments = [*GRID, "--seeds", "2", "--steps", "300", "--out", str(out)]
    assert main(arguments) == 0
    assert "2 of them finished before; 0 steps to go" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in records(out)} == before
    assert main([*arguments, "--fresh", "--seeds", "1"]) == 0
    assert [path.stat().st_mtime_ns > before[path] for path in records(out)] == [True, False]
    assert pd.read_parquet(evaluations)["return"].tolist() == first.tolist()


def test_a_dry_run_prints_the_plan_and_starts_nothing(tmp_path, capsys):
    out = tmp_path / "runs"
    assert main([*GRID, "--seeds", "2", "--steps", "300", "--out", str(out), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 runs; 600 steps to go" in printed
    assert not out.exists()


def test_the_other_budgets_are_shown_in_the_users_words(capsys, monkeypatch):
    arguments = ["run", "--env", "Pendulum-v1", "--algos", "msac", "--out", "here", "-p", "gamma=0.9", "--dry-run"]
    monkeypatch.delenv("MAKELEVEL", raising=False)
    assert main(arguments) == 0
    expected = "full: python -m benchmarks run --env Pendulum-v1 --budget full --algos msac --out here -p gamma=0.9"
    assert expected in capsys.readouterr().out
    monkeypatch.setenv("MAKELEVEL", "1")
    assert main(arguments) == 0
    assert (
        "full: make benchmark ENV=Pendulum-v1 BUDGET=full ALGOS=msac OUT=here ARGS='-p gamma=0.9'" in capsys.readouterr().out
    )


def test_an_evaluation_that_is_not_a_number_is_an_error(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluator, "evaluate", lambda self, model: [Episode(0, float("nan"), 1)])
    spec = make_spec(hyperparameters={"policy_kwargs": {"net_arch": [8]}, "buffer_size": 100})
    (record,) = execute(Job((spec,), (tmp_path,)), lambda message: None)
    assert record.keys() == {"error"}
    assert record["error"].endswith("FloatingPointError: The return of an evaluation episode at step 50 is nan.\n")


def test_a_run_is_measured_and_evaluated_in_the_environments_it_trains_in(make_spec, tmp_path):
    wrapper = {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 7}}
    spec = make_spec(hyperparameters={"policy_kwargs": {"net_arch": [8]}, "buffer_size": 100, "env_wrapper": wrapper})
    execute(Job((spec,), (tmp_path,)), lambda message: None)
    assert set(pd.read_parquet(tmp_path / "evaluations.parquet")["length"]) == {7}
    assert evaluator_of(spec).max_episode_steps == 7


@pytest.mark.harness
def test_killed_half_way_it_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "runs"
    arguments = [*GRID, "--workers", "1", "--stack", "2", "--seeds", "4", "--steps", "1500", "--out", str(out)]
    arguments += ["--checkpoint-every", "1"]
    process = start(arguments)
    wait_for(lambda: len(records(out)) == 2 and list(out.glob("*/*/*/.partial-seed-3/checkpoint-*")))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in records(out)}
    orphans = workers_below(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert orphans
    # A worker whose grid is gone stops by itself.
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), seconds=30)
    assert main(arguments) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert leftovers(out) == []
    resumed = [json.loads(record.read_text())["resumed"] for record in records(out)]
    assert [len(parts) for parts in resumed] == [0, 0, 1, 1]
    assert resumed[2] == resumed[3], "as the stack they were"
    for record in records(out):
        assert json.loads(record.read_text())["timesteps"] == 1500
        assert len(pd.read_parquet(record.parent / "evaluations.parquet")) == 20 * 10


@pytest.mark.harness
def test_ctrl_c_saves_where_it_is_and_keeps_what_is_finished(tmp_path):
    out = tmp_path / "runs"
    arguments = [*GRID, "--workers", "1", "--stack", "2", "--seeds", "4", "--steps", "1500", "--out", str(out)]
    process = start(arguments)
    wait_for(lambda: len(records(out)) >= 2 and workers_below(process.pid) and len(partials(out)) == 2)
    workers = workers_below(process.pid)
    # Until it has begun to train there is nothing to save.
    wait_for(lambda: all((path / "progress.csv").exists() for path in partials(out)))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "what is under way saves where it is" in printed
    assert f"Stopped: {len(records(out))} of 4 runs are finished and kept; the same command continues." in printed
    assert "Traceback" not in printed
    assert [len(list(path.glob("checkpoint-*"))) for path in partials(out)] == [1, 1]
    assert workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert "going on" in start(arguments).communicate(timeout=300)[0]
    assert leftovers(out) == []


@pytest.mark.harness
def test_two_grids_in_one_folder_share_the_work(tmp_path):
    out = tmp_path / "runs"
    arguments = [*GRID, "--workers", "1", "--stack", "1", "--seeds", "3", "--steps", "400", "--out", str(out)]
    grids = [start(arguments) for _ in range(2)]
    printed = [grid.communicate(timeout=300)[0] for grid in grids]
    assert [grid.returncode for grid in grids] == [0, 0], printed
    assert sum(text.count("done ") for text in printed) == 3, "no run was done twice"
    assert len(records(out)) == 3
    assert leftovers(out) == []
    boards = [text[text.index("Pendulum-v1 after") :] for text in printed]
    assert boards[0] == boards[1], "each waits for what the other does, and reports on all of it"


def test_a_failing_run_is_recorded_counted_and_does_not_stop_the_others(tmp_path, capsys):
    out = tmp_path / "runs"
    # Episodic updates need a single environment, which SB3 finds out when it collects.
    broken = ["-p", "msac.n_envs=2", "-p", "msac.train_freq=[1, episode]"]
    arguments = ["run", "--env", "Pendulum-v1", "--algos", "msac,sac", "--seeds", "1", "--steps", "200", *SMALL, *broken]
    arguments += ["--out", str(out)]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 runs failed" in printed
    (failure,) = out.glob("*/*/*/seed-0.failed/run.json")
    assert "You must use only one env when doing episodic training" in json.loads(failure.read_text())["error"]
    (board,) = json.loads((out / "report" / "leaderboard.json").read_text())["boards"]
    assert {row["algorithm"].split("[")[0]: row["failures"] for row in board["rows"]} == {"msac": 1, "sac": 0}
    before = failure.stat().st_mtime_ns
    assert main(arguments) == 1
    assert failure.stat().st_mtime_ns == before, "a failure is not run again unasked"
    assert main([*arguments, "--retry-failed"]) == 1
    assert failure.stat().st_mtime_ns > before


class Broken:
    """A worker that has ended with an error."""

    def __init__(self, job):
        self.job, self.said, self.said_of = job, {}, [{} for _ in job.specs]

    def has_ended(self):
        return True

    def was_lost(self):
        return False

    def errors(self):
        return ["ValueError: broken"] * len(self.said_of)

    def stop(self):
        pass


@pytest.fixture
def broken(monkeypatch, store, capsys):
    """Call a grid of two seeds whose workers all fail; returns exit code, what was printed, and the workers' jobs."""
    jobs = []

    def broken(*options):
        jobs.clear()
        code = main([*GRID, "--seeds", "2", "--steps", "100", "--out", str(store.out), *options])
        return code, " ".join(capsys.readouterr().out.split()), list(jobs)

    for module in ("executors.local", "pace"):
        monkeypatch.setattr(f"benchmarks.{module}.Process", lambda job, claim=None: jobs.append(job) or Broken(job))
    monkeypatch.setattr("benchmarks.commands._write_and_show", lambda *_: None)
    # Under make the messages are in make's words.
    monkeypatch.delenv("MAKELEVEL", raising=False)
    return broken


def test_what_fails_when_it_is_run_afresh_is_told_once_and_leaves_the_earlier_record(broken, store, finish):
    overrides = [setting for setting in SMALL if setting != "-p"]
    for spec in make_plan(["Pendulum-v1"], ["msac"], seeds=2, steps=100, overrides=overrides).runs:
        finish(spec, [1.0, 2.0])
    for _ in range(2):
        code, printed, jobs = broken("--fresh")
        assert (code, len([job for job in jobs if job.folders])) == (1, 2)
        assert "2 of 2 runs failed; what they had finished before is kept, and --fresh runs all again." in printed
    assert ["error" in record for record in store.records()] == [False, False]
    assert broken()[0] == 0


def test_what_failed_before_is_neither_announced_nor_measured_unless_it_is_to_run_again(broken):
    code, printed, jobs = broken("--stack", "1")
    assert (code, [job.folders is None for job in jobs]) == (1, [True, False, False])
    assert "2 runs; 200 steps to go" in printed
    code, printed, jobs = broken("--stack", "1")
    assert (code, jobs) == (1, [])
    assert "2 runs; 0 steps to go" in printed
    assert "2 of these runs failed before; --retry-failed runs them again." in printed
    for option in ("--retry-failed", "--fresh"):
        _, printed, jobs = broken("--stack", "1", option)
        assert [job.folders is None for job in jobs] == [True, False, False]
        assert "2 runs; 200 steps to go" in printed
        assert "failed before" not in printed


@pytest.mark.harness
def test_a_checkpoint_that_cannot_be_written_is_told_once_and_ends_nothing(tmp_path):
    # Long enough for a second of training on any machine.
    arguments = ["--steps", "6000", "--seeds", "2", "--stack", "1", "--workers", "1", "--checkpoint-every", "1"]
    dqn = ["run", "--env", "CartPole-v1", "--algos", "dqn", *SMALL, *arguments]
    process = start([*dqn, "--import", "tests.benchmarks.full_disk", "--out", str(tmp_path / "runs")])
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    assert " ".join(printed.split()).count("no checkpoint could be written ([Errno 28] No space left on device)") == 1
    assert len(records(tmp_path / "runs")) == 2


@pytest.mark.harness
def test_a_killed_worker_is_started_again_and_in_the_end_a_failed_run(tmp_path):
    out = tmp_path / "runs"
    process = start([*GRID, "--workers", "1", "--seeds", "1", "--steps", "100000", "--out", str(out)])
    for _ in range(3):
        wait_for(lambda: partials(out) and workers_below(process.pid))
        time.sleep(1)
        (worker,) = workers_below(process.pid)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda pid=worker: pid not in workers_below(process.pid))
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed.count("lost ") == 2
    assert "was killed by SIGKILL" in json.loads(next(out.glob("*/*/*/*.failed/run.json")).read_text())["error"]
    assert "1 of 1 runs failed" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --env Nope-v0", "Unknown environment 'Nope-v0'"),
        ("run --env LunarLanderContinuous-v2", "did you mean 'LunarLanderContinuous-v3'"),
        ("run --env CartPole-v1 --algos msac", "msac needs Box actions"),
        ("run --env Pendulum-v1 --algos msca", "did you mean 'msac'"),
        ("run --env Pendulum-v1 --algos msac -p munchausen_alpha=1.1", "outside [0, 1]"),
        ("run --env Pendulum-v1 --algos msac -p munchausen_bound=[1,-1]", "low > high"),
        ("run --env Pendulum-v1 --seeds 0", "'0' is not a whole number above 0"),
        ("run --env Pendulum-v1 --stack 0", "'0' is not a whole number above 0"),
        ("run --env Pendulum-v1 --steps -5", "'-5' is not a whole number above 0"),
        ("run --env Pendulum-v1 --budget shrot", "did you mean 'short'"),
        ("run --env Pendulum-v1 --out README.md", "OUT=README.md is a file"),
        ("run --env Pendulum-v1 --worker-count 3", "did you mean '--workers'"),
        ("report --threshold 0.1", "unknown argument '--threshold'."),
        ("run --env Pendulum-v1 --cpus-per-run 2", "--cpus-per-run is what a run reserves on a Ray cluster"),
        ("run --env Pendulum-v1 --gpus-per-run 1", "--gpus-per-run is what a run reserves on a Ray cluster"),
        ("export results/classic --out results/classic", "results/classic holds the runs themselves"),
        ("run --env ,", "--env is empty"),
        ("restor results/mine", "error: 'restor' is none of run, report, export, restore, "),
        ("restor results/mine", "did you mean 'restore'?"),
        (
            "run --env Pendulum-v1 --executor loacl",
            "argument --executor: 'loacl' is none of local, ray: did you mean 'local'?",
        ),
        ("restore results/mien", "There are no published runs in results/mien"),
        ("report --out no-such-folder", "There are no runs in no-such-folder"),
        ("speed --cases msac-hoper", "There is no case 'msac-hoper', only msac-hopper, "),
        ("speed --cases msac-hoper", "did you mean 'msac-hopper'?"),
        ("speed --cases ,", "--cases is empty"),
        ("speed --peers sbxx", "There is no peer 'sbxx', only sb3, sbx: did you mean 'sbx'?"),
        ("speed --rounds 0", "'0' is not a whole number above 0"),
        ("speed --out README.md", "OUT=README.md is a file: name a folder, such as runs/speed."),
    ],
)
def test_wrong_inputs_get_a_sentence_and_exit_code_2(arguments, message, refusal, monkeypatch):
    monkeypatch.chdir(ROOT)
    printed = refusal(main, arguments.split())
    assert message in printed.err
    assert "runs;" not in printed.out, "refused before any plan"


def test_what_was_edited_since_the_grid_was_planned_does_not_run_in_its_name(tmp_path):
    (spec,) = make_plan(["CartPole-v1"], ["dqn"], seeds=1, steps=50).runs
    job = Job((replace(spec, package="stable_baselines3 0.1"),), (tmp_path,))
    command, pipe = [sys.executable, "-m", "benchmarks.run"], subprocess.PIPE
    # Its standard input stays open: the end of it would be the grid's.
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        print(job.to_json(), file=process.stdin, flush=True)
        printed = process.stdout.read()
    assert process.returncode == 1
    assert "dqn on CartPole-v1 is not what this grid was planned with: stable_baselines3 0.1 then, " in printed
    assert list(tmp_path.iterdir()) == []
