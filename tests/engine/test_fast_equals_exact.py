"""The fast engine runs the same losses on the same random draws as SB3's loop: equal to rounding."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import IdentityEnvBox
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from sb3_entropic import MDQN, MSAC, Engine, train_seeds
from sb3_entropic.train_seeds import train_together
from tests.engine.cases import CASES, FAST, STARTS, difference, in_double_precision, make


def common(**arguments):
    # Made anew: SB3 writes into policy_kwargs.
    return {"policy_kwargs": {"net_arch": [8]}, "batch_size": 16, "learning_starts": STARTS, "device": "cpu"} | arguments


@pytest.fixture
def double(monkeypatch):
    """Make a model of 64 bits."""
    return in_double_precision(monkeypatch)


def both(name, steps, convert=lambda model: model, **arguments):
    """The model trained by SB3's loop and by the fast engine, one after the other: they share global generators."""
    return [convert(make(name, engine=engine, **arguments)).learn(steps, log_interval=None) for engine in ("sb3", FAST)]


pytestmark = pytest.mark.filterwarnings("ignore:munchausen_clip")


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_updates_and_what_is_logged_of_them_agree_in_double_precision(name, double):
    before = list(double(make(name)).policy.parameters())
    exact, fast = both(name, STARTS + 100, double)
    assert exact._n_updates == fast._n_updates == 100
    assert difference(fast, exact) < 1e-10
    assert max((a - b).abs().max() for a, b in zip(before, fast.policy.parameters(), strict=True)) > 1e-3
    moments = zip(fast.updates(), exact.updates(), strict=True)
    for ours, theirs in moments:
        for p, q in zip(ours.parameters, theirs.parameters, strict=True):
            assert ours.optimizer.state[p]["step"] == theirs.optimizer.state[q]["step"]
            for moment in ("exp_avg", "exp_avg_sq"):
                th.testing.assert_close(
                    ours.optimizer.state[p][moment], theirs.optimizer.state[q][moment], rtol=1e-8, atol=1e-12
                )
    assert fast.logger.name_to_value.keys() == exact.logger.name_to_value.keys()
    ours, theirs = ({k: v for k, v in model.logger.name_to_value.items() if "train/" in k} for model in (fast, exact))
    assert len(ours) > 3
    assert ours == pytest.approx(theirs, rel=1e-6)
    for field in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_allclose(
            getattr(fast.replay_buffer, field), getattr(exact.replay_buffer, field), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("name", CASES)
def test_twenty_updates_agree_in_single_precision(name):
    exact, fast = both(name, STARTS + 20)
    assert difference(fast, exact) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_a_seed_in_a_stack_is_the_seed_alone(name):
    seeds = [3, 5, 8]
    stack, errors = train_together([partial(make, name, seed) for seed in seeds], STARTS + 20, lambda *_: None)
    assert errors == [None] * 3
    # The first is what a single model is.
    for seed, model in zip(seeds[1:], stack[1:], strict=True):
        alone = make(name, seed).learn(STARTS + 20)
        assert difference(model, alone) < 1e-6
        np.testing.assert_array_equal(model.replay_buffer.actions, alone.replay_buffer.actions)


def test_a_seed_that_has_left_stays_as_it_is_when_the_stack_is_made_anew():
    left = {}

    class Leaves(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == STARTS + 10:
                left.update({name: value.clone() for name, value in self.model.policy.state_dict().items()})
                return False
            return True

    class Changes(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == STARTS + 20:
                # A term comes into use, so that the step is recorded anew.
                self.model.munchausen_alpha = 0.5
            return True

    makers = [partial(make, "MSAC", seed, munchausen_alpha=0.0) for seed in range(2)]
    models, errors = train_together(makers, STARTS + 40, lambda index, _: (Leaves(), Changes())[index])
    assert errors == [None, None]
    assert models[0].num_timesteps == STARTS + 10
    assert left.keys() == models[0].policy.state_dict().keys()
    for name, value in models[0].policy.state_dict().items():
        th.testing.assert_close(value, left[name], rtol=0, atol=0)


@pytest.mark.parametrize("network", ["actor", "discriminator"])
def test_a_frozen_network_stays_as_it_is(network, double):
    models = []
    for engine in ("sb3", FAST):
        model = double(make("DIAYN", engine=engine))
        before = [parameter.clone() for parameter in getattr(model, network).requires_grad_(False).parameters()]
        models.append(model.learn(STARTS + 20))
        assert all(map(th.equal, getattr(model, network).parameters(), before))
    assert difference(*models) < 1e-10


def test_the_gradients_norm_is_clipped(double):
    exact, fast = both("MDQN", STARTS + 30, double, max_grad_norm=0.05)
    unclipped = double(make("MDQN", max_grad_norm=1e9)).learn(STARTS + 30)
    assert difference(fast, exact) < 1e-10
    assert difference(unclipped, exact) > 1e-6


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (th.optim.AdamW, {}),
        (th.optim.Adam, {"betas": (0.5, 0.9)}),
        (th.optim.Adam, {"decoupled_weight_decay": True}),
    ],
)
def test_weights_decay_as_the_optimiser_lets_them(optimizer, options, double):
    def policy_kwargs():
        return {"net_arch": [8], "optimizer_class": optimizer, "optimizer_kwargs": {"weight_decay": 0.1, **options}}

    # Made anew: SB3 writes into policy_kwargs.
    exact, fast = (
        double(make("MSAC", engine=engine, policy_kwargs=policy_kwargs())).learn(STARTS + 30) for engine in ("sb3", FAST)
    )
    assert difference(fast, exact) < 1e-10


@pytest.mark.parametrize(
    "arguments",
    [
        {"train_freq": 4, "gradient_steps": 2},
        {"train_freq": 3, "gradient_steps": -1},
        # SB3 counts the interval within one call of train.
        {"train_freq": 8, "gradient_steps": 8, "target_update_interval": 3},
    ],
)
def test_the_schedule_of_updates_is_sb3s(arguments, double):
    exact, fast = both("MSAC", STARTS + 37, double, **arguments)
    assert exact._n_updates == fast._n_updates
    assert exact.num_timesteps == fast.num_timesteps
    assert difference(fast, exact) < 1e-10


@pytest.mark.parametrize("name", ["MSAC", "MTQC", "SoftQ", "DiscreteSAC", "MDQN", "MoDQN", "MQRDQN", "MIQN"])
def test_n_step_returns(name, double):
    exact, fast = both(name, STARTS + 60, double, n_steps=3, n_envs=2, gamma=0.9)
    assert exact._n_updates == fast._n_updates > 20
    assert difference(fast, exact) < 1e-10
    one_step = double(make(name, n_envs=2, gamma=0.9)).learn(STARTS + 60, log_interval=None)
    assert difference(one_step, exact) > 1e-6


@pytest.mark.parametrize("n_envs", [1, 2])
def test_noise_begins_anew_with_every_episode(n_envs):
    actions = []
    for engine in ("sb3", FAST):
        noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.3 * np.ones(1))
        env = make_vec_env("Pendulum-v1", n_envs, seed=0, env_kwargs={"max_episode_steps": 7})
        model = MSAC("MlpPolicy", env, engine=engine, action_noise=noise, **common(seed=0, buffer_size=400))
        actions.append(model.learn(STARTS).replay_buffer.actions[: STARTS // n_envs].copy())
    np.testing.assert_array_equal(*actions)


class EndsBothWays(gym.Env):
    """Every fifth step terminates the episode, which would have been cut there, too."""

    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 5
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action[0]), over, over, {}


def test_what_terminates_at_its_time_limit_has_terminated(double):
    exact, fast = (
        double(MSAC("MlpPolicy", EndsBothWays(), engine=engine, **common(seed=0, buffer_size=400))).learn(STARTS + 20)
        for engine in ("sb3", FAST)
    )
    assert fast.replay_buffer.dones.any()
    assert not fast.replay_buffer.timeouts.any()
    assert difference(fast, exact) < 1e-10


def test_several_environments_and_action_noise(double):
    models = []
    for engine in ("sb3", FAST):
        noise = NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))
        env = make_vec_env("Pendulum-v1", n_envs=3, seed=0)
        model = MSAC("MlpPolicy", env, engine=engine, action_noise=noise, **common(seed=0))
        models.append(double(model).learn(STARTS + 90))
    assert models[0]._n_updates == models[1]._n_updates > 10
    assert difference(*models) < 1e-10


STATE_DEPENDENT = {
    "a matrix a rollout": {"train_freq": 5, "gradient_steps": 3},
    "a matrix every two steps": {"train_freq": 5, "sde_sample_freq": 2},
    "several environments": {"n_envs": 3, "sde_sample_freq": 2},
    "from the first step on": {"use_sde_at_warmup": True},
    "expln": {},
}


@pytest.mark.parametrize(
    ("name", "setting"),
    [*(("MSAC", setting) for setting in STATE_DEPENDENT), *((name, "a matrix every two steps") for name in ("MTQC", "DIAYN"))],
)
def test_state_dependent_exploration(name, setting, double):
    exact, fast = (
        # policy_kwargs are made anew: SB3 writes into them.
        double(make(name, engine=engine, use_sde=True, policy_kwargs=policy_kwargs, **STATE_DEPENDENT[setting])).learn(
            STARTS + 60, log_interval=None
        )
        for engine in ("sb3", FAST)
        for policy_kwargs in [{"net_arch": [8], "use_expln": setting == "expln"}]
    )
    assert exact._n_updates == fast._n_updates > 10
    # SB3 finds what was squashed from the action, which magnifies rounding.
    assert difference(fast, exact) < 1e-9
    np.testing.assert_allclose(fast.replay_buffer.actions, exact.replay_buffer.actions, rtol=1e-6, atol=1e-6)


def test_every_seed_of_a_stack_explores_by_its_own_matrices():
    seeds, arguments = [3, 5, 8], {"use_sde": True, "train_freq": 5, "sde_sample_freq": 2}
    stack, errors = train_together([partial(make, "MSAC", seed, **arguments) for seed in seeds], STARTS + 60, lambda *_: None)
    assert errors == [None] * 3
    for seed, model in zip(seeds, stack, strict=True):
        alone = make("MSAC", seed, **arguments).learn(STARTS + 60)
        assert difference(model, alone) < 1e-6
        np.testing.assert_array_equal(model.replay_buffer.actions, alone.replay_buffer.actions)


@pytest.mark.parametrize("shape", [(2, 2), (3,)])
def test_actions_of_any_shape(shape, double):
    models = []
    for engine in ("sb3", FAST):
        env = IdentityEnvBox(eps=0.5)
        env.action_space = spaces.Box(-2.0, 1.0, shape, seed=0)
        env.observation_space = spaces.Box(-1.0, 1.0, shape, seed=0)
        env._get_reward = lambda action: float(-np.square(action).sum())
        model = double(MSAC("MlpPolicy", TimeLimit(env, 10), engine=engine, **common(seed=0)))
        models.append(model.learn(STARTS + 30))
    assert models[1].replay_buffer.actions[STARTS : STARTS + 30].std() > 0.1
    assert difference(*models) < 1e-10


def test_what_is_logged_is_of_the_last_update_where_a_schedule_has_moved_on(double):
    def rows(engine):
        logged = []

        class Notes(KVWriter):
            def write(self, key_values, key_excluded, step=0):
                logged.append({name: value for name, value in key_values.items() if name.startswith("train/")})

            def close(self):
                pass

        model = double(make("MDQN", engine=engine, temperature=lambda progress: 0.03 + progress, train_freq=16))
        model.set_logger(Logger(None, [Notes()]))
        model.learn(STARTS + 200, log_interval=1)
        return [row for row in logged if row]

    exact, fast = rows("sb3"), rows(FAST)
    assert len({row["train/temperature"] for row in exact}) > 3
    assert len(fast) == len(exact)
    for ours, theirs in zip(fast, exact, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_learning_goes_on_where_it_stopped(double):
    models = both("MSAC", STARTS + 20, double)
    for switch in (False, True):
        for model in models:
            np.random.seed(7)
            th.manual_seed(7)
            if switch:
                # The other engine takes over optimisers, buffers and all.
                model.engine = Engine("sb3") if model.engine == FAST else FAST
            model.env.seed(7)
            model._last_obs = model.env.reset()
            model.learn(20, reset_num_timesteps=False)
        assert difference(*models) < 1e-10


def test_the_same_seed_twice_gives_the_same_bits():
    first, second = (make("MSAC").learn(STARTS + 20) for _ in range(2))
    assert difference(first, second) == 0


def test_a_sweep_is_a_stack():
    options = common(train_freq=1)
    sweep = {
        "learning_rate": [1e-3, 3e-3, 1e-3],
        "munchausen_alpha": [0.0, 0.9, 0.5],
        "temperature": [0.03, lambda remaining: 0.1 + remaining, 1.0],
        "gamma": [0.9, 0.99, 0.5],
    }
    stack = train_seeds(
        MDQN, "MlpPolicy", "CartPole-v1", seeds=[1, 2, 3], total_timesteps=STARTS + 20, engine=FAST, **options, **sweep
    )
    for index, model in enumerate(stack):
        own = {name: values[index] for name, values in sweep.items()}
        alone = MDQN("MlpPolicy", "CartPole-v1", seed=index + 1, engine="sb3", **common(train_freq=1), **own).learn(
            STARTS + 20
        )
        assert difference(model, alone) < 1e-5
