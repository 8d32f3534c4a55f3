"""Constructors show every argument they take."""

import inspect

import pytest

import sb3_entropic
from sb3_entropic.signature import extends, preset


class Parent:
    def __init__(self, first, second=2):
        self.given = (first, second)


class Middle(Parent):
    def __init__(self, *args, colour="red", size=1, **kwargs):
        self.colour, self.size = colour, size
        super().__init__(*args, **kwargs)


@extends(Parent)
class Child(Middle):
    def __init__(self, *args, size=3, shape="round", **kwargs):
        self.shape = shape
        super().__init__(*args, size=size, **kwargs)


@preset(colour="blue", second=4)
class Blue(Child):
    pass


def defaults(cls):
    return {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.default is not p.empty}


def test_the_parents_arguments_come_first_and_then_those_of_every_class_between():
    assert list(inspect.signature(Child).parameters) == ["first", "second", "size", "shape", "colour"]
    assert defaults(Child) == {"second": 2, "colour": "red", "size": 3, "shape": "round"}


def test_a_preset_changes_a_default_and_yields_to_what_is_given():
    assert defaults(Blue) == {"second": 4, "colour": "blue", "size": 3, "shape": "round"}
    assert Blue(1).colour == "blue"
    assert Blue(1, colour="green").colour == "green"
    assert (Blue(1, 5, size=7).given, Blue(1, size=7).given, Blue(1, size=7).size) == ((1, 5), (1, 4), 7)
    assert Child(1).colour == "red"


class Documented(Parent):
    """One.

    :param colour: of it
    :param shape: round, or
        square
    """

    def __init__(self, *args, colour="red", shape="round", **kwargs):
        super().__init__(*args, **kwargs)


@extends(Parent)
class Described(Documented):
    """Another.

    :param colour: another's
    :raises ValueError: never
    """


@preset(shape="square")
class Squared(Documented):
    """A third."""


@extends(Parent)
class Undescribed(Documented):
    pass


def test_the_docstring_ends_with_the_arguments_of_the_bases():
    assert Described.__doc__ == (
        "Another.\n\n:param colour: another's\n:param shape: round, or\n    square\n:raises ValueError: never"
    )
    assert Squared.__doc__ == "A third.\n\n:param colour: of it\n:param shape: round, or\n    square"
    assert Undescribed.__doc__ is None


@pytest.mark.parametrize("name", [name for name in sb3_entropic.__all__ if hasattr(getattr(sb3_entropic, name), "learn")])
def test_help_describes_every_argument_of_ours(name):
    algorithm = getattr(sb3_entropic, name)
    ours = [p.name for p in inspect.signature(algorithm).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert "engine" in ours
    assert [argument for argument in ours if f":param {argument}: " not in algorithm.__doc__] == []
    assert ":raises ValueError: " in algorithm.__doc__


def test_a_misspelt_argument_is_answered_by_the_nearest():
    with pytest.raises(TypeError, match="Blue has no argument 'color': did you mean 'colour'"):
        Blue(1, color="green")
