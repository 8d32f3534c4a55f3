"""Actor-critic algorithms."""

from sb3_entropic.actor_critic.diayn import DIAYN
from sb3_entropic.actor_critic.discrete_sac import DiscreteSAC
from sb3_entropic.actor_critic.msac import MDAC, MSAC
from sb3_entropic.actor_critic.mtqc import MTQC
from sb3_entropic.actor_critic.soft_q import SoftQ

__all__ = ["DIAYN", "MDAC", "MSAC", "MTQC", "DiscreteSAC", "SoftQ"]
