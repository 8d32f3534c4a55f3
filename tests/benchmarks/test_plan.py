"""A grid is decided and checked before it starts."""

import json
import re
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from gymnasium import spaces

from benchmarks import plan as plan_module
from benchmarks.__main__ import main
from benchmarks.plan import make_plan
from benchmarks.protocol import BUDGETS, PROTOCOLS, protocol
from benchmarks.spec import RunSpec, as_file_name
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_protocol_decides_what_is_not_said():
    plan = make_plan(["Pendulum-v1"])
    assert plan.budget == "short"
    assert {run.label for run in plan.runs} == {"msac", "sac"}
    assert {run.seed for run in plan.runs} == {0, 1, 2, 3, 4}
    assert {run.steps for run in plan.runs} == {20_000}
    assert plan.experiments == {("Pendulum-v1", 20_000)}


def test_discrete_environments_get_every_discrete_algorithm():
    discrete = {name for name, algorithm in ALGORITHMS.items() if spaces.Discrete in algorithm.actions}
    assert {run.algo for run in make_plan(["CartPole-v1"], budget="smoke", seeds=1).runs} == discrete


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "MinAtar/Breakout-v1"])
def test_an_environment_without_vectors_gets_those_that_take_others(env_id):
    discrete = {name for name, algorithm in ALGORITHMS.items() if spaces.Discrete in algorithm.actions}
    assert {run.algo for run in make_plan([env_id], budget="smoke", seeds=1).runs} == discrete - {"vfe"}


def test_a_value_that_does_what_nobody_wants_is_warned_of_once_before_anything_runs(capsys):
    command = ["run", "--env", "CartPole-v1", "--algos", "mdqn,mqrdqn", "-p", "temperature=1.25", "--dry-run"]
    with warnings.catch_warnings():
        assert main(command) == 0
    printed = capsys.readouterr().err
    assert printed.count("warning: munchausen_clip=-1 is 0.8 temperatures (1.25) wide") == 1


def test_an_environment_is_looked_at_once(monkeypatch):
    looks = []
    look = plan_module.find_environment
    monkeypatch.setattr(plan_module, "find_environment", lambda env_id: looks.append(env_id) or look(env_id))
    plan = make_plan(["Pendulum-v1", "CartPole-v1"], ["ppo"], seeds=2)
    assert looks == ["Pendulum-v1", "CartPole-v1"]
    assert {run.env for run in plan.runs} == {"Pendulum-v1", "CartPole-v1"}


def test_an_environment_given_twice_runs_once():
    assert len(make_plan(["Pendulum-v1", "Pendulum"], ["sac"], seeds=2).runs) == 2


def test_what_is_said_wins():
    plan = make_plan(["Pendulum-v1"], ["sac"], "smoke", seeds=3, steps=123, workers=7)
    assert [(run.algo, run.seed, run.steps) for run in plan.runs] == [("sac", 0, 123), ("sac", 1, 123), ("sac", 2, 123)]
    assert plan.workers == 7


def test_seeds_are_the_slowest_to_change():
    seeds = [run.seed for run in make_plan(["Pendulum-v1"], seeds=3).runs]
    assert seeds == [0, 0, 1, 1, 2, 2]


def test_a_rollout_is_no_longer_than_a_run():
    def rollouts(env_id, steps, **options):
        runs = make_plan([env_id], ["ppo", "entropyppo"], seeds=1, steps=steps, **options).runs
        return [run.hyperparameters.get("n_steps") for run in runs]

    assert rollouts("BipedalWalker-v3", 30_000) == [128, 128], "32 environments, of 30,000 steps at most a quarter"
    assert rollouts("BipedalWalker-v3", 100_000) == [2048, 2048]
    assert rollouts("BipedalWalker-v3", 30_000, overrides=["n_steps=512"]) == [512, 512]
    assert rollouts("HalfCheetah-v4", 400) == [64, 64]


def test_a_short_run_gets_a_short_warm_up_for_every_algorithm_alike():
    runs = make_plan(["Hopper-v4"], ["msac", "sac"], steps=10_000, seeds=1).runs
    assert {run.hyperparameters["learning_starts"] for run in runs} == {1000}
    runs = make_plan(["Hopper-v4"], ["msac", "sac"], "full", seeds=1).runs
    assert {run.hyperparameters["learning_starts"] for run in runs} == {10_000}


def test_a_short_run_gets_few_quantiles_for_every_algorithm_alike():
    def quantiles(budget, **changes):
        runs = make_plan(["LunarLander-v3"], ["mqrdqn", "qrdqn"], budget, seeds=1, **changes).runs
        return [run.hyperparameters["policy_kwargs"] for run in runs]

    assert quantiles("short") == [{"net_arch": [256, 256], "n_quantiles": 25}] * 2
    assert quantiles("full") == [{"net_arch": [256, 256], "n_quantiles": 170}] * 2
    assert quantiles("short", overrides=["policy_kwargs={n_quantiles: 99}"]) == [{"n_quantiles": 99}] * 2


def test_overrides_are_part_of_the_label_and_of_the_key():
    plain, changed = (
        make_plan(["Pendulum-v1"], ["msac"], seeds=1, overrides=overrides).runs[0]
        for overrides in ([], ["munchausen_alpha=0.9"])
    )
    assert changed.label == "msac[munchausen_alpha=0.9]"
    assert plain.group != changed.group
    assert plain.path != changed.path


def test_the_order_of_overrides_does_not_matter():
    one, other = (
        make_plan(["Pendulum-v1"], ["msac"], seeds=1, overrides=overrides).runs[0]
        for overrides in (["gamma=0.9", "tau=0.1"], ["tau=0.1", "gamma=0.9"])
    )
    assert one.path == other.path


def test_an_override_for_one_algorithm_leaves_the_others():
    runs = {run.algo: run for run in make_plan(["Pendulum-v1"], ["msac", "sac"], seeds=1, overrides=["msac.gamma=0.9"]).runs}
    assert runs["msac"].hyperparameters["gamma"] == 0.9
    assert "gamma" not in runs["sac"].hyperparameters


def test_seeds_share_a_group_and_nothing_else_does(make_spec):
    spec = make_spec()
    assert make_spec(seed=1).group == spec.group
    changes = ({"env": "Pendulum-v0"}, {"algo": "sac"}, {"steps": 101}, {"episodes": 4}, {"package": "x 2"})
    assert len({make_spec(**change).group for change in changes} | {spec.group}) == 6


def test_published_runs_keep_their_keys():
    for published in (ROOT / "results").glob("*/runs.jsonl"):
        for record in map(json.loads, published.read_text().splitlines()):
            assert RunSpec(**record["spec"]).path.as_posix() == record["path"]
    runs = make_plan(["CartPole-v1", "MultiGoal-v0"], ["ppo", "entropyppo"], seeds=1).runs
    assert all(run.package == ALGORITHMS[run.algo].package for run in runs), "a digest is of the user's own alone"


def test_a_slash_in_an_id_makes_no_folder(make_spec):
    assert make_spec(env="MinAtar/Breakout-v1").path.parts[0] == "MinAtar_Breakout-v1"
    assert protocol("MinAtar/Breakout-v1", "full")["steps"] == 5_000_000


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_label_that_is_too_long_for_a_folder_is_cut_and_no_other(letter, store, make_spec, finish):
    longest, longer = (f"msac[x={letter * (count // len(letter.encode()))}]" for count in (246, 2000))
    assert make_spec(label=longest).path.parts[1] == longest
    for alpha in (0.1, 0.2):
        finish(make_spec(label=longer, hyperparameters={"munchausen_alpha": alpha}), [1.0, 2.0])
    assert [record["spec"]["label"] for record in store.records()] == [longer, longer]
    for begins, ends in (("sensitivity-Pendulum-v1-20000-", ".png"), (".partial-", "@machine-123456")):
        (store.out / f"{begins}{as_file_name(longer)}{ends}").touch()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"envs": ["LunarLanderContinuous-v2"]}, "did you mean 'LunarLanderContinuous-v3'"),
        ({"envs": ["Pendulum-v1"], "algos": ["msacc"]}, "did you mean 'msac'"),
        ({"envs": ["CartPole-v1"], "algos": ["msac"]}, "msac needs Box actions"),
        ({"envs": ["Pendulum-v1"], "budget": "shirt"}, "did you mean 'short'"),
        (
            {"envs": ["Pendulum-v1"], "algos": ["sac"], "overrides": ["munchausen_alpha=2"]},
            "sac has no hyperparameter 'munchausen_alpha'",
        ),
        ({"envs": ["Pendulum-v1"], "algos": ["msac"], "overrides": ["munchausen_alpha=2"]}, r"outside \[0, 1\]"),
        ({"envs": ["Pendulum-v1"], "overrides": ["tqc.gamma=0.9"]}, "'tqc', which is not in the grid"),
        ({"envs": ["Pendulum-v1"], "overrides": ["munchausen_alpha=0.9"]}, "write msac.munchausen_alpha=0.9"),
        ({"envs": ["Pendulum-v1"], "overrides": ["n_envs=0"]}, "n_envs=0 is not a whole number above 0"),
        ({"envs": ["Pendulum-v1"], "overrides": ["n_timesteps=5"]}, "the number of steps is --steps"),
        ({"envs": ["Pendulum-v1"], "overrides": ["msac.seed=5"]}, "seeds are --seed"),
        ({"envs": ["Pendulum-v1"], "overrides": ["gamma"]}, "write name=value"),
    ],
)
def test_wrong_inputs_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        make_plan(**arguments)


def test_every_protocol_is_complete_and_its_environments_exist():
    names = {env_id.rpartition("-v")[0] for env_id in gym.registry}
    for name, entry in PROTOCOLS["environments"].items():
        assert name == "default" or name in names
        assert entry.keys() == BUDGETS.keys()
        for budget in BUDGETS:
            chosen = protocol(f"{name}-v1", budget)
            assert chosen["steps"] >= chosen["evaluations"] > 0
            assert chosen["seeds"] >= 2
    assert {name for names in PROTOCOLS["algorithms"].values() for name in names} <= set(ALGORITHMS)
    assert all(PROTOCOLS["environments"][name]["short"]["seeds"] >= 5 for name in PROTOCOLS["environments"])


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of a user's, with an algorithm and an environment."""
    path = tmp_path / "own_algorithms.py"
    path.write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "from stable_baselines3 import SAC\n"
        "class Bold(SAC):\n"
        "    def __init__(self, *args, boldness=1.0, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "class Own(PendulumEnv):\n"
        "    pass\n"
        "gym.register('Own-v0', 'own_algorithms:Own', max_episode_steps=50)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("own_algorithms", None)
    gym.registry.pop("Own-v0", None)


def test_an_algorithm_of_the_users_starts_from_the_one_it_extends(own_module):
    own, sac = (make_plan(["Pendulum-v1"], [name], seeds=1).runs[0] for name in ("own_algorithms:Bold", "sac"))
    assert own.hyperparameters == sac.hyperparameters
    assert own.label == "own_algorithms:Bold"
    plan = make_plan(
        ["Pendulum-v1"], ["own_algorithms:Bold"], seeds=1, overrides=["own_algorithms:Bold.boldness=2", "gamma=0.9"]
    )
    assert plan.runs[0].hyperparameters == {**sac.hyperparameters, "boldness": 2, "gamma": 0.9}


def test_an_algorithm_that_was_edited_is_another(own_module):
    before = make_plan(["Pendulum-v1"], ["own_algorithms:Bold"], seeds=1).runs[0]
    own_module.write_text(own_module.read_text() + "# edited\n")
    assert make_plan(["Pendulum-v1"], ["own_algorithms:Bold"], seeds=1).runs[0].group != before.group


def test_an_environment_that_was_edited_is_another(own_module):
    before = make_plan(["own_algorithms:Own-v0"], ["sac"], seeds=1).runs[0]
    own_module.write_text(own_module.read_text() + "# edited\n")
    after = make_plan(["own_algorithms:Own-v0"], ["sac"], seeds=1).runs[0]
    assert after.group != before.group
    assert after.package.startswith(f"{ALGORITHMS['sac'].package}, own_algorithms:Own-v0 ")


def test_modules_of_the_users_are_imported_first(own_module):
    plan = make_plan(["Own-v0"], ["sac"], seeds=1, modules=["own_algorithms"])
    assert (plan.runs[0].env, plan.modules) == ("Own-v0", ("own_algorithms",))


def test_a_sweep_is_an_experiment_for_each_combination():
    sweeps = ["munchausen_alpha=0,0.9", "munchausen_bound=[-1, 0],clip(x/10)"]
    runs = make_plan(["Pendulum-v1"], ["msac"], seeds=2, sweeps=sweeps, overrides=["gamma=0.9"]).runs
    assert [run.label for run in runs if run.seed == 0] == [
        f"msac[gamma=0.9,munchausen_alpha={alpha},munchausen_bound={bound}]"
        for alpha in (0, 0.9)
        for bound in ([-1, 0], "clip(x/10)")
    ]
    assert len({run.group for run in runs}) == 4


def test_a_sweep_of_one_algorithm_makes_no_experiments_of_another():
    runs = make_plan(["Pendulum-v1"], ["msac", "sac"], seeds=1, sweeps=["msac.munchausen_alpha=0,0.5,0.9"]).runs
    assert [run.algo for run in runs] == ["msac", "msac", "msac", "sac"]


def test_a_file_of_hyperparameters_goes_over_the_zoos_and_under_what_is_said(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("msac:\n  Pendulum-v1: {gamma: 0.9, tau: 0.1}\n  default: {gamma: 0.5}\n")
    mine, other = make_plan(
        ["Pendulum-v1", "MountainCarContinuous-v0"], ["msac"], seeds=1, entries=path, overrides=["tau=1"]
    ).runs
    zoo = make_plan(["Pendulum-v1"], ["msac"], seeds=1).runs[0]
    assert mine.hyperparameters == {**zoo.hyperparameters, "gamma": 0.9, "tau": 1}
    assert mine.label == "msac[mine.yml,tau=1]"
    assert other.hyperparameters["gamma"] == 0.5


@pytest.mark.parametrize(("entry", "temperature"), [("MultiGoal-v0", 5.0), ("sb3_entropic.envs:MultiGoal-v0", 6.0)])
def test_the_module_that_registers_an_environment_changes_no_hyperparameter(entry, temperature, tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(
        yaml.safe_dump({"softq": {"default": {"ent_coef": 4.0}, "MultiGoal-v0": {}, entry: {"ent_coef": temperature}}})
    )
    for entries, expected in ((None, 8.0), (path, temperature)):
        (run,) = make_plan(["sb3_entropic.envs:MultiGoal-v0"], ["softq"], seeds=1, entries=entries).runs
        assert run.hyperparameters["ent_coef"] == expected


def test_what_a_file_gives_is_not_cut_as_the_zoos_entry_is(tmp_path):
    path = tmp_path / "mine.yml"
    given = {"learning_starts": 10_000, "policy_kwargs": {"n_quantiles": 50}}
    path.write_text(json.dumps({"qrdqn": {"default": {**given, "n_timesteps": 1_000_000}}}))
    mine, zoo = (make_plan(["LunarLander-v3"], ["qrdqn"], seeds=1, entries=file).runs[0] for file in (path, None))
    assert zoo.hyperparameters["learning_starts"] == mine.steps / 10
    assert mine.hyperparameters == {**zoo.hyperparameters, **given}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algos": ["own_algorithms:Blod"]}, "own_algorithms has no algorithm 'Blod': did you mean 'Bold'?"),
        ({"algos": ["no_such_module:Bold"]}, "'no_such_module' cannot be imported"),
        ({"algos": ["sac"], "modules": ["no_such_module"]}, "'no_such_module' cannot be imported"),
        ({"algos": ["own_algorithms:Bold"], "overrides": ["bold=1"]}, "no hyperparameter 'bold': did you mean 'boldness'?"),
        ({"algos": ["msac"], "sweeps": ["munchausen_alpha"]}, "'munchausen_alpha' is not a sweep: write name=value,value"),
        ({"algos": ["msac"], "sweeps": ["munchausen_alpha=0,,1"]}, "is not a sweep"),
        ({"algos": ["msac"], "sweeps": ["gamma=0.9,1", "gamma=0.8"]}, "'gamma' is swept twice: write all its values in one"),
        ({"algos": ["msac"], "sweeps": ["gamma=0.9,1", "msac.gamma=0.8"]}, "'gamma' is swept twice"),
        ({"algos": ["msac"], "sweeps": ["=1", "=2"]}, "'=1' is not a sweep"),
        ({"algos": ["msac"], "sweeps": ["gamma=0.9,1"], "overrides": ["gamma=0.8"]}, "'gamma=0.8' is for what is swept"),
        ({"algos": ["msac", "sac"], "sweeps": ["gamma=0.9,1"], "overrides": ["sac.gamma=0.8"]}, "'sac.gamma=0.8' is for what"),
        ({"algos": ["msac"], "sweeps": ["munchausen_alhpa=0,1"]}, "did you mean 'munchausen_alpha'?"),
        ({"algos": ["msac"], "entries": "no.yml"}, "no.yml cannot be read"),
        ({"algos": ["msac"], "entries": "msac: 3"}, "is not a file of hyperparameters"),
        ({"algos": ["msac"], "entries": "msac: [1"}, "cannot be read"),
        ({"algos": ["msac"], "entries": "msac: {default: {gamma: 2020-13-45}}"}, "cannot be read"),
        ({"algos": ["msac"], "entries": "mscc: {}"}, "is for 'mscc', which is not in the grid (msac): did you mean 'msac'?"),
    ],
)
def test_wrong_algorithms_sweeps_and_files_are_refused(own_module, tmp_path, options, message):
    if (content := options.get("entries")) is not None:
        path = tmp_path / content
        if ":" in content:
            path = tmp_path / "mine.yml"
            path.write_text(content)
        options = {**options, "entries": path}
    with pytest.raises(UserError) as refusal:
        make_plan(["Pendulum-v1"], seeds=1, **options)
    assert message in str(refusal.value)


def test_runs_with_rounded_products_are_another_experiment(monkeypatch):
    monkeypatch.setattr("benchmarks.plan.check_matrix_library", lambda *_: None)
    groups = {
        library: {run.group for run in make_plan(["Pendulum-v1"], ["msac", "sac"], seeds=2, matrix_library=library).runs}
        for library in ("auto", "torch", "bf16", "tf32")
    }
    assert groups["auto"] == groups["torch"]
    assert len(groups["auto"] | groups["bf16"] | groups["tf32"]) == 6


def test_on_policy_algorithms_have_no_tf32(monkeypatch):
    monkeypatch.setattr("benchmarks.plan.check_matrix_library", lambda *_: None)
    with pytest.raises(UserError, match="ppo would be trained on the CPU"):
        make_plan(["CartPole-v1"], ["dqn", "ppo"], matrix_library="tf32")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU here"):
        make_plan(["Pendulum-v1"], ["msac"], device="cuda")
    assert make_plan(["Pendulum-v1"], ["msac"], device="cuda", elsewhere=True).device == "cuda"


def test_a_gpu_on_ray_has_to_be_reserved(refusal, tmp_path):
    call = ["run", "--env", "Pendulum-v1", "--executor", "ray", "--device", "cuda", "--out", str(tmp_path)]
    assert "needs --gpus-per-run on Ray" in refusal(main, call).err


def test_the_grids_of_the_readme_can_be_planned(tmp_path, capsys):
    lines = (ROOT / "README.md").read_text().splitlines()
    # What imports a module of the reader's is left out.
    calls = [line for line in lines if line.startswith("python -m benchmarks run ") and "--import" not in line]
    assert calls
    for call in calls:
        assert main([*call.split()[3:], "--dry-run", "--out", str(tmp_path)]) == 0


def test_numbers_in_a_file_are_numbers_however_they_are_written(tmp_path):
    entries = tmp_path / "mine.yml"
    entries.write_text("dqn: {CartPole-v1: {learning_rate: 3e-4, policy_kwargs: {optimizer_kwargs: {eps: 1e-5}}}}")
    (spec, *_) = make_plan(["CartPole-v1"], ["dqn"], entries=entries).runs
    assert spec.hyperparameters["learning_rate"] == 3e-4
    assert spec.hyperparameters["policy_kwargs"] == {"optimizer_kwargs": {"eps": 1e-5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dqn: {CartPole-v2: {gamma: 0.9}}", "names 'CartPole-v2', which is no environment: did you mean 'CartPole-v1'"),
        ("dqn: {defualt: {gamma: 0.9}}", "names 'defualt', which is no environment: did you mean 'default'"),
        ("dqn: {default: {seed: 3}}", "'seed: 3' is not a hyperparameter: seeds are --seed or --seeds."),
        ("dqn: {default: {device: cuda}}", "'device: cuda' is not a hyperparameter: the device is --device."),
        ("dqn: {default: {gamma: 2020-01-01}}", "The value in 'gamma: 2020-01-01' cannot be read"),
        ("dqn: {default: {1: 2}}", "is not a hyperparameter: its name is no text."),
        ("1: {default: {gamma: 0.9}}", "is for 1, which is not in the grid"),
    ],
)
def test_a_wrong_file_of_hyperparameters_is_answered(tmp_path, text, message):
    entries = tmp_path / "mine.yml"
    entries.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        make_plan(["CartPole-v1"], ["dqn"], entries=entries)


def test_an_edited_wrapper_makes_another_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "scaling_of_a_users.py"
    file.write_text("import gymnasium as gym\n\nclass Scale(gym.Wrapper):\n    pass\n")

    def planned():
        (spec, *_) = make_plan(["Pendulum-v1"], ["ppo"], seeds=1, overrides=["env_wrapper=scaling_of_a_users.Scale"]).runs
        return spec

    first = planned()
    assert re.fullmatch(r"stable_baselines3 [\d.]+\w*, scaling_of_a_users\.Scale [0-9a-f]{10}", first.package)
    assert planned().group == first.group
    file.write_text(file.read_text() + "\n# edited\n")
    assert planned().group != first.group
    (installed,) = make_plan(
        ["Pendulum-v1"], ["ppo"], seeds=1, overrides=["env_wrapper=gymnasium.wrappers.RecordEpisodeStatistics"]
    ).runs
    assert "," not in installed.package
