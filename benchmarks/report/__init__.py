"""Reports: one leaderboard, shown in the terminal, as Markdown and as JSON, with a learning-curve figure."""

from benchmarks.report.leaderboard import Leaderboard, build_leaderboards
from benchmarks.report.write import show, write_report

__all__ = ["Leaderboard", "build_leaderboards", "show", "write_report"]
