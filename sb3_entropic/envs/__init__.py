"""Environments beyond gymnasium's own: MinAtar, made fit for SB3's image policies. Importing this registers its ids."""

from sb3_entropic.envs.minatar import MinAtarCNN, MinAtarImages, register_minatar

__all__ = ["MinAtarCNN", "MinAtarImages"]

register_minatar()
