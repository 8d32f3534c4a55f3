"""MinAtar's five games (arXiv 1903.03176) as SB3's image policies want them, and a network of their size."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_entropic.errors import UserError

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
MAX_EPISODE_STEPS = 10_000


def register_minatar() -> None:
    """Register ``MinAtar/Breakout-v1`` (the actions that do something) and ``-v0`` (all six), and so every game.

    MinAtar brings ids for a plugin mechanism that gymnasium 1.0 gave up. These are the same, with a limit of
    :data:`MAX_EPISODE_STEPS` that theirs lack: who never dives in Seaquest never dies, and no evaluation of it would end.
    The package itself is imported when an environment is made.
    """
    for game in GAMES:
        for version in (0, 1):
            env_id = f"MinAtar/{game.title().replace('_', '')}-v{version}"
            if env_id not in gym.registry:
                gym.register(
                    env_id,
                    entry_point="minatar.gym:BaseEnv",
                    max_episode_steps=MAX_EPISODE_STEPS,
                    kwargs={"game": game, "use_minimal_action_set": version == 1},
                )


class MinAtarImages(gym.ObservationWrapper):
    """Observations ``(10, 10, channels)`` of booleans as images ``(channels, 10, 10)`` of 0 and 255.

    Channels first, because SB3 takes the shortest axis for the channels and a game may have ten; bytes of a full range,
    because SB3 keeps those as they are in its replay buffers and gives them to the network as 0 and 1.

    :param env: one of MinAtar's
    :raises UserError: if its observations are of another kind
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        space = env.observation_space
        if not (isinstance(space, spaces.Box) and space.dtype == bool and len(space.shape) == 3):
            raise UserError(f"MinAtarImages takes booleans (height, width, channels), and {env} has {space}.")
        height, width, channels = space.shape
        self.observation_space = spaces.Box(0, 255, (channels, height, width), np.uint8)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The image of an observation."""
        return np.where(np.moveaxis(observation, -1, 0), np.uint8(255), np.uint8(0))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """As in gymnasium; an episode's first action no longer depends on the last one of the episode before.

        MinAtar repeats an action now and then and keeps it over the end of an episode, so that a seed alone would not
        decide one.
        """
        self.unwrapped.game.last_action = 0
        return super().reset(seed=seed, options=options)


class MinAtarCNN(BaseFeaturesExtractor):
    """MinAtar's own network: 16 filters of 3 x 3, then a layer of ``features_dim`` units, each with a ReLU.

    :param observation_space: images, channels first, at least 3 x 3
    :param features_dim: units of the last layer
    :raises UserError: if the observations are no such images
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 128):
        super().__init__(observation_space, features_dim)
        if len(observation_space.shape or ()) != 3 or min(observation_space.shape[1:]) < 3:
            raise UserError(f"MinAtarCNN takes images (channels, height, width) of at least 3 x 3, not {observation_space}.")
        channels, height, width = observation_space.shape
        filters = 16
        self.layers = th.nn.Sequential(
            th.nn.Conv2d(channels, filters, kernel_size=3),
            th.nn.ReLU(),
            th.nn.Flatten(),
            th.nn.Linear(filters * (height - 2) * (width - 2), features_dim),
            th.nn.ReLU(),
        )

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """Features ``(batch, features_dim)`` of images ``(batch, channels, height, width)`` in [0, 1]."""
        return self.layers(observations)
