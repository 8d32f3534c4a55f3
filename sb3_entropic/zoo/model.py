"""Make a model, with its environments, from a zoo entry."""

from __future__ import annotations

import warnings
from typing import Any

import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic.catalog import Algorithm
from sb3_entropic.errors import UserError
from sb3_entropic.zoo.hyperparameters import HyperparameterError, constructor_arguments


def make_model(
    algorithm: Algorithm, env_id: str, hyperparameters: dict[str, Any], seed: int | None = None, **arguments: Any
) -> BaseAlgorithm:
    """A model ready to ``learn``, in ``n_envs`` environments (``VecNormalize``-d if the entry says ``normalize``).

    :param algorithm: see :data:`sb3_entropic.catalog.ALGORITHMS`
    :param env_id: environment id
    :param hyperparameters: zoo format, see :func:`sb3_entropic.zoo.load_hyperparameters`
    :param seed: of the networks, the exploration and the environments
    :param arguments: further constructor arguments, such as ``device`` or ``tensorboard_log``
    :raises HyperparameterError: for a name or a value the constructor does not take
    """
    keywords = {**constructor_arguments(algorithm, hyperparameters), **arguments}
    with warnings.catch_warnings():
        # An older version that is still registered is the user's choice: results of versions are never pooled.
        warnings.filterwarnings("ignore", message=".*is out of date.*")
        env = make_vec_env(env_id, n_envs=hyperparameters.get("n_envs", 1), seed=seed)
    if normalize := hyperparameters.get("normalize"):
        options = normalize if isinstance(normalize, dict) else {}
        env = VecNormalize(env, **{"gamma": keywords.get("gamma", 0.99), **options})
    try:
        return algorithm.constructor(hyperparameters.get("policy", "MlpPolicy"), env, seed=seed, **keywords)
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        env.close()
        raise HyperparameterError(f"{algorithm.name} on {env_id}: {error}") from error


def parse_override(text: str) -> tuple[str, Any]:
    """``"munchausen_alpha=0.9"`` as ``("munchausen_alpha", 0.9)``; the value is read as YAML, so ``[-1, 1]`` is a list.

    :raises UserError: if there is no ``=``, or the value is not YAML
    """
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise UserError(f"{text!r} is not a hyperparameter: write name=value, such as munchausen_alpha=0.9.")
    try:
        return name.strip(), _number(yaml.safe_load(value))
    except yaml.YAMLError:
        raise UserError(f"The value in {text!r} cannot be read: write a number, a word or a list such as [-1, 1].") from None


def _number(value: Any) -> Any:
    """YAML 1.1 reads ``3e-4`` as text; everyone who types it means the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
