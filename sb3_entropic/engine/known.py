"""Whose code the engine knows: what a user has written may do what it does not see."""

from typing import Any

KNOWN_PACKAGES = ("stable_baselines3", "sb3_contrib", "sb3_entropic", "torch")


def is_known(thing: Any) -> bool:
    """Whether a class or function is SB3's, torch's or ours, and not a user's."""
    return thing.__module__.split(".")[0] in KNOWN_PACKAGES
