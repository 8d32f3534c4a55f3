"""Wrong names are answered in one sentence, with the nearest valid choice."""

import gymnasium as gym
import pytest

from sb3_entropic.catalog import ALGORITHMS, check_environment, find_algorithm
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
    ],
)
def test_an_unknown_environment(given, nearest):
    with pytest.raises(UserError, match=f"'{given}'.*did you mean '{nearest}'"):
        check_environment(given, ALGORITHMS["msac"])


def test_an_environment_like_no_other():
    with pytest.raises(UserError, match=r"'zzzzqqqq'; gymnasium.pprint_registry\(\) lists"):
        check_environment("zzzzqqqq", ALGORITHMS["msac"])


def test_actions_that_do_not_suit():
    with pytest.raises(
        UserError, match=r"msac needs Box actions and CartPole-v1 has Discrete\(2\): choose one of dqn, qrdqn, ppo"
    ):
        check_environment("CartPole-v1", ALGORITHMS["msac"])


def test_the_full_id_has_the_version():
    latest = gym.make("Pendulum").spec.id
    assert latest.startswith("Pendulum-v")
    assert check_environment("Pendulum", ALGORITHMS["msac"]) == latest


def test_a_missing_package_names_the_extra(monkeypatch):
    def make(env_id):
        raise gym.error.DependencyNotInstalled("Box2D is not installed, run `pip install box2d`")

    monkeypatch.setattr(gym, "make", make)
    with pytest.raises(UserError, match=r"pip install -e '\.\[box2d\]'"):
        check_environment("LunarLander-v3", ALGORITHMS["dqn"])
