"""Reports: leaderboards, shown in the terminal, as Markdown and as JSON, with figures."""

from benchmarks.report.across import Across, build_across
from benchmarks.report.build import build_leaderboards
from benchmarks.report.grids import Grid
from benchmarks.report.leaderboard import Leaderboard
from benchmarks.report.page import write_page
from benchmarks.report.show import show, show_across, show_problems
from benchmarks.report.texts import write_texts
from benchmarks.report.write import write_report

__all__ = [
    "Across",
    "Grid",
    "Leaderboard",
    "build_across",
    "build_leaderboards",
    "show",
    "show_across",
    "show_problems",
    "write_page",
    "write_report",
    "write_texts",
]
