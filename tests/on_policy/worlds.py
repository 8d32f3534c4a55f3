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
    """Counts, to three by default, whatever is done; there it ends, or runs out of time."""

    observation_space, action_space = spaces.Box(0.0, 3.0, (1,)), spaces.Discrete(2)

    def __init__(self, truncates, length=3):
        self.truncates = truncates
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at += 1
        over = self.at == self.length
        return np.full(1, self.at, np.float32), 0.5, over and not self.truncates, over and self.truncates, {}


class Numbered(Corridor):
    """A corridor whose number is seen, too."""

    observation_space = spaces.Box(0.0, 20.0, (2,))

    def __init__(self, number, truncates, length):
        super().__init__(truncates, length)
        self.number = number

    def reset(self, *, seed=None, options=None):
        at, info = super().reset(seed=seed)
        return np.append(np.float32(self.number), at), info

    def step(self, action):
        at, *rest = super().step(action)
        return np.append(np.float32(self.number), at), *rest
