"""One model's part of the lockstep: its environments, its callback and its replay buffer."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_entropic.engine.streams import Streams

IMMUTABLE = frozenset({bool, int, float, str, bytes, type(None), np.bool_, np.int32, np.int64, np.float32, np.float64})
"""Types of what need not be copied to stay as it is."""
STEP = VecEnv.step
"""Begins a step and waits for it; whoever has another means that one."""
HALVES = {"step_async": DummyVecEnv.step_async, "step_wait": DummyVecEnv.step_wait}


class Runner:
    """One model's part of the loop: SB3's ``collect_rollouts``, a step at a time.

    :param model: set up for learning, with its callback
    :param callback: of this model, as ``_setup_learn`` returns it
    :param streams: its random numbers
    :param log_interval: episodes (on-policy: rollouts) between logs, ``None`` for none
    """

    shown: tuple[str, ...] = ("train_freq", "replay_buffer", "action_noise", "learning_starts")
    """Attributes of the model that SB3 has as local variables."""
    locals_at_start: ClassVar[dict[str, Any]] = {}
    """Other local variables of SB3's when training starts."""
    locals_of_rollout: ClassVar = {"num_collected_steps": 0, "num_collected_episodes": 0, "continue_training": True}
    """The same when a rollout does."""

    def __init__(self, model: Any, callback: BaseCallback, streams: Streams, log_interval: int | None):
        self.model, self.callback, self.streams = model, callback, streams
        self.stopped = False
        self.error: Exception | None = None
        self._log_interval = log_interval
        self._optimizers: list[Any] = []
        self._sent = False
        self._seen: tuple[np.ndarray, np.ndarray, np.ndarray, Any] | None = None
        self._discrete = isinstance(model.action_space, spaces.Discrete)
        # What callbacks find in ``self.locals``.
        self._locals: dict[str, Any] = {
            "self": model,
            "callback": callback,
            "log_interval": log_interval,
            "generator": streams.generator,
        }
        self._enter(model.env)

    def _enter(self, env: VecEnv) -> None:
        self._env = self._locals["env"] = env
        is_plain = getattr(env.step, "__func__", None) is STEP and env.step.__self__ is env
        halves_are_sb3s = all(getattr(DummyVecEnv, name) is half for name, half in HALVES.items())
        is_dummy = is_plain and type(env) is DummyVecEnv and halves_are_sb3s and vars(env).keys().isdisjoint(HALVES)
        self._step = partial(step_dummy, env) if is_dummy else env.step
        self.steps_apart = is_plain and not is_dummy
        """Whether a step is begun and waited for apart, so that the environments of several models take theirs at once."""

    def begin(self) -> None:
        """Begin a rollout, in what is the model's environment now and for what is its buffer, and tell the callback."""
        model = self.model
        self._enter(model.env)
        self._locals.update({name: getattr(model, name) for name in self.shown}, **self.locals_of_rollout)
        self.callback.on_rollout_start()

    def learning_rate(self) -> float:
        """The learning rate at this point of training; the optimisers' own is kept equal to it."""
        model = self.model
        rate = model.lr_schedule(model._current_progress_remaining)
        if not self._optimizers:
            self._optimizers = [update.optimizer for update in model.updates()]
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        return rate

    def forget_optimizers(self) -> None:
        """Look for the model's optimisers again."""
        self._optimizers = []

    def chooses_at_random(self) -> bool:
        """Whether the next action is not the policy's: before learning starts, or by the exploration rate."""
        model = self.model
        starts = self._locals["learning_starts"]
        warms_up = model.num_timesteps < starts and not (model.use_sde and model.use_sde_at_warmup)
        return warms_up or model.explores_at_random()

    def actions(self, of_policy: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Actions for the environments and for the replay buffer.

        :param of_policy: ``(n_envs, ...)``, continuous ones in [-1, 1]; ``None`` to sample from the action space
        """
        model = self.model
        if of_policy is None:
            of_policy = np.array([model.action_space.sample() for _ in range(model.n_envs)])
            if not self._discrete:
                of_policy = model.policy.scale_action(of_policy)
        if self._discrete:
            return of_policy, of_policy
        check_numbers(model, of_policy)
        of_policy = of_policy.reshape(-1, *model.action_space.shape)
        if (noise := self._locals["action_noise"]) is not None:
            of_policy = np.clip(of_policy + noise(), -1, 1)
        return model.policy.unscale_action(of_policy), of_policy

    def send(self, actions: np.ndarray) -> None:
        """Begin a step, where it is waited for apart.

        :param actions: that the step is then taken with
        """
        if self.steps_apart:
            self._env.step_async(actions)
            self._sent = True

    def wait(self) -> None:
        """Wait for the step that was begun, if one was."""
        if self._sent:
            self._sent = False
            self._seen = self._env.step_wait()

    def give_up(self) -> None:
        """Leave no step begun that nobody waits for: the environments would answer it when asked for something else."""
        with suppress(Exception):
            self.wait()

    def step(self, actions: np.ndarray, buffer_actions: np.ndarray) -> None:
        """Step the environments, call the callback, and store and count what happened, in SB3's order.

        :param actions: that were sent
        :param buffer_actions: the same as the replay buffer has them
        """
        model = self.model
        self._locals["num_collected_steps"] += 1
        if (seen := self._advance(actions, actions=actions, buffer_actions=buffer_actions)) is None:
            return
        new_obs, rewards, dones, infos = seen
        self._store(buffer_actions, new_obs, rewards, dones, infos)
        model._last_original_obs, model._last_obs = model._last_obs, new_obs
        model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
        model._on_step()
        for index in np.flatnonzero(dones):
            model._episode_num += 1
            self._locals["num_collected_episodes"] += 1
            if (noise := self._locals["action_noise"]) is not None:
                noise.reset(**({"indices": [index]} if model.n_envs > 1 else {}))
            if self._log_interval is not None and model._episode_num % self._log_interval == 0:
                model.dump_logs()

    def _advance(self, to_take: np.ndarray, **shown: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any] | None:
        """Step the environments and call the callback; ``None`` if it stops the model.

        :param to_take: actions that were sent
        :param shown: what the callback finds in its ``locals`` besides
        """
        model = self.model
        new_obs, rewards, dones, infos = self._seen if self.steps_apart else self._step(to_take)
        model.num_timesteps += model.n_envs
        self._locals.update(new_obs=new_obs, rewards=rewards, dones=dones, infos=infos, **shown)
        self.callback.update_locals(self._locals)
        if not self.callback.on_step():
            self.stopped = True
            return None
        model._update_info_buffer(infos, dones)
        return new_obs, rewards, dones, infos

    def _store(self, actions: np.ndarray, new_obs: np.ndarray, rewards: np.ndarray, dones: np.ndarray, infos: Any) -> None:
        """Write a row of the replay buffer: what SB3 writes, without its copies."""
        buffer = self._locals["replay_buffer"]
        position = buffer.pos
        buffer.observations[position] = self.model._last_obs
        buffer.next_observations[position] = new_obs
        for index in np.flatnonzero(dones):
            # The environment has been reset, so the last observation of its episode is elsewhere.
            if infos[index].get("terminal_observation") is not None:
                buffer.next_observations[position, index] = infos[index]["terminal_observation"]
        buffer.actions[position] = actions.reshape(buffer.n_envs, buffer.action_dim)
        buffer.rewards[position] = rewards
        buffer.dones[position] = dones
        if buffer.handle_timeout_termination:
            buffer.timeouts[position] = [info.get("TimeLimit.truncated", False) for info in infos]
        buffer.pos = position + 1
        if buffer.pos == buffer.buffer_size:
            buffer.full, buffer.pos = True, 0


def check_numbers(model: Any, of_policy: np.ndarray) -> None:
    """Check what a policy gives, as torch's distributions do in SB3's own loop, of policies without one, too.

    :param model: whose policy it is
    :param of_policy: actions, or their log-densities
    :raises ValueError: if one is no number
    """
    if np.isnan(of_policy).any():
        raise ValueError(
            f"The policy of {type(model).__name__} gives no numbers any more at step {model.num_timesteps}: training has "
            "diverged, or an observation or a reward was no number."
        )


def step_dummy(env: DummyVecEnv, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """``env.step`` for environments of vectors, without the deep copies that take longer than small environments.

    :param env: keeps its own records as if it had been asked
    :param actions: ``(n_envs, ...)``
    """
    env.actions = actions
    (new_obs,) = env.buf_obs.values()
    for index, each in enumerate(env.envs):
        obs, reward, terminated, truncated, info = each.step(actions[index])
        done = terminated or truncated
        info = {**info, "TimeLimit.truncated": truncated and not terminated}
        if done:
            info["terminal_observation"] = obs
            obs, env.reset_infos[index] = each.reset()
        env.buf_infos[index], env.buf_rews[index], env.buf_dones[index] = info, reward, done
        new_obs[index] = obs
    # What an environment goes on changing would change under those who have been given it.
    infos = [info if IMMUTABLE.issuperset(map(type, info.values())) else deepcopy(info) for info in env.buf_infos]
    return new_obs.copy(), env.buf_rews.copy(), env.buf_dones.copy(), infos
