"""The free-energy agent's losses against the exact operators and loops in plain floats, and how it acts."""

import math
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv

from sb3_entropic import VFE, SoftDQN, train_seeds
from sb3_entropic.active_inference.transitions import TransitionEnsemble, information_gain
from sb3_entropic.active_inference.vfe import FreeEnergyNetworks
from sb3_entropic.errors import UserError
from sb3_entropic.operators import boltzmann_policy, policy_entropy, scaled_log_softmax, soft_value
from sb3_entropic.tabular import TabularEnv, gap_increasing_operator, optimal_q
from sb3_entropic.value_based.networks import Fractions, ValueNetworks
from tests.engine.cases import FAST, difference
from tests.same_bits import same_bits
from tests.value_based.tables import (
    N_ACTIONS,
    N_STATES,
    all_transitions,
    arguments,
    as_network,
    expectation,
    small_mdp,
    table,
)

TEMPERATURE = 0.3
MDP = small_mdp()
OBSERVATION = np.array([0.3, -0.2, 0.1, 0.4], dtype=np.float32)


def tabular(**changes):
    env = FlattenObservation(TabularEnv(MDP, max_episode_steps=25))
    return VFE("MlpPolicy", env, **{**arguments(), "temperature": TEMPERATURE, "epistemic_weight": 0.0, **changes})


def cartpole(policy_kwargs=None, **changes):
    sizes = {"buffer_size": 300, "learning_starts": 20, "batch_size": 16, "device": "cpu", "seed": 0, "train_freq": 1}
    kwargs = {"net_arch": [16], "n_members": 3, **(policy_kwargs or {})}
    return VFE("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **{**sizes, **changes})


def batch_of(model, size=32):
    np.random.seed(0)
    return model.replay_buffer.sample(size)


class Predictions:
    """A table of what each member says of every ``(s, a)``, ``(n_members, S, A, n_features)``."""

    def __init__(self, seed=11, n_members=3, n_features=2):
        generator = th.Generator().manual_seed(seed)
        shape = (n_members, N_STATES, N_ACTIONS, n_features)
        self.means, self.stds = (th.randn(shape, generator=generator).double() for _ in range(2))
        self.stds = self.stds.exp()

    def __call__(self, observations, actions):
        where = (slice(None), observations.flatten(), actions.flatten())
        return self.means[where], self.stds[where]

    def changes(self, observations, next_observations):
        return (next_observations - observations).double().expand(-1, self.means.shape[-1])

    def gains(self):
        return information_gain(self.means, self.stds)


class Exact:
    """The policy that minimises the free energy, of ``G``."""

    def __init__(self, free_energies, temperature=TEMPERATURE):
        self.log_policy = as_network(scaled_log_softmax(-free_energies, temperature) / temperature)


class Given:
    def __init__(self, policy):
        self.log_policy = as_network(policy.log())


def networks_of(target, actor, online=None, transitions=None, temperature=TEMPERATURE):
    """Tables of ``G`` in the place of networks, whose outputs are ``-G``."""
    # A different online table: whatever of the target read it would show.
    online = table(7) if online is None else online
    policy = SimpleNamespace(q_net=as_network(-online), q_net_target=as_network(-target), actor=actor)
    policy.transitions = Predictions() if transitions is None else transitions
    return FreeEnergyNetworks(policy, temperature)


def target_of(model, *args, done=0.0, **changes):
    """The target of ``G``, averaged over next states, ``(S, A)``."""
    targets, _ = model.td_target(networks_of(*args, **changes), all_transitions(MDP, done), Fractions())
    return -expectation(MDP, targets).squeeze(-1)


def random_policy(seed=5):
    return th.softmax(table(seed), dim=-1)


class TestTarget:
    def test_with_its_entropy_and_the_exact_policy_it_is_that_of_soft_dqn(self):
        """Not in expectation alone: transition by transition."""
        g, soft = table(3), SoftDQN("MlpPolicy", TabularEnv(MDP), temperature=TEMPERATURE, **arguments())
        for done in (0.0, 1.0):
            batch = all_transitions(MDP, done)
            ours, _ = tabular(entropy_in_target=True).td_target(networks_of(g, Exact(g)), batch, Fractions())
            networks = ValueNetworks(as_network(table(7)), as_network(-g), TEMPERATURE)
            theirs, _ = soft.td_target(networks, batch, Fractions())
            assert th.allclose(ours, theirs, atol=1e-12)

    @pytest.mark.parametrize(("entropy_in_target", "kind"), [(True, "lse"), (False, "boltzmann")])
    def test_with_the_exact_policy_it_is_the_operator(self, entropy_in_target, kind):
        g = table(3)
        expected = gap_increasing_operator(MDP.backup, -g, TEMPERATURE, 0.0, kind)
        model = tabular(entropy_in_target=entropy_in_target)
        assert th.allclose(target_of(model, g, Exact(g)), -expected, atol=1e-9)

    @pytest.mark.parametrize("entropy_in_target", [True, False])
    def test_of_any_policy_it_is_the_evaluation(self, entropy_in_target):
        """Iterated, for a fixed policy, it ends at the exact solution of the linear system."""
        policy, model = random_policy(), tabular(entropy_in_target=entropy_in_target)
        g = th.zeros(N_STATES, N_ACTIONS).double()
        for _ in range(250):
            g = target_of(model, g, Given(policy))
        _, q = MDP.evaluate(policy, TEMPERATURE if entropy_in_target else 0.0)
        assert th.allclose(-g, q, atol=1e-9)

    def test_with_its_entropy_it_ends_at_the_soft_optimum(self):
        g, model = th.zeros(N_STATES, N_ACTIONS).double(), tabular(entropy_in_target=True)
        for _ in range(250):
            g = target_of(model, g, Exact(g))
        assert th.allclose(-g, optimal_q(MDP, TEMPERATURE), atol=1e-9)

    def test_after_a_termination_reward_and_information_are_left(self):
        transitions, g = Predictions(), table(3)
        model = tabular(epistemic_weight=0.4)
        terminal = target_of(model, g, Exact(g), transitions=transitions, done=1.0)
        assert th.allclose(terminal, -MDP.rewards - 0.4 * transitions.gains(), atol=1e-9)

    def test_information_lowers_the_expected_free_energy(self):
        transitions, g = Predictions(), table(3)
        without = target_of(tabular(), g, Exact(g), transitions=transitions)
        curious = target_of(tabular(epistemic_weight=0.4), g, Exact(g), transitions=transitions)
        assert transitions.gains().min() > 0
        assert (curious < without).all()
        assert th.allclose(without - curious, 0.4 * transitions.gains(), atol=1e-9)

    def test_where_all_members_agree_there_is_no_epistemic_part(self):
        transitions, g = Predictions(), table(3)
        transitions.means, transitions.stds = (each[:1].repeat(3, 1, 1, 1) for each in (transitions.means, transitions.stds))
        targets = [target_of(tabular(epistemic_weight=w), g, Exact(g), transitions=transitions) for w in (0.0, 5.0)]
        assert th.allclose(*targets, atol=1e-9)

    def test_information_that_is_not_wanted_may_be_infinite(self):
        transitions, g = Predictions(), table(3)
        transitions.means[0] = math.inf
        assert th.isfinite(target_of(tabular(), g, Exact(g), transitions=transitions)).all()

    @pytest.mark.parametrize("entropy_in_target", [True, False])
    def test_a_vanishing_temperature_gives_that_of_dqn(self, entropy_in_target):
        g, model = table(3), tabular(entropy_in_target=entropy_in_target)
        target = target_of(model, g, Exact(g, 1e-8), temperature=1e-8)
        assert th.allclose(-target, MDP.backup(soft_value(-g, 1.0, "max")), atol=1e-6)

    def test_a_large_temperature_gives_that_of_the_uniform_policy(self):
        g = table(3)
        target = target_of(tabular(), g, Exact(g, 1e8), temperature=1e8)
        assert th.allclose(-target, MDP.backup(-g.mean(-1)), atol=1e-6)

    def test_a_rare_outcome_counts_by_its_mean(self):
        """Where DQN's Huber loss draws to the median: one termination in ten, worth 50."""
        value = th.zeros(1, requires_grad=True)
        outcomes = th.zeros(10, 1).index_fill(0, th.tensor([3]), 50.0)
        loss = MODEL.regression_loss(value.expand(10, 1), outcomes, Fractions())
        (gradient,) = th.autograd.grad(loss, value)
        assert gradient.item() == pytest.approx(-5.0)
        assert MODEL.regression_loss(th.full((10, 1), 5.0), outcomes, Fractions()).item() == pytest.approx(0.5 * 225)

    def test_what_is_logged_of_it(self):
        transitions, g, batch = Predictions(), table(3), all_transitions(MDP)
        model = tabular(epistemic_weight=0.4)
        _, metrics = model.td_target(networks_of(g, Exact(g), transitions=transitions), batch, Fractions())
        gains = transitions.gains().mean().item()
        by_hand = {"extrinsic_value": MDP.rewards.mean().item(), "epistemic_value": 0.4 * gains, "information_gain": gains}
        assert {name: value.item() for name, value in metrics.items()} == pytest.approx(by_hand)


class TestPolicy:
    @given(st.integers(0, 1000), st.floats(0.05, 20))
    @settings(max_examples=30, deadline=None)
    def test_its_loss_is_a_divergence_from_the_prior_and_0_at_it(self, seed, temperature):
        g, batch, model = table(seed), all_transitions(MDP), MODEL
        loss, metrics = model.policy_loss(networks_of(g, Exact(g, temperature), g, None, temperature), batch, Fractions())
        assert loss.item() == pytest.approx(0, abs=1e-9)
        policy = random_policy(seed + 1)
        loss, metrics = model.policy_loss(networks_of(g, Given(policy), g, None, temperature), batch, Fractions())
        prior = boltzmann_policy(-g, temperature)
        assert loss.item() == pytest.approx((policy * (policy / prior).log()).sum(-1).mean().item(), rel=1e-6, abs=1e-9)
        assert loss > 0
        assert metrics["expected_free_energy"].item() == pytest.approx((policy * g).sum(-1).mean().item())

    def test_its_gradient_leads_to_the_prior(self):
        g, logits = table(3), th.zeros(N_STATES, N_ACTIONS).double().requires_grad_()
        optimizer = th.optim.Adam([logits], 0.1)
        for _ in range(400):
            actor = SimpleNamespace(log_policy=as_network(th.log_softmax(logits, dim=-1)))
            loss, _ = MODEL.policy_loss(networks_of(table(7), actor, g), all_transitions(MDP), Fractions())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert th.allclose(th.softmax(logits, dim=-1), boltzmann_policy(-g, TEMPERATURE), atol=1e-3)

    def test_it_acts_as_often_as_its_network_says(self):
        model = cartpole(temperature=0.5)
        with th.no_grad():
            model.policy.actor.logits_net[-1].bias.copy_(th.tensor([0.0, 0.8]))
            # Whoever acts by it takes the other action.
            model.policy.q_net.q_net[-1].bias.copy_(th.tensor([9.0, 0.0]))
            probabilities = model.policy.actor.log_policy(th.tensor(OBSERVATION[None])).exp().numpy()[0]
        th.manual_seed(0)
        actions, _ = model.predict(np.tile(OBSERVATION, (20_000, 1)), deterministic=False)
        # Four standard deviations of a fair coin's mean.
        assert np.abs(np.bincount(actions, minlength=2) / 20_000 - probabilities).max() < 4 * 0.5 / np.sqrt(20_000)
        assert probabilities.argmax() == 1
        assert {model.predict(OBSERVATION, deterministic=True)[0].item() for _ in range(9)} == {1}
        entropy = policy_entropy(th.tensor(probabilities).log(), 1.0).item()
        batch = SimpleNamespace(observations=th.tensor(OBSERVATION[None]))
        assert model.after_training(model.make_networks(), batch)["policy_entropy"].item() == pytest.approx(entropy, rel=1e-4)

    def test_epsilon_greedy_acts_by_it_too(self):
        model = cartpole(exploration="epsilon")
        model.exploration_rate = 0.5
        likeliest = model.policy.predict(OBSERVATION, deterministic=True)[0].item()
        np.random.seed(0)
        model.action_space.seed(0)
        actions = np.array([model.predict(OBSERVATION)[0].item() for _ in range(2000)])
        # Half of the actions are uniform over two.
        assert np.mean(actions == likeliest) == pytest.approx(0.75, abs=0.04)


MODEL = tabular()


class TestFreeEnergy:
    def test_it_is_the_sum_of_its_terms(self):
        model = cartpole(epistemic_weight=0.5).learn(100)
        batch, noise, networks, logged = batch_of(model), Fractions(), model.make_networks(), {}
        for update in model.updates():
            logged |= update.step(networks, batch, noise)
        assert logged["free_energy"].item() == pytest.approx((logged["transition_loss"] + logged["policy_loss"]).item())
        assert logged["epistemic_value"].item() == pytest.approx(0.5 * logged["information_gain"].item())
        assert logged["information_gain"] > 0
        assert logged["policy_loss"] > 0

    def test_its_terms_by_hand(self):
        """Plain floats; all of them from before the step."""
        model = cartpole(temperature=2.0).learn(100)
        batch, expected = batch_of(model, 4), {"transition_loss": [], "policy_loss": [], "expected_free_energy": []}
        policy = model.policy
        for s, a, next_s in zip(batch.observations, batch.actions, batch.next_observations, strict=True):
            with th.no_grad():
                means, stds = policy.transitions(s[None], a[None])
                g, pi = -policy.q_net(s[None])[0], policy.actor.log_policy(s[None])[0].exp()
            change = (next_s - s).tolist()
            for mean, std in zip(means[:, 0].tolist(), stds[:, 0].tolist(), strict=True):
                densities = [
                    math.exp(-((x - m) ** 2) / (2 * d**2)) / math.sqrt(2 * math.pi) / d
                    for x, m, d in zip(change, mean, std, strict=True)
                ]
                expected["transition_loss"].append(-math.log(math.prod(densities)))
            weights = [math.exp(-each / 2.0) for each in g.tolist()]
            prior = [weight / sum(weights) for weight in weights]
            expected["policy_loss"].append(sum(p * math.log(p / q) for p, q in zip(pi.tolist(), prior, strict=True)))
            expected["expected_free_energy"].append(sum(p * each for p, each in zip(pi.tolist(), g.tolist(), strict=True)))
        networks, logged = model.make_networks(), {}
        for update in model.updates():
            logged |= update.step(networks, batch, Fractions())
        for name, values in expected.items():
            assert logged[name].item() == pytest.approx(np.mean(values), rel=1e-4), name

    def test_what_is_logged(self):
        logged = cartpole().learn(200).logger.name_to_value
        names = ("free_energy", "transition_loss", "policy_loss", "loss", "expected_free_energy", "extrinsic_value")
        more = ("epistemic_value", "information_gain", "policy_entropy", "action_gap", "temperature", "n_updates")
        assert {f"train/{name}" for name in (*names, *more)} <= logged.keys()
        assert logged["train/extrinsic_value"] == 1
        assert 0 < logged["train/policy_entropy"] <= math.log(2) + 1e-6


class TestTransitions:
    ENV_SPACES = (spaces.Box(-10, 10, (2,)), spaces.Discrete(2))

    def ensemble(self, n_members=3, net_arch=(16,)):
        th.manual_seed(0)
        return TransitionEnsemble(*self.ENV_SPACES, n_members, list(net_arch))

    def test_shapes_members_and_actions(self):
        ensemble = self.ensemble()
        observations = th.randn(5, 2, generator=th.Generator().manual_seed(0))
        results = [ensemble(observations, th.full((5, 1), action)) for action in range(2)]
        for means, stds in results:
            assert means.shape == stds.shape == (3, 5, 2)
            assert (stds > 0).all()
            assert means.std(dim=0).min() > 1e-3, "every member is another network"
        assert not th.allclose(results[0][0], results[1][0])

    def test_standard_deviations_stay_within_their_range(self):
        ensemble = self.ensemble()
        _, stds = ensemble(1e6 * th.randn(50, 2), th.zeros(50, 1, dtype=th.long))
        assert stds.min() >= math.exp(-7) * (1 - 1e-5)
        assert stds.max() <= math.exp(5) * (1 + 1e-5)

    def test_changes_of_whole_numbers_may_be_negative(self):
        ensemble = TransitionEnsemble(spaces.Box(0, 255, (2,), np.uint8), spaces.Discrete(2), 2, [4])
        before, after = th.tensor([[3, 200]], dtype=th.uint8), th.tensor([[1, 255]], dtype=th.uint8)
        assert ensemble.changes(before, after).tolist() == [[-2.0, 55.0]]

    def test_it_learns_mean_and_noise_and_tells_noise_from_what_is_unknown(self):
        """The action moves the first feature and the second is noise; a third of the plane is never seen."""
        ensemble, generator = self.ensemble(), th.Generator().manual_seed(0)
        optimizer = th.optim.Adam(ensemble.parameters(), 1e-2)

        def transitions(n, low, high):
            s = low + (high - low) * th.rand(n, 2, generator=generator)
            a = th.randint(2, (n, 1), generator=generator)
            noise = th.randn(n, 2, generator=generator) * th.tensor([0.01, 1.0])
            return s, a, s + th.cat([0.5 * (2 * a - 1), th.zeros(n, 1)], dim=1) + noise

        for _ in range(500):
            s, a, next_s = transitions(128, -1, 1)
            networks = networks_of(table(3), None, transitions=ensemble)
            batch = SimpleNamespace(observations=s, actions=a, next_observations=next_s)
            loss, _ = MODEL.transition_loss(networks, batch, Fractions())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        s, a, _ = transitions(256, -1, 1)
        with th.no_grad():
            means, stds = ensemble(s, a)
            known = information_gain(means, stds).mean()
            unknown = information_gain(*ensemble(s + 6, a)).mean()
        assert (means[..., 0] - 0.5 * (2 * a - 1).T).abs().mean() < 0.05
        assert stds[..., 0].mean() < 0.1
        assert stds[..., 1].mean().item() == pytest.approx(1.0, abs=0.1)
        assert known < 0.3
        assert unknown > 5 * known


def test_gradients_stay_apart():
    model = cartpole().learn(60)
    batch, networks = batch_of(model), model.make_networks()
    owners = {"transition": "transitions", "": "q_net", "policy": "actor"}
    assert [update.name for update in model.updates()] == list(owners)
    for update in model.updates():
        loss, _ = update.loss(networks, batch, Fractions())
        parameters = dict(model.policy.named_parameters())
        found = th.autograd.grad(loss, [p.requires_grad_() for p in parameters.values()], retain_graph=True, allow_unused=True)
        reached = {name for name, gradient in zip(parameters, found, strict=True) if gradient is not None}
        own = {name for name in parameters if name.split(".")[0] == owners[update.name]}
        assert reached == own == {name for name in parameters if any(parameters[name] is p for p in update.parameters)}


def test_losses_are_pure():
    model = cartpole(entropy_in_target=True).learn(60)
    batch, state = batch_of(model), {key: value.clone() for key, value in model.policy.state_dict().items()}
    for update in model.updates():
        random_state = th.get_rng_state()
        assert th.equal(*(update.loss(model.make_networks(), batch, Fractions())[0] for _ in range(2)))
        assert th.equal(random_state, th.get_rng_state())
    same_bits(model.policy.state_dict(), state)


@pytest.mark.parametrize("name", ["transition_optimizer", "optimizer", "actor_optimizer"])
def test_every_optimiser_is_saved_and_follows_the_learning_rate(name, tmp_path):
    model = cartpole(learning_rate=lambda progress: 1e-3 * (1 + progress)).learn(80)
    model.save(tmp_path / "model")
    loaded = VFE.load(tmp_path / "model", env=gym.make("CartPole-v1"), device="cpu")
    states = [getattr(each.policy, name).state_dict() for each in (model, loaded)]
    assert states[0]["state"]
    for key, state in states[0]["state"].items():
        same_bits(state, states[1]["state"][key])
    assert states[0]["param_groups"][0]["lr"] == pytest.approx(1e-3, rel=0.05)


def test_all_of_its_networks_are_set_to_train_and_to_evaluate():
    policy = cartpole().policy
    for mode in (True, False):
        policy.set_training_mode(mode)
        assert {network.training for network in (policy.q_net, policy.actor, policy.transitions)} == {mode}


def test_a_sweep_of_the_epistemic_weight_is_a_stack():
    def options():
        # Made anew: SB3 writes into policy_kwargs.
        sizes = {"buffer_size": 300, "learning_starts": 20, "batch_size": 16, "train_freq": 1, "engine": FAST}
        return {**sizes, "device": "cpu", "policy_kwargs": {"net_arch": [8], "n_members": 2}}

    weights = [0.0, 3.0]
    stack = train_seeds(
        VFE, "MlpPolicy", "CartPole-v1", seeds=[1, 2], total_timesteps=40, epistemic_weight=weights, **options()
    )
    for seed, weight, model in zip([1, 2], weights, stack, strict=True):
        alone = VFE("MlpPolicy", "CartPole-v1", seed=seed, epistemic_weight=weight, **options()).learn(40)
        assert difference(model, alone) < 1e-5


def test_networks_can_be_chosen():
    policy = cartpole(policy_kwargs={"n_members": 4, "transition_arch": [7]}).policy
    assert [member[0].out_features for member in policy.transitions.members] == [7] * 4
    assert policy.actor.logits_net[0].out_features == policy.q_net.q_net[0].out_features == 16
    assert len(cartpole(policy_kwargs={"n_members": 2}).policy.transitions.members) == 2


WRONG = {
    "epistemic_weight=-1 is below 0: the nearest choice is 0": {"epistemic_weight": -1},
    "entropy_in_target='no' is neither True nor False": {"entropy_in_target": "no"},
    "temperature=0 is not a finite number above 0": {"temperature": 0},
    "n_members=1 leaves no one to disagree with: the nearest choice is 2": {"policy_kwargs": {"n_members": 1}},
    "n_members=2.5 is not a whole number above 0": {"policy_kwargs": {"n_members": 2.5}},
    "VFE reads the state after every action, some of which n_steps drops": {"n_steps": 3},
    "some of which optimize_memory_usage drops": {
        **{"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named(message):
    with pytest.raises(ValueError, match=message):
        cartpole(**WRONG[message])


@pytest.mark.parametrize("env", [FakeImageEnv, lambda: TabularEnv(MDP)])
def test_observations_that_are_no_vectors_are_refused(env):
    with pytest.raises(UserError, match=r"VFE takes vectors of observations and this .* has .*: put .*FlattenObservation"):
        VFE("MlpPolicy", env(), buffer_size=10)


@pytest.mark.parametrize(("env", "policy"), [(FakeImageEnv, "CnnPolicy"), (SimpleMultiObsEnv, "MultiInputPolicy")])
def test_a_policy_for_other_observations_is_refused(env, policy):
    with pytest.raises(UserError, match=f"VFE takes vectors of observations, not those of {policy}: put .*FlattenObs"):
        VFE(policy, env(), buffer_size=10)
    with pytest.raises(ValueError, match="MlpPolicie unknown"):
        VFE("MlpPolicie", "CartPole-v1")
    with pytest.raises(ValueError, match="MlpPolicie unknown"):
        VFE("MlpPolicie", "CartPole-v1")


def test_a_model_of_dqn_is_refused(tmp_path):
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10).save(tmp_path / "dqn")
    with pytest.raises(ValueError, match="VFE needs a policy with a transitions that is a TransitionEnsemble"):
        VFE.load(tmp_path / "dqn")


def test_trained_on_a_finite_mdp_it_acts_as_the_soft_optimum():
    """The whole path: environment, replay buffer, gradient steps, target network, ``predict``."""
    model = tabular(
        entropy_in_target=True,
        policy_kwargs={"net_arch": [], "n_members": 2},
        learning_rate=0.02,
        batch_size=64,
        target_update_interval=40,
        train_freq=4,
        gradient_steps=2,
        learning_starts=200,
        buffer_size=5000,
    ).learn(2000)
    with th.no_grad():
        policy = model.policy.actor.log_policy(th.eye(N_STATES)).exp().double()
    exact = boltzmann_policy(optimal_q(MDP, TEMPERATURE), TEMPERATURE)
    uniform = th.full_like(exact, 1 / N_ACTIONS)
    values, best, chance = (MDP.evaluate(each, TEMPERATURE)[0] for each in (policy, exact, uniform))
    assert ((best - values) / best).max() < 0.01 < ((best - chance) / best).min()
