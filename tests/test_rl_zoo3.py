"""``python -m sb3_entropic.zoo``: rl-baselines3-zoo's commands know every algorithm of ours."""

import importlib.util
import subprocess
import sys

import gymnasium as gym
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.utils import LinearSchedule

from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.envs import MinAtarCNN
from sb3_entropic.errors import HyperparameterError, UserError
from sb3_entropic.zoo import load_hyperparameters
from sb3_entropic.zoo.__main__ import COMMANDS, main
from sb3_entropic.zoo.plugin import (
    OURS,
    SEARCHED,
    EntriesOfOurs,
    as_hyperparameters,
    complete_hyperparameters,
    convert,
    register,
    suggest,
)

PARENTS = {
    "default": {"n_timesteps": 1e6, "policy": "MlpPolicy"},
    "atari": {"n_timesteps": 1e7, "policy": "CnnPolicy", "frame_stack": 4},
    "Known-v0": {"n_timesteps": 1e5, "policy": "MlpPolicy", "ent_coef": 0.3, "gamma": 0.9},
}
"""Such entries as rl_zoo3 has of a parent."""
CONTINUOUS = ["Pendulum-v1", "MountainCarContinuous-v0", "MultiGoal-v0", "Unknown-v0"]
DISCRETE = ["CartPole-v1", "MountainCar-v0", "Acrobot-v1"]


def env_for(name):
    return "CartPole-v1" if spaces.Discrete in OURS[name].actions else "Pendulum-v1"


@pytest.fixture(autouse=True)
def unknown_environments():
    names = {name: gym.spec("Pendulum-v1").entry_point for name in ("Unknown-v0", "Known-v0")}
    names["Dict-v0"] = lambda **_: SimpleMultiObsEnv(discrete_actions=False)
    for name, entry_point in names.items():
        gym.register(name, entry_point)
    yield
    for name in names:
        gym.registry.pop(name)


@pytest.mark.parametrize("name", OURS)
def test_every_entry_is_complete(name):
    environments = CONTINUOUS * (spaces.Box in OURS[name].actions) + DISCRETE * (spaces.Discrete in OURS[name].actions)
    for env_id in environments:
        entry = complete_hyperparameters(OURS[name], env_id, PARENTS)
        own = load_hyperparameters(OURS[name], env_id)
        assert entry["policy"] == "MlpPolicy"
        assert entry["n_timesteps"] == own.get("n_timesteps", 1e6)
        assert entry.items() >= own.items()
        assert set(convert(OURS[name], {k: v for k, v in entry.items() if k in OURS[name].parameters})) <= entry.keys()


def test_images_have_a_policy_of_theirs():
    pytest.importorskip("minatar", reason="MinAtar is not installed")
    for name in ("mdqn", "entropyppo"):
        entry = complete_hyperparameters(OURS[name], "MinAtar/Breakout-v1", PARENTS)
        assert (entry["policy"], entry["n_timesteps"]) == ("CnnPolicy", 5_000_000)


def test_an_entry_of_rl_zoo3s_parent_stands_in_for_none_and_a_sentence_says_so(capsys):
    entry = complete_hyperparameters(OURS["maxentppo"], "Known-v0", PARENTS)
    assert entry == {**PARENTS["Known-v0"], "ent_coef": 0.01, "entropy_gamma": 0.95}
    taken = "maxentppo takes those of rl_zoo3's ppo for 'Known-v0', with its own on top."
    assert capsys.readouterr().out == f"sb3_entropic has no hyperparameters for Known-v0: {taken}\n"
    assert complete_hyperparameters(OURS["msac"], "Unknown-v0", PARENTS, "atari") == PARENTS["atari"]
    assert complete_hyperparameters(OURS["msac"], "Unknown-v0", {"default": PARENTS["default"]}, "atari") == PARENTS["default"]


def test_a_default_takes_the_policy_that_suits_the_observations():
    assert complete_hyperparameters(OURS["msac"], "Dict-v0", PARENTS)["policy"] == "MultiInputPolicy"


def test_an_environment_gets_its_arguments():
    with pytest.raises(TypeError, match="unexpected keyword argument 'h'"):
        complete_hyperparameters(OURS["msac"], "Pendulum-v1", PARENTS, h=9)


def test_actions_that_do_not_suit_are_refused():
    with pytest.raises(UserError, match="msac needs Box actions"):
        complete_hyperparameters(OURS["msac"], "CartPole-v1", PARENTS)


def test_text_becomes_schedules_and_classes_and_classes_stay():
    extractor = "sb3_entropic.envs.MinAtarCNN"
    converted = convert(
        OURS["msac"],
        {
            "policy": "MlpPolicy",
            "noise_type": "normal",
            "ent_coef": "lin_0.1",
            "policy_kwargs": {"activation_fn": th.nn.ELU, "features_extractor_class": extractor, "net_arch": [8]},
        },
    )
    assert converted["ent_coef"](0.5) == pytest.approx(0.05)
    del converted["ent_coef"]
    assert converted == {
        "policy": "MlpPolicy",
        "noise_type": "normal",
        "policy_kwargs": {"activation_fn": th.nn.ELU, "features_extractor_class": MinAtarCNN, "net_arch": [8]},
    }
    with pytest.raises(HyperparameterError, match="did you mean 'munchausen_alpha'"):
        convert(OURS["msac"], {"munchausen_alfa": 0.5})
    with pytest.raises(HyperparameterError, match="is not a mapping"):
        convert(OURS["msac"], {"policy_kwargs": 5})


class Trial:
    """Draws one end of every range."""

    def __init__(self, end):
        self.end = end

    def suggest_float(self, name, low, high, log=False):
        assert low < high
        assert not log or low > 0
        return (low, high)[self.end]

    def suggest_categorical(self, name, choices):
        return choices[-self.end]


@pytest.mark.filterwarnings("ignore::sb3_entropic.errors.HyperparameterWarning")
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("name", OURS)
def test_what_is_searched_is_taken(name, end):
    drawn = suggest(name, Trial(end))
    assert 2 <= len(drawn) <= 4
    arguments = as_hyperparameters({**drawn, **({"ent_coef": 1e-8} if "ent_coef_kind" in drawn else {})})
    sizes = {} if OURS[name].is_on_policy else {"buffer_size": 10}
    model = OURS[name].constructor("MlpPolicy", env_for(name), policy_kwargs={"net_arch": [4]}, **arguments, **sizes)
    assert all(hasattr(model, argument) for argument in arguments)


def test_every_algorithm_is_searched():
    assert SEARCHED.keys() == OURS.keys()


@pytest.mark.parametrize(("kind", "expected"), [("number", 0.2), ("schedule", "lin_0.2"), ("learned", "auto_0.01")])
def test_an_entropy_coefficient_may_become_a_schedule_or_be_learned(kind, expected):
    assert as_hyperparameters({"ent_coef": 0.2, "ent_coef_kind": kind}) == {"ent_coef": expected}


@pytest.mark.parametrize("arguments", [["train", "--algo", "msac"], ["enjoy", "--help"]])
def test_without_rl_zoo3_a_sentence_says_how_to_install_it(refusal, monkeypatch, arguments, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rl_zoo3" else find_spec(name))
    expected = "error: rl-baselines3-zoo is not installed: run `pip install rl_zoo3 requests`.\n"
    assert refusal(main, arguments).err == expected
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "It needs rl_zoo3: pip install rl_zoo3 requests." in capsys.readouterr().out


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """rl_zoo3, in an empty folder."""
    rl_zoo3 = pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install rl_zoo3 requests")
    monkeypatch.chdir(tmp_path)
    register()
    return rl_zoo3


def test_nothing_imports_rl_zoo3_before_it_is_registered(zoo):
    code = "import sys, sb3_entropic.zoo.__main__; sys.exit('rl_zoo3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_algorithm_has_a_name_and_can_be_searched(zoo):
    from rl_zoo3 import hyperparams_opt, train

    manager = train.ExperimentManager
    register()
    assert train.ExperimentManager is manager
    assert issubclass(manager, EntriesOfOurs)
    assert zoo.ALGOS.items() >= {(name, algorithm.constructor) for name, algorithm in ALGORITHMS.items()}
    assert hyperparams_opt.HYPERPARAMS_SAMPLER.keys() >= ALGORITHMS.keys()
    assert hyperparams_opt.HYPERPARAMS_CONVERTER.keys() >= ALGORITHMS.keys()


def test_what_a_trial_has_drawn_can_be_read_again(zoo):
    import optuna
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    for name, algorithm in OURS.items():
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        sampled = HYPERPARAMS_SAMPLER[name](trial, 1, 1, {"using_her_replay_buffer": False, "her_kwargs": {}})
        assert HYPERPARAMS_CONVERTER[name](trial.params) == sampled
        assert sampled.keys() <= algorithm.parameters.keys()
        assert sampled.keys() >= SEARCHED[name].keys() - {"ent_coef_kind"}


SMALL = "policy_kwargs:dict(net_arch=[8])"
LEARNS = {
    "msac": ["learning_starts:50", SMALL],
    "mtqc": ["learning_starts:50", "train_freq:1", "gradient_steps:1", "use_sde:False", SMALL],
    "softq": ["learning_starts:50", SMALL],
    "diayn": ["learning_starts:50", SMALL],
    "mdqn": ["learning_starts:50", "train_freq:50", "gradient_steps:5", "exploration:'boltzmann'", SMALL],
    "modqn": ["learning_starts:50", "train_freq:50", "gradient_steps:5", SMALL],
    "miqn": ["learning_starts:50", "train_freq:50", "gradient_steps:5"],
    "vfe": ["learning_starts:50"],
    "discretesac": ["learning_starts:50", "ent_coef:'lin_0.1'", SMALL],
    "entropyppo": ["n_epochs:1", "ent_coef:'lin_0.01'"],
    "maxentppo": ["n_epochs:1"],
}


@pytest.mark.parametrize("name", LEARNS)
def test_trains_and_plays_and_the_model_is_one_of_ours(zoo, name, capsys):
    pytest.importorskip("requests", reason="rl_zoo3's enjoy needs it, and it is not installed: pip install requests")
    env_id = env_for(name)
    common = ["--algo", name, "--env", env_id, "-f", "logs", "--num-threads", "1"]
    assert main(["train", *common, "-n", "150", "--eval-freq", "100", "--eval-episodes", "1", "-params", *LEARNS[name]]) == 0
    assert "Loading hyperparameters from: sb3_entropic.zoo.plugin" in capsys.readouterr().out
    model = OURS[name].constructor.load(f"logs/{name}/{env_id}_1/{env_id}.zip")
    assert model.num_timesteps >= 150
    assert model._n_updates > 0
    if isinstance(load_hyperparameters(OURS[name], env_id)["learning_rate"], str):
        assert isinstance(model.learning_rate, LinearSchedule)
    assert main(["enjoy", *common, "-n", "250", "--no-render"]) == 0
    assert "Mean reward" in capsys.readouterr().out


def test_a_script_may_call_rl_zoo3_itself_and_go_on_with_a_model(zoo, monkeypatch, capsys):
    from rl_zoo3.train import train

    common = ["train.py", "--algo", "entropyppo", "--env", "Unknown-v0", "-n", "2048", "-f", "logs", "--eval-freq", "-1"]
    monkeypatch.setattr(sys, "argv", common)
    train()
    assert "entropyppo takes those of rl_zoo3's ppo for 'default'" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*common, "-i", "logs/entropyppo/Unknown-v0_1/Unknown-v0.zip"])
    train()
    model = OURS["entropyppo"].constructor.load("logs/entropyppo/Unknown-v0_2/Unknown-v0.zip")
    assert model.ent_coef == "auto_0.01"


def test_a_file_of_the_users_takes_the_place_of_ours(zoo, tmp_path):
    entry = "{policy: MlpPolicy, n_timesteps: 60, learning_starts: 20, ent_coef: lin_0.2, policy_kwargs: {net_arch: [8]}}"
    (tmp_path / "mine.yml").write_text(f"Pendulum-v1: {entry}")
    assert main(["train", "--algo", "msac", "--env", "Pendulum-v1", "-conf", "mine.yml", "-f", "logs"]) == 0
    model = OURS["msac"].constructor.load("logs/msac/Pendulum-v1_1/Pendulum-v1.zip")
    assert (model.num_timesteps, model.ent_coef(0.5), model.learning_rate) == (60, 0.1, 3e-4)


def test_searches_hyperparameters_and_trains_with_those_of_a_trial(zoo, tmp_path):
    common = [
        "--algo",
        "mdqn",
        "--env",
        "CartPole-v1",
        "-n",
        "200",
        "-f",
        "logs",
        "--eval-episodes",
        "1",
        "--num-threads",
        "1",
    ]
    study = ["--storage", "sqlite:///study.db", "--study-name", "study"]
    search = ["-optimize", "--n-trials", "2", "--n-evaluations", "1", "--no-optim-plots", "--seed", "1"]
    assert main(["train", *common, *study, *search]) == 0
    assert len(list((tmp_path / "logs" / "mdqn").glob("report_*.csv"))) == 1
    assert main(["train", *common, *study, "--trial-id", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "'trian' is none of train, enjoy, record_video: did you mean 'train'?"),
        (["train", "--algo", "msca"], "invalid choice: 'msca'"),
        (["train", "--algo", "msac", "--env", "CartPole-v1"], "msac needs Box actions and CartPole-v1 has Discrete(2)"),
        (
            ["train", "--algo", "msac", "--env", "Pendulum-v1", "-params", "munchausen_alfa:1"],
            "did you mean 'munchausen_alpha'",
        ),
        (
            ["train", "--algo", "msac", "--env", "Pendulum-v1", "-params", "munchausen_alpha:3"],
            "msac on Pendulum-v1: munchausen_alpha=3 is outside [0, 1]",
        ),
        (
            ["train", "--algo", "mdqn", "-params", "temperature:'lin_0.1'"],
            "temperature(0.0)=0.0 is not a finite number above 0",
        ),
    ],
)
def test_a_wrong_input_is_answered_by_one_sentence(zoo, refusal, arguments, message):
    assert message in refusal(main, arguments).err


def test_a_search_that_would_drop_the_network_for_small_images_is_refused(zoo, refusal):
    pytest.importorskip("minatar", reason="MinAtar is not installed")
    arguments = ["train", "--algo", "mdqn", "--env", "MinAtar/Breakout-v1", "-optimize"]
    assert "mdqn cannot be searched on MinAtar/Breakout-v1" in refusal(main, arguments).err


def test_what_a_command_misses_is_named(zoo, refusal, monkeypatch):
    monkeypatch.delitem(sys.modules, "rl_zoo3.enjoy", raising=False)
    monkeypatch.delitem(sys.modules, "rl_zoo3.load_from_hub", raising=False)
    monkeypatch.setitem(sys.modules, "requests.exceptions", None)
    monkeypatch.setitem(sys.modules, "requests", None)
    assert "run `pip install requests" in refusal(main, ["enjoy"]).err


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_rl_zoo3s(zoo, capsys, command):
    if command == "enjoy":
        pytest.importorskip("requests", reason="rl_zoo3's enjoy needs it, and it is not installed: pip install requests")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "msac" in capsys.readouterr().out
