"""The figures of a report, and what figures share."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from operator import attrgetter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from benchmarks.report.across import Across, AcrossRow
from benchmarks.report.cautions import FEW_SEEDS
from benchmarks.report.leaderboard import Leaderboard, Row
from benchmarks.report.sensitivity import Sensitivity
from benchmarks.report.verdicts import UNDECIDED, Verdict, marks
from benchmarks.report.words import ends, few, number, thousands, with_losses, words_on_calls

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
COLUMNS = 4
LETTERS, SHORT = 30, 16
"""Of a title in one line above a plot that has others beside it, and of a name that stands above a column."""
MARGIN = 0.06
"""Of the height of a plot, above and below what it shows."""
FAR_APART = 10
"""Where the last takes so many times as long as the first, times are drawn on a logarithmic scale."""
PNG_OPTIONS = {"dpi": 150, "bbox_inches": "tight"}
SVG_OPTIONS = {"bbox_inches": "tight", "metadata": {"Date": None, "Creator": None}}

_MAP = LinearSegmentedColormap.from_list("map", ["#F4EEE2", "#BFDCEE", "#5FA8D6"])
_IMPROVEMENT = LinearSegmentedColormap.from_list("improvement", ["#E9A96F", "#FFFFFF", "#6FAED6"])

TOGETHER = 5
"""So many algorithms are told apart in one plot; more get one each."""


STEPS, SECONDS = "step", "seconds"
UNITS = (("hours", 3600, 2 * 3600), ("minutes", 60, 120), ("seconds", 1, 0))
"""Of time: the name, the seconds, and from how many seconds on it is used."""


def styles(plots: Sequence[Iterable[str]]) -> dict[str, tuple[str, str]]:
    """How each algorithm is drawn, ``(dashes, colour)``: the same in every plot of a report, whatever its rank there.

    Neighbours differ in both, and no two of the first 28 in a plot are the same. In a plot that all share, each has a colour
    of its own as far as there are some: its labels come first, and of the others those with nothing overridden.

    :param plots: the labels of each
    """
    looks = [(DASHES[i % len(DASHES)], COLOURS[i % len(COLOURS)]) for i in range(len(DASHES) * len(COLOURS))]
    plots = [set(labels) for labels in plots]
    shared = [labels for labels in plots if len(labels) <= TOGETHER]
    in_order = sorted(set().union(*plots), key=lambda label: ("[" in label, label))
    found: dict[str, tuple[str, str]] = {}
    for place, label in enumerate(sorted(in_order, key=lambda label: not any(label in labels for labels in shared))):
        beside = {found[other] for labels in plots if label in labels for other in labels & found.keys()}
        colours = {found[other][1] for labels in shared if label in labels for other in labels & found.keys()}
        order = [looks[(place + i) % len(looks)] for i in range(len(looks))]
        free = [look for look in order if look not in beside] or order
        found[label] = next((look for look in free if look[1] not in colours), free[0])
    return {label: found[label] for label in in_order}


def draw_learning_curves(board: Leaderboard, path: Path, along: str = STEPS) -> None:
    """Write :func:`learning_curves`.

    :param board: the table whose curves to draw
    :param path: file to write, PNG or SVG by its name
    :param along: ``"step"`` or ``"seconds"``
    """
    save(learning_curves(board, along), path)


def draw_performance_profiles(across: Across, path: Path) -> None:
    """Write :func:`performance_profiles`.

    :param across: the table whose profiles to draw
    :param path: file to write, PNG or SVG by its name
    """
    save(performance_profiles(across), path)


def draw_returns_profiles(board: Leaderboard, path: Path) -> None:
    """Write the share of runs above each return on one environment, with 95 % bands.

    :param board: the table whose profiles to draw
    :param path: file to write, PNG or SVG by its name
    """
    curves = [
        _Curve(row.label, _runs(row), row.summary.iqm.value, board.profiles[row.label], "threshold", "share", steps=True)
        for row in board.ranked
    ]
    if len(curves) <= TOGETHER:
        figure = _draw_together(curves, [row.label for row in board.rows])
        figure.axes[0].set_ylabel("share of runs above it")
    else:
        figure = _draw_apart(curves, "share of runs above it")
    title = f"{_named(board)}: share of runs above a return, with 95 % bands"
    _finish(figure, title if len(curves) <= TOGETHER else f"{title}; beside the name, the IQM", "return")
    save(figure, path)


def draw_improvements(board: Leaderboard, path: Path) -> None:
    """Write the probability that the row's algorithm improves on the column's, as a matrix with its 95 % intervals.

    :param board: the table whose algorithms to compare
    :param path: file to write, PNG or SVG by its name
    """
    labels = [row.label for row in board.ranked]
    shares = np.full((len(labels), len(labels)), np.nan)
    side = max(3.2, 0.72 * len(labels))
    beside = max(1.6, 0.075 * max(map(len, labels)))
    figure, axes = plt.subplots(figsize=(side + beside, 0.62 * side + 1.2), layout="constrained")
    for (i, x), (j, y) in itertools.permutations(enumerate(labels), 2):
        estimate = board.improvements[x, y]
        shares[i, j] = estimate.value
        _write_cell(axes, j, i, f"{estimate.value:.2f}", ends(estimate), "bold" if board.is_called(x, y) else "normal")
    _colour_shares(axes, shares)
    if all(len(label) <= SHORT for label in labels):
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="left", fontsize=9)
        axes.set_yticks(range(len(labels)), labels, fontsize=9)
    else:
        axes.set_xticks(range(len(labels)), range(1, len(labels) + 1), fontsize=9)
        axes.set_yticks(range(len(labels)), [f"{label}  {i}" for i, label in enumerate(labels, start=1)], fontsize=9)
    title = (
        f"how often a run of the row beats one of the column, with 95 % intervals\nbold: {words_on_calls(board)}\n"
        f"(never with fewer than {FEW_SEEDS} seeds or a failed run)"
    )
    figure.suptitle(f"{_named(board)}: {title}", x=0.01, ha="left", fontsize=9)
    save(figure, path)


def draw_sensitivity(board: Leaderboard, path: Path, sensitivity: Sensitivity) -> None:
    """Write the IQM at every combination of two hyperparameters, as a map with its 95 % intervals.

    :param board: the table that it is of
    :param path: file to write, PNG or SVG by its name
    :param sensitivity: the sweep
    """
    lines, columns, (low, high) = sensitivity.lines, sensitivity.columns, sensitivity.ends
    figure, axes = plt.subplots(figsize=(1.9 + 1.05 * len(columns), 1.4 + 0.62 * len(lines)), layout="constrained")
    values = np.array([[sensitivity.cells[y, x].summary.iqm.value for x in columns] for y in lines])
    image = axes.imshow(values, cmap=_MAP, vmin=low, vmax=high if high > low else low + 1, aspect="auto", origin="lower")
    for (i, y), (j, x) in itertools.product(enumerate(lines), enumerate(columns)):
        estimate = sensitivity.cells[y, x].summary.iqm
        below = "" if math.isnan(estimate.low) else f"{number(estimate.low)} to {number(estimate.high)}"
        _write_cell(axes, j, i, number(estimate.value), below)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(lines)), [f"{value:g}" for value in lines])
    axes.set_xlabel(sensitivity.x)
    axes.set_ylabel(sensitivity.y)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="return, IQM over seeds")
    title = f"{sensitivity.algo} on {board.env} after {board.steps:,} steps, with 95 % intervals"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    save(figure, path)


def draw_verdicts(verdicts: Iterable[Verdict], path: Path) -> None:
    """Write :func:`does_it_help`.

    :param verdicts: to draw, at least one of a single environment
    :param path: file to write, PNG or SVG by its name
    """
    save(does_it_help(verdicts), path)


def does_it_help(verdicts: Iterable[Verdict]) -> Figure:
    """How often a run of each algorithm ends above one of its parent's, environment by environment, as matrices.

    Algorithms that share no environment with the others have a matrix of their own.

    :param verdicts: to draw; those of several environments together are left out
    """
    blocks = _apart([verdict for verdict in verdicts if not verdict.together])
    sizes = [[list(dict.fromkeys(map(key, block))) for key in (_beside_parent, attrgetter("where"))] for block in blocks]
    lines, width = [len(names) for names, _ in sizes], max(len(places) for _, places in sizes)
    figure, grid = plt.subplots(
        len(blocks),
        1,
        figsize=(2.4 + 0.8 * width, 0.9 + sum(1.1 + 0.44 * n for n in lines)),
        height_ratios=lines,
        squeeze=False,
        layout="constrained",
    )
    for axes, block, (names, places) in zip(grid.flat, blocks, sizes, strict=True):
        shares = np.full((len(names), width), np.nan)
        for verdict in block:
            i, j, estimate = names.index(_beside_parent(verdict)), places.index(verdict.where), verdict.improvement
            shares[i, j] = estimate.value
            below = ends(estimate)
            below += f" (n={verdict.seeds})" if verdict.seeds < FEW_SEEDS else ""
            below += "\n{} of {} failed".format(*verdict.failures) if verdict.failures[0] else ""
            weight = "normal" if verdict.column == UNDECIDED else "bold"
            _write_cell(axes, j, i, f"{estimate.value:.2f}{verdict.mark}", below, weight)
        _colour_shares(axes, shares)
        axes.set_xticks(range(len(places)), places, rotation=30, ha="left", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=9)
    title = "how often a run of an algorithm ends above one of its parent's, with 95 % intervals"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    drawn = [verdict for block in blocks for verdict in block]
    notes = [f"bold: the interval excludes one half, of {FEW_SEEDS} seeds or more, none of which failed.", *marks(drawn)]
    figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7.5)
    return figure


def _beside_parent(verdict: Verdict) -> str:
    return f"{verdict.algo} / {verdict.parent}"


def _apart(verdicts: list[Verdict]) -> list[list[Verdict]]:
    """The verdicts in groups that have neither an algorithm nor an environment in common."""
    blocks: list[list[Verdict]] = []
    for verdict in verdicts:
        linked = [b for b in blocks if any(o.algo == verdict.algo or o.where == verdict.where for o in b)]
        blocks = [b for b in blocks if b not in linked] + [[*itertools.chain(*linked), verdict]]
    return blocks


def _colour_shares(axes: Axes, shares: np.ndarray) -> None:
    """A matrix of probabilities of improvement, its columns named above it."""
    axes.imshow(shares, cmap=_IMPROVEMENT, vmin=0, vmax=1, aspect="auto")
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)


def _write_cell(axes: Axes, x: float, y: float, value: str, below: str, weight: str = "normal") -> None:
    """A number in a cell of a matrix, and below it the ends of its interval, if it has one."""
    axes.text(x, y, value, ha="center", va="bottom" if below else "center", fontsize=9, weight=weight)
    if below:
        axes.text(x, y, f"\n{below}", ha="center", va="center", fontsize=6.5)


def save(figure: Figure, path: Path) -> None:
    """Write a figure and close it; the same figure gives the same bytes.

    :param path: file to write, PNG or SVG by its name
    """
    for text in figure.findobj(Text):
        # Other people's dollars; a formula that is none raises.
        if "$" in text.get_text() and "mathdefault" not in text.get_text():
            text.set_parse_math(False)
    if path.suffix == ".svg":
        # Ids in an SVG are random otherwise.
        with matplotlib.rc_context({"svg.hashsalt": path.name}):
            figure.savefig(path, **SVG_OPTIONS)
    else:
        drawn = BytesIO()
        figure.savefig(drawn, format="png", **PNG_OPTIONS)
        # Few lines on white do with a palette of 256 colours, and a third of the bytes.
        image = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        image.save(path, optimize=True)
    plt.close(figure)


def learning_curves(board: Leaderboard, along: str = STEPS) -> Figure:
    """IQM of the evaluation return against environment steps or seconds of training, with 95 % intervals.

    Up to :data:`TOGETHER` algorithms share a plot. More get one each, in the table's order, with the curves of the others
    in grey behind.

    Times that are far apart are on a logarithmic scale. A band may leave the frame, which is of the curves and of where the
    bands end: one wide band would make all curves flat.

    :param board: the table whose curves to draw
    :param along: ``"step"`` or ``"seconds"``
    """
    rows = [row for row in board.rows if row.summary]
    drawn = [row.curve if along == STEPS else row.curve_in_time for row in rows]
    lasts = [data[along].max() for data in drawn] or [1.0]
    label, unit = "environment steps", 1
    if along == SECONDS:
        name, unit = next((name, seconds) for name, seconds, least in UNITS if max(lasts) >= least)
        label = f"{name} of training (of runs trained together, a share each), on a machine that may have had other work"
    curves = [
        _Curve(row.label, _runs(row), row.summary.iqm.value, data.assign(**{along: data[along] / unit}), along, "iqm")
        for row, data in zip(rows, drawn, strict=True)
    ]
    lowest, highest = frame(drawn)
    left = "\nbands leave the frame" * any((data["low"] < lowest).any() or (data["high"] > highest).any() for data in drawn)
    if len(rows) <= TOGETHER:
        figure = _draw_together(curves, [row.label for row in board.rows])
        figure.axes[0].set_ylabel(f"return, IQM over seeds ({board.episodes} episodes each)")
        title = f"{_named(board)}: evaluation return with 95 % intervals{left}"
    else:
        figure = _draw_apart(curves, f"return ({board.episodes} episodes)")
        title = f"{_named(board)}: return, IQM over seeds with 95 % intervals; beside the name, its last value{left}"
    _finish(figure, title, label)
    for axes in figure.axes:
        if along == SECONDS and max(lasts) > FAR_APART * min(lasts):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlim(min(data[along].min() for data in drawn) / unit, max(lasts) / unit)
        else:
            axes.set_xlim(0, max(board.steps, *lasts) if along == STEPS else max(lasts) / unit)
        axes.set_ylim(lowest, highest)
    return figure


def frame(curves: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """The lowest and the highest return that a plot of learning curves shows: of all curves, and of the bands' last points.

    :param curves: columns ``iqm``, ``low`` and ``high``
    """
    lasts = [curve[["low", "high"]].iloc[-1] for curve in curves]
    shown = pd.concat([curve["iqm"] for curve in curves] + lasts).astype(float) if curves else pd.Series([0.0])
    room = MARGIN * (shown.max() - shown.min()) or 1.0
    return shown.min() - room, shown.max() + room


def performance_profiles(across: Across) -> Figure:
    """The share of runs above each normalised return, with 95 % bands, laid out as :func:`learning_curves`.

    :param across: the table whose profiles to draw
    """
    curves = [_Curve(row.label, _runs(row), row.score.value, row.profile, "threshold", "share") for row in across.rows]
    if len(curves) <= TOGETHER:
        figure = _draw_together(curves, [row.label for row in across.rows])
        figure.axes[0].set_ylabel("share of runs above it")
    else:
        figure = _draw_apart(curves, "share of runs above it")
    title = f"Performance profiles over {len(across.boards)} environments, with 95 % bands"
    _finish(
        figure, title if len(curves) <= TOGETHER else f"{title}; beside the name, the {across.ranked_by}", "normalised return"
    )
    return figure


@dataclass(frozen=True, eq=False)
class _Curve:
    """A line with its band: the columns ``x``, ``y``, ``low`` and ``high`` of the data; in steps, or straight between."""

    label: str
    runs: str
    value: float
    data: pd.DataFrame
    x: str
    y: str
    steps: bool = False

    def draw(self, axes: Axes, colour: str, **options: str) -> None:
        self.draw_line(axes, colour, 2, **options)
        low, high = (self.data[name].astype(float) for name in ("low", "high"))
        step = "post" if self.steps else None
        axes.fill_between(self.data[self.x], low, high, color=colour, alpha=0.18, linewidth=0, step=step)

    def draw_line(self, axes: Axes, colour: str, width: float, **options: str) -> None:
        drawstyle = "steps-post" if self.steps else "default"
        axes.plot(self.data[self.x], self.data[self.y], color=colour, linewidth=width, drawstyle=drawstyle, **options)


def _runs(row: Row | AcrossRow) -> str:
    """Such as ``n=5``, or ``n=3, < 5``."""
    return ", ".join([f"n={row.summary.n}", *filter(None, [few(row)])])


def _named(board: Leaderboard) -> str:
    return f"{board.env} ({thousands(board.steps)} steps)"


def _draw_together(curves: list[_Curve], labels: list[str]) -> Figure:
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    looks = styles([labels])
    for curve in curves:
        dashes, colour = looks[curve.label]
        # A name that begins with an underscore is left out of a legend.
        label = re.sub("^_", "\N{THIN SPACE}_", f"{with_losses(curve.label)} ({curve.runs})")
        curve.draw(axes, colour, linestyle=dashes, label=label)
    axes.legend(frameon=False)
    return figure


def _draw_apart(curves: list[_Curve], y_label: str) -> Figure:
    n_rows = -(-len(curves) // COLUMNS)
    titles = {curve.label: wrapped(curve.label, f": {number(curve.value)} ({curve.runs})") for curve in curves}
    height = 2.0 + 0.15 * max((title.count("\n") for title in titles.values()), default=0)
    figure, grid = plt.subplots(
        n_rows, COLUMNS, figsize=(9.6, height * n_rows + 0.6), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, curve in itertools.zip_longest(grid.flat, curves):
        if curve is None:
            axes.remove()
            continue
        for other in curves:
            other.draw_line(axes, "0.8", 0.7)
        curve.draw(axes, COLOURS[0])
        axes.set_title(titles[curve.label], fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
    figure.supylabel(y_label, fontsize=9)
    for column in range(COLUMNS):
        grid[(len(curves) - 1 - column) // COLUMNS, column].tick_params(labelbottom=True)
    return figure


def wrapped(label: str, rest: str) -> str:
    """A label and what follows it in lines of :data:`LETTERS`, broken where a part of the label ends: it has few spaces."""
    lines = [""]
    for part in [*re.findall(r".+?(?:[ ,=_\[]+|$)", label), rest]:
        if lines[-1] and len((lines[-1] + part).rstrip()) > LETTERS:
            lines.append("")
            part = part.lstrip(": ")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _finish(figure: Figure, title: str, x_label: str) -> None:
    """The title, the label below, and the style that all plots share."""
    for axes in figure.axes:
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(thousands))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if len(figure.axes) == 1:
        figure.axes[0].set_xlabel(x_label)
        figure.axes[0].set_title(title, fontsize=11, loc="left")
    else:
        figure.supxlabel(x_label, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
