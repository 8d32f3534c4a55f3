"""The entropy of a rollout: when it is added, and where its returns are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import PyTorchObs


def generalised_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    last_values: np.ndarray,
    episode_starts: np.ndarray,
    dones: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16) of any reward, as SB3's rollout buffer has it.

    Linear in rewards and values together. ``gae_lambda -> 0`` gives the one-step error, 1 the return minus the value.

    :param rewards: ``(n_steps, n_envs)``; where an episode was truncated with the discounted value of its last state
    :param values: of the states, ``(n_steps, n_envs)``
    :param last_values: of the states after the last step, ``(n_envs,)``
    :param episode_starts: whether a step is the first of its episode, ``(n_steps, n_envs)``
    :param dones: whether the last step ended its episode, ``(n_envs,)``
    :param gamma: discount
    :param gae_lambda: trades bias for variance
    :return: in units of the rewards, ``(n_steps, n_envs)``
    """
    goes_on = 1.0 - np.concatenate([episode_starts[1:], dones[None]]).astype(rewards.dtype)
    next_values = np.concatenate([values[1:], last_values[None]])
    # In SB3's order of operations, for its bits.
    errors = rewards + gamma * next_values * goes_on - values
    advantages, advantage = np.zeros_like(errors), np.zeros_like(last_values)
    for step in reversed(range(len(errors))):
        advantage = errors[step] + gamma * gae_lambda * goes_on[step] * advantage
        advantages[step] = advantage
    return advantages


class EntropySamples(NamedTuple):
    """SB3's ``RolloutBufferSamples``, and what the critic of the entropy to come is drawn to."""

    observations: PyTorchObs
    actions: th.Tensor
    old_values: th.Tensor
    old_log_prob: th.Tensor
    advantages: th.Tensor
    returns: th.Tensor
    entropy_returns: th.Tensor
    """Nats, ``(batch,)``."""


class EntropyReturns:
    """Keeps a second return for every step; to be placed before a rollout buffer in the bases."""

    def reset(self) -> None:
        """As in SB3."""
        super().reset()
        self.entropy_returns = np.zeros_like(self.returns)

    def get(self, batch_size: int | None = None) -> Iterator[EntropySamples]:
        """As in SB3."""
        if not self.generator_ready:
            self.entropy_returns = self.swap_and_flatten(self.entropy_returns)
        yield from super().get(batch_size)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> EntropySamples:
        returns = self.to_torch(self.entropy_returns[batch_inds].flatten())
        return EntropySamples(*super()._get_samples(batch_inds, env), returns)


class EntropyRolloutBuffer(EntropyReturns, RolloutBuffer):
    """For vectors and images."""


class EntropyDictRolloutBuffer(EntropyReturns, DictRolloutBuffer):
    """For dictionaries."""


class EntropyOfRollouts(BaseCallback):
    """Adds the entropy to a rollout once it is complete, before the user's callbacks see it.

    SB3 adds the value of a truncated episode's last state to its last reward as it goes; this notes the entropy's.
    """

    def _on_rollout_start(self) -> None:
        self._bootstraps = np.zeros_like(self.model.rollout_buffer.rewards)

    def _on_step(self) -> bool:
        for index in np.flatnonzero(self.locals["dones"]):
            info = self.locals["infos"][index]
            if info.get("TimeLimit.truncated", False) and info.get("terminal_observation") is not None:
                observation = self.model.policy.obs_to_tensor(info["terminal_observation"])[0]
                self._bootstraps[self.model.rollout_buffer.pos, index] = self.model.entropy_bootstrap(observation)
        return True

    def _on_rollout_end(self) -> None:
        self.model.add_entropy(self._bootstraps)
