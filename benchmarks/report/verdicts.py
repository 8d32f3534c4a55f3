"""Does it help? Every algorithm beside its parent, over everything that is published."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report.cautions import FEW_SEEDS
from benchmarks.report.figures import thousands
from benchmarks.report.grids import Grid
from benchmarks.report.leaderboard import Leaderboard, Pair
from benchmarks.report.words import interval, number
from benchmarks.report.write import markdown_table
from benchmarks.statistics import Estimate
from benchmarks.store import replace_text
from sb3_entropic.catalog import ALGORITHMS, STAND_INS
from sb3_entropic.engine.gemm import ROUNDED
from sb3_entropic.errors import UserError

COLUMNS = ("algorithm", "its parent", "better", "worse", "one cannot say")
STAND_IN, ROUNDED_INPUTS = "*", "†"
BEGIN, END = "<!-- begin: does it help -->", "<!-- end: does it help -->"
FALSE_CALLS = {5: 0.09, 10: 0.06}
"""By seeds of each, how often the interval excludes one half between samples of one normal distribution: 600 and 300 draws.
With 3 seeds it is 17 %, with 2 seeds 31 %: nothing is called then."""


@dataclass(frozen=True)
class Verdict:
    """An algorithm beside its parent on one environment, or on several together, both with nothing overridden.

    :param algo: the algorithm's short name
    :param parent: its parent's
    :param stand_in: whether it is beside its parent's losses in our training loop, and not SB3's own
    :param rounded: whether the inputs of matrix products were rounded in runs of either
    :param where: the environment and the steps
    :param improvement: the probability that a run of the algorithm scores above one of its parent
    :param seeds: of each in one environment, the fewest
    :param grid: the name of the folder of runs
    :param baseline: the label there of the runs that it is beside
    :param together: whether it is on several environments together
    """

    algo: str
    parent: str
    where: str
    improvement: Estimate
    seeds: int
    grid: str
    baseline: str
    together: bool = False
    stand_in: bool = False
    rounded: bool = False

    @property
    def column(self) -> str:
        """``better`` or ``worse``, where 5 seeds or more exclude one half, else ``one cannot say``."""
        if self.seeds < FEW_SEEDS or not self.improvement.excludes(0.5):
            return COLUMNS[4]
        return COLUMNS[2] if self.improvement.value > 0.5 else COLUMNS[3]

    @property
    def text(self) -> str:
        """In a table's cell."""
        mark = STAND_IN * self.stand_in + ROUNDED_INPUTS * self.rounded
        few = f", {self.seeds} seed{'s' * (self.seeds != 1)}" if self.seeds < FEW_SEEDS else ""
        between = "" if self.column == COLUMNS[4] else f" {interval(self.improvement)}"
        return f"{self.where}{mark}{few}: {number(self.improvement.value)}{between}"


def find_verdicts(grids: Iterable[Grid]) -> list[Verdict]:
    """Every pair of an algorithm and its parent that one of the tables compares, in the catalogue's order.

    Of several in the same place those with the most seeds count, and of these the ones with SB3's own parent.

    :param grids: what was made of the folders of runs
    """
    verdicts: list[Verdict] = []
    variants: dict[str, str] = {}
    for grid in grids:
        for board in grid.boards:
            seeds = {row.label: len(row.scores) for row in board.rows}
            variants |= {row.label: row.variant for row in board.rows}
            where = f"{board.env} ({thousands(board.steps, None)})"
            verdicts += _verdicts(board.pairs, where, seeds, grid.name, [board])
        together: dict[tuple[str, str], Verdict] = {}
        # The first has the most environments.
        for table in grid.tables:
            seeds = {row.label: min(map(len, row.scores.values())) for row in table.rows}
            where = f"{len(table.boards)} environments together ({grid.name})"
            for verdict in _verdicts(table.pairs, where, seeds, grid.name, table.boards):
                together.setdefault((verdict.algo, verdict.parent), replace(verdict, together=True))
        verdicts += together.values()
    order = {name: place for place, name in enumerate(ALGORITHMS)}
    places: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for v in verdicts:
        algo, label = variants[v.algo], variants[v.parent]
        parent = STAND_INS.get(label, label)
        if algo in order and parent == ALGORITHMS[algo].parent:
            places[algo, v.where].append(replace(v, algo=algo, parent=parent, stand_in=label != parent))
    found = []
    for members in places.values():
        best = max((v.seeds, not v.stand_in) for v in members)
        members = [v for v in members if (v.seeds, not v.stand_in) == best]
        several = len({v.grid for v in members}) > 1
        found += [replace(v, where=f"{v.where} ({v.grid})") if several else v for v in members]
    return sorted(found, key=lambda v: order[v.algo])


def _verdicts(
    pairs: Iterable[Pair], where: str, seeds: dict[str, int], grid: str, boards: Iterable[Leaderboard]
) -> list[Verdict]:
    used = {(row.label, name) for board in boards for row in board.ranked for name in row.provenance["matrix_library"]}
    rounded = {label for label, name in used if name in ROUNDED.values()}
    return [
        Verdict(
            algo=pair.x,
            parent=pair.y,
            where=where,
            improvement=pair.improvement,
            seeds=min(seeds[pair.x], seeds[pair.y]),
            grid=grid,
            baseline=pair.y,
            rounded=not rounded.isdisjoint((pair.x, pair.y)),
        )
        for pair in pairs
    ]


def cells_of_verdicts(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """The rows of a table with ``COLUMNS``, an algorithm each."""
    by_algo: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_algo[verdict.algo, verdict.parent].append(verdict)
    return [
        [*names, *("; ".join(v.text for v in members if v.column == column) or "–" for column in COLUMNS[2:])]
        for names, members in by_algo.items()
    ]


def notes_on_verdicts(verdicts: Sequence[Verdict]) -> str:
    """What a reader must know of the table of them: :func:`chance`, and what its marks mean."""
    notes = [chance(verdicts)]
    if any(verdict.stand_in for verdict in verdicts):
        notes.append(f"{STAND_IN}: beside the parent's losses in our training loop.")
    if any(verdict.rounded for verdict in verdicts):
        notes.append(f"{ROUNDED_INPUTS}: matrix products of inputs rounded to 16 bits or TF32, not SB3's 32 bits.")
    return " ".join(notes)


def chance(verdicts: Iterable[Verdict]) -> str:
    """How many comparisons are called better or worse, how many of equals would be, and which of them hang together."""
    # What is said of several environments together repeats what is said of each.
    verdicts = [verdict for verdict in verdicts if verdict.seeds >= FEW_SEEDS and not verdict.together]
    called = [verdict for verdict in verdicts if verdict.column != COLUMNS[4]]
    columns = Counter(verdict.column for verdict in called)
    shared = Counter((verdict.column, verdict.where, verdict.grid, verdict.baseline) for verdict in called)
    expected = sum(FALSE_CALLS[min(FALSE_CALLS, key=lambda seeds: abs(seeds - verdict.seeds))] for verdict in verdicts)
    rates = " and ".join(f"{100 * rate:.0f} % with {seeds} seeds" for seeds, rate in FALSE_CALLS.items())
    sentences = [
        f"{len(called)} of {len(verdicts)} comparisons on one environment {'is' if len(called) == 1 else 'are'} called, "
        f"{columns[COLUMNS[2]]} better and {columns[COLUMNS[3]]} worse.",
        f"Between equals so small a bootstrap's interval excludes one half in {rates}, so if no algorithm differed from its "
        f"parent about {expected:.0f} would be called, half of them each way: a single call is weak evidence.",
    ]
    sentences += [
        f"{count} of the {columns[column]} {column} are of {where}, against the same runs of one baseline."
        for (column, where, *_), count in shared.items()
        if count > 1
    ]
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
    table = "\n".join([*markdown_table(COLUMNS, cells_of_verdicts(verdicts), numbers=False), "", notes_on_verdicts(verdicts)])
    replace_text(readme, f"{before}{BEGIN}\n{table}\n{END}{after}")
    return True
