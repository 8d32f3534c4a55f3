"""A finite MDP as a gymnasium environment, to train deep algorithms where the answer is known."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from sb3_entropic.errors import UserError
from sb3_entropic.tabular.mdp import FiniteMDP


class TabularEnv(gym.Env):
    """Acts in one :class:`~sb3_entropic.tabular.mdp.FiniteMDP`; observations and actions are its indices (``Discrete``).

    An episode starts in a uniformly drawn state and never terminates: it is cut (``truncated``) at the time limit, so
    that the discounted values of the MDP stay the ones to learn.

    :param mdp: a single MDP, without batch dimensions
    :param max_episode_steps: length of every episode, >= 1
    :raises UserError: if ``mdp`` is a batch or ``max_episode_steps < 1``
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, mdp: FiniteMDP, max_episode_steps: int = 100) -> None:
        if mdp.rewards.ndim != 2:
            raise UserError(f"mdp is a batch of shape {tuple(mdp.rewards.shape[:-2])}: an environment takes a single MDP.")
        if max_episode_steps < 1:
            raise UserError(f"max_episode_steps={max_episode_steps} must be at least 1.")
        self.mdp = mdp
        self.max_episode_steps = max_episode_steps
        self.observation_space = gym.spaces.Discrete(mdp.n_states)
        self.action_space = gym.spaces.Discrete(mdp.n_actions)
        self._transitions = mdp.transitions.numpy()
        self._rewards = mdp.rewards.numpy()
        self._state = 0
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.int64, dict[str, Any]]:
        """Start an episode in a uniformly drawn state; see :meth:`gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self._state = self.np_random.integers(self.mdp.n_states)
        self._steps = 0
        return self._state, {}

    def step(self, action: int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Draw the next state; see :meth:`gymnasium.Env.step`."""
        reward = float(self._rewards[self._state, action])
        self._state = np.int64(self.np_random.choice(self.mdp.n_states, p=self._transitions[self._state, action]))
        self._steps += 1
        return self._state, reward, False, self._steps >= self.max_episode_steps, {}
