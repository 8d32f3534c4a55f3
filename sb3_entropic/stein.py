"""Stein variational gradient descent (arXiv 1608.04471): which way to move particles so that they become samples.

Pure tensor functions of a few lines. ``points`` are the particles that are moved, ``(batch, n, dim)``; ``others`` those that
tell them where to go, ``(batch, m, dim)``. Every batch entry has a density and particles of its own.
"""

from __future__ import annotations

import math

import torch as th

MIN_BANDWIDTH = 1e-3
"""Of the kernel, squared units: particles that have collapsed onto one another would have none and never part."""


def median_bandwidth(points: th.Tensor, others: th.Tensor, minimum: float = MIN_BANDWIDTH) -> th.Tensor:
    """The median squared distance, over ``log m``: a particle's kernels on the others then sum to about 1.

    :param points: ``(batch, n, dim)``
    :param others: ``(batch, m, dim)``, ``m >= 2``
    :param minimum: it is at least this, > 0
    :return: ``(batch, 1, 1)``, squared units of the points, without gradient
    """
    squares = (points.unsqueeze(-2) - others.unsqueeze(-3)).square().sum(-1).flatten(-2).detach()
    # The middle one of a sorted row; the larger of two where their number is even.
    middle = squares.sort(dim=-1).values[..., squares.shape[-1] // 2]
    return (middle / math.log(others.shape[-2])).clamp(min=minimum)[..., None, None]


def rbf_kernel(points: th.Tensor, others: th.Tensor, bandwidth: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """``k(x, y) = exp(-|x - y|^2 / bandwidth)`` for every pair, and its gradient in ``x``.

    :param points: the ``y``, ``(batch, n, dim)``
    :param others: the ``x``, ``(batch, m, dim)``
    :param bandwidth: ``(batch, 1, 1)``, > 0
    :return: in (0, 1], ``(batch, n, m)``; and ``(batch, n, m, dim)``, which points from ``x`` to ``y``
    """
    differences = points.unsqueeze(-2) - others.unsqueeze(-3)
    kernel = th.exp(-differences.square().sum(-1) / bandwidth)
    return kernel, 2.0 * (kernel / bandwidth).unsqueeze(-1) * differences


def stein_direction(points: th.Tensor, others: th.Tensor, scores: th.Tensor, bandwidth: th.Tensor) -> th.Tensor:
    """The direction in which the particles' KL divergence from a density falls fastest (arXiv 1608.04471, eq. 8).

    ``mean_j [k(x_j, y) score(x_j) + grad k(x_j, y)]``: towards where the density grows, and away from one another.

    :param points: the ``y``, ``(batch, n, dim)``
    :param others: the ``x``, ``(batch, m, dim)``
    :param scores: ``grad log p(x_j)``, ``(batch, m, dim)``; no normalisation of ``p`` is needed
    :param bandwidth: see :func:`rbf_kernel`
    :return: ``(batch, n, dim)``
    """
    kernel, gradient = rbf_kernel(points, others, bandwidth)
    return (kernel @ scores + gradient.sum(-2)) / others.shape[-2]
