"""Continuous soft Q-learning: its value against quadrature, its sampler against the density it is to follow."""

import math
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.envs import IdentityEnvBox
from stable_baselines3.sac.policies import SACPolicy

from sb3_entropic import SoftQ
from sb3_entropic.actor_critic.soft_q import SoftQNoise
from tests.extractors import BatchNormExtractor

TEMPERATURE = 0.4
GAMMA = 0.9


def make(action_dim=1, **changes):
    env = IdentityEnvBox(ep_length=10)
    env.action_space = spaces.Box(-1.0, 1.0, (action_dim,), seed=0)
    env.observation_space = spaces.Box(-1.0, 1.0, (2,), seed=0)
    env._get_reward = lambda action: float(-np.square(action).sum())
    arguments = {
        **{"ent_coef": TEMPERATURE, "gamma": GAMMA, "policy_kwargs": {"net_arch": [8]}, "buffer_size": 200},
        **{"batch_size": 16, "learning_starts": 20, "device": "cpu", "seed": 0, "engine": "sb3"},
    }
    return SoftQ("MlpPolicy", env, **{**arguments, **changes})


class Known:
    """Networks whose critic is a function of the action alone."""

    def __init__(self, value, unsquashed=None):
        self.temperature = th.tensor(TEMPERATURE).double()
        self.smallest_values = self.smallest_target_values = lambda _: value
        self.unsquashed = unsquashed


def two_peaks(actions):
    """``(..., action_dim) -> (...)``; the left peak is the lower."""
    a = actions[..., 0]
    return 2.0 * th.exp(-((a - 0.5) ** 2) / 0.02) + 1.5 * th.exp(-((a + 0.5) ** 2) / 0.02)


def batch_of(n, action_dim, rewards=0.0, dones=0.0):
    column = th.ones(n, 1).double()
    return SimpleNamespace(
        observations=None,
        next_observations=None,
        actions=th.zeros(n, action_dim).double(),
        rewards=rewards * column,
        dones=dones * column,
        discounts=None,
    )


def exact_soft_value(value, action_dim):
    """``T log`` of the integral of ``exp(Q / T)`` over the box, by the midpoint rule."""
    n = 20_000 if action_dim == 1 else 1_000
    points = (th.arange(n).double() + 0.5) / n * 2 - 1
    grid = th.cartesian_prod(*[points] * action_dim).reshape(-1, action_dim)
    return TEMPERATURE * (th.logsumexp(value(grid) / TEMPERATURE, 0) + action_dim * math.log(2 / n)).item()


def estimates(value, n_states, n_samples, proposal, action_dim=1, seed=0, sampler=(0.5, 0.1)):
    """``V(s')`` of many states, each from its own draws; the sampler's actions before the squash are Gaussian."""
    model = make(action_dim, n_value_samples=n_samples, proposal=proposal)
    model.policy.double()
    mean, std = sampler
    networks = Known(value, lambda _, noise: mean + std * noise)
    batch = batch_of(n_states, action_dim)
    target, metrics = model.td_target(networks, batch, model.draw_noise(batch, th.Generator().manual_seed(seed)))
    assert metrics["soft_value"].item() == pytest.approx(target.mean().item() / GAMMA)
    return target.squeeze(1) / GAMMA


@pytest.mark.parametrize("action_dim", [1, 2])
@pytest.mark.parametrize("proposal", ["uniform", "sampler"])
def test_the_soft_value_is_the_integral(proposal, action_dim):
    estimate = estimates(two_peaks, 4, 40_000, proposal, action_dim)
    assert estimate.numpy() == pytest.approx(exact_soft_value(two_peaks, action_dim), abs=0.02)


def test_a_sampler_that_has_collapsed_proposes_its_surroundings():
    estimate = estimates(two_peaks, 4, 40_000, "sampler", sampler=(0.5, 0.0))
    assert estimate.numpy() == pytest.approx(exact_soft_value(two_peaks, 1), abs=0.02)


@pytest.mark.parametrize("proposal", ["uniform", "sampler"])
def test_its_exponential_has_no_bias(proposal):
    ratios = th.exp((estimates(two_peaks, 20_000, 4, proposal) - exact_soft_value(two_peaks, 1)) / TEMPERATURE)
    assert ratios.mean().item() == pytest.approx(1, abs=4 * ratios.std().item() / math.sqrt(len(ratios)))


@pytest.mark.parametrize("proposal", ["uniform", "sampler"])
def test_it_is_too_low_the_less_so_the_more_samples(proposal):
    exact = exact_soft_value(two_peaks, 1)
    biases = []
    for n_samples in (2, 8, 32):
        errors = estimates(two_peaks, 4_000, n_samples, proposal) - exact
        biases.append(errors.mean().item())
        assert biases[-1] < -3 * errors.std().item() / math.sqrt(len(errors))
    assert biases == sorted(biases)


def test_the_samplers_proposal_serves_many_dimensions():
    """A value that is a narrow quadratic of six dimensions, as of a policy that has settled."""
    width, centre = 0.15, 0.3
    value = lambda a: -TEMPERATURE * ((a - centre) ** 2).sum(-1) / (2 * width**2)  # noqa: E731
    exact = TEMPERATURE * 6 * math.log(width * math.sqrt(2 * math.pi))
    sampler = (math.atanh(centre), width / (1 - centre**2))
    uniform = estimates(value, 500, 64, "uniform", 6).mean().item()
    from_sampler = estimates(value, 500, 64, "sampler", 6, sampler=sampler).mean().item()
    assert uniform < exact - 1
    assert from_sampler == pytest.approx(exact, abs=0.1)


def test_a_terminal_transition_is_worth_its_reward():
    model = make()
    model.policy.double()
    batch = batch_of(5, 1, rewards=3.0, dones=1.0)
    target, _ = model.td_target(Known(two_peaks), batch, model.draw_noise(batch))
    assert th.equal(target, batch.rewards)


def trained(**changes):
    """A model whose online and target critics differ, and a batch of what it has seen."""
    model = make(**changes).learn(40)
    with th.no_grad():
        for seed, network in enumerate((model.critic, model.critic_target)):
            for parameter in network.parameters():
                parameter.add_(0.3 * th.randn(parameter.shape, generator=th.Generator().manual_seed(seed)))
    np.random.seed(0)
    return model, model.replay_buffer.sample(16)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_the_target_comes_from_the_smaller_target_critic(n_steps):
    model, batch = trained(action_dim=2, n_value_samples=6, n_steps=n_steps)
    noise = model.draw_noise(batch)
    with th.no_grad():
        target, _ = model.td_target(model.make_networks(), batch, noise)
        actions = 2 * noise.uniform - 1
        values = [th.minimum(*model.critic_target(batch.next_observations, actions[:, k])) for k in range(6)]
        soft = TEMPERATURE * (th.logsumexp(th.cat(values, 1) / TEMPERATURE, 1, keepdim=True) - math.log(6) + 2 * math.log(2))
    discounts = GAMMA if n_steps == 1 else batch.discounts
    assert n_steps == 1 or (discounts < GAMMA).any()
    assert th.allclose(target, batch.rewards + (1 - batch.dones) * discounts * soft, atol=1e-5)


@pytest.mark.parametrize("squash_correction", [True, False])
def test_the_samplers_gradient_is_the_stein_direction(squash_correction):
    """In plain loops, with differences in the place of derivatives."""
    model = make(squash_correction=squash_correction, n_particles=6)
    u = th.tensor([[0.3, -0.4, 0.9], [0.1, 0.2, -1.1]]).double().unsqueeze(-1).requires_grad_()
    fixed = th.tensor([[0.5, -0.2, 0.1], [-0.7, 0.6, 0.4]]).double().unsqueeze(-1)
    noise = SoftQNoise(None, None, None, fixed=fixed, moved=u)
    loss, metrics = model.actor_loss(Known(two_peaks, lambda _, given: given), batch_of(2, 1), noise)
    (gradient,) = th.autograd.grad(loss, u)

    def log_density(a):
        correction = math.log(1 - a**2 + 1e-6) if squash_correction else 0.0
        return two_peaks(th.tensor([a], dtype=th.float64)).item() / TEMPERATURE + correction

    for s in range(2):
        x, y = fixed[s].tanh().flatten().tolist(), u[s].detach().tanh().flatten().tolist()
        bandwidth = sorted((a - b) ** 2 for a in x for b in y)[4] / math.log(3)
        for i in range(3):
            direction = 0.0
            for a in x:
                kernel = math.exp(-((a - y[i]) ** 2) / bandwidth)
                score = (log_density(a + 1e-6) - log_density(a - 1e-6)) / 2e-6
                direction += (kernel * score + kernel * 2 * (y[i] - a) / bandwidth) / 3
            expected = -direction * (1 - y[i] ** 2) / 6
            assert gradient[s, i, 0].item() == pytest.approx(expected, rel=1e-5), (s, i)
    assert metrics["stein_norm"] > 0


def sampled_after(steps, value, **changes):
    """Actions ``(2000,)`` of a sampler that has followed a known critic for so many steps."""
    model = make(learning_rate=5e-3, **changes)
    networks, batch = model.make_networks(), batch_of(16, 1)
    networks.smallest_values = lambda _: value
    batch.observations = th.zeros(16, 2)
    (update,) = (update for update in model.updates() if update.name == "actor")
    th.manual_seed(0)
    for _ in range(steps):
        update.step(networks, batch, model.draw_noise(batch))
    return model.predict(np.zeros((2_000, 2), dtype=np.float32))[0].squeeze(1)


def test_the_sampler_learns_both_modes_of_a_density():
    """Two wide humps, the right one with twice the mass of the left."""
    value = lambda a: TEMPERATURE * (th.exp(-((a - 0.5) ** 2) / 0.125) + 0.5 * th.exp(-((a + 0.5) ** 2) / 0.125)).log()  # noqa: E731
    actions = sampled_after(400, lambda actions: value(actions[..., 0]), n_particles=32, policy_kwargs={"net_arch": [32]})
    points = th.linspace(-1, 1, 2_001).double()[1:-1]
    density = (value(points) / TEMPERATURE).exp() * (1 - points**2)
    share = lambda low, high: (density[(points > low) & (points < high)].sum() / density.sum()).item()  # noqa: E731
    for low, high in ((-1, -0.25), (-0.25, 0.25), (0.25, 1)):
        assert ((actions > low) & (actions < high)).mean() == pytest.approx(share(low, high), abs=0.08), (low, high)


def test_the_squash_correction_keeps_actions_off_the_limits():
    reach = [
        sampled_after(300, lambda actions: 4 * actions[..., 0], squash_correction=correction).mean()
        for correction in (True, False)
    ]
    assert reach[0] < 0.93 < reach[1]


def gradients(loss, network):
    return th.autograd.grad(loss, list(network.parameters()), allow_unused=True, retain_graph=True)


def test_neither_loss_reaches_the_others_network():
    model, batch = trained(proposal="sampler")
    networks, noise = model.make_networks(), model.draw_noise(batch)
    actor_loss, critic_loss = (loss(networks, batch, noise)[0] for loss in (model.actor_loss, model.critic_loss))
    assert all(gradient is None for gradient in gradients(actor_loss, model.critic))
    assert all(gradient is None for gradient in gradients(critic_loss, model.actor))
    assert all(gradient is None for gradient in gradients(critic_loss, model.critic_target))
    assert all(gradient.abs().sum() > 0 for gradient in gradients(actor_loss, model.actor))
    assert all(gradient.abs().sum() > 0 for gradient in gradients(critic_loss, model.critic)[-2:])


def test_the_sampler_follows_the_smaller_online_critic():
    model, batch = trained(action_dim=2)
    actions = th.rand(16, 5, 2) * 2 - 1
    values = model.make_networks().smallest_values(batch.observations)(actions)
    for k in range(5):
        expected = th.minimum(*model.critic(batch.observations, actions[:, k])).squeeze(1)
        assert th.allclose(values[:, k], expected, atol=1e-6)


def test_what_is_deterministic_is_the_action_at_zero_and_draws_nothing():
    model = make(action_dim=2)
    observations = np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32)
    before = th.get_rng_state()
    actions, _ = model.predict(observations, deterministic=True)
    assert th.equal(before, th.get_rng_state())
    with th.no_grad():
        expected = model.actor.net(th.cat([th.as_tensor(observations), th.zeros(6, 2)], 1)).tanh()
    assert np.allclose(actions, expected, atol=1e-6)
    sampled = model.predict(np.repeat(observations[:1], 200, 0))[0]
    assert sampled.std(0).min() > 0.005


def test_the_target_critics_follow_slowly_or_are_copied():
    for tau in (0.25, 1.0):
        model, _ = trained(tau=tau)
        online, target = (next(network.q_networks[1].parameters()) for network in (model.critic, model.critic_target))
        expected = (1 - tau) * target.detach().clone() + tau * online.detach()
        model.after_gradient_step(0)
        assert th.allclose(target, expected, atol=1e-7)


@pytest.mark.parametrize("proposal", ["uniform", "sampler"])
def test_running_statistics_of_an_extractor_are_updated(proposal):
    model = make(proposal=proposal, policy_kwargs={"features_extractor_class": BatchNormExtractor}).learn(60)
    norms = [network.features_extractor.norm for network in (model.actor, model.critic, model.critic_target)]
    assert all(norm.num_batches_tracked > 0 for norm in norms[:2])
    assert th.equal(norms[1].running_mean, norms[2].running_mean)
    assert th.isfinite(norms[1].running_mean).all() and (norms[1].running_mean != 0).any()


def test_a_temperature_may_be_the_text_of_a_number():
    assert make(ent_coef="0.2").ent_coef == 0.2


def test_the_default_temperature_is_a_number():
    assert SoftQ("MlpPolicy", gym.make("Pendulum-v1"), device="cpu").ent_coef == 0.1


WRONG = {
    "ent_coef": ("auto_0.1", "ent_coef='auto_0.1' cannot be learned.*: give a number above 0"),
    "ent_coef, no text of a number": ("0.1.2", "ent_coef='0.1.2' is no number: give a number above 0"),
    "ent_coef, too small": (1e-40, "ent_coef=1e-40 is outside"),
    "ent_coef, too large": (1e30, "ent_coef=1e\\+30 is outside"),
    "ent_coef, not positive": (0.0, "ent_coef=0.0 is not a finite number above 0"),
    "n_value_samples": (5, "n_value_samples=5 is not an even number from 2: take 6"),
    "n_particles": (2, "n_particles=2 is not an even number from 4: take 4"),
    "n_particles, not whole": (2.5, "n_particles=2.5 is not a whole number above 0"),
    "proposal": ("uniformly", "proposal='uniformly' is none of 'uniform', 'sampler': did you mean 'uniform'"),
    "squash_correction": ("no", "squash_correction='no' is neither True nor False"),
    "use_sde": (True, "SoftQ takes no use_sde"),
}


@pytest.mark.parametrize(("name", "value", "message"), [(n.split(",")[0], *rest) for n, rest in WRONG.items()], ids=WRONG)
def test_a_wrong_argument_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        make(**{name: value})


def test_a_policy_with_another_actor_is_refused():
    with pytest.raises(ValueError, match="needs a policy with an actor that is a Sampler, which SACPolicy has not"):
        SoftQ(SACPolicy, "Pendulum-v1", device="cpu")
