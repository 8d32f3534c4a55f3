"""The lockstep of off-policy algorithms."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from sb3_entropic.engine.lockstep import Lockstep
from sb3_entropic.engine.loggers import prepared
from sb3_entropic.engine.place import place_of
from sb3_entropic.engine.replay import pack
from sb3_entropic.engine.runner import Runner
from sb3_entropic.engine.step import StackedStep
from sb3_entropic.engine.streams import Streams
from sb3_entropic.engine.support import why_not_replay


class ReplayLockstep(Lockstep):
    """Of off-policy algorithms, which learn from batches of their replay buffers."""

    def __init__(self, models: list[Any], streams: list[Streams], compiled: bool):
        self._logged: set[int] = set()
        self._trained_at: list[float] = []
        self._rates: list[float] = []
        super().__init__(models, streams, compiled)

    def _prepare(self) -> None:
        self._buffers = [model.replay_buffer for model in self._models]
        self._replay = pack(self._buffers, place_of(self._template.device))
        self._rows = np.zeros((len(self._models), self._template.batch_size), dtype=np.int64)
        self._batch = self._replay.gather(self._rows)

    def _is_prepared(self) -> bool:
        live = [(self._models[index], self._buffers[index]) for index in self._live()]
        same = all(model.replay_buffer is buffer and why_not_replay(model) is None for model, buffer in live)
        return same and self._replay.follow(self._live()) and self._template.batch_size == self._rows.shape[1]

    def _stack(self) -> StackedStep:
        return StackedStep(self._models, self.compiled, self._generators, self._batch)

    def _rollout_steps(self) -> int:
        return self._template.train_freq.frequency

    def _collect(self) -> None:
        steps = self._rollout_steps()
        self._begin()
        for step in range(steps):
            if not self._live():
                break
            self._explore_anew_at(step)
            self._act_and_step()
        self._replay.wrote(steps)
        self._each(lambda index, runner: runner.callback.on_rollout_end())

    def _act_and_step(self) -> None:
        self._keep_up()
        at_random = [True] * len(self._runners)
        of_policy: Any = None
        taken: dict[int, tuple[np.ndarray, np.ndarray]] = {}

        def choose(index: int, runner: Runner) -> None:
            at_random[index] = runner.chooses_at_random()

        def send(index: int, runner: Runner) -> None:
            taken[index] = runner.actions(None if at_random[index] else of_policy[index])
            runner.send(taken[index][0])

        self._each(choose)
        if not all(at_random) and self._live():
            seen = self._observations()
            if not self._live():
                return
            (of_policy,) = self._step.act(seen)
        self._step_environments(send, lambda index, runner: runner.step(*taken[index]))

    def _update(self) -> None:
        self._keep_up(trains=True)
        if not self._live():
            return
        model = self._template
        if model.num_timesteps > model.learning_starts:
            collected = model.train_freq.frequency * model.n_envs
            self._train(model.gradient_steps if model.gradient_steps >= 0 else collected)

    def _train(self, gradient_steps: int) -> None:
        def draw(index: int, runner: Runner) -> None:
            self._rows[index] = self._replay.draw(index, runner.model.batch_size)

        rates = self._rates = self._learning_rates()
        if not self._live():
            return
        self._trained_at = [runner.model._current_progress_remaining for runner in self._runners]
        for gradient_step in range(gradient_steps):
            self._each(draw)
            self._batch = self._replay.gather(self._rows)
            self._step.train(gradient_step, self._batch, rates)
        self._logged.clear()
        for index in self._live():
            self._models[index]._n_updates += gradient_steps

    def learn(self, runners: list[Runner], total_timesteps: int) -> None:
        """See :class:`Lockstep`."""
        models, self._prepared = self._models, {}
        with ExitStack() as self._loggers:
            try:
                for model, runner in zip(models, runners, strict=True):
                    _learning[model] = self
                    # One whose first reset has raised has no logger.
                    if not runner.stopped:
                        self.prepare_logger(model)
                super().learn(runners, total_timesteps)
            finally:
                for model in models:
                    _learning.pop(model, None)

    def prepare_logger(self, model: Any) -> None:
        """Let the logger that a model has now be handed what is kept for it before it writes."""
        if self._prepared.get(model) is not model.logger:
            self._prepared[model] = model.logger
            self._loggers.enter_context(prepared(model.logger, partial(record_metrics, model)))

    def record_metrics(self, model: Any) -> None:
        """Hand the logger what the last gradient steps of a model are to log, once."""
        for index in self._live():
            if self._models[index] is model:
                self._log(index)

    def _log(self, index: int) -> None:
        """Record what the last gradient steps are to log, which SB3 does after every one of them."""
        model, metrics = self._models[index], self._step.metrics()[index]
        if index in self._logged or not metrics:
            return
        self._logged.add(index)
        self._check_finite(model, metrics)
        batch = self._step.layout.batch_of({name: values[index] for name, values in self._batch.items()})
        # Schedules have moved on since.
        now, model._current_progress_remaining = model._current_progress_remaining, self._trained_at[index]
        try:
            last = model.after_training(model.make_networks(), batch)
        finally:
            model._current_progress_remaining = now
        model.logger.record("train/learning_rate", self._rates[index])
        model.logger.record("train/n_updates", model._n_updates, exclude="tensorboard")
        for name, value in {**metrics, **{name: value.item() for name, value in last.items()}}.items():
            model.logger.record(f"train/{name}", value)


_learning: WeakKeyDictionary[Any, ReplayLockstep] = WeakKeyDictionary()
"""What lets a model learn; kept apart from the model, which may be copied and pickled meanwhile."""


def record_metrics(model: Any) -> None:
    """Hand the logger what the last gradient steps of a model are to log, if the fast engine takes them."""
    if model in _learning:
        _learning[model].record_metrics(model)


def prepare_logger(model: Any) -> None:
    """Let the logger that a model has been given be told before it writes, if the fast engine lets the model learn."""
    if model in _learning:
        _learning[model].prepare_logger(model)
