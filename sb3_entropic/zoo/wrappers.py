"""What an entry puts around its environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_entropic.zoo.hyperparameters import HyperparameterError, find_class, named_wrappers

WHOLE_GAMES = {"terminal_on_life_loss": False, "clip_reward": False}
"""What SB3's ``AtariWrapper`` is told for evaluation."""


def env_wrapper(hyperparameters: dict[str, Any], evaluates: bool = False) -> Callable[[gym.Env], gym.Env]:
    """What puts the entry's wrappers around an environment, the first one innermost, and ``frame_stack`` around these.

    Without any the environment stays as it is.

    :param hyperparameters: zoo format; ``env_wrapper`` is a dotted name, a mapping of one to its arguments, or a list;
        ``frame_stack`` the number of observations that are shown as one
    :param evaluates: whether for evaluation, where SB3's ``AtariWrapper`` leaves whole games and their score: no life is an
        episode, and no reward is clipped
    :raises HyperparameterError: for what is not the dotted name of a wrapper (names the nearest), or no such number
    """
    wrappers = [
        (find_class("env_wrapper", name, gym.Wrapper), arguments or {}) for name, arguments in named_wrappers(hyperparameters)
    ]
    frames = hyperparameters.get("frame_stack", 1)
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
        raise HyperparameterError(f"frame_stack={frames!r} is not a whole number above 0.")

    def wrap(env: gym.Env) -> gym.Env:
        for wrapper, arguments in wrappers:
            whole = WHOLE_GAMES if evaluates and issubclass(wrapper, AtariWrapper) else {}
            env = wrapper(env, **{**arguments, **whole})
        return env if frames == 1 else FrameStack(env, frames)

    return wrap


class FrameStack(gym.Wrapper):
    """Shows the last observations as one, as SB3's ``VecFrameStack`` does: along the last axis, images along their channels.

    Before the first ones are zeros.

    :param env: environment with observations of a ``Box``, or a dictionary of such
    :param n_stack: number of observations
    """

    def __init__(self, env: gym.Env, n_stack: int):
        super().__init__(env)
        self._frames = StackedObservations(1, n_stack, env.observation_space)
        self.observation_space = self._frames.stacked_observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As gymnasium's."""
        observation, info = self.env.reset(seed=seed, options=options)
        return _copy_of_one(self._frames.reset(_each(observation, lambda value: value[None]))), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As gymnasium's."""
        observation, *others = self.env.step(action)
        # Whether the episode is over only matters where the next one has begun, which here a reset tells.
        stacked, _ = self._frames.update(_each(observation, lambda value: value[None]), np.zeros(1, dtype=bool), [{}])
        return _copy_of_one(stacked), *others


def _copy_of_one(batch: Any) -> Any:
    return _each(batch, lambda value: value[0].copy())


def _each(observation: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    if isinstance(observation, dict):
        return {name: change(value) for name, value in observation.items()}
    return change(observation)
