"""The random numbers of each of several models, of which numpy's global generator is one's at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th


class Streams:
    """The random numbers of one model: numpy's global generator, and one of torch's, as the model's seed has set them.

    :param own: ``False`` leaves the global generators, as SB3 does
    """

    def __init__(self, own: bool):
        self.generator = th.default_generator
        self._bits: MT19937 | None = None
        if own:
            self.generator = th.Generator()
            self.generator.set_state(th.get_rng_state())
            self._bits = MT19937()
            self._bits.take(np.random.get_state(legacy=False))

    def enter(self) -> None:
        """Let numpy's global generator be this model's."""
        if self._bits is not None:
            self._bits.enter()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let both global generators be this model's within the block."""
        torch_before = th.get_rng_state()
        with numpys_generator_given_back():
            self.enter()
            th.set_rng_state(self.generator.get_state())
            try:
                yield
            finally:
                th.set_rng_state(torch_before)


@contextmanager
def numpys_generator_given_back() -> Iterator[None]:
    """Let numpy's global generator be what it was when the block ends, where others have taken its place."""
    before, state = np.random.get_bit_generator(), np.random.get_state(legacy=False)
    try:
        yield
    finally:
        if np.random.get_bit_generator() is not before:
            np.random.set_bit_generator(before)
            np.random.set_state(state)


class MT19937(np.random.MT19937):
    """The bits of numpy's global generator, and of its normal numbers the one that was drawn in advance.

    Numpy draws them in pairs, keeps the second beside the bits, and forgets it when other bits come. It tells and takes it
    together with the state of the bits, whose 624 words take a hundred times as long as all else: so they are left out.
    The name is numpy's own, by which it knows whose state it is given.
    """

    def __init__(self) -> None:
        super().__init__()
        self._without_words = False
        self._drawn: dict[str, Any] | None = None

    def take(self, state: dict[str, Any]) -> None:
        """Go on from a state of numpy's global generator."""
        self.state = state
        self._drawn = {**state, "state": {}} if state["has_gauss"] else None

    @property
    def state(self) -> dict[str, Any]:
        return {"bit_generator": "MT19937", "state": {}} if self._without_words else super().state

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        if not self._without_words:
            np.random.MT19937.state.__set__(self, value)

    def enter(self) -> None:
        """Become the global generator's."""
        before = np.random.get_bit_generator()
        if before is self:
            return
        if type(before) is MT19937:
            before._leave()
        np.random.set_bit_generator(self)
        if self._drawn is not None:
            self._without_words = True
            try:
                np.random.set_state(self._drawn)
            finally:
                self._without_words = False

    def _leave(self) -> None:
        self._without_words = True
        try:
            state = np.random.get_state(legacy=False)
        finally:
            self._without_words = False
        self._drawn = state if state["has_gauss"] else None
