"""Does it help? Every algorithm beside its parent, over everything that is published."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.report.across import Across
from benchmarks.report.cautions import FEW_SEEDS, false_call_rate, false_calls
from benchmarks.report.grids import Grid
from benchmarks.report.leaderboard import Leaderboard, Row
from benchmarks.report.words import MANY_PAIRS, markdown_table, number, share, thousands, with_interval, without_width
from benchmarks.statistics import Estimate
from benchmarks.store import replace_text
from sb3_entropic.catalog import ALGORITHMS, STAND_INS
from sb3_entropic.engine.gemm import ROUNDED
from sb3_entropic.errors import UserError
from sb3_entropic.zoo import how_found

UNDECIDED = "one cannot say"
COLUMNS = ("algorithm", "its parent", "better", "worse", UNDECIDED)
STAND_IN, ROUNDED_INPUTS, SEARCHED = "*", "†", "‡"
BEGIN, END = "<!-- begin: does it help -->", "<!-- end: does it help -->"


@dataclass(frozen=True)
class Verdict:
    """An algorithm beside its parent on one environment, or on several together, both with nothing overridden.

    :param algo: the algorithm's short name
    :param parent: its parent's
    :param stand_in: whether it is beside its parent's losses in our training loop, and not SB3's own
    :param rounded: whether the inputs of matrix products were rounded in runs of either
    :param searched: whether the algorithm's hyperparameters were found on the environment, or on one of several
    :param where: the environment and the steps
    :param improvement: the probability that a run of the algorithm scores above one of its parent
    :param seeds: of each in one environment, the fewest
    :param failures: runs of either that failed, of so many
    :param grid: the name of the folder of runs
    :param baseline: the label there of the runs that it is beside
    :param started: the last of the algorithm's runs, and of its parent's
    :param table: what the comparison is from
    :param last_quarter: the same over the last quarter of the evaluations; ``None`` where it is on several environments
    :param together: whether it is on several environments together
    """

    algo: str
    parent: str
    where: str
    improvement: Estimate
    seeds: int
    failures: tuple[int, int]
    grid: str
    baseline: str
    started: tuple[str, str]
    table: Leaderboard | Across = field(repr=False)
    last_quarter: Estimate | None = None
    together: bool = False
    stand_in: bool = False
    rounded: bool = False
    searched: bool = False

    @property
    def column(self) -> str:
        """``better`` or ``worse``, where 5 seeds or more, none of which failed, exclude one half, else ``one cannot say``."""
        if self.seeds < FEW_SEEDS or self.failures[0] or not self.improvement.excludes(0.5):
            return UNDECIDED
        return COLUMNS[2] if self.improvement.value > 0.5 else COLUMNS[3]

    @property
    def mark(self) -> str:
        """What :func:`notes_on_verdicts` explains."""
        return STAND_IN * self.stand_in + ROUNDED_INPUTS * self.rounded + SEARCHED * self.searched

    @property
    def text(self) -> str:
        """In a table's cell."""
        return self.where + self.said

    @property
    def said(self) -> str:
        """What stands behind the place in a table's cell."""
        few = f", {self.seeds} seed{'s' * (self.seeds != 1)}" if self.seeds < FEW_SEEDS else ""
        late = "" if self.last_quarter is None else f", late {share(self.last_quarter.value)}"
        failed = f", {self.failures[0]} of {self.failures[1]} runs failed" if self.failures[0] else ""
        return f"{self.mark}{few}{failed}: {with_interval(self.improvement, share)}{late}"


def find_verdicts(grids: Iterable[Grid]) -> list[Verdict]:
    """Every pair of an algorithm and its parent that one of the tables compares, in the catalogue's order.

    Of several in the same place those with the most seeds count, of these the ones with SB3's own parent, and of a grid's the
    latest.

    :param grids: what was made of the folders of runs
    """
    places: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for grid in grids:
        for board in grid.boards:
            where, rows = f"{board.env} ({thousands(board.steps)})", {row.label: (row,) for row in board.ranked}
            for verdict in _verdicts(board, rows, [board.env], where, grid.name):
                places[verdict.algo, where].append(verdict)
        together: dict[str, list[Verdict]] = {}
        for table in grid.tables:
            where = f"{len(table.boards)} environments together" + f" ({grid.name})" * bool(grid.name)
            rows = {r.label: r.rows for r in table.rows}
            envs = [board.env for board in table.boards]
            verdicts = [replace(v, together=True) for v in _verdicts(table, rows, envs, where, grid.name)]
            # The first has the most environments.
            together = {v.algo: [w for w in verdicts if w.algo == v.algo] for v in verdicts} | together
        for algo, verdicts in together.items():
            places[algo, f"together {grid.name}"] += verdicts
    found = []
    for members in places.values():
        best = max((v.seeds, not v.stand_in) for v in members)
        latest = {v.grid: v for v in sorted(members, key=lambda v: v.started) if (v.seeds, not v.stand_in) == best}
        found += [replace(v, where=f"{v.where} ({v.grid})") if len(latest) > 1 else v for v in latest.values()]
    order = {name: place for place, name in enumerate(ALGORITHMS)}
    return sorted(found, key=lambda v: order[v.algo])


def _verdicts(
    table: Leaderboard | Across, rows: Mapping[str, Sequence[Row]], envs: Sequence[str], where: str, grid: str
) -> Iterator[Verdict]:
    """Those of a table's pairs that are of an algorithm and its parent.

    :param table: what to look at
    :param rows: by label, of its environments
    :param envs: these environments' ids
    """
    for pair in table.pairs:
        both = [*rows[pair.x], *rows[pair.y]]
        algo = _only({row.variant for row in rows[pair.x]})
        parent = _only({STAND_INS.get(row.variant, row.variant) for row in rows[pair.y]})
        if algo in ALGORITHMS and parent == ALGORITHMS[algo].parent:
            failures = sum(row.failures for row in both)
            yield Verdict(
                algo=algo,
                parent=parent,
                where=where,
                improvement=pair.improvement,
                last_quarter=pair.last_quarter,
                seeds=min(len(row.scores) for row in both),
                failures=(failures, failures + sum(len(row.scores) for row in both)),
                grid=grid,
                baseline=pair.y,
                started=tuple(max(row.last_started for row in rows[name]) for name in (pair.x, pair.y)),
                table=table,
                stand_in=any(row.variant != parent for row in rows[pair.y]),
                rounded=any(name in ROUNDED.values() for row in both for name in row.provenance["matrix_library"]),
                searched=any(how_found(algo, env) for env in envs),
            )


def _only(values: Collection[str]) -> str:
    """The only one, or nothing where they differ."""
    return next(iter(values)) if len(values) == 1 else ""


def by_algorithm(verdicts: Iterable[Verdict]) -> dict[tuple[str, str], list[list[Verdict]]]:
    """By algorithm and parent, the verdicts in each of the last three of ``COLUMNS``."""
    by_algo: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_algo[verdict.algo, verdict.parent].append(verdict)
    return {names: [[v for v in of if v.column == column] for column in COLUMNS[2:]] for names, of in by_algo.items()}


def cells_of_verdicts(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """The rows of a table with ``COLUMNS``, an algorithm each."""
    return [
        [*names, *("; ".join(verdict.text for verdict in members) or "–" for members in columns)]
        for names, columns in by_algorithm(verdicts).items()
    ]


def in_short(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """The same, with a count and the range in the place of what one cannot say of single environments."""
    verdicts = list(verdicts)
    rows = cells_of_verdicts(verdicts)
    for row in rows:
        those = [v for v in verdicts if [v.algo, v.parent] == row[:2] and v.column == UNDECIDED and not v.together]
        shares = sorted(v.improvement.value for v in those if not math.isnan(v.improvement.value))
        ends = f": {' to '.join(dict.fromkeys((number(shares[0]), number(shares[-1]))))}" if shares else ""
        failed = sum(v.failures[0] for v in those)
        lost = f" ({failed} runs failed)" if failed else ""
        row[4] = f"{len(those)} comparison{'s' * (len(those) != 1)}{ends}{lost}" if those else "–"
    return rows


def notes_on_verdicts(verdicts: Sequence[Verdict], every: bool = False) -> str:
    """What a reader must know of the table of them: :func:`chance`, and what its marks mean.

    :param verdicts: those of the table
    :param every: whether it shows the interval of every one, or :func:`in_short` only of those that are called
    """
    shown = [verdict for verdict in verdicts if every or verdict.column != UNDECIDED]
    return " ".join([chance(verdicts), *marks(shown), *without_width([verdict.improvement for verdict in shown])])


def marks(verdicts: Collection[Verdict]) -> list[str]:
    """What the marks mean that the verdicts have, a sentence each."""
    notes = []
    if any(verdict.stand_in for verdict in verdicts):
        notes.append(f"{STAND_IN}: beside the parent's losses in our training loop.")
    if any(verdict.rounded for verdict in verdicts):
        notes.append(f"{ROUNDED_INPUTS}: matrix products of inputs rounded to 16 bits or TF32, not SB3's 32 bits.")
    if any(verdict.searched for verdict in verdicts):
        notes.append(f"{SEARCHED}: the algorithm's hyperparameters were found on that task, as its parent's were by the zoo.")
    return notes


def chance(verdicts: Iterable[Verdict]) -> str:
    """How many comparisons are called better or worse, how many of equals would be, and which of them hang together."""
    # What is said of several environments together repeats what is said of each.
    verdicts = [v for v in verdicts if v.seeds >= FEW_SEEDS and not (v.failures[0] or v.together)]
    called = [verdict for verdict in verdicts if verdict.column != UNDECIDED]
    columns = Counter(verdict.column for verdict in called)
    shared = Counter((verdict.column, verdict.where, verdict.grid, verdict.baseline) for verdict in called)
    expected = sum(false_call_rate(verdict.seeds) for verdict in verdicts)
    by_chance = f", so if none differed from its parent about {expected:.0f} would be called, half of them each way"
    by_chance *= len(verdicts) >= MANY_PAIRS
    sentences = [
        f"{len(called)} of {len(verdicts)} comparisons on one environment {'is' if len(called) == 1 else 'are'} called, "
        f"{columns[COLUMNS[2]]} better and {columns[COLUMNS[3]]} worse.",
        f"With so few seeds, the interval excludes one half between equal algorithms in {false_calls()}{by_chance}: a single "
        "call is weak evidence.",
    ]
    sentences += [
        f"{count} of the {columns[column]} {column} are of {where}, against the same runs of one baseline."
        for (column, where, *_), count in shared.items()
        if count > 1
    ]
    late = [v.last_quarter for v in verdicts if v.last_quarter is not None and v.last_quarter.excludes(0.5)]
    better = sum(estimate.value > 0.5 for estimate in late)
    sentences += [
        f"Late, by the last quarter of the evaluations, which decides nothing, {len(late)} would be, {better} better and "
        f"{len(late) - better} worse."
    ] * bool(verdicts)
    return " ".join(sentences)


def write_into(readme: Path, verdicts: Sequence[Verdict]) -> bool:
    """Put the table between the two comments in a text that are there for it.

    :param readme: the text, in Markdown
    :param verdicts: what the table says
    :return: whether the text has that place
    :raises UserError: if it has only one of the comments, or the later one first
    """
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if BEGIN not in text and END not in text:
        return False
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{readme} needs both {BEGIN} and, below it, {END}.")
    table = "\n".join([*markdown_table(COLUMNS, in_short(verdicts), numbers=False), "", notes_on_verdicts(verdicts)])
    replace_text(readme, f"{before}{BEGIN}\n{table}\n{END}{after}")
    return True
