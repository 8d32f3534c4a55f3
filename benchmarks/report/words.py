"""Numbers, titles and rows of the tables in words, for the terminal and for Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from benchmarks.protocol import PROTOCOLS
from benchmarks.report.across import ENOUGH, Across, AcrossRow
from benchmarks.report.cautions import FEW_SEEDS, false_calls
from benchmarks.report.leaderboard import Beside, Leaderboard, Pair, Row
from benchmarks.statistics import REPETITIONS, Estimate
from sb3_entropic.catalog import STAND_INS

DEFINITIONS = (
    "A run's score is its mean return over the seeded episodes of its last evaluation, with the deterministic policy. An "
    "algorithm's is the interquartile mean (IQM) of its runs', the mean of their middle half; of fewer than "
    f"{ENOUGH} environments together it is the mean over them, in which each weighs the same. The interval holds 95 % of the "
    f"scores of {REPETITIONS:,} bootstrap resamples of the seeds; where intervals overlap much, the order says little. A "
    "normalised return is 0 for a random policy and 1 for a published score, and norm. is the IQM of these. The median is of "
    "the runs on one environment, and of the means of several. Late is the IQM of the runs' means over the last quarter of "
    "their evaluations: a last one is partly luck, where runs come and go. It is shown beside, and decides nothing."
)
MANY_PAIRS = 10
FIRST_SEED: int = PROTOCOLS["evaluation"]["first_seed"]
COLUMNS = ("algorithm", "IQM", "95 % interval", "norm.", "mean", "late", "n", "steps/s", "failed")
LITERATURE_COLUMNS = ("published elsewhere", "score", "ours", "differs from ours in", "source")


def number(value: float) -> str:
    """About four digits: a return's spread over seeds makes more of them noise."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def few(row: Row | AcrossRow) -> str:
    """Such as ``< 5``, where the runs are too few to call anything; empty where they are not."""
    seeds = [len(scores) for scores in row.scores.values()] if isinstance(row, AcrossRow) else [len(row.scores)]
    return f"< {FEW_SEEDS}" + " each" * (len(seeds) > 1) if min(seeds) < FEW_SEEDS else ""


def losses(label: str) -> str:
    """Such as ``SAC's losses``, of a label that stands for a baseline in our training loop; else empty."""
    # Versions of one setting are told apart in brackets behind it.
    parent = STAND_INS.get(label.partition(" (")[0], "")
    return f"{parent.upper()}'s losses" if parent else ""


def with_losses(label: str) -> str:
    """A label with its :func:`losses`, if it has some."""
    return f"{label} ({losses(label)})" if losses(label) else label


def words_on_calls(board: Leaderboard) -> str:
    """What is marked in a matrix of a table's pairs, and how many of them would be if no algorithm differed from another."""
    pairs, expected = board.calls_of_equals
    # Of fewer about none would.
    many = f", so of these {pairs} pairs in about {expected:.0f}" if pairs >= MANY_PAIRS else ""
    return f"the interval excludes one half, as it does between equals in {false_calls()}{many}"


def thousands(steps: float, _: object = None) -> str:
    """Environment steps in short, such as ``20k``; in the signature of matplotlib's formatters."""
    if steps >= 1e6:
        return f"{steps / 1e6:g}M"
    return f"{steps / 1e3:g}k" if steps >= 1000 else f"{steps:g}"


def share(value: float) -> str:
    """An end of a probability's interval, of which it must be seen on which side of one half it lies: such as ``0.505``."""
    digits = 2
    while digits < 4 and value != 0.5 and float(f"{value:.{digits}f}") == 0.5:
        digits += 1
    return f"{value:.{digits}f}"


def ends(estimate: Estimate) -> str:
    """Of the interval of a probability, such as ``0.08–0.84``; empty if it has none."""
    return "" if math.isnan(estimate.low) else f"{share(estimate.low)}–{share(estimate.high)}"


def interval(estimate: Estimate, as_text: Callable[[float], str] = number) -> str:
    """Such as ``[0.08, 0.84]``, or a dash."""
    return "-" if math.isnan(estimate.low) else f"[{as_text(estimate.low)}, {as_text(estimate.high)}]"


def with_interval(estimate: Estimate, as_text: Callable[[float], str] = number) -> str:
    """Such as ``0.44 [0.08, 0.84]``, or the number alone if it has none."""
    return number(estimate.value) + ("" if math.isnan(estimate.low) else f" {interval(estimate, as_text)}")


def short_commit(commit: str) -> str:
    """Its first ten digits, and whether files differed from it."""
    return re.sub(r"^([0-9a-f]{10})[0-9a-f]+", r"\1", commit)


def title_of(board: Leaderboard) -> str:
    """The heading of a table."""
    return f"{board.env} after {board.steps:,} steps, return of {board.episodes} seeded episodes{of_others(board)}"


def of_others(board: Leaderboard) -> str:
    """Such as ``" from seed 5 on"``, of a table whose episodes are not the protocol's; else empty."""
    return "" if board.evaluation_seed == FIRST_SEED else f" from seed {board.evaluation_seed} on"


def title_across(across: Across) -> str:
    """The heading of a table over several environments."""
    return f"{len(across.boards)} environments, normalised return"


def columns_of(board: Leaderboard) -> list[str]:
    """The headings of a table's columns: of normalised scores where there is a scale, of failures where there are some."""
    shown = {"norm.": board.scale is not None, "failed": any(row.failures for row in board.rows)}
    return [name for name in COLUMNS if shown.get(name, True)]


def cells_of(board: Leaderboard, row: Row) -> list[str]:
    """A row of a table, by :func:`columns_of`."""
    s = row.summary
    cells = dict.fromkeys(COLUMNS, "-") | {"algorithm": row.label, "n": _count(row), "failed": str(row.failures)}
    if s is not None:
        values = {"IQM": s.iqm, "mean": s.mean, "late": row.last_quarter}
        values |= {"norm.": row.normalised.iqm} if board.scale else {}
        cells |= {name: number(estimate.value) for name, estimate in values.items()}
        cells |= {"95 % interval": interval(s.iqm), "steps/s": f"{row.steps_per_second:,.0f}"}
    return [cells[name] for name in columns_of(board)]


def _count(row: Row | AcrossRow) -> str:
    """So many runs, and whether these are too few; of none it is seen."""
    n = row.summary.n if row.summary else 0
    return f"{n} ({few(row)})" if n and few(row) else str(n)


def columns_across(across: Across) -> list[str]:
    """The headings of a table over several environments: what ranks it, with an interval, and the rest."""
    # Of two means the median is the mean.
    others = ("IQM", "median", "mean") if len(across.boards) > 2 else ("IQM", "mean")
    rest = [name for name in others if name != across.ranked_by]
    return ["algorithm", across.ranked_by, "95 % interval", *rest, "gap", "n"]


def cells_across(across: Across, row: AcrossRow) -> list[str]:
    """A row of a table over several environments, by :func:`columns_across`."""
    s = row.summary
    values = {"IQM": s.iqm, "median": s.median, "mean": s.mean, "gap": s.optimality_gap}
    cells = {name: number(estimate.value) for name, estimate in values.items()}
    cells |= {"algorithm": row.label, "95 % interval": interval(row.score), "n": _count(row)}
    return [cells[name] for name in columns_across(across)]


def cells_beside(beside: Beside) -> list[str]:
    """A row of the table of published scores, by ``LITERATURE_COLUMNS``."""
    score, row, differences = beside
    spread = f" ({score.spread_kind}: {score.spread})" if score.spread else ""
    ours = with_interval(row.summary.iqm) if row else "-"
    return [
        score.algorithm,
        number(score.score) + spread,
        ours,
        "; ".join(differences) or ("nothing named" if row else "-"),
        score.source,
    ]


def notes_on(board: Leaderboard) -> list[str]:
    """The sentences below a table, but for its failures."""
    scale = [f"norm. is the IQM of returns normalised so that {board.scale.title}."] if board.scale else []
    return [*_improvements(board.pairs, board.improvements.values()), *scale, *board.cautions]


def notes_across(across: Across, gap: bool = True) -> list[str]:
    """The sentences below a table over several environments.

    :param across: the table
    :param gap: whether it has that column
    """
    listed = ", ".join(f"{board.env} ({board.steps:,} steps)" for board in across.boards)
    share = {2: "half of an", 3: "three quarters of an"}.get(len(across.boards), "a whole")
    shortfall = "The gap is by how much runs fall short of 1 on average, those above it counting as 1."
    few = f", each of which can be {share} environment" if across.ranked_by == "mean" else ""
    return [
        f"Over {listed}, which weigh the same in the mean.",
        f"The IQM is of the runs of all environments pooled, without their lowest and their highest quarter{few}.",
        *[shortfall] * gap,
        *_improvements(across.pairs, [pair.improvement for pair in across.pairs]),
        *across.cautions,
    ]


def without_width(estimates: Iterable[Estimate]) -> list[str]:
    """What an interval of a probability that is a point means, if one of them is."""
    points = {estimate.value for estimate in estimates if estimate.low == estimate.high == estimate.value}
    sentences = []
    if points & {0.0, 1.0}:
        sentences.append(
            "An interval that is a point says that every run of the one is above every run of the other: no certainty, since "
            "of equals two and two lie so in one of 3 comparisons, and five and five in one of 126."
        )
    if 0.5 in points:
        sentences.append("0.50 [0.50, 0.50] says that all runs of both have the same score.")
    return sentences


def with_late(improvement: Estimate, last_quarter: Estimate | None) -> str:
    """Such as ``0.88 [0.60, 1.00], late 0.52 [0.16, 0.92]``, of a :class:`Pair`."""
    late = "" if last_quarter is None else f", late {with_interval(last_quarter, share)}"
    return with_interval(improvement, share) + late


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> list[str]:
    """The lines of a table in Markdown.

    :param columns: headings
    :param rows: the cells of each row
    :param numbers: whether the columns but the first are numbers, and go to the right
    """
    lines = ["| " + " | ".join(columns) + " |", "|---|" + ("---:|" if numbers else "---|") * (len(columns) - 1)]
    return lines + ["| " + " | ".join(in_markdown(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]


def in_markdown(text: str) -> str:
    """Other people's text in a line of Markdown: no HTML, no picture or link in it, and no line of its own.

    :param text: a label, a version or a sentence that has some in it
    """
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.splitlines())).replace("](", "]\\(")


def as_code(text: str) -> str:
    """A line of code in Markdown, whatever is in it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _improvements(pairs: Sequence[Pair], every: Iterable[Estimate]) -> list[str]:
    """How often a run of the one is above one of the other, and what an interval without width means.

    :param pairs: to list
    :param every: probabilities that are shown
    """
    listed = "; ".join(f"{pair.x} over {pair.y} {with_late(pair.improvement, pair.last_quarter)}" for pair in pairs)
    some = any(not math.isnan(pair.improvement.low) for pair in pairs)
    what = f"Probability of improvement{', with its 95 % interval' if some else ''}"
    return [f"{what}: {listed}."] * bool(pairs) + without_width(every)
