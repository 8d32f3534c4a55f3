"""A temperature under SB3's own names: fixed (``ent_coef_tensor``) or learned (``log_ent_coef``).

SB3 calls the temperature ``ent_coef``; its ``tau`` is Polyak averaging.
"""

from __future__ import annotations

from typing import Any

import torch as th


def current_temperature(model: Any) -> th.Tensor:
    """The temperature a gradient step uses, detached: of shape ``(1,)`` if learned, ``()`` if fixed.

    :param model: an algorithm with SB3's ``ent_coef_optimizer``, ``log_ent_coef`` and ``ent_coef_tensor``
    """
    return model.ent_coef_tensor if model.ent_coef_optimizer is None else th.exp(model.log_ent_coef.detach())


def temperature_loss(log_temperature: th.Tensor, log_prob: th.Tensor, target_entropy: float) -> th.Tensor:
    """Loss whose descent moves the policy's entropy towards its target (arXiv 1812.05905, eq. 18).

    As in SB3, ``log_temperature`` stands where the paper has the temperature itself: same sign, same fixed point. Its
    gradient is ``entropy - target_entropy``: the temperature rises exactly while the policy is too deterministic.

    :param log_temperature: the learned parameter, ``(1,)``
    :param log_prob: log-density of actions sampled from the policy, ``(batch, 1)``; no gradient reaches the policy
    :param target_entropy: nats
    :return: scalar
    """
    return -(log_temperature * (log_prob + target_entropy).detach()).mean()
