"""An environment that breaks for one seed, for grids whose workers are other processes."""

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

BREAKS_FOR, BREAKS_AT = 1, 150


class Fragile(CartPoleEnv):
    """CartPole that raises at its 150th step, if it was first seeded with 1."""

    def __init__(self):
        super().__init__()
        self.first_seed, self.steps_taken = None, 0

    def reset(self, *, seed=None, options=None):
        if self.first_seed is None:
            self.first_seed = seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.steps_taken += 1
        if (self.first_seed, self.steps_taken) == (BREAKS_FOR, BREAKS_AT):
            raise RuntimeError("the pole snapped")
        return super().step(action)


gym.register("Fragile-v0", entry_point=Fragile, max_episode_steps=50)
