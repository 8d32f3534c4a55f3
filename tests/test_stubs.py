"""Editors and type checkers read of the constructors what ``help`` shows."""

import sb3_entropic
from tests.stubs import PATH, stub


def test_the_stub_is_of_the_signatures_as_they_are():
    assert PATH.read_text(encoding="utf-8") == stub(), "the arguments have changed: write them anew with `make stubs`"


def test_every_argument_and_its_default_is_in_the_stub():
    text = stub()
    assert "munchausen_alpha: float = 0.9," in text.partition("class MDAC(")[2].partition("\nclass ")[0]
    assert "munchausen_alpha: float = 0.5," in text.partition("class MSAC(")[2].partition("\nclass ")[0]
    assert "ent_coef: Scheduled | str = 0.01," in text.partition("class MaxEntPPO(")[2].partition("\nclass ")[0]
    assert all(f'"{name}",' in text for name in sb3_entropic.__all__)
