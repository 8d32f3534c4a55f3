"""Entropy in the return: its advantages, its critic, and what episodes' ends make of it."""

from functools import partial

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_entropic import Engine, MaxEntPPO
from sb3_entropic.errors import HyperparameterWarning
from sb3_entropic.on_policy.policies import MlpPolicy
from sb3_entropic.on_policy.rollouts import generalised_advantages
from tests.on_policy.worlds import Bandit, Corridor, Numbered


def random_rollout(seed, n_steps=12, n_envs=3):
    random = np.random.default_rng(seed)
    rewards, entropies, values, entropy_values = random.normal(size=(4, n_steps, n_envs))
    last, last_entropy = random.normal(size=(2, n_envs))
    starts, dones = random.random((n_steps, n_envs)) < 0.2, random.random(n_envs) < 0.3
    return (rewards, values, last), (entropies, entropy_values, last_entropy), (starts.astype(float), dones)


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1), st.floats(0, 10))
@settings(max_examples=50)
def test_advantages_are_linear(seed, gamma, gae_lambda, temperature):
    """With equal discounts two critics are one of the sum."""
    of_reward, of_entropy, ends = random_rollout(seed)
    together = [a + temperature * b for a, b in zip(of_reward, of_entropy, strict=True)]
    reward, entropy, both = (
        generalised_advantages(*each, *ends, gamma, gae_lambda) for each in (of_reward, of_entropy, together)
    )
    np.testing.assert_allclose(reward + temperature * entropy, both, atol=1e-10)


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=20)
def test_advantages_are_sb3s(seed, gamma, gae_lambda):
    (rewards, values, last), _, (starts, dones) = random_rollout(seed)
    buffer = RolloutBuffer(12, spaces.Discrete(2), spaces.Discrete(2), "cpu", gae_lambda, gamma, n_envs=3)
    buffer.rewards, buffer.values, buffer.episode_starts = rewards, values, starts
    buffer.compute_returns_and_advantage(th.as_tensor(last), dones)
    ours = generalised_advantages(rewards, values, last, starts, dones, gamma, gae_lambda)
    np.testing.assert_allclose(ours, buffer.advantages, atol=1e-5)


def test_a_policys_own_evaluation_of_actions_is_asked():
    class Own(MlpPolicy):
        asked = 0

        def evaluate_actions(self, obs, actions):
            Own.asked += 1
            return super().evaluate_actions(obs, actions)

    arguments = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "ent_coef": 0.01, "seed": 0, "device": "cpu", "engine": "sb3"}
    own, plain = (MaxEntPPO(policy, "CartPole-v1", **arguments).learn(32) for policy in (Own, MlpPolicy))
    assert Own.asked == 4
    for ours, theirs in zip(own.policy.parameters(), plain.policy.parameters(), strict=True):
        th.testing.assert_close(ours, theirs)


class KeepRollout(BaseCallback):
    """What a user's callback sees of a rollout, before the update, and what the critics said of each state then."""

    def __init__(self, states):
        super().__init__()
        self.states = states

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer, policy = self.model.rollout_buffer, self.model.policy
        names = ("observations", "rewards", "log_probs", "values", "advantages", "returns", "episode_starts")
        self.kept = {name: getattr(buffer, name).copy() for name in names}
        if hasattr(buffer, "entropy_returns"):
            self.kept["entropy_returns"] = buffer.entropy_returns.copy()
        with th.no_grad():
            self.values = policy.predict_values(self.states).numpy().flatten()
            self.entropy_values = policy.predict_entropy_values(self.states).numpy().flatten()


def rollout(env, states=th.arange(4.0)[:, None], **arguments):  # noqa: B008
    arguments = {"n_steps": 10, "batch_size": 10, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}, **arguments}
    model, callback = MaxEntPPO("MlpPolicy", env, seed=0, device="cpu", **arguments), KeepRollout(states)
    with th.no_grad():
        # Entropies that differ from state to state.
        model.policy.action_net.weight.normal_()
    # Otherwise what was logged of the rollout is gone after it.
    model.learn(10, callback=callback, log_interval=None)
    return model, callback


@pytest.mark.parametrize("truncates", [True, False])
def test_a_time_limit_bootstraps_both_critics_and_a_termination_neither(truncates):
    discounts = {"gamma": 0.9, "gae_lambda": 0.0, "entropy_gamma": 0.5, "entropy_gae_lambda": 0.0}
    _, seen = rollout(Corridor(truncates), entropy_baseline=0.25, **discounts)
    # With lambda = 0 a return is the reward and the next state's value.
    at = seen.kept["observations"].flatten().astype(int)
    goes_on = np.ones(10) if truncates else (at < 2).astype(float)
    np.testing.assert_allclose(seen.kept["returns"].flatten(), 0.5 + 0.9 * goes_on * seen.values[at + 1], rtol=1e-5)
    entropies = -seen.kept["log_probs"].flatten() - 0.25
    assert entropies.std() > 0.01
    expected = entropies + 0.5 * goes_on * seen.entropy_values[at + 1]
    np.testing.assert_allclose(seen.kept["entropy_returns"].flatten(), expected, rtol=1e-5)
    assert set(at) == {0, 1, 2}


def of_rollout(seen, rewards, values, last, gamma, gae_lambda):
    kept = {name: array.astype(np.float64) for name, array in seen.kept.items()}
    ends = (kept["episode_starts"], np.zeros(1, dtype=bool))
    return generalised_advantages(rewards, values, np.array([last]), *ends, gamma, gae_lambda)


def test_the_advantage_is_that_of_the_return_and_what_the_entropys_is_worth():
    settings = {"gamma": 0.9, "gae_lambda": 0.8, "entropy_gamma": 0.5, "entropy_gae_lambda": 0.3}
    _, seen = rollout(Corridor(truncates=False), ent_coef=0.7, **settings)
    at = seen.kept["observations"].astype(int)[..., 0]
    last = at[-1, 0] + 1
    reward = of_rollout(seen, seen.kept["rewards"], seen.values[at], seen.values[last], 0.9, 0.8)
    entropy = of_rollout(seen, -seen.kept["log_probs"], seen.entropy_values[at], seen.entropy_values[last], 0.5, 0.3)
    np.testing.assert_allclose(seen.kept["advantages"], reward + 0.7 * entropy, rtol=1e-4, atol=1e-5)
    # The critic of the return is drawn to the return alone.
    np.testing.assert_allclose(seen.kept["returns"], reward + seen.kept["values"], rtol=1e-4)


def test_a_single_critic_has_the_entropy_in_its_reward():
    _, seen = rollout(Corridor(truncates=True), ent_coef=0.7, entropy_critic=False, gamma=0.9, gae_lambda=0.8)
    at = seen.kept["observations"].astype(int)[..., 0]
    rewards = 0.5 - 0.7 * seen.kept["log_probs"] + 0.9 * (at == 2) * seen.values[3]
    expected = of_rollout(seen, rewards, seen.values[at], seen.values[at[-1, 0] + 1], 0.9, 0.8)
    np.testing.assert_allclose(seen.kept["advantages"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["sb3", "fast"])
@pytest.mark.parametrize("entropy_critic", [True, False])
def test_every_environment_has_its_own_ends(engine, entropy_critic):
    """Corridors of several lengths, some with a time limit, three of which are at their end when the rollout is."""
    lengths = ((3, True), (4, False), (9, True), (9, False), (10, False))
    worlds = [partial(Numbered, number, truncates, length) for number, (length, truncates) in enumerate(lengths)]
    discounts = {"gamma": 0.9, "gae_lambda": 0.8}
    if entropy_critic:
        discounts |= {"entropy_gamma": 0.5, "entropy_gae_lambda": 0.3}
    states = th.cartesian_prod(th.arange(5.0), th.arange(11.0))
    _, seen = rollout(
        DummyVecEnv(worlds),
        states,
        n_steps=9,
        batch_size=9,
        ent_coef=0.7,
        entropy_critic=entropy_critic,
        engine=Engine(engine, compile=False),
        **discounts,
    )
    values, entropy_values = (said.reshape(5, 11) for said in (seen.values, seen.entropy_values))
    for number, (length, truncates) in enumerate(lengths):
        reward_to_come = entropy_to_come = 0.0
        for step in reversed(range(9)):
            at, log_prob = int(seen.kept["observations"][step, number, 1]), seen.kept["log_probs"][step, number]
            ends = at + 1 == length
            bootstraps, goes_on = truncates or not ends, not ends
            reward = 0.5 - (0.0 if entropy_critic else 0.7 * log_prob)
            error = reward + 0.9 * bootstraps * values[number, at + 1] - values[number, at]
            advantage = reward_to_come = error + 0.9 * 0.8 * goes_on * reward_to_come
            if entropy_critic:
                error = -log_prob + 0.5 * bootstraps * entropy_values[number, at + 1] - entropy_values[number, at]
                entropy_to_come = error + 0.5 * 0.3 * goes_on * entropy_to_come
                expected = entropy_to_come + entropy_values[number, at]
                assert seen.kept["entropy_returns"][step, number] == pytest.approx(expected, rel=1e-4, abs=1e-5)
                advantage = reward_to_come + 0.7 * entropy_to_come
            assert seen.kept["advantages"][step, number] == pytest.approx(advantage, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("ignored", [{"entropy_gamma": 0.9}, {"entropy_gae_lambda": 0.9}, {"entropy_vf_coef": 0.4}])
def test_what_a_single_critic_ignores_is_warned_of(ignored):
    said = f"{next(iter(ignored))}=0.[49] is of the critic that entropy_critic=False leaves out: it has no use"
    with pytest.warns(HyperparameterWarning, match=said):
        MaxEntPPO("MlpPolicy", Bandit(), entropy_critic=False, **ignored)


def test_the_discounts_are_by_default_the_returns():
    same, given_ones = (
        rollout(Corridor(truncates=True), gamma=0.8, gae_lambda=0.7, **more)[1].kept["advantages"]
        for more in ({}, {"entropy_gamma": 0.8, "entropy_gae_lambda": 0.7})
    )
    np.testing.assert_array_equal(same, given_ones)


def test_without_its_mean_the_entropy_pays_for_no_length():
    model, _ = rollout(Corridor(truncates=False), entropy_baseline="mean")
    assert model.logger.name_to_value["rollout/entropy_reward"] == pytest.approx(0.0, abs=1e-6)
    assert model.logger.name_to_value["rollout/entropy"] > 0.1
    model, seen = rollout(Corridor(truncates=False), entropy_baseline=0.25)
    expected = -seen.kept["log_probs"].mean() - 0.25
    assert model.logger.name_to_value["rollout/entropy_reward"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("engine", ["sb3", "fast"])
@pytest.mark.parametrize("entropy_critic", [True, False])
def test_what_is_added_is_worth_what_is_logged(engine, entropy_critic):
    worth = []

    class Worth(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            worth.append(self.model.current_ent_coef())

        def _on_rollout_start(self):
            self.logged = self.logger.name_to_value.get("train/ent_coef")
            if self.logged is not None:
                assert self.logged == worth[-1]

    arguments = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
    options = {"ent_coef": "lin_0.1", "entropy_critic": entropy_critic, "engine": Engine(engine, compile=False)}
    model = MaxEntPPO("MlpPolicy", Corridor(True), seed=0, device="cpu", **options, **arguments)
    for _ in range(2):
        # The second time, too, it begins at the top.
        worth.clear()
        model.learn(64, callback=Worth(), log_interval=None)
        assert worth == pytest.approx([0.075, 0.05, 0.025, 0.0])


def test_a_learned_coefficient_brings_the_entropy_to_its_target_and_is_saved(tmp_path):
    model = on_bandits(200, ent_coef="auto_0.05", target_entropy=1.0, ent_coef_bounds=(1e-3, 5.0), learning_rate=0.01)
    entropy = model.policy.get_distribution(th.ones(1, 1)).entropy().item()
    assert entropy == pytest.approx(1.0, abs=0.1)
    model.save(tmp_path / "model")
    assert MaxEntPPO.load(tmp_path / "model").learned_ent_coef == model.learned_ent_coef != 0.05


def test_a_model_of_ppo_is_loaded_with_a_single_critic(tmp_path):
    ppo = PPO("MlpPolicy", Bandit(), seed=0, device="cpu", n_steps=16, batch_size=16).learn(16)
    ppo.save(tmp_path / "model")
    loaded = MaxEntPPO.load(tmp_path / "model", env=Bandit(), entropy_critic=False, ent_coef=0.1)
    assert loaded.current_ent_coef() == 0.1
    loaded.learn(16, log_interval=None)
    assert loaded.logger.name_to_value["rollout/entropy_reward"] > 1.0
    with pytest.raises(ValueError, match="needs a policy with an entropy_net"):
        MaxEntPPO.load(tmp_path / "model", env=Bandit())


def on_bandits(steps, **arguments):
    """Trained for so many rollouts of 64 bandits."""
    arguments = {"n_steps": 1, "batch_size": 64, "n_epochs": 4, "policy_kwargs": {"net_arch": []}, **arguments}
    model = MaxEntPPO("MlpPolicy", DummyVecEnv([Bandit] * 64), seed=0, device="cpu", **arguments)
    return model.learn(64 * steps)


def test_the_second_critic_learns_the_entropy_to_come():
    """On a bandit all of it is the entropy of the step at hand, less what is taken from it."""
    model = on_bandits(100, ent_coef=1.0, entropy_baseline=0.5, learning_rate=0.02)
    with th.no_grad():
        entropy = model.policy.get_distribution(th.ones(1, 1)).entropy().item()
        value = model.policy.predict_entropy_values(th.ones(1, 1)).item()
    assert value == pytest.approx(entropy - 0.5, abs=0.1)


@pytest.mark.parametrize("entropy_critic", [True, False])
def test_a_bandits_policy_tends_to_the_boltzmann_policy(entropy_critic):
    """``pi ~ exp(r / ent_coef)``, which maximises reward and entropy together."""
    arguments = {"normalize_advantage": False, "learning_rate": lambda progress: 0.05 * progress}
    model = on_bandits(150, ent_coef=0.5, entropy_critic=entropy_critic, **arguments)
    with th.no_grad():
        policy = model.policy.get_distribution(th.ones(1, 1)).distribution.probs[0].numpy()
    optimum = np.exp(np.array(Bandit.rewards) / 0.5)
    np.testing.assert_allclose(policy, optimum / optimum.sum(), atol=0.03)


class LinearExtractor(FlattenExtractor):
    """Has weights, so that one is not another."""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.linear = th.nn.Linear(self.features_dim, self.features_dim)

    def forward(self, observations):
        return self.linear(super().forward(observations))


def test_the_second_critic_sees_the_critics_features():
    kwargs = {"net_arch": [8], "features_extractor_class": LinearExtractor, "share_features_extractor": False}
    policy = MaxEntPPO("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, seed=0, device="cpu").policy
    observations = th.randn(5, 4, generator=th.Generator().manual_seed(0))
    values, _, _, entropy_values = policy.evaluate_all(observations, th.zeros(5).long())
    latent = policy.mlp_extractor.forward_critic(policy.vf_features_extractor(observations))
    th.testing.assert_close(entropy_values, policy.entropy_net(latent))
    th.testing.assert_close(policy.predict_entropy_values(observations), entropy_values)
    th.testing.assert_close(values, policy.predict_values(observations))


def test_the_loss_has_both_critics_errors():
    model, _ = rollout(Corridor(truncates=True), vf_coef=0.25, entropy_vf_coef=0.5)
    (batch,) = model.rollout_buffer.get()
    evaluation = model.evaluate(model.policy, batch, None)
    loss, _ = model.value_loss(evaluation, batch)
    errors = [
        (batch.returns - evaluation.values).square().mean().item(),
        (batch.entropy_returns - evaluation.entropy_values).square().mean().item(),
    ]
    assert loss.item() == pytest.approx(errors[0] + 0.5 * errors[1])
    assert {"train/entropy_value_loss", "rollout/entropy_advantage"} <= model.logger.name_to_value.keys()


class OwnBuffer(RolloutBuffer):
    """A user's."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entropy_gamma": 1.5}, r"entropy_gamma=1.5 is outside \[0, 1\]"),
        ({"entropy_gae_lambda": -1}, "entropy_gae_lambda=-1 is outside"),
        ({"entropy_baseline": "meen"}, "entropy_baseline='meen' is neither 'mean' nor a number: did you mean 'mean'"),
        ({"entropy_vf_coef": -0.5}, "entropy_vf_coef=-0.5 is below 0"),
        ({"entropy_critic": 2}, "entropy_critic=2 is neither True nor False"),
        ({"rollout_buffer_class": OwnBuffer}, "OwnBuffer has no place for the returns of the second critic"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaxEntPPO("MlpPolicy", Bandit(), device="cpu", **arguments)
    assert MaxEntPPO("MlpPolicy", Bandit(), rollout_buffer_class=OwnBuffer, entropy_critic=False, device="cpu")
