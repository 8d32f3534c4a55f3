"""What tells one version of a user's own code from another: packages have theirs in their name."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import distributions
from pathlib import Path


def digest_of(content: bytes) -> str:
    """What tells one version of a user's file from another.

    :param content: of the file
    """
    return hashlib.sha256(content).hexdigest()[:10]


def is_installed(path: Path) -> bool:
    """Whether a file is an installed package's, or this one's, whose versions say what it is.

    :param path: of the file
    """
    if not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or Path(__file__).parent in path.parents:
        return True
    # As ``pip install --target`` has it. A checkout that is installed where it lies has no record beside it.
    return any(
        distribution.read_text("RECORD") and path.relative_to(folder).as_posix() in map(str, distribution.files)
        for folder in path.parents
        for distribution in distributions(path=[str(folder)])
    )


def without_addresses(text: str) -> str:
    """What Python says of objects; where they are in memory is another place in another process."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", text)
