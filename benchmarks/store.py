"""The folder of runs: a run is a directory, and finishing is an atomic rename.

    OUT/Hopper-v4/msac/30000-1a2b3c4d5e/seed-0/     run.json, evaluations.parquet, progress.csv, model.zip
    OUT/Hopper-v4/msac/30000-1a2b3c4d5e/seed-1.failed/   run.json with the traceback, log.txt
    OUT/Hopper-v4/msac/30000-1a2b3c4d5e/.partial-seed-2/   a run that is under way, or was, with its checkpoints
    OUT/plans/                                      the plan of every grid that ran here
    OUT/report/                                     the leaderboard, see benchmarks.report

A run is written under a name that starts with ``.partial`` and takes its own only when everything is on the disk, so a
half-written run is never mistaken for a finished one. Whoever works on a run holds a lock on it, which the system takes back
when the last process that holds it is gone, however it went: two grids in one folder share the work, and a killed one is in
nobody's way.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.plan import Plan
from benchmarks.records import SCHEMA, check_evaluations, check_place, read_evaluations, read_record
from benchmarks.spec import RunSpec
from sb3_entropic.errors import UserError

RECORD, EVALUATIONS = "run.json", "evaluations.parquet"
PARTIAL, REPLACED, LOCK, CHECKPOINT, FAILED = ".partial-", ".replaced-", ".lock-", "checkpoint-", ".failed"


@dataclass(frozen=True)
class Claim:
    """Locks on runs; a process that inherits the descriptors holds them too.

    :param locks: descriptors of the locked files, with their paths
    """

    locks: tuple[tuple[int, Path], ...]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a process inherits that is to hold the runs too."""
        return tuple(descriptor for descriptor, _ in self.locks)

    def release(self) -> None:
        """Let others have the runs."""
        for descriptor, path in self.locks:
            # A folder may have become another user's.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(descriptor)


def check_folder(out: Path, example: str) -> None:
    """Check that a folder can be written, or made.

    :param out: the folder
    :param example: one to name instead
    :raises UserError: if it is a file, or cannot be written
    """
    check_no_file(out, example)
    existing = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"OUT={out} cannot be written: choose another folder, such as {example}.")


def check_no_file(out: Path, example: str) -> None:
    """Check that a folder is none, or is not there yet.

    :param out: the folder
    :param example: one to name instead
    :raises UserError: if it is a file
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"OUT={out} is a file: name a folder, such as {example}.")


class Store:
    """All runs below one folder.

    :param out: the folder; made on the first write
    :raises UserError: if it is a file
    """

    def __init__(self, out: Path):
        check_no_file(out, "runs")
        self.out = out

    def is_finished(self, spec: RunSpec) -> bool:
        """Whether the run's complete record is there."""
        return (self.out / spec.path / RECORD).is_file()

    def has_failed(self, spec: RunSpec) -> bool:
        """Whether the run ended in an error, and has not succeeded since."""
        return self._failed_path(spec).is_dir() and not self.is_finished(spec)

    def claim(self, specs: Sequence[RunSpec]) -> Claim | None:
        """Lock runs, all or none; ``None`` if another process has one of them."""
        locked: list[tuple[int, Path]] = []
        with contextlib.ExitStack() as unless_all:
            for spec in specs:
                final = self.out / spec.path
                final.parent.mkdir(parents=True, exist_ok=True)
                path = final.with_name(f"{LOCK}{final.name}")
                if (descriptor := _lock(path)) is None:
                    return None
                locked.append((descriptor, path))
                unless_all.callback(Claim((locked[-1],)).release)
            unless_all.pop_all()
        return Claim(tuple(locked))

    def checkpoints(self, spec: RunSpec) -> dict[int, Path]:
        """The checkpoints of a run that is under way or was interrupted, by the environment steps it had taken."""
        found = {path.name.removeprefix(CHECKPOINT): path for path in self.partial(spec).glob(f"{CHECKPOINT}*")}
        return {int(steps): path for steps, path in found.items() if steps.isdecimal()}

    def partial(self, spec: RunSpec) -> Path:
        """Where a run is written until it is finished."""
        final = self.out / spec.path
        return final.with_name(f"{PARTIAL}{final.name}")

    def begin(self, spec: RunSpec, resume: bool = False) -> Path:
        """The folder for a run to write in, which is to be claimed first.

        :param spec: the run
        :param resume: keep what an interrupted run has left there, else begin with an empty one
        """
        partial = self.partial(spec)
        if not resume:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=resume)
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
        earlier = final.with_name(f"{REPLACED}{final.name}")
        # A folder without a record is a copy that was not finished, or a run that its user wants again.
        if final.exists() and (replace or not self.is_finished(spec)):
            final.rename(earlier)
        try:
            partial.rename(final)
        except OSError:
            if not self.is_finished(spec):
                raise
            shutil.rmtree(partial)
        shutil.rmtree(earlier, ignore_errors=True)
        sync(final.parent)
        # Not before: until then they are what the run would be continued from.
        remove_checkpoints(final)
        shutil.rmtree(self._failed_path(spec), ignore_errors=True)

    def fail(self, spec: RunSpec, partial: Path, error: str) -> None:
        """Keep what a failed run left, with the error."""
        _write_record(partial, spec, {"error": error, "ended": datetime.now(timezone.utc).isoformat(timespec="seconds")})
        remove_checkpoints(partial)
        shutil.rmtree(self._failed_path(spec), ignore_errors=True)
        partial.rename(self._failed_path(spec))

    def sweep(self) -> None:
        """Put right what killed processes left, except runs that can be continued."""
        for folder in [*self.out.glob(f"*/*/*/{REPLACED}seed-*"), *self.out.glob(f"*/*/*/{PARTIAL}seed-*")]:
            name = folder.name.removeprefix(REPLACED).removeprefix(PARTIAL)
            lock = folder.with_name(f"{LOCK}{name}")
            # What cannot be written is not this grid's, or fails when it is begun.
            with contextlib.suppress(OSError):
                if (descriptor := _lock(lock)) is None:
                    continue
                final = folder.with_name(name)
                if folder.name.startswith(REPLACED) and not final.exists():
                    folder.rename(final)
                elif folder.name.startswith(REPLACED) or final.exists() or not any(folder.glob(f"{CHECKPOINT}*")):
                    shutil.rmtree(folder, ignore_errors=True)
                Claim(((descriptor, lock),)).release()
        for final in self.out.glob("*/*/*/seed-*"):
            remove_checkpoints(final)
        for lock in self.out.glob(f"*/*/*/{LOCK}seed-*"):
            with contextlib.suppress(OSError):
                if (descriptor := _lock(lock)) is not None:
                    Claim(((descriptor, lock),)).release()

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
            # A plan that cannot be read is none: its grid is then divided anew.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                earlier = json.loads(path.read_text(encoding="utf-8"))
                if (earlier["stack"], earlier["runs"]) == (plan.stack, runs):
                    sizes = dict(earlier["sizes"])
                    if all(isinstance(size, int) and size > 0 for size in sizes.values()):
                        return replace(plan, sizes=sizes)
        return plan

    def records(self, problems: list[str] | None = None) -> list[dict[str, Any]]:
        """Every record, finished or failed (those have ``"error"``), sorted by path; of a run that has both the finished one.

        :param problems: a sentence about each record that cannot be used is appended to it
        :raises UserError: the first such sentence, if there is no list to take it
        """
        records = []
        for path in sorted(self.out.glob(f"*/*/*/seed-*/{RECORD}")):
            # What fails when it is run afresh leaves the earlier record, which nothing would ever run again.
            if path.parent.suffix == FAILED and (path.parent.with_suffix("") / RECORD).is_file():
                continue
            try:
                record = {**read_record(path), "path": path.parent.relative_to(self.out).as_posix()}
                check_place(record, record["path"].removesuffix(FAILED), str(path))
                records.append(record)
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
        return records

    def evaluations(self, record: dict[str, Any]) -> pd.DataFrame:
        """A finished run's evaluation rows: one an episode, see :mod:`benchmarks.run`.

        :raises UserError: if they cannot be read or lack something, naming the file
        """
        path = self.out / record["path"] / EVALUATIONS
        return check_evaluations(read_evaluations(path), str(path), record)

    def _failed_path(self, spec: RunSpec) -> Path:
        final = self.out / spec.path
        return final.with_name(f"{final.name}{FAILED}")


def replace_text(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f"{PARTIAL}{path.name}@{platform.node()}-{os.getpid()}")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _lock(path: Path) -> int | None:
    """A descriptor of the file, locked; ``None`` if another process has it."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have deleted it in between, and a file of the same name is then another.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a run, finished or unfinished."""
    for checkpoint in [*folder.glob(f"{CHECKPOINT}*"), *folder.glob(f".{CHECKPOINT}*")]:
        shutil.rmtree(checkpoint, ignore_errors=True)


def _write_record(folder: Path, spec: RunSpec, record: dict[str, Any]) -> None:
    content = json.dumps({"schema": SCHEMA, "spec": asdict(spec), **record}, indent=1, sort_keys=True)
    (folder / RECORD).write_text(content + "\n", encoding="utf-8")
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Push to the disk, so that a rename never comes before what it names."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
