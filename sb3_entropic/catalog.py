"""Every algorithm by its short name."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any

import sb3_contrib
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_entropic.active_inference import VFE
from sb3_entropic.actor_critic import DIAYN, MDAC, MSAC, MTQC, DiscreteSAC, SoftQ
from sb3_entropic.digests import digest_of, without_addresses
from sb3_entropic.errors import UserError, nearest
from sb3_entropic.on_policy import EntropyPPO, MaxEntPPO
from sb3_entropic.value_based import ALDQN, CVIDQN, DPP, MDQN, MIQN, MQRDQN, MoDQN, SoftDQN


@dataclass(frozen=True)
class Algorithm:
    """An algorithm as the commands know it.

    :param name: short name, lower case
    :param constructor: the class
    :param actions: the action spaces it takes
    :param summary: what it is, in a few words
    :param parent: the baseline it extends; empty for a baseline
    :param vectors: whether it takes no observations but vectors
    :param off: hyperparameters with which it is its parent, to the bit in SB3's loop; empty where there are none
    """

    name: str
    constructor: type[BaseAlgorithm]
    actions: tuple[type[spaces.Space], ...]
    summary: str
    parent: str = ""
    vectors: bool = False
    off: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_on_policy(self) -> bool:
        """Whether it learns from its own last rollout alone, and so not from a replay buffer."""
        return issubclass(self.constructor, OnPolicyAlgorithm)

    def is_off(self, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether hyperparameters leave it nothing but its parent's losses."""
        return bool(self.off) and all(hyperparameters.get(name) == value for name, value in self.off.items())

    def label(self, overrides: Mapping[str, Any], file: str = "") -> str:
        """How it is called with these hyperparameters over the zoo's, such as ``msac[munchausen_alpha=0]``.

        :param file: the name of one with more of them
        """
        changes = ",".join([file] * bool(file) + [f"{name}={value}" for name, value in sorted(overrides.items())])
        return f"{self.name}[{changes}]" if changes else self.name

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """What hyperparameters may set: the constructor's arguments, with those that it passes on as ``**kwargs``."""
        found: dict[str, inspect.Parameter] = {}
        for base in (base for base in self.constructor.__mro__ if "__init__" in vars(base)):
            own = inspect.signature(base.__init__).parameters
            found = {**own, **found}
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in own.values()):
                break
        return {name: found[name] for name in found.keys() - {"self", "env", "_init_setup_model", "args", "kwargs"}}

    @property
    def own_defaults(self) -> dict[str, str]:
        """What our arguments are where nothing sets them, in words; SB3's are its version's."""
        ours = {name: p for name, p in sorted(self.parameters.items()) if p.kind is p.KEYWORD_ONLY and name != "engine"}
        return {name: without_addresses(str(parameter.default)) for name, parameter in ours.items()}

    @property
    def package(self) -> str:
        """The package that implements it and its version, such as ``stable_baselines3 2.9.2``.

        Of a class from elsewhere also a digest of the file it is in, which may change under one version or have none.
        """
        name = self.constructor.__module__.split(".")[0]
        if self.name in ALGORITHMS:
            return f"{name} {importlib.import_module(name).__version__}"
        with contextlib.suppress(PackageNotFoundError):
            name = f"{name} {version(name)}"
        return f"{name} {digest_of(Path(inspect.getfile(self.constructor)).read_bytes())}"


_BOX, _DISCRETE = (spaces.Box,), (spaces.Discrete,)
_ANY = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)

ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            "msac",
            MSAC,
            _BOX,
            "SAC with the bounded log-policy of the replayed action as a bonus",
            parent="sac",
            off={"munchausen_alpha": 0},
        ),
        Algorithm("mdac", MDAC, _BOX, "Mirror Descent Actor-Critic: both log-policy terms slowly saturate", parent="sac"),
        Algorithm(
            "mtqc",
            MTQC,
            _BOX,
            "TQC with the bounded log-policy of the replayed action as a bonus",
            parent="tqc",
            off={"munchausen_alpha": 0},
        ),
        Algorithm("softq", SoftQ, _BOX, "soft Q-learning with a sampler that can have several modes", parent="sac"),
        Algorithm(
            "softdqn",
            SoftDQN,
            _DISCRETE,
            "DQN with a soft maximum: soft Q-learning",
            parent="dqn",
            off={"soft_value": "max"},
        ),
        Algorithm("mdqn", MDQN, _DISCRETE, "soft DQN with the log-policy of the replayed action as a bonus", parent="dqn"),
        Algorithm("cvidqn", CVIDQN, _DISCRETE, "Conservative Value Iteration: Munchausen DQN with mellowmax", parent="dqn"),
        Algorithm("aldqn", ALDQN, _DISCRETE, "Advantage Learning: DQN with larger action gaps", parent="dqn"),
        Algorithm("dpp", DPP, _DISCRETE, "Dynamic Policy Programming: a KL penalty and no entropy", parent="dqn"),
        Algorithm("modqn", MoDQN, _DISCRETE, "Momentum DQN: acts on an average of Q-functions", parent="dqn"),
        Algorithm(
            "mqrdqn",
            MQRDQN,
            _DISCRETE,
            "Munchausen QR-DQN: fixed quantiles of the return",
            parent="qrdqn",
            off={"munchausen_alpha": 0, "soft_value": "max"},
        ),
        Algorithm("miqn", MIQN, _DISCRETE, "Munchausen IQN: sampled quantiles of the return", parent="qrdqn"),
        Algorithm("discretesac", DiscreteSAC, _DISCRETE, "SAC with a categorical policy and exact expectations", parent="sac"),
        Algorithm(
            "diayn",
            DIAYN,
            _BOX,
            "skills without reward: SAC rewarded for telling skills apart by states",
            parent="sac",
            vectors=True,
        ),
        Algorithm(
            "vfe",
            VFE,
            _DISCRETE,
            "active inference: a policy of least variational free energy",
            parent="dqn",
            vectors=True,
        ),
        Algorithm("entropyppo", EntropyPPO, _ANY, "PPO whose entropy is scheduled or held at a target", parent="ppo"),
        Algorithm("maxentppo", MaxEntPPO, _ANY, "PPO with the entropy of all steps to come in the return", parent="ppo"),
        Algorithm("sac", stable_baselines3.SAC, _BOX, "Soft Actor-Critic"),
        Algorithm("tqc", sb3_contrib.TQC, _BOX, "SAC with truncated quantile critics"),
        Algorithm("dqn", stable_baselines3.DQN, _DISCRETE, "Deep Q-Network"),
        Algorithm("qrdqn", sb3_contrib.QRDQN, _DISCRETE, "DQN with quantile regression"),
        Algorithm("ppo", stable_baselines3.PPO, _ANY, "Proximal Policy Optimization"),
    )
}
STAND_INS: dict[str, str] = {
    algorithm.label(algorithm.off): algorithm.parent for algorithm in ALGORITHMS.values() if algorithm.off
}
"""By label, of which baseline an algorithm of ours has the losses."""


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that short name, or the class that ``module:Class`` names.

    A class from elsewhere has the nearest algorithm that it extends as its parent, whose hyperparameters it starts from.

    :param name: a key of :data:`ALGORITHMS`, or where a subclass of SB3's ``BaseAlgorithm`` can be imported from
    :raises UserError: if there is none; names the nearest
    """
    algo, _, settings = name.partition("[")
    if settings and (":" in algo or algo.lower() in ALGORITHMS):
        parts = [part for part in re.split(r",(?=\w+=)", settings.removesuffix("]")) if "=" in part]
        given = " ".join(f"-p {quote(f'{algo}.{part}')}" for part in parts) or "--hyperparameters"
        raise UserError(f"{name!r} is an algorithm and its hyperparameters: name {algo}, and set these by {given}.")
    if ":" in name:
        return _algorithm_of_class(name)
    if name.lower() not in ALGORITHMS:
        raise UserError(f"Unknown algorithm {name!r}, there are {', '.join(ALGORITHMS)}{nearest(name, ALGORITHMS)}")
    return ALGORITHMS[name.lower()]


def _algorithm_of_class(name: str) -> Algorithm:
    module_name, _, class_name = name.partition(":")
    module = import_module(module_name)
    known = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, BaseAlgorithm)]
    if class_name not in known:
        raise UserError(f"{module_name} has no algorithm {class_name!r}{nearest(class_name, known)}")
    constructor = getattr(module, class_name)
    parents = {algorithm.constructor: algorithm for algorithm in ALGORITHMS.values()}
    parent = next((parents[base] for base in constructor.__mro__ if base in parents), None)
    actions, extended = (_ANY, "") if parent is None else (parent.actions, parent.name)
    summary = (inspect.getdoc(constructor) or class_name).splitlines()[0]
    return Algorithm(name, constructor, actions, summary, parent=extended)


def import_module(name: str) -> ModuleType:
    """A module of the user's.

    :raises UserError: if it cannot be imported
    """
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError, TypeError, SyntaxError) as error:
        raise UserError(
            f"{name!r} cannot be imported ({str(error).rstrip('.')}): install it, or name its folder in PYTHONPATH."
        ) from error


def check_suits(algorithm: Algorithm, actions: spaces.Space, env_id: str) -> None:
    """Check that an algorithm can act in an environment.

    :param algorithm: any
    :param actions: the environment's, as its wrappers leave them
    :param env_id: for the message
    :raises UserError: if it cannot; names algorithms that can
    """
    if not isinstance(actions, algorithm.actions):
        others = [other.name for other in ALGORITHMS.values() if isinstance(actions, other.actions)]
        wanted = " or ".join(space.__name__ for space in algorithm.actions)
        suitable = f"choose one of {', '.join(others)}" if others else "no algorithm here takes these"
        raise UserError(f"{algorithm.name} needs {wanted} actions and {env_id} has {actions}: {suitable}.")
