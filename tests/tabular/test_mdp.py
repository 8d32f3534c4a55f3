"""Finite MDPs: what is accepted, that values solve their equations, the generators, and the environment."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_entropic.operators import boltzmann_policy, log_sum_exp
from sb3_entropic.tabular import FiniteMDP, TabularEnv, chain, garnet, gridworld, optimal_q


def random_policy(mdp, seed=0):
    return th.rand(mdp.rewards.shape, dtype=th.float64, generator=th.Generator().manual_seed(seed)).softmax(-1)


def test_arrays_and_tensors_make_the_same_mdp():
    source = garnet(4, 2, 2, 0.9, seed=0)
    from_arrays = FiniteMDP(source.transitions.numpy(), source.rewards.numpy(), 0.9)
    from_lists = FiniteMDP(source.transitions.tolist(), source.rewards.tolist(), 0.9)
    for mdp in (from_arrays, from_lists):
        assert th.allclose(mdp.transitions, source.transitions, atol=1e-15)
        assert th.equal(mdp.rewards, source.rewards)


def test_an_mdp_keeps_its_own_copy():
    rewards = np.zeros((3, 2))
    mdp = FiniteMDP(chain(3, 0.5).transitions, rewards, 0.5)
    rewards[:] = np.nan
    assert th.equal(mdp.rewards, th.zeros(3, 2, dtype=th.float64))


def test_float32_probabilities_are_accepted_and_normalised():
    rounded = garnet(20, 3, 5, 0.9, seed=0).transitions.float()
    mdp = FiniteMDP(rounded, th.zeros(20, 3), 0.9)
    assert th.allclose(mdp.transitions.sum(-1), th.ones(20, 3, dtype=th.float64), atol=1e-15)


good = chain(3, 0.5)


@pytest.mark.parametrize(
    ("transitions", "rewards", "gamma", "message"),
    [
        (0.9 * good.transitions, good.rewards, 0.5, r"sum to 0\.9: .* must sum to 1"),
        (2 * good.transitions - 1 / 3, good.rewards, 0.5, r"hold -0\.333333, which is no probability"),
        (good.transitions * float("nan"), good.rewards, 0.5, "which is no probability"),
        (good.transitions[:, :, :2], good.rewards, 0.5, r"shape \(3, 2, 2\) .* make no MDP"),
        (good.transitions, good.rewards[:, :1], 0.5, r"rewards of shape \(3, 1\) make no MDP"),
        (good.transitions.unsqueeze(0), good.rewards, 0.5, "make no MDP"),
        (good.rewards, good.rewards, 0.5, "make no MDP"),
        (good.transitions, good.rewards / 0, 0.5, "not finite"),
        (good.transitions, good.rewards, 1.0, r"gamma=1 must be in \[0, 1\)"),
        (good.transitions, good.rewards, -0.1, r"gamma=-0.1 must be in \[0, 1\)"),
    ],
)
def test_what_is_no_mdp_is_named(transitions, rewards, gamma, message):
    with pytest.raises(ValueError, match=message):
        FiniteMDP(transitions, rewards, gamma)


@pytest.mark.parametrize(
    ("policy", "temperature", "message"),
    [
        (th.full((3, 2), 5.0), 0.0, "policy holds what is no distribution"),
        (th.tensor([[1.5, -0.5]] * 3), 0.0, "policy holds what is no distribution"),
        (th.full((2, 2), 0.5), 0.0, r"policy of shape \(2, 2\) is not of this MDP: it must be \(..., 3, 2\)"),
        (th.full((3, 2), 0.5), -1.0, "temperature=-1.0 is below 0"),
    ],
)
def test_what_cannot_be_evaluated_is_named(policy, temperature, message):
    with pytest.raises(ValueError, match=message):
        good.evaluate(policy, temperature)


def test_a_policy_may_have_32_bits():
    policy = th.tensor([[0.25, 0.75]] * 3)
    assert all(map(th.equal, good.evaluate(policy), good.evaluate(policy.double())))


def test_backup_by_hand():
    # From state 0: left stays, right leads to state 1; from state 1: left leads to 0, right stays and earns 1.
    expected = th.tensor([[0.5 * 10, 0.5 * 20], [0.5 * 10, 1 + 0.5 * 20]], dtype=th.float64)
    assert th.equal(chain(2, 0.5).backup(th.tensor([10.0, 20.0], dtype=th.float64)), expected)


def test_sampled_backups_average_to_the_exact_one():
    mdp = garnet(6, 2, 3, 0.9, seed=0, batch=2)
    values = th.randn(2, 6, dtype=th.float64, generator=th.Generator().manual_seed(1))
    generator = th.Generator().manual_seed(2)
    n = 4000
    samples = th.stack([mdp.sampled_backup(values, generator) for _ in range(n)])
    standard_error = samples.std(0) / n**0.5
    assert ((samples.mean(0) - mdp.backup(values)).abs() <= 4.5 * standard_error + 1e-12).all()
    assert not th.equal(samples[0], samples[1])


def test_a_sampled_backup_sees_one_possible_next_state_of_its_own_mdp():
    mdp = garnet(10, 3, 2, 0.5, seed=0, batch=4)
    # All values differ, so a backup tells which state it saw.
    values = th.arange(40, dtype=th.float64).reshape(4, 10)
    next_values = (mdp.sampled_backup(values, th.Generator().manual_seed(0)) - mdp.rewards) / mdp.gamma
    next_states = next_values.round().long() - th.arange(0, 40, 10).reshape(4, 1, 1)
    assert (mdp.transitions.gather(-1, next_states.unsqueeze(-1)) > 0).all()


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_values_of_a_policy_solve_the_bellman_equation(temperature):
    mdp = garnet(8, 3, 3, 0.95, seed=1, batch=5)
    policy = random_policy(mdp)
    values, q = mdp.evaluate(policy, temperature)
    entropy = -(policy * policy.log()).sum(-1)
    assert th.allclose(values, (policy * q).sum(-1) + temperature * entropy, atol=1e-12)
    assert th.allclose(q, mdp.backup(values), atol=1e-12)


def test_a_deterministic_policy_has_no_entropy():
    mdp = chain(4, 0.9)
    policy = th.tensor([[0.0, 1.0]] * 4, dtype=th.float64)
    assert th.equal(mdp.evaluate(policy, 1.0)[0], mdp.evaluate(policy)[0])


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 1.0, 1e3])
def test_optimal_values_solve_their_equation(temperature):
    mdp = garnet(12, 4, 3, 0.9, seed=2, batch=6)
    q = optimal_q(mdp, temperature)
    best = log_sum_exp(q, temperature) if temperature else q.amax(-1)
    assert th.allclose(q, mdp.backup(best), rtol=1e-13, atol=1e-13)
    if temperature:
        assert th.allclose(mdp.evaluate(boltzmann_policy(q, temperature), temperature)[0], best, rtol=1e-12, atol=1e-12)


def test_a_batch_is_its_members_side_by_side():
    mdp = garnet(5, 3, 2, 0.9, seed=3, batch=3)
    singles = [FiniteMDP(p, r, 0.9) for p, r in zip(mdp.transitions, mdp.rewards, strict=True)]
    assert th.allclose(optimal_q(mdp), th.stack([optimal_q(single) for single in singles]), atol=1e-12)


def test_one_mdp_evaluates_many_policies():
    mdp = garnet(5, 3, 2, 0.9, seed=3)
    policies = th.stack([random_policy(mdp, seed) for seed in range(4)])
    together = mdp.evaluate(policies)[0]
    assert th.allclose(together, th.stack([mdp.evaluate(policy)[0] for policy in policies]), atol=1e-12)


@given(st.integers(1, 12), st.integers(1, 4), st.data())
def test_garnets_have_the_branching_asked_for(n_states, n_actions, data):
    branching = data.draw(st.integers(1, n_states))
    mdp = garnet(n_states, n_actions, branching, 0.9, seed=data.draw(st.integers(0, 10**6)), batch=2)
    assert ((mdp.transitions > 0).sum(-1) == branching).all()
    assert ((mdp.rewards[..., 0] > 0).sum(-1) == max(1, round(0.1 * n_states))).all()
    assert (mdp.rewards == mdp.rewards[..., :1]).all()
    assert mdp.rewards.max() < 1


def test_garnets_depend_on_their_seed_alone():
    one, same, other = (garnet(10, 3, 3, 0.9, seed=seed) for seed in (0, 0, 1))
    assert th.equal(one.transitions, same.transitions)
    assert th.equal(one.rewards, same.rewards)
    assert not th.equal(one.transitions, other.transitions)


@pytest.mark.parametrize("branching", [0, 11])
def test_a_garnet_cannot_branch_into_more_states_than_it_has(branching):
    with pytest.raises(ValueError, match=f"branching={branching} must be from 1 to n_states=10"):
        garnet(10, 3, branching, 0.9, seed=0)


def test_the_chain_has_its_closed_form():
    expected = 0.9 ** th.arange(5, -1, -1, dtype=th.float64) / 0.1
    assert th.allclose(optimal_q(chain(6, 0.9)).amax(-1), expected, atol=1e-12)


def test_the_way_through_a_gridworld_by_hand():
    mdp = gridworld("..G\n.#.", gamma=0.5)
    values = optimal_q(mdp).amax(-1)
    # 1 in every step from the goal on, worth 2; halved for every move to it. Five cells: the wall is no state.
    assert values.tolist() == pytest.approx([0.5, 1.0, 2.0, 0.25, 1.0])
    up, right, down, left = range(4)
    assert mdp.transitions[0, right, 1] == 1
    assert mdp.transitions[0, down, 3] == 1
    assert mdp.transitions[1, down, 1] == 1  # the wall
    assert mdp.transitions[4, up, 2] == 1
    assert mdp.transitions[2, left, 2] == 1  # the goal keeps what it has


def test_slips_go_to_both_sides():
    mdp = gridworld(3, gamma=0.9, slip=0.2)
    up, right, centre = 0, 1, 4
    assert mdp.transitions[centre, up].tolist() == pytest.approx([0, 0.8, 0, 0.1, 0, 0.1, 0, 0, 0])
    assert mdp.transitions[centre, right].tolist() == pytest.approx([0, 0.1, 0, 0, 0, 0.8, 0, 0.1, 0])
    # In the corner above, a slip to the left of "up" bumps as the move itself does.
    assert mdp.transitions[0, up].tolist() == pytest.approx([0.9, 0.1, 0, 0, 0, 0, 0, 0, 0])
    assert mdp.rewards[-1].tolist() == [1.0] * 4


@pytest.mark.parametrize("layout", ["..\n.", "", "##", ".x"])
def test_what_is_no_map_is_named(layout):
    with pytest.raises(ValueError, match="layout="):
        gridworld(layout, 0.9)


@pytest.mark.parametrize("side", [0, -3])
def test_a_square_has_a_side(side):
    with pytest.raises(ValueError, match=f"layout={side} is not a whole number above 0"):
        gridworld(side, 0.9)


def test_a_slip_is_a_probability():
    with pytest.raises(ValueError, match=r"slip=1\.5 must be a probability"):
        gridworld(2, 0.9, slip=1.5)


@pytest.mark.filterwarnings("ignore:.*not registered|.*`spec`.*:UserWarning")
def test_the_environment_passes_both_checkers():
    env = TabularEnv(garnet(6, 3, 2, 0.9, seed=0), max_episode_steps=20)
    check_env(env, skip_render_check=True)
    sb3_check_env(env)


def test_episodes_are_cut_and_never_end():
    env = TabularEnv(gridworld(2, 0.9), max_episode_steps=7)
    for _ in range(3):
        env.reset(seed=0)
        ends = [env.step(0)[2:4] for _ in range(7)]
        assert ends == [(False, False)] * 6 + [(False, True)]


def test_the_environment_follows_its_mdp():
    mdp = garnet(4, 2, 3, 0.9, seed=4)
    env = TabularEnv(mdp, max_episode_steps=10**6)
    n = 8000
    counts = th.zeros_like(mdp.transitions)
    state, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(n):
        action = env.action_space.sample()
        next_state, reward, *_ = env.step(action)
        assert reward == mdp.rewards[state, action].item()
        counts[state, action, next_state] += 1
        state = next_state
    visits = counts.sum(-1, keepdim=True)
    deviation = (mdp.transitions * (1 - mdp.transitions) / visits).sqrt()
    assert ((counts / visits - mdp.transitions).abs() <= 4.5 * deviation).all()


def test_episodes_start_anywhere():
    env = TabularEnv(chain(4, 0.9))
    env.reset(seed=0)
    starts = np.bincount([env.reset()[0] for _ in range(2000)], minlength=4)
    # 99.9 % point of chi-square with 3 degrees of freedom
    assert ((starts - 500) ** 2 / 500).sum() < 16.27


def test_a_seed_repeats_an_episode():
    def episode():
        env = TabularEnv(garnet(9, 2, 4, 0.9, seed=0))
        return [env.reset(seed=3)[0], *(env.step(1)[0] for _ in range(50))]

    assert episode() == episode()


def test_an_environment_takes_one_mdp_and_a_positive_limit():
    with pytest.raises(ValueError, match=r"batch of shape \(2,\)"):
        TabularEnv(garnet(4, 2, 2, 0.9, seed=0, batch=2))
    with pytest.raises(ValueError, match="max_episode_steps=0 must be at least 1"):
        TabularEnv(chain(3, 0.9), max_episode_steps=0)


def test_observations_and_actions_are_the_indices_of_the_mdp():
    env = TabularEnv(garnet(4, 3, 2, 0.9, seed=0))
    assert env.observation_space == gym.spaces.Discrete(4)
    assert env.action_space == gym.spaces.Discrete(3)
