"""Where a stack computes: on the CPU functions are called, on a GPU their kernels are recorded once and launched as one.

A gradient step of small networks is some hundred kernels of a few microseconds each, which take longer to launch than to
run. A CUDA graph launches all of them at once, if everything it reads stays where it was: parameters and moments do, and
what comes from the CPU, such as batches and random numbers, is copied to one place. Random numbers are drawn on the CPU in
either case, so that a run on a GPU is the run on the CPU, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable

import torch as th

WARM_UP = 3
"""Calls before a function is recorded: its kernels are compiled and its workspaces taken in the first ones."""
ALIGNMENT = 16
"""Bytes at whose multiples tensors begin that are copied together."""


class Place:
    """The CPU: tensors are used as they come, and functions are called."""

    device = th.device("cpu")
    copies = False
    """Whether tensors of the CPU have to be copied to be read here."""

    def inputs(self, name: str, values: list[th.Tensor]) -> list[th.Tensor]:
        """Tensors of the CPU where functions can read them.

        :param name: of the group; its members keep their shapes, and those of before are overwritten
        :param values: as a rule on the CPU
        """
        return values

    def run(self, name: str, function: Callable[[], list[th.Tensor]], key: Hashable = None) -> list[th.Tensor]:
        """What a function returns, which the next call may overwrite.

        :param name: of the function
        :param function: reads and changes tensors that stay where they are, and nothing else that changes
        :param key: everything else it depends on
        """
        return function()

    def kept(self, results: list[th.Tensor]) -> Iterable[th.Tensor]:
        """Results of :meth:`run`, of one shape, that the next call does not overwrite."""
        return results


class Cuda(Place):
    """A GPU of NVIDIA's.

    :param device: torch's
    """

    copies = True

    def __init__(self, device: th.device):
        self.device = device
        self._blocks: dict[str, _Block] = {}
        self._graphs: dict[str, _Graph] = {}

    def inputs(self, name: str, values: list[th.Tensor]) -> list[th.Tensor]:
        """See :class:`Place`; one transfer."""
        if not values:
            return values
        # Events and graphs are the current GPU's, which this need not be.
        with th.cuda.device(self.device):
            if name not in self._blocks:
                self._blocks[name] = _Block(values, self.device)
            return self._blocks[name].fill(values)

    def run(self, name: str, function: Callable[[], list[th.Tensor]], key: Hashable = None) -> list[th.Tensor]:
        """See :class:`Place`; recorded anew when the key has changed."""
        if name not in self._graphs or self._graphs[name].key != key:
            self._graphs[name] = _Graph(key)
        with th.cuda.device(self.device):
            return self._graphs[name](function)

    def kept(self, results: list[th.Tensor]) -> Iterable[th.Tensor]:
        """See :class:`Place`."""
        return th.stack(results)


def place_of(device: th.device) -> Place:
    """Where a model of this device computes."""
    return Cuda(device) if device.type == "cuda" else Place()


class _Block:
    """Memory of a GPU that holds several tensors, and how they lie in it."""

    def __init__(self, examples: list[th.Tensor], device: th.device):
        self._shapes, self._size = [], 0
        for example in examples:
            self._shapes.append((self._size, example.nbytes, example.dtype, example.shape))
            self._size += math.ceil(example.nbytes / ALIGNMENT) * ALIGNMENT
        self._memory = th.empty(self._size, dtype=th.uint8, device=device)
        self._tensors = self._within(self._memory)
        # Two, so that one is filled while the other may still be on its way.
        self._staged = [_Staged(self._size, device, self._within) for _ in range(2)]

    def _within(self, memory: th.Tensor) -> list[th.Tensor]:
        return [memory[at : at + size].view(dtype).view(shape) for at, size, dtype, shape in self._shapes]

    def fill(self, values: list[th.Tensor]) -> list[th.Tensor]:
        self._staged.reverse()
        self._staged[0].send(values, self._memory)
        return self._tensors


class _Staged:
    """Memory of the CPU that a GPU can read, and how tensors lie in it."""

    def __init__(self, size: int, device: th.device, within: Callable[[th.Tensor], list[th.Tensor]]):
        on_gpu = device.type == "cuda"
        self._memory = th.empty(size, dtype=th.uint8, pin_memory=on_gpu)
        self._tensors = within(self._memory)
        self._sent = th.cuda.Event() if on_gpu else None

    def send(self, values: list[th.Tensor], to: th.Tensor) -> None:
        if self._sent is not None:
            self._sent.synchronize()
        for tensor, value in zip(self._tensors, values, strict=True):
            tensor.copy_(value)
        to.copy_(self._memory, non_blocking=True)
        if self._sent is not None:
            self._sent.record()


class _Graph:
    """A function, called at first and then recorded and replayed."""

    def __init__(self, key: Hashable):
        self.key = key
        self._calls = 0
        self._graph: th.cuda.CUDAGraph | None = None
        self._results: list[th.Tensor] = []

    def __call__(self, function: Callable[[], list[th.Tensor]]) -> list[th.Tensor]:
        if self._calls < WARM_UP:
            self._calls += 1
            return function()
        if self._graph is None:
            self._graph = th.cuda.CUDAGraph()
            with th.cuda.graph(self._graph):
                self._results = function()
        self._graph.replay()
        return self._results
