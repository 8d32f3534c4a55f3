"""Algorithms with an actor and critics: one loop, and a short file of losses an algorithm."""

from sb3_entropic.actor_critic.msac import MSAC

__all__ = ["MSAC"]
