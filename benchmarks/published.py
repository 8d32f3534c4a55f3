"""Published runs: what a report needs of a folder of runs, small and without anything that reading could execute.

results/NAME/runs.jsonl             the record of a run a line, failed ones included, see benchmarks.store
results/NAME/evaluations.parquet    a row an evaluation episode, see benchmarks.run; ``path`` says of which run
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.records import SCHEMA, check_evaluations, check_place, check_record, read_evaluations
from benchmarks.spec import RunSpec
from benchmarks.store import EVALUATIONS, FAILED, Store, check_folder, replace_text
from sb3_entropic.errors import UserError

RUNS = "runs.jsonl"


def publish(
    store: Store,
    folder: Path,
    envs: set[str] | None = None,
    problems: list[str] | None = None,
    replaces: bool = False,
) -> list[Path]:
    """Write the tidy data of a folder of runs. Same runs, same bytes.

    :param store: the runs
    :param folder: where to; made if it is not there
    :param envs: ids of these environments only
    :param problems: a sentence about each run that cannot be used, and is left out, is appended to it
    :param replaces: whether what the folder holds may be lost
    :return: what was written
    :raises UserError: if the folder cannot be written, there is nothing to write or something would be lost; the first such
        sentence, if there is no list to take it
    """
    check_folder(folder, "results/mine")
    records, rows = [], []
    for record in store.records(problems):
        if envs is not None and record["spec"]["env"] not in envs:
            continue
        try:
            if "error" not in record:
                rows.append(store.evaluations(record).assign(path=record["path"]))
        except UserError as error:
            if problems is None:
                raise
            problems.append(str(error))
            continue
        records.append(record)
    if not records:
        raise UserError(f"There are no usable runs in {store.out}: `python -m benchmarks run --env Pendulum-v1` makes some.")
    if not replaces:
        _check_keeps(records, folder, store)
    folder.mkdir(parents=True, exist_ok=True)
    evaluations = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame({"path": []})
    runs, episodes = folder / RUNS, folder / EVALUATIONS
    replace_text(runs, "".join(json.dumps({"schema": SCHEMA, **record}, sort_keys=True) + "\n" for record in records))
    temporary = episodes.with_suffix(".partial")
    evaluations.to_parquet(temporary, index=False, compression="zstd")
    temporary.replace(episodes)
    return [runs, episodes]


def _check_keeps(records: list[dict[str, Any]], folder: Path, store: Store) -> None:
    """Check that every finished run that a folder holds is among some records."""
    if not (folder / RUNS).is_file():
        return
    kept, unreadable = {record["path"] for record in records}, []
    lost = [r["path"] for r in Published(folder).records(unreadable) if "error" not in r and r["path"] not in kept]
    if not lost and not unreadable:
        return
    first = store.out / lost[0] if lost else None
    if first is None:
        what, remedy = f"{unreadable[0]} It", "Mend the file"
    elif first.exists():
        what, remedy = f"{folder} holds {lost[0]}, which cannot be used in {store.out} and", f"Delete {first} and restore it"
    else:
        count = "a finished run" if len(lost) == 1 else f"{len(lost)} finished runs"
        what = f"{folder} holds {count} such as {lost[0]}, which {store.out} lacks and"
        remedy = f"Put them there with `python -m benchmarks restore {folder} --out {store.out}`"
    raise UserError(f"{what} would be lost. {remedy}, or replace what is published with --replace.")


def restore(published: Published, store: Store, problems: list[str]) -> tuple[int, int]:
    """Put published runs back into a folder of runs, where a grid takes them for finished; their models are not published.

    Runs that are there already stay as they are, and failed ones are left out: a grid is to try them again.

    :param published: the runs
    :param store: where to
    :param problems: a sentence about each run that cannot be used is appended to it
    :return: how many were put back, and how many failed
    """
    count = failed = 0
    for record in published.records(problems):
        if "error" in record:
            failed += 1
            continue
        origin = {name: value for name, value in record.items() if name not in ("schema", "spec", "path")}
        spec = RunSpec(**record["spec"])
        try:
            rows = published.evaluations(record).drop(columns="path")
        except UserError as error:
            problems.append(str(error))
            continue
        # What a grid is working on is left to it.
        if store.is_finished(spec) or (claim := store.claim([spec])) is None:
            continue
        folder = store.begin(spec)
        rows.to_parquet(folder / EVALUATIONS, index=False)
        store.finish(spec, folder, origin)
        claim.release()
        count += 1
    return count, failed


class Published:
    """Published runs, read as :class:`~benchmarks.store.Store` reads a folder of runs.

    :param folder: what :func:`publish` wrote
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def records(self, problems: list[str] | None = None) -> list[dict[str, Any]]:
        """See :meth:`benchmarks.store.Store.records`."""
        path, records, seen = self.folder / RUNS, [], set()
        # A byte that is no text spoils its line alone.
        # JSON has its own idea of what ends a line, and some editors begin a file with a mark.
        for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), start=1):
            if not line.strip():
                continue
            try:
                record = _read_line(line, f"{path}, line {number},")
                if record["path"] in seen:
                    raise UserError(f"{path}, line {number}, is another record of {record['path']}: a run counts once.")
                seen.add(record["path"])
                records.append(record)
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
        # As of a folder of runs, of a run that has both the finished one.
        return [r for r in records if not (r["path"].endswith(FAILED) and r["path"].removesuffix(FAILED) in seen)]

    def evaluations(self, record: dict[str, Any]) -> pd.DataFrame:
        """See :meth:`benchmarks.store.Store.evaluations`."""
        path = self.folder / EVALUATIONS
        rows = self._evaluations.get(record["path"], pd.DataFrame({"path": []}))
        return check_evaluations(rows, f"{path}, run {record['path']},", record)

    @cached_property
    def _evaluations(self) -> dict[str, pd.DataFrame]:
        return dict(iter(read_evaluations(self.folder / EVALUATIONS, "path").groupby("path")))


def open_runs(folder: Path) -> Store | Published:
    """A folder of runs, or of published ones.

    :param folder: what a grid, or :func:`publish`, wrote
    """
    return Published(folder) if (folder / RUNS).is_file() else Store(folder)


def _read_line(line: str, source: str) -> dict[str, Any]:
    try:
        record = check_record(json.loads(line), source)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, UserError) else UserError(f"{source} is not JSON: {error}.") from None
    path = record.get("path")
    if not isinstance(path, str):
        raise UserError(f"{source} has {path!r} as 'path'.")
    check_place(record, path.removesuffix(FAILED), source)
    return record
