"""Environments beyond gymnasium's own: a world with four equal goals, and MinAtar made fit for SB3's image policies.

Importing this registers their ids; ``gymnasium.make("sb3_entropic.envs:MultiGoal-v0")`` does it by itself.
"""

from sb3_entropic.envs.minatar import MinAtarCNN, MinAtarImages, register_minatar
from sb3_entropic.envs.multigoal import MultiGoal, register_multigoal

__all__ = ["MinAtarCNN", "MinAtarImages", "MultiGoal"]

register_minatar()
register_multigoal()
