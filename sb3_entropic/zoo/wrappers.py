"""What an entry puts around its environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_entropic.zoo.classes import find_class
from sb3_entropic.zoo.hyperparameters import count_of, named_wrappers


def env_wrapper(hyperparameters: dict[str, Any], evaluates: bool = False) -> Callable[[gym.Env], gym.Env]:
    """What puts the entry's wrappers around an environment, the first one innermost, and ``frame_stack`` around these.

    Without any the environment stays as it is.

    :param hyperparameters: zoo format; ``env_wrapper`` is a dotted name, a mapping of one to its arguments, or a list;
        ``frame_stack`` the number of observations that are shown as one
    :param evaluates: whether for evaluation, where SB3's ``AtariWrapper`` clips no reward, and an episode is a whole game
    :raises HyperparameterError: for what is not the dotted name of a wrapper (names the nearest), or no such number
    """
    wrappers = [
        (find_class("env_wrapper", name, gym.Wrapper), arguments or {}) for name, arguments in named_wrappers(hyperparameters)
    ]
    in_games = evaluates and any(wrapper is AtariWrapper for wrapper, _ in wrappers)
    frames = count_of(hyperparameters, "frame_stack")

    def wrap(env: gym.Env) -> gym.Env:
        for wrapper, arguments in wrappers:
            score = {"clip_reward": False} if in_games and wrapper is AtariWrapper else {}
            env = wrapper(env, **{**arguments, **score})
        env = env if frames == 1 else FrameStack(env, frames)
        return WholeGames(env) if in_games else env

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
        return _copy_of_one(self._frames.reset(_batch_of_one(observation))), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As gymnasium's."""
        observation, *others = self.env.step(action)
        # Whether the episode is over only matters where the next one has begun, which here a reset tells.
        stacked, _ = self._frames.update(_batch_of_one(observation), np.zeros(1, dtype=bool), [{}])
        return _copy_of_one(stacked), *others


class WholeGames(gym.Wrapper):
    """Goes on where SB3's ``AtariWrapper`` ends an episode because a life is lost.

    As in training it is reset then, which starts the next life in games that wait for FIRE.

    :param env: with that wrapper in it
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As gymnasium's; the game has ended where the wrapper says so, or does not look at lives."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and self.has_wrapper_attr("was_real_done") and not self.get_wrapper_attr("was_real_done"):
            observation, info = self.env.reset()
            terminated = truncated = False
        return observation, reward, terminated, truncated, info


def _batch_of_one(observation: Any) -> Any:
    return _each(observation, lambda value: value[None])


def _copy_of_one(batch: Any) -> Any:
    return _each(batch, lambda value: value[0].copy())


def _each(observation: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    if isinstance(observation, dict):
        return {name: change(value) for name, value in observation.items()}
    return change(observation)
