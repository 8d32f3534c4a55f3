"""Environments of several models: those that are processes take their steps at once, and nothing else changes."""

import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_entropic import MDQN, MSAC, EntropyPPO, MaxEntPPO, train_seeds
from tests.engine.cases import FAST

SMALL = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
OFF_POLICY = {**SMALL, "learning_starts": 8, "batch_size": 8}
ON_POLICY = {**SMALL, "n_steps": 16, "batch_size": 16, "n_epochs": 2}
CASES = [
    pytest.param(MSAC, "Pendulum-v1", OFF_POLICY, id="MSAC"),
    pytest.param(MDQN, "CartPole-v1", OFF_POLICY, id="MDQN"),
    pytest.param(EntropyPPO, "Pendulum-v1", ON_POLICY, id="EntropyPPO"),
    pytest.param(MaxEntPPO, "CartPole-v1", ON_POLICY, id="MaxEntPPO"),
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


def trained(algorithm, name, arguments, make_env, steps=48):
    return train_seeds(algorithm, "MlpPolicy", make_env, seeds=[3, 5], total_timesteps=steps, engine=FAST, **arguments)


@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_the_steps_of_all_models_are_begun_before_one_is_waited_for(algorithm, name, arguments):
    notes = []

    def make_env():
        env = make_vec_env(name, 2, vec_env_cls=Noting)
        env.notes = notes
        return VecNormalize(env, norm_obs=False) if arguments is ON_POLICY else env

    trained(algorithm, name, arguments, make_env, steps=64)
    assert notes == ["sent", "sent", "waited for", "waited for"] * 32


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


@pytest.mark.parametrize(("algorithm", "name", "arguments"), CASES)
def test_a_step_of_ones_own_is_taken(algorithm, name, arguments):
    class Own(Noting):
        def step(self, actions):
            self.notes.append("stepped")
            return super().step(actions)

    notes = []

    def make_env():
        env = make_vec_env(name, 1, vec_env_cls=Own)
        env.notes = notes
        return env

    trained(algorithm, name, arguments, make_env, steps=16)
    assert notes == ["stepped", "sent", "waited for"] * 32


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
