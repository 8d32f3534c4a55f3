"""The hyperparameters that a user gives a grid: overrides, sweeps, and a file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from sb3_entropic.catalog import find_algorithm
from sb3_entropic.envs.registry import without_module
from sb3_entropic.errors import UserError, nearest
from sb3_entropic.zoo import FAMILIES, check_name, checked_value, parse_override


def settings_of(overrides: list[str], sweeps: list[str], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """By algorithm, what is set of each of its experiments: one, or as many as sweeps have combinations of values.

    :param overrides: ``algo.name=value`` (that algorithm only) or ``name=value`` (all of them)
    :param sweeps: ``algo.name=value,value`` or ``name=value,value``
    :param names: of the grid's algorithms
    :raises UserError: for what is none of these, or named twice
    """
    swept = [*map(_values_of, sweeps)]
    _check_named_once(overrides, swept, names)
    settings: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for values in itertools.product(*swept):
        for name, chosen in _split_overrides([*overrides, *values], names).items():
            # A value for another algorithm makes no experiment of this one.
            settings[name] += [chosen] * (chosen not in settings[name])
    return settings


def _check_named_once(overrides: list[str], sweeps: list[list[str]], names: list[str]) -> None:
    """
    :param names: of the grid's algorithms
    :raises UserError: if two sweeps have values for one thing, or an override is for nothing but what is swept
    """

    def meant(text: str) -> set[tuple[str, str]]:
        return {(algo, name) for algo, chosen in _split_overrides([text], names).items() for name in chosen}

    swept: set[tuple[str, str]] = set()
    for values in sweeps:
        if both := swept & meant(values[0]):
            _, name = min(both)
            raise UserError(f"{name!r} is swept twice: write all its values in one sweep, {name}=value,value.")
        swept |= meant(values[0])
    for text in overrides:
        if meant(text) <= swept:
            raise UserError(f"{text!r} is for what is swept: leave it out, or add its value to the sweep.")


def _values_of(text: str) -> list[str]:
    """``"alpha=0,0.5"`` as ``["alpha=0", "alpha=0.5"]``.

    :raises UserError: if there is no name, or no list of values
    """
    name, equals, values = text.partition("=")
    depth, parts = 0, [""]
    for character in values:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if not (name.strip() and equals) or not all(part.strip() for part in parts):
        raise UserError(f"{text!r} is not a sweep: write name=value,value, such as munchausen_alpha=0,0.5,0.9.")
    return [f"{name}={part.strip()}" for part in parts]


def read_entries(path: Path, names: list[str], envs: list[str]) -> dict[str, Any]:
    """A user's file of hyperparameters, by algorithm.

    :param names: of the grid's algorithms
    :param envs: ids of its environments
    :raises UserError: if it cannot be read, names an algorithm that is not in the grid or what is no environment, or has a
        value that is none
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"The hyperparameters {path} cannot be read: {' '.join(str(error).split())}.") from None
    levels = [content, *content.values()] if isinstance(content, dict) else [content]
    levels += [entry for level in levels[1:] if isinstance(level, dict) for entry in level.values()]
    if not all(isinstance(level, dict) for level in levels):
        raise UserError(
            f"{path} is not a file of hyperparameters: write algorithm, below it an environment id or default, below that "
            "name: value."
        )
    known = {*FAMILIES, *envs, *map(without_module, envs), *gym.registry}
    for name, entries in content.items():
        if name not in names:
            raise UserError(
                f"{path} is for {name!r}, which is not in the grid ({', '.join(names)}){nearest(str(name), names)}"
            )
        for env in entries:
            if env not in known:
                raise UserError(f"{path} names {env!r}, which is no environment{nearest(str(env), known)}")
    for entry in (entry for entries in content.values() for entry in entries.values()):
        for name, value in entry.items():
            text = f"{name}: {value}"
            if not isinstance(name, str):
                raise UserError(f"{text!r} in {path} is not a hyperparameter: its name is no text.")
            # An entry of the zoo's says for how long it was made.
            if name != "n_timesteps":
                check_name(name, text)
            entry[name] = checked_value(value, text)
    return content


def _split_overrides(texts: list[str], names: list[str]) -> dict[str, dict[str, Any]]:
    """``["msac.munchausen_alpha=0.9", "gamma=0.98"]`` by algorithm."""
    split: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in texts:
        name, value = parse_override(text)
        prefix, dot, rest = name.rpartition(".")
        if dot and prefix not in split:
            raise UserError(
                f"{text!r} names {prefix!r}, which is not in the grid ({', '.join(names)}){nearest(prefix, names)}"
            )
        takes = [n for n in names if name in find_algorithm(n).parameters]
        if not dot and takes and len(takes) < len(names):
            raise UserError(f"{name!r} is for {', '.join(takes)} alone in this grid: write {takes[0]}.{text}.")
        for target in [prefix] if dot else names:
            split[target][rest if dot else name] = value
    return split
