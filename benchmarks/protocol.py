"""What ``protocols.yml`` decides of a grid: steps, seeds, evaluations, algorithms, and what a budget cannot afford."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from sb3_entropic.catalog import ALGORITHMS, Algorithm
from sb3_entropic.checks import is_vector
from sb3_entropic.envs.registry import Environment, without_module
from sb3_entropic.errors import UserError

PROTOCOLS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "protocols.yml").read_text(encoding="utf-8"))
BUDGETS: dict[str, str] = PROTOCOLS["budgets"]


def protocol(env_id: str, budget: str) -> dict[str, int]:
    """Steps, seeds and evaluations of an environment under a budget."""
    entries = PROTOCOLS["environments"]
    name = without_module(env_id).rpartition("-v")[0]
    entry = entries.get(name, entries["default"])
    return {"evaluations": PROTOCOLS["evaluation"]["evaluations"], **entry[budget]}


def default_algorithms(env: Environment) -> list[Algorithm]:
    """Those of a grid that names none, for the environment's kind of actions.

    :raises UserError: if there are none
    """
    kind = type(env.action_space).__name__
    if kind not in PROTOCOLS["algorithms"]:
        raise UserError(f"{env.id} has {kind} actions and no default algorithms: name them with --algos.")
    algorithms = [ALGORITHMS[name] for name in PROTOCOLS["algorithms"][kind]]
    return algorithms if is_vector(env.observation_space) else [each for each in algorithms if not each.vectors]


def within_budget(hyperparameters: dict[str, Any], algorithm: Algorithm, budget: str, steps: int) -> dict[str, Any]:
    """The zoo's entry with what a run of that many steps under that budget cannot afford cut down."""
    hyperparameters = dict(hyperparameters)
    longest = int(PROTOCOLS["warm_up_at_most"] * steps)
    warm_up = algorithm.parameters["learning_starts"].default if "learning_starts" in algorithm.parameters else 0
    if hyperparameters.get("learning_starts", warm_up) > longest:
        hyperparameters["learning_starts"] = longest
    policy_kwargs = hyperparameters.get("policy_kwargs") or {}
    most = PROTOCOLS["quantiles_at_most"].get(budget, math.inf)
    if policy_kwargs.get("n_quantiles", 0) > most:
        hyperparameters["policy_kwargs"] = {**policy_kwargs, "n_quantiles": most}
    if algorithm.is_on_policy and (n_steps := _rollout_within(hyperparameters, algorithm, steps)) is not None:
        hyperparameters["n_steps"] = n_steps
    return hyperparameters


def _rollout_within(hyperparameters: dict[str, Any], algorithm: Algorithm, steps: int) -> int | None:
    """Steps of a rollout whose environments would take more than the whole run; ``None`` if they do not."""
    n_envs, n_steps = hyperparameters.get("n_envs", 1), hyperparameters.get("n_steps", algorithm.parameters["n_steps"].default)
    if n_steps * n_envs <= steps:
        return None
    most = PROTOCOLS["rollout_at_most"] * steps
    # Halves, since minibatches are to divide it.
    while n_steps > 2 and n_steps * n_envs > most:
        n_steps //= 2
    return n_steps
