"""The algorithms of this package in rl-baselines3-zoo, whose commands then train, tune and load them by their short names.

rl_zoo3 has no place for plug-ins, but three dictionaries that its commands read when they run, and a class that reads
hyperparameters. It is optional, and imported by :func:`register` alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from sb3_entropic.catalog import ALGORITHMS, Algorithm, check_suits
from sb3_entropic.errors import UserError
from sb3_entropic.zoo.hyperparameters import constructor_arguments, load_hyperparameters
from sb3_entropic.zoo.model import policy_for
from sb3_entropic.zoo.wrappers import env_wrapper

OURS: dict[str, Algorithm] = {name: algorithm for name, algorithm in ALGORITHMS.items() if algorithm.parent}
"""What rl_zoo3 does not know by itself; its own names keep its own hyperparameters and samplers."""

hyperparams: dict[str, dict[str, Any]] = {}
"""The entry of the experiment at hand, by its environment's id: what rl_zoo3 reads of a module that ``-conf`` names."""

_ALPHA = {"low": 0.5, "high": 0.99}
_TEMPERATURE = {"low": 1e-3, "high": 0.3, "log": True}
_ENT_COEF = ["auto", 0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
_CONTINUOUS = {"ent_coef": _ENT_COEF, "munchausen_alpha": {"low": 0.0, "high": 0.95}, "munchausen_shift": [False, True]}
# Wider clips for the higher temperatures, of which a narrow one would leave nothing.
_MUNCHAUSEN = {"temperature": _TEMPERATURE, "munchausen_alpha": _ALPHA, "munchausen_clip": [-1.0, -3.0, -10.0]}
_KIND = ["number", "schedule", "learned"]
SEARCHED: dict[str, dict[str, dict[str, Any] | list[Any]]] = {
    "msac": _CONTINUOUS,
    "mdac": {**_CONTINUOUS, "munchausen_bound": ["clip(x/10)", "tanh(x/10)"]},
    "mtqc": _CONTINUOUS,
    "softq": {
        "ent_coef": {"low": 0.01, "high": 10.0, "log": True},
        "n_value_samples": [16, 32, 64],
        "proposal": ["uniform", "sampler"],
        "squash_correction": [False, True],
    },
    "softdqn": {"temperature": _TEMPERATURE, "soft_value": ["lse", "mellowmax"], "double_q": [False, True]},
    "mdqn": _MUNCHAUSEN,
    "cvidqn": _MUNCHAUSEN,
    "aldqn": {"munchausen_alpha": _ALPHA, "double_q": [False, True]},
    "dpp": {"temperature": _TEMPERATURE, "munchausen_clip": [-1.0, -3.0, -10.0], "double_q": [False, True]},
    "modqn": {"momentum": {"low": 0.5, "high": 0.99}, "exploration": ["epsilon", "boltzmann"], "temperature": _TEMPERATURE},
    "mqrdqn": _MUNCHAUSEN,
    "miqn": _MUNCHAUSEN,
    "discretesac": {
        "ent_coef": _ENT_COEF,
        "critic_reduction": ["min", "mean"],
        "entropy_in_target": [False, True],
        "munchausen_alpha": {"low": 0.0, "high": 0.95},
    },
    "diayn": {
        "ent_coef": {"low": 0.01, "high": 1.0, "log": True},
        "n_skills": [5, 10, 20, 50],
        # Trials are ranked by the environment's reward.
        "environment_reward_weight": {"low": 0.0, "high": 1.0},
    },
    "vfe": {
        "temperature": {"low": 0.01, "high": 3.0, "log": True},
        "epistemic_weight": {"low": 1e-3, "high": 1.0, "log": True},
        "entropy_in_target": [False, True],
    },
    "entropyppo": {"ent_coef_kind": _KIND, "kl_coef": [0.0, 0.01, 0.1, 1.0]},
    "maxentppo": {"ent_coef_kind": _KIND, "entropy_gamma": {"low": 0.8, "high": 0.999}, "entropy_baseline": [0.0, "mean"]},
}
"""What ``-optimize`` searches besides what it searches of the parent's: the arguments of ``suggest_float``, or choices.

``ent_coef_kind`` is no argument: it says what becomes of the ``ent_coef`` that is searched of PPO's.
"""


def suggest(name: str, trial: Any) -> dict[str, Any]:
    """Draw the entropic hyperparameters of one trial.

    :param name: an algorithm of ours
    :param trial: Optuna's
    """
    return {
        searched: trial.suggest_categorical(searched, among)
        if isinstance(among, list)
        else trial.suggest_float(searched, **among)
        for searched, among in SEARCHED[name].items()
    }


def as_hyperparameters(drawn: dict[str, Any]) -> dict[str, Any]:
    """What was drawn, in zoo format; a learned ``ent_coef`` finds its size itself.

    :param drawn: what the parent's sampler and :func:`suggest` have drawn
    """
    kept = dict(drawn)
    kind = kept.pop("ent_coef_kind", "number")
    if kind != "number":
        kept["ent_coef"] = f"lin_{kept['ent_coef']}" if kind == "schedule" else "auto_0.01"
    return kept


def complete_hyperparameters(
    algorithm: Algorithm, env_id: str, parents: Mapping[str, Any], family: str = "default", **env_kwargs: Any
) -> dict[str, Any]:
    """The entry of our zoo with what rl_zoo3 does not do without: ``policy`` and ``n_timesteps``.

    Where our zoo has no entry for the environment, rl_zoo3's of the parent is below what ours has for every environment, and
    a sentence says so.

    :param algorithm: one of ours
    :param env_id: with its version
    :param parents: rl_zoo3's entries of the parent
    :param family: the one that serves environments without one of their own, ``"atari"`` or ``"default"``
    :param env_kwargs: arguments of the environment
    :raises UserError: if the algorithm does not take the environment's actions
    """
    own = load_hyperparameters(algorithm, env_id)
    env = env_wrapper(own)(gym.make(env_id, **env_kwargs))
    env.close()
    check_suits(algorithm, env.action_space, env_id)
    policy = {"policy": policy_for(env.observation_space)}
    if "n_timesteps" in own:
        return {**policy, **own}
    source = next(key for key in (env_id, family, "default") if key in parents)
    print(
        f"sb3_entropic has no hyperparameters for {env_id}: {algorithm.name} takes those of rl_zoo3's {algorithm.parent} for "
        f"{source!r}, with its own on top."
    )
    # The default's policy is one for vectors, whatever the environment shows.
    theirs = parents[source] if source != "default" else {**parents[source], **policy}
    return {**policy, **theirs, **own}


def convert(algorithm: Algorithm, arguments: dict[str, Any]) -> dict[str, Any]:
    """Make schedules and classes of what rl_zoo3 leaves as text, such as ``ent_coef: lin_0.1``.

    :param algorithm: one of ours
    :param arguments: what rl_zoo3 is about to pass to the constructor
    :raises HyperparameterError: for a name that the constructor does not have; names the nearest
    """
    theirs = {name: arguments[name] for name in ("policy", "noise_type", "noise_std") if name in arguments}
    written = {name: value for name, value in arguments.items() if name not in theirs}
    return {**constructor_arguments(algorithm, written), **theirs}


class EntriesOfOurs:
    """Reads an algorithm of ours' hyperparameters; to be placed before rl_zoo3's ``ExperimentManager`` in the bases.

    :param config: the file or module of hyperparameters that the user names; ``None`` for ours
    """

    algo: str
    config: str
    env_name: Any
    env_kwargs: dict[str, Any]
    optimize_hyperparameters: bool
    _is_atari: bool

    def __init__(self, *args: Any, config: str | None = None, **kwargs: Any):
        super().__init__(*args, config=config, **kwargs)
        self._reads_ours = config is None and self.algo in OURS

    def setup_experiment(self) -> Any:
        """As in rl_zoo3; what our classes refuse is named in one sentence.

        :raises UserError: for a value that the constructor does not take
        """
        try:
            return super().setup_experiment()  # type: ignore[misc]
        except UserError:
            raise
        except (ValueError, TypeError, AssertionError) as error:
            if self.algo not in OURS:
                raise
            raise UserError(f"{self.algo} on {self.env_name.gym_id}: {error}") from error

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in rl_zoo3, from our entry where no file is named.

        :raises UserError: if the algorithm does not take the environment's actions, or a search would drop the entry's network
        """
        if self._reads_ours:
            algorithm, env_id = OURS[self.algo], self.env_name.gym_id
            parents = yaml.safe_load(Path(self.config).with_name(f"{algorithm.parent}.yml").read_text(encoding="utf-8"))
            family = "atari" if self._is_atari else "default"
            entry = complete_hyperparameters(algorithm, env_id, parents, family, **self.env_kwargs)
            if self.optimize_hyperparameters and "features_extractor_class" in entry.get("policy_kwargs", ()):
                raise UserError(
                    f"{self.algo} cannot be searched on {env_id}: rl_zoo3 draws policy_kwargs anew, and so without "
                    "their features_extractor_class."
                )
            hyperparams[env_id] = entry
            self.config = __name__
        return super().read_hyperparameters()  # type: ignore[misc]

    def _preprocess_hyperparams(self, hyperparameters: dict[str, Any]) -> tuple[Any, ...]:
        texts = {name: value for name, value in hyperparameters.items() if str(value).startswith("lin_")}
        arguments, *others = super()._preprocess_hyperparams(hyperparameters)  # type: ignore[misc]
        if self.algo in OURS:
            # With rl_zoo3's own schedules a saved model could be loaded only where rl_zoo3 is installed.
            arguments = convert(OURS[self.algo], {**arguments, **texts})
        return (arguments, *others)


def register() -> None:
    """Give rl_zoo3 every algorithm of the catalogue, by its short name, with our hyperparameters and ranges to search.

    Call it before ``rl_zoo3.train.train()``, which looks at the names when it begins. A second call changes nothing.

    :raises UserError: if rl_zoo3 is not installed
    """
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UserError("rl-baselines3-zoo is not installed: run `pip install rl_zoo3 requests`.")
    from rl_zoo3 import ALGOS, train
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    ALGOS.update({name: algorithm.constructor for name, algorithm in ALGORITHMS.items()})
    for name, algorithm in OURS.items():
        HYPERPARAMS_SAMPLER[name] = _sampler(name, HYPERPARAMS_SAMPLER[algorithm.parent])
        HYPERPARAMS_CONVERTER[name] = _converter(HYPERPARAMS_CONVERTER[algorithm.parent])
    if not issubclass(train.ExperimentManager, EntriesOfOurs):
        train.ExperimentManager = type("ExperimentManager", (EntriesOfOurs, train.ExperimentManager), {})


def _sampler(name: str, parents: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def sample(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        return as_hyperparameters({**parents(trial, n_actions, n_envs, additional_args), **suggest(name, trial)})

    return sample


def _converter(parents: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    # The parent's leaves the names that it does not know as they are.
    return lambda drawn: as_hyperparameters(parents(drawn))
