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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from benchmarks import statistics
from benchmarks.report.figures import styles
from benchmarks.report.leaderboard import Leaderboard, Row
from benchmarks.report.write import curve_as_json, interval, number
from benchmarks.store import replace_text

WEB = Path(__file__).parent / "web"
TITLE = "sb3_entropic: leaderboard"
SHORT_COMMIT = 10
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
}


def write_page(grids: Mapping[str, list[Leaderboard]], path: Path) -> Path:
    """Write the page. Same data, same bytes.

    :param grids: tables by the name of what they are of, such as a folder below ``results/``; a name may be empty
    :param path: the HTML file to write
    :return: the file
    """
    boards = [(grid, board) for grid, members in grids.items() for board in members]
    labels = sorted({row.label for _, board in boards for row in board.rows})
    sections = [
        {"id": _identifier(grid, board), "grid": grid, "board": board, "range": _range(board.ranked)} for grid, board in boards
    ]
    scripts = {"plotly": _script(get_plotlyjs()), "page": _script((WEB / "page.js").read_text())}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(number=number, interval=interval, origin=_origin, seeds=_seeds, share=_share, place=_place)
    page = environment.get_template("page.html").render(
        title=TITLE,
        css=Markup((WEB / "page.css").read_text()),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts.values()],
        data=_data(sections, styles(labels)),
        sections=sections,
        labels=styles(labels),
        totals=_totals(boards),
        repetitions=statistics.REPETITIONS,
        provenance=PROVENANCE,
    )
    replace_text(path, page)
    return path


def _identifier(grid: str, board: Leaderboard) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{grid}-{board.env}-{board.steps}-{board.episodes}").strip("-")


def _totals(boards: list[tuple[str, Leaderboard]]) -> dict[str, Any]:
    """What the page is of, in numbers; the dates are the records'."""
    rows = [row for _, board in boards for row in board.rows]
    started = sorted(date for row in rows for date in row.provenance.get("started", ()) if re.match(r"\d{4}-", date))
    return {
        "algorithms": len({row.label for row in rows}),
        "environments": len({board.env for _, board in boards}),
        "runs": sum(len(row.scores) for row in rows),
        "failures": sum(row.failures for row in rows),
        "hours": sum(row.provenance.get("hours", 0.0) for row in rows),
        "dates": sorted({started[0][:10], started[-1][:10]}) if started else [],
    }


def _data(sections: list[dict[str, Any]], drawn: dict[str, tuple[str, str]]) -> Markup:
    """What the plots draw, as JSON that nothing in it can break out of."""
    boards = {
        section["id"]: {
            "steps": section["board"].steps,
            "rows": [_row(row, section["board"]) for row in section["board"].ranked],
        }
        for section in sections
    }
    dashes = {"-": "solid", "--": "dash", ":": "dot"}
    looks = {label: {"dash": dashes[line], "colour": colour} for label, (line, colour) in drawn.items()}
    text = json.dumps({"boards": boards, "styles": looks}, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _row(row: Row, board: Leaderboard) -> dict[str, Any]:
    curves = {"curve": row.curve, "time": row.curve_in_time, "profile": board.profiles[row.label]}
    score = number(row.summary.iqm.value)
    return {"label": row.label, "score": score, "n": row.summary.n} | {
        name: curve_as_json(_rounded(curve)) for name, curve in curves.items()
    }


def _rounded(curve: Any) -> Any:
    """Six digits are more than a screen shows."""
    return curve.map(lambda value: float(f"{value:.6g}"))


def _script(text: str) -> Markup:
    if "</script" in text.lower():
        raise ValueError("A script that ends its own element cannot be inlined.")
    return Markup(text)


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _range(rows: list[Row]) -> tuple[float, float] | None:
    """From the lowest end of an interval to the highest."""
    ends = [value for row in rows for value in (row.summary.iqm.value, row.summary.iqm.low, row.summary.iqm.high)]
    ends = [value for value in ends if not math.isnan(value)]
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def _place(value: float, ends: tuple[float, float]) -> str:
    """Where a value lies between two others, in percent."""
    return f"{100 * (value - ends[0]) / (ends[1] - ends[0]):.1f}%"


def _origin(board: Leaderboard) -> str:
    """In a line, what the rows of a table have run on and with."""
    rows = board.ranked
    counts = sorted({len(row.seeds) for row in rows})
    values = {name: sorted({value for row in rows for value in row.provenance[name]}) for name in ("machine", "versions", "commit")}
    parts = [
        f"{' or '.join(map(str, counts))} seed{'s' if counts[-1:] != [1] else ''} an algorithm",
        f"{len(board.rows)} algorithm{'s' if len(board.rows) > 1 else ''}",
        f"{sum(row.provenance['hours'] for row in rows):.1f} hours",
        " and ".join(values["machine"]),
        " and ".join(f"commit {commit[:SHORT_COMMIT]}" for commit in values["commit"]),
        " and ".join(values["versions"]),
    ]
    return "; ".join(part for part in parts if part) + "." if rows else ""


def _share(value: float) -> str:
    return f"{value:.2f}"


def _seeds(seeds: tuple[int, ...]) -> str:
    """Such as ``0 to 4``, where they follow each other."""
    if len(seeds) > 2 and seeds == tuple(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
