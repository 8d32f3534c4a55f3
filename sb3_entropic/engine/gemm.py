"""The choice of the library that multiplies matrices.

On CPUs torch multiplies in 32 bits with MKL, which on AMD's processors runs a path for 256-bit registers; oneDNN, in the
same package, uses 512-bit ones: twice as fast where arithmetic is that wide (Zen 5), by a seventh where an instruction is
taken in two halves (Zen 4), and no faster on older ones. torch has a public switch that sends these products to oneDNN. It
allows 16-bit arithmetic where the processor has it, which is another result: so unless 16 bits are asked for, the switch is
turned on only where it is seen to round as 32 bits do.

Where the processor multiplies matrices of 16 bits itself (AMX), asking for them makes a product of layers with 256 units 3.7
times as fast and training about 1.8 times: inputs are rounded to bfloat16 (8 significant bits), sums, weights, moments and
everything that is not a matrix product keep 32 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch as th

MatrixLibrary = Literal["auto", "torch", "bf16"]
"""``"auto"`` lets products go to oneDNN where that is faster and rounds as 32 bits do, ``"torch"`` leaves them to torch's own
library, ``"bf16"`` rounds their inputs to 16 bits."""
MATRIX_LIBRARIES: tuple[str, ...] = get_args(MatrixLibrary)
SIXTEEN_BITS = "oneDNN's products of 16-bit inputs"
"""What is said, and recorded, where they are."""
SIZE = 256
SMALL = 128 * 128
"""Elements of a weight below which a call of oneDNN costs more than it saves."""
TOLERANCE = 1e-6
"""Of the sum of absolute products; 16-bit inputs would be off by about 1e-3, 32-bit ones by 1e-7."""


@contextmanager
def fast_matrix_products(policy: th.nn.Module, wanted: MatrixLibrary = "auto") -> Iterator[str]:
    """Let torch multiply with oneDNN within the block, where that is faster and as exact or where 16 bits are asked for.

    :param policy: whose networks are trained within the block
    :param wanted: ``"auto"``, ``"torch"``, which leaves everything as it is, or ``"bf16"``
    :return: what was decided and why, a clause
    :raises ValueError: if 16 bits are asked for and this machine has no such products
    """
    check_matrix_library(wanted)
    reason = why_not(policy, wanted)
    if reason is not None:
        yield reason
        return
    switch = th.backends.mkldnn.matmul
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        yield SIXTEEN_BITS if wanted == "bf16" else "oneDNN's matrix products"
    finally:
        switch.fp32_precision = before


def check_matrix_library(wanted: MatrixLibrary) -> None:
    """Check that this machine can multiply as asked.

    :raises ValueError: if it cannot
    """
    if wanted == "bf16" and not (_has_switch() and _multiplies_16_bits()):
        raise ValueError(
            "matrix_library='bf16' needs a processor that multiplies matrices of 16 bits (AMX) and a torch with oneDNN: "
            "here the choices are 'auto' and 'torch'."
        )


def why_not(policy: th.nn.Module, wanted: MatrixLibrary = "auto") -> str | None:
    """Why the switch stays off for these networks on this machine, as a clause; ``None`` if it may be turned on."""
    if wanted == "torch":
        return "torch's own matrix library, as asked for"
    if max(parameter.numel() for parameter in policy.parameters()) < SMALL:
        return "torch's own matrix library, the layers are small"
    if next(policy.parameters()).device.type != "cpu":
        return "the GPU's matrix library"
    if wanted == "auto" and not _gains():
        return "torch's own matrix library, the processor would gain nothing from another"
    if not _has_switch():
        return "torch's own matrix library, this build of torch has no other"
    if th.backends.mkldnn.matmul.fp32_precision not in ("none", "ieee"):
        return "the precision of matrix products is set already"
    if wanted == "bf16":
        return None
    error = _rounding_of_the_switch()
    if error > TOLERANCE:
        return f"torch's own matrix library, oneDNN's rounds to {error:.0e} here"
    return None


def _has_switch() -> bool:
    return th.backends.mkldnn.is_available() and hasattr(th.backends.mkldnn, "matmul")


@functools.cache
def _gains() -> bool:
    """Whether the processor is AMD's and has 512-bit instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in text and "avx512f" in text


def _multiplies_16_bits() -> bool:
    """Whether the switch leads to 16-bit products here: a flag of the processor does not say that oneDNN makes use of it."""
    return _rounding_of_the_switch() > TOLERANCE


@functools.cache
def _rounding_of_the_switch() -> float:
    """Largest error of a product with the switch on, as a share of the sum of absolute products."""
    generator = th.Generator().manual_seed(0)
    a, b = (th.randn(SIZE, SIZE, generator=generator) for _ in range(2))
    exact, scale = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    switch = th.backends.mkldnn.matmul
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        products = (a @ b, th.nn.functional.linear(a, b.T.contiguous()), th.bmm(a[None], b[None])[0])
        return max(((product.double() - exact).abs() / scale).max().item() for product in products)
    finally:
        switch.fp32_precision = before
