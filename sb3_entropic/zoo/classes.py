"""Classes that an entry can only name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common import buffers
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.her import HerReplayBuffer

from sb3_entropic.errors import HyperparameterError, nearest


def _subclasses(names: Mapping[str, Any], kind: type) -> dict[str, type]:
    return {name: value for name, value in names.items() if isinstance(value, type) and issubclass(value, kind)}


class _Kind(NamedTuple):
    """What an argument's class has to be, which of them need no module before their name, and how these are called."""

    base: type
    known: dict[str, type]
    called: str


_OPTIMIZERS = {**vars(th.optim), RMSpropTFLike.__name__: RMSpropTFLike}
_BUFFERS = {**vars(buffers), HerReplayBuffer.__name__: HerReplayBuffer}
CLASSES: dict[str, _Kind] = {
    "activation_fn": _Kind(th.nn.Module, _subclasses(vars(th.nn), th.nn.Module), "a torch.nn module"),
    "features_extractor_class": _Kind(BaseFeaturesExtractor, {}, ""),
    "optimizer_class": _Kind(th.optim.Optimizer, _subclasses(_OPTIMIZERS, th.optim.Optimizer), "one of torch.optim"),
    "replay_buffer_class": _Kind(ReplayBuffer, _subclasses(_BUFFERS, ReplayBuffer), "a ReplayBuffer of SB3's"),
    "rollout_buffer_class": _Kind(RolloutBuffer, _subclasses(_BUFFERS, RolloutBuffer), "a RolloutBuffer of SB3's"),
}
"""Arguments that are classes, of an algorithm or in its ``policy_kwargs``."""


def as_class(option: str, name: Any) -> type:
    """The class that an argument names; a class stays what it is.

    :param option: one of :data:`CLASSES`
    :param name: with the module's full name, which torch's own and SB3's do without
    :raises HyperparameterError: if it is not there; names the nearest
    """
    if isinstance(name, type):
        return name
    base, known, called = CLASSES[option]
    plain = re.sub(r"^((th|torch)\.)?(nn|optim)\.", "", str(name))
    if not isinstance(name, str) or not known or "." in plain:
        return find_class(option, name, base)
    if plain not in known:
        raise HyperparameterError(f"{option}={name!r} is not {called}{nearest(plain, known)}")
    return known[plain]


def find_class(option: str, name: Any, kind: type) -> type:
    """The class of that kind with that dotted name.

    :param option: what it is for
    :param name: with the module's full name
    :param kind: of which it is to be a subclass
    :raises HyperparameterError: if it is not there; names the nearest
    """
    module_name, _, class_name = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not module_name:
        raise HyperparameterError(f"{option}={name!r} is not a class: write module.Class, with the module's full name.")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError) as error:
        raise HyperparameterError(f"{option}={name!r} cannot be imported: {str(error).rstrip('.')}.") from None
    known = _subclasses(vars(module), kind)
    if class_name not in known:
        raise HyperparameterError(f"{option}={name!r} is not a {kind.__name__}{nearest(class_name, known)}")
    return known[class_name]
