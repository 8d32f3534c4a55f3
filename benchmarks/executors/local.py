"""Jobs in processes on this machine, one torch thread each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.callbacks import STOPPED
from benchmarks.run import Job
from benchmarks.store import Claim

LOG = "log.txt"


class Process:
    """A :class:`benchmarks.executors.Worker` that is a process.

    :param job: with or without folders
    :param claim: see :meth:`benchmarks.executors.Executor.start`
    """

    def __init__(self, job: Job, claim: Claim | None = None):
        self.job = job
        self.said: dict[str, Any] = {}
        """Of the job as a whole."""
        self.said_of: list[dict[str, Any]] = [{} for _ in job.specs]
        # A run that goes on goes on with its log.
        log = subprocess.DEVNULL if job.folders is None else open(job.folders[0] / LOG, "ab")  # noqa: SIM115
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(paths)},
            # Ctrl-C reaches the grid alone, which then stops its workers in order.
            start_new_session=True,
            pass_fds=() if claim is None else claim.descriptors,
        )
        if log is not subprocess.DEVNULL:
            log.close()
        with contextlib.suppress(BrokenPipeError):
            # It stays open: its end tells the process that the grid is gone.
            self._process.stdin.write(job.to_json() + "\n")
            self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def has_ended(self) -> bool:
        """Whether the process is gone and everything it said is read."""
        if self._process.poll() is None:
            return False
        # Not for ever: an environment may have left a child that holds the pipe open.
        self._reader.join(timeout=5)
        self._close()
        return True

    def was_lost(self) -> bool:
        """Whether it was killed or asked to stop, by the system or anyone."""
        return self._process.returncode < 0 or self._process.returncode == STOPPED

    def errors(self) -> list[str | None]:
        """Why a run has no record: its traceback, the job's, or how the process died and the end of its log."""
        return [None if "record" in said else said.get("error") or self._error() for said in self.said_of]

    def _error(self) -> str:
        if "error" in self.said:
            return self.said["error"]
        code = self._process.returncode
        ended = "was asked to stop" if code == STOPPED else f"ended with exit code {code}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else ended
        log = ""
        if self.job.folders is not None:
            log = (self.job.folders[0] / LOG).read_text(encoding="utf-8", errors="replace")[-4000:]
        return f"{log}\nThe worker process {how}."

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def stop(self) -> None:
        """SIGKILL, to whatever it has started too."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                message = json.loads(line)
                run = message.pop("run", None)
                if run is None:
                    self.said = {**self.said, **message}
                else:
                    self.said_of[run] = {**self.said_of[run], **message}


class LocalExecutor:
    """Processes on this machine."""

    def start(self, job: Job, claim: Claim | None = None) -> Process:
        """A process for a job; it inherits the claim."""
        return Process(job, claim)

    def close(self) -> None:
        """Nothing is held between jobs."""
