"""What a grid will run: decided, checked and written down before any work starts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.overrides import read_entries, settings_of
from benchmarks.protocol import BUDGETS, PROTOCOLS, default_algorithms, protocol, within_budget
from benchmarks.spec import RunSpec, title_of
from benchmarks.stacks import AUTO, Room, most_together, split, stack_sizes
from sb3_entropic.catalog import Algorithm, find_algorithm, import_module
from sb3_entropic.checks import check_choice, check_gpu
from sb3_entropic.engine.gemm import ROUNDED, check_matrix_library
from sb3_entropic.engine.options import Engine
from sb3_entropic.engine.support import DEVICES, why_not
from sb3_entropic.envs.registry import Environment, find_environment
from sb3_entropic.errors import UserError, nearest
from sb3_entropic.zoo import digests_of_own, find_entry, load_hyperparameters, make_model

FAST = Engine("fast")
CPU = "cpu"


@dataclass(frozen=True)
class Plan:
    """A grid: its runs, in the order they start, and how they are carried out.

    :param budget: name of the budget
    :param runs: what the numbers come from
    :param workers: processes at a time
    :param stack: what the user wants of stacks: a number of seeds, or ``"auto"``
    :param sizes: by group, how many seeds are trained together at most; a group that is not there runs seed by seed
    :param matrix_library: ``"auto"`` lets matrix products go to oneDNN where that is faster and as exact, for every
        algorithm alike, ``"torch"`` leaves them, and ``"bf16"`` rounds their inputs to 16 bits, ``"tf32"``, on GPUs, to TF32
    :param device: torch's, where networks are trained; those of on-policy algorithms are on the CPU
    :param modules: that are imported first, such as those that register environments
    """

    budget: str
    runs: tuple[RunSpec, ...]
    workers: int
    stack: int | str = AUTO
    sizes: Mapping[str, int] = field(default_factory=dict)
    matrix_library: str = AUTO
    device: str = CPU
    modules: tuple[str, ...] = ()

    @property
    def experiments(self) -> set[tuple[str, int]]:
        """The (environment, steps) pairs of the grid, each one table of the report."""
        return {(run.env, run.steps) for run in self.runs}

    def stacks(self, runs: Iterable[RunSpec]) -> list[list[RunSpec]]:
        """Some of the grid's runs as jobs for a process each, in the order of their first seeds.

        :param runs: those to do, in the plan's order; what of an experiment is left is split anew, into stacks of its size
        """
        groups: dict[str, list[RunSpec]] = defaultdict(list)
        for run in runs:
            groups[run.group].append(run)
        stacks = [stack for group, members in groups.items() for stack in split(members, self.sizes.get(group, 1))]
        return sorted(stacks, key=lambda stack: stack[0].seed)

    def as_dict(self) -> dict[str, Any]:
        """For the plan's file."""
        return {
            "budget": self.budget,
            "workers": self.workers,
            "stack": self.stack,
            "sizes": dict(self.sizes),
            "stacks": [title_of(stack) for stack in self.stacks(self.runs)],
            "matrix_library": self.matrix_library,
            "device": self.device,
            "modules": list(self.modules),
            "runs": [asdict(run) for run in self.runs],
        }


def make_plan(
    envs: list[str],
    algos: list[str] | None = None,
    budget: str = "short",
    seeds: int | None = None,
    steps: int | None = None,
    overrides: list[str] | None = None,
    workers: int = 1,
    stack: int | str = AUTO,
    matrix_library: str = AUTO,
    device: str = CPU,
    elsewhere: bool = False,
    sweeps: list[str] | None = None,
    entries: Path | None = None,
    modules: list[str] | None = None,
) -> Plan:
    """Decide a grid from the protocols file and what the user changed, and check all of it.

    Every model is built once (and thrown away), so a wrong hyperparameter is found before any work.

    :param envs: environment ids
    :param algos: short names; by default the protocol's for the environment's kind of action
    :param budget: ``smoke``, ``short`` or ``full``
    :param seeds: number of seeds, 0, 1, ...; by default the protocol's
    :param steps: environment steps of a run; by default the protocol's
    :param overrides: ``algo.name=value`` (that algorithm only) or ``name=value`` (all of them)
    :param workers: processes at a time
    :param stack: seeds of one experiment that are trained together, where the algorithm can be; by default as
        :func:`benchmarks.stacks.stack_sizes` decides
    :param matrix_library: ``"auto"``, ``"torch"``, ``"bf16"`` or ``"tf32"``, see :class:`Plan`
    :param device: torch's, where models are trained
    :param elsewhere: whether on other machines, whose GPUs and processors are not known here
    :param sweeps: ``algo.name=value,value`` or ``name=value,value``: an experiment for each value, for several sweeps for
        each combination of their values
    :param entries: a YAML file of hyperparameters that go over the zoo's: by algorithm, then by environment id or
        ``default``, a zoo entry
    :param modules: to import first
    :raises UserError: for anything unknown or unsuitable, in one sentence
    """
    if budget not in BUDGETS:
        raise UserError(f"Unknown budget {budget!r}, there are {', '.join(BUDGETS)}{nearest(budget, BUDGETS)}")
    for module in modules or ():
        import_module(module)
    if not elsewhere:
        try:
            check_matrix_library(matrix_library, check_device(device))
        except ValueError as error:
            raise UserError(str(error)) from None
    named = [find_algorithm(name) for name in algos or ()]
    environments = [find_environment(env) for env in envs]
    pairs = [(env, algorithm) for env in environments for algorithm in named or default_algorithms(env)]
    names = list(dict.fromkeys(algorithm.name for _, algorithm in pairs))
    settings = settings_of(overrides or [], sweeps or [], names)
    own = {} if entries is None else read_entries(entries, names, [env.id for env in environments])
    if matrix_library == "tf32" and (left := [name for name in names if find_algorithm(name).is_on_policy]):
        raise UserError(f"{', '.join(left)} would be trained on the CPU, which has no TF32: name the others with --algos.")
    source = entries.name if entries else ""
    rounding = matrix_library if matrix_library in ROUNDED else ""
    once = {(env.id, algorithm): (env, algorithm) for env, algorithm in pairs}
    groups = [
        _group(env, algorithm, budget, seeds, steps, find_entry(own.get(algorithm.name, {}), env.id), chosen, source, rounding)
        for env, algorithm in once.values()
        for chosen in settings[algorithm.name]
    ]
    rooms = {runs[0].group: _room(runs, workers) for runs in groups}
    # Seed by seed, so that a grid stopped half-way has compared every algorithm on the same seeds.
    by_seed = sorted((run for group in groups for run in group), key=lambda run: run.seed)
    sizes = stack_sizes(rooms, workers) if stack == AUTO else {name: min(room.most, stack) for name, room in rooms.items()}
    return Plan(budget, tuple(by_seed), workers, stack, sizes, matrix_library, device, tuple(modules or ()))


def check_device(device: str) -> str:
    """The device, if there is one.

    :raises ValueError: if not
    """
    check_choice("device", device, DEVICES)
    check_gpu(device, f"device={device!r}")
    return device


def _group(
    env: Environment,
    algorithm: Algorithm,
    budget: str,
    seeds: int | None,
    steps: int | None,
    entry: dict[str, Any],
    overrides: dict[str, Any],
    source: str,
    rounding: str,
) -> list[RunSpec]:
    """The runs of one algorithm on one environment, one a seed.

    :param entry: what a file of the user's has for them; goes over the zoo's
    :param overrides: go over both
    :param source: the name of that file
    :param rounding: see :class:`RunSpec`
    """
    chosen = protocol(env.id, budget)
    steps = steps or chosen["steps"]
    zoo = within_budget(load_hyperparameters(algorithm, env.id, {**entry, **overrides}), algorithm, budget, steps)
    # An entry also says for how long it was made, which is no setting of the model.
    hyperparameters = {name: value for name, value in {**zoo, **entry, **overrides}.items() if name != "n_timesteps"}
    return [
        RunSpec(
            env=env.id,
            algo=algorithm.name,
            label=algorithm.label(overrides, source if entry else ""),
            seed=seed,
            steps=steps,
            evaluations=min(chosen["evaluations"], steps),
            episodes=PROTOCOLS["evaluation"]["episodes"],
            evaluation_seed=PROTOCOLS["evaluation"]["first_seed"],
            hyperparameters=hyperparameters,
            package=package_of(algorithm, env, hyperparameters),
            rounding=rounding,
        )
        for seed in range(seeds or chosen["seeds"])
    ]


def package_of(algorithm: Algorithm, env: Environment, hyperparameters: dict[str, Any]) -> str:
    """See :class:`RunSpec`."""
    own = f"{env.id} {env.digest}" if env.digest else ""
    return ", ".join(filter(None, [algorithm.package, own, digests_of_own(hyperparameters)]))


def _room(runs: list[RunSpec], workers: int) -> Room:
    """What bounds the stacks of an experiment; its model is built, so that a wrong hyperparameter is found."""
    spec = runs[0]
    model = make_model(find_algorithm(spec.algo), spec.env, spec.hyperparameters, seed=0, device="cpu")
    model.env.close()
    if getattr(model, "engine", None) == FAST and (reason := why_not(model)) is not None:
        raise UserError(f"{spec.label} on {spec.env}: engine=fast cannot run this, {reason}.")
    return Room(len(runs), most_together(model, spec.steps, workers))
