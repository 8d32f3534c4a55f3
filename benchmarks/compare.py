"""Runs beside runs: is the candidate worse than the base, beyond a threshold that was set before?"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.protocol import PROTOCOLS
from benchmarks.published import open_runs
from benchmarks.records import SCHEMA, choose_environments
from benchmarks.report import Leaderboard, build_leaderboards, show_problems
from benchmarks.report.cautions import cautions_on
from benchmarks.report.leaderboard import Row
from benchmarks.report.show import show_notes, show_table
from benchmarks.report.words import in_markdown, markdown_table, number, of_others, share, title_of, with_interval
from benchmarks.report.write import estimate_as_json
from benchmarks.statistics import Estimate, iqm_difference, probability_of_improvement
from benchmarks.store import check_folder, replace_text
from sb3_entropic.errors import UserError, nearest

THRESHOLD: float = PROTOCOLS["comparison"]["regression_beyond"]
BELOW_BY_CHANCE = {2: 0.17, 3: 0.09, 5: 0.03, 10: 0.02}
"""By seeds, how often the interval of the difference lies below zero between samples of one normal distribution
(``benchmarks.calibration``)."""
COLUMNS = ("algorithm", "base", "candidate", "difference, 95 %", "P(better), 95 %", "n")
REGRESSION, IMPROVEMENT, UNDECIDED = "regression", "improvement", "undecided"


@dataclass(frozen=True, eq=False)
class Side:
    """What is compared.

    :param folder: of runs
    :param label: the one algorithm that is meant; ``None`` for all
    :param boards: the tables of the folder
    :param problems: sentences about runs that could not be used
    """

    folder: Path
    label: str | None
    boards: tuple[Leaderboard, ...]
    problems: tuple[str, ...]

    @property
    def labels(self) -> set[str]:
        """Every algorithm there is, with the hyperparameters that were overridden, and with and without its version."""
        return {text for board in self.boards for row in board.rows for text in (row.label, row.name)}


@dataclass(frozen=True, eq=False)
class Comparison:
    """An algorithm of the base and one of the candidate, in the same environment after the same number of steps.

    :param board: the base's table
    :param base: its row there
    :param candidate: the row of the candidate's table
    :param difference: IQM of the candidate less the base's, in returns; ``None`` where one of them has no finished run
    :param improvement: the probability that a run of the candidate scores above one of the base; ``None`` as above
    :param margin: the threshold in returns
    """

    board: Leaderboard
    base: Row
    candidate: Row
    difference: Estimate | None
    improvement: Estimate | None
    margin: float

    @property
    def title(self) -> str:
        """Whose difference it is."""
        same = self.base.label == self.candidate.label
        return self.base.label if same else f"{self.candidate.label} for {self.base.label}"

    @property
    def verdict(self) -> str:
        """``"regression"``, ``"improvement"`` or ``"undecided"``."""
        if self.lost_runs:
            return REGRESSION
        if self.difference is None:
            return UNDECIDED
        # A seed each has no interval, and comparisons with nan are false.
        below, above = self.difference.high < -self.margin, self.difference.low > self.margin
        return REGRESSION if below else IMPROVEMENT if above else UNDECIDED

    @property
    def lost_runs(self) -> bool:
        """Whether a larger share of the candidate's runs failed."""
        return _failed_share(self.candidate) > _failed_share(self.base)

    @property
    def reason(self) -> str:
        """The verdict in a sentence."""
        where = f"{self.title} on {self.board.env} after {self.board.steps:,} steps"
        if self.lost_runs:
            runs = self.candidate.failures + len(self.candidate.scores)
            return f"{where}: {self.candidate.failures} of {runs} runs failed, and of the base {self.base.failures}."
        side = "below -" if self.verdict == REGRESSION else "above "
        return f"{where}: the interval of the difference lies wholly {side}{number(self.margin)}."


def compare(
    base: str, candidate: str, threshold: float, envs: Collection[str] | None, out: Path | None, console: Console
) -> int:
    """Compare two sets of runs, print what differs, and tell a gate.

    :param base: a folder of runs, or ``FOLDER:LABEL`` for one algorithm of it
    :param candidate: likewise
    :param threshold: what is no regression yet, as a share of the way from a random policy to the reference, or of the
        base's IQM where the environment has no reference
    :param envs: ids of the environments to compare, or names without a version for every one; all by default
    :param out: folder for ``comparison.md`` and ``comparison.json``; nothing is written by default
    :param console: where to print
    :return: 1 for a regression, or a file of the candidate's that cannot be used; else 0
    :raises UserError: where there is nothing to compare
    """
    if out is not None:
        check_folder(out, "comparison")
    sides = _read(base, candidate)
    if envs is not None:
        envs = choose_environments(envs, {board.env for side in sides for board in side.boards}, f"{base} and {candidate}")
    comparisons, unmatched = match(*sides, threshold, envs)
    problems = [*sides[0].problems, *sides[1].problems]
    notes = _notes(comparisons, unmatched, threshold)
    if not comparisons:
        show_problems(problems, console)
        raise UserError(f"{base} and {candidate} have nothing in common to compare. {' '.join(unmatched)}".strip())
    for board, members in _by_board(comparisons):
        show_table(title_of(board), COLUMNS, [_cells(c) for c in members], console, [_style(c) for c in members])
    show_notes(notes, console)
    show_problems(problems, console)
    for style, verdict in (("green", IMPROVEMENT), ("bold red", REGRESSION)):
        show_notes((f"{verdict}: {c.reason}" for c in comparisons if c.verdict == verdict), console, style)
    if out is not None:
        written = _write(out, base, candidate, threshold, comparisons, [*notes, *(f"left out: {p}" for p in problems)])
        console.print(f"Written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True, markup=False)
    return int(bool(sides[1].problems) or any(c.verdict == REGRESSION for c in comparisons))


def match(
    base: Side, candidate: Side, threshold: float, envs: Collection[str] | None = None
) -> tuple[list[Comparison], list[str]]:
    """Every algorithm of the base beside the candidate's of the same label, or the two that were named.

    :param base: what to compare with
    :param candidate: what to compare
    :param threshold: see :func:`compare`
    :param envs: ids of the environments to compare; all by default
    :return: the comparisons, and a sentence for what only one side has
    """
    rows = [_rows(side, envs) for side in (base, candidate)]
    comparisons = [
        _comparison(board, row, rows[1][key][1], threshold) for key, (board, row) in rows[0].items() if key in rows[1]
    ]
    there = [{key: _place_of(board) for key, (board, _) in side.items()} for side in rows]
    unmatched = []
    for name, ours, theirs in (("base", *there), ("candidate", *there[::-1])):
        alone: dict[str, list[str]] = defaultdict(list)
        for key in ours.keys() - theirs.keys():
            alone[ours[key]].append(key[-1] or str(base.label if name == "base" else candidate.label))
        if alone:
            listed = "; ".join(f"{where} ({', '.join(sorted(labels))})" for where, labels in sorted(alone.items()))
            unmatched.append(f"Only the {name} has {listed}.")
    for name, side, chosen in (("base", base, rows[0]), ("candidate", candidate, rows[1])):
        meant = [row.label for _, row in chosen.values() if row.label not in (row.name, side.label)]
        if meant:
            listed = ", ".join(dict.fromkeys(meant))
            unmatched.append(f"Of several versions in the {name} the one run last is meant: {listed}.")
    return comparisons, unmatched


def _read(*texts: str) -> tuple[Side, Side]:
    places = [_place(text) for text in texts]
    itself = UserError(
        f"{texts[0]} cannot be compared with itself: name two folders, or algorithms of one as in runs:dqn runs:mdqn."
    )
    if places[0] == places[1]:
        raise itself
    labels = [label for _, label in places if label is not None]
    sides = []
    for folder, label in places:
        problems: list[str] = []
        boards = build_leaderboards(open_runs(folder), problems, pairs=[], as_run=True)
        if not boards:
            raise UserError(" ".join([f"There are no runs in {folder}.", *problems]))
        # A label that one side names is meant of the other, too.
        wanted = label if label is not None or not labels else labels[0]
        sides.append(Side(folder, wanted, tuple(boards), tuple(problems)))
        if wanted is not None and wanted not in sides[-1].labels:
            there = sides[-1].labels
            raise UserError(f"There is no {wanted} in {folder}, only {', '.join(sorted(there))}{nearest(wanted, there)}")
    if (sides[0].folder, sides[0].label) == (sides[1].folder, sides[1].label):
        raise itself
    return sides[0], sides[1]


def _place(text: str) -> tuple[Path, str | None]:
    """``FOLDER`` or ``FOLDER:LABEL``."""
    folder, _, label = (text, "", "") if Path(text).is_dir() else text.partition(":")
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder: name a folder of runs, or one algorithm of it as in runs:mdqn.")
    return Path(folder), label or None


def _place_of(board: Leaderboard) -> str:
    return f"{board.env} after {board.steps:,} steps{of_others(board)}"


def _rows(side: Side, envs: Collection[str] | None) -> dict[tuple[str, int, int, int, str], tuple[Leaderboard, Row]]:
    """By environment, steps, the episodes and name; of a side with a single label that one has no name.

    Of several versions of an algorithm the one that was run last is meant.
    """
    found = [
        ((board.env, board.steps, board.episodes, board.evaluation_seed, "" if side.label else row.name), (board, row))
        for board in side.boards
        for row in board.rows
        if (envs is None or board.env in envs) and side.label in (None, row.label, row.name)
    ]
    return dict(sorted(found, key=lambda item: item[1][1].last_started))


def _comparison(board: Leaderboard, base: Row, candidate: Row, threshold: float) -> Comparison:
    if not base.scores or not candidate.scores:
        return Comparison(board, base, candidate, None, None, math.nan)
    before, after = {board.env: base.scores}, {board.env: candidate.scores}
    unit = board.scale.reference - board.scale.random if board.scale else base.summary.iqm.value
    return Comparison(
        board,
        base,
        candidate,
        iqm_difference(after, before),
        probability_of_improvement(after, before),
        threshold * abs(unit),
    )


def _failed_share(row: Row) -> float:
    return row.failures / (row.failures + len(row.scores))


def _by_board(comparisons: list[Comparison]) -> list[tuple[Leaderboard, list[Comparison]]]:
    boards = list(dict.fromkeys(c.board for c in comparisons))
    return [(board, [c for c in comparisons if c.board is board]) for board in boards]


def _cells(comparison: Comparison) -> list[str]:
    rows = (comparison.base, comparison.candidate)
    iqms = ["-" if row.summary is None else number(row.summary.iqm.value) for row in rows]
    estimates = ((comparison.difference, number), (comparison.improvement, share))
    in_words = ["-" if estimate is None else with_interval(estimate, as_text) for estimate, as_text in estimates]
    return [comparison.title, *iqms, *in_words, ", ".join(str(len(row.scores)) for row in rows)]


def _style(comparison: Comparison) -> str | None:
    return {REGRESSION: "red", IMPROVEMENT: "green"}.get(comparison.verdict)


def _notes(comparisons: list[Comparison], unmatched: list[str], threshold: float) -> list[str]:
    notes = [
        "Interquartile means over seeds; the difference is the candidate's less the base's. A regression is one whose whole "
        f"interval lies below minus {threshold:g} of the way from a random policy to the reference of "
        "benchmarks/normalisation.csv, or of the base's IQM where there is none."
    ]
    rates = ", ".join(f"{100 * rate:.0f} % with {seeds}" for seeds, rate in BELOW_BY_CHANCE.items())
    measured = sum(c.difference is not None and not math.isnan(c.difference.low) for c in comparisons)
    if measured:
        notes.append(
            f"{measured} comparison{'s' * (measured > 1)} with an interval. Of equals it lies below zero by chance in {rates} "
            "seeds of each."
        )
    if measured < len(comparisons):
        notes.append("A comparison of one run with one has no interval, so nothing is said of it unless runs failed.")
    pairs = [[replace(c.base, label="base"), replace(c.candidate, label="candidate")] for c in comparisons]
    return [*notes, *dict.fromkeys(caution for pair in pairs for caution in cautions_on(pair)), *unmatched]


def _write(
    out: Path, base: str, candidate: str, threshold: float, comparisons: list[Comparison], notes: list[str]
) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    decided = [c for c in comparisons if c.verdict != UNDECIDED]
    lines = [f"**{c.verdict}**: {in_markdown(c.reason)}" for c in sorted(decided, key=lambda c: c.verdict, reverse=True)]
    lines = lines or ["Neither a regression nor an improvement."]
    for board, members in _by_board(comparisons):
        rows = [[*_cells(c), c.verdict] for c in members]
        lines += [f"## {title_of(board)}", "\n".join(markdown_table([*COLUMNS, "verdict"], rows))]
    markdown, data = out / "comparison.md", out / "comparison.json"
    replace_text(markdown, "\n\n".join([*lines, "\n".join(f"- {in_markdown(note)}" for note in notes)]) + "\n")
    content = {
        "schema": SCHEMA,
        "base": base,
        "candidate": candidate,
        "threshold": threshold,
        "comparisons": [_as_json(comparison) for comparison in comparisons],
        "notes": notes,
    }
    replace_text(data, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return [markdown, data]


def _as_json(comparison: Comparison) -> dict[str, Any]:
    estimates = {"difference": comparison.difference, "improvement": comparison.improvement}
    return {
        "env": comparison.board.env,
        "steps": comparison.board.steps,
        "episodes": comparison.board.episodes,
        "evaluation_seed": comparison.board.evaluation_seed,
        "base": {"algorithm": comparison.base.label, "scores": list(comparison.base.scores)},
        "candidate": {"algorithm": comparison.candidate.label, "scores": list(comparison.candidate.scores)},
        **{name: estimate_as_json(estimate) for name, estimate in estimates.items()},
        "margin": None if math.isnan(comparison.margin) else comparison.margin,
        "verdict": comparison.verdict,
    }
