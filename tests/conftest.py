"""What the tests of several commands share."""

import os
import signal

import pytest

# Before torch is imported, by commands that tests start as well: with a thread for every core in every worker they would wait
# for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A shell's background jobs ignore Ctrl-C, and so would the commands that are interrupted in tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def refusal(capsys):
    """Call a command with a wrong input: it must answer with exit code 2 and no traceback; returns what it printed."""

    def refusal(main, arguments):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        assert code == 2
        assert "Traceback" not in printed.err
        return printed

    return refusal
