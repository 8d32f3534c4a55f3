"""The data of a report: a table for every environment and number of steps, from the records of the runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics import Aggregate, aggregate
from benchmarks.store import Store

FEW_SEEDS = 5


@dataclass(frozen=True, eq=False)
class Row:
    """One algorithm of a table.

    :param label: the algorithm, with the hyperparameters that were overridden
    :param package: what implements it, with the version
    :param scores: final evaluation return of every seed, in order of the seeds
    :param summary: their aggregate; ``None`` if every run failed
    :param steps_per_second: environment steps per second of training, the median over runs
    :param failures: number of runs that ended in an error
    :param curve: columns ``step``, ``iqm``, ``low``, ``high``
    """

    label: str
    package: str
    scores: tuple[float, ...]
    summary: Aggregate | None
    steps_per_second: float
    failures: int
    curve: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """One table: algorithms on one environment after the same number of steps, the best IQM first.

    :param env: environment id with its version
    :param steps: environment steps
    :param episodes: episodes of an evaluation
    :param rows: the algorithms
    :param cautions: what a reader must know before believing the table, a sentence each
    :param failures: ``(run, last line of the error)`` of every failed run
    """

    env: str
    steps: int
    episodes: int
    rows: tuple[Row, ...]
    cautions: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]


def build_leaderboards(store: Store, only: set[tuple[str, int]] | None = None) -> list[Leaderboard]:
    """A leaderboard for each (environment, steps) pair that has a run.

    :param store: the runs
    :param only: these pairs alone
    """
    tables: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    for record in store.records():
        spec = record["spec"]
        if only is None or (spec["env"], spec["steps"]) in only:
            tables[spec["env"], spec["steps"], spec["episodes"]].append(record)
    return [_leaderboard(store, *key, records) for key, records in sorted(tables.items())]


def _leaderboard(store: Store, env: str, steps: int, episodes: int, records: list[dict[str, Any]]) -> Leaderboard:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        # The folder's name holds the hash of everything but the seed: what differs in it is never pooled.
        groups[record["spec"]["label"], record["path"].rsplit("/", 2)[1]].append(record)
    labels = [label for label, _ in groups]
    rows = []
    for (label, group), members in groups.items():
        shown = label if labels.count(label) == 1 else f"{label} ({group.rpartition('-')[2]})"
        rows.append(_row(store, shown, members))
    rows.sort(key=lambda row: (-row.summary.iqm if row.summary else np.inf, row.label))
    failures = [(f"{r['spec']['label']} seed {r['spec']['seed']}", _last_line(r["error"])) for r in records if "error" in r]
    return Leaderboard(env, steps, episodes, tuple(rows), tuple(_cautions(rows, labels)), tuple(sorted(failures)))


def _row(store: Store, label: str, records: list[dict[str, Any]]) -> Row:
    done = sorted((r for r in records if "error" not in r), key=lambda record: record["spec"]["seed"])
    package, failures = records[0]["spec"]["package"], len(records) - len(done)
    if not done:
        return Row(label, package, (), None, float("nan"), failures, pd.DataFrame(columns=["step", "iqm", "low", "high"]))
    # (seeds, points): the mean return over an evaluation's episodes
    curves = pd.concat([store.evaluations(record) for record in done]).pivot_table(
        index="seed", columns="step", values="return", aggfunc="mean"
    )
    summary, iqm, low, high = aggregate(curves.to_numpy())
    rate = float(np.median([record["timesteps"] / record["train_seconds"] for record in done]))
    curve = pd.DataFrame({"step": curves.columns.to_numpy(), "iqm": iqm, "low": low, "high": high})
    return Row(label, package, tuple(curves.iloc[:, -1].tolist()), summary, rate, failures, curve)


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
    if len(set(labels)) < len(labels):
        cautions.append("An algorithm appears more than once: its rows differ in version, hyperparameters or evaluation.")
    return cautions


def _last_line(error: str) -> str:
    return error.strip().splitlines()[-1]
