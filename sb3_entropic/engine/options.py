"""What a user may say about how an algorithm is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sb3_entropic.checks import check_choice, check_flag
from sb3_entropic.engine.compiler import Compile
from sb3_entropic.engine.gemm import MATRIX_LIBRARIES, MatrixLibrary

KINDS = ("auto", "fast", "sb3")


@dataclass(frozen=True)
class Engine:
    """How the losses of an algorithm are run; the maths is the same.

    :param kind: ``"sb3"`` is SB3's loop, modules and order of operations: with its entropic term off an algorithm then has
        its parent's bits. ``"fast"`` runs batched graphs of the same losses on the same random draws, equal to rounding;
        it takes vector observations, SB3's multilayer policies, Adam and SB3's replay buffer, on the CPU or a GPU of
        NVIDIA's, or SB3's rollouts, on the CPU, of a categorical or Gaussian policy in minibatches of one size. ``"auto"`` is
        ``"fast"`` where that applies, the run has 20,000 gradient steps or more, and the losses are ours, else ``"sb3"``.
        The fast engine records the operations of losses once, and anew when an argument, a network, an optimiser or what is
        frozen changes. Of a class of your own, which it runs where it is asked for by name, other numbers that losses read
        and that change belong into ``coefficients``. It logs ``train/...`` of off-policy algorithms when the logger is about
        to write, of the last gradient steps, rather than after each, and leaves no gradients in ``.grad``; on a GPU it does
        not see what a callback changes in the replay buffer's older rows. What is to be called at every step (hooks, methods
        that were replaced) is left to SB3's loop.
    :param compile: whether the fast engine's graphs are compiled: half a minute once, then one and a half to three times the
        speed; on a GPU, where they are launched as one anyway, 1.1 to 1.3 times. ``"auto"`` compiles runs of 20,000 gradient
        steps and more, if there is a C++ compiler, and for GPUs Triton
    :param matrix_library: what multiplies matrices in the fast engine. ``"auto"`` is oneDNN where that is faster and rounds as
        32 bits do, else torch's own; ``"torch"`` always its own; ``"bf16"`` rounds the inputs of products to 16 bits, on
        processors that have such instructions: about twice as fast with layers of 256 units, and not the same numbers.
        ``"tf32"`` is the same on GPUs that have TF32
    :raises ValueError: for a value that is not allowed
    """

    kind: Literal["auto", "fast", "sb3"] = "auto"
    compile: Compile = "auto"
    matrix_library: MatrixLibrary = "auto"

    def __post_init__(self) -> None:
        check_choice("engine", self.kind, KINDS)
        if self.compile != "auto":
            check_flag("compile", self.compile)
        check_choice("matrix_library", self.matrix_library, MATRIX_LIBRARIES)


def as_engine(engine: str | Engine) -> Engine:
    """What a user's choice of an engine stands for.

    :raises ValueError: for a value that is not allowed
    """
    return engine if isinstance(engine, Engine) else Engine(engine)
