"""What the loops have in common in which one or several models act, store and learn step by step together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sb3_entropic.engine.alike import loops_alike, most_alike, structure
from sb3_entropic.engine.runner import Runner
from sb3_entropic.engine.step import RecordingError, StackedStep
from sb3_entropic.engine.streams import Streams
from sb3_entropic.engine.support import why_not


class Lockstep:
    """Learning of models that are alike and have taken the same number of steps.

    :param models: that :func:`sb3_entropic.engine.support.why_not` has nothing against
    :param streams: the random numbers of each
    :param compiled: whether to compile
    :raises RecordingError: if the losses cannot be recorded; the models are then as they were
    """

    runner_class: type[Runner] = Runner

    def __init__(self, models: list[Any], streams: list[Streams], compiled: bool):
        self._models = models
        self._generators = [stream.generator for stream in streams]
        self.compiled = compiled
        """Whether it is compiled; no longer once compiling has failed."""
        self._isolate = len(models) > 1
        self._runners: list[Runner] = []
        self._prepare()
        self._step = self._stack()
        self._structure = structure(models[0])

    def learn(self, runners: list[Runner], total_timesteps: int) -> None:
        """Until every model has taken ``total_timesteps``, or was stopped by its callback.

        In a stack of several a model whose environment or callback raises leaves alone, and the others go on.
        """
        self._runners = runners
        # Their first reset has raised, or their callback.
        for index in self._gone():
            self._step.stack.unbind(index)
        self._say_what_runs()
        try:
            while self._live() and self._template.num_timesteps < total_timesteps:
                self._collect()
                if self._live():
                    self._update()
        finally:
            for index in self._live():
                self._leave(index)
            self._say_what_runs()
            # Last, since it may take as long as an environment does.
            for runner in runners:
                runner.give_up()

    def release(self) -> None:
        """Give every model that has not left parameters of its own again."""
        for index in range(len(self._models)):
            self._step.stack.unbind(index)

    def _say_what_runs(self) -> None:
        self.compiled = self._step.compiled
        for model in self._models:
            model.engine_used = f"fast, {'compiled' if self.compiled else 'not compiled'}"

    def _prepare(self) -> None:
        """Take over what the models have collected."""
        raise NotImplementedError

    def _is_prepared(self) -> bool:
        """Whether that is still where the models keep it, and taken in batches of the size that is wanted."""
        raise NotImplementedError

    def _stack(self) -> StackedStep:
        """Take over their parameters."""
        raise NotImplementedError

    def _rollout_steps(self) -> int:
        """How many steps of its environments a model takes in a rollout."""
        raise NotImplementedError

    def _collect(self) -> None:
        """Collect a rollout of every model."""
        raise NotImplementedError

    def _update(self) -> None:
        """Learn from what was collected."""
        raise NotImplementedError

    def _check_finite(self, model: Any, metrics: dict[str, float]) -> None:
        """Check what a model has logged of its last update.

        :raises FloatingPointError: if a model of several has diverged, which then leaves; SB3 goes on
        """
        if self._isolate and not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"training diverged before step {model.num_timesteps}: {metrics}")

    def _begin(self) -> None:
        """Begin a rollout of every model."""
        if self._template.use_sde:
            self._explore_anew()
        self._each(lambda index, runner: runner.begin())
        if self._rollout_steps() > 1:
            # Looking costs more than one step with networks that are replaced here, which training sees.
            self._keep_up(trains=True)

    def _explore_anew_at(self, step: int) -> None:
        """Let state-dependent exploration begin anew, if it is to at this step of a rollout."""
        model = self._template
        if model.use_sde and model.sde_sample_freq > 0 and step % model.sde_sample_freq == 0:
            self._explore_anew()

    def _explore_anew(self) -> None:
        self._each(lambda index, runner: runner.model.explore_anew(runner.streams.generator))

    def _log(self, index: int) -> None:
        """Record what the last gradient steps of a model are to log, where that is not done at once."""

    @property
    def _template(self) -> Any:
        """A model that still learns, off which is read what all have in common."""
        return self._models[next(iter(self._live()), 0)]

    def _live(self) -> list[int]:
        return [index for index, runner in enumerate(self._runners) if not runner.stopped]

    def _gone(self) -> list[int]:
        return [index for index, runner in enumerate(self._runners) if runner.stopped]

    def _each(self, function: Callable[[int, Runner], Any]) -> None:
        """Call a function for every model that still learns; one that is stopped by it, or for which it raises, leaves."""
        for index, runner in enumerate(self._runners):
            if runner.stopped:
                continue
            runner.streams.enter()
            try:
                function(index, runner)
            except Exception as error:
                if not self._isolate:
                    raise
                runner.error, runner.stopped = error, True
            if runner.stopped:
                self._leave(index)

    def _learning_rates(self) -> list[float]:
        """Of every model at this point of training; one whose schedule raises leaves."""
        rates: dict[int, float] = {}

        def read(index: int, runner: Runner) -> None:
            rates[index] = runner.learning_rate()

        self._each(read)
        # Nobody looks at what has left, which moves along.
        of_gone = next((rates[index] for index in self._live()), 0.0)
        return [of_gone if runner.stopped else rates[index] for index, runner in enumerate(self._runners)]

    def _observations(self) -> np.ndarray:
        """What the models act on, ``(n_models, n_envs, ...)``; a model that has nothing to act on leaves."""
        space = self._models[0].observation_space
        shape = (self._models[0].n_envs, *space.shape)

        def check(index: int, runner: Runner) -> None:
            if np.shape(runner.model._last_obs) != shape:
                raise RuntimeError(
                    f"{type(runner.model).__name__} has no observation of shape {shape} to act on at step "
                    f"{runner.model.num_timesteps}: a callback that gives it another environment during training is to keep "
                    "the last one with set_env(env, force_reset=False)."
                )

        if any(np.shape(self._models[index]._last_obs) != shape for index in self._live()):
            self._each(check)
        nothing = np.zeros(shape, space.dtype)
        return np.stack([nothing if r.stopped else m._last_obs for m, r in zip(self._models, self._runners, strict=True)])

    def _step_environments(self, send: Callable[[int, Runner], None], step: Callable[[int, Runner], None]) -> None:
        """Let every model take a step.

        :param send: hands its actions to :meth:`Runner.send`
        :param step: takes the step that was sent and does what follows, callbacks included
        """

        def send_and_step(index: int, runner: Runner) -> None:
            send(index, runner)
            step(index, runner)

        if not any(runner.steps_apart for runner in self._runners):
            self._each(send_and_step)
            return
        self._each(send)
        # All before the first callback, which may ask any of the environments for something else.
        self._each(lambda index, runner: runner.wait())
        self._each(step)

    def _keep_up(self, trains: bool = False) -> None:
        """Stack anew if callbacks have replaced what the stack holds, or what trains it.

        Models that the fast engine does not run any more leave, and so do those that are no longer like most of the others.

        :param trains: whether to look at the networks' parts, the optimisers and the loop, too, as before a rollout and
            before training
        :raises RuntimeError: if that is said of a model that is alone
        """
        models = [self._models[index] for index in self._live()]
        if not models:
            return
        current = self._is_prepared() and self._step.is_current(models)
        if current and (not trains or (self._step.stack.is_trained() and loops_alike(models))):
            return
        # What the last gradient steps have to say is lost with their stack.
        self._each(lambda index, runner: self._log(index))
        if self._live():
            self._stack_anew()

    def _stack_anew(self) -> None:
        models, prepared = [self._models[index] for index in self._live()], self._is_prepared()
        for index in self._live():
            self._step.stack.unbind(index)
        self.compiled = self._step.compiled
        like = most_alike(models, self._structure)
        for index, model in zip(self._live(), models, strict=True):
            if (reason := why_not(model)) or model not in like:
                self._refuse(index, reason or "the others of its stack are no longer like it")
        # What has left takes no part in what is made anew.
        kept = self._live()
        if len(kept) < len(self._models):
            prepared = False
            self._models, self._generators, self._runners = (
                [each[index] for index in kept] for each in (self._models, self._generators, self._runners)
            )
        if kept:
            try:
                if not prepared:
                    self._prepare()
                self._step, self._structure = self._stack(), structure(self._models[0])
            except RecordingError as error:
                for index in self._live():
                    self._refuse(index, str(error))
        for runner in self._runners:
            runner.forget_optimizers()

    def _refuse(self, index: int, reason: str) -> None:
        """Let a model leave that is not in the stack at the moment."""
        runner, model = self._runners[index], self._models[index]
        error = RuntimeError(
            f"A callback has changed {type(model).__name__} at step {model.num_timesteps} into what the fast engine does not "
            f'run: {reason}. engine="sb3" runs it.'
        )
        runner.stopped = True
        if not self._isolate:
            raise error
        runner.error = error

    def _leave(self, index: int) -> None:
        runner = self._runners[index]
        if runner.error is None:
            try:
                self._log(index)
            except FloatingPointError as error:
                # Where it leaves there is no one to catch it, and the others are not to suffer.
                runner.error = error
        self._step.stack.unbind(index)
