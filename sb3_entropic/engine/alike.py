"""What models that learn together have in common, and what a recorded step takes for granted of them."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_entropic.engine.known import is_known

COUNTS = (
    *("batch_size", "train_freq", "gradient_steps", "learning_starts", "target_update_interval"),
    *("num_timesteps", "n_envs", "buffer_size", "top_quantiles_to_drop_per_net"),
    *("n_steps", "n_epochs", "vf_coef", "max_grad_norm", "normalize_advantage", "target_kl", "samples"),
    *("use_sde", "sde_sample_freq", "use_sde_at_warmup"),
)
LOOP = (
    *("train_freq", "gradient_steps", "learning_starts", "target_update_interval", "n_steps", "n_epochs", "target_kl"),
    *("use_sde", "sde_sample_freq", "num_timesteps"),
)
"""What the loop reads off one model for all."""
RECORDED = ("batch_size", "vf_coef", "max_grad_norm", "normalize_advantage", "top_quantiles_to_drop_per_net")
"""SB3's own arguments that a recorded step has as constants."""


def most_alike(models: list[Any], before: dict[str, Any]) -> list[Any]:
    """The largest group among models that are alike; of several the one that is as they were.

    :param models: at least one
    :param before: the :func:`structure` of one of them, when they were alike
    """
    groups: list[tuple[dict[str, Any], list[Any]]] = []
    for model in models:
        own = structure(model)
        group = next((members for of, members in groups if not differences(own, of)), None)
        if group is None:
            groups.append((own, [model]))
        else:
            group.append(model)
    # The steps that have been taken since are no difference.
    changes = [len({*differences(own, before)} - {"num_timesteps"}) for own, _ in groups]
    best = max(range(len(groups)), key=lambda index: (len(groups[index][1]), -changes[index]))
    return groups[best][1]


def loops_alike(models: list[Any]) -> bool:
    """Whether what the loop reads off one model holds for all of them."""
    return all(getattr(model, name, None) == getattr(models[0], name, None) for model in models[1:] for name in LOOP)


def options_of(model: Any) -> dict[str, Any]:
    """The arguments of ours that a recorded step takes for granted, by name, and of a user's class those that are plain."""
    found = {}
    for cls in (cls for cls in type(model).__mro__ if "__init__" in vars(cls) and cls is not object):
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and hasattr(model, name):
                value = getattr(model, name)
                if is_known(cls) or isinstance(value, _PLAIN):
                    found[name] = value
    return {name: value for name, value in found.items() if name not in model.coefficients()}


_PLAIN = (bool, int, float, str, type(None))
"""Of others a class alone knows whether two are equal."""


def taken_for_granted(model: Any) -> dict[str, Any]:
    """The arguments that a recorded step takes for granted, by name."""
    return {**options_of(model), **{name: getattr(model, name) for name in RECORDED if hasattr(model, name)}}


def structure(model: Any) -> dict[str, Any]:
    """What the models of a stack have in common."""
    return {
        "class": type(model),
        **{name: getattr(model, name, None) for name in COUNTS},
        **options_of(model),
        "replay buffer": _kind_of(getattr(model, "replay_buffer", None)),
        "terms": sorted(model.coefficients()),
        "policy": repr(model.policy),
        "dtypes": [parameter.dtype for parameter in model.policy.parameters()],
        "trainable": [parameter.requires_grad for parameter in model.policy.parameters()],
        "optimizer": [update.settings for update in model.updates()],
    }


def _kind_of(buffer: ReplayBuffer | None) -> tuple[Any, ...]:
    if buffer is None:
        return ()
    shapes = (buffer.buffer_size, buffer.n_envs, buffer.obs_shape, buffer.observations.dtype, buffer.actions.dtype)
    return (type(buffer).__name__, *shapes, getattr(buffer, "n_steps", 1))


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """In what two models differ, by the names of a :func:`structure`."""
    return [name for name in first if name not in second or not is_same(first[name], second[name])]


def is_same(first: Any, second: Any) -> bool:
    """Whether two values are equal, or copies of an object that does not know when it is, such as SB3's schedules."""
    if first is second:
        return True
    if isinstance(first, np.ndarray | th.Tensor) or isinstance(second, np.ndarray | th.Tensor):
        return np.array_equal(first, second)
    if first == second:
        return True
    if isinstance(first, partial) and isinstance(second, partial):
        return (first.func, first.args, first.keywords) == (second.func, second.args, second.keywords)
    ours, theirs = getattr(first, "__dict__", {}), getattr(second, "__dict__", {})
    # What holds nothing, such as a function, is what it is.
    if type(first) is not type(second) or not ours or inspect.isroutine(first):
        return False
    return ours.keys() == theirs.keys() and all(is_same(value, theirs[name]) for name, value in ours.items())
