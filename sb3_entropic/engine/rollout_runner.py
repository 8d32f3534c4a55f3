"""One model's part of the lockstep of on-policy algorithms: its environments, its callback and its rollout buffer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import obs_as_tensor

from sb3_entropic.engine.runner import Runner


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
