"""Environments small enough to know the answer."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Bandit(gym.Env):
    """One state, four arms, and an episode is one of them."""

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,)), spaces.Discrete(4)
    rewards = (1.0, 0.8, 0.5, 0.0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), self.rewards[action], True, False, {}


class Corridor(gym.Env):
    """Counts to three whatever is done; there it ends, or runs out of time."""

    observation_space, action_space = spaces.Box(0.0, 3.0, (1,)), spaces.Discrete(2)

    def __init__(self, truncates):
        self.truncates = truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at += 1
        over = self.at == 3
        return np.full(1, self.at, np.float32), 0.5, over and not self.truncates, over and self.truncates, {}
