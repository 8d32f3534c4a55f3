"""What a reader must know before believing a comparison, a sentence each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sb3_entropic.catalog import STAND_INS
from sb3_entropic.engine.gemm import ROUNDED
from sb3_entropic.zoo import how_found

if TYPE_CHECKING:
    from benchmarks.report.leaderboard import Row

FEW_SEEDS, ENOUGH_SEEDS, SWEEP = 5, 20, 3
COVERAGE = {5: 0.90, 10: 0.93}
"""By seeds, how often the interval of an IQM holds the true one of a normal distribution (``benchmarks.calibration``)."""
FALSE_CALLS = {5: 0.10, 10: 0.06}
"""By seeds of each, how often the interval excludes one half between samples of one normal distribution, likewise. With 3
seeds it is 20 %, with 2 seeds 34 %: nothing is called then."""
NOT_RECORDED = "not recorded"
_ORIGINS = (("commit", "commits"), ("versions", "package versions"), ("machine", "machines"))


def cautions_on(rows: list[Row], tasks: int = 1) -> list[str]:
    """About the seeds, the failures, the origin, the engines and the losses of what is compared.

    :param rows: all that one table or comparison draws on
    :param tasks: so many rows are pooled in one interquartile mean
    """
    cautions = []
    sizes = {len(row.scores) for row in rows if row.scores}
    few = {row.label: len(row.scores) for row in rows if 0 < len(row.scores) < FEW_SEEDS}
    if few:
        plain = " (with fewer than 4 nothing is trimmed: the IQM is the mean)" if tasks * min(sizes) < 4 else ""
        some = ", ".join(f"{label} has {seeds}" for label, seeds in few.items())
        only = "" if max(sizes) < FEW_SEEDS else f" of some ({some})"
        widths = "the intervals are too narrow" if max(sizes) > 1 else "of one seed there is no interval"
        cautions.append(f"Fewer than {FEW_SEEDS} seeds{only}{plain}: too few to rank algorithms, and {widths}.")
    if any(FEW_SEEDS <= size < ENOUGH_SEEDS for size in sizes):
        rates = " and ".join(f"{100 * rate:.0f} % of those with {seeds} seeds" for seeds, rate in COVERAGE.items())
        cautions.append(
            f"With so few seeds intervals are too narrow: of normal samples, {rates} hold the true score, not 95 %."
        )
    if len(sizes) > 1:
        cautions.append(f"{'The algorithms' if tasks == 1 else 'Algorithms or environments'} have different numbers of seeds.")
    settings = Counter(algo for algo, _ in {(row.algo, row.variant) for row in rows if row.variant not in STAND_INS})
    for algo, number in sorted(settings.items()):
        if number >= SWEEP:
            cautions.append(f"{number} settings of {algo} were tried: the best of them owes something to chance.")
    if any(row.failures for row in rows):
        cautions.append("Some runs failed and are left out of the scores.")
    return cautions + _cautions_on_origin(rows)


def _cautions_on_origin(rows: list[Row]) -> list[str]:
    cautions = []
    for name, what in _ORIGINS:
        if len({value for row in rows for value in row.provenance.get(name, ())}) > 1:
            cautions.append(f"The runs are of different {what}: see the records.")
    for row in rows:
        if len({*row.provenance.get("defaults", ())} - {NOT_RECORDED}) > 1:
            cautions.append(f"The defaults of our arguments changed between the runs of {row.label}: see the records.")
    for name, what in (("engine", "Engines"), ("matrix_library", "Matrix libraries")):
        labels = _labels_by(name, rows)
        if len(labels) > 1:
            cautions.append(f"{what} differ: {listed(labels)}.")
    used = _labels_by("matrix_library", rows)
    for rounded, name in ((ROUNDED["bf16"], "16-bit"), (ROUNDED["tf32"], "TF32")):
        if rounded in used:
            cautions.append(f"Matrix products of {name} inputs, not SB3's 32 bits: {', '.join(used[rounded])}.")
    if "new episode" in _labels_by("resumed", rows):
        cautions.append(
            "Some runs were interrupted and began a new episode when they went on, since their environment cannot be saved: "
            f"{', '.join(_labels_by('resumed', rows)['new episode'])}."
        )
    stand_ins = {row.label: STAND_INS[row.variant] for row in rows if row.variant in STAND_INS}
    return cautions + [f"{label} is {parent}'s losses in our training loop." for label, parent in stand_ins.items()]


def caution_on_episodes(numbers: Collection[int]) -> str:
    """About what every run of a table is scored on.

    :param numbers: of episodes of an evaluation
    """
    episodes = " or ".join(map(str, sorted(numbers)))
    return (
        f"Every run is scored on the same {episodes} seeded episodes, which may be easier or harder than most: intervals do "
        "not say so, and scores of others are of other episodes."
    )


def false_calls() -> str:
    """:data:`FALSE_CALLS` in words."""
    (few, rate), *more = FALSE_CALLS.items()
    return " and ".join([f"{100 * rate:.0f} % of cases with {few} seeds", *(f"{100 * r:.0f} % with {n}" for n, r in more)])


def false_call_rate(seeds: int) -> float:
    """:data:`FALSE_CALLS` of about so many seeds."""
    return FALSE_CALLS[min(FALSE_CALLS, key=lambda known: abs(known - seeds))]


def cautions_on_speed(rows: list[Row]) -> list[str]:
    """About the steps/s and the times of a table's rows."""
    cautions = [
        "Steps/s and times depend on what else a machine was doing: `python -m benchmarks speed` tells what is faster."
    ]
    stacks = _labels_by("stack", rows)
    if stacks.keys() - {"1", NOT_RECORDED}:
        cautions.append(f"Steps/s are those of all seeds that were trained together: {listed(stacks)}.")
    return cautions


def cautions_on_search(rows: list[Row], env: str) -> list[str]:
    """About algorithms whose hyperparameters were found on the very environment.

    :param env: its id
    """
    found = {algo: how_found(algo, env) for algo in sorted({row.algo for row in rows})}
    return [f"{algo}'s hyperparameters were found on this environment: {how}." for algo, how in found.items() if how]


def cautions_on_budgets(shares: dict[str, float]) -> list[str]:
    """About algorithms that have different shares of the steps which their hyperparameters were made for.

    :param shares: by label, of those whose hyperparameters say
    """
    if len(set(shares.values())) < 2:
        return []
    labels: dict[str, list[str]] = defaultdict(list)
    for label, share in sorted(shares.items(), key=lambda entry: entry[1]):
        labels[f"{100 * share:.3g} %"].append(label)
    return [f"Of the steps that its hyperparameters were made for, an algorithm has: {listed(labels)}."]


def _labels_by(name: str, rows: list[Row]) -> dict[str, list[str]]:
    """The rows that have each value of a field of their provenance."""
    labels: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for value in row.provenance.get(name, ()):
            if row.label not in labels[value]:
                labels[value].append(row.label)
    return dict(sorted(labels.items()))


def listed(labels: Mapping[Any, Sequence[str]]) -> str:
    """Such as ``1 (dqn, mdqn); 2 (ppo)``, of labels by what they share."""
    return "; ".join(f"{value} ({', '.join(members)})" for value, members in labels.items())
