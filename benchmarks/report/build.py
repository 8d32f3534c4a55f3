"""How the data of a report are made of the records of runs."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from benchmarks.normalisation import Scale, find_scale
from benchmarks.protocol import BUDGETS, within_budget
from benchmarks.report.cautions import (
    NOT_RECORDED,
    caution_on_episodes,
    cautions_on,
    cautions_on_budgets,
    cautions_on_search,
    cautions_on_speed,
    listed,
)
from benchmarks.report.leaderboard import Failure, Leaderboard, Pair, Row
from benchmarks.statistics import aggregate, learning_curve, probability_of_improvement
from sb3_entropic.catalog import ALGORITHMS, STAND_INS, Algorithm
from sb3_entropic.errors import UserError
from sb3_entropic.zoo import ZOO_KEYS, load_hyperparameters

LATE = 1.01
"""An evaluation after more than so many times the steps that it was to be after is late: a rollout had to be finished."""


class Runs(Protocol):
    """Where runs are read from, such as a :class:`benchmarks.store.Store`."""

    def records(self, problems: list[str] | None = None) -> list[dict[str, Any]]:
        """See :meth:`benchmarks.store.Store.records`."""

    def evaluations(self, record: dict[str, Any]) -> pd.DataFrame:
        """See :meth:`benchmarks.store.Store.evaluations`."""


def build_leaderboards(
    runs: Runs,
    problems: list[str] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    as_run: bool = False,
) -> list[Leaderboard]:
    """A leaderboard for each environment, number of steps and kind of evaluation that has a run.

    :param runs: where they are read from
    :param problems: a sentence about each run that cannot be used is appended to it
    :param pairs: the labels of the algorithms to compare; by default every algorithm and its parent
    :param as_run: whether algorithms are called as they were run, and not as :func:`label_now` says
    :raises UserError: the first such sentence, if there is no list to take it
    """
    tables: dict[tuple[str, int, int, int], list[_Run]] = defaultdict(list)
    for record in runs.records(problems):
        spec = record["spec"]
        try:
            evaluations = None if "error" in record else _evaluations(runs, record)
        except UserError as error:
            if problems is None:
                raise
            # Of published runs all evaluations are in one file.
            if str(error) not in problems:
                problems.append(str(error))
        else:
            # Other episodes are another measurement.
            key = (spec["env"], spec["steps"], spec["episodes"], spec["evaluation_seed"])
            tables[key].append(_Run(record, evaluations))
    return [_leaderboard(*key, members, pairs, as_run) for key, members in sorted(tables.items())]


@dataclass(frozen=True, eq=False)
class _Run:
    record: dict[str, Any]
    evaluations: pd.DataFrame | None


def _leaderboard(
    env: str,
    steps: int,
    episodes: int,
    evaluation_seed: int,
    runs: list[_Run],
    chosen: Sequence[tuple[str, str]] | None,
    as_run: bool,
) -> Leaderboard:
    groups: dict[tuple[str, str], list[_Run]] = defaultdict(list)
    for run in runs:
        # The folder's name holds the hash of everything but the seed: what differs in it is never pooled.
        label = run.record["spec"]["label"] if as_run else label_now(run.record["spec"])
        groups[label, run.record["path"].rsplit("/", 2)[1]].append(run)
    labels, scale = [label for label, _ in groups], find_scale(env)
    rows = []
    for (label, group), members in groups.items():
        shown = label if labels.count(label) == 1 else f"{label} ({group.rpartition('-')[2]})"
        rows.append(_row(shown, label, members, scale))
    rows.sort(key=_rank)
    failures = sorted(_failure(run.record) for run in runs if run.evaluations is None)
    ran_as = {called: members[0].record["spec"]["label"] for (called, _), members in groups.items()}
    earlier = {called: label for called, label in ran_as.items() if called != label}
    cautions = _cautions(rows, earlier, env, steps, episodes, scale) + _cautions_on_twins(groups)
    cautions += [
        f"{called} was run as {label}, before its entry of hyperparameters was changed." for called, label in earlier.items()
    ]
    cautions += _caution_on_lateness(groups)
    pairs = tuple(_pairs(rows, chosen, env))
    return Leaderboard(
        env, steps, episodes, tuple(rows), tuple(cautions), tuple(failures), scale, pairs, evaluation_seed=evaluation_seed
    )


def _rank(row: Row) -> tuple[float, float, str]:
    """What the rows of a table are sorted by: the IQM, which may be blind to a run that fails, and then the mean."""
    return (-row.summary.iqm.value, -row.summary.mean.value, row.label) if row.summary else (np.inf, np.inf, row.label)


def _row(label: str, name: str, runs: list[_Run], scale: Scale | None) -> Row:
    done = sorted((run for run in runs if run.evaluations is not None), key=lambda run: run.record["spec"]["seed"])
    spec, failures = runs[0].record["spec"], len(runs) - len(done)
    if not done:
        curves = (pd.DataFrame(columns=[along, "iqm", "low", "high"]) for along in ("step", "seconds"))
        names = (label, name, name, spec["algo"], spec["package"])
        ended = max(run.record.get("ended", "") for run in runs)
        return Row(*names, (), (), (), None, None, None, float("nan"), failures, *curves, {}, ended=ended)
    evaluations = pd.concat([run.evaluations for run in done])
    records = [run.record for run in done]
    scores = [run.evaluations["score"].iloc[-1] for run in done]
    late = [float(run.evaluations["score"].iloc[-math.ceil(len(run.evaluations) / 4) :].mean()) for run in done]
    return Row(
        label=label,
        name=name,
        variant=_variant(spec, name),
        algo=spec["algo"],
        package=spec["package"],
        seeds=tuple(record["spec"]["seed"] for record in records),
        scores=tuple(map(float, scores)),
        last_quarter_scores=tuple(late),
        summary=aggregate({spec["env"]: scores}),
        last_quarter=aggregate({spec["env"]: late}).iqm,
        normalised=aggregate({spec["env"]: scale.normalise(scores)}, normalised=True) if scale else None,
        steps_per_second=float(np.median([_steps_per_second(record) for record in records])),
        failures=failures,
        curve=learning_curve(evaluations),
        curve_in_time=learning_curve(evaluations, along="seconds"),
        provenance=_provenance(records),
        overshoot=_overshoot(records),
    )


def label_now(spec: dict[str, Any]) -> str:
    """A run's label, with what was other then where the algorithm's entry of hyperparameters has changed since."""
    algorithm, given = ALGORITHMS.get(spec["algo"]), spec["hyperparameters"]
    if algorithm is None or spec["label"] != algorithm.name:
        return spec["label"]
    defaults = {**ZOO_KEYS, **{name: parameter.default for name, parameter in algorithm.parameters.items()}}
    entries = [{**defaults, **entry} for entry in _entries(algorithm, spec)]
    # What the entry did not say then was the constructor's; SB3's are its version's. Neither steps nor the policy for the
    # observations are a setting.
    had = {**{name: defaults[name] for name in algorithm.own_defaults}, **given}
    had = {name: value for name, value in had.items() if name not in ("n_timesteps", "policy")}
    earlier = {name: value for name, value in had.items() if all(_differs(value, name, entry) for entry in entries)}
    return algorithm.label(earlier)


def _variant(spec: dict[str, Any], name: str) -> str:
    """The algorithm's name alone where everything that was overridden has the value that it has anyway."""
    algorithm, given = ALGORITHMS.get(spec["algo"]), spec["hyperparameters"]
    if algorithm is None or spec["label"] == algorithm.name:
        return name
    overridden = {each: given[each] for each in given if re.search(rf"[\[,]{re.escape(each)}=", name)}
    defaults = {each: parameter.default for each, parameter in algorithm.parameters.items()}
    entries = [{**dict.fromkeys(overridden), **defaults, **entry} for entry in _entries(algorithm, spec)]
    same = not any(_differs(value, each, entry) for each, value in overridden.items() for entry in entries)
    return algorithm.name if same and name == algorithm.label(overridden) else name


def _entries(algorithm: Algorithm, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry of hyperparameters as it is now, and as budgets cut it for runs of so many steps."""
    entry = load_hyperparameters(algorithm, spec["env"])
    return [entry, *(within_budget(entry, algorithm, budget, spec["steps"]) for budget in BUDGETS)]


def _differs(value: Any, name: str, entry: dict[str, Any]) -> bool:
    """Whether an entry has another value, if it has one."""
    return name in entry and _in_one_form(value) != _in_one_form(entry[name])


def _in_one_form(value: Any) -> Any:
    """Of a value what the same in other words has, too."""
    value = list(value) if isinstance(value, tuple) else value
    if isinstance(value, list) and value[1:] == ["step"]:
        return value[0]
    return None if value == {} else value


def _evaluations(runs: Runs, record: dict[str, Any]) -> pd.DataFrame:
    """A row an evaluation in the order of their steps, whose score is the mean return of its episodes."""
    episodes = runs.evaluations(record)
    # The runs of a stack share their time.
    seconds = episodes["train_seconds"] / record.get("stack", 1)
    episodes = episodes.assign(seconds=seconds, score=episodes["return"], taken=episodes["timesteps"])
    scores = episodes.groupby("step")[["score", "seconds", "taken"]].mean().reset_index()
    steps = scores["step"].where(scores["taken"] <= LATE * scores["step"], scores["taken"]).astype(int)
    return scores.assign(step=steps, task=record["spec"]["env"], seed=record["spec"]["seed"])


def _cautions(
    rows: list[Row], earlier: Collection[str], env: str, steps: int, episodes: int, scale: Scale | None
) -> list[str]:
    cautions = ["One environment: the interquartile mean is over seeds alone, of raw returns."]
    cautions.append(caution_on_episodes([episodes]))
    if scale is None:
        cautions.append(f"{env} is not in benchmarks/normalisation.csv: there are no normalised scores of it.")
    # Of the entry as it is now nothing was found that ran with another.
    cautions += cautions_on_search([row for row in rows if row.name not in earlier], env)
    cautions += cautions_on_budgets(shares_of_budgets(rows, env, steps))
    cautions += cautions_on(rows) + cautions_on_speed(rows)
    if any(row.overshoot for row in rows):
        late = ", ".join(f"{row.label} {row.overshoot:,}" for row in rows if row.overshoot)
        cautions.append(f"An algorithm finishes the rollout it is in, so it took more steps than the table says ({late}).")
    return cautions + [f"{row.label} is {row.variant} as it is." for row in rows if row.variant != row.name]


def _cautions_on_twins(groups: dict[tuple[str, str], list[_Run]]) -> list[str]:
    """About rows of one label, which are of different settings."""
    twins: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (label, _), members in groups.items():
        spec = members[0].record["spec"]
        twins[label].append({**spec, **spec["hyperparameters"], "seed": None, "hyperparameters": None})
    cautions = []
    for label, specs in twins.items():
        names = sorted({name for spec in specs for name in spec})
        differ = [name for name in names if any(spec.get(name) != specs[0].get(name) for spec in specs)]
        if len(specs) > 1:
            cautions.append(f"{label} appears more than once: its rows differ in {', '.join(differ)}.")
    return cautions


def _caution_on_lateness(groups: dict[tuple[str, str], list[_Run]]) -> list[str]:
    """About rows whose last quarters are of different numbers of evaluations."""
    labels: dict[int, list[str]] = defaultdict(list)
    for (label, _), members in sorted(groups.items()):
        labels[math.ceil(members[0].record["spec"]["evaluations"] / 4)].append(label)
    once = {number: [*dict.fromkeys(names)] for number, names in sorted(labels.items())}
    return [f"Late is of different numbers of evaluations: {listed(once)}."] if len(labels) > 1 else []


def shares_of_budgets(rows: Iterable[Row], env: str, steps: int) -> dict[str, float]:
    """By label, the steps as a share of those that the algorithm's hyperparameters were made for, where these say."""
    entries = {row.label: load_hyperparameters(ALGORITHMS[row.algo], env) for row in rows if row.algo in ALGORITHMS}
    return {label: steps / entry["n_timesteps"] for label, entry in entries.items() if "n_timesteps" in entry}


def _pairs(rows: list[Row], chosen: Sequence[tuple[str, str]] | None, env: str) -> list[Pair]:
    scored = [row for row in rows if row.scores]
    if chosen is None:
        parents = {row.algo: ALGORITHMS[row.algo].parent for row in scored if row.algo in ALGORITHMS}
        wanted = [(x, y) for x in scored for y in _runs_of(parents.get(x.algo, ""), scored)]
    else:
        # Versions of one setting share its name.
        wanted = [
            (x, y)
            for first, second in chosen
            for x in scored
            for y in scored
            if first in (x.label, x.name) and second in (y.label, y.name)
        ]
    return [
        Pair(
            x.label,
            y.label,
            probability_of_improvement({env: x.scores}, {env: y.scores}),
            probability_of_improvement({env: x.last_quarter_scores}, {env: y.last_quarter_scores}),
        )
        for x, y in wanted
        if x is not y
    ]


def _runs_of(algo: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of an algorithm, and those of ours that have its losses and more seeds than it has with nothing overridden."""
    own = [row for row in rows if row.algo == algo]
    stand_ins = [row for row in rows if STAND_INS.get(row.variant) == algo]
    seeds = max((len(row.scores) for row in own if row.variant == algo), default=0)
    return own + [row for row in stand_ins if len(row.scores) > seeds]


def _provenance(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The distinct values of every field, as text, so that runs of one origin give lists of one."""
    fields = ("commit", "versions", "defaults", "machine", "threads", "device", "command")
    fields += ("engine", "matrix_library", "stack", "started")
    values = {name: sorted({_as_text(record.get(name, NOT_RECORDED)) for record in records} - {""}) for name in fields}
    parts = [part for record in records for part in record.get("resumed", ())]
    for name in fields:
        before = {_as_text(part[name]) for part in parts if name in part}
        values[name] = sorted({*values[name], *before})
    values["resumed"] = sorted({part["environment"] for part in parts})
    # The runs of a stack share their time.
    seconds = sum(record.get("wall_seconds", 0.0) / record.get("stack", 1) for record in records)
    # Runs that are pooled never differ in these.
    return {**values, "hours": round(seconds / 3600, 3), "hyperparameters": records[0]["spec"]["hyperparameters"]}


def _steps_per_second(record: dict[str, Any]) -> float:
    """Of the run, or of its whole stack; a record that says nothing of stacks is of a run alone."""
    return record.get("steps_per_second", record["timesteps"] / record["train_seconds"])


def _overshoot(records: list[dict[str, Any]]) -> int:
    taken = max(record["timesteps"] for record in records)
    return taken if taken > LATE * records[0]["spec"]["steps"] else 0


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in sorted(value.items()))
    return str(value)


def _failure(record: dict[str, Any]) -> Failure:
    traceback = record["error"].strip()
    # Whatever else it is meant to do to a terminal.
    last = "".join(c if c.isprintable() else " " for c in traceback.splitlines()[-1])
    return Failure(f"{record['spec']['label']} seed {record['spec']['seed']}", last, traceback)
