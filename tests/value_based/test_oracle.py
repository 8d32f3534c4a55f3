"""The target of every deep algorithm, fed a table as its network, is the exact operator on that table."""

import numpy as np
import pytest
import torch as th

from sb3_entropic import ALDQN, CVIDQN, DPP, MDQN, MIQN, MQRDQN, MoDQN, SoftDQN
from sb3_entropic.operators import boltzmann_policy, scaled_log_softmax, soft_value
from sb3_entropic.tabular import TabularEnv, gap_increasing_operator, momentum_value_iteration, optimal_q, value_iteration
from sb3_entropic.value_based.networks import Fractions, ValueNetworks
from tests.value_based.tables import (
    GAMMA,
    N_ACTIONS,
    N_STATES,
    all_transitions,
    arguments,
    as_network,
    expectation,
    seeded,
    small_mdp,
    table,
)

TEMPERATURE = 0.3
MDP = small_mdp()
FAMILY = {
    "DQN": (SoftDQN, {"soft_value": "max"}, ("max", 0.0, None)),
    "SoftDQN": (SoftDQN, {}, ("lse", 0.0, None)),
    "SoftDQN with mellowmax": (SoftDQN, {"soft_value": "mellowmax"}, ("mellowmax", 0.0, None)),
    "MDQN": (MDQN, {"munchausen_clip": -1.5}, ("lse", 0.9, -1.5)),
    "MDQN without clip": (MDQN, {"munchausen_clip": None, "munchausen_alpha": 0.5}, ("lse", 0.5, None)),
    "CVIDQN": (CVIDQN, {"munchausen_clip": -1.5}, ("mellowmax", 0.9, -1.5)),
    "ALDQN": (ALDQN, {}, ("max", 0.9, None)),
    "DPP": (DPP, {"munchausen_clip": -1.5}, ("boltzmann", 1.0, -1.5)),
    "DPP as published": (DPP, {"munchausen_clip": None}, ("boltzmann", 1.0, None)),
}
whole_family = pytest.mark.parametrize(("constructor", "changes", "operator"), FAMILY.values(), ids=FAMILY.keys())


def make(constructor, **changes):
    return constructor("MlpPolicy", TabularEnv(MDP), temperature=TEMPERATURE, **arguments(), **changes)


def operator_on(values, kind, alpha, clip):
    return gap_increasing_operator(MDP.backup, values, TEMPERATURE, alpha, kind, clip)


def deep_target(model, online, target, fractions=Fractions(), done=0.0):  # noqa: B008
    networks = ValueNetworks(as_network(online), as_network(target), TEMPERATURE)
    targets, _ = model.td_target(networks, all_transitions(MDP, done), fractions)
    return expectation(MDP, targets)


@whole_family
def test_the_target_is_the_operator(constructor, changes, operator):
    model = make(constructor, **changes)
    # A different online table: whatever of the target read it would show.
    target = deep_target(model, online=table(7), target=table(3))
    assert th.allclose(target.squeeze(-1), operator_on(table(3), *operator), atol=1e-9)


@whole_family
def test_after_a_termination_reward_and_bonus_are_left(constructor, changes, operator):
    model = make(constructor, **changes)
    terminal = deep_target(model, table(7), table(3), done=1.0).squeeze(-1)
    kind = operator[0]
    next_value = th.einsum("sat,t->sa", MDP.transitions, soft_value(table(3), TEMPERATURE, kind))
    assert th.allclose(terminal, operator_on(table(3), *operator) - GAMMA * next_value, atol=1e-9)


@pytest.mark.parametrize(("kind", "alpha", "clip"), [case[2] for case in FAMILY.values()], ids=FAMILY.keys())
def test_the_mean_of_the_quantile_targets_is_the_operator_on_the_mean(kind, alpha, clip):
    model = make(MQRDQN, munchausen_alpha=alpha, munchausen_clip=clip, soft_value=kind)
    quantiles = table(3, 5)
    targets = deep_target(model, table(7, 5), quantiles)
    assert targets.shape == (N_STATES, N_ACTIONS, 5)
    assert th.allclose(targets.mean(-1), operator_on(quantiles.mean(0), kind, alpha, clip), atol=1e-9)
    # Quantile by quantile: the same policy and bonus, each its own value.
    preferences = quantiles.mean(0)
    policy, log_policy = boltzmann_policy(preferences, TEMPERATURE), scaled_log_softmax(preferences, TEMPERATURE)
    if kind == "lse" and alpha == 0.9:
        for j in range(5):
            next_values = (policy * (quantiles[j] - log_policy)).sum(-1)
            expected = MDP.backup(next_values) + alpha * log_policy.clamp(min=clip)
            assert th.allclose(targets[..., j], expected, atol=1e-9)


@pytest.mark.parametrize(("kind", "alpha", "clip"), [case[2] for case in FAMILY.values()], ids=FAMILY.keys())
def test_implicit_quantiles_too(kind, alpha, clip):
    """A distribution whose quantile function is linear in the fraction, at fractions with mean one half.

    The operator of DQN makes it IQN.
    """
    model = make(MIQN, munchausen_alpha=alpha, munchausen_clip=clip, soft_value=kind)
    values, spread = table(3), table(4).abs()

    def network(observations, fractions):
        s = observations.flatten()
        return values[s].unsqueeze(1) + (fractions.unsqueeze(-1) - 0.5) * spread[s].unsqueeze(1)

    batch = all_transitions(MDP)
    rows = len(batch.rewards)
    symmetric = th.tensor([[0.1, 0.4, 0.6, 0.9]]).double().expand(rows, -1)
    three = th.tensor([[0.2, 0.5, 0.8]]).double().expand(rows, -1)
    networks = ValueNetworks(None, network, TEMPERATURE)
    targets, _ = model.td_target(networks, batch, Fractions(None, symmetric, three, three))
    assert targets.shape == (rows, 4)
    assert th.allclose(expectation(MDP, targets).mean(-1), operator_on(values, kind, alpha, clip), atol=1e-9)


@pytest.mark.parametrize("kind", ["lse", "mellowmax", "boltzmann", "max"])
def test_double_q_takes_the_policy_of_the_online_network_and_the_values_of_the_target(kind):
    model = make(MDQN, munchausen_alpha=0.0, soft_value=kind, double_q=True)
    online, target = table(7), table(3)
    if kind == "max":
        policy = th.nn.functional.one_hot(online.argmax(-1), N_ACTIONS).double()
        next_values = (policy * target).sum(-1)
    else:
        policy = th.softmax(online / TEMPERATURE, -1)
        entropy = 0 if kind == "boltzmann" else -TEMPERATURE * policy * policy.log()
        next_values = (policy * target + entropy).sum(-1) - (TEMPERATURE * np.log(N_ACTIONS) if kind == "mellowmax" else 0)
    assert th.allclose(deep_target(model, online, target).squeeze(-1), MDP.backup(next_values), atol=1e-9)


def test_double_q_leaves_the_bonus_to_the_target_network():
    model = make(MDQN, double_q=True, munchausen_clip=None)
    without = make(MDQN, double_q=True, munchausen_alpha=0.0)
    bonus = deep_target(model, table(7), table(3)) - deep_target(without, table(7), table(3))
    assert th.allclose(bonus.squeeze(-1), 0.9 * scaled_log_softmax(table(3), TEMPERATURE), atol=1e-9)


class Averages(ValueNetworks):
    """Tables for momentum: the averaging network has its own."""

    def __init__(self, q, q_target, h_target):
        super().__init__(as_network(q), as_network(q_target), TEMPERATURE)
        self.target_averages = as_network(h_target)


def test_momentums_target_is_the_greedy_evaluation_of_the_average():
    model = make(MoDQN)
    networks = Averages(table(7), table(3), table(5))
    targets, _ = model.td_target(networks, all_transitions(MDP), Fractions())
    greedy = table(3).gather(1, table(5).argmax(1, keepdim=True)).squeeze(1)
    assert th.allclose(expectation(MDP, targets).squeeze(-1), MDP.backup(greedy), atol=1e-9)


def test_after_a_termination_momentums_target_is_the_reward():
    batch = all_transitions(MDP, 1.0)
    targets, _ = make(MoDQN).td_target(Averages(table(7), table(3), table(5)), batch, Fractions())
    assert th.equal(targets, batch.rewards)


def test_momentum_reads_the_network_of_each_name():
    """All four of a model's, where they differ, and its own batch of three-step returns."""
    model = make(MoDQN, n_steps=3, learning_starts=10, batch_size=8).learn(40)
    with th.no_grad():
        for seed, parameter in enumerate(model.policy.parameters()):
            parameter.add_(2.0 * th.randn(parameter.shape, generator=seeded(seed)))
        np.random.seed(0)
        batch = model.replay_buffer.sample(32)
        online, target, average, average_target = (
            [network(observations) for observations in (batch.observations, batch.next_observations)]
            for network in (
                model.q_net,
                model.q_net_target,
                model.policy.average_net,
                model.policy.average_net_target,
            )
        )
        assert batch.discounts.unique().numel() > 1
        greedy = average_target[1].argmax(dim=1, keepdim=True)
        assert not th.equal(greedy, average[1].argmax(dim=1, keepdim=True))
        assert not th.equal(greedy, target[1].argmax(dim=1, keepdim=True))
        expected = batch.rewards + (1 - batch.dones) * batch.discounts * target[1].gather(1, greedy)
        targets, _ = model.td_target(model.make_networks(), batch, Fractions())
        th.testing.assert_close(targets, expected)
        mixture = 0.1 * online[0] + 0.9 * average_target[0]
        loss, _ = model.average_loss(model.make_networks(), batch, Fractions())
        th.testing.assert_close(loss, th.nn.functional.smooth_l1_loss(average[0], mixture))


def test_the_average_is_drawn_to_the_mixture_at_the_same_state_and_action():
    model = make(MoDQN, momentum=0.7)
    networks = Averages(table(7), table(3), table(5))
    mixture = 0.3 * table(7) + 0.7 * table(5)
    networks.averages = as_network(mixture)
    loss, _ = model.average_loss(networks, all_transitions(MDP), Fractions())
    assert loss.item() == pytest.approx(0, abs=1e-12)
    networks.averages = as_network(mixture + 0.1)
    loss, _ = model.average_loss(networks, all_transitions(MDP), Fractions())
    assert loss.item() == pytest.approx(0.5 * 0.1**2)


def minimiser_of_the_average_loss(model, networks):
    """Where its gradient vanishes: the loss is quadratic near there, so one Newton step from nearby finds it."""
    start = networks.target_averages(th.arange(N_STATES)).requires_grad_()
    networks.averages = as_network(start)
    loss, _ = model.average_loss(networks, all_transitions(MDP), Fractions())
    (gradient,) = th.autograd.grad(loss, start)
    # The mean over states and actions of half a square: its second derivative is 1 / (n_states n_actions).
    return start.detach() - N_STATES * N_ACTIONS * gradient


def test_momentum_with_a_falling_weight_is_exact_momentum_value_iteration():
    """Each iteration solves both losses on the whole table, the new values weighted by 1 / (k + 2)."""
    model, iterations = make(MoDQN), 30
    q, h = (th.zeros(N_STATES, N_ACTIONS).double() for _ in range(2))
    for k in range(iterations):
        targets, _ = model.td_target(Averages(q, q, h), all_transitions(MDP), Fractions())
        q = expectation(MDP, targets).squeeze(-1)
        model.momentum = 1 - 1 / (k + 2)
        h = minimiser_of_the_average_loss(model, Averages(q, q, h))
    assert th.allclose(h, momentum_value_iteration(MDP, iterations).values, atol=1e-9)


@pytest.mark.parametrize("clip", [None, -1.5])
def test_preferences_of_dpp_fall_for_ever_unless_they_are_clipped(clip):
    model, psi, lows = make(DPP, munchausen_clip=clip), th.zeros(N_STATES, N_ACTIONS).double(), []
    for iteration in range(1, 1001):
        psi = deep_target(model, psi, psi).squeeze(-1)
        if iteration in (500, 750, 1000):
            lows.append(psi.min().item())
    gap = (optimal_q(MDP).amax(-1, keepdim=True) - optimal_q(MDP)).amax().item()
    if clip is None:
        # Linearly: by the largest action gap an iteration.
        assert (lows[0] - lows[1]) / 250 == pytest.approx(gap, rel=1e-3)
        assert (lows[1] - lows[2]) / 250 == pytest.approx(gap, rel=1e-3)
    else:
        assert lows[0] == pytest.approx(lows[2], abs=1e-6)
        assert lows[2] > optimal_q(MDP).min().item() - 1.5 - 0.5
    assert th.equal(psi.argmax(-1), optimal_q(MDP).argmax(-1))


@pytest.mark.parametrize("constructor", [MDQN, ALDQN, CVIDQN], ids=lambda c: c.__name__)
def test_a_network_trained_on_a_finite_mdp_acts_as_the_exact_solution(constructor):
    """The whole path: environment, replay buffer, one-hot observations, gradient steps, target network, ``predict``."""
    model = constructor(
        "MlpPolicy",
        TabularEnv(MDP, max_episode_steps=25),
        temperature=0.05,
        munchausen_alpha=0.5,
        policy_kwargs={"net_arch": []},
        learning_rate=0.02,
        gamma=GAMMA,
        batch_size=64,
        target_update_interval=40,
        train_freq=4,
        gradient_steps=4,
        exploration_final_eps=0.5,
        learning_starts=200,
        buffer_size=5000,
        seed=0,
        device="cpu",
    ).learn(4000)
    actions, _ = model.predict(np.arange(N_STATES), deterministic=True)
    exact = value_iteration(MDP, 200)
    policy = th.nn.functional.one_hot(th.as_tensor(actions), N_ACTIONS).double()
    values, _ = MDP.evaluate(policy)
    best, _ = MDP.evaluate(exact.policy)
    assert ((best - values) / best).max() < 0.01
