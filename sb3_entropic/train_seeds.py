"""Several seeds of an algorithm at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from inspect import signature
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_entropic.engine import choice
from sb3_entropic.engine.known import is_known
from sb3_entropic.engine.learn import CallbackObjects, learn_together
from sb3_entropic.engine.options import Engine
from sb3_entropic.engine.step import RecordingError
from sb3_entropic.engine.streams import Streams
from sb3_entropic.engine.support import why_not_together
from sb3_entropic.learner import Learner

AUTO = "auto"
SWEEPABLE = ("learning_rate", "tau", "ent_coef", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
"""Arguments that may be one number a seed, besides those an algorithm's losses read."""


class SeedsFailedError(RuntimeError):
    """Some seeds raised; the others have finished.

    :ivar models: of every seed, in order, the failed ones as they were when they failed
    :ivar errors: what was raised, by seed
    """

    def __init__(self, models: list[Any], errors: dict[int, Exception]):
        seed, error = next(iter(errors.items()))
        failed = ", ".join(map(str, errors))
        super().__init__(f"{len(errors)} of {len(models)} seeds failed ({failed}); seed {seed} with {error!r}.")
        self.models, self.errors = models, errors

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is otherwise made anew of its message.
        return type(self), (self.models, self.errors)


def train_seeds(
    algorithm: type,
    policy: Any,
    env: str | Callable[[], Any],
    *,
    seeds: Iterable[int],
    total_timesteps: int,
    callback: Callable[[int], Any] | None = None,
    log_interval: int | str | None = AUTO,
    tb_log_name: str | None = None,
    progress_bar: bool = False,
    engine: str | Engine = "auto",
    **arguments: Any,
) -> list[Any]:
    """Train one model a seed, all of them in the same passes over common storage, and return ordinary SB3 models.

    A seed's result is that of the seed alone, to rounding: it keeps its own environment, replay buffer, random numbers,
    callback and logger. Small networks gain most: what they wait for is Python. A model whose callback stops it, or whose
    environment or callback raises, leaves, and the others go on. What the fast engine does not run is trained by SB3's
    own loop, one seed after the other.

    An argument may be a list with one number for each seed, if it is ``learning_rate``, ``gamma``, ``tau``, a fixed
    ``ent_coef``, one of DQN's exploration or one that the losses read, such as ``temperature`` or ``munchausen_alpha``:
    a sweep is a stack, too, and a pair that is one value is written as a tuple. The global generator that environments and
    callbacks may draw from is numpy's; torch's and Python's are not kept apart.

    :param algorithm: a class of this package
    :param policy: as its constructor's
    :param env: id of an environment, of which each seed has one that does not render, or a function that makes one; called
        once a seed. Where it makes one of SB3's ``SubprocVecEnv``, the processes of all seeds take their steps at the same
        time
    :param seeds: different whole numbers
    :param total_timesteps: of every seed
    :param callback: from a seed to its callback, or list of callbacks
    :param tb_log_name: runs are logged as ``<tb_log_name>_seed<seed>``; by default the algorithm's name
    :param engine: see :class:`sb3_entropic.Engine`
    :param log_interval: as in SB3's ``learn``, and so is ``progress_bar``; ``"auto"`` is the default of the algorithm's own
        ``learn``, 4 episodes or 1 rollout, and ``None`` logs nothing
    :param arguments: of the algorithm's constructor
    :return: the models, in the order of ``seeds``; what they have replayed lies in one block of memory, which is kept as long
        as one of them is
    :raises SeedsFailedError: if seeds raised, once the others have finished
    :raises ValueError: for arguments that are not allowed
    """
    seeds = _checked(algorithm, seeds, env, callback)

    def make(index: int) -> Any:
        own = {name: _of_seed(name, value, index, len(seeds)) for name, value in arguments.items()}
        # SB3's, of an id, could render, and LunarLander's would then move every spark of an episode at every step.
        made = gym.make(env) if isinstance(env, str) else env()
        model = algorithm(policy, made, seed=seeds[index], engine=engine, **own)
        _check_sweep(model, arguments)
        return model

    trained, raised = train_together(
        [partial(make, index) for index in range(len(seeds))],
        total_timesteps,
        lambda index, model: None if callback is None else callback(seeds[index]),
        log_interval=log_interval,
        tb_log_names=[f"{tb_log_name or algorithm.__name__}_seed{seed}" for seed in seeds],
        progress_bar=progress_bar,
    )
    errors = {seed: error for seed, error in zip(seeds, raised, strict=True) if error is not None}
    if errors:
        raise SeedsFailedError(trained, errors) from next(iter(errors.values()))
    return trained


def train_together(
    makers: Sequence[Callable[[], Any]],
    total_timesteps: int,
    callback: Callable[[int, Any], Any],
    *,
    log_interval: int | str | None = AUTO,
    tb_log_names: Sequence[str] | None = None,
    reset_num_timesteps: bool = True,
    progress_bar: bool = False,
) -> tuple[list[Any], list[Exception | None]]:
    """Make models that are alike but for their seeds and train them together; :func:`train_seeds` for models made elsewhere.

    :param makers: each makes a model with a seed of its own, and leaves numpy's and torch's global generators as that model
        is to find them; called one after the other
    :param callback: from a model's position and the model to its callback
    :param tb_log_names: of each; the other arguments are those of :func:`train_seeds`
    :param reset_num_timesteps: as in SB3's ``learn``; models that go on have all taken the same number of steps
    :return: the models, and for each what it has raised, ``None`` if nothing
    :raises ValueError: if their engine is ``"fast"`` and cannot run them, or two have the same environment
    """
    models, streams, spaces = [], [], []
    for make in makers:
        models.append(make())
        spaces.append(models[-1].action_space)
        # As its seed has set its generator; the next may have the same space, if the environments' class has it.
        models[-1].action_space = deepcopy(spaces[-1])
        # The model's constructor has seeded the global generators, and drawn its networks from them.
        streams.append(Streams(own=True))
    _check_environments(models)
    for model, space in zip(models, spaces, strict=True):
        if sum(other is space for other in spaces) == 1:
            model.action_space = space
    first = models[0]
    if log_interval == AUTO:
        log_interval = signature(first.learn).parameters["log_interval"].default
    callbacks = [callback(index, model) for index, model in enumerate(models)]
    names = list(tb_log_names or [type(first).__name__] * len(models))
    reason, cause = "as asked for" if first.engine.kind == "sb3" else why_not_together(models), None
    if reason is None:
        arguments = (total_timesteps, log_interval, names, reset_num_timesteps, progress_bar, first.engine)
        try:
            return models, learn_together(models, callbacks, streams, *arguments)
        except RecordingError as error:
            reason, cause = choice.cannot_record(first, error), error
        except CallbackObjects as objection:
            choice.leave_to_sb3(first, objection.reason)
            steps = [
                partial(model.go_on_begun, *begun, log_interval) for model, begun in zip(models, objection.begun, strict=True)
            ]
            return models, _one_after_the_other(steps, streams, objection.errors)
    choice.leave_to_sb3(first, reason, cause)
    steps = [
        partial(model.learn, total_timesteps, called, log_interval, name, reset_num_timesteps, progress_bar)
        for model, called, name in zip(models, callbacks, names, strict=True)
    ]
    return models, _one_after_the_other(steps, streams, [None] * len(models))


def _one_after_the_other(
    learn: list[Callable[[], Any]], streams: list[Streams], raised: list[Exception | None]
) -> list[Exception | None]:
    """Let models learn that have not raised yet, each with its own random numbers; returns what each has raised."""
    raised = list(raised)
    for index, (function, stream) in enumerate(zip(learn, streams, strict=True)):
        if raised[index] is None:
            with stream.alone():
                try:
                    function()
                except Exception as error:
                    raised[index] = error
    return raised


def _checked(algorithm: Any, seeds: Any, env: Any, callback: Any) -> list[int]:
    if not (isinstance(algorithm, type) and issubclass(algorithm, Learner)):
        named = algorithm.__name__ if isinstance(algorithm, type) else repr(algorithm)
        raise ValueError(f"{named} is not a class of this package, such as sb3_entropic.MSAC, nor extends one.")
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds={seeds!r} are not several whole numbers: write range({seeds!r}), say.")
    given = list(seeds)
    try:
        # SB3 takes Python's whole numbers alone.
        seeds = [*map(operator.index, given)]
    except TypeError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={given} are not one or several different whole numbers.")
    if not isinstance(env, str) and not callable(env):
        raise ValueError(
            f"env={env} is one environment: every seed needs its own, so give an id or a function that makes one."
        )
    if isinstance(callback, BaseCallback) or (callback is not None and not callable(callback)):
        raise ValueError("callback is one object: every seed needs its own, so give a function from a seed to its callback.")
    return seeds


def _check_environments(models: list[Any]) -> None:
    bases = [model.env.unwrapped for model in models]
    all_of_them = [
        env for base in bases for env in ([e.unwrapped for e in base.envs] if isinstance(base, DummyVecEnv) else [base])
    ]
    if len({*map(id, all_of_them)}) < len(all_of_them):
        raise ValueError(
            "env has returned the same environment twice: every seed needs its own, so let it make one at every call."
        )


def _of_seed(name: str, value: Any, index: int, n_seeds: int) -> Any:
    """One seed's share of an argument: of a list of numbers, the number of that seed."""
    if not isinstance(value, list | np.ndarray):
        # SB3 writes into policy_kwargs, and action noise has a state.
        return deepcopy(value)
    if len(value) != n_seeds:
        raise ValueError(
            f"{name} has {len(value)} values for {n_seeds} seeds: give one for each, or a single one (a pair as a tuple)."
        )
    return value[index]


def _check_sweep(model: Any, arguments: dict[str, Any]) -> None:
    coefficients = model.coefficients()
    allowed = {*(signature(type(model).__init__).parameters.keys() & SWEEPABLE), *coefficients}
    for name in arguments:
        if isinstance(arguments[name], list | np.ndarray) and name not in allowed:
            own = "" if is_known(type(model)) else f" What {type(model).__name__} returns of coefficients() can, too."
            raise ValueError(f"{name} cannot differ between seeds: those that can are {', '.join(sorted(allowed))}.{own}")
