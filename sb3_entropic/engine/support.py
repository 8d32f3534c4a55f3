"""What the fast engine can run, and what is left to SB3's own loop."""

from __future__ import annotations

import inspect
from importlib import import_module
from itertools import chain
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch import nn

from sb3_entropic.engine.alike import differences, structure
from sb3_entropic.engine.known import is_known

METHODS = (
    *("learn", "_setup_learn", "collect_rollouts", "_sample_action", "predict", "_store_transition", "_on_step"),
    *("train", "after_gradient_step", "_update_learning_rate"),
)
"""What the engine does in its own way, so that a user's own would not be called."""
CALLED_AS_THEY_ARE = (
    "load",
    "save",
    "get_parameters",
    "set_parameters",
    "check_arguments",
    "coefficients",
    "gradient_steps_between",
    "dump_logs",
    "set_logger",
)
"""Methods that losses do not consist of."""
NOT_REPLACED = tuple(name for name in METHODS if name != "learn")
"""The same methods, as attributes of a single model; its ``learn`` has been called by then."""
OF_POLICY = (
    *("predict", "_predict", "forward", "get_distribution", "predict_values", "evaluate_actions"),
    *("obs_to_tensor", "extract_features", "action_log_prob"),
)
"""Methods of policies that are recorded, or that the engine replaces, as attributes of a single one."""
OF_ROLLOUTS = ("add", "get", "_get_samples", "swap_and_flatten")
"""The same of rollout buffers."""
RECORDED_POLICIES = (CategoricalDistribution, DiagGaussianDistribution, StateDependentNoiseDistribution)
"""How on-policy algorithms act, as far as it is recorded."""
DEVICES = ("cpu", "cuda")
GLOBAL_HOOKS = (
    *((th.nn.modules.module, f"_global_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre")),
    *((import_module("torch.optim.optimizer"), f"_global_optimizer_{kind}_hooks") for kind in ("pre", "post")),
)
"""Where torch keeps what is to be called of every module and optimiser."""
RANDOM_OR_STATEFUL = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU, nn.RNNBase)


def why_not(model: Any) -> str | None:
    """Why a model is left to SB3's own loop, as a clause; ``None`` if the fast engine can run it.

    :param model: an algorithm whose ``learn`` is about to begin
    """
    reasons = (_why_not_class, _why_not_policy, _why_not_hooks, _why_not_data, _why_not_optimizers)
    return next((found for reason in reasons if (found := reason(model)) is not None), None)


def why_not_unasked(model: Any) -> str | None:
    """Why a model is left to SB3's own loop unless the fast engine is asked for, as a clause; ``None`` if it is not.

    :param model: that :func:`why_not` has nothing against
    """
    classes = type(model).__mro__
    ours = {name for cls in classes if cls.__module__.startswith(f"{__package__.split('.')[0]}.") for name in vars(cls)}
    methods = [(cls, name, value) for cls in classes for name, value in vars(cls).items() if inspect.isfunction(value)]
    found = [(cls, name) for cls, name, method in methods if name in ours and not is_known(method)]
    once = 'of which engine="fast" would record the operations once'
    for cls, name in found:
        if is_known(cls):
            return f"{cls.__name__}'s {name} was replaced, {once}"
        if not name.startswith("_") and name not in CALLED_AS_THEY_ARE:
            return f"{cls.__name__} has its own {name}, {once}"
    for name, value in vars(model).items():
        if callable(value) and inspect.isfunction(getattr(type(model), name, None)):
            return f"its {name} was replaced, {once}"
    return None


def why_not_together(models: list[Any]) -> str | None:
    """Why models cannot share a stack, as a clause; ``None`` if they can.

    :param models: each with a seed of its own
    """
    if reason := why_not(models[0]) or (why_not_unasked(models[0]) if models[0].engine.kind == "auto" else None):
        return reason
    first = structure(models[0])
    for model in models[1:]:
        if not all(map(th.equal, models[0].policy.buffers(), model.policy.buffers())):
            return "the models differ in what their networks hold besides parameters"
        other = structure(model)
        if different := differences(first, other):
            return f"the models differ in {different[0]}: {first[different[0]]} and {other[different[0]]}"
    return None


def _why_not_class(model: Any) -> str | None:
    for name in METHODS:
        if hasattr(type(model), name) and not is_known(getattr(type(model), name)):
            return f"{type(model).__name__} has its own {name}"
    for name in NOT_REPLACED:
        if name in vars(model):
            return f"its {name} was replaced"
    return None


def hooks_of(model: Any) -> list[dict[int, Any]]:
    """Where the functions are kept that its modules and optimisers are to call, as far as a recorded step would not.

    The mappings stay the same objects as long as the modules and optimisers do, and are empty in most models.
    """
    found = []
    for module in model.policy.modules():
        found += [module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks]
    for update in model.updates():
        found += [update.optimizer._optimizer_step_pre_hooks, update.optimizer._optimizer_step_post_hooks]
    return found


def hooks_of_parameter(parameter: th.Tensor) -> tuple[Any, Any]:
    """What is to be called with its gradient: two mappings, or ``None``."""
    return parameter._backward_hooks, parameter._post_accumulate_grad_hooks


def _why_not_hooks(model: Any) -> str | None:
    own = (value for value in vars(model).values() if isinstance(value, th.Tensor))
    of_parameters = map(any, map(hooks_of_parameter, chain(model.policy.parameters(), own)))
    of_all = (vars(place)[name] for place, name in GLOBAL_HOOKS)
    if any(hooks_of(model)) or any(of_parameters) or any(of_all):
        return "hooks are to be called at every step"
    return None


def _why_not_policy(model: Any) -> str | None:
    policy, inside = model.policy, {*map(id, model.policy.modules())}
    for name, value in vars(model).items():
        if isinstance(value, nn.Module) and id(value) not in inside:
            return f"its {name} is no part of its policy"
    if model.device.type not in DEVICES:
        return f"it runs on {' and '.join(DEVICES)}, not on {model.device.type}"
    if model.device.type != "cpu" and hasattr(model, "rollout_buffer"):
        return "on-policy algorithms gain nothing on a GPU"
    if not isinstance(model.observation_space, spaces.Box):
        return "it takes vectors of observations"
    for module in policy.modules():
        if are_replaced(OF_POLICY, module):
            return f"a method of the policy's {type(module).__name__} was replaced"
        if isinstance(module, RANDOM_OR_STATEFUL) or not is_known(type(module)):
            return f"the policy holds a {type(module).__name__}"
    if policy.features_extractor_class is not FlattenExtractor:
        return f"the features extractor is a {policy.features_extractor_class.__name__}"
    return None


def are_replaced(names: tuple[str, ...], owner: Any) -> bool:
    """Whether one of an object's methods was replaced, by name."""
    return not vars(owner).keys().isdisjoint(names)


def _why_not_data(model: Any) -> str | None:
    return _why_not_rollouts(model) if hasattr(model, "rollout_buffer") else why_not_replay(model)


def _why_not_rollouts(model: Any) -> str | None:
    if model.policy.squash_output:
        return "the policy's actions are squashed"
    if type(model.policy.action_dist) not in RECORDED_POLICIES:
        return f"the actions are a {type(model.policy.action_dist).__name__}'s"
    if not is_known(type(model.rollout_buffer)):
        return f"the rollout buffer is a {type(model.rollout_buffer).__name__}"
    if are_replaced(OF_ROLLOUTS, model.rollout_buffer):
        return "a method of the rollout buffer was replaced"
    normalised = model._vec_normalize_env is not None and model._vec_normalize_env.norm_obs
    if normalised and not np.issubdtype(model.observation_space.dtype, np.floating):
        return "whole numbers are normalised, and the space says that they stay whole"
    collected = model.n_steps * model.n_envs
    if collected % min(model.batch_size, collected):
        return f"the last minibatch of {collected} steps would be smaller than batch_size={model.batch_size}"
    return None


def why_not_replay(model: Any) -> str | None:
    """The part of :func:`why_not` that is about the replay buffer, what fills it and how often it is learned from."""
    if type(model.replay_buffer) not in (ReplayBuffer, NStepReplayBuffer) or model.replay_buffer.optimize_memory_usage:
        return "the replay buffer is not SB3's plain one, nor that of n-step returns"
    if are_replaced(("add", "sample", "_get_samples"), model.replay_buffer):
        return "a method of the replay buffer was replaced"
    if model._vec_normalize_env is not None:
        return "observations or rewards are normalised as they change"
    return "train_freq counts episodes" if model.train_freq.unit is not TrainFrequencyUnit.STEP else None


def _why_not_optimizers(model: Any) -> str | None:
    own = {*map(id, model.policy.parameters()), *(id(value) for value in vars(model).values())}
    for update in model.updates():
        optimizer = update.optimizer
        if "step" in vars(optimizer):
            return "an optimiser's step was replaced"
        if any(id(parameter) not in own for parameter in update.parameters):
            return "an optimiser has parameters that are not the policy's"
        if type(optimizer) not in (th.optim.Adam, th.optim.AdamW):
            return f"the optimiser is {type(optimizer).__name__}, not Adam"
        if len(optimizer.param_groups) > 1:
            return "the optimiser has several groups of parameters"
        # On a GPU the last two have a user's optimiser count its steps there, and ours does not.
        unusable = ("amsgrad", "maximize", "differentiable") + (("fused", "capturable") if model.device.type != "cpu" else ())
        unusual = [name for name in unusable if optimizer.param_groups[0][name]]
        if unusual:
            return f"Adam has {unusual[0]} set"
    return None
