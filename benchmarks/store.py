"""The folder of runs: a run is a directory, and finishing is an atomic rename.

    OUT/Hopper-v4/msac/30000-1a2b3c4d5e/seed-0/     run.json, evaluations.parquet, progress.csv, model.zip
    OUT/Hopper-v4/msac/30000-1a2b3c4d5e/seed-1.failed/   run.json with the traceback, log.txt
    OUT/plans/                                      the plan of every grid that ran here
    OUT/report/                                     the leaderboard, see benchmarks.report

A run is written under a name that starts with ``.partial`` and takes its own only when everything is on the disk, so a
half-written run is never mistaken for a finished one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.plan import Plan, RunSpec
from benchmarks.records import SCHEMA, read_evaluations, read_record
from sb3_entropic.errors import UserError

RECORD, EVALUATIONS = "run.json", "evaluations.parquet"
REPLACED = "replaced-"


def check_folder(out: Path, example: str) -> None:
    """Check that a folder can be written, or made.

    :param out: the folder
    :param example: one to name instead
    :raises UserError: if it is a file, or cannot be written
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"OUT={out} is a file: name a folder, such as {example}.")
    existing = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"OUT={out} cannot be written: choose another folder, such as {example}.")


class Store:
    """All runs below one folder.

    :param out: the folder; made on the first write
    :raises UserError: if it is a file, or cannot be written
    """

    def __init__(self, out: Path):
        check_folder(out, "runs")
        self.out = out

    def is_finished(self, spec: RunSpec) -> bool:
        """Whether the run's complete record is there."""
        return (self.out / spec.path / RECORD).is_file()

    def has_failed(self, spec: RunSpec) -> bool:
        """Whether the run ended in an error, and has not succeeded since."""
        return self._failed_path(spec).is_dir() and not self.is_finished(spec)

    def begin(self, spec: RunSpec) -> Path:
        """A new, empty folder for a run to write in."""
        final = self.out / spec.path
        partial = final.with_name(_partial_name(final.name))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def finish(self, spec: RunSpec, partial: Path, record: dict[str, Any], replace: bool = False) -> None:
        """Give a complete run its name.

        :param spec: the run
        :param partial: the folder from :meth:`begin`
        :param record: what is to be known of the run besides ``spec``
        :param replace: put it in the place of an earlier record; else the first to finish is kept
        """
        _write_record(partial, spec, record)
        final = self.out / spec.path
        if replace and final.exists():
            earlier = partial.with_name(_partial_name(f"{REPLACED}{final.name}"))
            final.rename(earlier)
            partial.rename(final)
            shutil.rmtree(earlier)
        else:
            try:
                partial.rename(final)
            except OSError:
                if not self.is_finished(spec):
                    raise
                shutil.rmtree(partial)
        _sync(final.parent)
        shutil.rmtree(self._failed_path(spec), ignore_errors=True)

    def fail(self, spec: RunSpec, partial: Path, error: str) -> None:
        """Keep what a failed run left, with the error."""
        _write_record(partial, spec, {"error": error})
        shutil.rmtree(self._failed_path(spec), ignore_errors=True)
        partial.rename(self._failed_path(spec))

    def sweep(self) -> None:
        """Delete what killed processes of this machine left half-written, and put back a record they had set aside."""
        for partial in self.out.glob("*/*/*/.partial-*"):
            name, _, process = partial.name.removeprefix(".partial-").rpartition("@")
            host, _, pid = process.rpartition("-")
            if host != platform.node() or not pid.isdecimal() or _is_alive(int(pid)):
                continue
            final = partial.with_name(name.removeprefix(REPLACED))
            if name.startswith(REPLACED) and not final.exists():
                partial.rename(final)
            else:
                shutil.rmtree(partial, ignore_errors=True)

    def write_plan(self, plan: Plan, command: str) -> None:
        """Keep the plan of a grid, by what it contains."""
        content = json.dumps({"command": command, **plan.as_dict()}, indent=1, sort_keys=True)
        folder = self.out / "plans"
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        replace_text(folder / f"{plan.budget}-{digest}.json", content + "\n")

    def with_earlier_sizes(self, plan: Plan) -> Plan:
        """The plan with the stacks that were decided when the same grid was first planned, so that it goes on in these.

        :param plan: the grid; a number of seeds that the user has given stays
        """
        runs = json.loads(json.dumps(plan.as_dict()["runs"]))
        for path in sorted((self.out / "plans").glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            earlier = json.loads(path.read_text())
            if (earlier.get("stack"), earlier["runs"]) == (plan.stack, runs):
                return replace(plan, sizes=earlier["sizes"])
        return plan

    def records(self, problems: list[str] | None = None) -> list[dict[str, Any]]:
        """Every record, finished or failed (those have ``"error"``), sorted by path.

        :param problems: a sentence about each record that cannot be used is appended to it
        :raises UserError: the first such sentence, if there is no list to take it
        """
        records = []
        for path in sorted(self.out.glob(f"*/*/*/seed-*/{RECORD}")):
            try:
                records.append({**read_record(path), "path": path.parent.relative_to(self.out).as_posix()})
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
        return records

    def evaluations(self, record: dict[str, Any]) -> pd.DataFrame:
        """A finished run's evaluation rows: one an episode, see :mod:`benchmarks.run`.

        :raises UserError: if they cannot be read or lack something, naming the file
        """
        return read_evaluations(self.out / record["path"] / EVALUATIONS)

    def _failed_path(self, spec: RunSpec) -> Path:
        final = self.out / spec.path
        return final.with_name(f"{final.name}.failed")


def replace_text(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(_partial_name(path.name))
    temporary.write_text(content)
    temporary.replace(path)


def _partial_name(name: str) -> str:
    return f".partial-{name}@{platform.node()}-{os.getpid()}"


def _write_record(folder: Path, spec: RunSpec, record: dict[str, Any]) -> None:
    (folder / RECORD).write_text(
        json.dumps({"schema": SCHEMA, "spec": asdict(spec), **record}, indent=1, sort_keys=True) + "\n"
    )
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Push to the disk, so that a rename never comes before what it names."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
