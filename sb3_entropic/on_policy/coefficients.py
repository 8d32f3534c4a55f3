"""Coefficients that adapt to what an update has come to: pure functions of numbers."""

from __future__ import annotations

import math

import numpy as np
from gymnasium import spaces

DOUBLING = 1.5
"""How far off its target a divergence may be before its coefficient changes (arXiv 1707.06347, section 4)."""


DIVERGENCE_WEIGHTS = (1e-4, 1e4)
"""The smallest and the largest weight of a divergence that is adapted."""

BOUNDLESS = 1e6
"""Actions that may be larger are taken to have no bounds: SB3 wants finite ones, so that environments invent them."""


def towards_entropy(coefficient: float, entropy: float, target: float, rate: float, bounds: tuple[float, float]) -> float:
    """The entropy coefficient after an update: integral control of its logarithm.

    A gradient step on ``log coefficient * (entropy - target)``, the loss that SAC learns its temperature with (arXiv
    1812.05905, eq. 18): it rises exactly while the policy is too deterministic. What is kept is the bounded coefficient
    itself, with no momentum: while a target is out of reach nothing winds up that would have to unwind.

    :param coefficient: > 0, within the bounds
    :param entropy: of the policy, nats
    :param target: nats
    :param rate: by how much the logarithm changes for every nat, >= 0
    :param bounds: the smallest and the largest it may be
    """
    # The exponent is bounded before it is one: entropies of many dimensions may be hundreds of nats off.
    low, high = (math.log(bound) for bound in bounds)
    moved = math.exp(min(max(math.log(coefficient) + rate * (target - entropy), low), high))
    # The exponential of a bound's logarithm may be a rounding beyond it.
    return min(max(moved, bounds[0]), bounds[1])


def towards_divergence(coefficient: float, divergence: float, target: float) -> float:
    """The weight of a divergence after an update: doubled if it was too large, halved if too small.

    :param coefficient: > 0; it stays within :data:`DIVERGENCE_WEIGHTS`
    :param divergence: of the new policy from the old, nats
    :param target: nats, > 0
    """
    if divergence > DOUBLING * target:
        return min(2 * coefficient, DIVERGENCE_WEIGHTS[1])
    return max(coefficient / 2, DIVERGENCE_WEIGHTS[0]) if divergence < target / DOUBLING else coefficient


def largest_entropy(space: spaces.Space, squashed: bool) -> float:
    """The entropy of the uniform policy in nats; infinite where actions have no bounds.

    :param space: of the actions
    :param squashed: whether the policy has its density on (-1, 1)
    """
    if isinstance(space, spaces.Box):
        return math.prod(space.shape) * math.log(2) if squashed else math.inf
    if isinstance(space, spaces.MultiBinary):
        return space.n * math.log(2)
    return float(np.log(space.nvec).sum()) if isinstance(space, spaces.MultiDiscrete) else math.log(space.n)


def usual_entropy(space: spaces.Space, squashed: bool, remaining: float) -> float:
    """The target of ``"auto"`` in nats.

    Of discrete actions 0.7 of the largest entropy at the start, and a tenth of it at the end. Of a box the entropy of a
    Gaussian whose standard deviation is 0.3 of half the width of the actions (of 1 where they have no bounds, or no width).

    :param space: of the actions
    :param squashed: whether the policy has its density on (-1, 1)
    :param remaining: progress, 1 to 0
    """
    if not isinstance(space, spaces.Box):
        return (0.1 + 0.6 * remaining) * largest_entropy(space, squashed)
    half = np.ones(space.shape) if squashed else (space.high.astype(float) - space.low) / 2
    return float(
        (np.log(0.3 * np.where((half > 0) & (half < BOUNDLESS), half, 1.0)) + 0.5 * math.log(2 * math.pi * math.e)).sum()
    )
