"""The learning-curve figure, and what figures share."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.report.leaderboard import Leaderboard

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SAVE_OPTIONS = {"dpi": 150, "bbox_inches": "tight", "metadata": {"Software": None}}


def draw_learning_curves(board: Leaderboard, path: Path) -> None:
    """IQM of the evaluation return against environment steps, with 95 % intervals, written as PNG.

    :param board: the table whose curves to draw
    :param path: file to write
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    # By name, not by rank: an algorithm keeps its colour when the ranking changes.
    colours = dict(zip(sorted(row.label for row in board.rows), itertools.cycle(COLOURS), strict=False))
    for row in (row for row in board.rows if row.summary):
        colour = colours[row.label]
        axes.plot(row.curve["step"], row.curve["iqm"], color=colour, label=f"{row.label} (n={row.summary.n})", linewidth=2)
        axes.fill_between(row.curve["step"], row.curve["low"], row.curve["high"], color=colour, alpha=0.18, linewidth=0)
    axes.set_xlim(0, board.steps)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return, IQM over seeds ({board.episodes} episodes each)")
    axes.set_title(f"{board.env}: evaluation return with 95 % stratified-bootstrap intervals", fontsize=11, loc="left")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(thousands))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, **SAVE_OPTIONS)
    plt.close(figure)


def thousands(steps: float, _: object) -> str:
    """Environment steps as a tick's label, such as ``20k``; in the signature of matplotlib's formatters."""
    if steps >= 1e6:
        return f"{steps / 1e6:g}M"
    return f"{steps / 1e3:g}k" if steps >= 1000 else f"{steps:g}"
