"""The learned temperature moves the policy's entropy towards its target."""

import pytest
import torch as th

from sb3_entropic import MSAC
from sb3_entropic.temperature import current_temperature, temperature_loss


@pytest.mark.parametrize(("entropy", "direction"), [(-2.0, 1), (0.0, -1)])
def test_it_rises_exactly_while_the_policy_is_too_deterministic(entropy, direction):
    log_temperature = th.zeros(1, requires_grad=True)
    log_prob = th.full((4, 1), -entropy)
    temperature_loss(log_temperature, log_prob, target_entropy=-1.0).backward()
    # The gradient is entropy - target_entropy, and descent goes against it.
    assert log_temperature.grad.item() == pytest.approx(entropy + 1.0)
    assert -log_temperature.grad.sign().item() == direction


def test_it_rests_at_the_target():
    log_temperature = th.ones(1, requires_grad=True)
    temperature_loss(log_temperature, th.full((4, 1), 1.0), target_entropy=-1.0).backward()
    assert log_temperature.grad.item() == 0.0


def test_no_gradient_reaches_the_policy():
    log_prob = th.zeros(4, 1, requires_grad=True)
    temperature_loss(th.zeros(1, requires_grad=True), log_prob, target_entropy=-1.0).backward()
    assert log_prob.grad is None


@pytest.mark.parametrize(("ent_coef", "expected"), [("auto", 1.0), ("auto_0.2", 0.2), (0.3, 0.3)])
def test_current_temperature_is_sb3s(ent_coef, expected):
    temperature = current_temperature(MSAC("MlpPolicy", "Pendulum-v1", ent_coef=ent_coef, buffer_size=10, device="cpu"))
    assert temperature.item() == pytest.approx(expected)
    assert not temperature.requires_grad
