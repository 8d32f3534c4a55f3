"""State-dependent exploration (gSDE, arXiv 2005.05719): SB3's actors, with their random draws made outside.

An action is off its mean by the actor's latent features times a matrix, which is held on to for several steps.
"""

from __future__ import annotations

import torch as th
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from torch import nn


def is_state_dependent(actor: nn.Module) -> bool:
    """Whether the actor explores by SB3's state-dependent noise."""
    return type(getattr(actor, "action_dist", None)) is StateDependentNoiseDistribution


def draw_matrices(actor: nn.Module, count: int, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
    """Standard-normal draws of the matrices, in SB3's order: one to share, ``(latent_dim, action_dim)``, then ``count``.

    :param actor: that explores state-dependently
    :param count: of environments, or 1
    :param generator: of the CPU
    """
    distribution, dtype = actor.action_dist, next(actor.parameters()).dtype
    shape = (distribution.latent_sde_dim, distribution.action_dim)
    shared, each = (th.empty(size, dtype=dtype).normal_(generator=generator) for size in (shape, (count, *shape)))
    return shared, each


def explore_anew(actor: nn.Module, n_envs: int, generator: th.Generator) -> None:
    """Draw what the actor explores by from now on, as its ``reset_noise`` does.

    :param actor: that explores state-dependently, with the ``log_std`` of its matrices
    :param n_envs: number of environments
    :param generator: of the CPU
    """
    distribution = actor.action_dist
    with th.no_grad():
        std = distribution.get_std(actor.log_std)
        drawn = draw_matrices(actor, n_envs, generator)
        distribution.exploration_mat, distribution.exploration_matrices = (draws.to(std.device) * std for draws in drawn)


def matrices_of(actor: nn.Module, n_envs: int) -> th.Tensor:
    """What the actor explores by at present, ``(n_envs, latent_dim, action_dim)``.

    :param actor: that explores state-dependently
    :param n_envs: number of environments
    """
    distribution = actor.action_dist
    shared, each = distribution.exploration_mat, distribution.exploration_matrices
    # Those of before the first rollout are another number, and may be of the networks as they were made.
    matrices = each if len(each) == n_envs > 1 else shared.expand(n_envs, -1, -1)
    return matrices.detach().to(actor.log_std)
