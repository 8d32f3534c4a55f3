"""The targets of MTQC are those of its docstring, worked out by other means from the model's own parameters."""

import numpy as np
import pytest
import torch as th

from sb3_entropic import MSAC, MTQC
from sb3_entropic.actor_critic.networks import ModuleNetworks

GAMMA, TEMPERATURE = 0.9, 0.05


@pytest.fixture(scope="module")
def model():
    arguments = {"munchausen_bound": (-0.3, 0.2), "entropy_bound": (-0.04, 0.03), "ent_coef": TEMPERATURE, "gamma": GAMMA}
    policy_kwargs = {"net_arch": [16], "n_critics": 3, "n_quantiles": 5}
    return MTQC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", policy_kwargs=policy_kwargs, **arguments).learn(200)


@pytest.fixture
def batch(model):
    np.random.seed(0)
    batch = model.replay_buffer.sample(32)
    return batch._replace(dones=(th.arange(32) % 3 == 0).float().reshape(-1, 1))


def test_the_target_is_the_equation(model, batch):
    noise = model.draw_noise(batch)
    with th.no_grad():
        target, metrics = model.td_target(ModuleNetworks(model), batch, noise)
        next_actions, log_prob = ModuleNetworks(model).act(batch.next_observations, noise.next)
        quantiles = model.critic_target(batch.next_observations, next_actions).numpy()
    assert target.shape == (32, 3 * 5 - 3 * 2)
    # The bonus and the bounded entropy term are MSAC's, which has tests of its own.
    with th.no_grad():
        rewards, _ = MSAC.regularised_rewards(model, ModuleNetworks(model), batch)
    for i in range(32):
        kept = np.sort(quantiles[i].ravel())[:9]
        soft_values = kept - np.clip(TEMPERATURE * log_prob[i].item(), -0.04, 0.03)
        expected = rewards[i].item() + (0.0 if i % 3 == 0 else GAMMA) * soft_values
        np.testing.assert_allclose(target[i].numpy(), expected, atol=1e-5)
    assert not th.equal(rewards, batch.rewards)
    assert -0.3 <= metrics["munchausen_bonus"] <= 0.2


def test_the_actor_ascends_the_mean_of_all_quantiles(model, batch):
    noise = model.draw_noise(batch)
    networks = ModuleNetworks(model)
    loss, _ = model.actor_loss(networks, batch, noise)
    actions, log_prob = networks.act(batch.observations, noise.current)
    values = model.critic(batch.observations, actions).reshape(32, -1).mean(dim=1)
    assert loss.item() == pytest.approx((TEMPERATURE * log_prob.flatten() - values).mean().item(), abs=1e-5)


@pytest.mark.parametrize("drop", [25, -1, 2.5])
def test_a_truncation_that_leaves_no_quantile_is_named(drop):
    with pytest.raises(ValueError, match=rf"top_quantiles_to_drop_per_net={drop} is not a whole number from 0 to 24"):
        MTQC("MlpPolicy", "Pendulum-v1", top_quantiles_to_drop_per_net=drop, buffer_size=10)
