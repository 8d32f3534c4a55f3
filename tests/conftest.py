"""What the tests of several commands share."""

import pytest


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
