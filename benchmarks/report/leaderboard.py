"""The data of a report: a table for every environment and number of steps, from the records of the runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.published import Published
from benchmarks.statistics import (
    Aggregate,
    Estimate,
    aggregate,
    learning_curve,
    performance_profile,
    probability_of_improvement,
)
from benchmarks.store import Store

FEW_SEEDS = 5
NOT_RECORDED = "not recorded"


@dataclass(frozen=True, eq=False)
class Row:
    """One algorithm of a table.

    :param label: the algorithm, with the hyperparameters that were overridden
    :param package: what implements it, with the version
    :param seeds: the seeds that finished
    :param scores: final evaluation return of each of them
    :param summary: their aggregate; ``None`` if every run failed
    :param steps_per_second: environment steps per second of training, the median over runs; of a run that was trained in a
        stack, the steps of all its seeds
    :param failures: number of runs that ended in an error
    :param curve: columns ``step``, ``iqm``, ``low``, ``high``
    :param curve_in_time: columns ``seconds`` of training, ``iqm``, ``low``, ``high``; of a run that was trained in a stack,
        its share of the stack's seconds
    :param provenance: what the finished runs record of their origin, each a sorted list of the distinct values:
        ``commit``, ``versions``, ``machine``, ``threads``, ``device``, ``command``, ``engine``, ``matrix_library``,
        ``stack``, ``started``; ``hours``, their wall time in all; and ``hyperparameters``
    :param overshoot: environment steps actually taken, where they are over 1 % more than the run asked for; else 0
    """

    label: str
    package: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    summary: Aggregate | None
    steps_per_second: float
    failures: int
    curve: pd.DataFrame
    curve_in_time: pd.DataFrame
    provenance: dict[str, Any]
    overshoot: int = 0


class Failure(NamedTuple):
    """A run that ended in an error.

    :param run: label and seed
    :param error: the last line of the traceback
    :param traceback: all of it
    """

    run: str
    error: str
    traceback: str


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """One table: algorithms on one environment after the same number of steps, the best IQM first.

    :param env: environment id with its version
    :param steps: environment steps
    :param episodes: episodes of an evaluation
    :param rows: the algorithms
    :param cautions: what a reader must know before believing the table, a sentence each
    :param failures: of every failed run
    """

    env: str
    steps: int
    episodes: int
    rows: tuple[Row, ...]
    cautions: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def ranked(self) -> list[Row]:
        """The rows that have scores."""
        return [row for row in self.rows if row.summary]

    @cached_property
    def profiles(self) -> dict[str, pd.DataFrame]:
        """By label, the share of runs above a threshold, at the row's own scores and a little beyond everyone's.

        Between two of these thresholds share and interval stay as they are at the lower one. The columns are those of
        :func:`~benchmarks.statistics.performance_profile`.
        """
        scores = [score for row in self.rows for score in row.scores]
        beyond = 0.03 * np.ptp(scores) or 1.0 if scores else 0.0
        return {
            row.label: performance_profile(
                {self.env: row.scores}, np.unique([min(scores) - beyond, *row.scores, max(scores) + beyond])
            )
            for row in self.ranked
        }

    @cached_property
    def improvements(self) -> dict[tuple[str, str], Estimate]:
        """By two labels, how often a run of the first scores above one of the second."""
        estimates = {}
        for x, y in combinations(self.ranked, 2):
            estimate = probability_of_improvement({self.env: x.scores}, {self.env: y.scores})
            estimates[x.label, y.label] = estimate
            estimates[y.label, x.label] = Estimate(1 - estimate.value, 1 - estimate.high, 1 - estimate.low)
        return estimates


def build_leaderboards(store: Store | Published) -> list[Leaderboard]:
    """A leaderboard for each environment, number of steps and kind of evaluation that has a run.

    :param store: the runs
    """
    tables: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    for record in store.records():
        spec = record["spec"]
        tables[spec["env"], spec["steps"], spec["episodes"]].append(record)
    return [_leaderboard(store, *key, records) for key, records in sorted(tables.items())]


def _leaderboard(store: Store | Published, env: str, steps: int, episodes: int, records: list[dict[str, Any]]) -> Leaderboard:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        # The folder's name holds the hash of everything but the seed: what differs in it is never pooled.
        groups[record["spec"]["label"], record["path"].rsplit("/", 2)[1]].append(record)
    labels = [label for label, _ in groups]
    rows = []
    for (label, group), members in groups.items():
        shown = label if labels.count(label) == 1 else f"{label} ({group.rpartition('-')[2]})"
        rows.append(_row(store, shown, members))
    rows.sort(key=lambda row: (-row.summary.iqm.value if row.summary else np.inf, row.label))
    failures = [
        Failure(f"{r['spec']['label']} seed {r['spec']['seed']}", _last_line(r["error"]), r["error"].strip())
        for r in records
        if "error" in r
    ]
    return Leaderboard(env, steps, episodes, tuple(rows), tuple(_cautions(rows, labels)), tuple(sorted(failures)))


def _row(store: Store | Published, label: str, records: list[dict[str, Any]]) -> Row:
    done = sorted((r for r in records if "error" not in r), key=lambda record: record["spec"]["seed"])
    package, failures = records[0]["spec"]["package"], len(records) - len(done)
    if not done:
        curves = (pd.DataFrame(columns=[along, "iqm", "low", "high"]) for along in ("step", "seconds"))
        return Row(label, package, (), (), None, float("nan"), failures, *curves, {})
    evaluations = pd.concat([_evaluations(store, record) for record in done])
    final = evaluations[evaluations["step"] == evaluations.groupby("seed")["step"].transform("max")].set_index("seed")["score"]
    return Row(
        label,
        package,
        tuple(final.index.tolist()),
        tuple(final.tolist()),
        aggregate({records[0]["spec"]["env"]: final}),
        float(np.median([_steps_per_second(record) for record in done])),
        failures,
        learning_curve(evaluations),
        learning_curve(evaluations, along="seconds"),
        _provenance(done),
        _overshoot(done),
    )


def _evaluations(store: Store | Published, record: dict[str, Any]) -> pd.DataFrame:
    """A row an evaluation, whose score is the mean return of its episodes."""
    episodes = store.evaluations(record)
    # The runs of a stack share their time.
    seconds = episodes["train_seconds"] / record.get("stack", 1)
    scores = episodes.assign(seconds=seconds, score=episodes["return"]).groupby("step")[["score", "seconds"]].mean()
    return scores.reset_index().assign(task=record["spec"]["env"], seed=record["spec"]["seed"])


def _cautions(rows: list[Row], labels: list[str]) -> list[str]:
    cautions = ["One environment: the interquartile mean is over seeds alone, of raw returns."]
    sizes = {len(row.scores) for row in rows if row.scores}
    if sizes and min(sizes) < FEW_SEEDS:
        plain = " (with fewer than 4 nothing is trimmed: the IQM is the mean)" if min(sizes) < 4 else ""
        cautions.append(f"Fewer than {FEW_SEEDS} seeds{plain}: too few to rank algorithms, and the intervals are too narrow.")
    if len(sizes) > 1:
        cautions.append("The algorithms have different numbers of seeds.")
    if any(row.failures for row in rows):
        cautions.append("Some runs failed and are left out of the scores: see the list below the table.")
    for name, what in (("commit", "commits"), ("versions", "package versions"), ("machine", "machines")):
        if len({value for row in rows for value in row.provenance.get(name, ())}) > 1:
            cautions.append(f"The runs are of different {what}: see the records.")
    cautions += _ways_of_training(rows)
    if any(row.overshoot for row in rows):
        late = ", ".join(f"{row.label} {row.overshoot:,}" for row in rows if row.overshoot)
        cautions.append(f"An algorithm finishes the rollout it is in, so it took more steps than the table says ({late}).")
    if len(set(labels)) < len(labels):
        cautions.append("An algorithm appears more than once: its rows differ in version, hyperparameters or evaluation.")
    return cautions


def _ways_of_training(rows: list[Row]) -> list[str]:
    """What of how the runs were trained bears on steps/s, and on the last digits of results."""
    cautions = []
    for name, what in (("engine", "Engines"), ("matrix_library", "Matrix libraries")):
        labels = _labels_by(name, rows)
        if len(labels) > 1:
            cautions.append(f"{what} differ: {_listed(labels)}.")
    stacks = _labels_by("stack", rows)
    if stacks.keys() - {"1", NOT_RECORDED}:
        cautions.append(f"Steps/s are those of all seeds that were trained together: {_listed(stacks)}.")
    return cautions


def _labels_by(name: str, rows: list[Row]) -> dict[str, list[str]]:
    """The rows that have each value of a field of their provenance."""
    labels: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for value in row.provenance.get(name, ()):
            labels[value].append(row.label)
    return labels


def _listed(labels: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(members)})" for value, members in sorted(labels.items()))


def _provenance(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The distinct values of every field, as text, so that runs of one origin give lists of one."""
    fields = ("commit", "versions", "machine", "threads", "device", "command", "engine", "matrix_library", "stack", "started")
    values = {name: sorted({_as_text(record.get(name, NOT_RECORDED)) for record in records}) for name in fields}
    # The runs of a stack share their time.
    seconds = sum(record.get("wall_seconds", 0.0) / record.get("stack", 1) for record in records)
    # Runs that are pooled never differ in these.
    return {**values, "hours": round(seconds / 3600, 3), "hyperparameters": records[0]["spec"]["hyperparameters"]}


def _steps_per_second(record: dict[str, Any]) -> float:
    """Of the run, or of its whole stack; a record that says nothing of stacks is of a run alone."""
    return record.get("steps_per_second", record["timesteps"] / record["train_seconds"])


def _overshoot(records: list[dict[str, Any]]) -> int:
    taken = max(record["timesteps"] for record in records)
    return taken if taken > 1.01 * records[0]["spec"]["steps"] else 0


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in sorted(value.items()))
    return str(value)


def _last_line(error: str) -> str:
    return error.strip().splitlines()[-1]
