"""Stein variational gradient descent makes samples of particles."""

import math

import pytest
import torch as th

from sb3_entropic.stein import MIN_BANDWIDTH, median_bandwidth, rbf_kernel, stein_direction


def normal(*shape, seed=0):
    return th.randn(*shape, generator=th.Generator().manual_seed(seed)).double()


def test_the_kernels_gradient_is_autograds():
    y, x, bandwidth = normal(3, 4, 2), normal(3, 5, 2, seed=1), th.tensor([0.5, 1.0, 3.0]).double()[:, None, None]
    kernel, gradient = rbf_kernel(y, x, bandwidth)
    assert kernel.shape == (3, 4, 5)
    assert th.allclose(kernel[1, 2, 3], th.exp(-(y[1, 2] - x[1, 3]).square().sum() / bandwidth[1]))
    for i in range(4):
        leaf = x.clone().requires_grad_()
        (expected,) = th.autograd.grad(rbf_kernel(y, leaf, bandwidth)[0][:, i].sum(), leaf)
        assert th.allclose(gradient[:, i], expected, atol=1e-12)


def test_the_bandwidth_is_the_median_squared_distance_over_the_logarithm():
    points, others = th.tensor([[[0.0], [1.0]], [[0.0], [1.0]]]), th.tensor([[[2.0], [3.0]], [[0.0], [5.0]]])
    # Squared distances 4, 9, 1, 4 and 0, 25, 1, 16; of an even number the larger middle one.
    assert th.allclose(median_bandwidth(points, others).flatten(), th.tensor([4.0, 16.0]) / math.log(2))


def test_particles_on_one_point_still_part():
    together = th.zeros(1, 4, 2)
    assert median_bandwidth(together, together).item() == pytest.approx(MIN_BANDWIDTH)
    pair = th.tensor([[[1e-4], [-1e-4]]])
    direction = stein_direction(pair, pair, th.zeros_like(pair), median_bandwidth(pair, pair))
    assert direction[0, 0] > 0 > direction[0, 1]


def test_no_gradient_flows_through_the_bandwidth():
    points = normal(1, 4, 2).requires_grad_()
    assert not median_bandwidth(points, points).requires_grad


def test_samples_stay_where_they_are():
    """Stein's identity: the expected direction is zero under the density itself, and under no other."""
    mean, std = 0.3, 0.7
    x, y = mean + std * normal(1, 40_000, 1), th.linspace(-1, 2, 7).double().reshape(1, 7, 1)
    bandwidth = th.full((1, 1, 1), 0.8).double()
    direction = stein_direction(y, x, -(x - mean) / std**2, bandwidth)
    assert direction.abs().max() < 0.02
    assert stein_direction(y, x, -(x - mean) / (1.2 * std**2), bandwidth).abs().max() > 0.05


def test_particles_find_both_modes():
    log_density = lambda x: th.logsumexp(th.cat([-((x - 2) ** 2), -((x + 2) ** 2)], -1) / (2 * 0.5**2), -1)  # noqa: E731
    x = 0.2 + 0.1 * normal(2, 50, 1)
    for _ in range(400):
        leaf = x.clone().requires_grad_()
        (scores,) = th.autograd.grad(log_density(leaf).sum(), leaf)
        x = x + 0.3 * stein_direction(x, x, scores, median_bandwidth(x, x))
    for particles in x.squeeze(-1):
        right, left = particles[particles > 0], particles[particles < 0]
        assert 10 <= len(right) <= 40
        for mode, centre in ((right, 2), (left, -2)):
            assert mode.mean().item() == pytest.approx(centre, abs=0.25)
            assert mode.std().item() == pytest.approx(0.5, abs=0.25)


def test_states_do_not_mix():
    points, scores = normal(3, 4, 2), normal(3, 4, 2, seed=1)
    together = stein_direction(points, points, scores, median_bandwidth(points, points))
    for index in range(3):
        own = points[index : index + 1]
        alone = stein_direction(own, own, scores[index : index + 1], median_bandwidth(own, own))
        assert th.allclose(together[index], alone[0])
