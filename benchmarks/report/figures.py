"""The learning-curve figure, and what figures share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.leaderboard import Leaderboard, Row

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":")
COLUMNS = 4
SAVE_OPTIONS = {"dpi": 150, "bbox_inches": "tight", "metadata": {"Software": None}}


TOGETHER = 5
"""So many algorithms are told apart in one plot; more get one each."""


def styles(labels: Iterable[str]) -> dict[str, tuple[str, str]]:
    """How each algorithm is drawn, ``(dashes, colour)``: the same in every plot of a report, whatever its rank there.

    Neighbours differ in both, and no two of 21 are the same.

    :param labels: of all that the report is of
    """
    return dict(zip(sorted(labels), itertools.cycle(zip(itertools.cycle(DASHES), itertools.cycle(COLOURS))), strict=False))


def draw_learning_curves(board: Leaderboard, path: Path) -> None:
    """Write :func:`learning_curves` as PNG.

    :param board: the table whose curves to draw
    :param path: file to write
    """
    figure = learning_curves(board)
    figure.savefig(path, **SAVE_OPTIONS)
    plt.close(figure)


def learning_curves(board: Leaderboard) -> Figure:
    """IQM of the evaluation return against environment steps, with 95 % intervals.

    Up to :data:`TOGETHER` algorithms share a plot. More get one each, in the table's order, with the curves of the others
    in grey behind.

    :param board: the table whose curves to draw
    """
    rows = [row for row in board.rows if row.summary]
    return _draw_together(board, rows) if len(rows) <= TOGETHER else _draw_apart(board, rows)


def _draw_together(board: Leaderboard, rows: list[Row]) -> Figure:
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    # By name, not by rank: an algorithm keeps its colour when the ranking changes.
    colours = dict(zip(sorted(row.label for row in board.rows), itertools.cycle(COLOURS), strict=False))
    for row in rows:
        _draw_curve(axes, row, colours[row.label], label=f"{row.label} (n={row.summary.n})")
    _finish(axes, board)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return, IQM over seeds ({board.episodes} episodes each)")
    axes.set_title(f"{board.env}: evaluation return with 95 % stratified-bootstrap intervals", fontsize=11, loc="left")
    axes.legend(frameon=False)
    return figure


def _draw_apart(board: Leaderboard, rows: list[Row]) -> Figure:
    n_rows = -(-len(rows) // COLUMNS)
    figure, grid = plt.subplots(
        n_rows, COLUMNS, figsize=(9.6, 2.0 * n_rows + 0.6), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, row in itertools.zip_longest(grid.flat, rows):
        if row is None:
            axes.remove()
            continue
        for other in rows:
            axes.plot(other.curve["step"], other.curve["iqm"], color="0.8", linewidth=0.7)
        _draw_curve(axes, row, COLOURS[0])
        axes.set_title(f"{row.label}: {row.summary.iqm.value:,.1f} (n={row.summary.n})", fontsize=9, loc="left")
        _finish(axes, board)
        axes.tick_params(labelsize=8)
    for column in range(COLUMNS):
        lowest = grid[(len(rows) - 1 - column) // COLUMNS, column]
        lowest.set_xlabel("environment steps", fontsize=9)
        lowest.tick_params(labelbottom=True)
    title = f"{board.env}: evaluation return, IQM over seeds with 95 % intervals; beside the name, its last value"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _draw_curve(axes: Axes, row: Row, colour: str, **options: str) -> None:
    axes.plot(row.curve["step"], row.curve["iqm"], color=colour, linewidth=2, **options)
    axes.fill_between(row.curve["step"], row.curve["low"], row.curve["high"], color=colour, alpha=0.18, linewidth=0)


def _finish(axes: Axes, board: Leaderboard) -> None:
    axes.set_xlim(0, board.steps)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(thousands))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def thousands(steps: float, _: object) -> str:
    """Environment steps as a tick's label, such as ``20k``; in the signature of matplotlib's formatters."""
    if steps >= 1e6:
        return f"{steps / 1e6:g}M"
    return f"{steps / 1e3:g}k" if steps >= 1000 else f"{steps:g}"
