"""Show a leaderboard in the terminal and write it as Markdown, JSON and a figure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.plan import as_file_name
from benchmarks.report.figures import draw_learning_curves
from benchmarks.report.leaderboard import Leaderboard, Row
from benchmarks.statistics import Estimate
from benchmarks.store import replace_text

COLUMNS = ("algorithm", "IQM", "95 % interval", "median", "mean", "n", "steps/s", "failed")


def show(board: Leaderboard, console: Console) -> None:
    """Print one table and its cautions."""
    table = Table(
        title=_title(board), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column(COLUMNS[0], overflow="fold", min_width=12)
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in board.rows:
        table.add_row(*map(escape, _cells(row)), style="red" if row.summary is None else None)
    console.print(table)
    for caution in board.cautions:
        console.print(f"- {caution}", style="dim", highlight=False)
    for run, error in board.failures:
        console.print(f"- failed: {run}: {error}", style="red", highlight=False, markup=False)


def write_report(boards: list[Leaderboard], folder: Path) -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.json`` and a learning-curve figure a table. Same data, same bytes.

    :param boards: the tables
    :param folder: made if it is not there
    :return: what was written
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for board in boards:
        figures[board] = folder / f"learning-curve-{as_file_name(board.env)}-{board.steps}.png"
        draw_learning_curves(board, figures[board])
    markdown, data = folder / "leaderboard.md", folder / "leaderboard.json"
    replace_text(markdown, "\n\n".join(_markdown(board, figures[board].name) for board in boards) + "\n")
    replace_text(data, json.dumps([_as_json(board) for board in boards], indent=1, allow_nan=False) + "\n")
    return [markdown, data, *figures.values()]


def _title(board: Leaderboard) -> str:
    return f"{board.env} after {board.steps:,} steps, return of {board.episodes} seeded episodes"


def _cells(row: Row) -> list[str]:
    if row.summary is None:
        return [row.label, "-", "-", "-", "-", "0", "-", str(row.failures)]
    s = row.summary
    middles = [number(estimate.value) for estimate in (s.median, s.mean)]
    values = [number(s.iqm.value), interval(s.iqm), *middles, str(s.n), f"{row.steps_per_second:,.0f}"]
    return [row.label, *values, str(row.failures)]


def interval(estimate: Estimate) -> str:
    """The ends of an interval, or a dash where there is none."""
    return "-" if math.isnan(estimate.low) else f"[{number(estimate.low)}, {number(estimate.high)}]"


def number(value: float) -> str:
    """About four digits: a return's spread over seeds makes more of them noise."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _markdown(board: Leaderboard, figure: str) -> str:
    lines = [f"## {_title(board)}", "", "| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(_cells(row)).replace("\n", " ") + " |" for row in board.rows]
    lines += ["", f"![Learning curves on {board.env}]({figure})", ""]
    lines += [f"- {caution}" for caution in board.cautions]
    lines += [f"- failed: {run}: `{error}`" for run, error in board.failures]
    lines += [f"- {row.label}: {row.package}{_origin(row)}." for row in sorted(board.rows, key=lambda row: row.label)]
    return "\n".join(lines)


def _origin(row: Row) -> str:
    if not row.provenance:
        return ""
    p = row.provenance
    seeds = f"seeds {row.seeds[0]} to {row.seeds[-1]}" if len(row.seeds) > 1 else f"seed {row.seeds[0]}"
    commits = " and ".join(commit[:10] for commit in p["commit"])
    return (
        f", {seeds}, {p['hours']:.2f} hours on {' and '.join(p['machine'])}, commit {commits}, {' and '.join(p['versions'])}"
    )


def _as_json(board: Leaderboard) -> dict[str, Any]:
    return {
        "env": board.env,
        "steps": board.steps,
        "episodes": board.episodes,
        "cautions": list(board.cautions),
        "failures": [{"run": run, "error": error} for run, error in board.failures],
        "rows": [_row_as_json(row) for row in board.rows],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    summary = None
    if row.summary is not None:
        s = row.summary
        summary = {name: _estimate_as_json(getattr(s, name)) for name in ("iqm", "median", "mean")} | {"n": s.n}
    return {
        "algorithm": row.label,
        "package": row.package,
        "summary": summary,
        "seeds": list(row.seeds),
        "scores": list(row.scores),
        "steps_per_second": None if math.isnan(row.steps_per_second) else row.steps_per_second,
        "failures": row.failures,
        "curve": curve_as_json(row.curve),
        "curve_in_time": curve_as_json(row.curve_in_time),
        "provenance": row.provenance,
    }


def _estimate_as_json(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": None if math.isnan(estimate.low) else [estimate.low, estimate.high]}


def curve_as_json(curve: pd.DataFrame) -> dict[str, list[Any]]:
    return curve.astype(object).where(curve.notna(), None).to_dict(orient="list")
