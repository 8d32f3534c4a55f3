"""The choice of the library that multiplies matrices.

On CPUs torch multiplies in 32 bits with MKL, which on AMD's processors runs a path for 256-bit registers; oneDNN, in the
same package, uses 512-bit ones: twice as fast where arithmetic is that wide (Zen 5), by a seventh where an instruction is
taken in two halves (Zen 4), and no faster on older ones. torch has a public switch that sends these products to oneDNN. It
allows 16-bit arithmetic where the processor has it, which would be another result: so the switch is turned on only where
it is seen to round as 32 bits do.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch as th

SIZE = 256
SMALL = 128 * 128
"""Elements of a weight below which a call of oneDNN costs more than it saves."""
TOLERANCE = 1e-6
"""Of the sum of absolute products; 16-bit inputs would be off by about 1e-3, 32-bit ones by 1e-7."""


@contextmanager
def fast_matrix_products(policy: th.nn.Module, wanted: bool = True) -> Iterator[str]:
    """Let torch multiply with oneDNN within the block, where that is faster and as exact.

    :param policy: whose networks are trained within the block
    :param wanted: ``False`` leaves everything as it is
    :return: what was decided and why, a clause
    """
    switch = th.backends.mkldnn.matmul
    reason = why_not(policy) if wanted else "torch's own matrix library, as asked for"
    if reason is not None:
        yield reason
        return
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        yield "oneDNN's matrix products"
    finally:
        switch.fp32_precision = before


def why_not(policy: th.nn.Module) -> str | None:
    """Why the switch stays off for these networks on this machine, as a clause; ``None`` if it may be turned on."""
    if max(parameter.numel() for parameter in policy.parameters()) < SMALL:
        return "torch's own matrix library, the layers are small"
    if not _gains():
        return "torch's own matrix library, the processor would gain nothing from another"
    if not (th.backends.mkldnn.is_available() and hasattr(th.backends.mkldnn, "matmul")):
        return "torch's own matrix library, this build of torch has no other"
    if th.backends.mkldnn.matmul.fp32_precision not in ("none", "ieee"):
        return "the precision of matrix products is set already"
    error = _rounding_of_the_switch()
    if error > TOLERANCE:
        return f"torch's own matrix library, oneDNN's rounds to {error:.0e} here"
    return None


@functools.cache
def _gains() -> bool:
    """Whether the processor is AMD's and has 512-bit instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in text and "avx512f" in text


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
