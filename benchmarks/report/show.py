"""Show leaderboards in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.report.across import Across
from benchmarks.report.leaderboard import Leaderboard
from benchmarks.report.words import (
    cells_across,
    cells_of,
    columns_across,
    columns_of,
    notes_across,
    notes_on,
    title_across,
    title_of,
)


def show(board: Leaderboard, console: Console) -> None:
    """Print one table and what a reader must know of it."""
    styles = ["red" if row.summary is None else None for row in board.rows]
    show_table(title_of(board), columns_of(board), [cells_of(board, row) for row in board.rows], console, styles)
    show_notes(notes_on(board), console)
    show_notes((f"failed: {run}: {error}" for run, error, _ in board.failures), console, style="red")


def show_across(across: Across, console: Console) -> None:
    """Print one table over several environments and what a reader must know of it."""
    show_table(title_across(across), columns_across(across), [cells_across(across, row) for row in across.rows], console)
    show_notes(notes_across(across), console)


def show_problems(problems: Sequence[str], console: Console) -> None:
    """Print the sentences about what could not be used."""
    for problem in problems:
        # Not broken within a path, which is to be copied.
        console.print(f"- left out: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    styles: Sequence[str | None] | None = None,
) -> None:
    """Print a table whose first column is folded where the terminal is narrow.

    :param title: above it
    :param columns: headings
    :param rows: the cells of each row
    :param styles: of each row, in rich's words
    """
    table = Table(
        title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column(columns[0], overflow="fold", min_width=9)
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for cells, style in zip(rows, styles or [None] * len(rows), strict=True):
        table.add_row(*map(escape, cells), style=style)
    console.print(table)


def show_notes(notes: Iterable[str], console: Console, style: str = "dim") -> None:
    """Print sentences, an item of a list each."""
    for note in notes:
        lines = textwrap.fill(
            f"- {note}", console.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        console.print(lines, style=style, highlight=False, markup=False, soft_wrap=True)
