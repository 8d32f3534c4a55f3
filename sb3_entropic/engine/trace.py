"""A gradient step as graphs of tensor operations over a leading dimension of seeds.

The losses are called once, on one batch of every seed, under ``vmap``; what is recorded are the operations they and
their gradients consist of, without Python, modules or autograd. Forward passes that several updates share are recorded
once, and nothing is computed that no update reads.

An update that follows another in an algorithm's list reads parameters the other has just changed. The recording has
them as inputs of their own and is cut there: a *stage* is what can be computed before the next optimiser has stepped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch as th
from torch import fx, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

Tensors = dict[str, th.Tensor]

_RECORDING = threading.RLock()

_OUT_OF_PLACE = {
    th.ops.aten.logical_and_.default: th.ops.aten.logical_and.default,
    th.ops.aten.masked_fill_.Scalar: th.ops.aten.masked_fill.Scalar,
}
"""What torch's gradients of ``clamp`` and ``std`` end with, and the same without mutation."""


class StepInputs(NamedTuple):
    """What a gradient step reads; every tensor has a leading dimension of seeds."""

    parameters: Tensors
    """The policy's, target networks included, by their names in its ``state_dict``."""
    attributes: Tensors
    """Tensors and numbers that are attributes of the algorithm itself."""
    batch: Tensors
    """Fields of SB3's ``ReplayBufferSamples`` that are given, and ``timeouts``."""
    noise: Tensors
    """Fields of the family's noise that are given."""


@dataclass(frozen=True)
class Layout:
    """What a flat list of inputs does not say: which tuples the losses expect.

    :param batch: class of the batch
    :param noise: class of the noise, ``None`` if the family draws none
    """

    batch: type
    noise: type | None

    def batch_of(self, fields: Tensors) -> Any:
        """The batch as SB3's buffer gives it: an episode that ran out of time has not terminated."""
        if "timeouts" in fields:
            fields = {**fields, "dones": fields["dones"] * (1 - fields["timeouts"])}
        return self.batch(**{name: fields.get(name) for name in self.batch._fields})

    def noise_of(self, fields: Tensors) -> Any:
        """The noise as the family draws it."""
        return None if self.noise is None else self.noise(**{name: fields.get(name) for name in self.noise._fields})


class Stage(NamedTuple):
    """What can be computed before the next optimiser steps.

    The function takes the leaves of :class:`StepInputs`, then what earlier stages have saved for it. It returns the
    gradients, the metrics and what it saves, in this order.
    """

    function: fx.GraphModule
    saved: list[int]
    """What it needs of the earlier stages, as positions among all they have saved."""
    gradients: list[tuple[int, list[int]]]
    """The updates that follow, as positions in the algorithm's list, each with those of its parameters that have one."""
    metrics: list[str]


class _Holder(nn.Module):
    def __init__(self, policy: nn.Module):
        super().__init__()
        self.policy = policy

    def forward(self, function: Callable[[], Any]) -> Any:
        return function()


def run_with(policy: nn.Module, parameters: Tensors, function: Callable[[], Any]) -> Any:
    """What a function returns while a policy's parameters are others.

    :param policy: whose modules the function calls, by whatever way
    :param parameters: by their names in the policy
    :param function: to call
    """
    with _unchanged_distributions(policy):
        return functional_call(_Holder(policy), {f"policy.{name}": value for name, value in parameters.items()}, (function,))


@contextmanager
def _unchanged_distributions(policy: nn.Module) -> Iterator[None]:
    """Let SB3's distributions, which hold on to what they were made of last, not keep what is recorded."""
    held = [vars(module.action_dist) for module in policy.modules() if hasattr(module, "action_dist")]
    before = [dict(attributes) for attributes in held]
    try:
        yield
    finally:
        for attributes, values in zip(held, before, strict=True):
            attributes.clear()
            attributes.update(values)


@contextmanager
def swapped_attributes(model: Any, attributes: Tensors) -> Iterator[None]:
    """Let a model's attributes be others for a while."""
    before = {name: getattr(model, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(model, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


def trace_step(model: Any, owned: list[list[str]], inputs: StepInputs, layout: Layout) -> list[Stage]:
    """The stages of a gradient step of an algorithm.

    :param model: whose losses are recorded; any one of the stack
    :param owned: the parameters of each update, by their names in the inputs
    :param inputs: examples; shapes and dtypes are fixed by them
    :param layout: of batch and noise
    """
    updates = model.updates()
    limits = [update.max_grad_norm for update in updates]
    device = next(iter(inputs.parameters.values())).device
    metric_names: list[str] = []
    trained: list[list[int]] = []

    def one_seed(parameters: Tensors, updated: list[Tensors], attributes: Tensors, batch: Tensors, noise: Tensors) -> Any:
        current, losses = dict(parameters), []
        with swapped_attributes(model, attributes):
            networks, the_batch, the_noise = model.make_networks(), layout.batch_of(batch), layout.noise_of(noise)
            metrics = run_with(model.policy, current, lambda: model.before_updates(networks, the_batch, the_noise))
            for update, new in zip(updates, updated, strict=True):
                loss, logged = run_with(model.policy, current, partial(update.evaluate, networks, the_batch, the_noise))
                losses.append(loss)
                metrics = {**metrics, update.loss_name: loss, **logged}
                current.update(new)
            if kept := [name for name, value in attributes.items() if getattr(model, name) is not value]:
                raise ValueError(f"they set {', '.join(f'self.{name}' for name in kept)}, which the engine follows")
        metric_names[:] = metrics
        return losses, [th.as_tensor(value, device=device).detach().reshape(()).clone() for value in metrics.values()]

    def step(values: list[th.Tensor]) -> list[th.Tensor]:
        inputs, updated = pytree.tree_unflatten(values, spec)
        trainable = {name for names in owned for name in names}

        def leaf(name: str, value: th.Tensor) -> th.Tensor:
            return value.detach().requires_grad_() if name in trainable else value

        parameters = {name: leaf(name, value) for name, value in inputs.parameters.items()}
        attributes = {name: leaf(name, value) for name, value in inputs.attributes.items()}
        updated = [{name: leaf(name, value) for name, value in values.items()} for values in updated]
        with th.enable_grad():
            losses, metrics = vmap(one_seed)(parameters, updated, attributes, inputs.batch, inputs.noise)
            # Every seed's loss depends on its own parameters alone, so the gradient of the sum is every seed's own.
            losses = [loss.sum() for loss in losses]
        current, gradients = {**parameters, **attributes}, []
        trained.clear()
        for loss, names, new, max_grad_norm in zip(losses, owned, updated, limits, strict=True):
            found = [None] * len(names)
            if names:
                found = th.autograd.grad(loss, [current[n] for n in names], retain_graph=True, allow_unused=True)
            trained.append([index for index, gradient in enumerate(found) if gradient is not None])
            gradients += clipped([gradient for gradient in found if gradient is not None], max_grad_norm)
            current.update(new)
        return gradients + metrics

    # What an update changes is an input once more for the updates after it. Attributes are read before the first.
    updated = [{name: inputs.parameters[name].clone() for name in names if name in inputs.parameters} for names in owned]
    updated[-1] = {}
    values, spec = pytree.tree_flatten((inputs, updated))
    graph = _record(step, values)
    return _Recording(graph, spec, owned, trained, metric_names).stages()


def is_same_graph(first: fx.GraphModule, second: fx.GraphModule) -> bool:
    """Whether two recordings consist of the same operations on the same constants."""
    nodes = [[(n.op, n.target, str(n.args), str(n.kwargs)) for n in module.graph.nodes] for module in (first, second)]
    constants = [n.target for n in first.graph.nodes if n.op == "get_attr"]
    return nodes[0] == nodes[1] and all(_is_same(getattr(first, name), getattr(second, name)) for name in constants)


def _is_same(first: th.Tensor, second: th.Tensor) -> bool:
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


def clipped(gradients: list[th.Tensor], max_norm: float | None) -> list[th.Tensor]:
    """Gradients whose norm over all parameters is limited for each seed, as ``torch.nn.utils.clip_grad_norm_`` does.

    :param gradients: ``(n_seeds, ...)`` each
    :param max_norm: > 0; ``None`` for no limit
    """
    if max_norm is None or not gradients:
        return gradients
    squares = sum(gradient.flatten(1).square().sum(dim=1) for gradient in gradients)
    scales = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    return [gradient * scales.view(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients]


def trace_function(function: Callable[..., Any], *examples: Any) -> fx.GraphModule:
    """A function of tensors as the operations it consists of.

    :param function: maps the examples to a tensor, or several
    :param examples: trees of tensors; the result takes their leaves and returns a list
    """
    values, spec = pytree.tree_flatten(examples)
    return _record(lambda values: pytree.tree_leaves(function(*pytree.tree_unflatten(values, spec))), values)


def _record(function: Callable[[list[th.Tensor]], list[th.Tensor]], values: list[th.Tensor]) -> fx.GraphModule:
    """The operations of a function of a list, as a module that takes the list's members one by one."""
    # It changes parts of torch for all threads.
    with _RECORDING, th.no_grad(), _unchecked_distributions():
        module = make_fx(function)(values)
        if _mutates(module.graph):
            # Apart, since functionalize admits no autograd inside, and takes as long again.
            module = make_fx(th.func.functionalize(module))(values)
    module.graph.set_codegen(fx.graph.CodeGen())
    return simplify(module)


def _mutates(graph: fx.Graph) -> bool:
    """Whether something is overwritten, but for what torch's gradients overwrite themselves: that is mended."""
    mutating = [node for node in graph.nodes if isinstance(node.target, th._ops.OpOverload) and node.target._schema.is_mutable]
    if not all(node.target in _OUT_OF_PLACE and _is_fresh(node.args[0], node) for node in mutating):
        return True
    for node in mutating:
        node.target = _OUT_OF_PLACE[node.target]
    return False


def _is_fresh(written: fx.Node, node: fx.Node) -> bool:
    """Whether nobody but ``node`` reads what it overwrites, and what it makes of it out of place has the same type."""
    # A part of what unbind or split has returned is a view, and is not an operator's result itself.
    is_result = isinstance(written.target, th._ops.OpOverload) and written.target is not th.ops.aten._unsafe_view.default
    is_own = is_result and not _is_view(written) and list(written.users) == [node]
    return is_own and (node.target != th.ops.aten.logical_and_.default or written.meta["tensor_meta"].dtype == th.bool)


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Let torch's distributions take their parameters unseen: a recording has no values to look at."""
    before = th.distributions.Distribution._validate_args
    th.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        th.distributions.Distribution.set_default_validate_args(before)


def simplify(module: fx.GraphModule) -> fx.GraphModule:
    """Drop what does nothing and what nobody reads, and compute equal things once; for graphs without mutation."""
    graph, seen = module.graph, {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if source is not None and _does_nothing(node, source):
            node.replace_all_uses_with(source)
            continue
        if source is not None and _is_transposed(node) and source.target is th.ops.aten.bmm.default:
            # A weight's gradient, in the order of the weight's own elements.
            node = _product_of_transposed(graph, node, source)
        key = (node.target, repr(node.args), repr(node.kwargs))
        if key in seen:
            node.replace_all_uses_with(seen[key])
        else:
            seen[key] = node
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _is_transposed(node: fx.Node) -> bool:
    return node.target is th.ops.aten.transpose.int and tuple(node.args[1:]) in ((1, 2), (2, 1), (-1, -2), (-2, -1))


def _product_of_transposed(graph: fx.Graph, node: fx.Node, product: fx.Node) -> fx.Node:
    """``(a b)^T = b^T a^T``, in the place of ``node``."""
    with graph.inserting_before(node):
        a, b = (
            factor.args[0] if _is_transposed(factor) else graph.call_function(th.ops.aten.transpose.int, (factor, 1, 2))
            for factor in product.args
        )
        new = graph.call_function(th.ops.aten.bmm.default, (b, a))
    node.replace_all_uses_with(new)
    return new


def _does_nothing(node: fx.Node, source: fx.Node) -> bool:
    aten = th.ops.aten
    if node.target in (aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default):
        return True
    if node.target in (aten.mul.Scalar, aten.mul.Tensor):
        is_one = len(node.args) > 1 and isinstance(node.args[1], (int, float)) and node.args[1] == 1
        before, after = source.meta.get("tensor_meta"), node.meta.get("tensor_meta")
        # A whole number times 1.0 is none.
        return is_one and before is not None and after is not None and before.dtype == after.dtype
    if node.target in (aten.expand.default, aten.view.default, aten._unsafe_view.default):
        before, after = source.meta.get("tensor_meta"), node.meta.get("tensor_meta")
        return before is not None and after is not None and (before.shape, before.stride) == (after.shape, after.stride)
    return False


def _is_view(node: fx.Node) -> bool:
    return isinstance(node.target, th._ops.OpOverload) and any(r.alias_info for r in node.target._schema.returns)


class _Recording:
    """A recorded gradient step and where it has to be cut.

    :param module: its inputs are the leaves of ``spec``; it returns the gradients of all updates, then the metrics
    :param spec: of the step's inputs and, for each update, what it has updated
    :param owned: the parameters of each update
    :param trained: which of them have a gradient
    :param metric_names: what is logged
    """

    def __init__(
        self,
        module: fx.GraphModule,
        spec: pytree.TreeSpec,
        owned: list[list[str]],
        trained: list[list[int]],
        metric_names: list[str],
    ):
        self._module = module
        self._nodes = [node for node in module.graph.nodes if node.op != "output"]
        placeholders = [node for node in self._nodes if node.op == "placeholder"]
        inputs, self._updated = pytree.tree_unflatten(placeholders, spec)
        self._inputs = pytree.tree_leaves(inputs)
        results = list(next(node for node in module.graph.nodes if node.op == "output").args[0])
        self._gradients = [[results.pop(0) for _ in which] for which in trained]
        self._metrics = dict(zip(metric_names, results, strict=True))
        self._trained = trained
        named = {**inputs.parameters, **inputs.attributes}
        # An update is in place: what it has updated is read where the input was.
        self._place = {node: named[name] for new in self._updated for name, node in new.items()}
        self._stage_of_update = self._place_updates()
        self._overwritten = {
            named[name]: stage for names, stage in zip(owned, self._stage_of_update, strict=True) for name in names
        }

    def _place_updates(self) -> list[int]:
        """The stage each update follows: the first that has all of its gradients, and not before its predecessor's."""
        ready: dict[fx.Node, int] = {}
        stages: list[int] = []
        for gradients, new in zip(self._gradients, self._updated, strict=True):
            self._level = self._levels(ready)
            stages.append(max([0, *stages[-1:], *(self._level[node] for node in gradients)]))
            ready.update(dict.fromkeys(new.values(), stages[-1] + 1))
        self._level = self._levels(ready)
        return stages

    def _levels(self, ready: dict[fx.Node, int]) -> dict[fx.Node, int]:
        """The first stage at which a value can be known."""
        levels: dict[fx.Node, int] = {}
        for node in self._nodes:
            levels[node] = max([ready.get(node, 0), *(levels[source] for source in node.all_input_nodes)])
        return levels

    def _is_overwritten_before(self, source: fx.Node, stage: int) -> bool:
        if source in self._place:
            return False
        while _is_view(source):
            source = source.args[0]
        return self._overwritten.get(source, stage) < stage

    def stages(self) -> list[Stage]:
        """The step, cut."""
        # The loss of a frozen network is logged, too, and may come after the last step.
        n_stages = 1 + max([*self._stage_of_update, *(self._level[node] for node in self._metrics.values())])
        needs: list[list[fx.Node]] = [[] for _ in range(n_stages)]
        for node in self._nodes:
            stage = self._level[node]
            for source in node.all_input_nodes:
                earlier = source.op == "call_function" and self._level[source] < stage
                if (earlier or self._is_overwritten_before(source, stage)) and source not in needs[stage]:
                    needs[stage].append(source)
        for gradients, stage in zip(self._gradients, self._stage_of_update, strict=True):
            # An update waits for its predecessors, though its gradients may not depend on them.
            needs[stage] += [g for g in dict.fromkeys(gradients) if self._level[g] < stage and g not in needs[stage]]
        wanted = [node for nodes in needs for node in nodes]
        saves = [[n for n in dict.fromkeys(wanted) if self._level[n] == stage] for stage in range(n_stages)]
        order = [node for nodes in saves for node in nodes]
        return [
            Stage(
                self._build(stage, needs[stage], saves[stage]),
                [order.index(node) for node in needs[stage]],
                [(index, self._trained[index]) for index, at in enumerate(self._stage_of_update) if at == stage],
                [name for name, node in self._metrics.items() if self._level[node] == stage],
            )
            for stage in range(n_stages)
        ]

    def _build(self, stage: int, needs: list[fx.Node], saves: list[fx.Node]) -> fx.GraphModule:
        graph, copies = fx.Graph(), {}
        for index, node in enumerate(self._inputs):
            copies[node] = graph.placeholder(f"input_{index}")
        copies.update({node: copies[original] for node, original in self._place.items()})
        for index, node in enumerate(needs):
            copies[node] = graph.placeholder(f"saved_{index}")
        for node in self._nodes:
            if node.op == "get_attr" or (node.op == "call_function" and self._level[node] == stage):
                copies[node] = graph.node_copy(node, copies.__getitem__)
        gradients = [nodes for nodes, at in zip(self._gradients, self._stage_of_update, strict=True) if at == stage]
        metrics = [node for node in self._metrics.values() if self._level[node] == stage]
        # A view of what an update is about to change is kept as it is now.
        kept = [
            graph.call_function(th.ops.aten.clone.default, (copies[node],))
            if self._is_overwritten_before(node, len(self._stage_of_update))
            else copies[node]
            for node in saves
        ]
        graph.output([*(copies[node] for nodes in gradients for node in nodes), *(copies[n] for n in metrics), *kept])
        graph.eliminate_dead_code()
        return fx.GraphModule(self._module, graph)
