"""The page: every table and plot of a report in one HTML file that needs nothing else, and no network.

plotly's script, which draws the plots, comes from its installed Python package. Labels, ids and tracebacks are other
people's text: the template escapes them, and a browser runs the two scripts named by their hashes and no others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from benchmarks.report.cautions import FEW_SEEDS, NOT_RECORDED
from benchmarks.report.figures import SHORT, styles
from benchmarks.report.grids import Grid
from benchmarks.report.leaderboard import Leaderboard, Row
from benchmarks.report.sensitivity import find_sensitivities
from benchmarks.report.verdicts import COLUMNS as VERDICT_COLUMNS
from benchmarks.report.verdicts import by_algorithm, find_verdicts, notes_on_verdicts
from benchmarks.report.words import (
    DEFINITIONS,
    LITERATURE_COLUMNS,
    cells_beside,
    ends,
    few,
    interval,
    losses,
    notes_across,
    notes_on,
    number,
    of_others,
    short_commit,
    with_losses,
    words_on_calls,
)
from benchmarks.report.write import curve_as_json
from benchmarks.spec import in_words
from benchmarks.statistics import Estimate
from benchmarks.store import replace_text

WEB = Path(__file__).parent / "web"
TITLE = "sb3_entropic leaderboard"
BESIDE = {
    "What the grids show": "README.html",
    "How fast it is": "speed/speed.html",
    "The reference of all classes": "reference/index.html",
}
"""What the page links to, where it lies beside it."""
PROVENANCE = {
    "started": "started",
    "command": "command",
    "commit": "commit",
    "machine": "machine",
    "device": "device",
    "threads": "threads",
    "engine": "engine",
    "stack": "seeds trained together",
    "matrix_library": "matrix products",
    "versions": "versions",
    "defaults": "our arguments' defaults",
    "resumed": "the environment after interruptions",
}


def write_page(grids: Sequence[Grid], path: Path) -> Path:
    """Write the page. Same data, same bytes.

    :param grids: what to show, in this order
    :param path: the HTML file to write; its folder is there
    :return: the file
    """
    boards = [board for grid in grids for board in grid.boards]
    tables = [table for grid in grids for table in grid.tables]
    looks = styles([[row.label for row in table.rows] for table in [*boards, *tables]])
    sections = [
        {
            "id": _identifier(grid.name, board.env, board.steps, place, number),
            "grid": grid.name,
            "anchor": anchor_of(grid.name) if grid.name and board is grid.boards[0] else "",
            "board": board,
            "notes": notes_on(board),
            "sensitivities": find_sensitivities(board),
            "literature": [cells_beside(beside) for beside in board.literature],
            "range": _range([row.summary.iqm for row in board.ranked]),
        }
        for place, grid in enumerate(grids, start=1)
        for number, board in enumerate(grid.boards, start=1)
    ]
    across = [
        {
            "id": _identifier(grid.name, "across", number, place),
            "grid": grid.name,
            "table": table,
            "rows": [row for one in table.rows for row in one.rows],
            "notes": notes_across(table, gap=False),
            "range": _range([row.score for row in table.rows]),
        }
        for place, grid in enumerate(grids, start=1)
        for number, table in enumerate(grid.tables, start=1)
    ]
    verdicts = find_verdicts(grids)
    places = {section["board"]: section["id"] for section in sections} | {each["table"]: each["id"] for each in across}
    scripts = {"plotly": _script(get_plotlyjs()), "page": _script((WEB / "page.js").read_text(encoding="utf-8"))}
    hashes = " ".join(f"'{_hash(script)}'" for script in scripts.values())
    page = render(
        "page.html",
        TITLE,
        f"img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes} ",
        published=[grid.name for grid in grids if grid.name and grid.boards],
        scripts=scripts,
        data=_data(sections, across, looks),
        sections=sections,
        across=across,
        problems=[problem for grid in grids for problem in grid.problems],
        labels=looks,
        totals=_totals(boards),
        definitions=DEFINITIONS,
        provenance=PROVENANCE,
        literature_columns=LITERATURE_COLUMNS,
        beside=[(name, file) for name, file in BESIDE.items() if (path.parent / file).is_file()],
        places=places,
        verdicts=by_algorithm(verdicts),
        verdict_notes=notes_on_verdicts(verdicts, every=True),
        verdict_columns=VERDICT_COLUMNS,
        few_seeds=FEW_SEEDS,
        letters=SHORT,
    )
    replace_text(path, page)
    return path


def render(template: str, title: str, policy: str, **values: Any) -> str:
    """One of the pages in ``web/``, with its style in it.

    :param template: its file name
    :param title: of the page
    :param policy: what the page may load besides nothing, as a Content-Security-Policy says it
    :param values: of the template's own
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(few=few, losses=losses, words_on_calls=words_on_calls, of_others=of_others)
    environment.filters.update(number=number, interval=interval, origin=_origin, seeds=in_words, ends=ends, place=_place)
    css = Markup((WEB / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(title=title, policy=Markup(policy), css=css, **values)


def anchor_of(grid: str) -> str:
    """The id that a folder of runs has on the page."""
    return "grid-" + quote(grid, safe="")


def _identifier(*parts: str | int) -> str:
    """Of a section; names that differ in signs alone are told apart by the places of the grid and of the table in it."""
    return "board-" + re.sub(r"[^A-Za-z0-9]+", "-", "-".join(map(str, parts))).strip("-")


def _totals(boards: list[Leaderboard]) -> dict[str, Any]:
    """What the page is of, in numbers; the dates are the records'."""
    rows = [row for board in boards for row in board.rows]
    started = sorted(date for row in rows for date in row.provenance.get("started", ()) if re.match(r"\d{4}-", date))
    return {
        "algorithms": len({row.algo for row in rows}),
        "settings": len({row.variant for row in rows}),
        "environments": len({board.env for board in boards}),
        "runs": sum(len(row.scores) for row in rows),
        "failures": sum(row.failures for row in rows),
        "hours": sum(row.provenance.get("hours", 0.0) for row in rows),
        "dates": sorted({started[0][:10], started[-1][:10]}) if started else [],
    }


def _data(sections: list[dict[str, Any]], across: list[dict[str, Any]], looks: dict[str, tuple[str, str]]) -> Markup:
    """What the plots draw, as JSON that nothing in it can break out of."""
    boards = {
        section["id"]: [
            _drawn(
                row.label,
                row.summary.iqm,
                curve=row.curve,
                time=row.curve_in_time,
                profile=section["board"].profiles[row.label],
            )
            for row in section["board"].ranked
        ]
        for section in sections
    }
    boards |= {
        section["id"]: [_drawn(row.label, row.score, profile=row.profile) for row in section["table"].rows]
        for section in across
    }
    dashes = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
    looks = {
        label: {"dash": dashes[line], "colour": colour, "name": with_losses(label)} for label, (line, colour) in looks.items()
    }
    text = json.dumps({"boards": boards, "styles": looks}, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _drawn(label: str, score: Estimate, **curves: pd.DataFrame) -> dict[str, Any]:
    # Six digits are more than a screen shows.
    rounded = {name: curve.map(lambda value: float(f"{value:.6g}")) for name, curve in curves.items()}
    drawn = {name: curve_as_json(curve) for name, curve in rounded.items()}
    return {"label": label, "score": number(score.value), **drawn}


def _script(text: str) -> Markup:
    if "</script" in text.lower():
        raise ValueError("A script that ends its own element cannot be inlined.")
    return Markup(text)


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _range(estimates: Sequence[Estimate]) -> tuple[float, float] | None:
    """From the lowest end of an interval to the highest; ``None`` where there is nothing between them."""
    ends = [end for e in estimates for end in (e.value, e.low, e.high) if not math.isnan(end)]
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def _place(value: float, ends: tuple[float, float]) -> str:
    """Where a value lies between two others, in percent."""
    return f"{100 * (value - ends[0]) / (ends[1] - ends[0]):.1f}%"


def _origin(rows: Sequence[Row]) -> str:
    """In a line, what the rows of a table have run on and with."""
    if not rows:
        return ""
    counts = sorted({len(row.seeds) for row in rows})
    names = ("machine", "commit", "versions")
    machines, commits, versions = (
        sorted({value for row in rows for value in row.provenance[name]} - {NOT_RECORDED}) for name in names
    )
    parts = [
        f"{' or '.join(map(str, counts))} seed{'s' if counts != [1] else ''} an algorithm",
        f"{sum(row.provenance['hours'] for row in rows):.1f} hours in all",
        " and ".join(machines),
        " and ".join(f"commit {short_commit(commit)}" for commit in commits),
        " and ".join(versions),
    ]
    return "; ".join(part for part in parts if part) + "."
