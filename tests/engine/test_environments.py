"""Environments of several models: those that are processes take their steps at once, and nothing else changes."""

from functools import partial

import gymnasium as gym
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor, VecNormalize

from sb3_entropic import MDQN, MSAC, EntropyPPO, train_seeds
from tests.engine.cases import FAST

SMALL = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
OFF_POLICY = {**SMALL, "learning_starts": 8, "batch_size": 8}
ON_POLICY = {**SMALL, "n_steps": 16, "batch_size": 16, "n_epochs": 2}
CASES = [
    pytest.param(MDQN, "CartPole-v1", OFF_POLICY, id="MDQN"),
    pytest.param(EntropyPPO, "Pendulum-v1", ON_POLICY, id="EntropyPPO"),
]


class Noting(DummyVecEnv):
    """Notes when a step is begun and when it is waited for."""

    notes: list

    def step_async(self, actions):
        self.notes.append("sent")
        super().step_async(actions)

    def step_wait(self):
        self.notes.append("waited for")
        return super().step_wait()


class Notes(BaseCallback):
    """Notes that it was told of a step, and may do something then."""

    def __init__(self, notes, action=lambda callback: None):
        super().__init__()
        self.notes, self.action = notes, action

    def _on_step(self):
        self.notes.append("told")
        self.action(self)
        return True


class AtRolloutsEnd(BaseCallback):
    def __init__(self, action):
        super().__init__()
        self.action = action

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.action(self)


def trained(algorithm, name, arguments, make_env, steps=48, **more):
    arguments = {**arguments, **more}
    return train_seeds(algorithm, "MlpPolicy", make_env, seeds=[3, 5], total_timesteps=steps, engine=FAST, **arguments)


@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_the_steps_of_all_models_are_begun_before_one_is_waited_for(algorithm, name, arguments):
    notes = []

    def make_env():
        env = make_vec_env(name, 2, vec_env_cls=Noting)
        env.notes = notes
        return VecNormalize(env, norm_obs=False) if arguments is ON_POLICY else env

    trained(algorithm, name, arguments, make_env, steps=64, callback=lambda seed: Notes(notes))
    assert notes == ["sent", "sent", "waited for", "waited for", "told", "told"] * 32


@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_processes_give_what_one_process_gives(algorithm, name, arguments):
    def with_class(vec_env_cls, **options):
        return trained(algorithm, name, arguments, lambda: make_vec_env(name, 2, vec_env_cls=vec_env_cls, **options))

    own = with_class(SubprocVecEnv, vec_env_kwargs={"start_method": "fork"})
    try:
        for one, other in zip(with_class(DummyVecEnv), own, strict=True):
            for key, value in one.policy.state_dict().items():
                assert (value == other.policy.state_dict()[key]).all(), key
    finally:
        for model in own:
            model.env.close()


@pytest.mark.parametrize("part", ["step", "step_async", "step_wait"])
@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_a_part_of_ones_own_is_called(algorithm, name, arguments, part):
    notes = []

    def make_env(of_class):
        env = make_vec_env(name, 1)
        own = getattr(env, part)

        def noted(self, *given):
            notes.append(part)
            return own(*given)

        if of_class:
            env.__class__ = type("Own", (DummyVecEnv,), {part: noted})
        else:
            setattr(env, part, partial(noted, env))
        return env

    for of_class in (False, True):
        trained(algorithm, name, arguments, partial(make_env, of_class), steps=16)
    assert notes == [part] * 64


def test_a_step_that_is_replaced_for_all_is_called(monkeypatch):
    calls, step = [], VecEnv.step
    monkeypatch.setattr(VecEnv, "step", lambda self, actions: calls.append(1) or step(self, actions))
    trained(MDQN, "CartPole-v1", OFF_POLICY, lambda: VecMonitor(make_vec_env("CartPole-v1")), steps=16)
    assert len(calls) == 32


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_no_step_is_left_that_nobody_waits_for(algorithm, name, arguments, error):
    def fail(callback):
        if callback.num_timesteps == 10:
            raise error

    class Waits(Noting):
        def step_wait(self):
            if error is KeyboardInterrupt and len(self.notes) == 38:
                self.notes.append("interrupted")
                raise KeyboardInterrupt
            return super().step_wait()

    notes = []

    def make_env():
        env = make_vec_env(name, 1, vec_env_cls=Waits)
        env.notes = notes
        return env

    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        trained(algorithm, name, arguments, make_env, callback=lambda seed: Notes([], fail if seed == 3 else bool))
    assert notes.count("sent") == notes.count("waited for") + notes.count("interrupted")


def test_the_environment_of_another_seed_may_be_asked_for_something():
    envs = []

    def make_env():
        envs.append(make_vec_env("CartPole-v1", 1, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"}))
        return envs[-1]

    def ask(callback):
        if callback.num_timesteps == 10:
            envs[1].set_attr("level", 3)

    try:
        trained(MDQN, "CartPole-v1", OFF_POLICY, make_env, callback=lambda seed: Notes([], ask if seed == 3 else bool))
        assert envs[1].get_attr("level") == [3]
    finally:
        for env in envs:
            env.close()


def test_seeds_with_one_environment_are_refused():
    env = gym.make("CartPole-v1")
    with pytest.raises(ValueError, match="the same environment twice"):
        trained(MDQN, "CartPole-v1", OFF_POLICY, lambda: env)


@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_a_seed_that_has_nothing_to_act_on_leaves_alone(algorithm, name, arguments):
    def forget(callback):
        if callback.num_timesteps == 32:
            callback.model._last_obs = None

    with pytest.raises(
        RuntimeError, match=r"1 of 2 seeds failed .* has no observation of shape .*force_reset=False"
    ) as caught:
        trained(
            algorithm,
            name,
            arguments,
            lambda: make_vec_env(name),
            callback=lambda seed: AtRolloutsEnd(forget) if seed == 3 else None,
        )
    assert [model.num_timesteps for model in caught.value.models] == [32, 48]


def test_what_a_seed_that_never_began_has_seen_is_kept():
    class Fails(BaseCallback):
        def _on_training_start(self):
            self.model.seen = self.model._last_obs.copy()
            raise OSError

        def _on_step(self):
            return True

    with pytest.raises(RuntimeError, match="1 of 2 seeds failed") as caught:
        trained(
            MDQN,
            "CartPole-v1",
            OFF_POLICY,
            lambda: make_vec_env("CartPole-v1"),
            callback=lambda seed: Fails() if seed == 3 else None,
        )
    failed = caught.value.models[0]
    assert failed.seen.any() and (failed._last_obs == failed.seen).all()


def test_an_environment_that_fails_as_it_is_sent_actions_leaves_alone():
    class Broken(Noting):
        def step_async(self, actions):
            if len(self.notes) == 20:
                raise ConnectionError("gone")
            super().step_async(actions)

    made = []

    def make_env():
        env = make_vec_env("Pendulum-v1", 1, vec_env_cls=Noting if made else Broken)
        env.notes = []
        made.append(env)
        return env

    with pytest.raises(RuntimeError, match="1 of 2 seeds failed") as caught:
        trained(MSAC, "Pendulum-v1", OFF_POLICY, make_env)
    assert [model.num_timesteps for model in caught.value.models] == [10, 48]
    assert caught.value.models[1].policy.state_dict()["actor.mu.weight"].isfinite().all()
