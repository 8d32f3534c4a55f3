"""Evaluation on the same seeded episodes every time."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor

MOST_STEPS = 10_000


class Episode(NamedTuple):
    """One evaluation episode: undiscounted, unnormalised return (reward units) and length (environment steps)."""

    seed: int
    total_reward: float
    length: int


class Evaluator:
    """Plays the episodes seeded ``seed, seed + 1, ...``, the same ones at every call, with the policy's mode.

    SB3's ``EvalCallback`` draws new initial states at every evaluation, so a curve of it also shows their luck. The
    episodes run side by side in one process and share a forward pass a step. Training is not touched: neither its
    environments nor, for a deterministic policy, its random streams.

    An episode of an environment without a time limit of its own is cut after :data:`MOST_STEPS` steps, since a policy may
    never end it; its return is what it has collected until then.

    :param env_id: environment id
    :param episodes: number of episodes
    :param seed: of the first episode
    :param wrapper: put around every environment, see :func:`sb3_entropic.zoo.env_wrapper`; returns are what comes out of it
    """

    def __init__(
        self, env_id: str, episodes: int = 10, seed: int = 10_000, wrapper: Callable[[gym.Env], gym.Env] = lambda env: env
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._envs = [wrapper(gym.make(env_id)) for _ in range(episodes)]
        self._seed = seed
        self._most_steps = math.inf if self.max_episode_steps else MOST_STEPS

    @property
    def max_episode_steps(self) -> int | None:
        """The environment's time limit in steps, if it has one; without one an episode lasts until it terminates.

        An Atari game's is in frames, of which a step takes four.
        """
        spec = self._envs[0].spec
        return spec.max_episode_steps or spec.kwargs.get("max_num_frames_per_episode", 0) // 4 or None

    def evaluate(self, model: BaseAlgorithm, deterministic: bool = True) -> list[Episode]:
        """Play every episode to its end.

        :param model: any SB3 model; a ``VecNormalize`` around its environments is applied to observations
        :param deterministic: the policy's mode, else samples
        """
        seeds = [self._seed + index for index in range(len(self._envs))]
        observations = [env.reset(seed=seed)[0] for env, seed in zip(self._envs, seeds, strict=True)]
        returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), dtype=int)
        playing = acting = list(range(len(seeds)))
        state, begins = None, np.ones(len(seeds), dtype=bool)
        with _vectors_on_the_cpu(model, deterministic):
            while playing:
                batch = _stack(model, [observations[i] for i in acting])
                actions, state = model.predict(batch, state=state, episode_start=begins[acting], deterministic=deterministic)
                begins[:] = False
                still_playing = []
                for i, action in zip(acting, actions, strict=True):
                    if i not in playing:
                        continue
                    observations[i], reward, terminated, truncated, _ = self._envs[i].step(action)
                    returns[i] += float(reward)
                    lengths[i] += 1
                    if not (terminated or truncated or lengths[i] >= self._most_steps):
                        still_playing.append(i)
                playing = still_playing
                # A policy that remembers does so of every episode, also of one that has ended.
                acting = playing if state is None else acting
        return [Episode(*row) for row in zip(seeds, returns.tolist(), lengths.tolist(), strict=True)]

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()


@contextmanager
def _vectors_on_the_cpu(model: BaseAlgorithm, deterministic: bool) -> Iterator[None]:
    """Let a model that is on a GPU predict modes with a copy of its policy, if that takes vectors.

    A few vectors a step are through its small networks sooner than these are launched on the GPU. Samples are left there:
    Boltzmann exploration reads the model's own networks. So are policies that explore state-dependently: what SB3 has drawn
    for them cannot be copied.
    """
    policy = model.policy
    stays = policy.device.type == "cpu" or not deterministic or model.use_sde
    if stays or policy.features_extractor_class is not FlattenExtractor:
        yield
        return
    model.policy = copy.deepcopy(policy).cpu()
    try:
        yield
    finally:
        model.policy = policy


def _stack(model: BaseAlgorithm, observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        batch = {key: np.stack([o[key] for o in observations]) for key in observations[0]}
    else:
        batch = np.stack(observations)
    normalize = model.get_vec_normalize_env()
    return batch if normalize is None else normalize.normalize_obs(batch)
