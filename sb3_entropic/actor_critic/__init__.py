"""Actor-critic algorithms."""

from sb3_entropic.actor_critic.diayn import DIAYN
from sb3_entropic.actor_critic.discrete_sac import DiscreteSAC
from sb3_entropic.actor_critic.msac import MDAC, MSAC
from sb3_entropic.actor_critic.mtqc import MTQC

__all__ = ["DIAYN", "MDAC", "MSAC", "MTQC", "DiscreteSAC"]
