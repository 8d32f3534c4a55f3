"""The theory of the entropy-regularised family, as identities between solvers in float64.

Each test says which statement it holds. What is compared with a solver is written out here in the form of its paper.
"""

import itertools
import math

import pytest
import torch as th

from sb3_entropic.operators import action_gap, boltzmann_mean, boltzmann_policy, log_sum_exp, mellowmax
from sb3_entropic.tabular import (
    FiniteMDP,
    advantage_learning,
    conservative_value_iteration,
    dual_averaging_value_iteration,
    dynamic_policy_programming,
    gap_increasing_iteration,
    garnet,
    mirror_descent_value_iteration,
    momentum_value_iteration,
    munchausen_value_iteration,
    optimal_q,
    soft_policy_iteration,
    soft_value_iteration,
    value_iteration,
)

GAMMA, N_STATES, N_ACTIONS = 0.9, 8, 3
HORIZON = 1 / (1 - GAMMA)


def draws(*shape, seed):
    return th.rand(*shape, dtype=th.float64, generator=th.Generator().manual_seed(seed))


# Rewards differ between actions, and no two actions are closer than 0.02: the limits in the temperature need a gap.
TRANSITIONS = garnet(N_STATES, N_ACTIONS, 3, GAMMA, seed=0, batch=3).transitions
MDP = FiniteMDP(TRANSITIONS, draws(3, N_STATES, N_ACTIONS, seed=5), GAMMA)
START = 5 * draws(3, N_STATES, N_ACTIONS, seed=6)
BEST = optimal_q(MDP)
BEST_VALUES = BEST.amax(-1)
GAPS = BEST_VALUES.unsqueeze(-1) - BEST


def distance(one, other):
    return (one - other).abs().max().item()


def munchausen_step(q, temperature, alpha):
    """The scheme of arXiv 2007.14430 as printed: the policy, its logarithm in the reward, its entropy in the value."""
    policy = (q / temperature).softmax(-1)
    scaled_log_policy = temperature * (q / temperature).log_softmax(-1)
    return MDP.backup((policy * (q - scaled_log_policy)).sum(-1)) + alpha * scaled_log_policy


def test_the_mdps_have_gaps():
    assert action_gap(BEST).min() > 0.02


@pytest.mark.parametrize("alpha", [0.3, 0.9])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_t1_munchausen_is_mirror_descent_in_every_iteration(alpha, temperature):
    """T1 (theorem 1 of arXiv 2007.14430): ``q - alpha temperature log pi`` is the ``q`` of MD-VI(alpha t, (1 - alpha) t)."""
    kl_coef, entropy = alpha * temperature, (1 - alpha) * temperature
    q, log_policy = START, th.full_like(START, -math.log(N_ACTIONS))
    start = START - alpha * temperature * log_policy
    for k in range(1, 61):
        log_policy = (q / temperature).log_softmax(-1)
        q = munchausen_step(q, temperature, alpha)
        mirror = mirror_descent_value_iteration(MDP, kl_coef, entropy, k, initial_q=start, record=[])
        assert distance(mirror.values, q - alpha * temperature * log_policy) < 1e-11
        assert distance(mirror.policy, boltzmann_policy(q, temperature)) < 1e-11


def test_t1_the_kl_weight_is_not_the_entropy_weight():
    """T1 holds for no other split of the temperature: with the two swapped the policies differ."""
    right, swapped = (
        mirror_descent_value_iteration(MDP, kl_coef, 1.0 - kl_coef, 20, initial_q=START).policy for kl_coef in (0.9, 0.1)
    )
    assert distance(right, swapped) > 1e-2


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_t2_munchausen_is_conservative_value_iteration_with_the_sum(alpha, temperature):
    """T2: ``r + alpha temperature log pi + gamma P <pi, q - temperature log pi>`` is ``r + gamma P lse + alpha (q - lse)``."""
    q = START
    for k in range(1, 61):
        q = munchausen_step(q, temperature, alpha)
        if k in (1, 2, 10, 60):
            solver = munchausen_value_iteration(MDP, temperature, alpha, k, initial_q=START, record=[])
            assert distance(solver.values, q) < 1e-10


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("k", [1, 7, 400])
def test_sum_and_mean_differ_by_a_constant_in_every_iteration(alpha, k):
    """Section 4, sharpened from the limit to every ``k``: CVI is M-VI plus a constant, with the same policy."""
    temperature = 0.3
    total = munchausen_value_iteration(MDP, temperature, alpha, k, initial_q=START)
    mean = conservative_value_iteration(MDP, temperature, alpha, k, initial_q=START)
    constant = (alpha - GAMMA) * HORIZON * (1 - GAMMA**k) * temperature * math.log(N_ACTIONS)
    assert distance(mean.values, total.values + constant) < 1e-10
    assert distance(mean.policy, total.policy) < 1e-10


def test_conservative_value_iteration_without_advantage_is_mellowmax_value_iteration():
    """Section 15: CVI at alpha 0 is soft value iteration (with the mean): ``q = r + gamma P mellowmax(q)``."""
    q = conservative_value_iteration(MDP, 0.3, 0.0, 600).values
    assert distance(q, MDP.backup(mellowmax(q, 0.3))) < 1e-12
    assert distance(boltzmann_policy(q, 0.3), boltzmann_policy(optimal_q(MDP, 0.3), 0.3)) < 1e-12


def test_conservative_value_iteration_with_all_advantage_is_dpp_l():
    """Section 15: CVI at alpha 1 goes through the policies of DPP-L, its values higher by at most temperature log A."""
    for k in (1, 5, 50):
        mean = conservative_value_iteration(MDP, 0.3, 1.0, k, initial_q=START)
        total = dynamic_policy_programming(MDP, 0.3, k, "lse", initial_q=START)
        assert distance(mean.policy, total.policy) < 1e-11
        assert distance(mean.values, total.values + (1 - GAMMA**k) * 0.3 * math.log(N_ACTIONS)) < 1e-10


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_t3_the_fixed_point_is_soft_optimal_at_what_is_left_of_the_temperature(alpha):
    """T3: ``lse_t(q) = V*_{(1 - alpha) t}`` and the policy is the soft optimal one at ``(1 - alpha) t``."""
    temperature = 0.5
    solution = munchausen_value_iteration(MDP, temperature, alpha, 1000)
    left = (1 - alpha) * temperature
    soft_best = optimal_q(MDP, left)
    assert distance(log_sum_exp(solution.values, temperature), log_sum_exp(soft_best, left)) < 1e-11
    assert distance(solution.policy, boltzmann_policy(soft_best, left)) < 1e-11


@pytest.mark.parametrize(("alpha", "factor"), [(0.5, 2.0), (0.9, 10.0)])
def test_t4_munchausen_widens_the_gaps_by_one_over_one_minus_alpha(alpha, factor):
    """T4, erratum: the factor is ``1 / (1 - alpha)``, not the ``(1 + alpha) / (1 - alpha)`` quoted from theorem 2.

    In closed form: at the fixed point the policy is both ``softmax(q / t)`` and ``softmax(q' / ((1 - alpha) t))`` with
    ``q'`` the soft optimal values, so ``q`` is ``q' / (1 - alpha)`` up to a constant in every state. The quoted factor
    would be 3 and 19 here.
    """
    temperature = 0.5
    q = munchausen_value_iteration(MDP, temperature, alpha, 1000).values
    soft_best = optimal_q(MDP, (1 - alpha) * temperature)
    assert distance(action_gap(q), factor * action_gap(soft_best)) < 1e-10
    spread, soft_spread = (table - table[..., :1] for table in (q, soft_best))
    assert distance(spread, factor * soft_spread) < 1e-10
    quoted = (1 + alpha) / (1 - alpha)
    assert ((action_gap(q) - quoted * action_gap(soft_best)).abs() > 0.1 * action_gap(q)).all()


@pytest.mark.parametrize(("alpha", "factor"), [(0.5, 2.0), (0.9, 10.0)])
def test_t4_advantage_learning_widens_the_gaps_by_the_same_factor(alpha, factor):
    """T4: ``q = V* - gap* / (1 - alpha)``, with the greedy policy and values of the MDP."""
    solution = advantage_learning(MDP, alpha, 1000)
    assert distance(solution.values, BEST_VALUES.unsqueeze(-1) - factor * GAPS) < 1e-10
    assert solution.errors.max() < 1e-13


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_t5_at_small_temperatures_munchausen_is_advantage_learning(alpha):
    """T5: at 1e-4 the two fixed points agree to rounding, since every gap is many temperatures wide."""
    munchausen = munchausen_value_iteration(MDP, 1e-4, alpha, 1000).values
    assert distance(munchausen, advantage_learning(MDP, alpha, 1000).values) < 1e-11


def test_t5_without_advantage_munchausen_is_soft_value_iteration():
    """T5: alpha 0."""
    munchausen = munchausen_value_iteration(MDP, 0.3, 0.0, 25, initial_q=START).values
    q = START
    for _ in range(25):
        q = MDP.backup(0.3 * th.logsumexp(q / 0.3, dim=-1))
    assert distance(munchausen, q) < 1e-12
    assert th.equal(munchausen, soft_value_iteration(MDP, 0.3, 25, initial_q=START).values)


def test_t5_with_all_advantage_munchausen_is_dynamic_policy_programming():
    """T5: alpha 1 is ``psi + r + gamma P m psi - m psi``, with the log-sum-exp (DPP-L) and, in DPP, the Boltzmann mean."""
    for kind, value in (("lse", log_sum_exp), ("boltzmann", boltzmann_mean)):
        psi = START
        for _ in range(25):
            psi = psi + MDP.backup(value(psi, 0.3)) - value(psi, 0.3).unsqueeze(-1)
        assert distance(dynamic_policy_programming(MDP, 0.3, 25, kind, initial_q=START).values, psi) < 1e-11


@pytest.mark.parametrize("temperature", [1e-3, 1e-4])
def test_t6_the_clip_moves_only_the_gaps_it_reaches(temperature):
    """T6: ``q = q* + alpha max(clip, -gap* / (1 - alpha))``; values and greedy policy are the MDP's own."""
    alpha, clip = 0.9, -4.0
    solution = munchausen_value_iteration(MDP, temperature, alpha, 1000, munchausen_clip=clip)
    unclipped = -GAPS / (1 - alpha)
    assert (unclipped < clip).any()
    assert ((unclipped > clip) & (GAPS > 0)).any()
    assert distance(solution.values, BEST + alpha * unclipped.clamp(min=clip)) < 1e-11
    assert distance(log_sum_exp(solution.values, temperature), BEST_VALUES) < 1e-11
    assert th.equal(solution.values.argmax(-1), BEST.argmax(-1))


@pytest.mark.parametrize(("kl_coef", "temperature"), [(0.5, 0.0), (0.01, 0.0), (0.5, 0.2), (0.01, 0.1), (0.0, 0.2)])
def test_mirror_descent_is_dual_averaging(kl_coef, temperature):
    """Section 6, proposition 1 of arXiv 2003.14089: the same policies in every iteration, with entropy and without."""
    for k in (1, 2, 3, 10, 40, 100):
        mirror = mirror_descent_value_iteration(MDP, kl_coef, temperature, k, initial_q=START)
        dual = dual_averaging_value_iteration(MDP, kl_coef, temperature, k, initial_q=START)
        assert distance(mirror.policy, dual.policy) < 1e-10
        assert distance(mirror.errors, dual.errors) < 1e-10


def test_dual_averaging_averages_the_values_of_mirror_descent():
    """Section 6: without entropy ``h`` is the plain average of ``q_0 ... q_k``; with it, a moving one that starts at 0."""
    weight = 0.5 / 0.7
    tables = [START] + [mirror_descent_value_iteration(MDP, 0.5, 0.0, k, initial_q=START).values for k in range(1, 13)]
    plain = dual_averaging_value_iteration(MDP, 0.5, 0.0, 12, initial_q=START).values
    assert distance(plain, th.stack(tables).mean(0)) < 1e-12
    tables = [START] + [mirror_descent_value_iteration(MDP, 0.5, 0.2, k, initial_q=START).values for k in range(1, 13)]
    moving = th.zeros_like(START)
    for q in tables:
        moving = weight * moving + (1 - weight) * q
    assert distance(dual_averaging_value_iteration(MDP, 0.5, 0.2, 12, initial_q=START).values, moving) < 1e-12


def test_mirror_descent_without_kl_is_soft_value_iteration():
    """Sections 4 and 6: lambda 0 leaves the entropy alone."""
    mirror = mirror_descent_value_iteration(MDP, 0.0, 0.3, 25, initial_q=START)
    soft = soft_value_iteration(MDP, 0.3, 25, initial_q=START)
    assert distance(mirror.values, soft.values) < 1e-12
    assert distance(mirror.policy, soft.policy) < 1e-12


def test_mirror_descent_without_entropy_is_dpp_l():
    """Section 4's dictionary at entropy 0: ``alpha = 1``, and the policies are those of DPP-L from the same start."""
    mirror = mirror_descent_value_iteration(MDP, 0.3, 0.0, 25, initial_q=START)
    assert distance(mirror.policy, dynamic_policy_programming(MDP, 0.3, 25, "lse", initial_q=START).policy) < 1e-10


def test_dpp_preferences_fall_by_their_gap_while_the_value_converges():
    """Section 4: every action loses its optimal gap per iteration, without end; ``m psi`` tends to ``V*``.

    Sharper than the ``1e-4`` after 4,000 sweeps noted there: with exact backups the value converges like ``gamma^k``, so
    it is at rounding after 1,000.
    """
    for kind, value in (("lse", log_sum_exp), ("boltzmann", boltzmann_mean)):
        early, late = (dynamic_policy_programming(MDP, 0.1, k, kind) for k in (1000, 1500))
        assert distance(late.values - early.values, -500 * GAPS) < 1e-9
        assert distance(value(late.values, 0.1), BEST_VALUES) < 1e-10
        assert late.values.min() < -1000
        assert late.values.max() < BEST_VALUES.max() + 1e-9


def test_dpp_keeps_to_its_bound():
    """Section 4: ``||q* - q_pi_k|| <= 2 gamma (4 V_max + t log A) / ((1 - gamma)^2 (k + 1))``."""
    v_max = MDP.rewards.max() * HORIZON
    for temperature in (0.1, 10.0):
        scale = 2 * GAMMA * (4 * v_max + temperature * math.log(N_ACTIONS)) * HORIZON**2
        for k in (1, 10, 100, 1000):
            policy = dynamic_policy_programming(MDP, temperature, k).policy
            assert distance(MDP.evaluate(policy)[1], BEST) <= scale / (k + 1)


def test_no_better_bound_than_one_over_k_holds_for_dpp():
    """Section 4: O(1/k) is the rate where gaps come in every size, though each MDP's own smallest gap ends in a geometric one.

    In a state in which every action stays, the preferences part by the gap ``g`` per iteration, so the policy loses
    ``g / (1 + exp(k g / t)) / (1 - gamma)``; over all ``g`` that is at most ``t / k`` times ``max x / (1 + exp x) = 0.2785``.
    """
    temperature, n_states = 0.5, 80
    gaps = 2.0 ** -th.linspace(0, 12, n_states, dtype=th.float64)
    staying = th.eye(n_states).unsqueeze(1).expand(-1, 2, -1)
    mdp = FiniteMDP(staying, th.stack([gaps, th.zeros(n_states)], dim=1), GAMMA)
    for k in (10, 100, 1000):
        policy = dynamic_policy_programming(mdp, temperature, k, record=[]).policy
        loss = distance(mdp.evaluate(policy)[0], gaps * HORIZON)
        assert k * loss == pytest.approx(0.2785 * temperature * HORIZON, rel=0.01)


def test_a_clip_keeps_dpp_bounded():
    """Section 4, remedy 2: with a clip no preference is further than ``|clip|`` below a backup, and the policy is optimal."""
    clip = -2.0
    early, late = (
        dynamic_policy_programming(MDP, 0.01, k, "lse", munchausen_clip=clip, initial_q=START) for k in (2000, 4000)
    )
    assert distance(early.values, late.values) < 1e-11
    assert late.values.min() >= BEST.min() + clip - 1e-9
    assert distance(log_sum_exp(late.values, 0.01), BEST_VALUES) < 1e-11
    assert late.errors.max() < 1e-12


def test_momentum_value_iteration_converges_like_one_over_k():
    """Section 5: ``k |max h_k - V*|`` tends to a constant, and ``greedy(h)`` is optimal."""
    scaled = []
    for k in (500, 1000, 2000):
        solution = momentum_value_iteration(MDP, k)
        scaled.append(k * distance(solution.values.amax(-1), BEST_VALUES))
        assert solution.errors.max() < 1e-13
    assert scaled == pytest.approx([scaled[-1]] * 3, rel=0.01)
    assert scaled[-1] > 1


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_soft_value_iteration_contracts_by_gamma(temperature):
    """Section 15: ``||q_k - q*_t|| <= gamma^k ||q_0 - q*_t||`` at any temperature."""
    best = optimal_q(MDP, temperature)
    for k in (1, 10, 100):
        after = soft_value_iteration(MDP, temperature, k, initial_q=START).values
        assert distance(after, best) <= GAMMA**k * distance(START, best) + 1e-12 * best.abs().max()


@pytest.mark.parametrize("alpha", [0.5, 0.95])
def test_munchausen_converges_at_the_slower_of_alpha_and_gamma(alpha):
    """Section 15: like ``max(alpha, gamma)^k``, within the factor ``k`` of the bound."""
    limit = munchausen_value_iteration(MDP, 0.1, alpha, 1500).values
    errors = [distance(munchausen_value_iteration(MDP, 0.1, alpha, k).values, limit) for k in (100, 150)]
    assert (errors[1] / errors[0]) ** (1 / 50) == pytest.approx(max(alpha, GAMMA), abs=0.01)


def test_soft_policy_iteration_is_monotone_and_quadratic():
    """Section 15: the soft values never fall, and near the end each error is a multiple of the last one squared."""
    temperature = 0.1
    best = log_sum_exp(optimal_q(MDP, temperature), temperature)
    policy, errors = boltzmann_policy(START, temperature), []
    values, _ = MDP.evaluate(policy, temperature)
    for k in range(1, 8):
        policy = soft_policy_iteration(MDP, temperature, k, initial_q=START).policy
        improved, _ = MDP.evaluate(policy, temperature)
        assert (improved >= values - 1e-12).all()
        values = improved
        errors.append(distance(values, best))
    assert errors[-1] < 1e-12
    quadratic = [(before, after) for before, after in itertools.pairwise(errors) if 1e-6 < before < 0.1]
    assert quadratic
    assert all(after <= before**2 * HORIZON / temperature for before, after in quadratic)


def test_soft_policy_and_soft_value_iteration_meet():
    """Section 15: one fixed point."""
    for temperature in (0.01, 1.0, 100.0):
        policy_iteration = soft_policy_iteration(MDP, temperature, 30)
        value_iterated = soft_value_iteration(MDP, temperature, 600)
        assert distance(policy_iteration.values, value_iterated.values) < 1e-12 * (1 + 100 * temperature)
        assert distance(policy_iteration.policy, value_iterated.policy) < 1e-11


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 100.0])
def test_what_entropy_adds_and_costs_is_bounded(temperature):
    """Section 15: ``0 <= V*_t - V*`` and ``0 <= V* - V^{pi_t}``, both at most ``t log A / (1 - gamma)``."""
    soft_best = optimal_q(MDP, temperature)
    bound = temperature * math.log(N_ACTIONS) * HORIZON
    gain = log_sum_exp(soft_best, temperature) - BEST_VALUES
    loss = BEST_VALUES - MDP.evaluate(boltzmann_policy(soft_best, temperature))[0]
    for difference in (gain, loss):
        assert difference.min() >= -1e-12 * (1 + bound)
        assert difference.max() <= bound
    # The two together are the discounted entropy, so they share the bound.
    assert (gain + loss).max() <= bound + 1e-12 * (1 + bound)


def test_at_temperature_zero_soft_values_are_the_values():
    """Section 15: ``t -> 0`` is value iteration."""
    assert distance(soft_value_iteration(MDP, 1e-4, 600).values, value_iteration(MDP, 600).values) < 1e-12
    assert distance(value_iteration(MDP, 600).values, BEST) < 1e-12


def test_at_large_temperatures_the_policy_is_uniform_and_its_values_remain():
    """Section 15: at ``t = 1e4`` the policy is uniform and ``V*_t - t log A / (1 - gamma)`` its value, like ``1 / t``."""
    uniform = th.full_like(BEST, 1 / N_ACTIONS)
    values, _ = MDP.evaluate(uniform)
    errors = []
    for temperature in (1e3, 1e4):
        soft_best = optimal_q(MDP, temperature)
        rest = log_sum_exp(soft_best, temperature) - temperature * math.log(N_ACTIONS) * HORIZON
        errors.append((distance(boltzmann_policy(soft_best, temperature), uniform), distance(rest, values)))
    assert max(errors[1]) < 1e-4
    assert [before / after for before, after in zip(*errors, strict=True)] == pytest.approx([10, 10], rel=0.01)


def test_the_boltzmann_mean_is_no_contraction():
    """Section 15: moving the values of two actions by at most ``d`` moves their Boltzmann mean by more than ``d / gamma``."""
    q, move = th.tensor([2.0, 0.0], dtype=th.float64), th.tensor([1e-3, -1e-3], dtype=th.float64)
    expansion = {
        value: abs(value(q + move, 1.0) - value(q, 1.0)).item() / 1e-3 for value in (boltzmann_mean, mellowmax, log_sum_exp)
    }
    assert expansion[boltzmann_mean] > 1 / GAMMA
    assert expansion[mellowmax] < 1
    assert expansion[log_sum_exp] < 1


def test_the_boltzmann_mean_has_two_fixed_points():
    """Section 15: where iteration ends depends on where it starts; with mellowmax it does not (arXiv 1612.05628)."""
    transitions = [[[0.66, 0.34], [0.99, 0.01]], [[0.0, 1.0], [0.0, 1.0]]]
    mdp = FiniteMDP(transitions, [[0.122, 0.033], [0.0, 0.0]], 0.98)
    below, above = (th.tensor([[start, start], [0.0, 0.0]], dtype=th.float64) for start in (0.0, 2.0))

    def ends(kind):
        return [gap_increasing_iteration(mdp, 1 / 17, 0.0, kind, 3000, initial_q=start).values for start in (below, above)]

    assert distance(*ends("boltzmann")) > 0.1
    for end in ends("boltzmann"):
        assert distance(end, mdp.backup(boltzmann_mean(end, 1 / 17))) < 1e-9
    assert distance(*ends("mellowmax")) < 1e-9


def test_dpp_averages_sampling_noise_in_its_policy_and_momentum_in_its_values_too():
    """Section 15: with 16 times the iterations the error of DPP's policy falls below a quarter, 1 / sqrt(16); AVI's stays.

    What averages is the policy. ``m psi_k`` itself is a difference of two consecutive sums and keeps the noise of the
    last backup, where MoVI's ``h`` is the average and its value converges as well.
    """
    mdp = garnet(20, 4, 4, GAMMA, seed=0, batch=20)
    best = optimal_q(mdp).amax(-1)

    def run(solve, *arguments):
        solution = solve(mdp, *arguments, 1600, record=[100, 1600], generator=th.Generator().manual_seed(0))
        return solution, solution.errors.mean(1)

    dpp, dpp_errors = run(lambda mdp, t, n, **options: dynamic_policy_programming(mdp, t, n, "lse", **options), 0.1)
    movi, movi_errors = run(momentum_value_iteration)
    _, avi_errors = run(value_iteration)
    assert dpp_errors[1] < 0.25 * dpp_errors[0]
    assert movi_errors[1] < 0.25 * movi_errors[0]
    assert avi_errors[1] > 0.5 * avi_errors[0]
    assert (log_sum_exp(dpp.values, 0.1) - best).abs().mean() > 3 * (movi.values.amax(-1) - best).abs().mean()
