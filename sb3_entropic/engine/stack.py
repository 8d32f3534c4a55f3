"""The parameters of several models in common storage, of which the models' own are views."""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_entropic.engine.denormals import denormals_as_zero
from sb3_entropic.engine.trace import Tensors
from sb3_entropic.updates import Update


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
        group = first.optimizer.param_groups[0]
        self._options = {
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "amsgrad": False,
            "maximize": False,
        }
        self._decoupled = isinstance(first.optimizer, th.optim.AdamW)
        self._first = [th.zeros_like(parameter) for parameter in self._parameters]
        self._second = [th.zeros_like(parameter) for parameter in self._parameters]
        self.steps = th.zeros(len(updates))
        """How many steps each model has taken, ``(n_models,)``, on the CPU."""
        self._moving, self._alike = list(range(len(updates))), True
        self._bound: list[Any] = [None] * len(updates)
        for index, update in enumerate(updates):
            self._bind(index, update)

    def _bind(self, index: int, update: Update) -> None:
        optimizer = update.optimizer
        for parameter, first, second in zip(update.parameters, self._first, self._second, strict=True):
            state = optimizer.state[parameter]
            if state:
                first[index].copy_(state["exp_avg"])
                second[index].copy_(state["exp_avg_sq"])
                self.steps[index] = float(state["step"])
            state.update(step=self.steps[index], exp_avg=first[index], exp_avg_sq=second[index])
        self._bound[index] = optimizer.state

    def is_bound(self) -> bool:
        """Whether the optimisers' moments are still views of these; loading an optimiser's state ends that."""
        pairs = zip(self.optimizers, self._bound, strict=True)
        return all(state is None or optimizer.state is state for optimizer, state in pairs)

    def unbind(self, index: int) -> None:
        """Give one model moments of its own."""
        self._bound[index] = None
        for state in self.optimizers[index].state.values():
            for name in ("step", "exp_avg", "exp_avg_sq"):
                state[name] = state[name].clone()

    def count(self, learning_rates: list[float], models: list[int] | None = None) -> bool:
        """Count the step that is to come; returns whether it is the same one, with the same learning rate, in every model.

        :param learning_rates: of every model
        :param models: those that take the step; ``None`` for all
        """
        self._moving = list(range(len(learning_rates))) if models is None else models
        self.steps[self._moving] += 1
        pairs = set(zip(self.steps.tolist(), learning_rates, strict=True))
        self._alike = len(self._moving) == len(learning_rates) and len(pairs) == 1
        return self._alike

    def step(self, gradients: list[th.Tensor], which: list[int], steps: th.Tensor, rates: th.Tensor) -> None:
        """The step of Adam that was counted, in every model with its own learning rate.

        :param gradients: ``(n_models, ...)`` each
        :param which: the parameters they belong to; the others receive none and stay
        :param steps: what is counted, ``(n_models,)``, where the parameters are
        :param rates: the learning rates, likewise
        """
        if not which:
            return
        # The fused step walks through memory.
        gradients = [gradient.contiguous() for gradient in gradients]
        parameters, first, second = ([values[i] for i in which] for values in (self._parameters, self._first, self._second))
        if self._alike:
            self._fused(parameters, gradients, first, second, steps[0], rates[0])
            return
        for index in self._moving:
            rows = ([value[index] for value in values] for values in (parameters, gradients, first, second))
            self._fused(*rows, steps[index], rates[index])

    def _fused(self, parameters: Any, gradients: Any, first: Any, second: Any, step: th.Tensor, rate: th.Tensor) -> None:
        function = th._fused_adamw_ if self._decoupled else th._fused_adam_
        with denormals_as_zero():
            function(parameters, gradients, first, second, [], [step] * len(parameters), lr=rate, **self._options)


class Stack:
    """Common storage of the parameters and Adam moments of models that are alike.

    While it is bound, every model's parameters are views of it: ``predict``, ``get_parameters`` and ``load_state_dict``
    work on the truth.

    :param models: of one class, with networks of one shape
    """

    def __init__(self, models: list[Any]):
        self._models = models
        self._names = [{id(p): name for name, p in model.policy.named_parameters()} for model in models]
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
        self._bind()
        lists = [model.updates() for model in models]
        self.optimizers = [AdamStack(self, list(updates)) for updates in zip(*lists, strict=True)]
        """One for each update, in order."""

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
        return bound and all(optimizer.is_bound() for optimizer in self.optimizers)

    def unbind(self, index: int) -> None:
        """Give one model storage of its own; what is left of it in the stack is no longer looked at."""
        self._views[index] = []
        self._note_pointers()
        for _, tensor in self._own(index):
            tensor.data = tensor.data.clone()
        for optimizer in self.optimizers:
            optimizer.unbind(index)
