"""Write leaderboards as Markdown, JSON and figures."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.published import RUNS
from benchmarks.records import SCHEMA
from benchmarks.report.across import Across, AcrossRow
from benchmarks.report.cautions import NOT_RECORDED
from benchmarks.report.figures import (
    SECONDS,
    STEPS,
    draw_improvements,
    draw_learning_curves,
    draw_performance_profiles,
    draw_returns_profiles,
    draw_sensitivity,
)
from benchmarks.report.leaderboard import Leaderboard, Pair, Row
from benchmarks.report.sensitivity import find_sensitivities
from benchmarks.report.words import (
    DEFINITIONS,
    LITERATURE_COLUMNS,
    as_code,
    cells_across,
    cells_beside,
    cells_of,
    columns_across,
    columns_of,
    in_markdown,
    markdown_table,
    notes_across,
    notes_on,
    short_commit,
    title_across,
    title_of,
)
from benchmarks.spec import as_file_name, in_words
from benchmarks.statistics import Aggregate, Estimate
from benchmarks.store import EVALUATIONS, replace_text

ROOT = Path(__file__).parents[2]
DIGITS = 10
"""Of the numbers in the files."""
FIGURE = re.compile(
    r"\]\(((?:learning-curve|performance-profile|probability-of-improvement|sensitivity)-[^/()]+)\.(?:png|svg)\)"
)
"""A figure that a report shows, without its suffix."""


def write_report(
    boards: Sequence[Leaderboard],
    tables: Sequence[Across],
    folder: Path,
    problems: Sequence[str] = (),
    suffixes: Sequence[str] = (".png",),
) -> list[Path]:
    """Write ``leaderboard.md``, ``.json``, ``.csv`` and the figures in the place of those before. Same data, same bytes.

    :param boards: the tables of single environments
    :param tables: those over several
    :param folder: made if it is not there
    :param problems: sentences about runs that could not be used
    :param suffixes: of the figures, ``.png`` and ``.svg``; Markdown shows the first
    :return: what was written
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections: list[tuple[int, str]] = []
    figures: list[Path] = []

    def draw(name: str, function: Callable[..., None], *arguments: object) -> str:
        paths = [folder / f"{name}{suffix}" for suffix in suffixes]
        for path in paths:
            function(arguments[0], path, *arguments[1:])
        figures.extend(paths)
        return paths[0].name

    for number, across in enumerate(tables, start=1):
        figure = draw(f"performance-profile-{number}", draw_performance_profiles, across)
        sections.append((len(across.rows), _across_as_markdown(across, figure)))
    for board in boards:
        name = _figure_name(board, boards)
        shown = {f"Learning curves on {board.env}": draw(f"learning-curve-{name}", draw_learning_curves, board, STEPS)}
        maps = find_sensitivities(board)
        # Of a sweep alone the map says it all.
        if not maps or sum(len(sensitivity.cells) for sensitivity in maps) < len(board.ranked):
            title = f"Return against time on {board.env}"
            shown[title] = draw(f"learning-curve-in-time-{name}", draw_learning_curves, board, SECONDS)
            if board.ranked:
                title = f"Performance profiles on {board.env}"
                shown[title] = draw(f"performance-profile-{name}", draw_returns_profiles, board)
            if len(board.ranked) > 1:
                title = f"Probability of improvement on {board.env}"
                shown[title] = draw(f"probability-of-improvement-{name}", draw_improvements, board)
        for sensitivity in maps:
            title = f"{sensitivity.algo} on {board.env} by {sensitivity.y} and {sensitivity.x}"
            shown[title] = draw(f"sensitivity-{name}-{as_file_name(sensitivity.algo)}", draw_sensitivity, board, sensitivity)
        sections.append((len(board.rows), _as_markdown(board, shown)))
    # What compares nothing comes last.
    texts = [_head(folder), *(text for _, text in sorted(sections, key=lambda section: section[0] == 1))]
    if problems:
        texts.append("\n".join(["## Left out", "", *(f"- {in_markdown(problem)}" for problem in problems)]))
    content = {
        "schema": SCHEMA,
        "across": [_across_as_json(across) for across in tables],
        "boards": [_as_json(board) for board in boards],
        "problems": list(problems),
    }
    markdown, data, table = (folder / f"leaderboard.{kind}" for kind in ("md", "json", "csv"))
    before = FIGURE.findall(markdown.read_text(encoding="utf-8", errors="replace")) if markdown.is_file() else []
    for path in {folder / f"{name}{suffix}" for name in before for suffix in (".png", ".svg")}.difference(figures):
        path.unlink(missing_ok=True)
    replace_text(markdown, "\n\n".join(texts) + "\n")
    replace_text(data, json.dumps(rounded(content), indent=1, allow_nan=False) + "\n")
    replace_text(table, _as_csv(boards))
    return [markdown, data, table, *figures]


def _figure_name(board: Leaderboard, boards: Sequence[Leaderboard]) -> str:
    """What the files of a table's figures are named by: a number, too, where another's have the same name."""
    name = f"{as_file_name(board.env)}-{board.steps}"
    alike = [other for other in boards if f"{as_file_name(other.env)}-{other.steps}" == name]
    return name if len(alike) == 1 else f"{name}-{1 + alike.index(board)}"


def _as_csv(boards: Sequence[Leaderboard]) -> str:
    """A row an algorithm of every table of a single environment."""
    rows = [
        {
            "env": board.env,
            "steps": board.steps,
            "episodes": board.episodes,
            "evaluation_seed": board.evaluation_seed,
            "algorithm": row.label,
            "package": row.package,
            "n": len(row.scores),
            "failed": row.failures,
            **_estimates("", row.summary),
            **_estimates("normalised_", row.normalised),
            "late": row.last_quarter.value if row.last_quarter else math.nan,
            "steps_per_second": row.steps_per_second,
        }
        for board in boards
        for row in board.rows
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format=f"%.{DIGITS}g")


def rounded(content: Any) -> Any:
    """With all numbers inside of so many digits that processors agree on them; their sums differ in the last ones."""
    if isinstance(content, dict):
        return {name: rounded(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    if isinstance(content, float):
        # A hyperparameter may be infinite, which JSON cannot say.
        return float(f"{content:.{DIGITS}g}") if math.isfinite(content) else str(content)
    return content


def _estimates(prefix: str, summary: Aggregate | None) -> dict[str, float]:
    nothing = Estimate(*[math.nan] * 3)
    iqm, median, mean = (summary.iqm, summary.median, summary.mean) if summary else [nothing] * 3
    return {
        f"{prefix}iqm": iqm.value,
        f"{prefix}low": iqm.low,
        f"{prefix}high": iqm.high,
        f"{prefix}median": median.value,
        f"{prefix}mean": mean.value,
    }


def _as_markdown(board: Leaderboard, figures: dict[str, str]) -> str:
    lines = [f"## {title_of(board)}", "", *markdown_table(columns_of(board), [cells_of(board, row) for row in board.rows])]
    lines += ["", *(f"![{title}]({figure})" for title, figure in figures.items()), ""]
    lines += [f"- {in_markdown(note)}" for note in notes_on(board)]
    lines += [f"- failed: {in_markdown(run)}: {as_code(error)}" for run, error, _ in board.failures]
    common = _common_origin(board.ranked)
    lines += [in_markdown(f"- Unless a row says otherwise: {'; '.join(common)}.")] * bool(common)
    by_label = sorted(board.rows, key=lambda row: row.label)
    lines += [in_markdown(f"- {row.label}: {row.package}{_origin(row, common)}.") for row in by_label]
    if board.literature:
        lines += [
            "",
            *markdown_table(LITERATURE_COLUMNS, [cells_beside(beside) for beside in board.literature], numbers=False),
        ]
    return "\n".join(lines)


def _across_as_markdown(across: Across, figure: str) -> str:
    rows = [cells_across(across, row) for row in across.rows]
    lines = [f"## {title_across(across)}", "", *markdown_table(columns_across(across), rows), ""]
    lines += [f"![Performance profiles over {len(across.boards)} environments]({figure})", ""]
    return "\n".join(lines + [f"- {in_markdown(note)}" for note in notes_across(across)])


def _head(folder: Path) -> str:
    """What the numbers are, and where they come from if that is beside the report."""
    lines = ["# Leaderboard", "", DEFINITIONS]
    if (folder / RUNS).is_file():
        study = Path("benchmarks", "studies", f"{folder.name}.sh")
        name = study.as_posix()
        script = f"; [`{name}`](../../{name}) has the study's grids" if (ROOT / study).is_file() else ""
        lines += [
            "",
            f"The records are in [`{RUNS}`]({RUNS}), a line a run with its command, hyperparameters, engine and dates, and in "
            f"[`{EVALUATIONS}`]({EVALUATIONS}), a row an evaluation episode{script}.",
        ]
    return "\n".join(lines)


def _origins(row: Row) -> list[str]:
    """What a row has run on and of which code, a few words each."""
    values = {name: row.provenance[name] for name in ("machine", "threads", "commit", "versions")}
    listed = {name: " and ".join(map(short_commit, of)) for name, of in values.items() if of not in ([], [NOT_RECORDED])}
    words = {"threads": "{} thread a run" if listed.get("threads") == "1" else "{} threads a run", "commit": "commit {}"}
    return [words.get(name, "{}").format(text) for name, text in listed.items()]


def _common_origin(rows: Sequence[Row]) -> list[str]:
    """What most rows of a table have in common, if there are several."""
    if len(rows) < 2:
        return []
    counts = Counter(text for row in rows for text in _origins(row))
    return [text for text, count in counts.items() if count > len(rows) / 2]


def _origin(row: Row, common: Sequence[str]) -> str:
    if not row.provenance:
        return ""
    own = [text for text in _origins(row) if text not in common]
    return ", ".join(["", in_words(row.seeds), f"{row.provenance['hours']:.2f} hours", *own])


def _as_json(board: Leaderboard) -> dict[str, Any]:
    return {
        "env": board.env,
        "steps": board.steps,
        "episodes": board.episodes,
        "evaluation_seed": board.evaluation_seed,
        "scale": board.scale and asdict(board.scale),
        "cautions": list(board.cautions),
        "failures": [{"run": run, "error": error} for run, error, _ in board.failures],
        "rows": [_row_as_json(row) for row in board.rows],
        "pairs": [_pair_as_json(pair) for pair in board.pairs],
        "literature": [
            {**asdict(beside.published), "ours": beside.row and beside.row.label, "differences": list(beside.differences)}
            for beside in board.literature
        ],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "algorithm": row.label,
        "package": row.package,
        "summary": _aggregate_as_json(row.summary),
        "normalised": _aggregate_as_json(row.normalised),
        "seeds": list(row.seeds),
        "scores": list(row.scores),
        "late": estimate_as_json(row.last_quarter),
        "late_scores": list(row.last_quarter_scores),
        "steps_per_second": None if math.isnan(row.steps_per_second) else row.steps_per_second,
        "failures": row.failures,
        "curve": curve_as_json(row.curve),
        "curve_in_time": curve_as_json(row.curve_in_time),
        "provenance": row.provenance,
    }


def _across_as_json(across: Across) -> dict[str, Any]:
    return {
        "tasks": [{"env": board.env, "steps": board.steps} for board in across.boards],
        "cautions": list(across.cautions),
        "rows": [_across_row_as_json(row) for row in across.rows],
        "pairs": [_pair_as_json(pair) for pair in across.pairs],
    }


def _across_row_as_json(row: AcrossRow) -> dict[str, Any]:
    scores = {task: list(map(float, scores)) for task, scores in row.scores.items()}
    return {
        "algorithm": row.label,
        "normalised": _aggregate_as_json(row.summary),
        "scores": scores,
        "profile": curve_as_json(row.profile),
    }


def _pair_as_json(pair: Pair) -> dict[str, Any]:
    estimates = {"improvement": estimate_as_json(pair.improvement), "late": estimate_as_json(pair.last_quarter)}
    return {"x": pair.x, "y": pair.y, **estimates}


def _aggregate_as_json(summary: Aggregate | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    names = ("iqm", "median", "mean", *(["optimality_gap"] if summary.optimality_gap else []))
    return {name: estimate_as_json(getattr(summary, name)) for name in names} | {"n": summary.n}


def estimate_as_json(estimate: Estimate | None) -> dict[str, Any] | None:
    """Its value, and its interval or ``None``; ``None`` where there is no estimate."""
    if estimate is None:
        return None
    return {"value": estimate.value, "interval": None if math.isnan(estimate.low) else [estimate.low, estimate.high]}


def curve_as_json(curve: pd.DataFrame) -> dict[str, list[Any]]:
    """The columns of a curve, ``None`` where there is no interval."""
    return curve.astype(object).where(curve.notna(), None).to_dict(orient="list")
