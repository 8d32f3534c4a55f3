"""The choice of the library that multiplies matrices.

On CPUs torch multiplies in 32 bits with MKL, which on AMD's processors runs a path for 256-bit registers; oneDNN, in the
same package, uses 512-bit ones: twice as fast where arithmetic is that wide (Zen 5), by some percent where an instruction is
taken in two halves (Zen 4), and no faster on older ones. torch has a public switch that sends these products to oneDNN. It
allows 16-bit arithmetic where the processor has it, which is another result: so unless 16 bits are asked for, the switch is
turned on only where it is seen to round as 32 bits do.

Where the processor multiplies matrices of 16 bits itself (AMX), asking for them makes a product of layers with 256 units 3.7
times as fast and training about twice: inputs are rounded to bfloat16 (8 significant bits), sums, weights, moments and
everything that is not a matrix product keep 32 bits.

On NVIDIA's GPUs since Ampere TF32 is the same idea: inputs keep 11 significant bits, and the matrix units multiply them.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Literal, get_args

import torch as th

MatrixLibrary = Literal["auto", "torch", "bf16", "tf32"]
"""``"auto"`` lets products go to oneDNN where that is faster and rounds as 32 bits do, ``"torch"`` leaves them to torch's own
library, ``"bf16"`` rounds their inputs to 16 bits, ``"tf32"``, on GPUs, to TF32."""
MATRIX_LIBRARIES: tuple[str, ...] = get_args(MatrixLibrary)
ROUNDED = {"bf16": "oneDNN's products of 16-bit inputs", "tf32": "the GPU's products of inputs rounded to TF32"}
"""What is said, and recorded, where the inputs of products are rounded."""
SIZE = 256
SMALL = 128 * 128
"""Elements of a weight below which a call of oneDNN costs more than it saves."""
SET_ALREADY = "the precision of matrix products is set already"
TOLERANCE = 1e-6
"""Of the sum of absolute products; 16-bit inputs would be off by about 1e-3, 32-bit ones by 1e-7."""


_changing = RLock()
_under_way: dict[str, list[str]] = defaultdict(list)
"""What the blocks have decided, by device, while the switch is on; it is the process's, and so every thread's."""
_before: dict[str, str] = {}
"""How the switch was before the first of them."""


@contextmanager
def fast_matrix_products(policy: th.nn.Module, wanted: MatrixLibrary = "auto") -> Iterator[str]:
    """Let torch multiply with oneDNN within the block, where that is faster and as exact or where 16 bits are asked for.

    :param policy: whose networks are trained within the block
    :param wanted: ``"auto"``, ``"torch"``, which leaves everything as it is, ``"bf16"`` or ``"tf32"``
    :return: what was decided and why, a clause
    :raises ValueError: if rounded inputs are asked for and the networks' device has no such products
    """
    device = next(policy.parameters()).device.type
    check_matrix_library(wanted, device)
    switch = _switch(device)
    with _changing:
        # While such a block is under way everything goes where that one has it go, and the last to end turns it off.
        decided = next(iter(_under_way[device]), None)
        reason = why_not(policy, wanted) if decided is None else None
        if reason is None and decided is None:
            decided, _before[device] = ROUNDED.get(wanted, "oneDNN's matrix products"), switch.fp32_precision
            switch.fp32_precision = "bf16" if device == "cpu" else "tf32"
        if decided is not None:
            _under_way[device].append(decided)
    if decided is None:
        yield reason
        return
    try:
        yield decided
    finally:
        with _changing:
            _under_way[device].pop()
            if not _under_way[device]:
                switch.fp32_precision = _before[device]


def check_matrix_library(wanted: MatrixLibrary, device: str = "cpu") -> None:
    """Check that this machine can multiply as asked.

    :param device: type of torch's device that is to do it
    :raises ValueError: if it cannot
    """
    if wanted in ROUNDED and not hasattr(_switch("cpu" if wanted == "bf16" else "cuda"), "fp32_precision"):
        raise ValueError(f"matrix_library={wanted!r} needs a newer torch than {th.__version__}, 2.9 or later.")
    if wanted == "bf16" and not (device == "cpu" and _has_switch() and _multiplies_16_bits()):
        raise ValueError(
            "matrix_library='bf16' needs a processor that multiplies matrices of 16 bits (AMX) and a torch with oneDNN: "
            f"here, on {device}, the choices are {'auto and torch' if device == 'cpu' else 'auto, torch and tf32'}."
        )
    if wanted == "tf32" and not (device == "cuda" and _has_tf32()):
        raise ValueError(
            "matrix_library='tf32' needs a GPU of NVIDIA's that has it (Ampere or later) and device='cuda': here, on "
            f"{device}, the choices are auto, torch and, where the processor has AMX, bf16."
        )


def why_not(policy: th.nn.Module, wanted: MatrixLibrary = "auto") -> str | None:
    """Why the switch stays off for these networks on this machine, as a clause; ``None`` if it may be turned on."""
    if wanted == "torch":
        return "torch's own matrix library, as asked for"
    if next(policy.parameters()).device.type != "cpu":
        return None if wanted == "tf32" else "the GPU's matrix library"
    if max(parameter.numel() for parameter in policy.parameters()) < SMALL:
        return "torch's own matrix library, the layers are small"
    if wanted == "auto" and not _gains():
        return "torch's own matrix library, the processor would gain nothing from another"
    if not _has_switch():
        return "torch's own matrix library, this build of torch has no other"
    if _switch("cpu").fp32_precision not in ("none", "ieee"):
        return SET_ALREADY
    if wanted == "bf16":
        return None
    error = _rounding_of_the_switch()
    if error > TOLERANCE:
        return f"torch's own matrix library, oneDNN's rounds to {error:.0e} here"
    return None


def _switch(device: str) -> Any:
    """What has the attribute ``fp32_precision``; torch 2.8 has none for the CPU."""
    return getattr(th.backends.mkldnn, "matmul", None) if device == "cpu" else th.backends.cuda.matmul


def _has_switch() -> bool:
    return th.backends.mkldnn.is_available() and _switch("cpu") is not None


def _has_tf32() -> bool:
    return th.cuda.is_available() and th.cuda.get_device_capability() >= (8, 0)


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
    switch = _switch("cpu")
    with _changing:
        before = switch.fp32_precision
        switch.fp32_precision = "bf16"
        try:
            products = (a @ b, th.nn.functional.linear(a, b.T.contiguous()), th.bmm(a[None], b[None])[0])
            return max(((product.double() - exact).abs() / scale).max().item() for product in products)
        finally:
            switch.fp32_precision = before
