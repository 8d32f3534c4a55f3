"""What is timed: the one table of cases, and the arithmetic of a gradient step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sb3_entropic.errors import UserError, nearest

SAC, DQN = "stable_baselines3:SAC", "stable_baselines3:DQN"
MSAC, MDQN = "sb3_entropic:MSAC", "sb3_entropic:MDQN"
PPO, ENTROPY_PPO, MAXENT_PPO = "stable_baselines3:PPO", "sb3_entropic:EntropyPPO", "sb3_entropic:MaxEntPPO"
QRDQN, MQRDQN = "sb3_contrib:QRDQN", "sb3_entropic:MQRDQN"
SBX_SAC = "sbx:SAC"

PEERS = {"sb3": "stable_baselines3", "sbx": "sbx"}
"""Libraries that may be timed beside ours: the package of each."""

EAGER = {"kind": "fast", "compile": False}
COMPILED = {"kind": "fast", "compile": True}
SIXTEEN_BITS = {**COMPILED, "matrix_library": "bf16"}


@dataclass(frozen=True)
class System:
    """One way to train, and how much of it runs at a time.

    :param label: shown; unique in its case
    :param peer: label of the system of the same case that it is compared with
    :param algorithm: ``module:Class``
    :param env: environment id
    :param arguments: of the algorithm's constructor, as JSON has them
    :param engine: arguments of :class:`sb3_entropic.Engine`; ``None`` for algorithms of other packages
    :param seeds: trained together in a process
    :param processes: at the same time, one thread each
    :param switch: whether an algorithm of another package learns with our choice of the matrix library
    :param scale: environment steps timed, as a multiple of ``--steps``, so that fast and slow systems take seconds alike
    :param device: torch's
    :param rollout: of an on-policy algorithm, environment steps of a seed between updates; whole ones are timed
    :param step_flop: operations a gradient step cannot do without; where given, the machine's rate is measured, too
    """

    label: str
    peer: str
    algorithm: str
    env: str
    arguments: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] | None = None
    seeds: int = 1
    processes: int = 1
    switch: bool = False
    scale: float = 1.0
    rollout: int = 1
    step_flop: float | None = None
    device: str = "cpu"

    @property
    def package(self) -> str:
        """The package the algorithm is from."""
        return self.algorithm.partition(":")[0]

    @property
    def is_compiled(self) -> bool:
        """Whether it needs a compiler."""
        return bool(self.engine and self.engine["compile"] is True)

    def steps_of_a_seed(self, steps: int) -> int:
        """Environment steps of each seed while the clock runs, for ``--steps``: those of a process are alike for all."""
        return max(math.ceil(round(steps * self.scale / self.seeds) / self.rollout), 1) * self.rollout


@dataclass(frozen=True)
class Case:
    """Systems that are timed in one round and shown in one table."""

    name: str
    title: str
    systems: tuple[System, ...]


def sac_step_flop(observations: int, actions: int, batch: int, hidden: list[int]) -> float:
    """Floating-point operations of the matrix products that a gradient step of SAC cannot do without: ``2mnk`` each.

    Two critics; biases, activations and optimisers are left out, they are small beside.

    :param observations: length of an observation; ``actions`` of an action
    :param hidden: widths of the hidden layers, the same in every network
    """

    def products(sizes: list[int]) -> list[float]:
        return [2.0 * batch * before * after for before, after in pairwise(sizes)]

    # The actor's mean and log standard deviation are one layer of twice the width.
    actor = products([observations, *hidden, 2 * actions])
    critic = products([observations + actions, *hidden, 1])
    # Its input is data, so the first layer has no gradient to pass on to it.
    actor_step = sum(actor) + sum(actor) + sum(actor[1:])
    critic_step = 2 * (sum(critic) + sum(critic) + sum(critic[1:]))
    next_values = sum(actor) + 2 * sum(critic)
    values_of_actor = 2 * (sum(critic) + sum(critic))
    return next_values + critic_step + actor_step + values_of_actor


def _msac_hopper() -> Case:
    peer = "SB3 SAC"

    def row(label: str, algorithm: str, **more: Any) -> System:
        return System(label, peer, algorithm, "Hopper-v4", **more)

    systems = (
        row(peer, SAC),
        row("SB3 SAC, oneDNN's products", SAC, switch=True),
        row("SBX SAC", SBX_SAC),
        row("MSAC, SB3's loop", MSAC, engine={"kind": "sb3", "compile": False}),
        row("MSAC, fast engine", MSAC, engine=EAGER),
        row("MSAC, compiled", MSAC, engine=COMPILED),
        row("MSAC, compiled, torch's products", MSAC, engine={**COMPILED, "matrix_library": "torch"}),
    )
    return Case("msac-hopper", "Hopper-v4, default arguments, one process", systems)


def _msac_hopper_10() -> Case:
    peer = "2 x SB3 SAC"
    systems = (
        System(peer, peer, SAC, "Hopper-v4", processes=2),
        System("2 x 5 seeds of MSAC", peer, MSAC, "Hopper-v4", engine=COMPILED, seeds=5, processes=2),
    )
    return Case("msac-hopper-10", "Hopper-v4, default arguments, two processes, all their seeds together", systems)


def _sixteen_bits() -> Case:
    peer = "MSAC, 5 seeds"
    systems = (
        System(peer, peer, MSAC, "HalfCheetah-v4", engine=COMPILED, seeds=5, scale=2.0),
        System("MSAC, 5 seeds, 16 bits", peer, MSAC, "HalfCheetah-v4", engine=SIXTEEN_BITS, seeds=5, scale=2.0),
    )
    return Case(
        "sixteen-bits", "HalfCheetah-v4, default arguments, one process: matrix products of 32 and of 16 bits", systems
    )


def _msac_hopper_gpu() -> Case:
    peer = "SB3 SAC"

    def row(label: str, algorithm: str, **more: Any) -> System:
        return System(label, peer, algorithm, "Hopper-v4", device="cuda", **more)

    def both(label: str, rounding: dict[str, Any], **more: Any) -> tuple[System, System]:
        """With and without compiling, which gains little where a graph is launched as one."""
        return (
            row(label, MSAC, engine={**EAGER, **rounding}, **more),
            row(f"{label}, compiled", MSAC, engine={**COMPILED, **rounding}, **more),
        )

    tf32 = {"matrix_library": "tf32"}
    systems = (
        row(peer, SAC),
        *both("MSAC, fast engine", {}, scale=3.0),
        *both("MSAC, TF32", tf32, scale=3.0),
        *(system for seeds in (5, 20) for system in both(f"MSAC, {seeds} seeds, TF32", tf32, seeds=seeds, scale=10.0)),
        row("MSAC, SB3's loop", MSAC, engine={"kind": "sb3", "compile": False}),
        row("SBX SAC", SBX_SAC, scale=2.0),
    )
    return Case("msac-hopper-gpu", "Hopper-v4, default arguments, one process, on a GPU", systems)


def _small_dqn(width: int) -> dict[str, Any]:
    sizes = {"buffer_size": 50_000, "batch_size": 128, "train_freq": 1, "gradient_steps": 1}
    return {"learning_rate": 1e-4, **sizes, "policy_kwargs": {"net_arch": [width, width]}}


def _mdqn_cartpole_10(name: str, width: int) -> Case:
    peer = "2 x SB3 DQN"
    setting: dict[str, Any] = {"env": "CartPole-v1", "arguments": _small_dqn(width), "processes": 2, "scale": 5.0}
    systems = (
        System(peer, peer, DQN, **setting),
        System("2 x 5 seeds of MDQN", peer, MDQN, **setting, engine=COMPILED, seeds=5),
    )
    return Case(name, f"CartPole-v1, {width}x{width}, batch 128, two processes, all their seeds together", systems)


def _mqrdqn_lunarlander() -> Case:
    peer = "sb3-contrib QRDQN"
    sizes = {"learning_rate": 1e-3, "buffer_size": 50_000, "batch_size": 128, "train_freq": 1, "gradient_steps": 1}
    arguments = {**sizes, "policy_kwargs": {"net_arch": [256, 256], "n_quantiles": 170}}

    def row(label: str, algorithm: str, **more: Any) -> System:
        return System(label, peer, algorithm, "LunarLander-v3", arguments, **more)

    systems = (
        row(peer, QRDQN, scale=0.2),
        row("MQRDQN, SB3's loop", MQRDQN, engine={"kind": "sb3", "compile": False}, scale=0.2),
        row("MQRDQN, compiled", MQRDQN, engine=COMPILED),
        row("MQRDQN, 5 seeds", MQRDQN, engine=COMPILED, seeds=5),
        row("MQRDQN, 5 seeds, 16 bits", MQRDQN, engine=SIXTEEN_BITS, seeds=5),
    )
    return Case("mqrdqn-lunarlander", "LunarLander-v3, 256x256, 170 quantiles, batch 128, one process", systems)


PPO_CARTPOLE: dict[str, Any] = {"env": "CartPole-v1", "scale": 4.0, "rollout": 2048}


def _ppo_cartpole() -> Case:
    peer = "SB3 PPO"

    def row(label: str, algorithm: str, **more: Any) -> System:
        return System(label, peer, algorithm, **PPO_CARTPOLE, **more)

    systems = (
        row(peer, PPO),
        row("EntropyPPO, SB3's loop", ENTROPY_PPO, engine={"kind": "sb3", "compile": False}),
        row("EntropyPPO, fast engine", ENTROPY_PPO, engine=EAGER),
        row("EntropyPPO, compiled", ENTROPY_PPO, engine=COMPILED),
        row("MaxEntPPO, compiled", MAXENT_PPO, engine=COMPILED),
    )
    return Case("ppo-cartpole", "CartPole-v1, default arguments, one process", systems)


def _ppo_cartpole_10() -> Case:
    peer = "2 x SB3 PPO"
    setting: dict[str, Any] = {**PPO_CARTPOLE, "processes": 2}
    systems = (
        System(peer, peer, PPO, **setting),
        System("2 x 5 seeds of EntropyPPO", peer, ENTROPY_PPO, **setting, engine=COMPILED, seeds=5),
        System("2 x 5 seeds of MaxEntPPO", peer, MAXENT_PPO, **setting, engine=COMPILED, seeds=5),
    )
    return Case("ppo-cartpole-10", "CartPole-v1, default arguments, two processes, all their seeds together", systems)


def _scaling() -> Case:
    def rows(name: str, algorithm: str, **setting: Any) -> list[System]:
        def label(seeds: int) -> str:
            return f"{name}, {seeds} seed{'s' if seeds > 1 else ''}"

        return [
            System(label(seeds), label(1), algorithm, engine=COMPILED, seeds=seeds, **setting) for seeds in (1, 2, 5, 10, 20)
        ]

    mdqn = rows("MDQN", MDQN, env="CartPole-v1", arguments=_small_dqn(64), scale=5.0)
    msac = rows("MSAC", MSAC, env="Hopper-v4")
    return Case("scaling", "Seeds in one process, compiled: MDQN CartPole-v1 64x64, MSAC Hopper-v4", (*mdqn, *msac))


def _gemm() -> Case:
    peer, each = "SB3 SAC", 20
    setting: dict[str, Any] = {"arguments": {"gradient_steps": each, "learning_starts": 2000}, "scale": 1 / each}
    flop = sac_step_flop(observations=11, actions=3, batch=256, hidden=[256, 256])

    def row(label: str, algorithm: str, **more: Any) -> System:
        return System(label, peer, algorithm, "Hopper-v4", step_flop=flop, **setting, **more)

    systems = (
        row(peer, SAC),
        row("SB3 SAC, oneDNN's products", SAC, switch=True),
        row("MSAC, fast engine", MSAC, engine=EAGER),
        row("MSAC, compiled", MSAC, engine=COMPILED),
    )
    return Case("gemm", f"Hopper-v4, {each} gradient steps an environment step: share of the matrix products' floor", systems)


CASES = {
    case.name: case
    for case in (
        _msac_hopper(),
        _msac_hopper_10(),
        _sixteen_bits(),
        _msac_hopper_gpu(),
        _mdqn_cartpole_10("mdqn-cartpole-10", 64),
        _mdqn_cartpole_10("mdqn-cartpole-10-256", 256),
        _mqrdqn_lunarlander(),
        _ppo_cartpole(),
        _ppo_cartpole_10(),
        _scaling(),
        _gemm(),
    )
}
"""Every case by its name."""


def choose(names: list[str], known: dict[str, Any], what: str) -> list[Any]:
    """The entries of those names, in the table's order.

    :raises UserError: if there is none of a name; says which there are, and the nearest
    """
    for name in names:
        if name not in known:
            raise UserError(f"There is no {what} {name!r}, only {', '.join(known)}{nearest(name, known)}")
    return [entry for name, entry in known.items() if name in names]
