"""What an ensemble's disagreement says of the worth of looking: properties of the information gain."""

import math

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_entropic.active_inference.transitions import information_gain
from sb3_entropic.densities import gaussian_log_prob

seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(1, 5))
numbers = st.floats(-3, 3)


def ensemble(seed, n_members, batch, n_features):
    generator = th.Generator().manual_seed(seed)
    means, log_stds = (th.randn(n_members, batch, n_features, generator=generator).double() for _ in range(2))
    return means, log_stds.exp()


@settings(deadline=None)
@given(seeds, sizes)
def test_it_is_never_negative(seed, size):
    gain = information_gain(*ensemble(seed, *size))
    assert gain.shape == (size[1],)
    assert (gain >= 0).all()


@settings(deadline=None)
@given(seeds, sizes)
def test_identical_members_have_nothing_to_learn(seed, size):
    means, stds = (each[:1].expand(size[0], -1, -1) for each in ensemble(seed, *size))
    assert information_gain(means, stds).abs().max() < 1e-12


@settings(deadline=None)
@given(seeds, sizes)
def test_any_disagreement_is_worth_something(seed, size):
    """In a mean, or in a standard deviation alone."""
    means, stds = (each[:1].repeat(size[0], 1, 1) for each in ensemble(seed, *size))
    for changed in ((means, 0.1), (stds, 0.1)):
        before = changed[0][0, 0, 0].clone()
        changed[0][0, 0, 0] += changed[1]
        gain = information_gain(means, stds)
        assert gain[0] > 1e-9
        assert (gain[1:] < 1e-9).all()
        changed[0][0, 0, 0] = before


@settings(deadline=None)
@given(seeds, sizes, numbers, numbers)
def test_units_and_origin_of_the_features_do_not_matter(seed, size, log_scale, shift):
    means, stds = ensemble(seed, *size)
    scaled = information_gain(math.exp(log_scale) * means + shift, math.exp(log_scale) * stds)
    assert th.allclose(scaled, information_gain(means, stds), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(seeds, sizes)
def test_features_add_up_and_the_order_of_members_does_not_matter(seed, size):
    means, stds = ensemble(seed, *size)
    apart = sum(information_gain(means[..., [i]], stds[..., [i]]) for i in range(size[2]))
    assert th.allclose(apart, information_gain(means, stds))
    assert th.allclose(information_gain(means.flip(0), stds.flip(0)), information_gain(means, stds))


@pytest.mark.parametrize(("distance", "std"), [(0.5, 1.0), (3.0, 0.2)])
def test_two_members_by_hand(distance, std):
    means = th.tensor([[[distance]], [[-distance]]]).double()
    gain = information_gain(means, th.full_like(means, std))
    assert gain.item() == pytest.approx(0.5 * math.log(1 + (distance / std) ** 2))


def test_noise_that_all_agree_on_drowns_what_they_disagree_on():
    means = th.tensor([[[1.0]], [[-1.0]]]).double()
    gains = [information_gain(means, th.full_like(means, std)).item() for std in (0.1, 1.0, 10.0, 1000.0)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_it_bounds_the_mutual_information_from_above(seed):
    """``H[mixture] - mean H`` by 40,000 samples of each of three members."""
    means, stds = ensemble(seed, 3, 1, 2)
    samples = means + stds * th.randn(3, 40_000, 2, generator=th.Generator().manual_seed(seed)).double()
    log_densities = gaussian_log_prob(samples[None], means[:, None], stds[:, None])
    log_mixture = th.logsumexp(log_densities, dim=0) - math.log(3)
    own = gaussian_log_prob(samples, means, stds)
    mutual = (own - log_mixture).mean().item()
    assert 0 < mutual < math.log(3)
    assert information_gain(means, stds).item() > mutual - 0.01
