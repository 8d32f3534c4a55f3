"""The loop that lets one or several models act, store and learn step by step together."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from stable_baselines3.common.logger import Logger

from sb3_entropic.engine.compiler import LONG_RUN, decide
from sb3_entropic.engine.gemm import fast_matrix_products
from sb3_entropic.engine.options import Engine
from sb3_entropic.engine.place import place_of
from sb3_entropic.engine.replay import pack
from sb3_entropic.engine.runner import Runner
from sb3_entropic.engine.step import RecordingError, StackedStep
from sb3_entropic.engine.streams import Streams, numpys_generator_given_back
from sb3_entropic.engine.support import loops_alike, most_alike, structure, why_not, why_not_replay, why_not_unasked


class CallbackObjects(Exception):
    """When training began, a callback has made of a model what the fast engine does not run, such as one with hooks.

    :param reason: as a clause
    :param begun: the steps at which training is to end, and the callback, of each model; for :meth:`Learner.go_on_begun`
    :param errors: what each had raised by then
    """

    def __init__(self, reason: str, begun: list[tuple[int, Any]], errors: list[Exception | None]):
        super().__init__(reason)
        self.reason, self.begun, self.errors = reason, begun, errors


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

        rates = self._rates = [runner.learning_rate() for runner in self._runners]
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
        models = self._models
        with ExitStack() as loggers:
            try:
                for model, runner in zip(models, runners, strict=True):
                    _learning[model] = self
                    # One whose first reset has raised has no logger.
                    if not runner.stopped:
                        loggers.enter_context(_prepared(model.logger, partial(record_metrics, model)))
                super().learn(runners, total_timesteps)
            finally:
                for model in models:
                    _learning.pop(model, None)

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


@contextmanager
def _prepared(logger: Logger, prepare: Callable[[], None]) -> Iterator[None]:
    """Let a logger that is asked to write, by whomever, be prepared first; copies of it are not."""
    before = _preparing.get(logger, [])
    _preparing[logger] = [*before, prepare]
    if not before:
        logger.__class__ = _prepared_class(type(logger))
    try:
        yield
    finally:
        _preparing[logger] = before
        if not before:
            logger.__class__ = type(logger).__base__


@lru_cache
def _prepared_class(base: type[Logger]) -> type[Logger]:
    def dump(self: Logger, *args: Any, **kwargs: Any) -> None:
        for prepare in _preparing.get(self, ()):
            prepare()
        base.dump(self, *args, **kwargs)

    def reduced(self: Logger, protocol: Any) -> tuple[Any, ...]:
        # Copied and pickled it is what it was.
        return _new, (base,), vars(self)

    return type(base.__name__, (base,), {"dump": dump, "__reduce_ex__": reduced, "__module__": base.__module__})


def _new(base: type[Logger]) -> Logger:
    return base.__new__(base)


_preparing: WeakKeyDictionary[Logger, list[Callable[[], None]]] = WeakKeyDictionary()
"""What is to be done before a logger writes."""


_learning: WeakKeyDictionary[Any, ReplayLockstep] = WeakKeyDictionary()
"""What lets a model learn; kept apart from the model, which may be copied and pickled meanwhile."""


def record_metrics(model: Any) -> None:
    """Hand the logger what the last gradient steps of a model are to log, if the fast engine takes them."""
    if model in _learning:
        _learning[model].record_metrics(model)


def learn(
    models: list[Any],
    callbacks: list[Any],
    streams: list[Streams],
    total_timesteps: int,
    log_interval: int | None,
    tb_log_names: list[str],
    reset_num_timesteps: bool,
    progress_bar: bool,
    options: Engine,
) -> list[Exception | None]:
    """SB3's ``learn`` of models that are alike, all at once; returns what each raised where there are several.

    :param models: that :func:`sb3_entropic.engine.support.why_not` has nothing against
    :param callbacks: of each
    :param streams: the random numbers of each
    :param options: of the engine; the other arguments are SB3's
    :raises RecordingError: if the losses cannot be recorded; the models are then as they were
    :raises CallbackObjects: if the engine is ``"auto"`` and a callback leaves it nothing that it runs
    """
    with numpys_generator_given_back(), fast_matrix_products(models[0].policy, options.matrix_library) as library:
        done = 0 if reset_num_timesteps else models[0].num_timesteps
        target = done + total_timesteps
        compiled, why = decide(options.compile, models[0].gradient_steps_between(done, target), models[0].device.type)
        lockstep = models[0].lockstep_class(models, streams, compiled)
        known = {"total_timesteps": target, "log_interval": log_interval}
        known |= {"reset_num_timesteps": reset_num_timesteps, "progress_bar": progress_bar}
        try:
            runners = [
                _begin(lockstep, *each, total_timesteps, progress_bar and each[0] is models[0], known, len(models) == 1)
                for each in zip(models, callbacks, streams, tb_log_names, strict=True)
            ]
        except BaseException:
            lockstep.release()
            raise
        if options.kind == "auto":
            begun = [model for model, runner in zip(models, runners, strict=True) if not runner.stopped]
            if reason := next((found for model in begun if (found := why_not(model)) is not None), None):
                lockstep.release()
                raise CallbackObjects(reason, [(target, runner.callback) for runner in runners], [r.error for r in runners])
        say(models[0], f"Fast engine, {why}; {library}")
        lockstep.learn(runners, target)
        for runner in runners:
            _end(runner, len(runners) == 1)
    return [runner.error for runner in runners]


def _begin(
    lockstep: Lockstep,
    model: Any,
    callback: Any,
    streams: Streams,
    tb_log_name: str,
    total_timesteps: int,
    bar: bool,
    known: dict[str, Any],
    alone: bool,
) -> Runner:
    """Set a model up for learning and tell its callback; what that raises is kept, if the model is one of several.

    :param bar: whether this one shows its progress: the models keep step, so one bar speaks for all
    :param known: local variables that SB3's ``learn`` has
    """
    streams.enter()
    known, error = {"self": model, "generator": streams.generator, "tb_log_name": tb_log_name, **known}, None
    try:
        _, callback = model._setup_learn(total_timesteps, callback, known["reset_num_timesteps"], tb_log_name, bar)
        callback.on_training_start({**known, "callback": callback, **lockstep.runner_class.locals_at_start}, globals())
    except Exception as raised:
        if alone:
            raise
        error = raised
    runner = lockstep.runner_class(model, callback, streams, known["log_interval"])
    runner.error, runner.stopped = error, error is not None
    return runner


def _end(runner: Runner, alone: bool) -> None:
    """Tell a callback that training has ended, of a model that has not failed."""
    runner.streams.enter()
    try:
        if runner.error is None:
            runner.callback.on_training_end()
    except Exception as error:
        if alone:
            raise
        runner.error = error


def why_not_alone(model: Any, total_timesteps: int, reset_num_timesteps: bool) -> str | None:
    """Why ``"auto"`` leaves a single model's run to SB3's own loop, as a clause; ``None`` if it does not."""
    done = 0 if reset_num_timesteps else model.num_timesteps
    steps = model.gradient_steps_between(done, done + total_timesteps)
    return f"{steps:,} gradient steps would not repay the fast engine" if steps < LONG_RUN else why_not_unasked(model)


def leave_to_sb3(model: Any, reason: str) -> None:
    """Say why a model is left to SB3's own loop.

    :raises ValueError: if the user has asked for the fast engine
    """
    if model.engine.kind == "fast":
        raise ValueError(f'engine="fast" cannot run this: {reason}. engine="auto" runs it with SB3\'s own loop.')
    say(model, f"SB3's own loop: {reason}")


def cannot_record(model: Any, error: RecordingError) -> str:
    """The reason to leave a model to SB3's own loop, told even where nothing is printed: it is several times as slow.

    :param error: that recording its losses has raised
    """
    if model.engine.kind == "auto":
        warnings.warn(f'{error}, so SB3\'s own loop is used, which engine="sb3" asks for', stacklevel=3)
    return str(error)


def say(model: Any, message: str) -> None:
    """Log a choice, and print it as SB3 prints its own."""
    logging.getLogger("sb3_entropic").info(message)
    if model.verbose >= 1:
        print(message)
