"""Make a model, with its environments, from a zoo entry."""

from __future__ import annotations

import json
import warnings
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import yaml
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic.catalog import ALGORITHMS, Algorithm, check_suits
from sb3_entropic.checks import check_actions, check_finite, check_inherited
from sb3_entropic.errors import HyperparameterError, UserError, is_refusal, nearest
from sb3_entropic.zoo.hyperparameters import constructor_arguments, count_of, from_python
from sb3_entropic.zoo.wrappers import env_wrapper


def make_model(
    algorithm: Algorithm, env_id: str, hyperparameters: dict[str, Any], seed: int | None = None, **arguments: Any
) -> BaseAlgorithm:
    """A model ready to ``learn``, in ``n_envs`` environments with the entry's wrappers, ``normalize`` and noise on actions.

    :param algorithm: see :data:`sb3_entropic.catalog.ALGORITHMS`
    :param env_id: environment id
    :param hyperparameters: zoo format, see :func:`sb3_entropic.zoo.load_hyperparameters`
    :param seed: of the networks, the exploration and the environments
    :param arguments: further constructor arguments, such as ``device`` or ``tensorboard_log``
    :raises HyperparameterError: for a name or a value the constructor does not take
    :raises UserError: if the algorithm does not take the actions that the wrappers leave
    """
    try:
        return _make_model(algorithm, env_id, hyperparameters, seed, arguments)
    except UserError:
        raise
    except _WRONG_VALUE as error:
        if not is_refusal(error):
            raise
        raise HyperparameterError(f"{algorithm.name} on {env_id}: {error}") from error


_WRONG_VALUE = (
    *(ValueError, TypeError, AssertionError, RuntimeError, AttributeError, LookupError, ArithmeticError, MemoryError),
    gym.error.Error,
)
"""What SB3, torch and gymnasium raise for a value they cannot use."""


def _make_model(
    algorithm: Algorithm, env_id: str, hyperparameters: dict[str, Any], seed: int | None, arguments: dict[str, Any]
) -> BaseAlgorithm:
    keywords = {**constructor_arguments(algorithm, hyperparameters), **arguments}
    if algorithm.name in ALGORITHMS:
        # SB3's own do not look.
        check_inherited(keywords, keywords)
    if algorithm.name == "ppo" and "ent_coef" in hyperparameters:
        # SB3's PPO multiplies by it after a whole rollout.
        check_finite("ent_coef", hyperparameters["ent_coef"])
    if isinstance(keywords.get("action_noise"), int | float | str):
        raise HyperparameterError(
            f"action_noise={keywords['action_noise']!r} is no noise: write noise_type=normal and noise_std=0.1, say."
        )
    wrapper, n_envs = env_wrapper(hyperparameters), count_of(hyperparameters, "n_envs")
    with warnings.catch_warnings():
        # An older version that is still registered is the user's choice: results of versions are never pooled.
        warnings.filterwarnings("ignore", message=".*is out of date.*")
        # SB3 makes environments that can render, and LunarLander's then move every spark of an episode at every step.
        env = make_vec_env(partial(gym.make, env_id), n_envs=n_envs, seed=seed, wrapper_class=wrapper)
    try:
        if normalize := _normalization(hyperparameters.get("normalize")):
            options = normalize if isinstance(normalize, dict) else {}
            env = VecNormalize(env, **{"gamma": keywords.get("gamma", 0.99), **options})
        policy = hyperparameters.get("policy", policy_for(env.observation_space))
        # SB3's own do not look.
        check_actions(env.action_space)
        check_suits(algorithm, env.action_space, env_id)
        if "noise_type" in hyperparameters or "noise_std" in hyperparameters:
            keywords["action_noise"] = _action_noise(algorithm, hyperparameters, env.action_space)
        return algorithm.constructor(policy, env, seed=seed, **keywords)
    except _WRONG_VALUE:
        env.close()
        raise


_NOISE = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}


def _action_noise(algorithm: Algorithm, hyperparameters: dict[str, Any], space: spaces.Space) -> ActionNoise:
    kind, std = hyperparameters.get("noise_type"), hyperparameters.get("noise_std")
    if "action_noise" not in algorithm.parameters or not isinstance(space, spaces.Box):
        raise HyperparameterError(f"noise_type={kind!r} is for continuous actions and algorithms with a replay buffer.")
    if kind not in _NOISE:
        raise HyperparameterError(f"noise_type={kind!r} is not a kind of noise{nearest(str(kind), _NOISE)}")
    if not isinstance(std, int | float) or isinstance(std, bool) or not 0 <= std < np.inf:
        raise HyperparameterError(
            f"noise_std={std!r} is not a standard deviation: write a number from 0 on, in units of actions scaled to [-1, 1]."
        )
    return _NOISE[kind](np.zeros(space.shape), np.full(space.shape, float(std)))


def _normalization(value: Any) -> Any:
    """Whether to normalise, or arguments of ``VecNormalize``, which the zoo writes as Python: ``dict(norm_reward=False)``.

    :raises HyperparameterError: for anything else
    """
    found = from_python(value)
    if not isinstance(found, bool | dict | None):
        raise HyperparameterError(f"normalize={value!r} is neither true nor false, nor arguments of VecNormalize.")
    return found


def policy_for(space: spaces.Space) -> str:
    """The alias of the policy that takes such observations.

    :param space: of the observations
    """
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"


def parse_override(text: str) -> tuple[str, Any]:
    """``"munchausen_alpha=0.9"`` as ``("munchausen_alpha", 0.9)``; the value is read as YAML, so ``[-1, 1]`` is a list.

    :raises UserError: if there is no ``=``, the value cannot be read, or the name has an option of its own
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not (equals and name and value):
        raise UserError(f"{text!r} is not a hyperparameter: write name=value, such as munchausen_alpha=0.9.")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"The value in {text!r} cannot be read: {_VALUES}.") from None
    check_name(name.rpartition(".")[2], text)
    return name, checked_value(parsed, text)


def check_name(name: str, text: str) -> None:
    """Check that a hyperparameter may be set as one.

    :param name: of a hyperparameter
    :param text: what the user wrote, for the message
    :raises UserError: if it has an option of its own
    """
    if (option := _OPTIONS.get(name)) is not None:
        raise UserError(f"{text!r} is not a hyperparameter: {option}.")


def checked_value(value: Any, text: str) -> Any:
    """A hyperparameter's value as YAML gives it, with its numbers made numbers.

    :param text: what the user wrote, for the message
    :raises UserError: if no record can hold it
    """
    try:
        value = _number(value)
        json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"The value in {text!r} cannot be read: {_VALUES}.") from None
    return value


_VALUES = "write a number, a word or a list such as [-1, 1]"
_OPTIONS = {
    "n_timesteps": "the number of steps is --steps",
    "seed": "seeds are --seed or --seeds",
    "env": "the environment is --env",
    "device": "the device is --device",
}


def _number(value: Any) -> Any:
    """YAML 1.1 reads ``3e-4`` as text; everyone who types it means the number, inside of lists and mappings, too."""
    if isinstance(value, list):
        return [_number(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _number(inner) for name, inner in value.items()}
    # As Python writes it.
    if value == "None":
        return None
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() else number
    return value
