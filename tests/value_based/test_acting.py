"""How the value-based family acts, what it logs and which arguments it refuses."""

import inspect
import itertools
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_entropic import ALDQN, CVIDQN, DPP, MDQN, MIQN, MQRDQN, VFE, MoDQN, SoftDQN
from sb3_entropic.checks import SCALES
from sb3_entropic.operators import boltzmann_policy
from sb3_entropic.value_based.networks import Fractions, ValueNetworks
from sb3_entropic.value_based.policies import DuelingLinear
from tests.extractors import BatchNormExtractor
from tests.same_bits import same_bits

EVERY_CLASS = [SoftDQN, MDQN, CVIDQN, ALDQN, DPP, MQRDQN, MIQN, MoDQN]
every_class = pytest.mark.parametrize("constructor", EVERY_CLASS, ids=lambda c: c.__name__)
OBSERVATION = np.array([0.3, -0.2, 0.1, 0.4], dtype=np.float32)


def make(constructor, env="CartPole-v1", **arguments):
    few = {"n_quantiles": 5} if constructor in (MQRDQN, MIQN) else {}
    policy_kwargs = {"net_arch": [16], **few, **arguments.pop("policy_kwargs", {})}
    defaults = {"buffer_size": 300, "learning_starts": 20, "batch_size": 16, "device": "cpu", "seed": 0}
    model = constructor("MlpPolicy", env, policy_kwargs=policy_kwargs, **{**defaults, **arguments})
    if constructor is MoDQN:
        # It starts as a copy of the Q-network: told apart, whoever reads the wrong one shows.
        with th.no_grad():
            for parameter in model.policy.average_net.parameters():
                parameter.neg_()
    return model


def acting_values(model):
    """Worked out from the policy's own networks."""
    policy, observation = model.policy, th.tensor(OBSERVATION).reshape(1, -1)
    with th.no_grad():
        if isinstance(model, MoDQN):
            return policy.average_net(observation)[0]
        if isinstance(model, MQRDQN | MIQN):
            return policy.quantile_net(observation).mean(dim=1)[0]
        return policy.q_net(observation)[0]


@every_class
def test_boltzmann_exploration_takes_actions_as_often_as_the_policy_says(constructor):
    model = make(constructor, exploration="boltzmann", temperature=0.3, **without_clip(constructor))
    probabilities = boltzmann_policy(acting_values(model), 0.3).numpy()
    assert 0.05 < probabilities.min() < 0.49, "a policy that is neither uniform nor greedy"
    th.manual_seed(0)
    actions, _ = model.predict(np.tile(OBSERVATION, (20_000, 1)), deterministic=False)
    frequencies = np.bincount(actions, minlength=2) / 20_000
    # Four standard deviations of a fair coin's mean.
    assert np.abs(frequencies - probabilities).max() < 4 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("exploration", ["epsilon", "boltzmann"])
def test_networks_act_as_they_are_evaluated(exploration):
    model = make(MDQN, exploration=exploration)
    model.policy.set_training_mode(True)
    model.predict(OBSERVATION, deterministic=exploration == "epsilon")
    assert not model.policy.q_net.training


@every_class
def test_the_deterministic_action_is_the_greedy_one(constructor):
    for exploration in ("epsilon", "boltzmann"):
        model = make(constructor, exploration=exploration, temperature=10.0, **without_clip(constructor))
        greedy = acting_values(model).argmax().item()
        assert {model.predict(OBSERVATION, deterministic=True)[0].item() for _ in range(20)} == {greedy}


def without_clip(constructor):
    return {} if constructor is MoDQN else {"munchausen_clip": None}


@every_class
def test_epsilon_greedy_acts_as_dqn(constructor):
    model = make(constructor)
    model.exploration_rate = 0.5
    greedy = acting_values(model).argmax().item()
    np.random.seed(0)
    model.action_space.seed(0)
    actions = np.array([model.predict(OBSERVATION)[0].item() for _ in range(2000)])
    # Half of the actions are uniform over two.
    assert np.mean(actions == greedy) == pytest.approx(0.75, abs=0.04)


@every_class
def test_what_is_logged(constructor):
    model = make(constructor, temperature=lambda progress: 0.1 + progress, **without_clip(constructor)).learn(400)
    logged = model.logger.name_to_value
    model._current_progress_remaining = 0.25
    assert model.current_temperature() == pytest.approx(0.35)
    assert 0 < logged["train/policy_entropy"] <= np.log(2)
    assert logged["train/action_gap"] > 0
    assert 0.1 < logged["train/temperature"] < 0.2, "the schedule's end"
    assert ("train/average_loss" in logged) == (constructor is MoDQN)
    assert ("train/munchausen_bonus" in logged) == (constructor not in (SoftDQN, MoDQN))
    if constructor not in (SoftDQN, MoDQN):
        assert logged["train/munchausen_clip_fraction"] == 0


def test_the_logged_entropy_and_gap_are_those_of_the_batch():
    model = make(MDQN, temperature=0.5, munchausen_clip=None).learn(100)
    np.random.seed(0)
    batch = model.replay_buffer.sample(64)
    metrics = model.after_training(model.make_networks(), batch)
    with th.no_grad():
        q = model.q_net(batch.observations)
    policy = th.softmax(q / 0.5, dim=1)
    assert metrics["policy_entropy"].item() == pytest.approx(-(policy * policy.log()).sum(1).mean().item(), rel=1e-4)
    assert metrics["action_gap"].item() == pytest.approx((q[:, 0] - q[:, 1]).abs().mean().item(), rel=1e-4)


def test_the_clip_fraction_counts_what_the_clip_changes():
    model = make(MDQN, temperature=0.05, munchausen_clip=-0.5).learn(100)
    np.random.seed(0)
    batch = model.replay_buffer.sample(128)
    rewards, metrics = model.regularised_rewards(model.make_networks(), batch, model.draw_noise(batch))
    with th.no_grad():
        q = model.q_net_target(batch.observations)
        scaled = 0.05 * th.log_softmax(q / 0.05, dim=1).gather(1, batch.actions)
    assert th.allclose(rewards, batch.rewards + 0.9 * scaled.clamp(min=-0.5), atol=1e-5)
    assert metrics["munchausen_clip_fraction"].item() == pytest.approx((scaled < -0.5).float().mean().item())
    assert metrics["munchausen_bonus"].item() == pytest.approx(scaled.clamp(min=-0.5).mean().item(), rel=1e-4)


def test_the_bonus_of_an_n_step_return_is_the_first_actions():
    model = make(MDQN, n_steps=3, temperature=0.05).learn(100)
    np.random.seed(0)
    batch = model.replay_buffer.sample(64)
    assert (batch.rewards > 1.5).any(), "returns of several steps"
    with th.no_grad():
        rewards, _ = model.regularised_rewards(model.make_networks(), batch, model.draw_noise(batch))
        scaled = 0.05 * th.log_softmax(model.q_net_target(batch.observations) / 0.05, dim=1).gather(1, batch.actions)
        target, _ = model.td_target(model.make_networks(), batch, model.draw_noise(batch))
        soft = 0.05 * th.logsumexp(model.q_net_target(batch.next_observations) / 0.05, dim=1, keepdim=True)
    assert th.allclose(rewards - batch.rewards, 0.9 * scaled.clamp(min=-1), atol=1e-5)
    assert th.allclose(target, rewards + (1 - batch.dones) * batch.discounts * soft, atol=1e-5)


def test_the_four_sets_of_fractions_are_drawn_apart():
    model = make(MIQN, n_samples=3, n_target_samples=4, policy_kwargs={"n_quantiles": 6}).learn(30)
    np.random.seed(0)
    noise = model.draw_noise(model.replay_buffer.sample(7))
    assert [tuple(fractions.shape) for fractions in noise] == [(7, 3), (7, 4), (7, 6), (7, 6)]
    assert not th.equal(noise.policy, noise.next_policy)


def test_each_set_of_fractions_goes_to_its_own_use():
    model = make(MIQN, munchausen_alpha=1.0, temperature=1.0, munchausen_clip=None)
    asked = []

    def network(observations, fractions):
        asked.append((observations[0].item(), fractions.shape[1]))
        # Not linear in the fraction, so that its mean depends on which fractions are asked for.
        return (fractions**3).unsqueeze(-1) * th.tensor([1.0, -1.0])

    batch = ReplayBufferSamples(th.zeros(5, 1), th.zeros(5, 1).long(), th.ones(5, 1), th.zeros(5, 1), th.zeros(5, 1))
    noise = Fractions(*(th.full((5, n), 0.1 * n) for n in (1, 2, 3, 4)))
    target, _ = model.td_target(ValueNetworks(None, network, 1.0), batch, noise)
    assert sorted(asked) == [(0.0, 3), (1.0, 2), (1.0, 4)]
    policy = th.softmax(0.4**3 * th.tensor([1.0, -1.0]), 0)
    next_value = (policy * (0.2**3 * th.tensor([1.0, -1.0]) - policy.log())).sum()
    bonus = th.log_softmax(0.3**3 * th.tensor([1.0, -1.0]), 0)[0]
    assert th.allclose(target, (bonus + model.gamma * next_value).expand(5, 2), atol=1e-6)


def test_the_embedding_is_of_cosines_from_0_on():
    network = make(MIQN, policy_kwargs={"embedding_dim": 3}).policy.quantile_net
    fraction = 0.3
    cosines = th.tensor([1.0, np.cos(np.pi * fraction), np.cos(2 * np.pi * fraction)], dtype=th.float32)
    observation = th.tensor(OBSERVATION).reshape(1, -1)
    with th.no_grad():
        expected = network.head(network.quantile_net(observation) * network.embedding(cosines))
        assert th.allclose(network(observation, th.tensor([[fraction]]))[0], expected, atol=1e-6)


def test_dueling_advantages_have_mean_zero_over_actions():
    th.manual_seed(0)
    layer, latent = DuelingLinear(8, n_actions=3, n_quantiles=4), th.randn(5, 8)
    output = layer(latent).reshape(5, 4, 3)
    assert th.allclose(output.mean(-1), layer.value(latent), atol=1e-6)
    assert (output - output.mean(-1, keepdim=True)).abs().max() > 0.01


@every_class
def test_dueling_is_a_network_of_that_kind(constructor):
    model = make(constructor, policy_kwargs={"dueling": True})
    assert any(isinstance(module, DuelingLinear) for module in model.policy.modules())
    assert not any(isinstance(module, DuelingLinear) for module in make(constructor).policy.modules())


def test_implicit_quantiles_are_a_function_of_the_fraction_alone():
    """A network's values at a fraction do not depend on the others it is asked for, and its default is the midpoints."""
    network = make(MIQN).policy.quantile_net
    observations = th.randn(3, 4, generator=th.Generator().manual_seed(0))
    fractions = th.tensor([[0.1, 0.3, 0.5, 0.7, 0.9]]).expand(3, -1)
    with th.no_grad():
        together = network(observations, fractions)
        alone = th.cat([network(observations, fractions[:, [i]]) for i in range(5)], dim=1)
        assert together.shape == (3, 5, 2)
        assert th.allclose(together, alone, atol=1e-6)
        assert th.allclose(network(observations), together, atol=1e-6)
    assert together.std(dim=1).min() > 0


def test_implicit_quantiles_learn_a_known_distribution():
    """Rewards of 0 or 1 with equal odds: the quantile function steps at one half."""
    model = make(MIQN, policy_kwargs={"net_arch": [32], "n_quantiles": 32}, n_samples=8, n_target_samples=8)
    network, generator = model.policy.quantile_net, th.Generator().manual_seed(0)
    optimizer = th.optim.Adam(network.parameters(), 3e-3)
    observations = th.zeros(64, 4)
    for _ in range(600):
        fractions = th.rand(64, 8, generator=generator)
        target = (th.rand(64, 8, generator=generator) < 0.5).float()
        loss = model.regression_loss(network(observations, fractions)[..., 0], target, Fractions(current=fractions))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with th.no_grad():
        low, middle, high = network(observations[:1], th.tensor([[0.1, 0.5, 0.9]]))[0, :, 0].tolist()
    # The Huber loss makes expectiles of what is nearer than 1: (1 - rho) q = rho (1 - q), so q = rho.
    assert (low, middle, high) == pytest.approx((0.1, 0.5, 0.9), abs=0.06)


@pytest.mark.parametrize("temperature", [0.03, 1.0])
def test_a_clip_that_destroys_the_signal_is_warned_of(temperature):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(MDQN, temperature=temperature)
    messages = [str(warning.message) for warning in caught if "munchausen_clip" in str(warning.message)]
    if temperature == 1.0:
        assert messages == [
            "munchausen_clip=-1 is 1 temperature (1) wide: it clips every action less likely than 0.37, and with it most of "
            "the log-policy. Take -33, say, or a lower temperature."
        ]
    else:
        assert messages == []


@pytest.mark.parametrize(
    ("constructor", "clipped"),
    [(CVIDQN, "less likely than 0.18"), (DPP, "worth over 1 less than the policy's mean")],
    ids=["CVIDQN", "DPP"],
)
def test_what_a_clip_takes_away_depends_on_the_soft_value(constructor, clipped):
    # Of two actions: q - mellowmax = temperature (log pi + log 2).
    with pytest.warns(UserWarning, match=f"wide: it clips every action {clipped}, and"):
        make(constructor, temperature=1.0, munchausen_clip=-1.0)


@pytest.mark.parametrize("temperature", SCALES)
@pytest.mark.parametrize("constructor", [CVIDQN, DPP, MDQN, SoftDQN, VFE], ids=lambda c: c.__name__)
def test_training_is_finite_at_the_ends_of_what_is_allowed(constructor, temperature):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = make(constructor, temperature=temperature, **({"entropy_in_target": True} if constructor is VFE else {}))
        before = [parameter.clone() for parameter in model.policy.parameters()]
        model.learn(60)
    assert model._n_updates > 0
    learned = {id(parameter) for update in model.updates() for parameter in update.parameters}
    for old, new in zip(before, model.policy.parameters(), strict=True):
        assert id(new) not in learned or not th.equal(old, new)
    assert all(np.isfinite(value) for name, value in model.logger.name_to_value.items() if name.startswith("train/"))
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_a_schedule_is_warned_of_by_its_largest_temperature():
    with pytest.warns(UserWarning, match=r"munchausen_clip=-1 is 0.5 temperatures \(2\) wide"):
        make(MDQN, temperature=lambda progress: 0.03 + 1.97 * (1 - progress))


@pytest.mark.parametrize("arguments", [{"munchausen_clip": None}, {"munchausen_alpha": 0.0}, {"soft_value": "max"}])
def test_no_warning_where_the_clip_does_nothing(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(MDQN, temperature=1.0, **arguments)


WRONG = {
    "munchausen_alpha": (1.5, r"munchausen_alpha=1.5 is outside \[0, 1\]: the nearest choice is 1"),
    "munchausen_clip": (1.0, "munchausen_clip=1.0 is not below 0: did you mean -1.0"),
    "a clip of nothing": (0, "munchausen_clip=0 is not below 0, and would leave nothing of the term"),
    "a clip that is no number": (float("nan"), "munchausen_clip=nan is not a number: give one below 0, or None"),
    "soft_value": ("logsumexp", "soft_value='logsumexp' is none of 'lse', 'mellowmax', 'boltzmann', 'max'"),
    "exploration": ("bolzmann", "exploration='bolzmann' is none of 'epsilon', 'boltzmann': did you mean 'boltzmann'"),
    "temperature": (0, "temperature=0 is not a finite number above 0"),
    "double_q": ("no", "double_q='no' is neither True nor False"),
}
NAMES = {"a clip of nothing": "munchausen_clip", "a clip that is no number": "munchausen_clip"}


@pytest.mark.parametrize(
    ("name", "value", "message"), [(NAMES.get(name, name), *rest) for name, rest in WRONG.items()], ids=WRONG.keys()
)
@pytest.mark.parametrize("constructor", [MDQN, MQRDQN, MIQN], ids=lambda c: c.__name__)
def test_a_wrong_argument_is_named(constructor, name, value, message):
    with pytest.raises(ValueError, match=message):
        make(constructor, **{name: value})


@pytest.mark.parametrize(
    ("constructor", "arguments", "message"),
    [
        (MoDQN, {"momentum": -0.1}, r"momentum=-0.1 is outside \[0, 1\]"),
        (MoDQN, {"momentum": 1}, "momentum=1 would never let the average follow"),
        (MIQN, {"n_samples": 0}, "n_samples=0 is not a whole number above 0"),
        (MQRDQN, {"policy_kwargs": {"n_quantiles": 2.5}}, "n_quantiles=2.5 is not a whole number above 0"),
        (MIQN, {"n_target_samples": 1.5}, "n_target_samples=1.5 is not a whole number above 0"),
        (MIQN, {"policy_kwargs": {"n_quantiles": 0}}, "n_quantiles=0 is not a whole number above 0"),
        (MIQN, {"policy_kwargs": {"embedding_dim": 0}}, "embedding_dim=0 is not a whole number above 0"),
        (MIQN, {"policy_kwargs": {"embedding_dim": 1}}, "embedding_dim=1 is the constant cosine alone"),
        (SoftDQN, {"temperature": 1e-40}, r"temperature=1e-40 is outside \[1e-15, 1e\+15\]: the nearest choice is 1e-15"),
        (SoftDQN, {"temperature": 1e39}, "temperature=1e\\+39 is outside .*: the nearest choice is 1e\\+15"),
        (SoftDQN, {"temperature": float("inf")}, "temperature=inf is not a finite number above 0"),
        (
            MoDQN,
            {"temperature": lambda progress: 0.1 * progress},
            r"temperature\(0.0\)=0.0 is not a finite",
        ),
        (
            MDQN,
            {"temperature": lambda progress: progress - 2},
            r"temperature\(1.0\)=-1.0 is not a finite",
        ),
        (SoftDQN, {"temperature": True}, "temperature=True is not a number"),
    ],
)
def test_a_wrong_argument_of_one_algorithm_is_named(constructor, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(constructor, **arguments)


@pytest.mark.parametrize(
    ("constructor", "policy", "message"),
    [
        (MDQN, QRDQNPolicy, "MDQN needs a policy with a q_net, which QRDQNPolicy has not"),
        (MQRDQN, DQNPolicy, "MQRDQN needs a policy with a quantile_net, which DQNPolicy has not"),
        (MIQN, QRDQNPolicy, "MIQN needs a policy with a quantile_net that is an ImplicitQuantileNetwork"),
        (MoDQN, DQNPolicy, "MoDQN needs a policy with an average_net, which DQNPolicy has not: take one of 'MlpPolicy'"),
    ],
)
def test_a_policy_without_the_network_is_named(constructor, policy, message):
    with pytest.raises(ValueError, match=message):
        constructor(policy, "CartPole-v1", buffer_size=10)


def test_actions_that_do_not_start_at_0_are_refused():
    env = gym.make("CartPole-v1").unwrapped
    env.action_space = gym.spaces.Discrete(2, start=1)
    with pytest.raises(ValueError, match=r"The actions Discrete\(2, start=1\) do not start at 0"):
        MDQN("MlpPolicy", env, buffer_size=10)


def test_gymnasiums_pair_of_observation_and_info_is_named():
    model = make(MDQN, exploration="boltzmann")
    with pytest.raises(ValueError, match=r"write `observation, _ = env.reset\(\)`"):
        model.predict(gym.make("CartPole-v1").reset())


@every_class
def test_a_schedule_is_followed_to_its_end_and_not_past_it(constructor):
    """Several environments step past the end, where the remaining progress is below 0."""
    schedule = {"temperature": lambda progress: 0.01 + 0.3 * progress, **without_clip(constructor)}
    model = make(constructor, exploration="boltzmann", **schedule)
    values = acting_values(model)
    for progress, temperature in ((0.5, 0.16), (-0.1, 0.01)):
        model._current_progress_remaining = progress
        assert model.current_temperature() == pytest.approx(temperature)
        expected = boltzmann_policy(values, temperature).numpy()
        th.manual_seed(0)
        actions, _ = model.predict(np.tile(OBSERVATION, (20_000, 1)), deterministic=False)
        assert np.abs(np.bincount(actions, minlength=2) / 20_000 - expected).max() < 4 * 0.5 / np.sqrt(20_000)


def test_a_number_of_numpys_is_a_temperature():
    assert make(MDQN, temperature=np.float32(0.25), munchausen_clip=None).current_temperature() == 0.25


@every_class
def test_a_misspelt_argument_is_answered_by_the_nearest(constructor):
    with pytest.raises(TypeError, match="no argument 'temprature': did you mean 'temperature'"):
        make(constructor, temprature=0.1)


def test_the_signature_shows_the_members_own_defaults():
    defaults = {
        SoftDQN: ("lse", 0.0, None),
        MDQN: ("lse", 0.9, -1.0),
        CVIDQN: ("mellowmax", 0.9, -1.0),
        ALDQN: ("max", 0.9, None),
        DPP: ("boltzmann", 1.0, -1.0),
    }
    theirs = list(inspect.signature(DQN).parameters)
    for constructor, expected in defaults.items():
        parameters = inspect.signature(constructor).parameters
        assert list(parameters)[: len(theirs)] == theirs
        assert tuple(parameters[n].default for n in ("soft_value", "munchausen_alpha", "munchausen_clip")) == expected
        model = make(constructor)
        assert (model.soft_value, model.munchausen_alpha, model.munchausen_clip) == expected
        assert make(constructor, munchausen_alpha=0.5).munchausen_alpha == 0.5


def test_the_average_follows_q_and_moves_its_own_target():
    model = make(MoDQN, target_update_interval=10, learning_starts=0, momentum=0.5).learn(105)
    policy = model.policy
    for online, target in ((policy.q_net, policy.q_net_target), (policy.average_net, policy.average_net_target)):
        assert not th.equal(online.q_net[0].weight, target.q_net[0].weight)
    model._n_calls = 9
    model._on_step()
    for online, target in ((policy.q_net, policy.q_net_target), (policy.average_net, policy.average_net_target)):
        assert all(th.equal(value, target.state_dict()[key]) for key, value in online.state_dict().items())
    assert not th.equal(policy.q_net.q_net[0].weight, policy.average_net.q_net[0].weight)


def test_the_averages_target_moves_as_often_as_qs_whatever_the_number_of_environments():
    model = make(MoDQN, env=make_vec_env("CartPole-v1", n_envs=4), target_update_interval=40, learning_starts=0)
    targets = []

    def note(*_):
        policy = model.policy
        targets.append([net.q_net[0].weight.sum().item() for net in (policy.q_net_target, policy.average_net_target)])
        return True

    model.learn(400, callback=note)
    moves = [sum(a[i] != b[i] for a, b in itertools.pairwise(targets)) for i in range(2)]
    assert moves == [9, 9], "of the ten, one follows the last call"


def test_the_averages_target_takes_the_running_statistics():
    kwargs = {"features_extractor_class": BatchNormExtractor}
    model = make(MoDQN, learning_starts=0, target_update_interval=50, policy_kwargs=kwargs).learn(48)
    model._n_calls = 49
    model._on_step()
    norms = [net.features_extractor.norm.running_mean for net in (model.policy.average_net, model.policy.average_net_target)]
    assert norms[0].abs().max() > 0
    assert th.equal(*norms)


def test_losses_are_pure():
    """The same networks, batch and noise give the same loss and leave no trace."""
    for constructor in EVERY_CLASS:
        model = make(constructor).learn(60)
        np.random.seed(0)
        batch = model.replay_buffer.sample(16)
        noise = model.draw_noise(batch)
        state = {key: value.clone() for key, value in model.policy.state_dict().items()}
        for update in model.updates():
            random_state = th.get_rng_state()
            losses = [update.loss(model.make_networks(), batch, noise)[0] for _ in range(2)]
            assert th.equal(*losses)
            assert th.equal(random_state, th.get_rng_state())
        assert all(th.equal(value, state[key]) for key, value in model.policy.state_dict().items())


@every_class
def test_no_gradient_reaches_a_target_network(constructor):
    model = make(constructor, **({} if constructor is MoDQN else {"double_q": True})).learn(60)
    model.policy.requires_grad_(True)
    np.random.seed(0)
    batch = model.replay_buffer.sample(16)
    for update in model.updates():
        loss, _ = update.loss(model.make_networks(), batch, model.draw_noise(batch))
        loss.backward()
    with_gradient = {name for name, parameter in model.policy.named_parameters() if parameter.grad is not None}
    assert with_gradient
    assert not any("target" in name for name in with_gradient)


def test_a_forward_is_made_once_for_policy_and_values():
    calls = []

    def network(observations):
        calls.append(observations)
        return th.zeros(len(observations), 2)

    networks, observations = ValueNetworks(network, network, 0.1), th.zeros(3, 1)
    networks.target_values(observations)
    networks.target_quantiles(observations)
    assert len(calls) == 1


def test_the_average_begins_as_q_and_only_its_own_trains():
    policy = MoDQN("MlpPolicy", "CartPole-v1", buffer_size=10, device="cpu").policy
    for network in (policy.q_net_target, policy.average_net, policy.average_net_target):
        same_bits(network.state_dict(), policy.q_net.state_dict())
    policy.set_training_mode(True)
    trained = [net.training for net in (policy.average_net, policy.average_net_target, policy.q_net_target)]
    assert trained == [True, False, False]


def test_the_averages_target_follows_slowly():
    model = make(MoDQN, tau=0.25, target_update_interval=1, learning_starts=0).learn(20)
    online, target = (next(net.parameters()) for net in (model.policy.average_net, model.policy.average_net_target))
    expected = 0.75 * target.detach().clone() + 0.25 * online.detach()
    assert not th.allclose(target, online, atol=1e-3)
    model._on_step()
    assert th.allclose(target, expected, atol=1e-7)


def test_the_norm_of_every_gradient_is_clipped():
    model = make(MoDQN, max_grad_norm=1e-3).learn(60)
    for update in model.updates():
        norms = th.stack([parameter.grad.norm() for parameter in update.parameters])
        assert 0 < norms.norm().item() <= 1e-3 * (1 + 1e-4), update.name
