"""Compilation of recorded graphs, where a compiler is there and the run is long enough to repay it."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

import torch as th
from torch import fx

Compile = bool | Literal["auto"]

LARGE, PAIRS = 2**20, 8
"""Elements of a result that caches do not hold, and how many times those of an input it then has if it is made of pairs."""
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
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


def compile_graph(graph: fx.GraphModule, examples: list[th.Tensor]) -> Callable[..., Any] | None:
    """The graph compiled for inputs of these shapes; ``None``, and a warning, if that fails.

    :param graph: without mutation
    :param examples: inputs
    """
    # The compiler is slow to import, and most runs do without.
    from torch import _inductor

    try:
        with _interruptible_afterwards():
            compiled = _inductor.compile(with_stored_factors(graph), list(examples))
            compiled(*examples)
    except Exception as error:
        # The rest of it is the compiler's output, with names that are others each time.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"compiling failed, so the run goes on without ({reason})", stacklevel=2)
        return None
    return compiled


@th.library.custom_op("sb3_entropic::stored", mutates_args=(), schema="(Tensor values) -> Tensor")
def _stored(values: th.Tensor) -> th.Tensor:
    return values.clone()


_stored.register_fake(th.empty_like)


def with_stored_factors(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with everything stored that a large number of pairs is made of, such as each quantile and each target.

    The compiler stores a value that several loops read if it is much work, and else computes it in each loop. Of
    ``target_j - current_i``, with all that the targets are made of, it would store the pairs: 74 MB for five seeds of
    QR-DQN with 170 quantiles, written once and read twice. Where both are in memory already the difference is little work.

    :param graph: without mutation; it stays as it is
    """
    copy, stored = fx.Graph(), {}
    copy.output(copy.graph_copy(graph.graph, {}))
    for node in list(copy.nodes):
        pairs = _elements(node) if th.Tag.pointwise in getattr(node.target, "tags", ()) else 0
        if pairs < LARGE:
            continue
        for factor in node.all_input_nodes:
            if factor.op == "call_function" and 1 < _elements(factor) <= pairs / PAIRS:
                if factor not in stored:
                    with copy.inserting_after(factor):
                        stored[factor] = copy.call_function(th.ops.sb3_entropic.stored.default, (factor,))
                node.replace_input_with(factor, stored[factor])
    return fx.GraphModule(graph, copy)


def _elements(node: fx.Node) -> int:
    """Of the tensor that the node computes, 0 where it is not known."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return 0 if shape is None else math.prod(shape)


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
