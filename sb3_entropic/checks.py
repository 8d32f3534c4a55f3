"""Checks of constructor arguments: one sentence that names what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from sb3_entropic.errors import nearest


def check_fraction(name: str, value: Any) -> None:
    """Check that an argument is a number in [0, 1].

    :raises ValueError: if it is not; names the nearest that is
    """
    _check_number(name, value, "give one in [0, 1]")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is outside [0, 1]: the nearest choice is {min(max(value, 0), 1)}.")


def check_positive(name: str, value: Any) -> None:
    """Check that an argument is a number above 0.

    :raises ValueError: if it is not
    """
    _check_number(name, value, "give one above 0")
    if not value > 0:
        raise ValueError(f"{name}={value} is not above 0.")


def check_at_least_zero(name: str, value: Any) -> None:
    """Check that an argument is a number that is 0 or positive.

    :raises ValueError: if it is not
    """
    _check_number(name, value, "give one that is at least 0")
    if not value >= 0:
        raise ValueError(f"{name}={value} is below 0: the nearest choice is 0.")


def check_at_most_zero(name: str, value: Any) -> None:
    """Check that an argument is a number that is 0 or negative.

    :raises ValueError: if it is not; names the negated value
    """
    _check_number(name, value, "give one that is at most 0")
    if not value <= 0:
        raise ValueError(f"{name}={value} is above 0: did you mean {-value}?")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Check that an argument is one of a few words.

    :raises ValueError: if it is not; names the nearest
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}{nearest(str(value), choices)}")


def check_network(model: Any, network: Any, wanted: type) -> None:
    """Check that a policy brought the network an algorithm needs: one of the user's own, or of a loaded model, may not.

    :param model: the algorithm
    :param network: what its policy has
    :param wanted: the class it must be of
    :raises ValueError: if it is of another class
    """
    if not isinstance(network, wanted):
        aliases = ", ".join(map(repr, model.policy_aliases))
        raise ValueError(
            f"{type(model).__name__} needs a policy with {wanted.__name__}, and {type(model.policy).__name__} has "
            f"{type(network).__name__}: take one of {aliases}, or a subclass of {model.policy_aliases['MlpPolicy'].__name__}."
        )


def _check_number(name: str, value: Any, remedy: str) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is not a number: {remedy}.")
