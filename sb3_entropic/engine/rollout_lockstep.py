"""The loop of on-policy algorithms: collect a rollout, and pass over it in minibatches."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import obs_as_tensor

from sb3_entropic.engine.lockstep import Lockstep
from sb3_entropic.engine.runner import Runner
from sb3_entropic.engine.step import StackedStep
from sb3_entropic.engine.support import OF_ROLLOUTS, are_replaced
from sb3_entropic.engine.trace import Tensors

SOURCES = {"old_values": "values", "old_log_prob": "log_probs"}
"""What fields of a minibatch are called in the rollout buffer, where that is another name."""

ROW = np.float32
"""What a minibatch is made of, as in SB3."""


class RolloutRunner(Runner):
    """One model's part of a rollout: SB3's ``collect_rollouts``, a step at a time."""

    shown = ("rollout_buffer",)
    locals_at_start: ClassVar = {"iteration": 0}
    locals_of_rollout: ClassVar = {}

    def begin(self) -> None:
        """Empty the buffer and tell the callback."""
        self.model.policy.set_training_mode(False)
        self.model.rollout_buffer.reset()
        self._locals["n_rollout_steps"] = self.model.n_steps
        super().begin()

    def clipped(self, actions: np.ndarray) -> np.ndarray:
        """The policy's actions, ``(n_envs, ...)``, as the environments are given them."""
        space = self.model.action_space
        return np.clip(actions.reshape(-1, *space.shape), space.low, space.high) if isinstance(space, spaces.Box) else actions

    def act(self, clipped: np.ndarray, actions: np.ndarray, values: np.ndarray, log_probs: np.ndarray) -> None:
        """Step the environments with the policy's actions and store what happened, in SB3's order.

        :param clipped: by :meth:`clipped`, which were sent
        :param actions: ``(n_envs, ...)``
        :param values: of the states, ``(n_envs,)``, as are ``log_probs``
        """
        model, buffer = self.model, self.model.rollout_buffer
        if isinstance(model.action_space, spaces.Box):
            actions = actions.reshape(-1, *model.action_space.shape)
        # Callbacks find what SB3 has here, which are tensors.
        seen_by_policy, column = th.from_numpy(model._last_obs), th.from_numpy(values).unsqueeze(-1)
        shown = {"actions": actions, "clipped_actions": clipped, "obs_tensor": seen_by_policy, "values": column}
        shown["log_probs"] = th.from_numpy(log_probs)
        if (seen := self._advance(clipped, **shown, n_steps=buffer.pos)) is None:
            return
        new_obs, rewards, dones, infos = seen
        for index in np.flatnonzero(dones):
            if infos[index].get("TimeLimit.truncated", False) and infos[index].get("terminal_observation") is not None:
                last = model.policy.obs_to_tensor(infos[index]["terminal_observation"])[0]
                rewards[index] += model.gamma * self._values_of(last).item()
        position = buffer.pos
        buffer.observations[position] = model._last_obs
        buffer.actions[position] = actions.reshape(buffer.n_envs, buffer.action_dim)
        buffer.rewards[position] = rewards
        buffer.episode_starts[position] = model._last_episode_starts
        buffer.values[position] = values
        buffer.log_probs[position] = log_probs
        buffer.pos = position + 1
        buffer.full = buffer.pos == buffer.buffer_size
        model._last_obs, model._last_episode_starts = new_obs, dones

    def finish(self, iteration: int) -> None:
        """Estimate the advantages, tell the callback and write the log.

        :param iteration: how many rollouts this ``learn`` has collected
        """
        model = self.model
        last_values = self._values_of(obs_as_tensor(model._last_obs, model.device))
        model.rollout_buffer.compute_returns_and_advantage(last_values, model._last_episode_starts)
        self._locals.update(values=last_values, n_steps=model.n_steps)
        self.callback.update_locals(self._locals)
        self.callback.on_rollout_end()
        model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
        if self._log_interval is not None and iteration % self._log_interval == 0:
            model.dump_logs(iteration)

    def learned(self, metrics: dict[str, float], stopped_early: bool) -> None:
        """Hand what an update came to to the model.

        :param stopped_early: whether it ended where the policy had moved too far
        """
        self.model.logger.record("train/learning_rate", self.learning_rate())
        self.model.finish_update(metrics, stopped_early)

    def _values_of(self, observations: th.Tensor) -> th.Tensor:
        with th.no_grad():
            return self.model.policy.predict_values(observations)


class StackedRollouts:
    """The steps of several of SB3's rollout buffers as rows, of which a minibatch is one gather.

    :param buffers: of one shape
    :param samples: the class of a minibatch, which names its fields
    """

    def __init__(self, buffers: list[Any], samples: type):
        first, self._words, width = buffers[0], {}, 0
        shapes = {"observations": first.obs_shape, "actions": (first.action_dim,)}
        for name in samples._fields:
            shape = shapes.get(name, ())
            self._words[name] = (slice(width, width + math.prod(shape)), shape)
            width += math.prod(shape)
        self.n_rows = first.buffer_size * first.n_envs
        self._buffers = buffers
        self._rows = np.zeros((len(buffers), self.n_rows, width), dtype=ROW)

    def fill(self, index: int) -> None:
        """Take over the rollout of one buffer, its steps in the order in which SB3 draws from them."""
        buffer = self._buffers[index]
        for name, (words, _) in self._words.items():
            array = getattr(buffer, SOURCES.get(name, name))
            # Whoever has asked the buffer for its steps has had it put them in this order.
            in_order = array if buffer.generator_ready else array.swapaxes(0, 1)
            self._rows[index, :, words] = in_order.reshape(self.n_rows, -1)

    def gather(self, rows: np.ndarray) -> Tensors:
        """Minibatches of all buffers.

        :param rows: ``(n_buffers, batch)``
        :return: by the names of a minibatch's fields, ``(n_buffers, batch, ...)``
        """
        offsets = self.n_rows * np.arange(len(rows))[:, None]
        table = th.from_numpy(self._rows).view(-1, self._rows.shape[2])
        found = table.index_select(0, th.from_numpy((rows + offsets).ravel())).view(*rows.shape, -1)
        return {name: found[..., words].reshape(*rows.shape, *shape) for name, (words, shape) in self._words.items()}


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
            taken[index] = runner.clipped(chosen[0][index])
            runner.send(taken[index])

        self._step_environments(send, lambda index, runner: runner.act(taken[index], *(values[index] for values in chosen)))

    def _update(self) -> None:
        """SB3's ``train`` of every model."""
        self._keep_up(trains=True)
        if not self._live():
            return
        moving, rates = self._live(), [runner.learning_rate() for runner in self._runners]
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
            means, of_epoch = own.mean(dim=0).tolist(), own[epoch_began[index] :].mean(dim=0).tolist()
            last = {"approx_kl": of_epoch[names.index("approx_kl")], "loss": own[-1, names.index("loss")].item()}
            metrics = {**dict(zip(names, means, strict=True)), **last}
            self._check_finite(runner.model, metrics)
            runner.learned(metrics, index not in moving)

        self._each(learned)
