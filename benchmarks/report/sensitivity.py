"""How much two hyperparameters matter: the scores of a sweep of both as a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from benchmarks.report.leaderboard import Leaderboard, Row


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """A sweep of two hyperparameters of one algorithm, on one environment.

    :param algo: the algorithm's short name
    :param x: the hyperparameter along the columns
    :param y: the one along the rows
    :param columns: its values, ascending
    :param lines: likewise
    :param cells: the rows of the table by ``(value of y, value of x)``, every combination
    """

    algo: str
    x: str
    y: str
    columns: tuple[float, ...]
    lines: tuple[float, ...]
    cells: dict[tuple[float, float], Row]

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest IQM."""
        values = [row.summary.iqm.value for row in self.cells.values()]
        return min(values), max(values)


def find_sensitivities(board: Leaderboard) -> list[Sensitivity]:
    """A map for every algorithm of which the table has each combination of several values of two hyperparameters.

    The two are all that differs between the algorithm's rows, and are numbers. A row with nothing overridden is not part of
    it.

    :param board: the table of an environment
    """
    found = (_find(algo, [row for row in board.ranked if row.algo == algo]) for algo in sorted({r.algo for r in board.ranked}))
    return [sensitivity for sensitivity in found if sensitivity]


def _find(algo: str, rows: Sequence[Row]) -> Sensitivity | None:
    swept = [row for row in rows if row.label != algo]
    settings = [row.provenance["hyperparameters"] for row in swept]
    names = sorted({name for setting in settings for name in setting})
    varied = [name for name in names if len({repr(setting.get(name)) for setting in settings}) > 1]
    if len(varied) != 2 or not all(_is_number(setting.get(name)) for setting in settings for name in varied):
        return None
    y, x = varied
    cells = {(setting[y], setting[x]): row for setting, row in zip(settings, swept, strict=True)}
    lines, columns = (tuple(sorted({key[place] for key in cells})) for place in (0, 1))
    if len(cells) != len(swept) or len(cells) != len(lines) * len(columns):
        return None
    return Sensitivity(algo, x, y, columns, lines, cells)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
