"""The parameters of several models in common storage, of which the models' own are views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter, is_, methodcaller
from typing import Any

import torch as th

from sb3_entropic.engine.denormals import denormals_as_zero
from sb3_entropic.engine.support import NOT_REPLACED, OF_POLICY, are_replaced, hooks_of, hooks_of_parameter
from sb3_entropic.engine.trace import Tensors
from sb3_entropic.updates import Update

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of a parameter."""
_REQUIRES_GRAD = attrgetter("requires_grad")
_EACH_MOMENT = [methodcaller("get", name) for name in MOMENTS]


class AdamStack:
    """The Adam of one update in every model of a stack, stepped for all of them at once.

    :param stack: holds the parameters
    :param updates: the same update of every model
    """

    def __init__(self, stack: Stack, updates: list[Update]):
        first = updates[0]
        self.names = [stack.name_of(0, parameter) for parameter in first.parameters]
        self.optimizers = [update.optimizer for update in updates]
        self._parameters = [stack.tensors[name] for name in self.names]
        self._settings = first.settings
        self._options = {
            "beta1": self._settings["betas"][0],
            "beta2": self._settings["betas"][1],
            "eps": self._settings["eps"],
            "weight_decay": self._settings["weight_decay"],
            "amsgrad": False,
            "maximize": False,
        }
        self._decoupled = self._settings["decoupled_weight_decay"]
        self._first = [th.zeros_like(parameter) for parameter in self._parameters]
        self._second = [th.zeros_like(parameter) for parameter in self._parameters]
        self.steps = th.zeros(len(updates), len(self.names))
        """How many steps each model has taken with each parameter, ``(n_models, n_parameters)``, on the CPU."""
        self.which = list(range(len(self.names)))
        """Positions of the parameters that receive a gradient; the others stay."""
        self._moving, self._alike = list(range(len(updates))), True
        self._bound: list[Any] = [None] * len(updates)
        self._moments: list[list[Any]] = [[] for _ in updates]
        self._trained = [_trained(update) for update in updates]
        for index, update in enumerate(updates):
            self._bind(index, update)

    def _bind(self, index: int, update: Update) -> None:
        optimizer = update.optimizer
        own = zip(update.parameters, self.steps[index], self._first, self._second, strict=True)
        for parameter, steps, first, second in own:
            state = optimizer.state[parameter]
            if state:
                first[index].copy_(state["exp_avg"])
                second[index].copy_(state["exp_avg_sq"])
                steps.fill_(float(state["step"]))
            state.update(step=steps, exp_avg=first[index], exp_avg_sq=second[index])
        self._bound[index] = optimizer.state
        self._moments[index] = [*_moments(optimizer)]

    def is_bound(self) -> bool:
        """Whether the optimisers' moments are still views of these; loading an optimiser's state ends that."""
        pairs = zip(self.optimizers, self._bound, strict=True)
        return all(state is None or optimizer.state is state for optimizer, state in pairs)

    def is_of(self, index: int, update: Update) -> bool:
        """Whether a model's update still is this one: by the same optimiser, set alike, of the same parameters."""
        if update.optimizer is not self.optimizers[index] or _trained(update) != self._trained[index]:
            return False
        if "step" in vars(update.optimizer):
            return False
        group = update.optimizer.param_groups[0]
        alike = all(group[name] == value for name, value in self._settings.items())
        return alike and _are_same(_moments(update.optimizer), self._moments[index])

    def unbind(self, index: int) -> None:
        """Give one model moments of its own."""
        self._bound[index] = None
        for state in self.optimizers[index].state.values():
            for name in state.keys() & MOMENTS:
                state[name] = state[name].clone()

    def count(self, learning_rates: list[float], models: list[int] | None = None) -> bool:
        """Count the step that is to come; returns whether it is the same one, with the same learning rate, in every model.

        :param learning_rates: of every model
        :param models: those that take the step; ``None`` for all
        """
        n_models = len(learning_rates)
        self._moving = list(range(n_models)) if models is None else models
        if len(self._moving) == n_models and len(self.which) == len(self.names):
            self.steps += 1
        else:
            self.steps[th.tensor(self._moving).unsqueeze(1), self.which] += 1
        steps = self.steps.tolist()
        alike = all(own == steps[0] for own in steps) and len(set(learning_rates)) == 1
        self._alike = len(self._moving) == n_models and alike
        return self._alike

    def step(self, gradients: list[th.Tensor], steps: th.Tensor, rates: th.Tensor) -> None:
        """The step of Adam that was counted, in every model with its own learning rate.

        :param gradients: of the parameters that receive one, ``(n_models, ...)`` each
        :param steps: what is counted, ``(n_models, n_parameters)``, where the parameters are
        :param rates: the learning rates, ``(n_models,)``, likewise
        """
        if not self.which:
            return
        # The fused step walks through memory.
        gradients = [gradient.contiguous() for gradient in gradients]
        chosen = ([values[i] for i in self.which] for values in (self._parameters, self._first, self._second))
        parameters, first, second = chosen
        if self._alike:
            self._fused(parameters, gradients, first, second, steps[0], rates[0])
            return
        for index in self._moving:
            rows = ([value[index] for value in values] for values in (parameters, gradients, first, second))
            self._fused(*rows, steps[index], rates[index])

    def _fused(self, parameters: Any, gradients: Any, first: Any, second: Any, steps: th.Tensor, rate: th.Tensor) -> None:
        function, each = th._fused_adamw_ if self._decoupled else th._fused_adam_, steps.unbind()
        with denormals_as_zero():
            function(parameters, gradients, first, second, [], [each[i] for i in self.which], lr=rate, **self._options)


def _trained(update: Update) -> tuple[list[int], list[bool]]:
    parameters = [*chain.from_iterable(group["params"] for group in update.optimizer.param_groups)]
    return [*map(id, parameters)], [*map(_REQUIRES_GRAD, parameters)]


def _moments(optimizer: th.optim.Optimizer) -> Iterator[Any]:
    """What an optimiser keeps of its parameters, and where."""
    states = optimizer.state.values()
    return chain(states, *(map(moment, states) for moment in _EACH_MOMENT))


def _holders(policy: th.nn.Module) -> list[dict[str, Any]]:
    """Where each module holds others, parameters and buffers, if it does."""
    kinds = attrgetter("_modules", "_parameters", "_buffers")
    holders = chain.from_iterable(map(kinds, policy.modules()))
    return [*filter(None, holders)]


def _held(holders: list[dict[str, Any]]) -> Iterator[Any]:
    return chain.from_iterable(map(dict.values, holders))


def _are_same(found: Iterable[Any], kept: list[Any]) -> bool:
    """Whether these are the very objects that were kept."""
    found = [*found]
    return len(found) == len(kept) and all(map(is_, found, kept))


class Stack:
    """Common storage of the parameters and Adam moments of models that are alike.

    While it is bound, every model's parameters are views of it: ``predict``, ``state_dict`` and ``load_state_dict``
    work on the truth.

    :param models: of one class, with networks of one shape
    """

    def __init__(self, models: list[Any]):
        self._models = models
        self._names = [{id(p): name for name, p in model.policy.named_parameters()} for model in models]
        self._holders = [_holders(model.policy) for model in models]
        self._modules = [[*model.policy.modules()] for model in models]
        self._parts = [[*_held(holders)] for holders in self._holders]
        self._hooks = [hooks_of(model) for model in models]
        self._aliases = [{n: part for n, part in vars(model).items() if isinstance(part, th.nn.Module)} for model in models]
        self.parameters: Tensors = {
            name: th.stack([dict(model.policy.named_parameters())[name].detach() for model in models])
            for name, _ in models[0].policy.named_parameters()
        }
        """``(n_models, ...)`` each, by their names in the policy."""
        self.attributes: Tensors = {}
        """The same of tensors that are attributes of the algorithm itself, such as ``log_ent_coef``."""
        for name, value in vars(models[0]).items():
            if isinstance(value, th.Tensor):
                self.attributes[name] = th.stack([getattr(model, name).detach() for model in models])
                for names, model in zip(self._names, models, strict=True):
                    names[id(getattr(model, name))] = name
        self.tensors: Tensors = {**self.parameters, **self.attributes}
        self._views: list[list[th.Tensor]] = []
        self.optimizers: list[AdamStack] = []
        """One for each update, in order."""
        self._bind()
        try:
            for updates in zip(*(model.updates() for model in models), strict=True):
                self.optimizers.append(AdamStack(self, list(updates)))
        except Exception:
            for index in range(len(models)):
                self.unbind(index)
            raise

    def name_of(self, index: int, parameter: th.Tensor) -> str:
        """What a model's parameter is called in :attr:`tensors`."""
        return self._names[index][id(parameter)]

    def _own(self, index: int) -> list[tuple[str, th.Tensor]]:
        model = self._models[index]
        attributes = [(name, getattr(model, name)) for name in self.attributes]
        return [*model.policy.named_parameters(), *attributes]

    def _bind(self) -> None:
        self._views = []
        for index in range(len(self._models)):
            own = self._own(index)
            for name, tensor in own:
                tensor.data = self.tensors[name][index]
            self._views.append([tensor for _, tensor in own])
        self._note_pointers()

    def _note_pointers(self) -> None:
        self._watched = [tensor for views in self._views for tensor in views]
        self._pointers = [tensor.data_ptr() for tensor in self._watched]

    def is_bound(self) -> bool:
        """Whether the models' tensors are still views; a change of dtype or a loaded optimiser state ends that."""
        bound = [tensor.data_ptr() for tensor in self._watched] == self._pointers
        return bound and self._holds_attributes() and all(optimizer.is_bound() for optimizer in self.optimizers)

    def is_trained(self) -> bool:
        """Whether the models' networks and updates are still those of the stack."""
        live = [index for index, views in enumerate(self._views) if views]
        if not all(self._has_parts(index) for index in live):
            return False
        return all(
            optimizer.is_of(index, update)
            for index in live
            for optimizer, update in zip(self.optimizers, self._models[index].updates(), strict=True)
        )

    def _has_parts(self, index: int) -> bool:
        """Whether a model's networks still consist of the same modules and parameters, down to the last."""
        model = self._models[index]
        if are_replaced(NOT_REPLACED, model) or any(are_replaced(OF_POLICY, module) for module in self._modules[index]):
            return False
        own = vars(model)
        same = all(own.get(name) is module for name, module in self._aliases[index].items())
        return same and _are_same(_held(self._holders[index]), self._parts[index]) and not self._has_hooks(index)

    def _has_hooks(self, index: int) -> bool:
        """Whether something is to be called that a recorded step does not call."""
        return any(self._hooks[index]) or any(map(any, map(hooks_of_parameter, self._views[index])))

    def _holds_attributes(self) -> bool:
        """Whether the algorithms' own tensors are those that were bound, and not others in their place."""
        n_own = len(self.attributes)
        return all(
            getattr(model, name) is tensor
            for model, views in zip(self._models, self._views, strict=True)
            if views
            for name, tensor in zip(self.attributes, views[len(views) - n_own :], strict=True)
        )

    def unbind(self, index: int) -> None:
        """Give one model storage of its own; what is left of it in the stack is no longer looked at."""
        self._views[index] = []
        self._note_pointers()
        for _, tensor in self._own(index):
            tensor.data = tensor.data.clone()
        for optimizer in self.optimizers:
            optimizer.unbind(index)
