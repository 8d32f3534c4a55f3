"""A study makes its calls one by one: past one in which runs failed, and no further than one that was refused."""

import os
import subprocess
from pathlib import Path

import pytest

STUDIES = sorted(path for path in (Path(__file__).parents[2] / "benchmarks" / "studies").glob("*.sh") if path.stem != "common")


def calls_of(study, exit_code, folder):
    """What a study calls, and its exit code, where every call has the given one."""
    python, log = folder / "python", folder / "calls"
    python.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\nexit {exit_code}\n')
    python.chmod(0o755)
    done = subprocess.run(["bash", study, "--out", "there"], env={**os.environ, "PYTHON": str(python)}, timeout=60)
    return log.read_text().splitlines(), done.returncode


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_a_failed_run_is_told_at_the_end_and_a_refused_call_at_once(study, tmp_path):
    for exit_code in (0, 1, 2):
        (tmp_path / str(exit_code)).mkdir()
    all_of_them, code = calls_of(study, 0, tmp_path / "0")
    assert code == 0 and len(all_of_them) > 1
    assert all(call.startswith("-m benchmarks run --") and call.endswith("--out there") for call in all_of_them)
    assert calls_of(study, 1, tmp_path / "1") == (all_of_them, 1)
    assert calls_of(study, 2, tmp_path / "2") == (all_of_them[:1], 2)
