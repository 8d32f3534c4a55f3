"""A recorded gradient step is cut where optimisers step, and nowhere else."""

from collections import namedtuple

import pytest
import torch as th
from torch import nn

from sb3_entropic.engine.trace import Layout, StepInputs, clipped, trace_function, trace_step
from sb3_entropic.updates import Update

Batch = namedtuple("Batch", ["dones", "x"])


class Toy:
    """An update for each of the losses given, on a matrix; ``kept`` is computed before the first update and read after it."""

    def __init__(self, *losses):
        th.manual_seed(0)
        self.policy = nn.ParameterDict({name: th.randn(3, 3) for name, _ in zip("abc", losses, strict=False)})
        self.optimizers = [th.optim.SGD([parameter], lr=0.1) for parameter in self.policy.values()]
        self.losses = losses
        self.scale = 1.0

    def updates(self):
        pairs = zip(self.policy, self.optimizers, self.losses, strict=True)
        return [
            Update(name, optimizer, lambda n, batch, noise, f=loss: (f(self, n, batch), {})) for name, optimizer, loss in pairs
        ]

    def make_networks(self):
        return {}

    def before_updates(self, networks, batch, noise):
        networks["kept"] = batch.x @ self.policy.a.T
        networks["view"] = self.policy.a.T
        return {"before": networks["kept"].mean()}


def of_a(toy, networks, batch):
    return (batch.x @ toy.policy.a * toy.scale).square().mean()


LOSSES = {
    "apart": lambda toy, n, batch: (batch.x @ toy.policy.b).square().mean(),
    "reads the new a": lambda toy, n, batch: (batch.x @ toy.policy.a @ toy.policy.b).tanh().sum(),
    "reads the old a": lambda toy, n, batch: (n["kept"] @ toy.policy.b).tanh().sum(),
    "reads both": lambda toy, n, batch: (n["kept"] @ toy.policy.b + batch.x @ toy.policy.a).tanh().sum(),
    "reads a view of the old a": lambda toy, n, batch: (batch.x @ toy.policy.a @ n["view"] @ toy.policy.b).sum().tanh(),
}
N_STAGES = {"apart": 1, "reads the old a": 1}


@pytest.mark.parametrize("second", LOSSES)
def test_stages_give_the_gradients_of_one_update_after_the_other(second):
    n = 2
    toys = [Toy(of_a, LOSSES[second]) for _ in range(n)]
    for index, toy in enumerate(toys):
        toy.policy.b.data += index
    x = th.randn(n, 5, 3)
    parameters = {name: th.stack([getattr(toy.policy, name).detach() for toy in toys]) for name in ("a", "b")}
    batch = {"x": x, "dones": th.zeros(n, 5, 1), "timeouts": th.zeros(n, 5, 1)}
    inputs = StepInputs(parameters, {"scale": th.tensor([1.0, 3.0])}, batch, {})
    stages = trace_step(toys[0], [["a"], ["b"]], inputs, Layout(Batch, None))
    assert len(stages) == N_STAGES.get(second, 2)
    assert toys[0].scale == 1.0

    toys[1].scale = 3.0
    expected = []
    for toy, own in zip(toys, x, strict=True):
        networks, own_batch = {}, Batch(th.zeros(5, 1), own)
        toy.before_updates(networks, own_batch, None)
        networks["view"] = networks["view"].clone()
        for update in toy.updates():
            update.step(networks, own_batch, None)
        expected.append([parameter.grad for parameter in toy.policy.parameters()])

    values, saved, found, metrics = th.utils._pytree.tree_leaves(inputs), [], {}, []
    for stage in stages:
        results = list(stage.function(*values, *(saved[index] for index in stage.saved)))
        for index, _ in stage.gradients:
            found[index] = results.pop(0)
            parameters["ab"[index]].sub_(0.1 * found[index])
        metrics += stage.metrics
        saved += results[len(stage.metrics) :]
    assert sorted(metrics) == ["a_loss", "b_loss", "before"]
    for index in range(n):
        for update in (0, 1):
            th.testing.assert_close(found[update][index], expected[index][update])


def test_an_update_waits_for_the_one_before_it_though_its_gradient_is_known_earlier():
    toy = Toy(of_a, LOSSES["reads the new a"], lambda toy, n, batch: (batch.x @ toy.policy.c).square().mean())
    inputs = StepInputs(
        {name: p.detach()[None] for name, p in toy.policy.named_parameters()},
        {},
        {"x": th.randn(1, 5, 3), "dones": th.zeros(1, 5, 1), "timeouts": th.zeros(1, 5, 1)},
        {},
    )
    first, second = trace_step(toy, [["a"], ["b"], ["c"]], inputs, Layout(Batch, None))
    assert [index for index, _ in first.gradients] == [0]
    assert [index for index, _ in second.gradients] == [1, 2]
    values = th.utils._pytree.tree_leaves(inputs)
    saved = first.function(*values)[1 + len(first.metrics) :]
    (x,) = inputs.batch["x"]
    loss = (x @ toy.policy.c).square().mean()
    found = second.function(*values, *(saved[index] for index in second.saved))[1]
    th.testing.assert_close(found[0], *th.autograd.grad(loss, [toy.policy.c]))


def test_a_parameter_that_a_loss_does_not_reach_is_left_out():
    toy = Toy(of_a, lambda toy, n, batch: batch.x.mean() * toy.policy.b[0, 0])
    toy.policy.c = nn.Parameter(th.zeros(2))
    inputs = StepInputs(
        {name: p.detach()[None] for name, p in toy.policy.named_parameters()},
        {},
        {"x": th.randn(1, 5, 3), "dones": th.zeros(1, 5, 1), "timeouts": th.zeros(1, 5, 1)},
        {},
    )
    (stage,) = trace_step(toy, [["c", "a"], ["b"]], inputs, Layout(Batch, None))
    assert stage.gradients == [(0, [1]), (1, [0])]


def test_the_gradient_of_a_weight_lies_in_memory_as_the_weight_does():
    toy = Toy(of_a, LOSSES["apart"])
    inputs = StepInputs(
        {name: p.detach()[None] for name, p in toy.policy.named_parameters()},
        {},
        {"x": th.randn(1, 5, 3), "dones": th.zeros(1, 5, 1), "timeouts": th.zeros(1, 5, 1)},
        {},
    )
    linear = Toy(lambda toy, n, batch: nn.functional.linear(batch.x, toy.policy.a).square().mean(), LOSSES["apart"])
    (stage,) = trace_step(linear, [["a"], ["b"]], inputs, Layout(Batch, None))
    assert all(result.is_contiguous() for result in stage.function(*th.utils._pytree.tree_leaves(inputs))[:2])


def test_equal_things_are_computed_once_and_what_nobody_reads_not_at_all():
    def function(x):
        x.sin()
        return x.cos() + x.cos() + x.cos()

    targets = [node.target for node in trace_function(function, th.randn(3)).graph.nodes if node.op == "call_function"]
    assert targets.count(th.ops.aten.cos.default) == 1
    assert th.ops.aten.sin.default not in targets


def test_a_whole_number_times_one_point_zero_is_none():
    times_one, floats = trace_function(lambda v: v * 1.0, th.arange(3)), trace_function(lambda v: v * 1.0, th.ones(3))
    (result,) = times_one(th.tensor([1, 2, 3]))
    assert result.dtype == th.float32
    assert not [node for node in floats.graph.nodes if node.op == "call_function"], "what does nothing is dropped"


def _overwritten(x):
    y = x.cos()
    twice = y * 2
    return y.masked_fill_(x > 0, 2.0) + twice + y


def _overwritten_in_part(x):
    y = x.cos()
    y[:2].masked_fill_(x[:2] > 0, 2.0)
    return y


def _overwritten_part_of(split):
    def function(x):
        y = (x.reshape(2, 2) * 1).cos()
        split(y)[0].masked_fill_(split(x.reshape(2, 2))[0] > 0, 2.0)
        return y

    return function


@pytest.mark.parametrize(
    "function",
    [
        _overwritten_part_of(lambda y: y.unbind(0)),
        _overwritten_part_of(lambda y: y.unbind(1)),
        _overwritten_part_of(lambda y: y.chunk(2, 1)),
        _overwritten_part_of(lambda y: y.split([1, 1])),
        _overwritten_part_of(lambda y: [y.T]),
        lambda x: (x > 0).logical_and_(x < 1) * x,
        lambda x: (x > 0).double().logical_and_(x < 1) * x,
        lambda x: x.cos().masked_fill_(x > 0, 2.0),
        lambda x: x.cos().add_(1),
        _overwritten,
        _overwritten_in_part,
    ],
)
def test_nothing_is_overwritten(function):
    x = th.tensor([-1.0, 0.5, 2.0, -3.0])
    graph = trace_function(function, x)
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert not [target for target in calls if isinstance(target, th._ops.OpOverload) and target._schema.is_mutable]
    (result,), expected = graph(x), function(x)
    assert result.dtype == expected.dtype
    th.testing.assert_close(result, expected, rtol=0, atol=0)


def test_things_that_differ_in_a_keyword_are_not_equal():
    x, y = th.randn(3), th.randn(3)
    graph = trace_function(lambda x, y: th.add(x, y, alpha=2) * th.add(x, y, alpha=3), x, y)
    th.testing.assert_close(graph(x, y)[0], (x + 2 * y) * (x + 3 * y))


def test_norms_are_clipped_one_model_at_a_time():
    gradients = [th.randn(3, 4, 2), th.randn(3, 5)]
    gradients[0][1] *= 0.01
    gradients[1][1] *= 0.01
    expected = []
    for index in range(3):
        own = [nn.Parameter(th.zeros_like(gradient[index])) for gradient in gradients]
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient[index].clone()
        nn.utils.clip_grad_norm_(own, 0.5)
        expected.append([parameter.grad for parameter in own])
    gradients = clipped(gradients, 0.5)
    for index in range(3):
        for gradient, wanted in zip(gradients, expected[index], strict=True):
            th.testing.assert_close(gradient[index], wanted)
