"""Finite Markov decision processes with exact answers: the oracle that the deep algorithms are tested against."""

from sb3_entropic.tabular.env import TabularEnv
from sb3_entropic.tabular.mdp import FiniteMDP, chain, garnet, gridworld
from sb3_entropic.tabular.solvers import (
    Solution,
    advantage_learning,
    conservative_value_iteration,
    dual_averaging_value_iteration,
    dynamic_policy_programming,
    gap_increasing_iteration,
    gap_increasing_operator,
    mirror_descent_value_iteration,
    momentum_value_iteration,
    munchausen_value_iteration,
    optimal_q,
    soft_policy_iteration,
    soft_value_iteration,
    value_iteration,
)

__all__ = [
    "FiniteMDP",
    "Solution",
    "TabularEnv",
    "advantage_learning",
    "chain",
    "conservative_value_iteration",
    "dual_averaging_value_iteration",
    "dynamic_policy_programming",
    "gap_increasing_iteration",
    "gap_increasing_operator",
    "garnet",
    "gridworld",
    "mirror_descent_value_iteration",
    "momentum_value_iteration",
    "munchausen_value_iteration",
    "optimal_q",
    "soft_policy_iteration",
    "soft_value_iteration",
    "value_iteration",
]
