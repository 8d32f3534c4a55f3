"""Training diagnostics of single runs, from the ``progress.csv`` that SB3's logger writes."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.records import read_evaluations, read_json
from benchmarks.report.figures import COLOURS, save
from benchmarks.report.words import thousands
from benchmarks.spec import RunSpec
from benchmarks.store import EVALUATIONS, RECORD
from sb3_entropic.errors import UserError

PROGRESS, STEPS = "progress.csv", "time/total_timesteps"
DIAGNOSTICS = "diagnostics.png"
RUNS_NAMED = 3
# A log of more points than MANY is averaged over a running window, one of WINDOWS in the run.
MANY, WINDOWS = 200, 50
# runs/ENV/ALGORITHM/STEPS-GROUP/seed-N
DEPTH = 5


@dataclass(frozen=True)
class Panel:
    """One of the plots.

    :param title: what it shows
    :param columns: those of the csv that hold it, each with its sign; of every run the first that is there is drawn
    :param logarithmic: whether its values span orders of magnitude
    """

    title: str
    columns: dict[str, int]
    logarithmic: bool = False


RETURN = Panel("return", {"rollout/ep_rew_mean": 1})
PANELS = (
    RETURN,
    Panel("loss of the values", {"train/critic_loss": 1, "train/value_loss": 1, "train/loss": 1}, logarithmic=True),
    Panel("loss of the policy", {"train/actor_loss": 1, "train/policy_gradient_loss": 1}),
    # SB3's on-policy algorithms log the negative entropy.
    Panel("policy entropy (nats)", {"train/policy_entropy": 1, "train/entropy_loss": -1}),
    Panel("action gap", {"train/action_gap": 1}),
    Panel("clipped Munchausen terms (share)", {"train/munchausen_clip_fraction": 1}),
    Panel("temperature", {"train/temperature": 1, "train/ent_coef": 1}),
)


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """What one run logged.

    :param title: the run in one line
    :param csv: where it was read
    :param progress: a row a dump of SB3's logger, under SB3's names; numbers, NaN where nothing was logged
    :param evaluations: mean evaluation return by environment steps; empty where the run has no finished evaluations
    """

    title: str
    csv: Path
    progress: pd.DataFrame
    evaluations: pd.Series

    def series(self, panel: Panel) -> pd.Series:
        """A panel's finite values by environment steps; empty if nothing of it was logged."""
        for column, sign in panel.columns.items():
            if column in self.progress:
                values = sign * self.progress.set_index(STEPS)[column].replace([np.inf, -np.inf], np.nan).dropna()
                if len(values):
                    return values
        return pd.Series(dtype=float)


def read_diagnostics(path: Path) -> Diagnostics:
    """Read a run.

    :param path: a run's folder, or any with a ``progress.csv`` of SB3's csv logger; or such a file itself
    :raises UserError: if there is none (names the nearest run folders), or nothing in it can be drawn
    """
    csv = path / PROGRESS if path.is_dir() else path
    if not csv.is_file():
        if (path / RECORD).is_file():
            record = read_json(path / RECORD)
            if isinstance(record, dict) and "error" in record:
                raise UserError(f"{path} has no {PROGRESS}: the run failed before it logged anything.")
            raise UserError(f"{path} has no {PROGRESS}: runs restored from published records have no training log to draw.")
        wrong = f"{path} has no {PROGRESS}" if path.is_dir() else f"There is no {path}"
        raise UserError(f"{wrong}{_runs_near(path)}")
    try:
        progress = pd.read_csv(csv).apply(pd.to_numeric, errors="coerce")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        progress = pd.DataFrame()
    if STEPS not in progress:
        raise UserError(f"{csv} has no column {STEPS}: it is not of SB3's csv logger, or nothing was logged yet.")
    evaluations = pd.Series(dtype=float)
    if (csv.parent / EVALUATIONS).is_file():
        rows = read_evaluations(csv.parent / EVALUATIONS, "timesteps", "return")[["timesteps", "return"]]
        rows = rows.apply(pd.to_numeric, errors="coerce").dropna()
        evaluations = rows.groupby("timesteps")["return"].mean()
    run = Diagnostics(_title(csv), csv, progress.dropna(subset=STEPS), evaluations)
    if not any(len(run.series(panel)) for panel in PANELS):
        known = ", ".join(column for panel in PANELS for column in panel.columns)
        raise UserError(f"{csv} has nothing to draw: it has values in none of {known}.")
    return run


def default_path(runs: list[Diagnostics]) -> Path:
    """Where the figure goes unasked: beside the csv of one run, in the innermost folder that holds all of several."""
    return Path(os.path.commonpath([run.csv.parent.absolute() for run in runs])) / DIAGNOSTICS


def draw_diagnostics(runs: list[Diagnostics], path: Path) -> None:
    """Draw every panel that has data, against environment steps, and write the figure as PNG.

    A long log is drawn as its running mean (its median where the axis is logarithmic), before the log itself if there is
    but one run. Returns stay as they are: SB3's are means of the last 100 episodes already.

    :param runs: a line each; their titles are the legend where there are several
    :param path: file to write, PNG or SVG by its name
    """
    panels = [panel for panel in PANELS if any(len(run.series(panel)) for run in runs)]
    n_columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    n_rows = -(-len(panels) // n_columns)
    figure, grid = plt.subplots(
        n_rows, n_columns, figsize=(4.2 * n_columns, 2.7 * n_rows), squeeze=False, sharex=True, layout="constrained"
    )
    styles = list(itertools.islice(itertools.cycle(itertools.product(("-", "--", ":"), COLOURS)), len(runs)))
    for axes, panel in itertools.zip_longest(grid.flat, panels):
        if panel is None:
            axes.remove()
        else:
            _draw_panel(axes, panel, runs, styles)
    for column in range(n_columns):
        # The lowest panel of a column, which is not in the last row where that one is not full.
        lowest = grid[(len(panels) - 1 - column) // n_columns, column]
        lowest.set_xlabel("environment steps")
        lowest.tick_params(labelbottom=True)
    if len(runs) == 1:
        figure.suptitle(runs[0].title, x=0.01, ha="left", fontsize=11)
    else:
        _draw_legend(figure, runs, styles, n_columns)
    save(figure, path)


def _draw_panel(axes: Axes, panel: Panel, runs: list[Diagnostics], styles: list[tuple[str, str]]) -> None:
    smallest = np.inf
    for run, (dashes, colour) in zip(runs, styles, strict=True):
        values = run.series(panel)
        evaluated = panel is RETURN and len(run.evaluations) > 0
        if len(values) > MANY and panel is not RETURN:
            if len(runs) == 1:
                axes.plot(values.index, values, color=colour, linewidth=0.6, alpha=0.25)
            windows = values.rolling(len(values) // WINDOWS, center=True, min_periods=1)
            values = windows.median() if panel.logarithmic else windows.mean()
        # Beside the evaluations, which it is judged by, what exploring episodes return steps back.
        axes.plot(values.index, values, dashes, color=colour, linewidth=1.3, alpha=0.45 if evaluated else 1)
        if evaluated:
            axes.plot(run.evaluations.index, run.evaluations, dashes, color=colour, marker="o", markersize=3, linewidth=1.3)
        smallest = min(smallest, values.min())
    if panel.logarithmic and smallest > 0:
        axes.set_yscale("log")
    if panel is RETURN and any(len(run.evaluations) for run in runs):
        kinds = {"evaluation": {"marker": "o", "markersize": 3}, "training, exploring": {"alpha": 0.45}}
        handles = [Line2D([], [], color="black", linewidth=1.3, label=name, **style) for name, style in kinds.items()]
        axes.legend(handles=handles, frameon=False, fontsize=8)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(thousands))
    axes.set_xlim(left=0)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_legend(figure: Figure, runs: list[Diagnostics], styles: list[tuple[str, str]], n_columns: int) -> None:
    titles = [run.title for run in runs]
    # Runs that differ in settings alone share a title and are told apart by their folders.
    labels = [run.title if titles.count(run.title) == 1 else f"{run.title} ({run.csv.parent})" for run in runs]
    lines = [
        Line2D([], [], linestyle=dashes, color=colour, label=label)
        for label, (dashes, colour) in zip(labels, styles, strict=True)
    ]
    figure.legend(handles=lines, loc="outside upper left", ncols=n_columns, frameon=False, fontsize=9)


def _title(csv: Path) -> str:
    """What its record says the run is; its folder's name (or the file's, if it is a special one) where there is none."""
    # Another program's record may lie there under the same name.
    with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
        record = read_json(csv.parent / RECORD)
        return RunSpec(**record["spec"]).title + (" (failed)" if "error" in record else "")
    return csv.absolute().parent.name if csv.name == PROGRESS else csv.stem


def _runs_near(path: Path) -> str:
    """The ending of a message: the folders of runs around a place where there is none."""
    start = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    there = [] if start == start.parent else list(_runs_below(start))
    nearest = difflib.get_close_matches(str(path.absolute()), there, n=RUNS_NAMED, cutoff=0)
    if not nearest:
        return f": name the folder of a run, which holds a {PROGRESS}."
    names = ", ".join(name.removeprefix(f"{Path.cwd()}{os.sep}") for name in nearest)
    return f": the nearest run{'s are' if len(nearest) > 1 else ' is'} {names}."


def _runs_below(start: Path) -> Iterator[str]:
    for folder, below, files in os.walk(start):
        # Hidden folders hold runs that are under way, and virtual environments.
        below[:] = [] if len(Path(folder).relative_to(start).parts) == DEPTH else [n for n in below if not n.startswith(".")]
        if PROGRESS in files:
            yield folder
