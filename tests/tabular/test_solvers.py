"""The solvers: what they return, one step by hand, convergence to the exact answer, and what they refuse."""

import itertools
import math
from fractions import Fraction
from functools import partial

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_entropic.operators import boltzmann_policy, log_sum_exp
from sb3_entropic.tabular import (
    FiniteMDP,
    advantage_learning,
    chain,
    conservative_value_iteration,
    dual_averaging_value_iteration,
    dynamic_policy_programming,
    gap_increasing_iteration,
    gap_increasing_operator,
    garnet,
    gridworld,
    mirror_descent_value_iteration,
    momentum_value_iteration,
    munchausen_value_iteration,
    optimal_q,
    soft_policy_iteration,
    soft_value_iteration,
    solvers,
    value_iteration,
)

SOLVERS = {
    "value iteration": value_iteration,
    "soft value iteration": lambda mdp, n, **options: soft_value_iteration(mdp, 1e-3, n, **options),
    "M-VI": lambda mdp, n, **options: munchausen_value_iteration(mdp, 1e-2, 0.9, n, **options),
    "clipped M-VI": lambda mdp, n, **options: munchausen_value_iteration(mdp, 1e-2, 0.9, n, -1.0, **options),
    "CVI": lambda mdp, n, **options: conservative_value_iteration(mdp, 1e-2, 0.9, n, **options),
    "DPP": lambda mdp, n, **options: dynamic_policy_programming(mdp, 1e-2, n, **options),
    "DPP-L": lambda mdp, n, **options: dynamic_policy_programming(mdp, 1e-2, n, "lse", **options),
    "Advantage Learning": lambda mdp, n, **options: advantage_learning(mdp, 0.5, n, **options),
    "MoVI": momentum_value_iteration,
    "MD-VI": lambda mdp, n, **options: mirror_descent_value_iteration(mdp, 1e-2, 1e-3, n, **options),
    "DA-VI": lambda mdp, n, **options: dual_averaging_value_iteration(mdp, 1e-2, 0.0, n, **options),
}
parametrize_solvers = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS.keys())


@parametrize_solvers
def test_every_scheme_finds_the_way(solve):
    mdp = gridworld("...#G\n.#...\n.....", gamma=0.9, slip=0.1)
    # What entropy costs is far below this; where two ways are equally good any mixture is optimal.
    assert solve(mdp, 300).errors.item() < 0.02


def test_soft_policy_iteration_finds_the_way():
    assert soft_policy_iteration(gridworld(4, gamma=0.9), 1e-3, 30).errors.item() < 0.02


@parametrize_solvers
def test_a_batch_is_solved_as_its_members_are(solve):
    mdp = garnet(6, 3, 2, 0.8, seed=0, batch=3)
    singles = [type(mdp)(p, r, 0.8) for p, r in zip(mdp.transitions, mdp.rewards, strict=True)]
    together, alone = solve(mdp, 40), [solve(single, 40) for single in singles]
    assert th.allclose(together.values, th.stack([one.values for one in alone]), atol=1e-11)
    assert th.allclose(together.policy, th.stack([one.policy for one in alone]), atol=1e-8)
    assert th.allclose(together.errors, th.stack([one.errors for one in alone], dim=1), atol=1e-8)


@parametrize_solvers
def test_recording_changes_nothing_and_keeps_to_the_iterations_asked_for(solve):
    mdp = garnet(6, 3, 2, 0.9, seed=1, batch=2)
    recorded = solve(mdp, 12, record=[8, 3])
    assert recorded.iterations.tolist() == [3, 8]
    assert recorded.errors.shape == (2, 2)
    assert th.equal(recorded.errors, th.cat([solve(mdp, 3).errors, solve(mdp, 8).errors]))
    assert th.equal(recorded.values, solve(mdp, 12).values)
    assert solve(mdp, 12, record=[]).errors.shape == (0, 2)


@parametrize_solvers
def test_sampled_backups_repeat_with_their_seed(solve):
    mdp = garnet(6, 3, 3, 0.9, seed=2)
    one, same, other = (solve(mdp, 20, generator=th.Generator().manual_seed(seed)).values for seed in (0, 0, 1))
    assert th.equal(one, same)
    assert not th.equal(one, other)
    assert not th.allclose(one, solve(mdp, 20).values)


@parametrize_solvers
def test_where_every_pair_has_one_next_state_sampling_changes_nothing(solve):
    mdp = chain(5, 0.9)
    assert th.allclose(solve(mdp, 20, generator=th.Generator().manual_seed(0)).values, solve(mdp, 20).values, atol=1e-12)


@pytest.mark.parametrize("name", ["value iteration", "M-VI", "DPP", "CVI", "Advantage Learning"])
def test_iterations_continue_where_the_last_ones_ended(name):
    solve, mdp = SOLVERS[name], garnet(6, 3, 2, 0.9, seed=3)
    assert th.equal(solve(mdp, 3, initial_q=solve(mdp, 4).values).values, solve(mdp, 7).values)


def test_the_error_is_that_of_the_policy_itself():
    mdp = garnet(6, 3, 2, 0.9, seed=4, batch=2)
    solution = soft_value_iteration(mdp, 0.5, 5)
    best, q = optimal_q(mdp), mdp.evaluate(boltzmann_policy(solution.values, 0.5))[1]
    expected = (best - q).abs().sum((1, 2)) / best.sum((1, 2))
    assert th.allclose(solution.errors[0], expected, atol=1e-12)


def test_an_optimal_policy_has_no_error():
    mdp = garnet(6, 3, 2, 0.9, seed=5, batch=2)
    assert value_iteration(mdp, 1, initial_q=optimal_q(mdp)).errors.abs().max() < 1e-13


# Two states in which every action stays: a backup is r + v / 2, worked out by hand below.
STAYING = th.eye(2).unsqueeze(1).expand(2, 2, 2)
REWARDS = th.tensor([[1.0, 0.0], [0.0, 0.0]])
Q = th.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=th.float64)


@pytest.mark.parametrize(
    ("kind", "value", "advantages"),
    [
        # softmax(log 3, 0) = (3/4, 1/4); log(3 + 1) = log 4
        ("lse", math.log(4), (math.log(3 / 4), math.log(1 / 4))),
        ("mellowmax", math.log(2), (math.log(3 / 2), math.log(1 / 2))),
        ("boltzmann", 0.75 * math.log(3), (0.25 * math.log(3), -0.75 * math.log(3))),
        ("max", math.log(3), (0.0, -math.log(3))),
    ],
)
@pytest.mark.parametrize("clip", [None, -0.6, -0.3])
def test_the_gap_increasing_operator_by_hand(kind, value, advantages, clip):
    mdp = FiniteMDP(STAYING, REWARDS, 0.5)
    after = gap_increasing_operator(mdp.backup, Q, 1.0, 0.8, kind, clip)
    # The clip has no upper end: a positive advantage passes.
    clipped = [advantage if clip is None else max(advantage, clip) for advantage in advantages]
    assert after[0].tolist() == pytest.approx([1 + 0.5 * value + 0.8 * clipped[0], 0.5 * value + 0.8 * clipped[1]])
    # In reward units ten times as large all numbers are.
    scaled = FiniteMDP(STAYING, 10 * REWARDS, 0.5)
    larger = gap_increasing_operator(scaled.backup, 10 * Q, 10.0, 0.8, kind, None if clip is None else 10 * clip)
    assert th.allclose(larger, 10 * after, atol=1e-12)


def test_the_operator_takes_a_sampled_backup():
    mdp = garnet(5, 2, 3, 0.9, seed=6)
    q = th.randn(5, 2, dtype=th.float64, generator=th.Generator().manual_seed(0))
    generator = th.Generator().manual_seed(1)
    n = 2000
    backup = partial(mdp.sampled_backup, generator=generator)
    samples = th.stack([gap_increasing_operator(backup, q, 0.1, 0.9, "lse", -1.0) for _ in range(n)])
    exact = gap_increasing_operator(mdp.backup, q, 0.1, 0.9, "lse", -1.0)
    assert ((samples.mean(0) - exact).abs() <= 4.5 * samples.std(0) / n**0.5 + 1e-12).all()


@given(st.floats(0.0, 1.0), st.floats(0.01, 10.0), st.integers(0, 1000))
def test_the_munchausen_bonus_is_weighted_log_policy(alpha, temperature, seed):
    mdp = garnet(4, 3, 2, 0.9, seed=seed)
    q = th.randn(4, 3, dtype=th.float64, generator=th.Generator().manual_seed(seed))
    log_policy = th.log_softmax(q / temperature, dim=-1)
    plain = gap_increasing_operator(mdp.backup, q, temperature, 0.0, "lse")
    bonus = gap_increasing_operator(mdp.backup, q, temperature, alpha, "lse") - plain
    assert th.allclose(bonus, alpha * temperature * log_policy, atol=1e-11)
    assert th.allclose(plain, mdp.backup(log_sum_exp(q, temperature)), atol=1e-12)


def test_a_step_of_mirror_descent_is_the_best_regularised_policy():
    """Against a search over policies of two actions, with neither coefficient 0 and a predecessor that is not uniform."""
    kl_coef, temperature = 0.7, 0.4
    mdp = FiniteMDP(STAYING, REWARDS, 0.5)
    before = mirror_descent_value_iteration(mdp, kl_coef, temperature, 1, initial_q=Q)
    # Its first policy: the uniform predecessor drops out of the softmax.
    previous = boltzmann_policy(Q, kl_coef + temperature)[0]
    probability = th.linspace(1e-6, 1 - 1e-6, 2_000_001, dtype=th.float64)
    policies = th.stack([probability, 1 - probability], dim=1)
    kl = (policies * (policies / previous).log()).sum(1)
    objective = policies @ before.values[0] - kl_coef * kl + temperature * th.special.entr(policies).sum(1)
    assert before.policy[0, 0].item() == pytest.approx(probability[objective.argmax()].item(), abs=1e-5)
    after = mirror_descent_value_iteration(mdp, kl_coef, temperature, 2, initial_q=Q)
    assert after.values[0, 1].item() == pytest.approx(0.5 * objective.max().item(), abs=1e-9)


def test_momentum_by_hand():
    """One state, two actions; h is the plain average of q_0, q_1, q_2, and q follows the greedy action of h, not of q."""
    mdp = FiniteMDP(th.ones(1, 2, 1), th.tensor([[1.0, 0.0]]), 0.5)
    q0 = th.tensor([[0.0, 8.0]], dtype=th.float64)
    # q_1 = r + 8 / 2 = (5, 4); h_1 = (2.5, 6): greedy is action 1; q_2 = r + 4 / 2 = (3, 2); h_2 = (8 / 3, 14 / 3)
    assert momentum_value_iteration(mdp, 1, initial_q=q0).values.tolist() == [[2.5, 6.0]]
    assert momentum_value_iteration(mdp, 2, initial_q=q0).values[0].tolist() == pytest.approx([8 / 3, 14 / 3])


def test_a_start_may_have_32_bits():
    start = th.arange(6, dtype=th.float32).reshape(3, 2)
    ours, theirs = (value_iteration(chain(3, 0.9), 4, initial_q=q).values for q in (start, start.double()))
    assert th.equal(ours, theirs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mdp: soft_value_iteration(mdp, 0.0, 5), "temperature=0.0 is not a finite number above 0"),
        (lambda mdp: soft_policy_iteration(mdp, -1.0, 5), "temperature=-1.0 is not a finite number above 0"),
        (lambda mdp: munchausen_value_iteration(mdp, 0.1, 1.5, 5), r"munchausen_alpha=1.5 is outside \[0, 1\]"),
        (lambda mdp: munchausen_value_iteration(mdp, 0.1, 0.9, 5, 1.0), "munchausen_clip=1.0 is not below 0"),
        (lambda mdp: mirror_descent_value_iteration(mdp, 0.0, 0.0, 5), "kl_coef=0 and temperature=0"),
        (lambda mdp: dual_averaging_value_iteration(mdp, -0.1, 1.0, 5), "kl_coef=-0.1"),
        (lambda mdp: mirror_descent_value_iteration(mdp, float("inf"), 1.0, 5), "kl_coef=inf"),
        (lambda mdp: optimal_q(mdp, -1.0), "temperature=-1.0 is below 0"),
        (lambda mdp: optimal_q(mdp, float("nan")), "temperature=nan is not a number"),
        (lambda mdp: gap_increasing_iteration(mdp, 0.1, 0.5, "sum", 5), "soft_value='sum' is none of 'lse'"),
        (lambda mdp: value_iteration(mdp, 5, initial_q=th.zeros(3)), r"initial_q of shape \(3,\) .* must be \(..., 3, 2\)"),
        (lambda mdp: value_iteration(mdp, 0), "n_iterations=0"),
        (lambda mdp: value_iteration(mdp, 5, record=[6]), r"record=\[6\] must lie between 1 and n_iterations=5"),
        (lambda mdp: gap_increasing_iteration(mdp, float("nan"), 0.5, "lse", 5), "temperature=nan is not a number"),
    ],
)
def test_what_cannot_be_solved_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(chain(3, 0.9))


def exact_values(rewards, successors, gamma):
    """Of the best deterministic policy where nothing is drawn, ``(S,)``, in fractions."""
    n_states, n_actions = rewards.shape
    discount, best = Fraction(gamma), [Fraction(-(10**30))] * n_states
    for choice in itertools.product(range(n_actions), repeat=n_states):
        seen = [Fraction(rewards[s, a].item()) for s, a in enumerate(choice)]
        follows = [int(successors[s, a]) for s, a in enumerate(choice)]
        for start in range(n_states):
            # Every walk ends in a cycle.
            path = [start]
            while follows[path[-1]] not in path:
                path.append(follows[path[-1]])
            begin = path.index(follows[path[-1]])
            parts = [(discount**k) * seen[s] for k, s in enumerate(path)]
            value = sum(parts[:begin]) + sum(parts[begin:]) / (1 - discount ** (len(path) - begin))
            best[start] = max(best[start], value)
    return th.tensor([float(value) for value in best], dtype=th.float64)


@pytest.mark.parametrize("gamma", [0.9, 1 - 1e-5, 1 - 1e-7, 1 - 1e-8])
def test_the_optimum_is_exact_for_a_discount_near_one(gamma):
    generator = th.Generator().manual_seed(0)
    for _ in range(20):
        rewards = 1 + 0.5 * th.rand(4, 3, generator=generator, dtype=th.float64)
        successors = th.randint(4, (4, 3), generator=generator)
        mdp = FiniteMDP(th.nn.functional.one_hot(successors, 4).double(), rewards, gamma)
        exact = exact_values(rewards, successors, gamma)
        assert ((optimal_q(mdp).amax(-1) - exact).abs() / exact).max().item() < 1e-6


@pytest.mark.parametrize(("n_states", "gamma"), [(40, 0.5), (300, 0.9), (60, 0.999)])
def test_the_optimum_is_exact_where_the_reward_is_far_away(n_states, gamma):
    exact = th.tensor([gamma ** (n_states - 1 - state) / (1 - gamma) for state in range(n_states)], dtype=th.float64)
    q = optimal_q(chain(n_states, gamma))
    th.testing.assert_close(q.amax(-1), exact, rtol=1e-12, atol=0)
    assert q.argmax(-1).tolist() == [1] * n_states


def test_the_optimum_of_a_batch_is_each_ones_own_whatever_the_others_earn():
    one = chain(30, 0.9)
    batch = FiniteMDP(th.stack([one.transitions] * 2), th.stack([one.rewards, 1e-9 * one.rewards]), 0.9)
    th.testing.assert_close(optimal_q(batch)[1], 1e-9 * optimal_q(one), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 0.99, 0.9999])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_optimum_is_exact_where_no_reward_can_be_reached(gamma, sign):
    """Of equal actions rounding takes now one and then the other there."""
    trap, bumps = th.tensor([[0, 0], [1, 2], [2, 1], [0, 1]]), th.tensor([[0, 0], [0, 0], [0, 0], [0, 1]])
    generator = th.Generator().manual_seed(0)
    cases = [(trap, bumps)]
    for _ in range(30):
        successors = th.randint(6, (6, 2), generator=generator)
        successors[0] = 0
        cases.append((successors, (th.rand(6, 2, generator=generator) < 0.2) * (successors != 0)))
    for successors, rewards in cases:
        earned = sign * rewards.double()
        mdp = FiniteMDP(th.nn.functional.one_hot(successors, len(successors)).double(), earned, gamma)
        exact = exact_values(earned, successors, gamma)
        th.testing.assert_close(optimal_q(mdp).amax(-1), exact, rtol=1e-10, atol=1e-10)


def test_an_optimum_that_is_not_found_is_no_answer(monkeypatch):
    monkeypatch.setattr(solvers, "MOST_POLICIES", 1)
    with pytest.raises(RuntimeError, match="has not ended after 1 policies"):
        optimal_q(chain(6, 0.9))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("gamma", [1 - 1e-7, 1 - 3e-8, 1 - 1e-9])
def test_the_optimum_is_found_in_time_for_a_discount_near_one(gamma, temperature):
    for mdp in (chain(6, gamma), garnet(10, 3, 3, gamma, 0)):
        assert optimal_q(mdp, temperature).isfinite().all()
