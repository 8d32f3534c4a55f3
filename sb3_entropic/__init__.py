"""Entropy-regularised reinforcement learning for Stable-Baselines3.

Replace ``from stable_baselines3 import SAC`` by ``from sb3_entropic import MSAC``; policies, callbacks, vectorised
environments, saving and logging stay as they are.
"""

import sb3_entropic.envs  # noqa: F401, gymnasium learns their ids by it
from sb3_entropic.active_inference import VFE
from sb3_entropic.actor_critic import DIAYN, MDAC, MSAC, MTQC, DiscreteSAC, SoftQ
from sb3_entropic.engine.options import Engine
from sb3_entropic.on_policy import EntropyPPO, MaxEntPPO
from sb3_entropic.train_seeds import SeedsFailedError, train_seeds
from sb3_entropic.value_based import ALDQN, CVIDQN, DPP, MDQN, MIQN, MQRDQN, MoDQN, SoftDQN

__version__ = "0.1.0"

__all__ = [
    "ALDQN",
    "CVIDQN",
    "DIAYN",
    "DPP",
    "MDAC",
    "MDQN",
    "MIQN",
    "MQRDQN",
    "MSAC",
    "MTQC",
    "VFE",
    "DiscreteSAC",
    "Engine",
    "EntropyPPO",
    "MaxEntPPO",
    "MoDQN",
    "SeedsFailedError",
    "SoftDQN",
    "SoftQ",
    "__version__",
    "train_seeds",
]
