"""Acting and gradient steps of a stack of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch.func import vmap

from sb3_entropic.engine.alike import is_same, taken_for_granted
from sb3_entropic.engine.compiler import compile_graph
from sb3_entropic.engine.known import is_known
from sb3_entropic.engine.place import place_of
from sb3_entropic.engine.purity import check_same, moved_on, restored_attributes, told, warm_up
from sb3_entropic.engine.stack import Stack
from sb3_entropic.engine.trace import (
    Layout,
    Stage,
    StepInputs,
    Tensors,
    run_with,
    swapped_attributes,
    trace_function,
    trace_step,
)
from sb3_entropic.updates import move_towards


class Coefficients:
    """Numbers that the losses read off the models, one for each model, followed as they change.

    A number that is 0 in every model stays one: its term is then left out of the recorded step.

    :param models: of the stack
    :param like: a parameter of the networks
    """

    def __init__(self, models: list[Any], like: th.Tensor):
        self._models = models
        self._values = [model.coefficients() for model in models]
        used = [name for name in self._values[0] if any(values[name] != 0 for values in self._values)]
        self.tensors: Tensors = {name: like.new_tensor([v[name] for v in self._values]) for name in used}

    def refresh(self) -> bool:
        """Read them again; ``False`` if a term comes into use or goes, so that the step has to be recorded anew."""
        now = [model.coefficients() for model in self._models]
        if now != self._values:
            if any(new.keys() != old.keys() for new, old in zip(now, self._values, strict=True)):
                return False
            changed = {name for new, old in zip(now, self._values, strict=True) for name in new if new[name] != old[name]}
            if not changed <= self.tensors.keys():
                return False
            for name in changed:
                self.tensors[name].copy_(self.tensors[name].new_tensor([values[name] for values in now]))
            self._values = now
        return True


class RecordingError(RuntimeError):
    """Losses that read or branch on values, or draw random numbers, cannot be recorded."""


@dataclass
class Recorded:
    """A stage, and what runs it once it is ready to."""

    stage: Stage
    function: Callable[..., Any] | None = None


class StackedStep:
    """Acts for all models of a stack and trains them, while their own parameters are views of the stack's.

    :param models: alike
    :param compiled: whether what is recorded is compiled
    :param generators: of torch's random numbers, one for each model
    :param batch: of the shapes of those to come; its values do not matter
    :param samples: the class of SB3's that a batch of one model is
    :raises RecordingError: if the losses cannot be recorded; the models are then as they were
    """

    def __init__(
        self,
        models: list[Any],
        compiled: bool,
        generators: list[th.Generator],
        batch: Tensors,
        samples: type = ReplayBufferSamples,
    ):
        self._models, self._first = models, models[0]
        self._samples = samples
        self.compiled = compiled
        """Whether it is; no longer once compiling has failed."""
        self._generators = generators
        self._place, self._device = place_of(models[0].device), models[0].device
        self._options = taken_for_granted(models[0])
        self._act: Callable[..., Any] | None = None
        space = models[0].observation_space
        self._seen = th.from_numpy(np.zeros((len(models), models[0].n_envs, *space.shape), space.dtype))
        self._metrics: list[Iterable[th.Tensor]] = []
        # Random numbers are drawn where an example is: on the CPU.
        self._example = samples(**{name: batch[name][0].cpu() for name in samples._fields if name in batch})
        try:
            self.stack = Stack(models)
            self._record_all(batch)
        except Exception as error:
            raise RecordingError(f"the losses of {type(models[0]).__name__} cannot be recorded ({told(error)})") from error

    def _record_all(self, batch: Tensors) -> None:
        policy = self._first.policy
        trains = policy.training
        try:
            self._coefficients = Coefficients(self._models, next(iter(self.stack.parameters.values())))
            self._attributes: Tensors = {**self.stack.attributes, **self._coefficients.tensors}
            self._fixed = [*self.stack.parameters.values(), *self._attributes.values()]
            self._targets = self._names_of_targets(self._first)
            with restored_attributes(self._first):
                policy.set_training_mode(False)
                self._acting = self._record_acting()
                policy.set_training_mode(True)
                self._stages = self._record(batch)
        except Exception:
            for index in range(len(self._models)):
                self.stack.unbind(index)
            raise
        finally:
            policy.set_training_mode(trains)
        gradients = [pair for recorded in self._stages for pair in recorded.stage.gradients]
        for index, which in gradients:
            self.stack.optimizers[index].which = which
        # The others have nothing to learn.
        self._stepping = [self.stack.optimizers[index] for index, which in gradients if which]

    def _record(self, batch: Tensors) -> list[Recorded]:
        # A generator of its own, so that recording draws nothing from the models'.
        noises = [self._models[0].draw_noise(self._example, th.Generator().manual_seed(0)) for _ in self._models]
        self.layout = Layout(self._samples, None if noises[0] is None else type(noises[0]))
        noise = {name: value.to(self._device) for name, value in _stacked_noise(noises).items()}
        inputs = StepInputs(self.stack.parameters, self._attributes, batch, noise)
        owned = [optimizer.names for optimizer in self.stack.optimizers]
        is_users = not is_known(type(self._models[0]))
        if is_users:
            warm_up(self._models[0], inputs, self.layout)
        stages = trace_step(self._models[0], owned, inputs, self.layout)
        if is_users:
            with moved_on(self._models[0], self._attributes):
                check_same(stages, lambda: trace_step(self._models[0], owned, inputs, self.layout))
        return [Recorded(stage) for stage in stages]

    def _record_acting(self) -> Any:
        noises = [model.acting_noise(self._seen[0], th.Generator().manual_seed(0)) for model in self._models]
        given = [self._seen] if noises[0] is None else [self._seen, _stacked(noises)]
        seen, *noise = (value.to(self._device) for value in given)
        return trace_function(vmap(self._act_of_one), self.stack.parameters, self._attributes, seen, noise)

    def _names_of_targets(self, model: Any) -> list[tuple[list[str], list[str]]]:
        name = {id(parameter): name for name, parameter in model.policy.named_parameters()}
        return [
            ([name[id(p)] for p in target.parameters()], [name[id(p)] for p in source.parameters()])
            for target, source in model.target_networks()
        ]

    def is_current(self, models: list[Any]) -> bool:
        """Whether the models' parameters are still those of the stack, and the losses made of the same terms.

        :param models: those of the stack that have not left it
        """
        self._first = models[0]
        for name, value in self._options.items():
            for model in models:
                now = getattr(model, name)
                # Most are the same object, which is all that an unchanged run has to look at.
                if now is not value and not is_same(now, value):
                    return False
        return self.stack.is_bound() and self._coefficients.refresh()

    def act(self, observations: np.ndarray) -> list[np.ndarray]:
        """What every model's ``act`` returns, ``(n_models, n_envs, ...)`` each, for observations of that shape."""
        # Environments may give other numbers than their spaces say.
        # A stack of images that were transposed keeps their order in memory, which recorded views do not take.
        seen = th.from_numpy(np.ascontiguousarray(observations)).to(self._seen.dtype)
        streams = zip(self._models, self._generators, strict=True)
        noise = _stacked([model.acting_noise(seen[0], generator) for model, generator in streams])
        values = [*self._fixed, *self._place.inputs("act", [seen] if noise is None else [seen, noise])]
        if self._act is None:
            self._act = self._finished(self._acting, values)
        return [result.cpu().numpy() for result in self._place.run("act", lambda: self._act(*values))]

    def _act_of_one(self, parameters: Tensors, attributes: Tensors, observations: th.Tensor, noise: list[th.Tensor]) -> Any:
        model, given = self._models[0], noise[0] if noise else None
        with swapped_attributes(model, attributes):
            return run_with(model.policy, parameters, lambda: model.act(model.make_networks(), observations, given))

    def train(self, gradient_step: int, batch: Tensors, learning_rates: list[float]) -> None:
        """One gradient step of every update of every model.

        :param gradient_step: how many have gone before it since the environments were last stepped
        :param batch: of :class:`sb3_entropic.engine.replay.PackedReplay`
        :param learning_rates: of every model
        """
        if gradient_step == 0:
            self._metrics.clear()
        alike = tuple(optimizer.count(learning_rates) for optimizer in self._stepping)
        noises = [self._models[0].draw_noise(self._example, generator) for generator in self._generators]
        rates, *given = self._place.inputs(
            "train",
            [
                self._as_rates(learning_rates),
                *(optimizer.steps for optimizer in self.stack.optimizers),
                *_stacked_noise(noises).values(),
            ],
        )
        steps, noise = given[: len(self.stack.optimizers)], given[len(self.stack.optimizers) :]
        values = [*self._fixed, *batch.values(), *noise]
        metrics = self._place.run("train", lambda: self._step_all(values, steps, rates), alike)
        self._metrics.append(self._place.kept(metrics))
        self._move_targets(gradient_step)

    def _step_all(self, values: list[th.Tensor], steps: list[th.Tensor], rates: th.Tensor) -> list[th.Tensor]:
        """Run the stages, with the optimisers between them; returns the metrics, ``(n_models,)`` each."""
        saved: list[th.Tensor] = []
        metrics: list[th.Tensor] = []
        for recorded in self._stages:
            stage = recorded.stage
            arguments = [*values, *(saved[index] for index in stage.saved)]
            if recorded.function is None:
                recorded.function = self._finished(stage.function, arguments)
            results = list(recorded.function(*arguments))
            for index, which in stage.gradients:
                gradients = [results.pop(0) for _ in which]
                self.stack.optimizers[index].step(gradients, steps[index], rates)
            metrics += results[: len(stage.metrics)]
            saved += results[len(stage.metrics) :]
        return metrics

    def _as_rates(self, learning_rates: list[float]) -> th.Tensor:
        # On a GPU the optimiser's kernel reads 32 bits.
        return th.tensor(learning_rates, dtype=th.float64 if self._device.type == "cpu" else th.float32)

    def _finished(self, graph: Any, examples: list[th.Tensor]) -> Callable[..., Any]:
        if self.compiled:
            compiled = compile_graph(graph, examples)
            if compiled is not None:
                return compiled
            # What has failed once is not tried again for the next graph.
            self.compiled = False
        return graph.forward

    def _move_targets(self, gradient_step: int) -> None:
        if not self._targets or gradient_step % self._first.target_update_interval != 0:
            return
        rates = [model.tau for model in self._models]
        self._place.run("targets", lambda: self._average(rates), tuple(rates))

    def _average(self, rates: list[float]) -> list[th.Tensor]:
        for names_of_target, names_of_source in self._targets:
            target = [self.stack.parameters[name] for name in names_of_target]
            source = [self.stack.parameters[name] for name in names_of_source]
            if len(set(rates)) == 1:
                move_towards(target, source, rates[0])
                continue
            for index, rate in enumerate(rates):
                move_towards([values[index] for values in target], [values[index] for values in source], rate)
        return []

    def metrics(self) -> list[dict[str, float]]:
        """Of every model, means over the gradient steps of the last :meth:`train`."""
        names = [name for recorded in self._stages for name in recorded.stage.metrics]
        if not self._metrics:
            return [{} for _ in self._models]
        means = th.stack([th.stack(tuple(values)) for values in self._metrics]).double().mean(dim=0)
        return [dict(zip(names, values, strict=True)) for values in means.T.tolist()]


def _stacked(values: list[th.Tensor | None]) -> th.Tensor | None:
    return None if values[0] is None else th.stack(values)


def _stacked_noise(noises: list[Any]) -> Tensors:
    """The fields that are given of the noise of several models."""
    if noises[0] is None:
        return {}
    stacked = (_stacked(list(values)) for values in zip(*noises, strict=True))
    return {name: value for name, value in zip(noises[0]._fields, stacked, strict=True) if value is not None}
