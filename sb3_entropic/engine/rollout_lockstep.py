"""The lockstep of on-policy algorithms: collect a rollout, and pass over it in minibatches."""

from __future__ import annotations

import numpy as np
import torch as th

from sb3_entropic.engine.lockstep import Lockstep
from sb3_entropic.engine.rollout_runner import RolloutRunner
from sb3_entropic.engine.rollouts import StackedRollouts
from sb3_entropic.engine.runner import check_numbers
from sb3_entropic.engine.step import StackedStep
from sb3_entropic.engine.support import OF_ROLLOUTS, are_replaced
from sb3_entropic.engine.trace import Tensors


class MinibatchStep(StackedStep):
    """A gradient step in which not every model has to take part."""

    def evaluate(self, batch: Tensors) -> tuple[list[th.Tensor], dict[str, th.Tensor]]:
        """The gradients of every model, and what the loss has to say, ``(n_models,)`` each."""
        (recorded,) = self._stages
        values = [*self._fixed, *batch.values()]
        if recorded.function is None:
            recorded.function = self._finished(recorded.stage.function, values)
        results = list(recorded.function(*values))
        ((_, which),) = recorded.stage.gradients
        return results[: len(which)], dict(zip(recorded.stage.metrics, results[len(which) :], strict=True))

    def descend(self, gradients: list[th.Tensor], learning_rates: list[float], models: list[int] | None) -> None:
        """Let the optimisers of some of the models take their steps, or of all."""
        (optimizer,) = self.stack.optimizers
        optimizer.count(learning_rates, models)
        optimizer.step(gradients, optimizer.steps, self._as_rates(learning_rates))


class RolloutLockstep(Lockstep):
    """Of on-policy algorithms, which learn from the rollout they have just collected."""

    runner_class = RolloutRunner

    _iteration = 0
    """How many rollouts there were."""

    def _prepare(self) -> None:
        model = self._template
        self._buffers, self._samples = [each.rollout_buffer for each in self._models], model.samples
        self._rollouts = StackedRollouts(self._buffers, self._samples)
        self._batch_size = min(model.batch_size, self._rollouts.n_rows)

    def _is_prepared(self) -> bool:
        model = self._template
        pairs = [(self._models[index].rollout_buffer, self._buffers[index]) for index in self._live()]
        same = all(buffer is kept and not are_replaced(OF_ROLLOUTS, buffer) for buffer, kept in pairs)
        size = min(model.batch_size, self._rollouts.n_rows)
        return same and (model.samples, size) == (self._samples, self._batch_size)

    def _stack(self) -> StackedStep:
        self._template.the_update()
        batch = self._rollouts.gather(np.zeros((len(self._models), self._batch_size), dtype=np.int64))
        return MinibatchStep(self._models, self.compiled, self._generators, batch, self._template.samples)

    def _rollout_steps(self) -> int:
        return self._template.n_steps

    def _collect(self) -> None:
        steps = self._rollout_steps()
        self._begin()
        for step in range(steps):
            if not self._live():
                break
            self._explore_anew_at(step)
            if not self._step.stack.is_bound():
                self._keep_up()
                if not self._live():
                    break
            self._act_and_step()
        self._iteration += 1
        self._each(lambda index, runner: runner.finish(self._iteration))

    def _act_and_step(self) -> None:
        seen = self._observations()
        if not self._live():
            return
        chosen = self._step.act(seen)
        taken: dict[int, np.ndarray] = {}

        def send(index: int, runner: RolloutRunner) -> None:
            check_numbers(runner.model, chosen[2][index])
            taken[index] = runner.clipped(chosen[0][index])
            runner.send(taken[index])

        self._step_environments(send, lambda index, runner: runner.act(taken[index], *(values[index] for values in chosen)))

    def _update(self) -> None:
        """SB3's ``train`` of every model."""
        self._keep_up(trains=True)
        if not self._live():
            return
        rates, moving = self._learning_rates(), self._live()
        if not moving:
            return
        rows = np.zeros((len(self._models), self._rollouts.n_rows), dtype=np.int64)
        logged: list[dict[str, th.Tensor]] = []
        steps, epoch_began = [0] * len(self._models), [0] * len(self._models)
        for index in moving:
            self._models[index].policy.set_training_mode(True)
            self._rollouts.fill(index)
        for epoch in range(self._template.n_epochs):
            for index in moving:
                self._runners[index].streams.enter()
                rows[index] = np.random.permutation(self._rollouts.n_rows)
                epoch_began[index] = steps[index]
                self._models[index]._n_updates += 1
            for begin in range(0, self._rollouts.n_rows, self._batch_size):
                gradients, metrics = self._step.evaluate(self._rollouts.gather(rows[:, begin : begin + self._batch_size]))
                logged.append(metrics)
                for index in moving:
                    steps[index] += 1
                if self._template.target_kl is not None:
                    divergences = metrics["approx_kl"].tolist()
                    moving = [i for i in moving if not self._models[i].has_moved_too_far(divergences[i], epoch)]
                    if not moving:
                        break
                # What has left the stack may move along, since nobody looks at it any more.
                self._step.descend(gradients, rates, None if moving == self._live() else moving)
            if not moving:
                break
        names, table = list(logged[0]), th.stack([th.stack(list(metrics.values())) for metrics in logged]).double()

        def learned(index: int, runner: RolloutRunner) -> None:
            own = table[: steps[index], :, index]
            parts = (own, own[epoch_began[index] :])
            means, of_epoch = (dict(zip(names, part.mean(dim=0).tolist(), strict=True)) for part in parts)
            last = {"approx_kl": of_epoch["approx_kl"]} if "approx_kl" in names else {}
            metrics = {**means, **last, "loss": own[-1, names.index("loss")].item()}
            self._check_finite(runner.model, metrics)
            runner.learned(metrics, index not in moving)

        self._each(learned)
