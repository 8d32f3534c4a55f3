"""``python -m tests.sb3_suite``: download the installed version's tests and run them on our classes.

The source distributions on the package index carry their tests; none of these files is kept in this repository.
"""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from sb3_entropic.catalog import ALGORITHMS

ROOT = Path(__file__).parents[2]
FILES = [
    *("run", "save_load", "predict", "callbacks", "deterministic", "dict_env", "cnn", "spaces", "her", "n_step_replay"),
    *("train_eval_mode", "custom_policy", "identity", "sde", "vec_normalize", "tensorboard"),
]

# One for each SB3 class that ours stand in for: the other members of the gap-increasing family are MDQN with other
# defaults, and an algorithm with networks of its own is not its parent to a test that reads them.
ALGORITHMS_OF_THE_SUITE = ("msac", "mtqc", "mdqn", "mqrdqn", "entropyppo", "maxentppo")


def upstream_tests(package: str) -> Path:
    """The folder that holds the installed version's ``tests``, downloaded on first use."""
    folder = ROOT / ".cache" / "sb3-suite" / f"{package}-{version(package)}"
    if not (folder / "tests").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
        subprocess.run([*download, f"{package}=={version(package)}"], check=True)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                inside = Path(*Path(member.name).parts[1:])
                # The tests and pytest's settings alone: a copy of the package here would hide the installed one.
                if member.isfile() and (inside.parts[0] == "tests" or inside.name == "pyproject.toml"):
                    member.name = str(inside)
                    archive.extract(member, folder, filter="data")
    return folder


def main() -> int:
    """Run the suite for the algorithms named, by default each of :data:`ALGORITHMS_OF_THE_SUITE`; the rest goes to pytest."""
    exit_code = 0
    names = [word for word in sys.argv[1:] if word in ALGORITHMS]
    options = [word for word in sys.argv[1:] if word not in ALGORITHMS]
    for algorithm in map(ALGORITHMS.__getitem__, names or ALGORITHMS_OF_THE_SUITE):
        folder = upstream_tests(ALGORITHMS[algorithm.parent].constructor.__module__.split(".")[0])
        present = [f"tests/test_{name}.py" for name in FILES if (folder / "tests" / f"test_{name}.py").is_file()]
        if not present:
            sys.exit(f"{folder.name} has none of the tests: did its layout change?")
        arguments = ["-p", "tests.sb3_suite.plugin", "-n", "auto", "-q", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SB3_SUITE_ALGORITHM": algorithm.name}
        completed = subprocess.run([sys.executable, "-m", "pytest", *arguments, *present], cwd=folder, env=environment)
        exit_code = exit_code or completed.returncode
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
