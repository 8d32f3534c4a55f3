"""How far intervals of few seeds can be trusted: where the rates come from that reports tell their readers.

``python -m benchmarks.calibration`` draws samples of one normal distribution, so that nothing differs and the truth is known,
makes the intervals that a report would, and prints how often these are wrong. It takes some minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.compare import BELOW_BY_CHANCE
from benchmarks.report.cautions import COVERAGE, FALSE_CALLS
from benchmarks.statistics import aggregate, iqm_difference, probability_of_improvement

SEED, DRAWS = 20_261_127, 4_000


def covers(rng: np.random.Generator, seeds: int) -> bool:
    """Whether the interval of one sample's interquartile mean holds the true one.

    :param rng: of the sample
    :param seeds: its size
    """
    iqm = aggregate({"": rng.standard_normal(seeds)}).iqm
    return iqm.low <= 0.0 <= iqm.high


def is_called(rng: np.random.Generator, seeds: int) -> bool:
    """Whether the interval of the probability that one sample is above another excludes one half.

    :param rng: of the samples
    :param seeds: the size of each
    """
    return probability_of_improvement(*({"": rng.standard_normal(seeds)} for _ in range(2))).excludes(0.5)


def is_below(rng: np.random.Generator, seeds: int) -> bool:
    """Whether the interval of the difference of two samples' interquartile means lies below zero.

    :param rng: of the samples
    :param seeds: the size of each
    """
    return iqm_difference(*({"": rng.standard_normal(seeds)} for _ in range(2))).high < 0.0


RATES: dict[str, tuple[Callable[[np.random.Generator, int], bool], dict[int, float]]] = {
    "an interval of an IQM holds the true one": (covers, COVERAGE),
    "an interval of a probability of improvement excludes one half": (is_called, FALSE_CALLS),
    "an interval of a difference lies below zero": (is_below, BELOW_BY_CHANCE),
}
"""What happens, how to see it, and how often reports say that it does, by number of seeds."""


def rate(happens: Callable[[np.random.Generator, int], bool], seeds: int, draws: int = DRAWS) -> float:
    """How often something happens.

    :param happens: given a random generator and a number of seeds
    :param draws: how many times to look
    """
    rng = np.random.default_rng((SEED, seeds))
    return float(np.mean([happens(rng, seeds) for _ in range(draws)]))


if __name__ == "__main__":
    for what, (happens, told) in RATES.items():
        for seeds in sorted({2, 3, 5, 10} | told.keys()):
            said = f", told as {100 * told[seeds]:.0f} %" if seeds in told else ""
            print(f"{what}, {seeds} seeds: {100 * rate(happens, seeds):.1f} %{said}")
