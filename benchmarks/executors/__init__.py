"""Where the runs of a grid are carried out: an executor starts jobs, :mod:`benchmarks.grid` does the rest.

A started job is a :class:`Worker` whatever starts it.
"""

from __future__ import annotations

from typing import Any, Protocol

from benchmarks.run import Job
from benchmarks.store import Claim


class Worker(Protocol):
    """A job that was started, and the latest it has said.

    :ivar job: what it was asked for
    :ivar said_of: by run, what it last said: ``timesteps``, ``train_seconds``, ``return``, the last
        ``warning`` of its own or of its stack's, in the end ``record`` or ``error``
    """

    job: Job
    said_of: list[dict[str, Any]]

    def has_ended(self) -> bool:
        """Whether everything it will ever say or write is there."""

    def was_lost(self) -> bool:
        """Once it has ended: whether it was killed, or its machine has gone, so that it may be begun again."""

    def errors(self) -> list[str | None]:
        """Once it has ended: by run, why there is no record; ``None`` where there is one."""

    def ask_to_stop(self) -> None:
        """Let it save where it is, if it can, and end soon."""

    def stop(self) -> None:
        """End it now."""


class Executor(Protocol):
    """What carries out jobs."""

    def start(self, job: Job, claim: Claim | None = None) -> Worker:
        """Start a job.

        :param job: with folders that are there, on this machine
        :param claim: on its runs, to be held until the job has ended, even if the grid is gone before that
        """

    def close(self) -> None:
        """Give back what was taken to start jobs."""
