"""Actor-critic algorithms."""

from sb3_entropic.actor_critic.diayn import DIAYN
from sb3_entropic.actor_critic.discrete_sac import DiscreteSAC
from sb3_entropic.actor_critic.msac import MSAC

__all__ = ["DIAYN", "MSAC", "DiscreteSAC"]
