"""Wrong names are answered in one sentence, with the nearest valid choice."""

import gymnasium as gym
import pytest
from gymnasium import spaces

from sb3_entropic.catalog import ALGORITHMS, Environment, check_actions, find_algorithm, find_environment
from sb3_entropic.errors import UserError


def test_every_algorithm_is_found_by_its_name_in_any_case():
    for name, algorithm in ALGORITHMS.items():
        assert find_algorithm(name) is algorithm
        assert find_algorithm(name.upper()) is algorithm
        assert algorithm.package.split()[0] in ("sb3_entropic", "stable_baselines3", "sb3_contrib")


@pytest.mark.parametrize(("given", "nearest"), [("msca", "msac"), ("mac", "msac"), ("qr-dqn", "qrdqn")])
def test_an_unknown_algorithm(given, nearest):
    with pytest.raises(UserError, match=f"Unknown algorithm '{given}'.*did you mean '{nearest}'"):
        find_algorithm(given)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("LunarLanderContinuous-v2", "LunarLanderContinuous-v3"),
        ("Hoper-v4", "Hopper-v4"),
        ("pendulum-v1", "Pendulum-v1"),
        ("Hopper-v3", "Hopper-v5"),
        ("MinAtar/Breakot-v1", "MinAtar/Breakout-v1"),
        ("minatar/breakout-v1", "MinAtar/Breakout-v1"),
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


def test_actions_that_do_not_suit():
    names = ", ".join(name for name, algorithm in ALGORITHMS.items() if spaces.Discrete in algorithm.actions)
    with pytest.raises(UserError, match=rf"msac needs Box actions and CartPole-v1 has Discrete\(2\): choose one of {names}\."):
        check_actions(Environment("CartPole-v1", spaces.Discrete(2)), ALGORITHMS["msac"])


def test_actions_that_suit_no_algorithm():
    with pytest.raises(UserError, match="no algorithm here takes these"):
        check_actions(Environment("Odd-v0", spaces.Text(3)), ALGORITHMS["ppo"])


def test_actions_that_suit():
    check_actions(Environment("CartPole-v1", spaces.Discrete(2)), ALGORITHMS["ppo"])


def test_the_full_id_has_the_version_and_the_module_that_registers_it():
    latest = find_environment("Pendulum").id
    assert latest.startswith("Pendulum-v")
    assert find_environment("sb3_entropic.envs:Pendulum").id == f"sb3_entropic.envs:{latest}"


@pytest.mark.parametrize(
    ("env_id", "error", "extra"),
    [
        ("LunarLander-v3", gym.error.DependencyNotInstalled("Box2D is not installed, run `pip install box2d`"), "box2d"),
        ("MinAtar/Breakout-v1", ModuleNotFoundError("No module named 'minatar'", name="minatar"), "minatar"),
    ],
)
def test_a_missing_package_names_the_extra(env_id, error, extra, monkeypatch):
    def make(env_id):
        raise error

    monkeypatch.setattr(gym, "make", make)
    with pytest.raises(UserError, match=rf"{env_id} needs a package.*pip install -e '\.\[{extra}\]'"):
        find_environment(env_id)
