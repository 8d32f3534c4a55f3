"""An update changes its own parameters and nothing else."""

import pytest
import torch as th
from stable_baselines3.common.utils import polyak_update

from sb3_entropic.updates import MetricsMean, Update, batch_elementwise_steps, move_towards


@pytest.fixture
def networks():
    th.manual_seed(0)
    return th.nn.Linear(3, 3), th.nn.Linear(3, 1)


def through_both(networks, batch, noise):
    first, second = networks
    return second(first(batch)).mean(), {"size": th.tensor(float(len(batch)))}


def test_a_step_changes_and_differentiates_only_its_own_parameters(networks):
    first, second = networks
    before = [p.clone() for p in second.parameters()]
    update = Update("first", th.optim.SGD(first.parameters(), lr=0.1), through_both)
    weight = first.weight.clone()
    metrics = update.step(networks, th.ones(4, 3), None)
    assert not th.equal(first.weight, weight)
    assert all(th.equal(p, b) and p.grad is None for p, b in zip(second.parameters(), before, strict=True))
    assert set(metrics) == {"first_loss", "size"}
    assert not metrics["first_loss"].requires_grad


def test_the_gradients_norm_is_clipped_over_all_parameters_together(networks):
    first, _ = networks
    Update("first", th.optim.SGD(first.parameters(), lr=0.1), through_both, 1e-3).step(networks, th.ones(4, 3), None)
    norm = th.cat([parameter.grad.flatten() for parameter in first.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_an_update_without_a_name_logs_its_loss_as_the_loss(networks):
    metrics = Update("", th.optim.SGD(networks[0].parameters(), lr=0.1), through_both).step(networks, th.ones(4, 3), None)
    assert set(metrics) == {"loss", "size"}


def test_a_frozen_parameter_stays(networks):
    first, _ = networks
    first.bias.requires_grad_(False)
    bias = first.bias.clone()
    Update("first", th.optim.SGD(first.parameters(), lr=0.1), through_both).step(networks, th.ones(4, 3), None)
    assert th.equal(first.bias, bias)


def test_a_parameter_outside_the_loss_is_left_alone(networks):
    first, second = networks
    optimizer = th.optim.Adam([*second.parameters(), *first.parameters()], lr=0.1)
    weight = first.weight.clone()
    Update("second", optimizer, lambda n, b, _: (n[1](b).mean(), {})).step(networks, th.ones(4, 3), None)
    assert th.equal(first.weight, weight)


def test_metrics_are_averaged_over_steps():
    means = MetricsMean()
    assert means.fetch() == {}
    for value in (1.0, 2.0, 6.0):
        means.add({"loss": th.tensor([value], requires_grad=True), "other": th.tensor(0.5)})
    assert means.fetch() == {"loss": 3.0, "other": 0.5}


def test_targets_move_as_sb3s_do():
    th.manual_seed(0)
    sources, ours = [th.randn(5, 3), th.randn(7)], [th.randn(5, 3), th.randn(7)]
    theirs = [target.clone() for target in ours]
    for tau in (0.005, 0.3, 0.0, 1.0):
        move_towards(ours, sources, tau)
        polyak_update(sources, theirs, tau)
        assert all(th.equal(our, their) for our, their in zip(ours, theirs, strict=True))
    assert all(th.equal(our, source) for our, source in zip(ours, sources, strict=True)), "tau=1 copies"


@pytest.mark.parametrize("kind", [th.optim.Adam, th.optim.AdamW])
def test_stepping_tensors_together_keeps_every_bit(kind):
    th.manual_seed(0)
    ours, theirs = th.nn.Linear(17, 5), th.nn.Linear(17, 5)
    theirs.load_state_dict(ours.state_dict())
    our_optimizer, their_optimizer = kind(ours.parameters()), kind(theirs.parameters())
    batch_elementwise_steps(our_optimizer)
    for _ in range(50):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = th.randn_like(p)
            q.grad = p.grad.clone()
        our_optimizer.step()
        their_optimizer.step()
    assert our_optimizer.param_groups[0]["foreach"] is True
    assert their_optimizer.param_groups[0]["foreach"] is None
    assert all(th.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize(
    ("kind", "choice"), [(th.optim.Adam, {"fused": True}), (th.optim.Adam, {"foreach": False}), (th.optim.SGD, {})]
)
def test_the_users_own_choice_of_optimiser_stays(kind, choice):
    optimizer = kind(th.nn.Linear(2, 2).parameters(), lr=0.1, **choice)
    before = dict(optimizer.param_groups[0])
    batch_elementwise_steps(optimizer)
    assert optimizer.param_groups[0] == before
