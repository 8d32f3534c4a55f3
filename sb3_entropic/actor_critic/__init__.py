"""Actor-critic algorithms."""

from sb3_entropic.actor_critic.discrete_sac import DiscreteSAC
from sb3_entropic.actor_critic.msac import MSAC
from sb3_entropic.actor_critic.soft_q import SoftQ

__all__ = ["MSAC", "DiscreteSAC", "SoftQ"]
