"""Value-based algorithms for discrete actions."""

from sb3_entropic.value_based.gap_increasing import ALDQN, CVIDQN, DPP, MDQN, SoftDQN
from sb3_entropic.value_based.momentum import MoDQN
from sb3_entropic.value_based.quantile import MIQN, MQRDQN

__all__ = ["ALDQN", "CVIDQN", "DPP", "MDQN", "MIQN", "MQRDQN", "MoDQN", "SoftDQN"]
