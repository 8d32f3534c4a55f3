"""SB3's ``learn`` of one or several models by the fast engine."""

from __future__ import annotations

from typing import Any

from sb3_entropic.engine.choice import say
from sb3_entropic.engine.compiler import decide
from sb3_entropic.engine.gemm import fast_matrix_products
from sb3_entropic.engine.lockstep import Lockstep
from sb3_entropic.engine.options import Engine
from sb3_entropic.engine.runner import Runner
from sb3_entropic.engine.streams import Streams, numpys_generator_given_back
from sb3_entropic.engine.support import why_not


class CallbackObjects(Exception):
    """When training began, a callback has made of a model what the fast engine does not run, such as one with hooks.

    :param reason: as a clause
    :param begun: the steps at which training is to end, and the callback, of each model; for :meth:`Learner.go_on_begun`
    :param errors: what each had raised by then
    """

    def __init__(self, reason: str, begun: list[tuple[int, Any]], errors: list[Exception | None]):
        super().__init__(reason)
        self.reason, self.begun, self.errors = reason, begun, errors


def learn_together(
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
