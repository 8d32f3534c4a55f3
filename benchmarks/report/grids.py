"""What is made of one folder of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.across import Across
from benchmarks.report.leaderboard import Leaderboard


@dataclass(frozen=True)
class Grid:
    """The tables of one folder of runs.

    :param name: such as that of the folder below ``results/``; may be empty
    :param boards: the tables of single environments
    :param tables: those over several
    :param problems: sentences about runs that could not be used
    """

    name: str
    boards: Sequence[Leaderboard]
    tables: Sequence[Across]
    problems: Sequence[str] = ()
