"""Active inference: agents that act to minimise expected free energy."""

from sb3_entropic.active_inference.vfe import VFE

__all__ = ["VFE"]
