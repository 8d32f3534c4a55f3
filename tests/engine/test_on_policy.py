"""On-policy algorithms on the fast engine: SB3's rollouts and minibatches on the same random draws, equal to rounding."""

from copy import deepcopy
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic import EntropyPPO, MaxEntPPO, SeedsFailedError, train_seeds
from sb3_entropic.train_seeds import train_together
from tests.engine.cases import FAST, difference, in_double_precision
from tests.extractors import BatchNormExtractor
from tests.on_policy.worlds import Bandit, Corridor

CASES = {
    "PPO": (EntropyPPO, {}),
    "every term": (
        EntropyPPO,
        {
            **{"ent_coef": "auto_0.1", "kl_coef": lambda progress: 0.1 + progress, "normalize_advantage": False},
            **{"clip_range_vf": lambda progress: 0.2 * progress, "max_grad_norm": 0.05},
        },
    ),
    "early stops": (EntropyPPO, {"target_kl": 1e-4, "kl_coef": "auto", "learning_rate": 3e-3}),
    "two critics": (
        MaxEntPPO,
        {
            **{"ent_coef": "lin_0.1", "entropy_gamma": 0.8, "entropy_baseline": "mean"},
            **{"learning_rate": lambda progress: 1e-3 * progress},
        },
    ),
    "one critic": (MaxEntPPO, {"entropy_critic": False}),
    "no entropy": (MaxEntPPO, {"ent_coef": 0.0}),
}


def make(name, env="CartPole-v1", seed=0, engine=FAST, **arguments):
    """A small model that takes 8 gradient steps for every 64 environment steps."""
    constructor, own = CASES[name]
    common = {"n_steps": 64, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    env = env() if callable(env) else env
    return constructor("MlpPolicy", env, seed=seed, engine=engine, **{**common, **own, **arguments})


def both(name, steps, convert=lambda model: model, **arguments):
    """The model trained by SB3's loop and by the fast engine, one after the other: they share global generators."""
    return [convert(make(name, engine=engine, **arguments)).learn(steps, log_interval=None) for engine in ("sb3", FAST)]


@pytest.fixture
def double(monkeypatch):
    """Make a model of 64 bits."""
    to_torch = RolloutBuffer.to_torch
    monkeypatch.setattr(RolloutBuffer, "to_torch", lambda self, array, copy=True: to_torch(self, array, copy).double())
    monkeypatch.setattr("sb3_entropic.engine.rollouts.ROW", np.float64)
    return in_double_precision(monkeypatch)


CONTINUOUS = ("every term", "two critics")


@pytest.mark.parametrize(
    ("name", "env"), [*((name, "CartPole-v1") for name in CASES), *((name, "Pendulum-v1") for name in CONTINUOUS)]
)
def test_updates_agree_in_double_precision(name, env, double):
    exact, fast = both(name, 256, double, env=env)
    assert fast.engine_used == "fast, not compiled"
    assert exact._n_updates == fast._n_updates > 5
    assert difference(fast, exact) < 1e-10
    assert difference(fast, double(make(name, env))) > 1e-4
    for ours, theirs in zip(fast.policy.parameters(), exact.policy.parameters(), strict=True):
        if theirs in exact.policy.optimizer.state:
            moments = (model.policy.optimizer.state[p] for model, p in ((fast, ours), (exact, theirs)))
            first, second = ({name: state[name] for name in ("step", "exp_avg", "exp_avg_sq")} for state in moments)
            th.testing.assert_close(first, second, rtol=1e-7, atol=1e-10)
    for name in ("learned_ent_coef", "learned_kl_coef"):
        expected = getattr(exact, name)
        assert getattr(fast, name) == (None if expected is None else pytest.approx(expected, rel=1e-9))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("PPO", {}), ("PPO", {"n_envs": 2, "sde_sample_freq": 3}), ("every term", {}), ("two critics", {"sde_sample_freq": 4})],
    ids=str,
)
def test_state_dependent_exploration(name, arguments, double):
    def env():
        return make_vec_env("Pendulum-v1", arguments.get("n_envs", 1), seed=0)

    own = {"use_sde": True, "sde_sample_freq": arguments.get("sde_sample_freq", -1)}
    exact, fast = both(name, 256, double, env=env, **own)
    assert fast.engine_used == "fast, not compiled"
    assert exact._n_updates == fast._n_updates >= 4
    # SB3's loop leaves them in another order.
    actions = [np.sort(model.rollout_buffer.actions, axis=None) for model in (exact, fast)]
    np.testing.assert_allclose(*actions, rtol=1e-5, atol=1e-6)
    assert difference(fast, exact) < 1e-9


def test_the_rollout_and_the_log_are_sb3s():
    exact, fast = both("two critics", 192, env=lambda: make_vec_env(lambda: Corridor(truncates=True), 3, seed=0))
    (theirs,), (ours,) = (model.rollout_buffer.get() for model in (exact, fast))
    for field in ("observations", "actions", "old_values", "old_log_prob", "advantages", "returns", "entropy_returns"):
        # In the order of SB3's draws from a rollout: the same numbers, differently shuffled.
        a, b = (np.sort(getattr(batch, field).flatten().numpy()) for batch in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    logged, expected = fast.logger.name_to_value, exact.logger.name_to_value
    assert logged.keys() == expected.keys()
    assert "train/entropy_value_loss" in logged
    for key, value in expected.items():
        assert logged[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize("name", ["PPO", "every term", "two critics"])
def test_a_seed_in_a_stack_is_the_seed_alone(name):
    seeds = [3, 8]
    stack, errors = train_together([partial(make, name, seed=seed) for seed in seeds], 192, lambda *_: None)
    assert errors == [None] * 2
    for seed, model in zip(seeds, stack, strict=True):
        alone = make(name, seed=seed).learn(192)
        assert difference(model, alone) < 1e-5
        assert model._n_updates == alone._n_updates
        np.testing.assert_array_equal(model.rollout_buffer.actions, alone.rollout_buffer.actions)


def test_seeds_stop_early_by_themselves():
    rates = [1e-5, 1e-2, 3e-3]
    models = train_seeds(
        EntropyPPO, "MlpPolicy", "CartPole-v1", seeds=[1, 2, 3], total_timesteps=128, learning_rate=rates, engine=FAST,
        target_kl=1e-3, n_steps=64, batch_size=16, n_epochs=4, device="cpu",
    )  # fmt: skip
    updates = [model._n_updates for model in models]
    assert updates[0] == 8 > updates[1]
    for seed, rate, model in zip([1, 2, 3], rates, models, strict=True):
        arguments = {"target_kl": 1e-3, "n_steps": 64, "batch_size": 16, "n_epochs": 4, "device": "cpu", "engine": "sb3"}
        alone = EntropyPPO("MlpPolicy", "CartPole-v1", seed=seed, learning_rate=rate, **arguments).learn(128)
        assert model._n_updates == alone._n_updates
        assert difference(model, alone) < 1e-4
        # Means over the gradient steps that this seed has taken, and not the others.
        ours, theirs = ({k: v for k, v in m.logger.name_to_value.items() if "train/" in k} for m in (model, alone))
        assert len(ours) > 5
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_normalised_environments(double):
    def env():
        return VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))

    exact, fast = both("PPO", 256, double, env=env)
    assert fast.engine_used == "fast, not compiled"
    # Running means are of 32-bit observations.
    assert difference(fast, exact) < 1e-8


def test_a_sweep_is_a_stack():
    sweep = {"ent_coef": [0.01, 0.1], "gamma": [0.9, 0.99], "clip_range": [0.1, 0.3]}
    common = {"n_steps": 64, "batch_size": 16, "n_epochs": 2, "device": "cpu"}
    stack = train_seeds(
        MaxEntPPO, "MlpPolicy", "CartPole-v1", seeds=[1, 2], total_timesteps=128, engine=FAST, **sweep, **common
    )
    for index, model in enumerate(stack):
        own = {name: values[index] for name, values in sweep.items()}
        alone = MaxEntPPO("MlpPolicy", "CartPole-v1", seed=index + 1, engine="sb3", **own, **common).learn(128)
        assert difference(model, alone) < 1e-5


class Stops(BaseCallback):
    """After so many steps; keeps what it saw."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.seen = steps, []

    def _on_step(self):
        return self.num_timesteps < self.steps

    def _on_rollout_end(self):
        parameters = self.model.get_parameters()["policy"]
        alone = all(value.untyped_storage().nbytes() == value.nbytes for value in parameters.values())
        self.seen.append((self.locals["rollout_buffer"].advantages.copy(), deepcopy(parameters), alone))


def test_callbacks_see_what_sb3_shows_them_and_may_stop_a_seed():
    callbacks = {1: Stops(1000), 2: Stops(100)}
    arguments = {"n_steps": 64, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    where = ("MlpPolicy", "CartPole-v1")
    models = train_seeds(
        EntropyPPO, *where, seeds=[1, 2], total_timesteps=192, callback=callbacks.get, engine=FAST, **arguments
    )
    assert [model.num_timesteps for model in models] == [192, 100]
    alone = Stops(1000)
    EntropyPPO(*where, seed=1, engine="sb3", **arguments).learn(192, callback=alone)
    assert len(callbacks[1].seen) == 3
    for (ours, parameters, are_its_own), (theirs, expected, _) in zip(callbacks[1].seen, alone.seen, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        th.testing.assert_close(parameters, expected, rtol=1e-4, atol=1e-5)
        assert are_its_own


class Breaks(gym.Wrapper):
    """The second one made breaks after 70 steps."""

    made = 0

    def __init__(self):
        super().__init__(gym.make("CartPole-v1"))
        Breaks.made += 1
        self.left = 70 if Breaks.made == 2 else 10**6

    def step(self, action):
        self.left -= 1
        if self.left < 0:
            raise OSError("the cable is loose")
        return super().step(action)


def test_a_seed_that_raises_leaves_the_others_alone():
    Breaks.made = 0
    arguments = {"n_steps": 64, "batch_size": 16, "n_epochs": 2, "device": "cpu", "engine": FAST}
    with pytest.raises(SeedsFailedError, match="the cable is loose") as failed:
        train_seeds(EntropyPPO, "MlpPolicy", Breaks, seeds=[1, 2, 3], total_timesteps=128, **arguments)
    assert list(failed.value.errors) == [2]
    assert [model._n_updates for model in failed.value.models] == [4, 2, 4]


def test_parameters_a_callback_replaces_are_those_that_act():
    class Replaces(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 30:
                self.model.policy.to(th.float64).to(th.float32)
                with th.no_grad():
                    self.model.policy.action_net.bias.copy_(th.tensor([50.0, -50.0]))
            return True

    model = make("PPO")
    model.learn(64, callback=Replaces())
    assert set(model.rollout_buffer.actions[31:].flatten()) == {0}


@pytest.mark.parametrize("n", [1, 2])
def test_networks_replaced_before_a_rollout_act_in_it(n):
    class Replaces(BaseCallback):
        def _on_rollout_start(self):
            policy = self.model.policy
            if self.num_timesteps > 0:
                policy.action_net = deepcopy(policy.action_net)
                with th.no_grad():
                    policy.action_net.bias.copy_(th.tensor([50.0, -50.0]))
                policy.optimizer = th.optim.Adam(policy.parameters(), lr=1e-4)

        def _on_step(self):
            return True

    models, errors = train_together([partial(make, "PPO", seed=seed) for seed in range(n)], 128, lambda *_: Replaces())
    assert errors == [None] * n
    for model in models:
        assert set(model.rollout_buffer.actions.flatten()) == {0}
        assert model.rollout_buffer.log_probs.max() <= 0.0
        assert model.policy.action_net.bias[0] > 40


class Changes(BaseCallback):
    """Attributes of the model, when its second rollout begins."""

    def __init__(self, **changes):
        super().__init__()
        self.changes = changes

    def _on_step(self):
        if self.num_timesteps == 65:
            vars(self.model).update(self.changes)
        return True


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("PPO", {"vf_coef": 5.0}),
        ("PPO", {"max_grad_norm": 1e-3}),
        ("PPO", {"normalize_advantage": False}),
        ("PPO", {"batch_size": 32}),
        ("no entropy", {"ent_coef": 0.1}),
        ("every term", {"clip_range_vf": None}),
        ("PPO", {"clip_range_vf": FloatSchedule(0.01)}),
    ],
    ids=str,
)
def test_a_changed_argument_is_followed(name, changes, double):
    exact, fast = (double(make(name, engine=engine)).learn(192, callback=Changes(**changes)) for engine in ("sb3", FAST))
    assert exact._n_updates == fast._n_updates
    assert difference(fast, exact) < 1e-10
    assert difference(double(make(name)).learn(192), exact) > 1e-6


def test_callbacks_find_the_tensors_that_sb3_shows_them():
    class Notes(BaseCallback):
        seen = ()

        def _on_step(self):
            tensors = {name: self.locals[name] for name in ("obs_tensor", "values", "log_probs")}
            Notes.seen = (*Notes.seen, {name: (type(value), value.shape, value.dtype) for name, value in tensors.items()})
            return True

    for engine in ("sb3", FAST):
        make("PPO", env=lambda: make_vec_env("CartPole-v1", 2), engine=engine).learn(128, callback=Notes())
    assert Notes.seen[0] == Notes.seen[-1]


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_model_may_be_copied_while_it_learns(env):
    class Copies(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 70:
                self.copies = [deepcopy(self.model), cloudpickle.loads(cloudpickle.dumps(self.model))]
            return True

    copies = Copies()
    model = make("two critics", env)
    model.learn(192, callback=copies)
    for copied in copies.copies:
        assert difference(copied, model) > 1e-6
        assert copied.learn(64, reset_num_timesteps=False).num_timesteps == 70 + 64


def test_copies_of_a_schedule_are_the_same_schedule():
    arguments = {"ent_coef": "auto", "target_entropy": LinearSchedule(0.5, 0.1, 1.0), "n_steps": 64, "batch_size": 16}
    where = ("MlpPolicy", "CartPole-v1")
    models = train_seeds(EntropyPPO, *where, seeds=[1, 2], total_timesteps=64, engine=FAST, device="cpu", **arguments)
    assert [model.engine_used for model in models] == ["fast, not compiled"] * 2
    makers = [partial(make, "PPO", ent_coef="auto", target_entropy=LinearSchedule(end, 0.1, 1.0)) for end in (0.5, 0.4)]
    with pytest.raises(ValueError, match="the models differ in target_entropy"):
        train_together(makers, 64, lambda *_: None)


def test_learning_goes_on_where_it_stopped(double):
    models = both("every term", 128, double)
    for model in models:
        np.random.seed(7)
        th.manual_seed(7)
        model.env.seed(7)
        model._last_obs = model.env.reset()
        model.learn(64, reset_num_timesteps=False)
    assert difference(*models) < 1e-10


class TwoArms(Bandit):
    """Of which both are pulled."""

    action_space = spaces.MultiDiscrete([2, 2])

    def step(self, action):
        return super().step(action[0])


REFUSED = {
    "the policy's actions are squashed": lambda: make(
        "PPO", "Pendulum-v1", use_sde=True, policy_kwargs={"net_arch": [8], "squash_output": True}
    ),
    "the actions are a MultiCategoricalDistribution's": lambda: make("PPO", TwoArms),
    "the last minibatch of 64 steps would be smaller than batch_size=48": lambda: make("PPO", batch_size=48),
    "the policy holds a BatchNorm": lambda: make("PPO", policy_kwargs={"features_extractor_class": BatchNormExtractor}),
}


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_fast_engine_does_not_run_is_said(reason):
    with pytest.raises(ValueError, match=f'engine="fast" cannot run this: .*{reason}'):
        REFUSED[reason]().learn(10)


def test_a_single_run_is_as_long_as_its_passes_over_rollouts():
    model = make("PPO", engine="auto")
    assert model.gradient_steps_between(0, 640) == 10 * 2 * 4
    assert model.gradient_steps_between(64, 65) == 2 * 4
    assert model.learn(64).engine_used == "sb3"
