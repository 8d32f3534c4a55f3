"""The bonus is the one of the docstring: worked out here by other means, from the model's own parameters."""

import inspect
import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC

from sb3_entropic import MDAC, MSAC
from sb3_entropic.actor_critic.networks import ModuleNetworks
from tests.actor_critic.test_sac_equality import ShiftedPolicy

GAMMA, ALPHA = 0.9, 0.5
OPTIONS = ["munchausen_bound", "entropy_bound", "munchausen_shift", "munchausen_density"]


def trained(constructor=MSAC, **arguments):
    arguments = {"policy_kwargs": {"net_arch": [16, 16]}, "buffer_size": 500, "gamma": GAMMA, **arguments}
    return constructor("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", batch_size=16, **arguments).learn(200)


@pytest.fixture(scope="module")
def model():
    return trained(munchausen_alpha=ALPHA, munchausen_bound=(-0.3, 0.2), ent_coef=0.05)


@pytest.fixture
def batch(model):
    np.random.seed(0)
    return model.replay_buffer.sample(64)


def log_density(model, observation, action):
    """Of a single action, in plain floats: N(atanh(a); mu, sigma) / (1 - a^2)."""
    mean, log_std, _ = model.actor.get_action_dist_params(observation.reshape(1, -1))
    mean, std = mean.item(), math.exp(log_std.item())
    action = min(max(action, -1 + 1e-6), 1 - 1e-6)
    u = math.atanh(action)
    return -0.5 * ((u - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi)) - math.log(1 - action**2)


def rewards_of(model, batch):
    with th.no_grad():
        return model.regularised_rewards(ModuleNetworks(model), batch)


def test_the_bonus_is_the_formula(model, batch):
    rewards, metrics = rewards_of(model, batch)
    bonuses = []
    for observation, action in zip(batch.observations, batch.actions, strict=True):
        # Pendulum has one action dimension, so SB3's automatic target entropy is -1.
        scaled = 0.05 * (log_density(model, observation, action.item()) - 1.0)
        bonuses.append(min(max(scaled, -0.3), 0.2))
    expected = batch.rewards + 0.5 * th.tensor(bonuses).reshape(-1, 1)
    assert th.allclose(rewards, expected, atol=1e-3)
    assert metrics["munchausen_bonus"].item() == pytest.approx(np.mean(bonuses), abs=2e-3)
    assert metrics["munchausen_clip_fraction"].item() == pytest.approx(np.mean([b in (-0.3, 0.2) for b in bonuses]), abs=0.02)


def test_the_bonus_depends_on_the_replayed_action(model, batch):
    before, _ = rewards_of(model, batch)
    actions = batch.actions.clone()
    actions[0] = -0.5 * actions[0] + 0.1
    after, _ = rewards_of(model, batch._replace(actions=actions))
    assert after[0] != before[0]
    assert th.equal(after[1:], before[1:])


def test_the_bonus_respects_its_bound_for_saturated_and_unlikely_actions(model, batch):
    actions = th.where(th.arange(64).reshape(-1, 1) % 2 == 0, 1.0, -1.0)
    rewards, _ = rewards_of(model, batch._replace(actions=actions))
    bonus = (rewards - batch.rewards) / ALPHA
    assert bonus.min() >= -0.3 - 1e-5
    assert bonus.max() <= 0.2 + 1e-5


@pytest.mark.parametrize("density", ["squashed", "pretanh"])
def test_a_saturated_policy_finds_its_own_actions_likely(density):
    """Though 32 bits round them to the end of the action space, where the Gaussian's mean is beyond."""
    model = trained(
        munchausen_alpha=1.0, munchausen_bound=None, munchausen_density=density, munchausen_shift=False, ent_coef=1.0
    )
    with th.no_grad():
        model.actor.mu.weight.zero_()
        model.actor.log_std.weight.zero_()
        model.actor.log_std.bias.fill_(math.log(0.1))
        for mean in (-12.0, -8.0, 8.0, 12.0):
            model.actor.mu.bias.fill_(mean)
            batch = model.replay_buffer.sample(64)
            networks = ModuleNetworks(model)
            own, log_prob = networks.act(batch.observations, th.randn(64, 1))
            bonus = rewards_of(model, batch._replace(actions=own))[0] - batch.rewards
            expected = log_prob.mean() if density == "squashed" else th.tensor(-math.log(0.1 * math.sqrt(2 * math.pi)))
            th.testing.assert_close(bonus.mean(), expected, atol=1.0, rtol=0)
            # The other end is as unlikely as it was.
            assert (rewards_of(model, batch._replace(actions=-own))[0] - batch.rewards).max() < -1000


def test_a_function_bounds_too(batch):
    tanh = trained(munchausen_alpha=1.0, munchausen_bound=lambda x: th.tanh(x / 10), ent_coef=5.0)
    rewards, _ = rewards_of(tanh, batch)
    for i in range(64):
        scaled = 5.0 * (log_density(tanh, batch.observations[i], batch.actions[i].item()) - 1.0)
        assert rewards[i].item() == pytest.approx(batch.rewards[i].item() + math.tanh(scaled / 10), abs=2e-3)


def test_the_shift_can_be_left_out(batch):
    model = trained(munchausen_alpha=1.0, munchausen_bound=(-0.3, 0.2), munchausen_shift=False, ent_coef=0.05)
    rewards, metrics = rewards_of(model, batch)
    for i in range(64):
        scaled = 0.05 * log_density(model, batch.observations[i], batch.actions[i].item())
        assert rewards[i].item() == pytest.approx(batch.rewards[i].item() + min(max(scaled, -0.3), 0.2), abs=2e-3)
    assert metrics["munchausen_clip_fraction"] < 1


def test_the_density_before_the_squash_leaves_its_determinant_out(batch):
    arguments = {"munchausen_alpha": 1.0, "munchausen_bound": None, "ent_coef": 0.05}
    squashed, before = (trained(munchausen_density=density, **arguments) for density in ("squashed", "pretanh"))
    before.set_parameters(squashed.get_parameters())
    actions = batch.actions.clamp(-0.999, 0.999)
    difference = (
        rewards_of(squashed, batch._replace(actions=actions))[0] - rewards_of(before, batch._replace(actions=actions))[0]
    )
    th.testing.assert_close(difference, -0.05 * th.log(1 - actions**2), atol=1e-4, rtol=1e-3)


def test_mirror_descent_bounds_both_terms_and_shifts_nothing(batch):
    model = trained(MDAC, ent_coef=5.0)
    batch = batch._replace(dones=th.zeros(64, 1))
    noise = model.draw_noise(batch)
    with th.no_grad():
        target, _ = model.td_target(ModuleNetworks(model), batch, noise)
        mean, log_std, _ = model.actor.get_action_dist_params(batch.next_observations)
        next_actions = th.tanh(mean + log_std.exp() * noise.next)
        values = th.cat(model.critic_target(batch.next_observations, next_actions), dim=1).amin(dim=1)
    limit = lambda x: min(max(x / 10, -1.0), 1.0)  # noqa: E731
    for i in range(64):
        bonus = limit(5.0 * log_density(model, batch.observations[i], batch.actions[i].item()))
        entropy_term = limit(5.0 * log_density(model, batch.next_observations[i], next_actions[i].item()))
        expected = batch.rewards[i].item() + 0.9 * bonus + GAMMA * (values[i].item() - entropy_term)
        assert target[i].item() == pytest.approx(expected, abs=5e-3)


def test_the_target_is_the_equation(batch):
    """All of it: bonus, minimum over critics, bounded entropy term, discount, termination."""
    model = trained(munchausen_alpha=ALPHA, munchausen_bound=(-0.3, 0.2), entropy_bound=(-0.04, 0.03), ent_coef=0.05)
    dones = (th.arange(64) % 3 == 0).float().reshape(-1, 1)
    batch = batch._replace(dones=dones)
    noise = model.draw_noise(batch)
    with th.no_grad():
        target, _ = model.td_target(ModuleNetworks(model), batch, noise)
        rewards, _ = rewards_of(model, batch)
        mean, log_std, _ = model.actor.get_action_dist_params(batch.next_observations)
        next_actions = th.tanh(mean + log_std.exp() * noise.next)
        values = [q.flatten().tolist() for q in model.critic_target(batch.next_observations, next_actions)]
    for i in range(64):
        entropy_term = 0.05 * log_density(model, batch.next_observations[i], next_actions[i].item())
        entropy_term = min(max(entropy_term, -0.04), 0.03)
        soft_value = min(values[0][i], values[1][i]) - entropy_term
        expected = rewards[i].item() + (0.0 if i % 3 == 0 else GAMMA * soft_value)
        assert target[i].item() == pytest.approx(expected, abs=2e-3)


def test_the_targets_come_from_the_target_critics(model, batch):
    noise = model.draw_noise(batch)
    with th.no_grad():
        before, _ = model.td_target(ModuleNetworks(model), batch, noise)
        for parameter in model.critic.parameters():
            parameter.add_(1.0)
        after, _ = model.td_target(ModuleNetworks(model), batch, noise)
        for parameter in model.critic.parameters():
            parameter.sub_(1.0)
    assert th.equal(before, after)


def test_no_gradient_reaches_the_actor_or_the_temperature_through_the_critic_loss(batch):
    model = trained(ent_coef="auto")
    loss, _ = model.critic_loss(ModuleNetworks(model), batch, model.draw_noise(batch))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.critic.parameters())
    for update in model.updates():
        if update.name != "critic":
            for parameter in update.parameters:
                parameter.grad = None
    loss, _ = model.critic_loss(ModuleNetworks(model), batch, model.draw_noise(batch))
    loss.backward()
    assert all(parameter.grad is None for parameter in (*model.actor.parameters(), model.log_ent_coef))


def test_losses_are_pure(model, batch):
    """The same networks, batch and noise give the same loss and leave no trace."""
    noise = model.draw_noise(batch)
    state = {key: value.clone() for key, value in model.policy.state_dict().items()}
    for update in model.updates():
        random_state = th.get_rng_state()
        losses = [update.loss(ModuleNetworks(model), batch, noise)[0] for _ in range(2)]
        assert th.equal(*losses)
        assert th.equal(random_state, th.get_rng_state())
    assert all(th.equal(value, state[key]) for key, value in model.policy.state_dict().items())


def test_gsde_uses_the_density_of_its_own_distribution(batch):
    model = trained(use_sde=True, munchausen_bound=None, munchausen_alpha=1.0, ent_coef=0.05)
    with th.no_grad():
        mean, log_std, extra = model.actor.get_action_dist_params(batch.observations)
        inner = batch.actions.clamp(-0.99, 0.99)
        distribution = model.actor.action_dist.proba_distribution(mean, log_std, **extra)
        expected = batch.rewards + 0.05 * (distribution.log_prob(inner).reshape(-1, 1) - 1.0)
    rewards, _ = rewards_of(model, batch._replace(actions=inner))
    assert th.allclose(rewards, expected, atol=1e-3, rtol=1e-3)


def test_what_is_logged(model):
    names = {"munchausen_bonus", "munchausen_clip_fraction", "policy_entropy", "ent_coef", "critic_loss", "actor_loss"}
    assert {f"train/{name}" for name in names} <= model.logger.name_to_value.keys()
    assert -0.3 <= model.logger.name_to_value["train/munchausen_bonus"] <= 0.2
    assert 0 <= model.logger.name_to_value["train/munchausen_clip_fraction"] <= 1


def test_the_logged_entropy_is_that_of_the_batch(model, batch):
    noise = model.draw_noise(batch)
    metrics = model.before_updates(ModuleNetworks(model), batch, noise)
    with th.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(batch.observations)
        u = mean + log_std.exp() * noise.current
        log_prob = th.distributions.Normal(mean, log_std.exp()).log_prob(u) - th.log(1 - th.tanh(u) ** 2 + 1e-6)
    assert metrics["policy_entropy"].item() == pytest.approx(-log_prob.mean().item(), abs=1e-3)


def test_n_step_targets_take_the_bonus_of_the_first_action():
    model = trained(n_steps=3, munchausen_bound=(-0.3, 0.2), ent_coef=0.05)
    np.random.seed(0)
    batch = model.replay_buffer.sample(32)
    rewards, _ = rewards_of(model, batch)
    bonus = (rewards - batch.rewards) / ALPHA
    assert bonus.abs().max() <= 0.3 + 1e-4
    for i in range(32):
        scaled = 0.05 * (log_density(model, batch.observations[i], batch.actions[i].item()) - 1.0)
        assert bonus[i].item() == pytest.approx(min(max(scaled, -0.3), 0.2), abs=5e-3)


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_outside_the_unit_interval_is_named(alpha):
    with pytest.raises(ValueError, match=r"munchausen_alpha=.* is outside \[0, 1\]"):
        MSAC("MlpPolicy", "Pendulum-v1", munchausen_alpha=alpha, buffer_size=10)


@pytest.mark.parametrize("alpha", ["much", float("nan"), True])
def test_an_alpha_that_is_no_number_is_named(alpha):
    with pytest.raises(ValueError, match=f"munchausen_alpha={alpha!r} is not a number"):
        MSAC("MlpPolicy", "Pendulum-v1", munchausen_alpha=alpha, buffer_size=10)


@pytest.mark.parametrize("name", ["munchausen_bound", "entropy_bound"])
def test_a_bound_the_wrong_way_round_is_named(name):
    with pytest.raises(ValueError, match=rf"{name}=\(1, -1\) has low > high"):
        MSAC("MlpPolicy", "Pendulum-v1", buffer_size=10, **{name: (1, -1)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"munchausen_density": "gaussian"}, "munchausen_density='gaussian' is none of 'squashed', 'pretanh'"),
        ({"munchausen_shift": -1.0}, "munchausen_shift=-1.0 is neither True nor False"),
        ({"munchausen_bound": "tahn(x)"}, r"munchausen_bound='tahn\(x\)' is not a bound: give None, a pair"),
        ({"munchausen_bound": math.tanh}, "munchausen_bound=<built-in function tanh> does not take a tensor to one of its"),
        ({"ent_coef": lambda progress: progress - 0.5}, r"ent_coef\(0.25\)=-0.25 is below 0"),
        ({"ent_coef": lambda progress: 1 - 8 * progress * (1 - progress)}, r"ent_coef\(0.75\)=-0.5 is below 0"),
        ({"ent_coef": "auto_0"}, "ent_coef='auto_0', of which ent_coef=0.0 is not a finite number above 0"),
        ({"ent_coef": "auto_1e-46"}, r"of which ent_coef=1e-46 is outside \[1e-15, 1e\+15\]"),
        ({"ent_coef": 1e39}, r"ent_coef=1e\+39 is outside"),
        ({"ent_coef": "1" + 400 * "0"}, "of which ent_coef=inf is not finite"),
        ({"ent_coef": "auto_1" + 400 * "0"}, "of which ent_coef=inf is not a finite number above 0"),
        ({"munchausen_bound": (float("nan"), 1)}, r"munchausen_bound=\(nan, 1\) is not a bound"),
        ({"ent_coef": -0.1}, r"ent_coef=-0.1 is below 0: the nearest choice is 0"),
        ({"ent_coef": float("nan")}, "ent_coef=nan is not a number"),
        (
            {"ent_coef": "aut"},
            'ent_coef=\'aut\' is none of "auto", "auto_0.1", "lin_0.1", a number and a function of progress',
        ),
        ({"target_entropy": float("inf")}, "target_entropy=inf is not finite"),
        ({"target_entropy": "aut"}, "target_entropy='aut' is neither 'auto' nor a number: did you mean 'auto'"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MSAC("MlpPolicy", "Pendulum-v1", buffer_size=10, **arguments)


def test_a_misspelt_argument_is_answered_by_the_nearest():
    with pytest.raises(TypeError, match="no argument 'munchausen_alfa': did you mean 'munchausen_alpha'"):
        MSAC("MlpPolicy", "Pendulum-v1", munchausen_alfa=0.5)


def test_an_actor_whose_density_is_not_known_is_named():
    with pytest.raises(ValueError, match="not known for ShiftedActor: keep the action_log_prob and action_dist"):
        MSAC(ShiftedPolicy, "Pendulum-v1", buffer_size=10)
    MSAC(ShiftedPolicy, "Pendulum-v1", buffer_size=10, munchausen_alpha=0)


def test_a_frozen_actor_stays_as_it_is():
    model = MSAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=200, device="cpu")
    model.actor.requires_grad_(False)
    before = [parameter.clone() for parameter in model.actor.parameters()]
    model.learn(120)
    assert all(th.equal(p, b) for p, b in zip(model.actor.parameters(), before, strict=True))
    assert model._n_updates > 0


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.float64])
def test_actions_of_other_types(dtype):
    class Env(gym.Env):
        observation_space = gym.spaces.Box(-1, 1, (2,))
        action_space = gym.spaces.Box(-3, 3, (2,), dtype=dtype)

        def reset(self, seed=None, options=None):
            return np.zeros(2, dtype=np.float32), {}

        def step(self, action):
            return np.zeros(2, dtype=np.float32), float(np.sum(action)), False, False, {}

    model = MSAC("MlpPolicy", Env(), policy_kwargs={"net_arch": [8]}, buffer_size=200, device="cpu").learn(120)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_a_forward_is_shared_only_for_the_same_noise(model, batch):
    networks, noise = ModuleNetworks(model), model.draw_noise(batch)
    first, again = (networks.act(batch.observations, noise.current)[0] for _ in range(2))
    assert first is again
    assert not th.equal(first, networks.act(batch.observations, noise.next)[0])


def test_a_forward_without_gradient_is_made_again_where_one_is_wanted(model, batch):
    networks = ModuleNetworks(model)
    with th.no_grad():
        assert not networks.gaussian(batch.observations)[0].requires_grad
    assert networks.gaussian(batch.observations)[0].requires_grad


def test_the_signature_is_sacs_and_then_ours():
    ours, theirs = inspect.signature(MSAC).parameters, inspect.signature(SAC).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert list(ours)[len(theirs) :] == ["munchausen_alpha", *OPTIONS, "engine"]
    assert all(ours[name].default == theirs[name].default for name in theirs)


def test_a_sparse_buffer_of_the_policys_is_saved(tmp_path):
    model = MSAC("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu")
    model.policy.register_buffer("adjacency", th.eye(3).to_sparse())
    assert model.get_parameters()["policy"]["adjacency"].is_sparse
    model.save(tmp_path / "model.zip")
    assert (tmp_path / "model.zip").is_file()


def test_a_frequency_of_no_steps_is_refused_where_sac_finds_it_out_while_learning():
    with pytest.raises(ValueError, match="train_freq=0 is not a whole number above 0"):
        MSAC("MlpPolicy", "Pendulum-v1", buffer_size=10, train_freq=0, device="cpu")
    with pytest.raises(AssertionError, match="at least collect one step"):
        SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, train_freq=0, device="cpu").learn(10)


def test_a_target_entropy_may_be_a_number_as_text_as_in_sac():
    models = [cls("MlpPolicy", "Pendulum-v1", buffer_size=10, target_entropy="-2", device="cpu") for cls in (SAC, MSAC)]
    assert [model.target_entropy for model in models] == [-2.0, -2.0]


def test_a_scheduled_target_entropy_is_checked_at_both_ends():
    for schedule in (lambda remaining: float("nan"), lambda remaining: 1 / remaining if remaining else float("inf")):
        with pytest.raises(ValueError, match=r"target_entropy\([01]\.0\)=(nan|inf) is not"):
            MSAC("MlpPolicy", "Pendulum-v1", buffer_size=10, target_entropy=schedule)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"target_update_interval": 8}, "1 here. The target network moves after every gradient step."),
        ({"target_update_interval": 8, "gradient_steps": 4}, "4 here. The target network moves every 4 gradient steps."),
        ({"target_update_interval": 8, "gradient_steps": -1}, "1 here. The target network moves after every gradient step."),
        ({"target_update_interval": 8, "gradient_steps": 8}, None),
        ({"target_update_interval": 8, "gradient_steps": -1, "train_freq": 8}, None),
        ({"target_update_interval": 8, "gradient_steps": -1, "train_freq": (1, "episode")}, None),
    ],
)
def test_an_interval_of_target_updates_that_is_never_reached_is_warned_of(arguments, said, recwarn):
    MSAC("MlpPolicy", "Pendulum-v1", buffer_size=500, device="cpu", **arguments)
    warnings = [str(warning.message) for warning in recwarn if "target_update_interval=8 is never" in str(warning.message)]
    assert [warning.endswith(f"which has {said}") for warning in warnings] == ([True] if said else [])
