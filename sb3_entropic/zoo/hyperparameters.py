"""Read zoo-format YAML and turn an entry into an algorithm's constructor arguments."""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from sb3_entropic.catalog import ALGORITHMS, Algorithm
from sb3_entropic.digests import digest_of, is_installed
from sb3_entropic.envs.registry import without_module
from sb3_entropic.errors import HyperparameterError, nearest
from sb3_entropic.temperature import as_scheduled
from sb3_entropic.zoo.classes import CLASSES, as_class, find_class

ZOO_KEYS: dict[str, Any] = {
    **{"n_timesteps": None, "policy": None, "n_envs": 1, "normalize": False, "env_wrapper": None, "frame_stack": 1},
    **{"noise_type": None, "noise_std": None},
}
"""Keys of an entry that are not the constructor's, with what an entry that lacks them means: total steps, policy name (by
default the one for the observation space), environments, VecNormalize, wrappers of an environment, observations shown as one,
and the kind and the standard deviation of the noise on actions."""


def load_hyperparameters(algorithm: Algorithm, env_id: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The entry for an environment, in zoo format; SB3's defaults (an empty entry) where there is none.

    All Atari games share one, ``atari``, and ``ALE`` where they skip frames themselves. An algorithm of ours starts from its
    parent's entry and puts its own on top, unless what is given leaves it nothing but its parent's losses.

    :param algorithm: see :data:`sb3_entropic.catalog.ALGORITHMS`
    :param env_id: with its version, which is part of the entry's name; the module that registers it is not
    :param given: what will go over the entry
    """
    if algorithm.is_off(given or {}):
        algorithm = ALGORITHMS[algorithm.parent]
    inherited = load_hyperparameters(ALGORITHMS[algorithm.parent], env_id) if algorithm.parent else {}
    # What is inside an entry is the caller's, too.
    return {**inherited, **deepcopy(find_entry(_entries(algorithm.name), env_id))}


FAMILIES = ("atari", "ALE", "default")
"""Entries that environments share: Atari games without and with a frame skip of their own, and all others."""


def find_entry(entries: dict[str, dict[str, Any]], env_id: str) -> dict[str, Any]:
    """The entry of an environment, else its family's, else the default's, else an empty one.

    :param entries: of one algorithm, by environment id or family
    :param env_id: with its version, and the module that registers it, if any
    """
    keys = (env_id, without_module(env_id), _family(env_id), "default")
    return next((entries[key] for key in keys if key in entries), {})


def _family(env_id: str) -> str:
    registered = gym.registry.get(without_module(env_id))
    if registered is None or not str(registered.entry_point).startswith("ale_py."):
        return "default"
    return "atari" if registered.kwargs.get("frameskip") == 1 else "ALE"


def how_found(algorithm: str, env_id: str) -> str:
    """How an entry of ours was found, where that was on the environment itself, as a clause; else empty.

    :param algorithm: its short name
    :param env_id: with its version
    """
    return _read("searched.yml").get(algorithm, {}).get(without_module(env_id), "")


def _entries(name: str) -> dict[str, Any]:
    return _read(f"hyperparams/{name}.yml")


@lru_cache
def _read(name: str) -> dict[str, Any]:
    path = files("sb3_entropic.zoo") / name
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}


def constructor_arguments(algorithm: Algorithm, hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """What of an entry goes to the constructor, with schedules, tuples and classes made from their text.

    :param hyperparameters: zoo format, see :func:`load_hyperparameters`
    :raises HyperparameterError: for a name the constructor does not have, or a class that is not there; names the nearest
    """
    known = algorithm.parameters
    arguments = {}
    for name, value in hyperparameters.items():
        if name in ZOO_KEYS:
            continue
        if name not in known:
            raise HyperparameterError(f"{algorithm.name} has no hyperparameter {name!r}{nearest(name, {*known, *ZOO_KEYS})}")
        arguments[name] = _from_text(name, value)
    return arguments


def digests_of_own(hyperparameters: dict[str, Any]) -> str:
    """The user's own classes that an entry names, with digests of the files they are in, such as ``mine.Scale 1a2b3c4d5e``.

    Empty for those of installed packages and of this one, whose versions say what they are.

    :param hyperparameters: zoo format
    """
    classes = [find_class("env_wrapper", name, gym.Wrapper) for name, _ in named_wrappers(hyperparameters)]
    policy_kwargs = from_python(hyperparameters.get("policy_kwargs"))
    named = {**hyperparameters, **(policy_kwargs if isinstance(policy_kwargs, dict) else {})}
    classes += [as_class(name, named[name]) for name in CLASSES if named.get(name) is not None]
    places = {f"{cls.__module__}.{cls.__name__}": Path(inspect.getfile(cls)) for cls in classes}
    own = {name: path for name, path in places.items() if not is_installed(path)}
    return ", ".join(f"{name} {digest_of(path.read_bytes())}" for name, path in own.items())


def count_of(hyperparameters: dict[str, Any], name: str) -> int:
    """How many of something an entry asks for, 1 where it does not say.

    :param hyperparameters: zoo format
    :param name: of the hyperparameter, such as ``n_envs``
    :raises HyperparameterError: if it is not a whole number above 0
    """
    count = hyperparameters.get(name, 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise HyperparameterError(f"{name}={count!r} is not a whole number above 0.")
    return count


def named_wrappers(hyperparameters: dict[str, Any]) -> list[tuple[Any, Any]]:
    """The names of an entry's wrappers and their arguments, the innermost first.

    :param hyperparameters: zoo format
    """
    entry = hyperparameters.get("env_wrapper", [])
    items = entry if isinstance(entry, list) else [entry]
    return [pair for item in items for pair in (item.items() if isinstance(item, dict) else [(item, None)])]


def _from_text(name: str, value: Any) -> Any:
    try:
        value = as_scheduled(name, value)
    except ValueError as error:
        raise HyperparameterError(str(error)) from None
    if name == "train_freq" and isinstance(value, list):
        return tuple(value)
    if value is None:
        return None
    if name in CLASSES:
        return as_class(name, value)
    if name in _MAPPINGS:
        value = from_python(value)
        if not isinstance(value, dict):
            raise HyperparameterError(f"{name}={value!r} is not a mapping: write {{{_MAPPINGS[name]}}}, say.")
        if name == "policy_kwargs":
            return {key: as_class(key, inner) if key in CLASSES else inner for key, inner in value.items()}
    return value


_MAPPINGS = {
    "policy_kwargs": "net_arch: [64, 64]",
    "replay_buffer_kwargs": "n_sampled_goal: 4",
    "rollout_buffer_kwargs": "name: value",
}
"""Arguments that are mappings, with an example of each."""


def from_python(value: Any) -> Any:
    """What the zoo writes as Python, such as ``dict(net_arch=[64, 64], activation_fn=nn.ReLU)``; a class stays its name.

    :param value: text that is a literal or a call of ``dict``; anything else stays as it is
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError, TypeError):
            return _from_node(ast.parse(value.strip(), mode="eval").body)
    return value


def _from_node(node: ast.expr) -> Any:
    if isinstance(node, ast.Name | ast.Attribute):
        return ast.unparse(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {keyword.arg: _from_node(keyword.value) for keyword in node.keywords}
    return ast.literal_eval(node)
