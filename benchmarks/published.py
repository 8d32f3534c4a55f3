"""Published runs: what a report needs of a folder of runs, small and without anything that reading could execute.

    results/NAME/runs.jsonl             the record of a run a line, failed ones included, see benchmarks.store
    results/NAME/evaluations.parquet    a row an evaluation episode, see benchmarks.run; ``path`` says of which run
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from benchmarks.store import EVALUATIONS, Store, check_folder, replace_text
from sb3_entropic.errors import UserError

RUNS = "runs.jsonl"
SCHEMA = 1
"""Grows when an older version could no longer read what is written."""


def publish(store: Store, folder: Path, envs: set[str] | None = None) -> list[Path]:
    """Write the tidy data of a folder of runs. Same runs, same bytes.

    :param store: the runs
    :param folder: where to; made if it is not there, and earlier data in it is replaced
    :param envs: ids of these environments only
    :return: what was written
    :raises UserError: if the folder cannot be written
    """
    check_folder(folder, "results/mine")
    folder.mkdir(parents=True, exist_ok=True)
    records = [record for record in store.records() if envs is None or record["spec"]["env"] in envs]
    done = [record for record in records if "error" not in record]
    rows = [store.evaluations(record).assign(path=record["path"]) for record in done]
    evaluations = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame({"path": []})
    runs, episodes = folder / RUNS, folder / EVALUATIONS
    replace_text(runs, "".join(json.dumps({"schema": SCHEMA, **record}, sort_keys=True) + "\n" for record in records))
    temporary = episodes.with_suffix(".partial")
    evaluations.to_parquet(temporary, index=False, compression="zstd")
    temporary.replace(episodes)
    return [runs, episodes]


class Published:
    """Published runs, read as :class:`~benchmarks.store.Store` reads a folder of runs.

    :param folder: what :func:`publish` wrote
    :raises UserError: if one of its files cannot be read, naming it
    """

    def __init__(self, folder: Path):
        self._records = _read_records(folder / RUNS)
        try:
            evaluations = pd.read_parquet(folder / EVALUATIONS)
            self._evaluations = dict(iter(evaluations.groupby("path")))
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UserError(f"{folder / EVALUATIONS} cannot be read ({error}): export it again.") from error
        missing = [record["path"] for record in self._records if "error" not in record and record["path"] not in self._evaluations]
        if missing:
            raise UserError(f"{folder / EVALUATIONS} has no evaluations of {missing[0]}: export it again.")

    def records(self) -> list[dict[str, Any]]:
        """Every record, finished or failed (those have ``"error"``), sorted by path."""
        return self._records

    def evaluations(self, record: dict[str, Any]) -> pd.DataFrame:
        """A finished run's evaluation rows: one an episode, see :mod:`benchmarks.run`."""
        return self._evaluations[record["path"]]


def _read_records(path: Path) -> list[dict[str, Any]]:
    records = []
    try:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            record = json.loads(line)
            if record["schema"] > SCHEMA:
                raise UserError(f"{path} is of a newer version of the harness (schema {record['schema']}, known is {SCHEMA}).")
            records.append({key: value for key, value in record.items() if key != "schema"})
            records[-1]["path"], records[-1]["spec"]["label"]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): export it again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is broken in line {number} ({error}): export it again.") from error
    return records
