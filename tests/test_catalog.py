"""Wrong names are answered in one sentence, with the nearest valid choice."""

import subprocess
import sys

import pytest
from gymnasium import spaces

from sb3_entropic import MSAC, __version__
from sb3_entropic.catalog import ALGORITHMS, Algorithm, check_suits, find_algorithm
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


def test_a_label_of_a_table_is_no_algorithm():
    with pytest.raises(UserError, match=r"name mdqn, and set these by -p 'mdqn.munchausen_clip=\[-1, 1\]' -p mdqn.temp"):
        find_algorithm("mdqn[munchausen_clip=[-1, 1],temperature=0.1]")
    with pytest.raises(UserError, match=r"set these by -p ppo.gamma=0.9\."):
        find_algorithm("ppo[mine.yml,gamma=0.9]")
    with pytest.raises(UserError, match=r"Unknown algorithm 'mdqm\[temperature=1\]'"):
        find_algorithm("mdqm[temperature=1]")


def test_actions_that_do_not_suit():
    names = ", ".join(name for name, algorithm in ALGORITHMS.items() if spaces.Discrete in algorithm.actions)
    with pytest.raises(UserError, match=rf"msac needs Box actions and CartPole-v1 has Discrete\(2\): choose one of {names}\."):
        check_suits(ALGORITHMS["msac"], spaces.Discrete(2), "CartPole-v1")
    check_suits(ALGORITHMS["ppo"], spaces.Discrete(2), "CartPole-v1")


def test_actions_that_suit_no_algorithm():
    with pytest.raises(UserError, match="no algorithm here takes these"):
        check_suits(ALGORITHMS["ppo"], spaces.Text(3), "Odd-v0")


def test_a_checkout_that_is_on_the_path_needs_no_installation():
    program = """
from importlib import metadata
found = metadata.Distribution.from_name
def without(name):
    if name == "sb3_entropic":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.Distribution.from_name = without
import sb3_entropic
from benchmarks.provenance import provenance
from sb3_entropic.catalog import ALGORITHMS
print(ALGORITHMS["msac"].package, provenance()["versions"]["sb3_entropic"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"sb3_entropic {__version__} {__version__}\n"


def test_own_defaults_are_the_same_in_every_process():
    assert ALGORITHMS["mdac"].own_defaults["munchausen_alpha"] == "0.9"
    assert ALGORITHMS["sac"].own_defaults == {}

    class Squashes(MSAC):
        def __init__(self, *args, entropy_bound=lambda x: x, **kwargs):
            super().__init__(*args, entropy_bound=entropy_bound, **kwargs)

    assert " at 0x" not in Algorithm("squashes", Squashes, (), "").own_defaults["entropy_bound"]
