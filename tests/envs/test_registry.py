"""Wrong ids are answered in one sentence, with the nearest valid one; a user's own environment has a digest."""

import os
import subprocess
import sys

import gymnasium as gym
import pytest
from gymnasium import spaces

from sb3_entropic.envs.registry import find_environment
from sb3_entropic.errors import UserError


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("LunarLanderContinuous-v2", "LunarLanderContinuous-v3"),
        ("Hoper-v4", "Hopper-v4"),
        ("pendulum-v1", "Pendulum-v1"),
        ("Hopper-v9", "Hopper-v5"),
        ("MinAtar/Breakot-v1", "MinAtar/Breakout-v1"),
        ("minatar/breakout-v1", "MinAtar/Breakout-v1"),
        ("sb3_entropic.envs:MultiGoal-v9", "sb3_entropic.envs:MultiGoal-v0"),
        ("sb3_entropic.envs:MultiGol-v0", "sb3_entropic.envs:MultiGoal-v0"),
    ],
)
def test_an_unknown_environment(given, nearest):
    with pytest.raises(UserError, match=f"'{given}'.*did you mean '{nearest}'"):
        find_environment(given)


def test_an_environment_like_no_other():
    with pytest.raises(UserError, match=r"'zzzzqqqq'; gymnasium.pprint_registry\(\) lists"):
        find_environment("zzzzqqqq")


def test_an_environment_is_made_once_and_closed(monkeypatch):
    made, closed = [], []

    class Closing(gym.Wrapper):
        def close(self):
            closed.append(self)

    make = gym.make
    monkeypatch.setattr(gym, "make", lambda env_id: made.append(Closing(make(env_id))) or made[-1])
    assert find_environment("CartPole-v1").action_space == spaces.Discrete(2)
    assert len(made) == 1
    assert closed == made


def test_the_full_id_has_the_version_and_the_module_that_registers_it():
    latest = find_environment("Pendulum").id
    assert latest.startswith("Pendulum-v")
    assert find_environment("sb3_entropic.envs:Pendulum").id == f"sb3_entropic.envs:{latest}"


@pytest.mark.parametrize("given", ["ALE/Breakout-v5", "BreakoutNoFrameskip-v4"])
def test_an_atari_game_need_not_name_its_module(given):
    pytest.importorskip("ale_py", reason="ale_py is not installed")
    assert find_environment(given).id == find_environment(f"ale_py:{given}").id == f"ale_py:{given}"
    with pytest.raises(UserError, match=f"did you mean 'ale_py:{given}'"):
        find_environment(given.replace("out", "aut"))
    without_version, _, _ = given.rpartition("-")
    assert find_environment(without_version).id == f"ale_py:{given}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no/Such-v0", "no module that is imported has the namespace 'no'. .* as in 'module:no/Such-v0'"),
        ("no_such_module:FetchReach-v4", "needs the module 'no_such_module': install it"),
    ],
)
def test_an_environment_of_a_package_that_is_not_there(given, message):
    with pytest.raises(UserError, match=f"'{given}'.*{message}"):
        find_environment(given)


@pytest.mark.parametrize(
    ("env_id", "error", "extra"),
    [
        ("LunarLander-v3", gym.error.DependencyNotInstalled("Box2D is not installed, run `pip install box2d`"), "box2d"),
        ("MinAtar/Breakout-v1", ModuleNotFoundError("No module named 'minatar'", name="minatar"), "minatar"),
        ("ale_py:ALE/Breakout-v5", ModuleNotFoundError("No module named 'ale_py'", name="ale_py"), "atari"),
    ],
)
def test_a_missing_package_names_the_extra(env_id, error, extra, monkeypatch):
    def make(env_id):
        raise error

    monkeypatch.setattr(gym, "make", make)
    with pytest.raises(UserError, match=rf"{env_id} needs a package.*pip install -e '\.\[{extra}\]'"):
        find_environment(env_id)


FIELD = """
from gymnasium.envs.classic_control import PendulumEnv

class Field(PendulumEnv):
    def __init__(self, holes):
        super().__init__()

def make(holes):
    return PendulumEnv()
"""
REGISTRATION = """
import field
import gymnasium

gymnasium.register("Field-v0", {}, max_episode_steps={}, kwargs={{"holes": {{"north", "south", "west"}}}})
"""


@pytest.fixture
def digest_of_own(tmp_path, monkeypatch):
    """The digest of a user's environment with that entry point and limit, and some more in its file."""

    def forget():
        for name in ("field", "registration"):
            sys.modules.pop(name, None)
        gym.registry.pop("Field-v0", None)

    def digest_of_own(entry_point, limit=50, more=""):
        forget()
        (tmp_path / "field.py").write_text(FIELD + more)
        (tmp_path / "registration.py").write_text(REGISTRATION.format(entry_point, limit))
        return find_environment("registration:Field-v0").digest

    monkeypatch.syspath_prepend(tmp_path)
    # A file that is written twice in a second would be taken for the one that was compiled.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield digest_of_own
    forget()


@pytest.mark.parametrize("entry_point", ["'field:Field'", "field.make", "lambda **options: field.Field(**options)"])
def test_a_users_environment_is_another_when_its_file_or_its_registration_is(entry_point, digest_of_own):
    before = digest_of_own(entry_point)
    assert before and digest_of_own(entry_point) == before
    assert len({before, digest_of_own(entry_point, limit=60), digest_of_own(entry_point, more="# edited")}) == 3


@pytest.mark.parametrize(("listed", "has_digest"), [("RECORD", False), ("SOURCES.txt", True)])
def test_a_package_in_a_folder_of_its_own_is_installed_and_a_checkout_is_not(listed, has_digest, digest_of_own, tmp_path):
    info = tmp_path / ("field-1.dist-info" if listed == "RECORD" else "field.egg-info")
    info.mkdir()
    (info / ("METADATA" if listed == "RECORD" else "PKG-INFO")).write_text("Metadata-Version: 2.1\nName: field\nVersion: 1\n")
    (info / listed).write_text("field.py,,\n" if listed == "RECORD" else "field.py\n")
    assert bool(digest_of_own('"field:Field"')) == has_digest


def test_a_users_environment_is_the_same_in_every_process(digest_of_own, tmp_path):
    there = digest_of_own("lambda **options: field.Field(**options)")
    code = "from sb3_entropic.envs.registry import find_environment; print(find_environment('registration:Field-v0').digest)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)]), "PYTHONHASHSEED": "1"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == there


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "MultiGoal-v0", "MinAtar/Breakout-v1"])
def test_what_is_of_a_package_has_its_version_and_no_digest(env_id):
    assert find_environment(env_id).digest == ""


@pytest.mark.parametrize("env_id", ["a:b:c", ":Pendulum-v1", ".x:Pendulum-v1", "registration:Misspelt-v0"])
def test_an_id_that_cannot_be_one_is_a_wrong_input(env_id, tmp_path, monkeypatch):
    (tmp_path / "registration.py").write_text(
        'import gymnasium\ngymnasium.register("Misspelt-v0", entry_point="gymnasium.envs.classic_control:CartPolEnv")\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(UserError, match="cannot be"):
            find_environment(env_id)
    finally:
        sys.modules.pop("registration", None)
        gym.registry.pop("Misspelt-v0", None)
