"""On-policy algorithms."""

from sb3_entropic.on_policy.entropy_ppo import EntropyPPO
from sb3_entropic.on_policy.maxent_ppo import MaxEntPPO

__all__ = ["EntropyPPO", "MaxEntPPO"]
