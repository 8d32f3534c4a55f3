"""Compilation of recorded graphs, where a compiler is there and the run is long enough to repay it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

import torch as th
from torch import fx

Compile = bool | Literal["auto"]

LONG_RUN = 20_000
"""Gradient steps that repay compiling: it takes about as long as some thousand of them."""


def decide(wanted: Compile, gradient_steps: int, device: str = "cpu") -> tuple[bool, str]:
    """Whether to compile, and why, as a clause.

    :param wanted: ``"auto"`` decides by the length of the run, and only if there is a compiler
    :param gradient_steps: that are to come
    :param device: type of torch's device
    """
    if wanted is False:
        return False, "not compiled, as asked for"
    if wanted is True:
        return True, "compiled, as asked for"
    if not has_compiler(device):
        return False, f"not compiled: no {'C++ compiler' if device == 'cpu' else 'C++ compiler or no Triton'} was found"
    if gradient_steps < LONG_RUN:
        return False, f"not compiled: {gradient_steps:,} gradient steps would not repay it"
    return True, f"compiled: {gradient_steps:,} gradient steps repay it"


def has_compiler(device: str = "cpu") -> bool:
    """Whether there is a C++ compiler where torch looks for one, and for GPUs Triton, too."""
    if device != "cpu" and importlib.util.find_spec("triton") is None:
        return False
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def compile_graph(graph: fx.GraphModule, examples: list[th.Tensor]) -> Callable[..., Any] | None:
    """The graph compiled for inputs of these shapes; ``None``, and a warning, if that fails.

    :param graph: without mutation
    :param examples: inputs
    """
    # The compiler is slow to import, and most runs do without.
    from torch import _inductor

    try:
        with _interruptible_afterwards():
            compiled = _inductor.compile(graph, list(examples))
            compiled(*examples)
    except Exception as error:
        warnings.warn(f"compiling failed, so the run goes on without ({type(error).__name__}: {error})", stacklevel=2)
        return None
    return compiled


@contextmanager
def _interruptible_afterwards() -> Iterator[None]:
    """Let Ctrl-C within the block be heard at its end: the compiler would take it for a failure of its own."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *received: heard.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            before(*heard[0])
