"""One run: what determines its result, and how it is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

MOST_BYTES, CUT_BYTES = 255, 180
"""The longest name that file systems take, and what is left of a longer one, with room for what is put around it."""


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that determines its result, and nothing else.

    :param env: environment id with its version
    :param algo: the algorithm's short name
    :param label: the algorithm as reports show it, with the hyperparameters that were overridden
    :param seed: of networks, exploration and training environments
    :param steps: environment steps
    :param evaluations: evaluations, evenly spaced, the last at the end
    :param episodes: episodes of each evaluation
    :param evaluation_seed: of the first episode
    :param hyperparameters: zoo format
    :param package: the package that implements the algorithm, with its version; an environment, wrappers and a features
        extractor of the user's, with their digests
    :param rounding: what the inputs of matrix products are rounded to, ``bf16`` or ``tf32``; empty for 32 bits
    """

    env: str
    algo: str
    label: str
    seed: int
    steps: int
    evaluations: int
    episodes: int
    evaluation_seed: int
    hyperparameters: dict[str, Any]
    package: str
    rounding: str = ""

    @property
    def group(self) -> str:
        """Identifies the runs that differ in nothing but their seed."""
        content = {name: value for name, value in asdict(self).items() if name != "seed"}
        if not self.rounding:
            del content["rounding"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def path(self) -> Path:
        """Where the run's record lies, below the folder of all runs."""
        return Path(as_file_name(self.env), as_file_name(self.label), f"{self.steps}-{self.group}", f"seed-{self.seed}")

    @property
    def points(self) -> list[int]:
        """The steps at which it is evaluated; in a very short run several times at one."""
        return [round(self.steps * (k + 1) / self.evaluations) for k in range(self.evaluations)]

    @property
    def title(self) -> str:
        """The run in one line."""
        return title_of([self])


def title_of(runs: Sequence[RunSpec]) -> str:
    """Seeds of an experiment in one line, such as ``mdqn CartPole-v1 seeds 0 to 4``."""
    return f"{runs[0].label} {runs[0].env} {in_words([run.seed for run in runs])}"


def in_words(seeds: Sequence[int]) -> str:
    """Such as ``seeds 0 to 4``, where they follow each other."""
    in_a_row = all(later == earlier + 1 for earlier, later in pairwise(seeds))
    listed = f"{seeds[0]} to {seeds[-1]}" if in_a_row and len(seeds) > 2 else ", ".join(map(str, seeds))
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed}"


def as_file_name(text: str) -> str:
    """The text with whatever a file name may not hold made an underscore, and cut if it is longer than one may be."""
    name = "".join(c if c.isalnum() or c in "-_.=,[]" else "_" for c in text)
    # Of dots alone are the folders themselves.
    name = name if name.strip(".") else "_" * len(name)
    encoded = name.encode()
    return name if len(encoded) <= MOST_BYTES else encoded[:CUT_BYTES].decode(errors="ignore")
