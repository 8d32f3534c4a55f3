"""What is done to a graph before it is compiled changes no number."""

import pytest
import torch as th
from torch.func import vmap

from sb3_entropic.engine import compiler
from sb3_entropic.engine.trace import trace_function
from sb3_entropic.operators import quantile_huber_loss

SEEDS, BATCH, QUANTILES = 2, 3, 32


def gradient(current, rewards, discounts, values):
    current = current.detach().requires_grad_()
    with th.enable_grad():
        loss = vmap(quantile_huber_loss)(current, rewards + discounts * values)
        total = loss.sum()
    return th.autograd.grad(total, current)[0], loss


@pytest.fixture
def inputs():
    generator = th.Generator().manual_seed(0)
    return [th.randn(SEEDS, BATCH, QUANTILES, generator=generator) for _ in range(4)]


def stored_in(graph):
    return [node.args[0] for node in graph.graph.nodes if node.target is th.ops.sb3_entropic.stored.default]


def test_what_pairs_are_made_of_is_stored(inputs, monkeypatch):
    graph = trace_function(gradient, *inputs)
    assert stored_in(compiler.with_stored_factors(graph)) == []
    monkeypatch.setattr(compiler, "LARGE", SEEDS * BATCH * QUANTILES**2)
    before = str(graph.graph)
    result = compiler.with_stored_factors(graph)
    shapes = [tuple(node.meta["tensor_meta"].shape) for node in stored_in(result)]
    # The targets and the current quantiles of the pairs, and the fractions.
    assert (SEEDS, BATCH, 1, QUANTILES) in shapes
    assert (SEEDS, BATCH, QUANTILES, 1) in shapes
    assert str(graph.graph) == before
    for value, expected in zip(result(*inputs), graph(*inputs), strict=True):
        assert th.equal(value, expected)


def test_constants_are_kept(inputs, monkeypatch):
    monkeypatch.setattr(compiler, "LARGE", 1)
    constant = th.arange(QUANTILES)
    graph = trace_function(lambda x: (x[0] + 1).unsqueeze(-1) * constant, inputs[0])
    assert th.equal(compiler.with_stored_factors(graph)(inputs[0])[0], graph(inputs[0])[0])


@pytest.mark.skipif(not compiler.has_compiler(), reason="there is no C++ compiler")
def test_a_compiled_graph_gives_the_same(inputs, monkeypatch):
    monkeypatch.setattr(compiler, "LARGE", SEEDS * BATCH * QUANTILES**2)
    graph = trace_function(gradient, *inputs)
    compiled = compiler.compile_graph(graph, inputs)
    for value, expected in zip(compiled(*inputs), graph(*inputs), strict=True):
        assert th.allclose(value, expected, rtol=1e-5, atol=1e-7)
