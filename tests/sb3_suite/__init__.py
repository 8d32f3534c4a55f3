"""Stable-Baselines3's own tests, run on our classes in the place of their parents."""
