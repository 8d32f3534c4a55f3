"""What callbacks see and change is what it is in SB3's own loop, and what they give away is whole."""

import functools
import threading
from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger, configure
from torch.nn.utils.parametrizations import spectral_norm

from sb3_entropic import MDQN, EntropyPPO
from sb3_entropic.engine import step
from sb3_entropic.engine.loggers import prepared
from sb3_entropic.train_seeds import train_together
from tests.engine.cases import FAST, STARTS, difference, in_double_precision, make

ENGINES = ("sb3", FAST)


class Calls(BaseCallback):
    """Calls functions of itself."""

    def __init__(self, on_step=lambda callback: None, on_rollout_end=lambda callback: None):
        super().__init__()
        self.on_each_step, self.on_each_rollout_end, self.seen = on_step, on_rollout_end, []

    def _on_step(self):
        self.on_each_step(self)
        return True

    def _on_rollout_end(self):
        self.on_each_rollout_end(self)


class Counting(gym.Env):
    """Observations that are images with their channels last; infos hold an array that goes on changing."""

    observation_space = spaces.Box(0, 255, (6, 6, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = np.zeros(1)
        return self.observe(), {}

    def step(self, action):
        self.position += 1
        return self.observe(), 1.0, bool(self.position[0] == 8), False, {"position": self.position}

    def observe(self):
        return self.np_random.integers(0, 256, (6, 6, 3), dtype=np.uint8)


def ppo(n_envs, engine, **arguments):
    common = {"n_steps": 32, "batch_size": 16, "n_epochs": 4, "seed": 0, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    env = make_vec_env("CartPole-v1", n_envs, seed=0)
    return EntropyPPO("MlpPolicy", env, engine=engine, **{**common, **arguments})


@pytest.mark.parametrize("n_envs", [1, 2])
def test_reading_the_rollout_changes_nothing(n_envs, monkeypatch):
    def read(callback):
        for batch in callback.model.rollout_buffer.get(16):
            callback.seen.append(batch.observations)

    convert = in_double_precision(monkeypatch)
    models = [convert(ppo(n_envs, engine)).learn(128 * n_envs, Calls(on_rollout_end=read)) for engine in ENGINES]
    # Advantages have 32 bits.
    assert difference(*models) < 1e-8


def test_a_rollouts_end_shows_the_value_of_what_comes_next():
    def look(callback):
        found = callback.locals
        callback.seen.append((found["values"].flatten().tolist(), found["n_steps"]))

    callbacks = [Calls(on_rollout_end=look) for _ in ENGINES]
    for engine, callback in zip(ENGINES, callbacks, strict=True):
        ppo(2, engine).learn(64, callback)
    (sb3, steps), (ours, our_steps) = callbacks[0].seen[0], callbacks[1].seen[0]
    assert (steps, our_steps) == (32, 32)
    assert ours == pytest.approx(sb3, abs=1e-6)


@pytest.mark.parametrize("array", ["rewards", "observations"])
def test_an_array_put_into_the_replay_buffer_is_learned_from(array, monkeypatch):
    def relabel(callback):
        if callback.num_timesteps == STARTS + 15:
            buffer = callback.model.replay_buffer
            setattr(buffer, array, getattr(buffer, array) * 0.1)

    convert = in_double_precision(monkeypatch)
    models = [convert(make("MSAC", engine=engine)).learn(STARTS + 40, Calls(relabel)) for engine in ENGINES]
    assert difference(*models) < 1e-10


def test_another_number_of_steps_taken_is_followed():
    def skip(callback):
        if callback.num_timesteps == STARTS + 10:
            callback.model.num_timesteps += 20

    taken = []
    for engine in ENGINES:
        model = make("MSAC", engine=engine).learn(STARTS + 50, Calls(skip))
        taken.append((model.num_timesteps, model.replay_buffer.pos))
    assert taken[0] == taken[1] == (STARTS + 50, STARTS + 30)


@pytest.mark.parametrize("name", ["MDQN", "EntropyPPO"])
def test_callbacks_find_every_name_that_sb3_shows_them(name):
    class Names(BaseCallback):
        def _on_training_start(self):
            self.at_start = set(self.locals)

        def _on_step(self):
            self.at_step = set(self.locals)
            self.counts = [self.locals.get(name) for name in ("num_collected_steps", "num_collected_episodes")]
            return True

    found = []
    for engine in ENGINES:
        callback = Names()
        model = make(name, engine=engine, train_freq=4) if name == "MDQN" else ppo(1, engine)
        model.learn(80, callback)
        found.append(callback)
    sb3, ours = found
    # A super() call's own name is no variable of anybody's.
    assert sb3.at_start - ours.at_start <= {"__class__"}
    loop = {"done", "idx", "env", "new_env", "terminal_obs", "terminal_value"}
    assert sb3.at_step - ours.at_step - loop <= {"__class__", "kwargs", "i"}
    assert ours.counts == sb3.counts


def test_infos_are_copies_and_channels_may_be_last():
    def keep(callback):
        callback.seen.append(callback.locals["infos"][0]["position"])

    for engine in ENGINES:
        callback = Calls(keep)
        arguments = {"learning_starts": 10, "batch_size": 4, "buffer_size": 50, "policy_kwargs": {"net_arch": [8]}}
        MDQN("MlpPolicy", Counting(), engine=engine, device="cpu", seed=0, **arguments).learn(20, callback)
        assert [position.item() for position in callback.seen] == [*range(1, 9), *range(1, 9), *range(1, 5)]


def test_whoever_writes_the_log_writes_what_training_has_to_say(tmp_path):
    for place, engine in zip(("sb3", "fast"), ENGINES, strict=True):
        model = make("MSAC", engine=engine)
        model.set_logger(configure(str(tmp_path / place), ["csv"]))
        evaluate = EvalCallback(make_vec_env("Pendulum-v1"), eval_freq=STARTS + 10, n_eval_episodes=1, verbose=0)
        model.learn(STARTS + 20, evaluate, log_interval=None)
        assert type(model.logger) is Logger
    columns = [(tmp_path / place / "progress.csv").read_text().splitlines()[0].split(",") for place in ("sb3", "fast")]
    assert set(columns[0]) == set(columns[1])
    assert "train/critic_loss" in columns[1]


def test_a_logger_that_is_given_while_training_writes_it_too(tmp_path):
    def step(callback):
        if callback.num_timesteps == STARTS + 5:
            callback.model.set_logger(configure(str(folder), ["csv"]))
        elif callback.num_timesteps == STARTS + 10:
            callback.model.logger.dump(callback.num_timesteps)

    columns = []
    for place, engine in zip(("sb3", "fast"), ENGINES, strict=True):
        folder = tmp_path / place
        model = make("MSAC", engine=engine).learn(STARTS + 20, Calls(step), log_interval=None)
        assert type(model.logger) is Logger
        columns.append({*(folder / "progress.csv").read_text().splitlines()[0].split(",")})
    assert columns[0] == columns[1]
    assert "train/critic_loss" in columns[1]


def test_runs_that_share_a_logger_need_not_end_in_the_order_in_which_they_began():
    logger, told = Logger(None, []), []
    runs = [prepared(logger, functools.partial(told.append, name)) for name in "ab"]
    for run in runs:
        run.__enter__()
    runs[0].__exit__(None, None, None)
    logger.dump()
    assert told == ["b"]
    runs[1].__exit__(None, None, None)
    logger.dump()
    assert told == ["b"]
    assert type(logger) is Logger


def test_a_single_run_may_have_infinite_losses_as_in_sb3():
    class Harsh(gym.RewardWrapper):
        def reward(self, reward):
            return -1e22

    models = []
    for engine in ENGINES:
        env = make_vec_env("CartPole-v1", 1, seed=0, wrapper_class=Harsh)
        model = EntropyPPO(
            "MlpPolicy", env, n_steps=32, batch_size=16, n_epochs=1, seed=0, engine=engine, policy_kwargs={"net_arch": [8]}
        )
        models.append(model.learn(64))
    assert difference(*models) < 1e-6


def test_what_is_written_into_a_state_dict_is_written_into_the_model():
    def clear(callback):
        if callback.num_timesteps == STARTS + 10:
            for value in callback.model.actor.mu.state_dict().values():
                value.zero_()
            callback.seen.append(callback.model.actor.mu.weight.abs().sum().item())

    callbacks = [Calls(clear) for _ in range(2)]
    makers = [functools.partial(make, "MSAC", seed) for seed in range(2)]
    train_together(makers, STARTS + 15, lambda index, model: callbacks[index])
    assert [callback.seen for callback in callbacks] == [[0.0], [0.0]]


def test_a_seed_without_a_logger_leaves_the_others_alone():
    class Breaks(gym.Wrapper):
        def reset(self, **arguments):
            raise OSError("it broke")

    makers = [functools.partial(make, "MSAC", seed) for seed in range(3)]

    def broken():
        model = make("MSAC", 1)
        model.set_env(make_vec_env("Pendulum-v1", wrapper_class=Breaks))
        return model

    makers[1] = broken
    models, errors = train_together(makers, STARTS + 5, lambda index, model: None)
    assert [type(error) for error in errors] == [type(None), OSError, type(None)]
    assert models[2].num_timesteps == STARTS + 5


def test_a_seed_whose_count_of_steps_is_changed_leaves_alone():
    def skip(callback):
        if callback.num_timesteps == STARTS + 5:
            callback.model.num_timesteps += 20

    makers = [functools.partial(make, "MSAC", seed) for seed in range(3)]
    models, errors = train_together(makers, STARTS + 15, lambda index, model: Calls(skip) if index == 0 else None)
    assert "no longer like it" in str(errors[0])
    assert [model.replay_buffer.pos for model in models[1:]] == [STARTS + 15] * 2


def test_a_logger_is_as_it_was_and_a_copy_writes_its_own(tmp_path):
    class Own(Logger):
        def dump(self, step=0, extra=None):
            self.extra = extra
            super().dump(step)

    def copy(callback):
        if callback.num_timesteps == STARTS + 5:
            callback.logger.dump(callback.num_timesteps, extra="given")
            callback.seen.append(deepcopy(callback.model))

    model, callback = make("MSAC"), Calls(copy)
    model.set_logger(Own(None, []))
    model.learn(STARTS + 10, callback)
    assert (type(model.logger), model.logger.extra) == (Own, "given")
    (copied,) = callback.seen
    model.logger.record("kept", 1)
    copied.logger.record("a", 1)
    copied.logger.dump()
    assert "a" not in copied.logger.name_to_value
    assert "kept" in model.logger.name_to_value


def test_replaced_arrays_are_taken_over_without_recording_anew(monkeypatch):
    made = []
    monkeypatch.setattr(step.StackedStep, "_record_all", count(step.StackedStep._record_all, made))

    def relabel(callback):
        buffer = callback.model.replay_buffer
        buffer.rewards = buffer.rewards * 1.0

    make("MSAC").learn(STARTS + 10, Calls(relabel))
    assert len(made) == 1


def count(function, calls):
    @functools.wraps(function)
    def counted(*arguments):
        calls.append(1)
        return function(*arguments)

    return counted


def test_what_a_forward_pass_changes_while_training_is_not_recorded_without_it():
    model = make("MSAC", munchausen_alpha=0)
    spectral_norm(model.actor.latent_pi[0])
    model.predict(model.observation_space.sample())
    with pytest.raises(ValueError, match="cannot run this"):
        model.learn(STARTS + 10)


def test_hooks_after_a_gradient_is_there_are_called():
    model, called = make("MSAC", engine="sb3"), []
    model.actor.mu.bias.register_post_accumulate_grad_hook(lambda parameter: called.append(parameter.grad is not None))
    model.learn(STARTS + 10)
    assert called == [True] * 10


def test_models_may_learn_in_threads():
    before, results = th.nn.Module.__call__, []
    threads = [
        threading.Thread(target=lambda seed=seed: results.append(make("MDQN", seed=seed).learn(STARTS + 5).engine_used))
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["fast, not compiled"] * 3
    assert th.nn.Module.__call__ is before
    assert th.distributions.Distribution._validate_args is __debug__
