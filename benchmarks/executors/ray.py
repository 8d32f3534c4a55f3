"""Jobs on a Ray cluster: the cores of this machine, or the machines behind ``RAY_ADDRESS``.

The machines share nothing: each has the project at the same path, and a job writes to a folder of the machine it runs on.
Its checkpoints come back as they are taken and the rest at its end, to where a local job would have put them. So a machine
that is lost costs what was done there since the last checkpoints, and the runs go on elsewhere.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.executors.local import Process
from benchmarks.machine import cores
from benchmarks.provenance import provenance
from benchmarks.run import Job
from benchmarks.store import CHECKPOINT, Claim
from sb3_entropic.errors import UserError

POLL_SECONDS = 0.5

Files = dict[tuple[int, str], bytes]
"""Contents by run and path in its folder."""


class RayExecutor:
    """Ray tasks, each with a process of its own as on this machine.

    :param cpus_per_run: cores that a job reserves
    :param gpus_per_run: GPUs, or parts of them, that a job reserves
    :raises ConnectionError: if ``RAY_ADDRESS`` names a cluster that does not answer
    :raises UserError: if the cluster has not the cores or GPUs for a single run
    """

    def __init__(self, cpus_per_run: float = 1, gpus_per_run: float = 0):
        self._mine = not ray.is_initialized()
        if self._mine:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._home = ray.remote(Home).options(num_cpus=0, scheduling_strategy=here).remote()
        # What becomes of a lost task is the grid's to decide.
        self._task = ray.remote(carry_out).options(num_cpus=cpus_per_run, num_gpus=gpus_per_run, max_retries=0)
        cluster = ray.cluster_resources()
        wanted = {"CPU": cpus_per_run, "GPU": gpus_per_run}
        self.room = min((int(cluster.get(kind, 0) / number) for kind, number in wanted.items() if number), default=cores())
        """Jobs that fit into the cluster at a time."""
        if not self.room:
            self.close()
            has = " and ".join(f"{cluster.get(kind, 0):g} {kind}s" for kind in wanted)
            raise UserError(f"No run fits into the Ray cluster, which has {has}: lower --cpus-per-run or --gpus-per-run.")

    def start(self, job: Job, claim: Claim | None = None) -> RayJob:
        """A task for a job; a claim is held by this process alone, whose end is that of its tasks."""
        return RayJob(job, self._task, self._home)

    def close(self) -> None:
        """Leave the cluster, if this has joined it."""
        ray.kill(self._home)
        if self._mine:
            ray.shutdown()


class RayJob:
    """A :class:`benchmarks.executors.Worker` that is a Ray task."""

    def __init__(self, job: Job, task: Any, home: Any):
        self.job = job
        self.said_of: list[dict[str, Any]] = [{} for _ in job.specs]
        # The actor works in a folder of its own.
        folders = [str(folder.absolute()) for folder in job.folders]
        self._home, self._name = home, folders[0]
        self._errors: list[str | None] | None = None
        self._lost = False
        home.begin.remote(self._name)
        given = {} if job.resume is None else read_files(job.folders, f"{CHECKPOINT}{job.resume}")
        self._task = task.remote(job.to_json(), given, home, self._name, folders)

    def has_ended(self) -> bool:
        """Whether the task is done or lost."""
        if self._errors is not None:
            return True
        done, _ = ray.wait([self._task], timeout=0)
        if not done:
            self.said_of = ray.get(self._home.heard.remote(self._name)) or self.said_of
            return False
        try:
            said_of, errors, self._lost, files = ray.get(self._task)
        except RayError as error:
            # A task that raises has a bug, and one more try has too.
            self._lost = not isinstance(error, RayTaskError)
            what = "its machine is gone" if isinstance(error, NodeDiedError) else str(error).strip().splitlines()[0]
            self._errors = [f"The Ray task was lost: {what}."] * len(self.job.specs)
            return True
        write_files(self.job.folders, files)
        for said in said_of:
            if "record" in said:
                # The copy it ran may be no checkout.
                said["record"]["commit"] = said["record"]["commit"] or provenance()["commit"]
        # Only now: whoever is told of a record finds its files.
        self.said_of, self._errors = said_of, errors
        return True

    def was_lost(self) -> bool:
        """Whether its process, its worker or its machine is gone."""
        return self._lost

    def errors(self) -> list[str | None]:
        """By run, why there is no record."""
        return self._errors

    def ask_to_stop(self) -> None:
        """Let the task know when it asks next."""
        self._home.stop.remote(self._name)

    def stop(self) -> None:
        """Cancel the task; its process ends with it."""
        ray.cancel(self._task, force=True)


class Home:
    """Where tasks report to: an actor on the machine of the grid."""

    def __init__(self) -> None:
        self._heard: dict[str, list[dict[str, Any]]] = {}
        self._stopping: set[str] = set()

    def begin(self, name: str) -> None:
        """A job begins, perhaps not for the first time."""
        self._heard.pop(name, None)
        self._stopping.discard(name)

    def hear(self, name: str, said_of: list[dict[str, Any]]) -> bool:
        """Take in what a job has said; whether it is to stop."""
        # A record is one once its files have come, too.
        self._heard[name] = [{key: value for key, value in said.items() if key not in ("record", "error")} for said in said_of]
        return name in self._stopping

    def heard(self, name: str) -> list[dict[str, Any]] | None:
        """The latest that a job has said."""
        return self._heard.get(name)

    def stop(self, name: str) -> None:
        """A job is to stop."""
        self._stopping.add(name)

    def keep(self, folders: list[str], checkpoint: str, files: Files) -> None:
        """Put checkpoints of a stack in the place of those before them."""
        for index, folder in enumerate(map(Path, folders)):
            unfinished = folder / f".{checkpoint}"
            shutil.rmtree(unfinished, ignore_errors=True)
            write_files([unfinished], {(0, Path(path).name): data for (run, path), data in files.items() if run == index})
            shutil.rmtree(folder / checkpoint, ignore_errors=True)
            unfinished.rename(folder / checkpoint)
        for folder in map(Path, folders):
            for earlier in folder.glob(f"{CHECKPOINT}*"):
                if earlier.name != checkpoint:
                    shutil.rmtree(earlier)


def carry_out(
    job: str, given: Files, home: Any, name: str, home_folders: list[str]
) -> tuple[list[dict[str, Any]], list[str | None], bool, Files]:
    """Do a job in a process of this machine; what it has said, its errors, whether it was killed, and what it has written.

    :param job: in JSON, with folders that are replaced by new ones here
    :param given: what to put into these
    :param home: the actor
    :param name: of the job, for the actor
    :param home_folders: where checkpoints go
    """
    with tempfile.TemporaryDirectory() as parent:
        asked = Job.from_json(job)
        folders = tuple(Path(parent, str(run)) for run in range(len(asked.specs)))
        for folder in folders:
            folder.mkdir()
        write_files(folders, given)
        process, kept = Process(replace(asked, folders=folders)), asked.resume
        try:
            while not process.has_ended():
                if ray.get(home.hear.remote(name, process.said_of)):
                    process.ask_to_stop()
                latest = latest_of_all(folders)
                # Of a stack of which a seed has failed there may be none.
                if latest is not None and latest != kept:
                    checkpoint = f"{CHECKPOINT}{latest}"
                    ray.get(home.keep.remote(home_folders, checkpoint, read_files(folders, checkpoint)))
                    kept = latest
                time.sleep(POLL_SECONDS)
        finally:
            process.stop()
        errors = process.errors()
        if not any(errors):
            for checkpoint in (path for folder in folders for path in folder.glob(f"{CHECKPOINT}*")):
                shutil.rmtree(checkpoint)
        return process.said_of, errors, process.was_lost(), read_files(folders)


def latest_of_all(folders: Iterable[Path]) -> int | None:
    """The environment steps of the latest checkpoint that every run of a stack has."""
    taken = [{int(path.name.removeprefix(CHECKPOINT)) for path in folder.glob(f"{CHECKPOINT}*")} for folder in folders]
    return max(set.intersection(*taken), default=None)


def read_files(folders: Iterable[Path], name: str = "*") -> Files:
    """Everything in folders, or what has that name there, with what is in it."""
    return {
        (run, str(path.relative_to(folder))): path.read_bytes()
        for run, folder in enumerate(folders)
        for top in folder.glob(name)
        for path in [top, *top.rglob("*")]
        if path.is_file()
    }


def write_files(folders: Iterable[Path], files: Files) -> None:
    """Write what :func:`read_files` has read."""
    folders = list(folders)
    for (run, name), content in files.items():
        path = folders[run] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
