"""Checkpoints of runs that are under way: all that it takes to go on as if nothing had happened.

A checkpoint is taken between two rollouts, when everything that was collected is stored and learned from. It holds SB3's
own zip of the model, the filled part of the replay buffer, the states of the random generators, of the environments and of
the log, and whatever the caller adds. Like every model SB3 saves it is a pickle of the user's own, is read by the runs it
belongs to alone, and is deleted when they have finished.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.logger import CSVOutputFormat, Logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.her import HerReplayBuffer

from benchmarks.store import sync

MODEL, REPLAY, STATE, SEEDS = "model.zip", "replay.pkl", "state.pkl", "seeds.json"
PLAIN = (ReplayBuffer, NStepReplayBuffer)
"""Replay buffers that are nothing but rows."""


def save(folder: Path, model: BaseAlgorithm, seeds: Sequence[int], generator: th.Generator | None, extra: Any) -> None:
    """Write a checkpoint; the folder appears once it is complete.

    :param folder: to be made
    :param model: between two rollouts
    :param seeds: of the models that are trained together, this one among them; for :func:`seeds_of`
    :param generator: of the model's torch numbers; ``None`` for the global one
    :param extra: anything that can be pickled, given back by :func:`load`
    """
    unfinished = _unfinished(folder)
    discard_unfinished(folder)
    unfinished.mkdir(parents=True)
    (unfinished / SEEDS).write_text(json.dumps(list(seeds)), encoding="utf-8")
    model.save(unfinished / MODEL)
    if (buffer := getattr(model, "replay_buffer", None)) is not None:
        with open(unfinished / REPLAY, "wb") as file:
            pickle.dump(_rows(buffer) if type(buffer) in PLAIN else buffer, file, protocol=5)
    state = {
        "action_noise": getattr(model, "action_noise", None),
        "action_space": model.action_space,
        "env": environment_state(model.env),
        "wrappers": environment_state(model.env, VecEnvWrapper),
        "exploration": _exploration(model),
        "extra": extra,
        "log": _log_state(model.logger),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "torch": (generator or th.default_generator).get_state(),
        "cuda": th.cuda.get_rng_state_all() if model.device.type == "cuda" else None,
    }
    (unfinished / STATE).write_bytes(cloudpickle.dumps(state))
    # The rename must not come before what it names.
    for path in (*unfinished.iterdir(), unfinished):
        sync(path)
    unfinished.rename(folder)


def discard_unfinished(folder: Path) -> None:
    """Delete what :func:`save` has left of a checkpoint that it could not write."""
    shutil.rmtree(_unfinished(folder), ignore_errors=True)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")


def seeds_of(folder: Path) -> tuple[int, ...]:
    """The seeds of the models that were trained together with that of a checkpoint, its own among them.

    :raises OSError: if they cannot be read
    :raises ValueError: if what is read is none
    """
    seeds = json.loads((folder / SEEDS).read_text(encoding="utf-8"))
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        raise ValueError(f"{folder / SEEDS} holds no seeds.")
    return tuple(seeds)


class UnreadableCheckpointError(Exception):
    """A checkpoint that cannot be gone on from: it is damaged, or other versions of the packages cannot read it."""


class Checkpoint:
    """A checkpoint that is gone on from, in steps, since constructors, ``learn`` and rollouts each set things anew.

    :param folder: written by :func:`save`
    :raises UnreadableCheckpointError: if it cannot be read, and so does :meth:`load`
    """

    def __init__(self, folder: Path):
        self._folder = folder
        with _reading(folder):
            self._state = cloudpickle.loads((folder / STATE).read_bytes())
        self.extra: Any = self._state["extra"]
        """What the caller had added."""
        self.environment_restored = self._state["env"] is not None
        """Whether the environments go on where they were; else they begin a new episode."""

    def load(self, fresh: BaseAlgorithm) -> BaseAlgorithm:
        """The model as it was, with the random states: the global generators' are those of the checkpoint from here on.

        :param fresh: the same model newly made, with environments and a logger, which are taken over
        """
        with _reading(self._folder):
            return self._load(fresh)

    def _load(self, fresh: BaseAlgorithm) -> BaseAlgorithm:
        state, env = self._state, fresh.env
        model = type(fresh).load(self._folder / MODEL, env=env, device=fresh.device, force_reset=False)
        model.set_logger(fresh.logger)
        model.action_space = state["action_space"]
        if (path := self._folder / REPLAY).exists():
            with open(path, "rb") as file:
                saved = pickle.load(file)
            if isinstance(saved, ReplayBuffer):
                model.replay_buffer = saved
                if hasattr(saved, "set_env"):
                    saved.set_env(env)
            else:
                _fill(model.replay_buffer, saved)
        _restore_log(model.logger, state["log"])
        if self.environment_restored:
            restore_environment(model.env, state["env"])
        else:
            # Learning then begins with a reset. What observations are normalised by is known all the same.
            if state["wrappers"] is not None:
                restore_environment(model.env, state["wrappers"], VecEnvWrapper)
            model._last_obs = None
            _end_episodes(getattr(model, "replay_buffer", None))
            # With the seed of the run its first episodes would come again.
            sequence = np.random.SeedSequence((model.seed or 0, model.num_timesteps))
            model.env.seed(int(sequence.generate_state(1)[0]))
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        th.set_rng_state(state["torch"])
        if state["cuda"] is not None and model.device.type == "cuda":
            th.cuda.set_rng_state_all(state["cuda"])
        return model

    def training_starts(self, model: BaseAlgorithm) -> None:
        """Put back what SB3's ``learn`` has reset."""
        if self._state["action_noise"] is not None:
            model.action_noise = self._state["action_noise"]

    def first_rollout_starts(self, model: BaseAlgorithm, generator: th.Generator | None) -> None:
        """Put back what SB3 has drawn for the rollout, which it had drawn before the checkpoint was taken too.

        :param model: that begins a rollout
        :param generator: of torch's random numbers, where the model has its own
        """
        if self._state["exploration"]:
            modules = dict(model.policy.named_modules())
            for name, drawn in self._state["exploration"].items():
                vars(modules[name].action_dist).update(drawn)
            (generator or th.default_generator).set_state(self._state["torch"])


def _end_episodes(buffer: ReplayBuffer | None) -> None:
    """Keep what looks along episodes from taking the one that begins for the rest of the one that was stored last."""
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buffer.truncate_last_trajectory()
    elif isinstance(buffer, NStepReplayBuffer) and buffer.size():
        last = buffer.pos - 1
        buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1 - buffer.dones[last])


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # What unpickling raises for a class that has changed can be anything.
        raise UnreadableCheckpointError(f"{folder.name} cannot be read: {error!r}") from error


def environment_state(env: VecEnv, kind: type = object) -> bytes | None:
    """The state of environments and of all wrappers around them, or ``None`` where it cannot be had.

    It is everything that their objects hold. MuJoCo's simulations can be had so, and whatever is written in Python;
    Box2D's cannot, nor what runs in another process.

    :param env: the outermost
    :param kind: of those layers alone
    """
    layers = list(_layers(env))
    numbers = {id(layer): number for number, layer in enumerate(layers)}

    class Pickler(cloudpickle.Pickler):
        # An environment is more than gymnasium lets it pickle; and a layer that knows another is to know the new one.
        def persistent_id(self, thing: Any) -> int | None:
            return numbers.get(id(thing))

    chosen = [layer for layer in layers if isinstance(layer, kind)]
    elsewhere = kind is object and not any(hasattr(layer, "envs") for layer in layers)
    if elsewhere or not all(hasattr(layer, "__dict__") for layer in chosen):
        return None
    file = io.BytesIO()
    try:
        Pickler(file, protocol=5).dump([_own(layer) for layer in chosen])
    except Exception:
        # What an extension raises for an object it cannot pickle is its own choice.
        return None
    return file.getvalue()


def restore_environment(env: VecEnv, state: bytes, kind: type = object) -> None:
    """Give newly made environments a state of :func:`environment_state`, of the same kind of layers."""
    layers = list(_layers(env))

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: int) -> Any:
            return layers[number]

    chosen = [layer for layer in layers if isinstance(layer, kind)]
    for layer, content in zip(chosen, Unpickler(io.BytesIO(state)).load(), strict=True):
        vars(layer).update(content)


def _layers(env: Any) -> Iterator[Any]:
    """An environment and those it is put around, outermost first."""
    yield env
    inner = vars(env) if hasattr(env, "__dict__") else {}
    for below in [*inner.get("envs", []), *(inner[name] for name in ("venv", "env") if name in inner)]:
        yield from _layers(below)


def _own(layer: Any) -> dict[str, Any]:
    # SB3's wrappers keep the members of their class, which no state is in.
    return {name: value for name, value in vars(layer).items() if name != "class_attributes"}


def _exploration(model: BaseAlgorithm) -> dict[str, Any]:
    """What generalised state-dependent exploration has drawn for the rollout, by the module that acts by it."""
    modules = ((name, getattr(module, "action_dist", None)) for name, module in model.policy.named_modules())
    return {
        name: {drawn: value for drawn, value in vars(distribution).items() if drawn.startswith("exploration_mat")}
        for name, distribution in modules
        if isinstance(distribution, StateDependentNoiseDistribution)
    }


def _rows(buffer: ReplayBuffer) -> dict[str, Any]:
    """What a plain replay buffer holds, without the part that is still empty."""
    filled = buffer.buffer_size if buffer.full or buffer.optimize_memory_usage else buffer.pos
    arrays = {name: value for name, value in vars(buffer).items() if isinstance(value, np.ndarray)}
    rows = {name: np.ascontiguousarray(array[:filled]) for name, array in arrays.items()}
    return {"pos": buffer.pos, "full": buffer.full, "rows": rows}


def _fill(buffer: ReplayBuffer, saved: dict[str, Any]) -> None:
    buffer.pos, buffer.full = saved["pos"], saved["full"]
    for name, rows in saved["rows"].items():
        getattr(buffer, name)[: len(rows)] = rows


def _log_state(logger: Logger) -> dict[str, Any]:
    """What was recorded since the last row, and the rows."""
    pending = {name: dict(getattr(logger, name)) for name in ("name_to_value", "name_to_count", "name_to_excluded")}
    written = []
    for output in logger.output_formats:
        if isinstance(output, CSVOutputFormat):
            output.file.flush()
            written.append((list(output.keys), Path(output.file.name).read_text(encoding="utf-8")))
    return {"pending": pending, "csv": written}


def _restore_log(logger: Logger, state: dict[str, Any]) -> None:
    for name, values in state["pending"].items():
        getattr(logger, name).update(values)
    outputs = [output for output in logger.output_formats if isinstance(output, CSVOutputFormat)]
    for output, (keys, text) in zip(outputs, state["csv"], strict=True):
        output.keys = keys
        output.file.write(text)
        output.file.flush()
