"""``python -m sb3_entropic train``: what it prints, what it leaves, what it refuses."""

import errno
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch as th
from gymnasium.envs.classic_control import PendulumEnv

from sb3_entropic import MSAC, __version__
from sb3_entropic.__main__ import main
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.checks import check_fraction
from sb3_entropic.errors import UserError

FAST = ["-p", "policy_kwargs={net_arch: [8]}", "-p", "buffer_size=500"]


def test_trains_evaluates_and_saves(tmp_path, capsys):
    path = tmp_path / "model.zip"
    assert main(["train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "150", "--save", str(path), *FAST]) == 0
    printed = capsys.readouterr().out
    assert "msac on Pendulum-v1, 150 steps, seed 0" in printed
    assert "over 10 episodes" in printed
    assert MSAC.load(path).num_timesteps == 150
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_cannot_be_saved_leaves_an_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "model.zip"
    path.write_text("an earlier one")

    def full(model, file):
        file.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MSAC, "save", full)
    with pytest.raises(OSError, match="No space"):
        main(["train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "20", "--save", str(path), *FAST])
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "an earlier one")]


def test_a_model_goes_to_where_a_link_points_under_a_name_as_long_as_names_may_be(tmp_path):
    target, link = tmp_path / f"{'m' * 251}.zip", tmp_path / "model.zip"
    link.symlink_to(target)
    assert main(["train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "20", "--save", str(link), *FAST]) == 0
    assert link.is_symlink()
    assert MSAC.load(target).num_timesteps == 20


def test_a_folder_of_the_name_that_the_model_will_have_is_seen_before_training(tmp_path, capsys):
    (tmp_path / "model.zip").mkdir()
    assert main(["train", "--algo", "msac", "--env", "Pendulum-v1", "--save", str(tmp_path / "model"), *FAST]) == 2
    assert "model.zip is a folder: name a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--algo msac --env LunarLanderContinuous-v2", "did you mean 'LunarLanderContinuous-v3'"),
        ("--algo msac --env CartPole-v1", "msac needs Box actions"),
        ("--algo msacc --env Pendulum-v1", "did you mean 'msac'"),
        ("--algo msac --env Pendulum-v1 -p munchausen_alpha=1.5", "the nearest choice is 1"),
        ("--algo msac --env Pendulum-v1 -p munchausen_bound=[1,-1]", "did you mean (-1, 1)"),
        ("--algo msac --env Pendulum-v1 --steps -5", "'-5' is not a whole number above 0"),
        ("--algo msac --env Pendulum-v1 --steps 1.5", "'1.5' is not a whole number above 0"),
        ("--algo msac --env Pendulum-v1 --seed -1", "'-1' is not a whole number from 0"),
        ("--algo msac --env Pendulum-v1 -p policy_kwargs=5", "policy_kwargs=5 is not a mapping"),
        ("--algo msac --env Pendulum-v1 -p n_timesteps=5", "the number of steps is --steps"),
        (
            "--algo dqn --env CartPole-v1 -p env_wrapper=sb3_entropic.envs.MinAtarImages",
            "takes booleans (height, width, channels)",
        ),
        ("--algo msac --env Pendulum-v1 --sed 1", "did you mean '--seed'"),
        ("--algo msac --env Pendulum-v1 --device cuba", "msac on Pendulum-v1: Expected one of cpu, cuda"),
        ("--algo msac --env Pendulum-v1 --device cuda", "--device cuda: torch finds no GPU here"),
        ("--algo msac --env Pendulum-v1 --save .", "is a folder: name a file in it"),
        ("--algo msac --env Pendulum-v1 --save no/such/folder/model.zip", "no/such/folder does not exist"),
        ("--algo msac --env Pendulum-v1 --tensorboard README.md", "is a file: name a folder"),
        ("--algo msac --env Pendulum-v1 --tensorboard README.md/logs", "README.md/logs cannot be made: Not a directory"),
    ],
)
def test_wrong_inputs_get_a_sentence_and_exit_code_2(arguments, message, refusal, monkeypatch):
    monkeypatch.setattr(th.cuda, "is_available", lambda: False)
    printed = refusal(main, ["train", *arguments.split()])
    assert message in printed.err
    assert "steps, seed" not in printed.out, "refused before any training"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "engine=fast train_freq=[1,episode]",
            'msac on Pendulum-v1: engine="fast" cannot run this: train_freq counts episodes.',
        ),
        ("train_freq=0", "msac on Pendulum-v1: "),
        ("n_envs=2 train_freq=[1,episode]", "msac on Pendulum-v1: You must use only one env when doing episodic training."),
    ],
)
def test_a_setting_that_is_refused_when_learning_begins_gets_a_sentence_too(settings, message, refusal):
    parameters = [word for setting in settings.split() for word in ("-p", setting)]
    printed = refusal(main, ["train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "20", *FAST, *parameters])
    assert f"error: {message}" in printed.err


def break_here(self, action=None, *, seed=None, options=None):
    raise ValueError("x=2 is broken")


@pytest.mark.parametrize(
    ("owner", "method", "broken"),
    [
        (PendulumEnv, "reset", break_here),
        (PendulumEnv, "step", break_here),
        (MSAC, "train", lambda *arguments, **keywords: check_fraction("x", 2)),
    ],
)
def test_what_breaks_in_an_environment_or_in_the_middle_of_training_keeps_its_traceback(owner, method, broken, monkeypatch):
    monkeypatch.setattr(owner, method, broken)
    with pytest.raises(ValueError, match="x=2 is") as raised:
        main(["train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "20", "-p", "learning_starts=5", *FAST])
    assert not isinstance(raised.value, UserError)


@pytest.mark.filterwarnings("ignore:.*The obs returned by the `reset\\(\\)` method")
def test_so_does_an_environment_that_gives_something_else_than_it_says(monkeypatch):
    monkeypatch.setattr(PendulumEnv, "reset", lambda self, **options: (np.zeros(4, dtype=np.float32), {}))
    with pytest.raises(ValueError, match="could not broadcast input array") as raised:
        main(["train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "20", *FAST])
    assert not isinstance(raised.value, UserError)


@pytest.mark.parametrize("name", ["model.zip", "model-0.5"])
def test_the_statistics_of_normalised_observations_are_saved_too(name, tmp_path, capsys):
    path = tmp_path / name
    arguments = ["train", "--algo", "ppo", "--env", "Acrobot-v1", "--steps", "64", "--save", str(path), "-p", "n_steps=4"]
    assert main(arguments) == 0
    assert (tmp_path / f"{name.removesuffix('.zip')}.vecnormalize.pkl").is_file()
    assert "VecNormalize.load" in capsys.readouterr().out


def test_ctrl_c_saves_what_there_is(tmp_path):
    path = tmp_path / "model.zip"
    command = [sys.executable, "-m", "sb3_entropic", "train", "--algo", "msac", "--env", "Pendulum-v1", "--steps", "1000000"]
    process = subprocess.Popen([*command, "--save", str(path), *FAST], stdout=subprocess.PIPE, text=True)
    try:
        assert "msac on Pendulum-v1" in process.stdout.readline()
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Stopped by Ctrl-C" in printed
    assert MSAC.load(path).num_timesteps > 0


@pytest.mark.parametrize(("option", "said"), [("--help", list(ALGORITHMS)), ("--version", [f"sb3_entropic {__version__}"])])
def test_what_there_is_is_told(option, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in said)
