"""The densities of squashed Gaussians against torch, quadrature and constants worked out by hand."""

import math

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from sb3_entropic.densities import (
    gaussian_entropy,
    gaussian_log_prob,
    log_prob_of_action,
    sample_squashed_gaussian,
    squashed_gaussian_entropy,
    squashed_gaussian_log_prob,
    tanh_log_det,
    unsquash,
)

finite = st.floats(-50, 50)
actions = st.lists(st.floats(-0.999, 0.999), min_size=1, max_size=6)


def test_gaussian_log_prob_has_the_bits_of_torch():
    generator = th.Generator().manual_seed(0)
    u, mean = (th.randn(100, 3, generator=generator) for _ in range(2))
    std = th.rand(100, 3, generator=generator) + 0.05
    assert th.equal(gaussian_log_prob(u, mean, std), Normal(mean, std).log_prob(u).sum(dim=1))


def test_tanh_log_det_has_the_values_worked_out_by_hand():
    u = th.tensor([0.0, 1.0, 12.0, -12.0, 20.0], dtype=th.float64)
    # log(1 - tanh(1)^2) = log(0.4199743416) and, for large |u|, 2 log 2 - 2 |u|
    expected = th.tensor([0.0, -0.8675616609, -22.6137056389, -22.6137056389, -38.6137056389], dtype=th.float64)
    assert th.allclose(tanh_log_det(u), expected, atol=1e-8)


def test_the_direct_form_would_be_nearly_nine_nats_off():
    direct = math.log(1 - math.tanh(12.0) ** 2 + 1e-6)
    assert direct - tanh_log_det(th.tensor(12.0)).item() == pytest.approx(8.8, abs=0.01)


@given(finite)
def test_tanh_log_det_is_even_and_never_positive(u):
    there, back = tanh_log_det(th.tensor([u, -u], dtype=th.float64)).tolist()
    # softplus drops terms of exp(-20)
    assert there == pytest.approx(back, abs=1e-8)
    assert there <= 1e-12


def test_log_density_agrees_with_torch_below_eight():
    generator = th.Generator().manual_seed(0)
    mean, std = th.randn(500, 3, generator=generator).double(), th.rand(500, 3, generator=generator).double() + 0.05
    u = th.linspace(-7.99, 7.99, 1500).reshape(500, 3).double()
    squash = TanhTransform(cache_size=1)
    reference = TransformedDistribution(Independent(Normal(mean, std), 1), [squash])
    # The transform's cache hands torch the exact u back: atanh(tanh(u)) would lose it from about |u| = 6.
    assert th.allclose(squashed_gaussian_log_prob(u, mean, std), reference.log_prob(squash(u)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("u", [20.0, -20.0])
def test_log_density_and_its_gradient_are_finite_far_out(u):
    mean, std = th.zeros(1, 1, requires_grad=True), th.full((1, 1), 0.3, requires_grad=True)
    point = th.full((1, 1), u, requires_grad=True)
    log_prob = squashed_gaussian_log_prob(point, mean, std)
    gradients = th.autograd.grad(log_prob.sum(), (point, mean, std))
    assert th.isfinite(log_prob).all()
    assert all(th.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.5), (0.8, 0.3), (-0.5, 1.0)])
def test_density_integrates_to_one(mean, std):
    action = th.linspace(-1, 1, 400_001, dtype=th.float64)[1:-1]
    u = th.atanh(action).reshape(-1, 1)
    density = squashed_gaussian_log_prob(u, th.full_like(u, mean), th.full_like(u, std)).exp()
    assert th.trapezoid(density, action).item() == pytest.approx(1.0, abs=1e-4)


@given(actions)
def test_unsquash_inverts_tanh_inside_the_margin(values):
    action = th.tensor(values, dtype=th.float64)
    assert th.allclose(th.tanh(unsquash(action)), action, atol=1e-12)


@given(actions, st.floats(-20, 20), st.floats(0.05, 3.0))
def test_the_log_density_of_an_action_inside_is_that_of_its_inverse(values, mean, std):
    action = th.tensor([values], dtype=th.float64)
    mean, std = th.full_like(action, mean), th.full_like(action, std)
    u = unsquash(action)
    assert th.equal(log_prob_of_action(action, mean, std), squashed_gaussian_log_prob(u, mean, std))
    assert th.equal(log_prob_of_action(action, mean, std, squashed=False), gaussian_log_prob(u, mean, std))


@pytest.mark.parametrize("mean", [0.0, 3.0, 7.0, 7.5, 8.0, 9.0, 12.0, 100.0])
@pytest.mark.parametrize("std", [0.1, 0.5, 3.0])
def test_of_its_own_sample_a_policy_has_sb3s_log_density_however_saturated(mean, std):
    noise = th.randn(20_000, 1, generator=th.Generator().manual_seed(0))
    means, stds = th.full_like(noise, mean), th.full_like(noise, std)
    for sign in (1, -1):
        action, log_prob = sample_squashed_gaussian(sign * means, stds, noise)
        assert log_prob_of_action(action, sign * means, stds).mean().item() == pytest.approx(log_prob.mean().item(), abs=0.7)


def test_an_end_is_unlikely_for_a_policy_that_has_not_saturated():
    ends, mean, std = th.tensor([[1.0], [-1.0]]), th.tensor([[0.5], [0.5]]), th.full((2, 1), 0.3)
    assert th.equal(log_prob_of_action(ends, mean, std), squashed_gaussian_log_prob(unsquash(ends), mean, std))
    assert (log_prob_of_action(ends, mean, std) < -200).all()


def test_unsquash_keeps_saturated_actions_finite():
    # atanh(1 - 1e-6) = 0.5 log(1999999) = 7.2543
    expected = th.tensor([7.2543, -7.2543], dtype=th.float64)
    assert th.allclose(unsquash(th.tensor([1.0, -1.0], dtype=th.float64)), expected, atol=1e-4)
    assert th.isfinite(unsquash(th.tensor([1.0, -1.0]))).all()


def test_sampling_has_the_bits_of_sb3():
    th.manual_seed(0)
    mean, log_std = th.randn(64, 3, requires_grad=True), th.randn(64, 3, requires_grad=True)
    th.manual_seed(1)
    theirs = SquashedDiagGaussianDistribution(3).log_prob_from_params(mean, log_std)
    th.manual_seed(1)
    ours = sample_squashed_gaussian(mean, log_std.exp(), th.empty(64, 3).normal_())
    for our, their in zip(ours, theirs, strict=True):
        assert th.equal(our, their)
    of_ours = th.autograd.grad(ours[0].sum() + ours[1].mean(), (mean, log_std), retain_graph=True)
    of_theirs = th.autograd.grad(theirs[0].sum() + theirs[1].mean(), (mean, log_std))
    assert all(th.equal(our, their) for our, their in zip(of_ours, of_theirs, strict=True))


def test_the_entropy_of_a_gaussian_is_torchs():
    std = th.rand(50, 3, generator=th.Generator().manual_seed(0)) * 3 + 0.01
    expected = Independent(Normal(th.zeros(50, 3), std), 1).entropy()
    assert th.allclose(gaussian_entropy(std), expected)


@pytest.mark.parametrize(
    ("std", "worked_out"), [(0.1, -0.895), (0.3, 0.126), (0.5, 0.500), (0.87, 0.684), (1.0, 0.671), (2.0, 0.0), (5.0, -3.69)]
)
def test_the_entropy_of_a_squashed_gaussian(std, worked_out):
    """Against numbers from quadrature, and the mean of ``-log pi`` of samples."""
    noise = th.randn(200_000, 1, dtype=th.float64, generator=th.Generator().manual_seed(0))
    mean, std = th.zeros_like(noise), th.full_like(noise, std)
    estimates = squashed_gaussian_entropy(mean, std, noise)
    by_density = -squashed_gaussian_log_prob(mean + std * noise, mean, std)
    assert estimates.mean().item() == pytest.approx(worked_out, abs=0.03)
    assert estimates.mean().item() == pytest.approx(by_density.mean().item(), abs=0.01)


def test_the_gradient_of_the_squashed_entropy_is_that_of_the_density():
    generator = th.Generator().manual_seed(0)
    noise, mean = (th.randn(100, 2, dtype=th.float64, generator=generator) for _ in range(2))
    parameters = mean.requires_grad_(), (th.rand(100, 2, dtype=th.float64, generator=generator) + 0.1).requires_grad_()
    entropy = squashed_gaussian_entropy(*parameters, noise)
    by_density = -squashed_gaussian_log_prob(parameters[0] + parameters[1] * noise, *parameters)
    for ours, theirs in zip(*(th.autograd.grad(e.sum(), parameters) for e in (entropy, by_density)), strict=True):
        assert th.allclose(ours, theirs)
