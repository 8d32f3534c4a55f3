"""The rates that reports tell their readers are those that are seen."""

import math

import pytest

from benchmarks.calibration import RATES, rate

DRAWS = 300


@pytest.mark.parametrize("what", RATES)
def test_what_is_told_is_what_is_seen(what):
    happens, told = RATES[what]
    for seeds, expected in told.items():
        error = math.sqrt(expected * (1 - expected) / DRAWS)
        assert rate(happens, seeds, DRAWS) == pytest.approx(expected, abs=4 * error + 0.005)
