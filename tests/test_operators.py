"""The shared maths: identities of the discrete operators as properties, the rest by hand."""

import math

import pytest
import torch as th
from hypothesis import example, given
from hypothesis import strategies as st
from sb3_contrib.common.utils import quantile_huber_loss as sb3_contrib_loss

from sb3_entropic.operators import (
    action_gap,
    as_bound,
    boltzmann_mean,
    boltzmann_policy,
    clipped_surrogate,
    log_sum_exp,
    mellowmax,
    policy_entropy,
    policy_value,
    quantile_huber_loss,
    regularised_advantage,
    sample_boltzmann,
    scaled_log_policy,
    scaled_log_softmax,
    soft_td_target,
    soft_value,
)

KINDS = ("lse", "mellowmax", "boltzmann", "max")

finite = st.floats(-50, 50)
temperatures = st.floats(1e-3, 1e3)
tables = st.lists(finite, min_size=1, max_size=8).map(lambda values: th.tensor(values, dtype=th.float64))
seeds = st.integers(0, 2**31)


def random_policy(n_actions, seed):
    weights = th.rand(n_actions, dtype=th.float64, generator=th.Generator().manual_seed(seed)) + 1e-3
    return weights / weights.sum()


def close(one, other, tolerance=1e-10):
    """Within the tolerance, relative to the size of what is compared where that is above 1."""
    return th.allclose(th.as_tensor(one), th.as_tensor(other), rtol=tolerance, atol=tolerance)


@given(tables, temperatures)
def test_i1_bounds_of_the_soft_values(q, temperature):
    slack = 1e-10 * (1 + temperature)
    log_n = math.log(len(q))
    assert q.max() - slack <= log_sum_exp(q, temperature) <= q.max() + temperature * log_n + slack
    assert q.mean() - slack <= mellowmax(q, temperature) <= q.max() + slack
    assert q.mean() - slack <= boltzmann_mean(q, temperature) <= q.max() + slack


@given(tables, temperatures, seeds)
def test_i2_and_16c_what_a_policy_loses_to_the_soft_value_is_its_kl_to_the_boltzmann_policy(q, temperature, seed):
    policy = random_policy(len(q), seed)
    value = (policy * (q - temperature * policy.log())).sum()
    scaled_kl = (policy * (temperature * policy.log() - scaled_log_softmax(q, temperature))).sum()
    loss = log_sum_exp(q, temperature) - value
    assert close(loss, scaled_kl, 1e-10 * (1 + temperature))
    assert loss >= -1e-10 * (1 + temperature)


@given(tables, temperatures)
def test_16c_the_boltzmann_policy_loses_nothing(q, temperature):
    value = boltzmann_mean(q, temperature) + temperature * policy_entropy(q, temperature)
    assert close(value, log_sum_exp(q, temperature), 1e-10 * (1 + temperature))


def test_16c_any_other_policy_loses_something():
    q, temperature = th.tensor([1.0, 0.5, -0.3], dtype=th.float64), 0.7
    other = boltzmann_policy(q + th.tensor([0.1, 0.0, 0.0]), temperature)
    value = (other * (q - temperature * other.log())).sum()
    assert log_sum_exp(q, temperature) - value > 1e-4


@pytest.mark.parametrize("temperature", [1e-36, 1e-45])
def test_the_entropy_of_a_certain_policy_is_zero(temperature):
    assert policy_entropy(th.tensor([-1e3, 0.0, -5.0]), temperature).item() == 0.0


@given(tables, temperatures)
def test_i3_the_gradient_of_log_sum_exp_is_the_boltzmann_policy(q, temperature):
    q = q.clone().requires_grad_()
    (gradient,) = th.autograd.grad(log_sum_exp(q, temperature), q)
    assert close(gradient, boltzmann_policy(q.detach(), temperature))


@given(tables, temperatures)
def test_an_action_that_cannot_be_taken_adds_nothing(q, temperature):
    masked, tolerance = th.cat([q, th.tensor([-math.inf], dtype=q.dtype)]), 1e-10 * (1 + temperature)
    for kind in KINDS:
        of_one_more = temperature * math.log(len(q) / (len(q) + 1)) if kind == "mellowmax" else 0.0
        value = soft_value(q, temperature, kind) + of_one_more
        assert close(soft_value(masked, temperature, kind), value, tolerance)
        for returns in (masked, th.cat([q, th.tensor([5.0], dtype=q.dtype)])):
            assert close(policy_value(returns[None, None], masked[None], temperature, kind), value, tolerance)
        advantage = regularised_advantage(masked, temperature, kind)
        assert close(advantage[:-1], regularised_advantage(q, temperature, kind) - of_one_more, tolerance)
        assert advantage[-1] == -math.inf
    assert close(policy_entropy(masked, temperature), policy_entropy(q, temperature))


@given(tables)
def test_i4_limits_in_the_temperature(q):
    for kind in KINDS:
        assert close(soft_value(q, 1e-12, kind), q.max(), 1e-10)
    # The next term of the expansion is var(q) / (2 temperature) <= 2500 / 2e9.
    assert close(mellowmax(q, 1e9), q.mean(), 1e-5)
    for temperature in (1e8, 1e12):
        assert close(mellowmax(q.float(), temperature).double(), q.mean(), 1e-4), "in 32 bits too"
        returns, preferences = q.float()[None, None], q.float()[None]
        assert close(policy_value(returns, preferences, temperature, "mellowmax").squeeze().double(), q.mean(), 1e-4)
    assert close(log_sum_exp(q, 1e9) - 1e9 * math.log(len(q)), q.mean(), 1e-5)
    assert close(boltzmann_mean(q, 1e9), q.mean(), 1e-5)


@given(tables, temperatures, finite)
def test_i5_a_shift_of_all_values(q, temperature, shift):
    for kind in KINDS:
        assert close(soft_value(q + shift, temperature, kind), soft_value(q, temperature, kind) + shift)
        assert close(regularised_advantage(q + shift, temperature, kind), regularised_advantage(q, temperature, kind))
    assert close(scaled_log_softmax(q + shift, temperature), scaled_log_softmax(q, temperature))
    # A rounding of q by 1e-14 moves q / temperature by up to 1e-11.
    assert close(boltzmann_policy(q + shift, temperature), boltzmann_policy(q, temperature))


@given(tables, temperatures, st.floats(1e-2, 1e2))
def test_i6_a_change_of_reward_units(q, temperature, scale):
    for kind in KINDS:
        assert close(soft_value(scale * q, scale * temperature, kind), scale * soft_value(q, temperature, kind), 1e-9)
    assert close(boltzmann_policy(scale * q, scale * temperature), boltzmann_policy(q, temperature))


@given(tables, temperatures)
def test_the_scaled_log_policy_is_the_log_of_the_policy(q, temperature):
    log_policy = scaled_log_softmax(q, temperature)
    assert (log_policy <= 1e-12 * temperature).all()
    assert close((log_policy / temperature).exp(), boltzmann_policy(q, temperature))
    assert close(q - log_policy, log_sum_exp(q, temperature).expand_as(q), 1e-10 * (1 + temperature))


@given(tables, temperatures)
def test_an_advantage_is_what_a_value_falls_short_of_its_state(q, temperature):
    for kind in KINDS:
        advantage = regularised_advantage(q, temperature, kind)
        assert close(advantage, q - soft_value(q, temperature, kind), 1e-10 * (1 + temperature))
        highest = 0.0 if kind in ("lse", "max") else temperature * math.log(len(q))
        assert (advantage <= highest + 1e-10 * (1 + temperature)).all()


@given(tables, temperatures)
def test_entropy_is_between_zero_and_that_of_the_uniform_policy(q, temperature):
    entropy = policy_entropy(q, temperature)
    assert -1e-12 <= entropy <= math.log(len(q)) + 1e-12
    assert close(entropy, th.special.entr(boltzmann_policy(q, temperature)).sum())


def test_entropy_of_two_actions_by_hand():
    # softmax([log 3, 0]) = [3/4, 1/4]
    q = th.tensor([math.log(3.0), 0.0], dtype=th.float64)
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert policy_entropy(2 * q, 2.0).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "gap"), [([1.0, 4.0, 3.5], 0.5), ([2.0, 2.0, 1.0], 0.0), ([7.0], 0.0), ([-3.0, -1.0], 2.0)]
)
def test_action_gap_by_hand(values, gap):
    assert action_gap(th.tensor([values, values])).tolist() == [gap, gap]


@given(tables, temperatures, st.integers(1, 5), st.sampled_from(KINDS))
def test_a_table_that_is_worth_what_it_prefers_has_its_soft_value(q, temperature, n_quantiles, kind):
    returns = q.expand(1, n_quantiles, -1)
    values = policy_value(returns, q.unsqueeze(0), temperature, kind)
    assert values.shape == (1, n_quantiles)
    assert close(values, soft_value(q, temperature, kind).expand(1, n_quantiles), 1e-10 * (1 + temperature))


@given(tables, temperatures, seeds, st.sampled_from(KINDS))
def test_the_value_of_mean_quantiles_is_the_mean_of_their_values(q, temperature, seed, kind):
    returns = th.randn(1, 7, len(q), dtype=th.float64, generator=th.Generator().manual_seed(seed))
    each = policy_value(returns, q.unsqueeze(0), temperature, kind)
    mean = policy_value(returns.mean(1, keepdim=True), q.unsqueeze(0), temperature, kind)
    assert close(each.mean(1, keepdim=True), mean, 1e-10 * (1 + temperature))


@given(tables, temperatures, seeds, st.sampled_from(("lse", "mellowmax", "max")))
def test_another_tables_policy_is_never_worth_more(q, temperature, seed, kind):
    preferences = q + 5 * th.randn(len(q), dtype=th.float64, generator=th.Generator().manual_seed(seed))
    value = policy_value(q.reshape(1, 1, -1), preferences.unsqueeze(0), temperature, kind)
    assert value <= soft_value(q, temperature, kind) + 1e-10 * (1 + temperature)


def test_max_takes_the_first_of_tied_preferences():
    preferences = th.tensor([[1.0, 1.0, 0.0]])
    assert policy_value(th.tensor([[[5.0, 6.0, 7.0]]]), preferences, 1.0, "max").item() == 5.0


def test_sampled_actions_have_the_frequencies_of_the_policy():
    n = 40_000
    q = th.tensor([1.0, 0.2, -0.5, 0.9])
    uniform = th.rand(n, 4, generator=th.Generator().manual_seed(0))
    counts = th.bincount(sample_boltzmann(q.expand(n, 4), 0.5, uniform), minlength=4)
    expected = n * boltzmann_policy(q, 0.5)
    # 99.9 % point of chi-square with 3 degrees of freedom
    assert ((counts - expected) ** 2 / expected).sum() < 16.27


@pytest.mark.parametrize("dtype", [th.float32, th.float64])
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 100.0])
def test_sampling_survives_the_ends_of_the_uniform_draws(dtype, temperature):
    ends = (0.0, 1 - th.finfo(dtype).eps / 2)
    q = th.tensor([0.0, 3.0, 1.0], dtype=dtype)
    for end in ends:
        # The same draw for all actions cancels.
        assert sample_boltzmann(q, temperature, th.full((3,), end, dtype=dtype)) == 1
    # Among equals the smallest exponential, -log(1 - u), wins.
    lucky_first = th.tensor([ends[0], ends[1], ends[1]], dtype=dtype)
    assert sample_boltzmann(th.zeros(3, dtype=dtype), temperature, lucky_first) == 0


@given(st.lists(finite, min_size=2, max_size=6), st.floats(1e-8, 1e-3), st.floats(-1e4, 1e4))
@example([50.0, 49.999], 1e-4, 9000.0)
def test_float32_loses_no_digits_at_tiny_temperatures(values, temperature, offset):
    q = th.tensor(values).float() + offset
    exact = q.double()
    resolution = 4 * th.finfo(th.float32).eps
    for kind in KINDS:
        there = soft_value(q, temperature, kind).double()
        assert th.allclose(there, soft_value(exact, temperature, kind), rtol=resolution, atol=1e-6 * temperature)
    # Differences of neighbouring float32 are exact: the log-policy keeps its relative accuracy, however large q is.
    assert th.allclose(
        scaled_log_softmax(q, temperature).double(),
        scaled_log_softmax(exact, temperature),
        rtol=1e-5,
        atol=1e-5 * temperature,
    )


def test_the_float32_gradient_tells_near_actions_apart():
    # Two units in the last place apart, which is half a temperature: the quotient q / temperature would round it away.
    q = th.tensor([9000.0, 9000.0 - 2**-9], requires_grad=True)
    temperature = 2**-8 * 1.1
    (gradient,) = th.autograd.grad(log_sum_exp(q, temperature), q)
    assert th.allclose(gradient.double(), boltzmann_policy(q.detach().double(), temperature), rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_overflow_at_a_million(temperature, sign):
    q = sign * th.tensor([1e6, 1e6 - 1, 0.0, -1e6], requires_grad=True)
    for kind in KINDS:
        value = soft_value(q, temperature, kind)
        (gradient,) = th.autograd.grad(value, q, retain_graph=True)
        assert th.isfinite(value)
        assert th.isfinite(gradient).all()
        assert th.isfinite(regularised_advantage(q, temperature, kind)).all()
    assert th.isfinite(policy_entropy(q, temperature))
    assert boltzmann_policy(q, temperature).sum().item() == pytest.approx(1.0, abs=1e-6)


@given(tables, temperatures)
def test_a_temperature_may_be_a_tensor(q, temperature):
    table = q.expand(3, -1)
    tensor = th.tensor(temperature, dtype=th.float64)
    for kind in KINDS:
        assert th.equal(soft_value(table, tensor, kind), soft_value(table, temperature, kind))
        assert th.equal(regularised_advantage(table, tensor, kind), regularised_advantage(table, temperature, kind))
        returns = table.unsqueeze(1)
        assert th.equal(policy_value(returns, table, tensor, kind), policy_value(returns, table, temperature, kind))
    assert th.equal(boltzmann_policy(table, tensor), boltzmann_policy(table, temperature))
    assert th.equal(policy_entropy(table, tensor), policy_entropy(table, temperature))


@pytest.mark.parametrize("kind", KINDS)
def test_under_vmap_every_seed_has_its_own_temperature(kind):
    q = th.randn(3, 5, 4, dtype=th.float64, generator=th.Generator().manual_seed(0))
    own = th.tensor([0.01, 1.0, 100.0], dtype=th.float64)
    together = th.vmap(lambda table, temperature: soft_value(table, temperature, kind))(q, own)
    alone = th.stack([soft_value(table, temperature, kind) for table, temperature in zip(q, own.tolist(), strict=True)])
    assert close(together, alone, 1e-14)


@given(st.permutations(range(5)), temperatures, st.sampled_from(KINDS))
def test_the_order_of_actions_does_not_matter(order, temperature, kind):
    q = th.tensor([0.3, -1.0, 2.0, 1.9, 0.0], dtype=th.float64)
    assert close(soft_value(q[list(order)], temperature, kind), soft_value(q, temperature, kind), 1e-10 * (1 + temperature))


def test_scaled_log_policy_by_hand_and_without_gradient():
    log_prob = th.tensor([2.0, -5.0], requires_grad=True)
    scaled = scaled_log_policy(log_prob, th.tensor(0.1), target_entropy=-3.0)
    # 0.1 * (2 - 3) and 0.1 * (-5 - 3)
    assert th.allclose(scaled, th.tensor([-0.1, -0.8]))
    assert not scaled.requires_grad


@given(st.floats(0, 10), st.floats(-10, 10))
def test_scaled_log_policy_is_zero_at_the_entropy_constraint(temperature, target_entropy):
    at_constraint = th.tensor([-target_entropy], dtype=th.float64)
    assert scaled_log_policy(at_constraint, th.tensor(temperature), target_entropy).item() == 0.0


def test_soft_td_target_by_hand():
    column = lambda *values: th.tensor(values).reshape(-1, 1)  # noqa: E731
    target = soft_td_target(column(1.0, 1.0), column(0.0, 1.0), 0.5, column(10.0, 10.0), column(2.0, 2.0))
    # 1 + 0.5 (10 - 2), and the reward alone after a termination
    assert th.equal(target, column(5.0, 1.0))


@given(finite, finite, st.lists(finite, min_size=1, max_size=20))
def test_a_pair_clips_and_changes_nothing_inside(one, other, values):
    low, high = sorted((one, other))
    tensor = th.tensor(values, dtype=th.float64)
    bound = as_bound((low, high))
    bounded = bound.limit(tensor)
    assert bounded.min() >= low
    assert bounded.max() <= high
    inside = (tensor >= low) & (tensor <= high)
    assert th.equal(bounded[inside], tensor[inside])
    assert th.equal(bound.is_reached(tensor), ~inside)


@given(st.lists(finite, min_size=1, max_size=20))
def test_no_bound_is_the_identity_and_a_function_is_itself(values):
    tensor = th.tensor(values, dtype=th.float64)
    assert th.equal(as_bound(None).limit(tensor), tensor)
    assert not as_bound(None).is_reached(tensor).any()
    assert th.equal(as_bound(th.tanh).limit(tensor), th.tanh(tensor))


@pytest.mark.parametrize(
    ("text", "expected", "reached"),
    [
        ("clip(x)", [-1.0, -0.5, 1.0, 1.0, 1.0], [False, False, True, True, True]),
        ("clip(x/10)", [-0.1, -0.05, 0.2, 1.0, 1.0], [False, False, False, True, True]),
        ("clip(x / 0.5)", [-1.0, -1.0, 1.0, 1.0, 1.0], [True, False, True, True, True]),
        ("tanh(x)", [-0.761594, -0.462117, 0.964028, 1.0, 1.0], [False, False, False, True, True]),
        ("tanh(x/10)", [-0.099668, -0.0499584, 0.197375, 0.964028, 0.995055], [False, False, False, False, True]),
    ],
)
def test_a_bound_in_words(text, expected, reached):
    x = th.tensor([-1.0, -0.5, 2.0, 20.0, 30.0])
    bound = as_bound(text)
    th.testing.assert_close(bound.limit(x), th.tensor(expected))
    assert bound.is_reached(x).tolist() == reached


WORDS_THAT_ARE_NO_BOUND = ["tanh", "tanh(x/0)", "clip(x/-1)", "clip(x/1e3)", "sinh(x)", "clip(x/10", ""]


@pytest.mark.parametrize(
    "bound",
    [(1.0, -1.0), (0.0,), (0, 1, 2), 3.0, ("low", "high"), (float("nan"), 1.0), *WORDS_THAT_ARE_NO_BOUND],
)
def test_what_is_no_bound_is_named(bound):
    with pytest.raises(ValueError, match="munchausen_bound="):
        as_bound(bound, "munchausen_bound")


def test_the_clipped_surrogate_has_the_values_worked_out_by_hand():
    ratio = th.tensor([0.5, 1.1, 2.0, 0.5, 1.1, 2.0])
    advantages = th.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    # What would gain by going further is cut off; what would lose is not.
    expected = th.tensor([0.5, 1.1, 1.2, -0.8, -1.1, -2.0])
    th.testing.assert_close(clipped_surrogate(ratio, advantages, 0.2), expected)


@pytest.mark.parametrize("kind", ["qrdqn", "iqn", "tqc"])
def test_the_quantile_loss_and_its_gradient_are_sb3_contribs(kind):
    generator = th.Generator().manual_seed(0)
    shapes = ((32, 2, 7), (32, 1, 11)) if kind == "tqc" else ((32, 7), (32, 11))
    current, target = (2 * th.randn(shape, generator=generator) for shape in shapes)
    current[0] = target[0].flatten()[:7] + th.tensor([0.0, 1.0, -1.0, 1.0, 0.0, -1.0, 0.0])
    current.requires_grad_()
    fractions = th.rand(32, 7, generator=generator) if kind == "iqn" else None
    ours = quantile_huber_loss(current, target, fractions, kind != "tqc")
    theirs = sb3_contrib_loss(current, target, None if fractions is None else fractions.unsqueeze(-1), kind != "tqc")
    assert th.equal(ours, theirs)
    assert th.equal(*(th.autograd.grad(loss, current)[0] for loss in (ours, theirs)))


def test_the_quantile_loss_sends_no_gradient_into_the_target():
    target = th.randn(4, 3, requires_grad=True)
    loss = quantile_huber_loss(th.zeros(4, 3, requires_grad=True), target)
    assert th.autograd.grad(loss, target, allow_unused=True) == (None,)
