"""What this machine has."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

USUAL_MEMORY = 8 * 2**30


def cores() -> int:
    """Cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> float:
    """Of this machine; what is usual where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return USUAL_MEMORY


def processor() -> str:
    """Its name. Of an ARM under Linux the codes of its maker and part, since the kernel has no name for it."""
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return known["model name"] if "model name" in known else f"{known['CPU implementer']} {known['CPU part']}"
    except (OSError, subprocess.CalledProcessError, KeyError):
        return platform.processor() or "unknown"
