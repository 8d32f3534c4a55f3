"""Speed as a ratio to a named peer: training throughput, measured alternately in one process.

Machines drift by tens of percent within minutes, so only ratios inside a round are to be trusted: a round times every
system once, one straight after the other, and the median ratio over rounds is the result.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch as th
from rich.console import Console
from rich.table import Table
from stable_baselines3 import SAC

from sb3_entropic import MSAC

PEER = "SAC (stable-baselines3)"
SYSTEMS: dict[str, Callable[..., Any]] = {
    PEER: SAC,
    "MSAC, munchausen_alpha=0 (the same maths)": lambda *args, **kwargs: MSAC(*args, munchausen_alpha=0, **kwargs),
    "MSAC": MSAC,
}


def measure_speed(env_id: str, rounds: int, steps: int, console: Console) -> dict[str, list[float]]:
    """Environment steps per second of every system in every round, one gradient step per step, one thread.

    :param env_id: environment to train on
    :param rounds: how often each system is timed
    :param steps: environment steps timed each time
    :return: steps per second by system, one value per round
    """
    th.set_num_threads(1)
    rates: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    models = {name: make("MlpPolicy", env_id, seed=0, device="cpu", learning_starts=100) for name, make in SYSTEMS.items()}
    with console.status("warming up") as status:
        for model in models.values():
            model.learn(100 + steps // 2)
        for index in range(rounds):
            # Rotated, so that no system always follows the same neighbour.
            names = list(SYSTEMS)[index % len(SYSTEMS) :] + list(SYSTEMS)[: index % len(SYSTEMS)]
            for name in names:
                status.update(f"round {index + 1} of {rounds}: {name}")
                start = time.perf_counter()
                models[name].learn(steps, reset_num_timesteps=False)
                rates[name].append(steps / (time.perf_counter() - start))
    return rates


def speed_table(env_id: str, rates: dict[str, list[float]]) -> Table:
    """Median throughput and the ratio to the peer, with the range over rounds."""
    table = Table(title=f"{env_id}, 1 thread, {len(rates[PEER])} alternating rounds", title_justify="left")
    table.add_column("system")
    table.add_column("steps/s", justify="right")
    table.add_column(f"ratio to {PEER}", justify="right")
    for name, values in rates.items():
        ratios = [value / peer for value, peer in zip(values, rates[PEER], strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        table.add_row(name, f"{statistics.median(values):.0f}", spread)
    return table
