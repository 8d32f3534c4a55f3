"""Where a number comes from: versions, commit and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch as th

import sb3_entropic
from benchmarks.machine import processor


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Versions, commit and machine: what a reader needs to repeat a number, and nothing about who ran it.

    :param device: type of torch's; of a machine the GPU is named where it was used
    """
    packages = (
        "stable_baselines3",
        "sb3_contrib",
        "torch",
        "numpy",
        "gymnasium",
        "mujoco",
        "box2d",
        "minatar",
        "ale_py",
        "sbx_rl",
        "jax",
    )
    machine = {"processor": processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    if device == "cuda":
        machine["gpu"] = th.cuda.get_device_name()
    return {
        "versions": {
            "python": platform.python_version(),
            "sb3_entropic": sb3_entropic.__version__,
            **{p: v for p in packages if (v := _version(p))},
        },
        "commit": _commit(),
        "machine": machine,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this checkout, marked where files differ from it; ``None`` outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
