"""Numbers too small for the usual exponents, which processors compute with in microcode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch as th

_DENORMAL = np.float32(1e-40)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Let numbers below 1e-38, of 32 bits, be 0 within the block, in this thread.

    Adam's moments of a weight that receives no gradient any more, as those of a unit that never fires, shrink with every step
    and stay among these numbers for good: a step of Adam then takes up to five times as long.
    """
    if _DENORMAL * np.float32(1) == 0:
        # Whoever has set it already wants it afterwards, too.
        yield
        return
    th.set_flush_denormal(True)
    try:
        yield
    finally:
        th.set_flush_denormal(False)
