"""An environment by its id, or a sentence that says why there is none."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import pprint
import re
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from sb3_entropic.digests import digest_of, is_installed, without_addresses
from sb3_entropic.errors import UserError, nearest


@dataclass(frozen=True)
class Environment:
    """What of an environment decides which algorithms suit it.

    :param id: full id with its version; a module that registers it (``module:Env-v0``) stays part of the id, because
        another process must import it too
    :param action_space: its actions
    :param observation_space: what it shows, before any wrapper of an entry's
    :param digest: of the file and the registration of a user's own; empty for those of installed packages and of this one
    """

    id: str
    action_space: spaces.Space
    observation_space: spaces.Space
    digest: str = ""


def find_environment(env_id: str) -> Environment:
    """Make the environment once, look at it and close it.

    :param env_id: gymnasium id; without a version it means the newest. ``ALE/...`` and ``...NoFrameskip-v4`` need
        not name their module
    :raises UserError: if it is unknown (names the nearest), of a version that no longer exists (names the one that
        does), or if the package behind it is not installed (names the extra)
    """
    if _OF_ATARI.match(env_id):
        env_id = f"ale_py:{env_id}"
    env = _make_environment(env_id)
    module, colon, _ = env_id.rpartition(":")
    found = Environment(f"{module}{colon}{env.spec.id}", env.action_space, env.observation_space, _digest_of_own(env))
    env.close()
    return found


_OF_ATARI = re.compile(r"(ALE/|[A-Z]\w*NoFrameskip(-v\d+)?$)")


def without_module(env_id: str) -> str:
    """The id that is registered, by which hyperparameters, protocols and published scores go, of ``module:Env-v0`` too."""
    return env_id.rpartition(":")[2]


def _digest_of_own(env: gym.Env) -> str:
    """See :class:`Environment`."""
    registration = gym.spec(env.spec.id)
    entry_point = registration.entry_point
    creator = entry_point if callable(entry_point) else load_env_creator(entry_point)
    files = []
    # A function may make an environment of a package's with settings or wrappers of its own.
    for made_by in (creator, type(env.unwrapped)):
        with contextlib.suppress(TypeError, OSError):
            files.append(Path(inspect.getfile(made_by)))
    own = [path for path in dict.fromkeys(files) if not is_installed(path)]
    if not own:
        return ""
    # Another process has sets in another order, which pprint sorts where they do not fit a line.
    registered = without_addresses(pprint.pformat(vars(registration), width=1))
    return digest_of(b"".join([*(path.read_bytes() for path in own), registered.encode()]))


def _make_environment(env_id: str) -> gym.Env:
    try:
        with warnings.catch_warnings():
            # An older version that is still registered is the user's choice: results of versions are never pooled.
            warnings.simplefilter("ignore")
            return gym.make(env_id)
    except gym.error.DependencyNotInstalled as error:
        raise UserError(_missing_package(env_id, str(error))) from None
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] in _EXTRAS:
            raise UserError(_missing_package(env_id, str(error))) from None
        module = env_id.rpartition(":")[0]
        if module and importlib.util.find_spec(module.partition(".")[0]) is None:
            if module in _EXTRAS:
                raise UserError(_missing_package(env_id, module)) from None
            raise UserError(f"{env_id!r} needs the module {module!r}: install it, or name its folder in PYTHONPATH.") from None
        raise UserError(f"{env_id!r} cannot be made ({str(error).rstrip('.')}){_nearest_environment(env_id)}") from None
    except (ValueError, TypeError, AttributeError) as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if not frame.f_globals["__name__"].startswith(("gymnasium.envs.registration", "importlib")):
            raise
        # Such as an id with two colons, or a class that its registration misspells.
        raise UserError(f"{env_id!r} cannot be made ({str(error).rstrip('.')}).") from error
    except gym.error.Error:
        raise UserError(f"Unknown environment {env_id!r}{_nearest_environment(env_id)}") from None


_EXTRAS = {"box2d": "box2d", "mujoco": "mujoco", "minatar": "minatar", "ale_py": "atari"}
"""The extras that bring environments, by their packages."""


def _missing_package(env_id: str, reason: str) -> str:
    extra = next((extra for package, extra in _EXTRAS.items() if package in reason.lower()), None)
    remedy = reason.rstrip(".") if extra is None else f"run `pip install -e '.[{extra}]'`"
    return f"{env_id} needs a package that is not installed: {remedy}."


def _nearest_environment(env_id: str) -> str:
    module, colon, registered = env_id.rpartition(":")
    name = re.sub(r"-v\d+$", "", registered)
    namespace, slash, _ = registered.rpartition("/")
    if slash and nearest(namespace, {spec.namespace for spec in gym.registry.values() if spec.namespace}) == ".":
        where = f"'module:{registered}'"
        return f": no module that is imported has the namespace {namespace!r}. Name the one that has, as in {where}."
    versions = [known for known in gym.registry if re.sub(r"-v\d+$", "", known) == name]
    if versions:
        latest = max(versions, key=lambda known: gym.registry[known].version or 0)
        return f": did you mean {module + colon + latest!r}?"
    ending = nearest(env_id, [module + colon + known for known in gym.registry])
    return ending if ending != "." else "; gymnasium.pprint_registry() lists those there are."
