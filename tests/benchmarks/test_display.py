"""The lines of a grid that no terminal shows."""

import errno
import io
import os
from types import SimpleNamespace

import pytest

from benchmarks import display
from benchmarks.display import Display
from sb3_entropic.cli import Console


def test_the_time_left_is_by_what_this_call_has_done(make_spec, monkeypatch):
    now, file = [0.0], io.StringIO()
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    specs = [make_spec(seed=seed, steps=1000) for seed in range(2)]
    job, said = SimpleNamespace(specs=specs[:1], resume=400), {"timesteps": 410, "train_seconds": 50.0}

    class Worker:
        pass

    worker = Worker()
    worker.job, worker.said_of = job, [said]
    with Display(Console(file=file, width=200), specs) as shown:
        shown.update(worker)
        now[0], said["timesteps"] = 600.0, 600
        shown.update(worker)
    # 200 of the remaining steps took ten minutes, and 1,400 are to go.
    assert "0/2 runs, 600 of 2,000 steps, 70 minutes left" in file.getvalue()


def test_what_failed_at_once_says_nothing_of_the_time_left(make_spec, monkeypatch):
    now, file = [0.0], io.StringIO()
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    specs = [make_spec(seed=seed, steps=1000) for seed in range(3)]

    class Worker:
        job, said_of = SimpleNamespace(specs=specs[:1], resume=None), [{"timesteps": 0, "train_seconds": 1.0}]

    worker = Worker()
    with Display(Console(file=file, width=200), specs) as shown:
        shown.update(worker)
        shown.end(specs[2], "failed")
        now[0], worker.said_of[0]["timesteps"] = 600.0, 500
        shown.update(worker)
    # 500 steps took ten minutes, and 1,500 are to go.
    assert "1/3 runs, 1,500 of 3,000 steps, 30 minutes left" in file.getvalue()


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "gone"), OSError(errno.EIO, "gone")])
def test_a_reader_that_is_gone_ends_nothing(error, make_spec, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise error

    redirected = []
    monkeypatch.setattr(os, "dup2", lambda *descriptors: redirected.append(descriptors))
    console = Console(file=Gone())
    with Display(console, [make_spec()]) as shown:
        shown.say("[bold]a line[/]")
        assert console.quiet
        shown.end(make_spec(), "the end")
    assert len(redirected) == isinstance(error, BrokenPipeError), "what Python writes on its way out"
