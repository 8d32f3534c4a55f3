"""A pytest plug-in that puts our class under its parent's name, before the upstream test modules import it."""

import os

import sb3_contrib
import stable_baselines3

from sb3_entropic.catalog import ALGORITHMS

OURS = ALGORITHMS[os.environ["SB3_SUITE_ALGORITHM"]]
PARENT = ALGORITHMS[OURS.parent].constructor

for package in (stable_baselines3, sb3_contrib):
    if hasattr(package, PARENT.__name__):
        setattr(package, PARENT.__name__, OURS.constructor)


def pytest_report_header() -> str:
    return f"upstream's {PARENT.__name__} is {OURS.constructor.__module__}.{OURS.constructor.__name__}"
