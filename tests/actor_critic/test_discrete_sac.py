"""Discrete SAC's losses against loops in plain floats, and its options."""

import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.sac.policies import SACPolicy

from sb3_entropic import MSAC, DiscreteSAC, SoftDQN
from sb3_entropic.actor_critic.discrete_sac import epsilon_greedy_entropy
from sb3_entropic.tabular import TabularEnv
from sb3_entropic.value_based.networks import Fractions, ValueNetworks
from tests.extractors import BatchNormExtractor
from tests.same_bits import same_bits
from tests.value_based.tables import (
    GAMMA,
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


def make(**changes):
    return DiscreteSAC("MlpPolicy", TabularEnv(MDP), **{**arguments(), "ent_coef": TEMPERATURE, **changes})


class Tables:
    """Tables in the place of the actor and two critics."""

    def __init__(self, log_policy, target=None, online=None, old_log_policy=None):
        self.temperature = th.tensor(TEMPERATURE).double()
        self.log_temperature = self.temperature.log().reshape(1).requires_grad_()
        self.log_policy = as_network(log_policy)
        self.target_log_policy = as_network(old_log_policy) if old_log_policy is not None else None
        self.target_values = lambda observations: as_network(target)(observations).movedim(1, 0)
        self.all_values = lambda observations: as_network(online)(observations).movedim(1, 0)


def policy_table(seed):
    return th.log_softmax(table(seed), dim=-1)


def target_of(model, networks, done=0.0):
    target, metrics = model.td_target(networks, all_transitions(MDP, done), None)
    return expectation(MDP, target).squeeze(-1), metrics


@pytest.mark.parametrize("reduction", ["min", "mean"])
@pytest.mark.parametrize("entropy_in_target", [True, False])
def test_the_target_is_the_expectation_over_actions(reduction, entropy_in_target):
    model = make(critic_reduction=reduction, entropy_in_target=entropy_in_target)
    log_policy, critics = policy_table(1), table(2, 2)
    values = th.zeros(N_STATES).double()
    for s in range(N_STATES):
        for a in range(N_ACTIONS):
            pair = [critics[0, s, a].item(), critics[1, s, a].item()]
            q = min(pair) if reduction == "min" else sum(pair) / 2
            bonus = TEMPERATURE * log_policy[s, a].item() if entropy_in_target else 0.0
            values[s] += math.exp(log_policy[s, a]) * (q - bonus)
    target, _ = target_of(model, Tables(log_policy, critics))
    assert th.allclose(target, MDP.backup(values), atol=1e-9)
    terminal, _ = target_of(model, Tables(log_policy, critics), done=1.0)
    assert th.allclose(terminal, MDP.rewards, atol=1e-12)


def test_with_the_boltzmann_policy_of_one_critic_the_target_is_soft_dqns():
    q = table(3)
    soft_dqn = SoftDQN("MlpPolicy", TabularEnv(MDP), temperature=TEMPERATURE, **arguments())
    networks = ValueNetworks(as_network(table(7)), as_network(q), TEMPERATURE)
    expected, _ = soft_dqn.td_target(networks, all_transitions(MDP), Fractions())
    target, _ = target_of(make(), Tables(th.log_softmax(q / TEMPERATURE, -1), q.unsqueeze(0)))
    assert th.allclose(target, expectation(MDP, expected).squeeze(-1), atol=1e-7)


def test_the_munchausen_term_is_the_clipped_log_policy_of_the_replayed_action():
    plain, _ = target_of(make(), Tables(policy_table(1), table(2, 2)))
    model = make(munchausen_alpha=0.5, munchausen_clip=-0.6)
    target, metrics = target_of(model, Tables(policy_table(1), table(2, 2)))
    scaled = TEMPERATURE * policy_table(1)
    assert (scaled < -0.6).any() and (scaled > -0.6).any(), "some are clipped"
    assert th.allclose(target - plain, 0.5 * scaled.clamp(min=-0.6), atol=1e-7)
    assert metrics["munchausen_clip_fraction"].item() == pytest.approx((scaled < -0.6).double().mean().item())


@pytest.mark.parametrize("reduction", ["min", "mean"])
def test_the_actors_gradient_is_that_of_the_expectation(reduction):
    logits = table(1).requires_grad_()
    critics = table(2, 2)
    networks = Tables(th.log_softmax(logits, -1), online=critics)
    loss, _ = make(critic_reduction=reduction).actor_loss(networks, all_transitions(MDP), None)
    (gradient,) = th.autograd.grad(loss, logits)
    # Closed form: pi_b (f_b - sum_a pi_a f_a), f = temperature log pi - Q; every state is in the batch equally often.
    log_policy = th.log_softmax(logits.detach(), -1)
    values = critics.amin(0) if reduction == "min" else critics.mean(0)
    policy, f = log_policy.exp(), TEMPERATURE * log_policy - values
    expected = policy * (f - (policy * f).sum(-1, keepdim=True)) / N_STATES
    assert th.allclose(gradient, expected, atol=1e-7)


def test_the_actor_of_before_begins_as_the_actor_and_never_trains():
    policy = make().policy
    same_bits(policy.actor_target.state_dict(), policy.actor.state_dict())
    policy.set_training_mode(True)
    assert policy.actor.training
    assert not policy.actor_target.training


def test_the_logged_gap_is_that_of_the_online_critics():
    model, batch = perturbed()
    gap = model.after_training(model.make_networks(), batch)["action_gap"]
    with th.no_grad():
        best = th.minimum(*model.critic(batch.observations)).topk(2).values
    assert gap.item() == pytest.approx((best[:, 0] - best[:, 1]).mean().item(), abs=1e-6)


def test_no_gradient_reaches_the_critics_through_the_actors_loss():
    critics = table(2, 2).requires_grad_()
    logits = table(1).requires_grad_()
    loss, _ = make().actor_loss(Tables(th.log_softmax(logits, -1), online=critics), all_transitions(MDP), None)
    loss.backward()
    assert logits.grad is not None
    assert critics.grad is None


def test_the_actors_loss_is_what_sampled_actions_average_to():
    log_policy, critics = policy_table(1), table(2, 2)
    loss, _ = make().actor_loss(Tables(log_policy, online=critics), all_transitions(MDP), None)
    generator = th.Generator().manual_seed(0)
    actions = th.multinomial(log_policy.exp(), 40_000, replacement=True, generator=generator)
    sampled = (TEMPERATURE * log_policy - critics.amin(0)).gather(1, actions).mean()
    assert loss.item() == pytest.approx(sampled.item(), abs=0.02)


def test_the_entropy_penalty_draws_the_entropy_to_that_of_the_past():
    log_policy, old, critics = policy_table(1), policy_table(9), table(2, 2)
    networks = Tables(log_policy, online=critics, old_log_policy=old)
    without, _ = make().actor_loss(networks, all_transitions(MDP), None)
    with_penalty, _ = make(entropy_penalty=0.4).actor_loss(networks, all_transitions(MDP), None)
    entropies = [-(table.exp() * table).sum(-1) for table in (log_policy, old)]
    assert (with_penalty - without).item() == pytest.approx(0.2 * ((entropies[0] - entropies[1]) ** 2).mean().item())


@pytest.mark.parametrize(("target_entropy", "rises"), [(1.0, True), (0.1, False)])
def test_the_temperature_rises_exactly_while_the_entropy_is_too_low(target_entropy, rises):
    model = make(ent_coef="auto_0.3", target_entropy=target_entropy)
    networks = Tables(th.log_softmax(th.tensor([2.0, 0.0, 0.0]).double().expand(N_STATES, -1), -1))
    entropy = -(networks.log_policy(th.tensor([0])).exp() * networks.log_policy(th.tensor([0]))).sum().item()
    assert (entropy < target_entropy) == rises
    loss, _ = model.temperature_loss(networks, all_transitions(MDP), None)
    (gradient,) = th.autograd.grad(loss, networks.log_temperature)
    assert gradient.item() == pytest.approx(entropy - target_entropy)


def test_a_trained_policy_reaches_its_target_entropy():
    model = make(
        ent_coef="auto_0.05", target_entropy=0.6, learning_rate=0.01, learning_starts=50, buffer_size=2000, train_freq=2
    ).learn(2000)
    assert model.logger.name_to_value["train/policy_entropy"] == pytest.approx(0.6, abs=0.1)


def test_the_copy_of_the_actor_follows_it_slowly():
    model = make(entropy_penalty=0.5, tau=0.25, learning_starts=10).learn(12)
    before = model.policy.actor_target.logits_net[0].weight.clone()
    model.after_gradient_step(0)
    expected = 0.75 * before + 0.25 * model.actor.logits_net[0].weight
    assert th.allclose(model.policy.actor_target.logits_net[0].weight, expected, atol=1e-7)


def test_the_default_target_entropy_is_an_epsilon_greedy_policys():
    # -(0.9 ln 0.9 + 0.1 ln(0.1 / 2)) over three actions
    assert make().target_entropy == pytest.approx(0.9 * 0.1053605 + 0.1 * 2.9957323)
    assert epsilon_greedy_entropy(0.1, 2) < math.log(2)
    assert epsilon_greedy_entropy(0.1, 1) == 0.0


def test_actions_are_as_frequent_as_the_policy_says():
    model = make(seed=1)
    observation = np.zeros(20_000, dtype=int)
    with th.no_grad():
        policy = model.actor.log_policy(model.policy.obs_to_tensor(observation[:1])[0]).exp()[0].numpy()
    th.manual_seed(0)
    actions, _ = model.predict(observation, deterministic=False)
    assert np.abs(np.bincount(actions, minlength=N_ACTIONS) / 20_000 - policy).max() < 4 * 0.5 / np.sqrt(20_000)
    assert (model.predict(observation[:50], deterministic=True)[0] == policy.argmax()).all()


def test_a_shared_extractor_learns_from_the_actor_alone():
    kwargs = {"net_arch": [8], "share_features_extractor": True, "features_extractor_class": BatchNormExtractor}
    model = make(policy_kwargs=kwargs, learning_starts=10).learn(30)
    assert model.critic.features_extractor is model.actor.features_extractor
    weight = model.actor.features_extractor.norm.weight
    batch, updates = model.replay_buffer.sample(16), {update.name: update for update in model.updates()}
    for name, changes in (("critic", False), ("actor", True)):
        before = weight.clone()
        updates[name].step(model.make_networks(), batch, None)
        assert th.equal(before, weight) != changes, name


def perturbed(**changes):
    """A model whose online networks and their targets all differ."""
    model = make(learning_starts=10, **changes).learn(30)
    with th.no_grad():
        for seed, network in enumerate((model.critic, model.critic_target, model.policy.actor_target)):
            for parameter in network.parameters():
                parameter.add_(0.3 * th.randn(parameter.shape, generator=th.Generator().manual_seed(seed)))
    np.random.seed(0)
    return model, model.replay_buffer.sample(16)


def test_the_target_comes_from_the_target_critics():
    model, batch = perturbed()
    with th.no_grad():
        target, _ = model.td_target(model.make_networks(), batch, None)
        log_policy = model.actor.log_policy(batch.next_observations)
        values = th.minimum(*model.critic_target(batch.next_observations))
        soft = (log_policy.exp() * (values - TEMPERATURE * log_policy)).sum(1, keepdim=True)
    assert th.allclose(target, batch.rewards + (1 - batch.dones) * GAMMA * soft, atol=1e-5)


def test_the_actor_ascends_the_online_critics_and_remembers_its_copy():
    model, batch = perturbed(entropy_penalty=0.4)
    with th.no_grad():
        loss, _ = model.actor_loss(model.make_networks(), batch, None)
        log_policy, old = model.actor.log_policy(batch.observations), model.policy.actor_target.log_policy(batch.observations)
        values = th.minimum(*model.critic(batch.observations))
        entropies = [-(each.exp() * each).sum(1) for each in (log_policy, old)]
        expected = (log_policy.exp() * (TEMPERATURE * log_policy - values)).sum(1).mean()
        expected += 0.2 * ((entropies[0] - entropies[1]) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_target_critics_follow_slowly():
    model, _ = perturbed(tau=0.25)
    online, target = (next(network.q_networks[1].parameters()) for network in (model.critic, model.critic_target))
    expected = 0.75 * target.detach().clone() + 0.25 * online.detach()
    model.after_gradient_step(0)
    assert th.allclose(target, expected, atol=1e-7)


def test_what_is_logged_trains_nothing():
    """Running statistics have moved as often as there were gradient steps."""
    model = make(policy_kwargs={"features_extractor_class": BatchNormExtractor}, learning_starts=10).learn(30)
    of_critic = model.critic.features_extractor.norm.num_batches_tracked
    of_actor = model.actor.features_extractor.norm.num_batches_tracked
    before = of_critic.item(), of_actor.item()
    model.train(gradient_steps=1, batch_size=16)
    once = of_critic.item() - before[0], of_actor.item() - before[1]
    model.train(gradient_steps=3, batch_size=16)
    assert (of_critic.item() - before[0], of_actor.item() - before[1]) == (4 * once[0], 4 * once[1])


def test_the_copy_of_the_actor_follows_it_without_a_penalty_and_with_its_running_statistics():
    """A penalty that is switched on after loading finds the actor's own past there."""
    model = make(policy_kwargs={"features_extractor_class": BatchNormExtractor}, tau=0.5, learning_starts=10).learn(60)
    fresh = make(policy_kwargs={"features_extractor_class": BatchNormExtractor}).policy.actor_target
    actor, copy = model.actor, model.policy.actor_target
    assert th.equal(actor.features_extractor.norm.running_mean, copy.features_extractor.norm.running_mean)
    distances = [(network.logits_net[0].weight - actor.logits_net[0].weight).abs().max() for network in (copy, fresh)]
    assert distances[0] < distances[1]


def test_a_clip_that_destroys_the_signal_is_warned_of():
    with pytest.warns(UserWarning, match=r"munchausen_clip=-1 is 1 temperature \(1\) wide"):
        make(munchausen_alpha=0.9, ent_coef=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(munchausen_alpha=0.9, ent_coef=0.1)
        # It starts at 1, and where it ends nobody knows.
        make(munchausen_alpha=0.9, ent_coef="auto")
        make(munchausen_alpha=0.0, ent_coef="auto")
        make(munchausen_alpha=0.5, ent_coef=0.0)


WRONG = {
    "target_entropy": (1.2, "target_entropy=1.2 cannot be reached: 3 actions have at most 1.099 nats"),
    "critic_reduction": ("max", "critic_reduction='max' is none of 'min', 'mean'"),
    "munchausen_alpha": (2, r"munchausen_alpha=2 is outside \[0, 1\]"),
    "munchausen_clip": (0.5, "munchausen_clip=0.5 is not below 0: did you mean -0.5"),
    "entropy_in_target": ("no", "entropy_in_target='no' is neither True nor False"),
    "a target entropy in words": ("high", "target_entropy='high' is not a number"),
    "a target entropy as for continuous actions": (-1, "target_entropy=-1 is below 0"),
    "entropy_penalty": (-1, "entropy_penalty=-1 is below 0"),
    "use_sde": (True, "can only be used with continuous actions"),
    "action_noise": (NormalActionNoise(np.zeros(1), np.ones(1)), "takes no action_noise: it is for continuous actions"),
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("target_entropy" if name.startswith("a target") else name, *rest) for name, rest in WRONG.items()],
    ids=WRONG.keys(),
)
def test_a_wrong_argument_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        make(**{name: value})


def test_a_policy_for_continuous_actions_is_refused():
    with pytest.raises(ValueError, match="needs a policy with an actor that is a CategoricalActor, which SACPolicy has not"):
        DiscreteSAC(SACPolicy, TabularEnv(MDP), **arguments())


def test_losses_discount_n_step_returns_by_their_own_factor():
    model = make(n_steps=3, learning_starts=10).learn(40)
    np.random.seed(0)
    batch = model.replay_buffer.sample(16)
    assert (batch.discounts < GAMMA).any()
    with th.no_grad():
        networks = model.make_networks()
        target, _ = model.td_target(networks, batch, None)
        log_policy = networks.log_policy(batch.next_observations)
        q = networks.target_values(batch.next_observations).amin(0)
        soft = (log_policy.exp() * (q - TEMPERATURE * log_policy)).sum(1, keepdim=True)
    assert th.allclose(target, batch.rewards + (1 - batch.dones) * batch.discounts * soft, atol=1e-5)


def test_a_single_action_has_no_entropy_to_reach():
    class OneAction(gym.Env):
        observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(1)

    assert DiscreteSAC("MlpPolicy", OneAction(), buffer_size=10, device="cpu").target_entropy == 0.0
    with pytest.raises(ValueError, match=r"target_entropy=0.5 cannot be reached: 1 action has at most 0.000 nats"):
        DiscreteSAC("MlpPolicy", OneAction(), target_entropy=0.5, buffer_size=10, device="cpu")


@pytest.mark.parametrize(("saves", "loads", "env"), [(SAC, DiscreteSAC, "Pendulum-v1"), (DiscreteSAC, MSAC, "CartPole-v1")])
def test_a_file_with_actions_of_another_kind_is_refused(saves, loads, env, tmp_path):
    saves("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=100, device="cpu").save(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"{loads.__name__} takes actions in a \w+, and these are in .*: load a file with"):
        loads.load(tmp_path / "model", device="cpu")
