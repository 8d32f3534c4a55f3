"""The four-goal world of soft Q-learning (arXiv 1702.08165, section 5.1): does a policy keep all ways to be right?"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_entropic.errors import UserError

GOALS = np.array([[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0], [0.0, -5.0]], dtype=np.float32)
"""East, north, west and south of the origin, units of length."""
GOAL_RADIUS = 1.0
"""Units of length."""
GOAL_BONUS = 10.0
"""Reward."""
ACTION_COST = 30.0
"""Reward for each squared unit of velocity, paid at every step."""
DISTANCE_COST = 1.0
"""Reward for each squared unit of length from the nearest goal, paid at every step."""
LIMIT = 7.0
"""The world ends here on both axes, units of length; the point stops at the edge."""
MAX_SPEED = 1.0
"""Units of length in a step, on each axis."""
MAX_EPISODE_STEPS = 30

WHITE, GREY, RED, BLACK = (np.array(colour, dtype=float) for colour in ((255,) * 3, (205,) * 3, (213, 94, 0), (30,) * 3))


def register_multigoal() -> None:
    """Register ``MultiGoal-v0``, with a limit of :data:`MAX_EPISODE_STEPS`."""
    if "MultiGoal-v0" not in gym.registry:
        entry_point = f"{MultiGoal.__module__}:{MultiGoal.__name__}"
        gym.register("MultiGoal-v0", entry_point=entry_point, max_episode_steps=MAX_EPISODE_STEPS)


class MultiGoal(gym.Env):
    """A point on a plane, four equal goals around it, and nothing that says which to take.

    The observation is the position ``(2,)`` in units of length, :data:`LIMIT` at most either way; the action is the
    velocity ``(2,)`` in units of length a step, :data:`MAX_SPEED` at most. A step costs ``30 |velocity|^2 + |distance
    to the nearest goal|^2``; a goal is reached, and the episode terminated, nearer than :data:`GOAL_RADIUS` to it,
    which pays :data:`GOAL_BONUS`. From the origin the best action is thus along an axis, any of the four, at about four
    fifths of the largest speed at first.

    ``info["goal"]`` is the goal reached, as an index of :data:`GOALS`, and -1 before.

    :param render_mode: ``"rgb_array"``, ``(size, size, 3)``, or ``None``
    :param start_std: standard deviation of the first position around the origin, on each axis, units of length, >= 0
    :raises UserError: for another render mode, or a negative deviation
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    size = 256
    """Pixels along each side of a rendered image."""

    def __init__(self, render_mode: str | None = None, start_std: float = 0.1):
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode={render_mode!r} is not one of MultiGoal's: give 'rgb_array' or None.")
        if not start_std >= 0:
            raise UserError(f"start_std={start_std!r} is below 0: the nearest choice is 0.")
        self.render_mode = render_mode
        self.start_std = start_std
        self.observation_space = spaces.Box(-LIMIT, LIMIT, (2,), np.float32)
        self.action_space = spaces.Box(-MAX_SPEED, MAX_SPEED, (2,), np.float32)
        self._path: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start near the origin."""
        super().reset(seed=seed)
        start = self.start_std * self.np_random.standard_normal(2)
        self._path = [np.clip(start, -LIMIT, LIMIT).astype(np.float32)]
        return self._path[0].copy(), {"goal": -1}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move by the action."""
        velocity = np.clip(action, -MAX_SPEED, MAX_SPEED)
        position = np.clip(self._path[-1] + velocity, -LIMIT, LIMIT).astype(np.float32)
        self._path.append(position)
        distances = np.linalg.norm(GOALS - position, axis=1)
        nearest = int(distances.argmin())
        reached = bool(distances[nearest] < GOAL_RADIUS)
        reward = GOAL_BONUS * reached - ACTION_COST * np.sum(velocity**2) - DISTANCE_COST * distances[nearest] ** 2
        return position.copy(), float(reward), reached, False, {"goal": nearest if reached else -1}

    def render(self) -> np.ndarray | None:
        """The world from above, north up: goals as rings, the path as dots and its end as a larger one."""
        if self.render_mode is None:
            return None
        axis = np.linspace(-LIMIT, LIMIT, self.size)
        pixels = np.stack(np.meshgrid(axis, -axis), axis=-1)
        image = np.broadcast_to(WHITE, (self.size, self.size, 3)).copy()
        for goal in GOALS:
            _draw_disc(image, pixels, goal, GOAL_RADIUS, GREY)
            _draw_disc(image, pixels, goal, 0.9 * GOAL_RADIUS, WHITE)
        for position in self._path:
            _draw_disc(image, pixels, position, 0.1, BLACK)
        _draw_disc(image, pixels, self._path[-1], 0.25, RED)
        return image.round().astype(np.uint8)


def _draw_disc(image: np.ndarray, pixels: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
    """Paint a disc with smooth edges; ``pixels`` are the positions of the image's points."""
    width = 2 * LIMIT / len(image)
    inside = np.clip((radius - np.linalg.norm(pixels - centre, axis=-1)) / width + 0.5, 0, 1)
    image += inside[..., None] * (colour - image)
