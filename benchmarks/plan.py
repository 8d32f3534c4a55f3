"""What a grid will run: decided, checked and written down before any work starts."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from benchmarks.stacks import AUTO, Room, most_together, split, stack_sizes
from sb3_entropic.catalog import (
    ALGORITHMS,
    Algorithm,
    Environment,
    check_actions,
    find_algorithm,
    find_environment,
    import_module,
    without_module,
)
from sb3_entropic.checks import check_choice, check_gpu, is_vector
from sb3_entropic.engine.gemm import ROUNDED, check_matrix_library
from sb3_entropic.engine.options import Engine
from sb3_entropic.engine.support import DEVICES, why_not
from sb3_entropic.errors import UserError, nearest
from sb3_entropic.zoo import (
    FAMILIES,
    check_name,
    checked_value,
    digests_of_own,
    find_entry,
    load_hyperparameters,
    make_model,
    parse_override,
)

PROTOCOLS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "protocols.yml").read_text(encoding="utf-8"))
BUDGETS: dict[str, str] = PROTOCOLS["budgets"]
FAST = Engine("fast")
CPU = "cpu"
MOST_BYTES, CUT_BYTES = 255, 180
"""The longest name that file systems take, and what is left of a longer one, with room for what is put around it."""


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that determines its result, and nothing else.

    :param env: environment id with its version
    :param algo: the algorithm's short name
    :param label: the algorithm as reports show it, with the hyperparameters that were overridden
    :param seed: of networks, exploration and training environments
    :param steps: environment steps
    :param evaluations: evaluations, evenly spaced, the last at the end
    :param episodes: episodes of each evaluation
    :param evaluation_seed: of the first episode
    :param hyperparameters: zoo format
    :param package: the package that implements the algorithm, with its version; an environment, wrappers and a features
        extractor of the user's, with their digests
    :param rounding: what the inputs of matrix products are rounded to, ``bf16`` or ``tf32``; empty for 32 bits
    """

    env: str
    algo: str
    label: str
    seed: int
    steps: int
    evaluations: int
    episodes: int
    evaluation_seed: int
    hyperparameters: dict[str, Any]
    package: str
    rounding: str = ""

    @property
    def group(self) -> str:
        """Identifies the runs that differ in nothing but their seed."""
        content = {name: value for name, value in asdict(self).items() if name != "seed"}
        if not self.rounding:
            del content["rounding"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def path(self) -> Path:
        """Where the run's record lies, below the folder of all runs."""
        return Path(as_file_name(self.env), as_file_name(self.label), f"{self.steps}-{self.group}", f"seed-{self.seed}")

    @property
    def title(self) -> str:
        """The run in one line."""
        return title_of([self])


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
    pairs = [(env, algorithm) for env in environments for algorithm in named or _default_algorithms(env)]
    names = list(dict.fromkeys(algorithm.name for _, algorithm in pairs))
    swept = [*map(_values, sweeps or [])]
    _check_named_once(overrides or [], swept, names)
    settings: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for values in itertools.product(*swept):
        for name, chosen in _split_overrides([*(overrides or []), *values], names).items():
            # A value for another algorithm makes no experiment of this one.
            settings[name] += [chosen] * (chosen not in settings[name])
    own = {} if entries is None else _read_entries(entries, names, [env.id for env in environments])
    for env, algorithm in pairs:
        check_actions(env, algorithm)
    if matrix_library == "tf32" and (left := [name for name in names if find_algorithm(name).is_on_policy]):
        raise UserError(f"{', '.join(left)} would be trained on the CPU, which has no TF32: name the others with --algos.")
    source = entries.name if entries else ""
    rounding = matrix_library if matrix_library in ROUNDED else ""
    once = {(env.id, algorithm): (env, algorithm) for env, algorithm in pairs}
    groups = [
        _group(env, algorithm, budget, seeds, steps, _entry(own, algorithm, env.id), chosen, source, rounding)
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


def protocol(env_id: str, budget: str) -> dict[str, int]:
    """Steps, seeds and evaluations of an environment under a budget."""
    entries = PROTOCOLS["environments"]
    name = without_module(env_id).rpartition("-v")[0]
    entry = entries.get(name, entries["default"])
    return {"evaluations": PROTOCOLS["evaluation"]["evaluations"], **entry[budget]}


def _default_algorithms(env: Environment) -> list[Algorithm]:
    kind = type(env.action_space).__name__
    if kind not in PROTOCOLS["algorithms"]:
        raise UserError(f"{env.id} has {kind} actions and no default algorithms: name them with --algos.")
    algorithms = [ALGORITHMS[name] for name in PROTOCOLS["algorithms"][kind]]
    return algorithms if is_vector(env.observation_space) else [each for each in algorithms if not each.vectors]


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
    zoo = within_budget(load_hyperparameters(algorithm, env.id), algorithm, budget, steps)
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


def title_of(runs: Sequence[RunSpec]) -> str:
    """Seeds of an experiment in one line, such as ``mdqn CartPole-v1 seeds 0 to 4``."""
    return f"{runs[0].label} {runs[0].env} {in_words([run.seed for run in runs])}"


def in_words(seeds: Sequence[int]) -> str:
    """Such as ``seeds 0 to 4``, where they follow each other."""
    in_a_row = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    listed = f"{seeds[0]} to {seeds[-1]}" if in_a_row and len(seeds) > 2 else ", ".join(map(str, seeds))
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed}"


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


def _check_named_once(overrides: list[str], sweeps: list[list[str]], names: list[str]) -> None:
    """
    :param names: of the grid's algorithms
    :raises UserError: if two sweeps have values for one thing, or an override is for nothing but what is swept
    """

    def meant(text: str) -> set[tuple[str, str]]:
        return {(algo, name) for algo, chosen in _split_overrides([text], names).items() for name in chosen}

    swept: set[tuple[str, str]] = set()
    for values in sweeps:
        if both := swept & meant(values[0]):
            _, name = min(both)
            raise UserError(f"{name!r} is swept twice: write all its values in one sweep, {name}=value,value.")
        swept |= meant(values[0])
    for text in overrides:
        if meant(text) <= swept:
            raise UserError(f"{text!r} is for what is swept: leave it out, or add its value to the sweep.")


def _values(text: str) -> list[str]:
    """``"alpha=0,0.5"`` as ``["alpha=0", "alpha=0.5"]``.

    :raises UserError: if there is no name, or no list of values
    """
    name, equals, values = text.partition("=")
    depth, parts = 0, [""]
    for character in values:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if not (name.strip() and equals) or not all(part.strip() for part in parts):
        raise UserError(f"{text!r} is not a sweep: write name=value,value, such as munchausen_alpha=0,0.5,0.9.")
    return [f"{name}={part.strip()}" for part in parts]


def _read_entries(path: Path, names: list[str], envs: list[str]) -> dict[str, Any]:
    """A user's file of hyperparameters, by algorithm.

    :param names: of the grid's algorithms
    :param envs: ids of its environments
    :raises UserError: if it cannot be read, names an algorithm that is not in the grid or what is no environment, or has a
        value that is none
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"The hyperparameters {path} cannot be read: {' '.join(str(error).split())}.") from None
    levels = [content, *content.values()] if isinstance(content, dict) else [content]
    levels += [entry for level in levels[1:] if isinstance(level, dict) for entry in level.values()]
    if not all(isinstance(level, dict) for level in levels):
        raise UserError(
            f"{path} is not a file of hyperparameters: write algorithm, below it an environment id or default, below that "
            "name: value."
        )
    known = {*FAMILIES, *envs, *map(without_module, envs), *gym.registry}
    for name, entries in content.items():
        if name not in names:
            raise UserError(
                f"{path} is for {name!r}, which is not in the grid ({', '.join(names)}){nearest(str(name), names)}"
            )
        for env in entries:
            if env not in known:
                raise UserError(f"{path} names {env!r}, which is no environment{nearest(str(env), known)}")
    for entry in (entry for entries in content.values() for entry in entries.values()):
        for name, value in entry.items():
            text = f"{name}: {value}"
            if not isinstance(name, str):
                raise UserError(f"{text!r} in {path} is not a hyperparameter: its name is no text.")
            # An entry of the zoo's says for how long it was made.
            if name != "n_timesteps":
                check_name(name, text)
            entry[name] = checked_value(value, text)
    return content


def _entry(own: dict[str, Any], algorithm: Algorithm, env: str) -> dict[str, Any]:
    return find_entry(own.get(algorithm.name, {}), env)


def _split_overrides(texts: list[str], names: list[str]) -> dict[str, dict[str, Any]]:
    """``["msac.munchausen_alpha=0.9", "gamma=0.98"]`` by algorithm."""
    split: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in texts:
        name, value = parse_override(text)
        prefix, dot, rest = name.rpartition(".")
        if dot and prefix not in split:
            raise UserError(
                f"{text!r} names {prefix!r}, which is not in the grid ({', '.join(names)}){nearest(prefix, names)}"
            )
        takes = [n for n in names if name in find_algorithm(n).parameters]
        if not dot and takes and len(takes) < len(names):
            raise UserError(f"{name!r} is for {', '.join(takes)} alone in this grid: write {takes[0]}.{text}.")
        for target in [prefix] if dot else names:
            split[target][rest if dot else name] = value
    return split


def cores() -> int:
    """Cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_file_name(text: str) -> str:
    """The text with whatever a file name may not hold made an underscore, and cut if it is longer than one may be."""
    name = "".join(c if c.isalnum() or c in "-_.=,[]" else "_" for c in text)
    encoded = name.encode()
    return name if len(encoded) <= MOST_BYTES else encoded[:CUT_BYTES].decode(errors="ignore")
