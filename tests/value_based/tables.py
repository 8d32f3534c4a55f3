"""Tables in the place of networks, and every transition of a finite MDP as one batch."""

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sb3_entropic.tabular import FiniteMDP, garnet

GAMMA = 0.9
N_STATES, N_ACTIONS = 6, 3


def small_mdp() -> FiniteMDP:
    mdp = garnet(N_STATES, N_ACTIONS, 3, GAMMA, seed=1)
    # A Garnet's rewards are mostly 0: here each pair has its own.
    return FiniteMDP(mdp.transitions, th.rand(N_STATES, N_ACTIONS, generator=seeded(2)).double(), GAMMA)


def seeded(seed):
    return th.Generator().manual_seed(seed)


def table(seed, *shape, scale=2.0):
    return scale * th.randn(*shape, N_STATES, N_ACTIONS, generator=seeded(seed)).double()


def as_network(values):
    """``(S, A)`` or ``(n_quantiles, S, A)`` as what a network would give for a batch of state indices."""
    return lambda observations: values.movedim(-2, 0)[observations.flatten()]


def all_transitions(mdp, done=0.0):
    """Each ``(s, a, s')`` once, as a replay batch."""
    s, a, next_s = (index.reshape(-1, 1) for index in th.meshgrid(*map(th.arange, mdp.transitions.shape), indexing="ij"))
    rewards = mdp.rewards[s, a]
    return ReplayBufferSamples(s, a, next_s, th.full_like(rewards, done), rewards)


def expectation(mdp, targets):
    """``(S * A * S, n)`` targets of :func:`all_transitions`, averaged over the next state: ``(S, A, n)``."""
    return th.einsum("sat,satn->san", mdp.transitions, targets.reshape(*mdp.transitions.shape, -1))


def arguments():
    return {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 50, "gamma": GAMMA, "device": "cpu", "seed": 0}


def numpy_seed(seed=0):
    np.random.seed(seed)
    th.manual_seed(seed)
