"""While a stack learns, its members are ordinary SB3 models: saved, loaded, changed and stopped from callbacks."""

import os
import pickle
from copy import deepcopy
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.envs.classic_control import CartPoleEnv
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecNormalize

from sb3_entropic import MDQN, MSAC, EntropyPPO, SeedsFailedError, train_seeds
from sb3_entropic.train_seeds import train_together
from tests.engine.cases import FAST, STARTS, difference, in_double_precision, make

STEP = TrainFrequencyUnit.STEP


class At(BaseCallback):
    """Does something once, at a time step."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action, self.result = step, action, None

    def _on_step(self):
        if self.num_timesteps == self.step:
            self.result = self.action(self.model)
        return self.result is not False


@pytest.fixture
def double(monkeypatch):
    """Make a model of 64 bits."""
    return in_double_precision(monkeypatch)


def with_both_engines(name, steps, action, convert=lambda model: model, at=STARTS + 15, **arguments):
    """Models trained by either engine, with something done to them on the way."""
    models = []
    for engine in ("sb3", FAST):
        model = convert(make(name, engine=engine, **arguments))
        callback = At(at, action)
        model.learn(steps, callback)
        assert callback.result is not None
        models.append(model)
    return models


def members(name, n, steps, callback=lambda index, model: None, **arguments):
    models, errors = train_together([partial(make, name, seed, **arguments) for seed in range(n)], steps, callback)
    assert errors == [None] * n
    return models


@pytest.mark.parametrize("name", ["MSAC", "MDQN", "DIAYN", "VFE"])
def test_a_model_saved_in_the_middle_of_a_stack_is_a_model_of_its_own(name, tmp_path):
    observation = make(name).observation_space.sample()

    def save(index, model):
        model.save(tmp_path / f"{index}.zip")
        return model.predict(observation, deterministic=True)[0], [p.clone() for p in model.policy.parameters()]

    callbacks = {}

    def callback(index, model):
        callbacks[index] = At(STARTS + 15, partial(save, index))
        return callbacks[index]

    members(name, 6, STARTS + 20, callback)
    make(name).learn(STARTS + 15).save(tmp_path / "alone.zip")
    alone = os.path.getsize(tmp_path / "alone.zip")
    for index in (0, 5):
        assert os.path.getsize(tmp_path / f"{index}.zip") == pytest.approx(alone, rel=0.05)
        action, parameters = callbacks[index].result
        loaded = type(make(name)).load(tmp_path / f"{index}.zip", env=make(name).env)
        np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)
        assert all(map(th.equal, loaded.policy.parameters(), parameters))
        state = next(iter(loaded.updates()[-1].optimizer.state.values()))
        assert state["step"] == 15 - 1
    loaded.learn(STARTS + 10)
    assert any(not th.equal(p, q) for p, q in zip(loaded.policy.parameters(), parameters, strict=True))


def test_a_stack_leaves_models_that_share_nothing():
    first, second = members("MSAC", 2, STARTS + 10)
    before = [p.clone() for p in second.policy.parameters()]
    first.learn(STARTS + 20)
    assert all(map(th.equal, second.policy.parameters(), before))
    for model in (first, second):
        assert all(p.untyped_storage().nbytes() == p.nbytes for p in model.policy.parameters())
        moments = [m for u in model.updates() for s in u.optimizer.state.values() for m in s.values()]
        assert moments
        assert all(m.untyped_storage().nbytes() == m.nbytes for m in moments)


def test_parameters_loaded_by_a_callback_are_trained_on(double):
    other = double(make("MSAC", seed=9)).learn(STARTS + 5)

    def load(model):
        # A loaded optimiser trains on the very tensors it was given.
        model.set_parameters(deepcopy(other.get_parameters()))
        return True

    exact, fast = with_both_engines("MSAC", STARTS + 40, load, double)
    assert difference(fast, exact) < 1e-10


def test_a_changed_learning_rate_is_followed(double):
    def slow_down(model):
        model.lr_schedule = lambda _: 1e-5
        return True

    exact, fast = with_both_engines("MSAC", STARTS + 40, slow_down, double)
    assert difference(fast, exact) < 1e-10
    assert fast.actor.optimizer.param_groups[0]["lr"] == 1e-5


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        *(("MDQN", *change) for change in [("gamma", 0.5), ("munchausen_alpha", 0.3), ("munchausen_clip", -0.1)]),
        *(("MSAC", *change) for change in [("tau", 0.5), ("munchausen_bound", None), ("target_entropy", -3.0)]),
        ("SoftDQN", "munchausen_alpha", 0.5),
        *(("MDQN", *change) for change in [("max_grad_norm", 1e-3), ("target_update_interval", 1)]),
        *(("MSAC", *change) for change in [("batch_size", 8), ("gradient_steps", 2), ("train_freq", TrainFreq(3, STEP))]),
        ("MTQC", "top_quantiles_to_drop_per_net", 0),
    ],
)
def test_a_changed_argument_is_followed(name, attribute, value, double):
    exact, fast = with_both_engines(name, STARTS + 40, lambda m: setattr(m, attribute, value) or True, double)
    unchanged = double(make(name, engine="sb3")).learn(STARTS + 40)
    assert difference(fast, exact) < 1e-10
    assert difference(unchanged, exact) > 1e-6


def replay_of_another(model):
    other = make("MSAC", seed=9, engine="sb3").learn(STARTS)
    model.replay_buffer = other.replay_buffer


def temperature_of_another(model):
    model.ent_coef_tensor = th.tensor(5.0, dtype=model.ent_coef_tensor.dtype)


def optimiser_anew(model):
    optimizer = model.critic.optimizer
    model.critic.optimizer = th.optim.Adam(optimizer.param_groups[0]["params"], lr=1e-2)


def target_anew(model):
    model.policy.critic_target = model.critic_target = deepcopy(model.critic)


def layer_anew(model):
    model.critic.qf0[-1] = th.nn.Linear(8, 1).to(model.critic.qf0[-1].weight)
    model.critic.optimizer.param_groups[0]["params"] = list(model.critic.parameters())


def moments_anew(model):
    model.critic.optimizer.state.clear()


def one_moment_anew(model):
    model.critic.optimizer.state[model.critic.qf0[0].weight] = {}


def another_moment(model):
    state = model.critic.optimizer.state[model.critic.qf0[0].weight]
    state["exp_avg"] = th.ones_like(state["exp_avg"])


def decay(model):
    model.critic.optimizer.param_groups[0]["weight_decay"] = 10.0


def freeze(model):
    model.actor.latent_pi.requires_grad_(False)


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        *((replay_of_another, {"gradient_steps": steps}) for steps in (1, 2)),
        (temperature_of_another, {"ent_coef": 0.1}),
        *((change, {}) for change in (optimiser_anew, target_anew, layer_anew, decay, freeze)),
        *((change, {}) for change in (moments_anew, one_moment_anew, another_moment)),
        *((lambda model: model.actor.reset_noise(), {"use_sde": True, "n_envs": n, "train_freq": 10}) for n in (1, 2)),
    ],
)
def test_what_a_callback_puts_in_the_place_of_another_thing_is_followed(change, arguments, double):
    def changed(model):
        state, numbers = th.get_rng_state(), np.random.get_state()
        change(model)
        th.set_rng_state(state)
        np.random.set_state(numbers)
        return True

    exact, fast = with_both_engines("MSAC", STARTS + 40, changed, double, at=STARTS + 16, **arguments)
    unchanged = double(make("MSAC", engine="sb3", **arguments)).learn(STARTS + 40)
    assert difference(fast, exact) < 1e-10
    assert difference(unchanged, exact) > 1e-6
    assert fast.replay_buffer.pos == exact.replay_buffer.pos
    assert fast.critic.optimizer.param_groups[0]["lr"] == exact.critic.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("part", ["actor", "actor.mu", "critic.qf0"])
def test_what_is_thawed_learns(part, double):
    models = []
    for engine in ("sb3", FAST):
        model = double(make("MSAC", engine=engine))
        frozen = model.policy.get_submodule(part).requires_grad_(False)
        models.append(model.learn(STARTS + 40, At(STARTS + 15, lambda _, frozen=frozen: frozen.requires_grad_(True))))
    assert difference(*models) < 1e-10


def test_another_environment_is_entered(double):
    class Moves(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == STARTS + 15:
                self.model.set_env(self.model._wrap_env(other), force_reset=False)
                self.model._last_obs = self.model.env.reset()
            return True

    models = []
    for engine in ("sb3", FAST):
        other = make_vec_env("Pendulum-v1", seed=3)
        models.append(double(make("MSAC", engine=engine)).learn(STARTS + 40, Moves()))
        assert other.envs[0].unwrapped.last_u is not None
    assert difference(*models) < 1e-10


def test_a_replay_buffer_may_be_loaded_when_training_starts(tmp_path, double):
    class Loads(BaseCallback):
        def _on_training_start(self):
            self.model.load_replay_buffer(tmp_path / "replay")

        def _on_step(self):
            return True

    make("MSAC", seed=9, engine="sb3").learn(STARTS).save_replay_buffer(tmp_path / "replay")
    exact, fast = (double(make("MSAC", engine=engine, learning_starts=0)).learn(30, Loads()) for engine in ("sb3", FAST))
    assert exact.replay_buffer.pos == fast.replay_buffer.pos == STARTS + 30
    assert difference(fast, exact) < 1e-10


def each_at(changes, steps):
    """What makes a stack of as many members, each changed at a time step of its own."""
    return lambda index, model: At(steps[index], lambda m: changes[index](m) is not False)


def test_members_that_are_no_longer_like_the_others_leave_and_these_go_on():
    def sgd(model):
        model.critic.optimizer = th.optim.SGD(model.critic.parameters(), lr=1e-3)

    def another_bound(model):
        model.munchausen_bound = None

    changes = [sgd, freeze, freeze, freeze, another_bound]
    makers = [partial(make, "MSAC", seed) for seed in range(5)]
    models, errors = train_together(makers, STARTS + 30, each_at(changes, [STARTS + 10] * 5))
    assert [type(error) for error in errors] == [RuntimeError, type(None), type(None), type(None), RuntimeError]
    assert "the optimiser is SGD, not Adam" in str(errors[0])
    assert "the others of its stack are no longer like it" in str(errors[4])
    assert [model.num_timesteps for model in models] == [STARTS + 10, *[STARTS + 30] * 3, STARTS + 10]
    alone = make("MSAC", 2).learn(STARTS + 30, At(STARTS + 10, lambda m: freeze(m) is None))
    assert difference(models[2], alone) < 1e-6


def n_step_returns(model):
    model.replay_buffer = make("MSAC", n_steps=3, engine="sb3").replay_buffer


def larger_buffer(model):
    model.replay_buffer = make("MSAC", buffer_size=500, engine="sb3").replay_buffer


def more_steps(model):
    model.gradient_steps = 2


def rarer_targets(model):
    model.target_update_interval = 3


def noise_for_longer(model):
    model.sde_sample_freq = 3


def another_group(model):
    model.critic.optimizer.add_param_group({"params": [th.nn.Parameter(th.zeros(1))]})


def layer_where_one_was(model):
    # Python may put it where the one before was in memory.
    model.actor.mu = None
    model.actor.mu = th.nn.Linear(8, 1)
    model.actor.optimizer.param_groups[0]["params"] = list(model.actor.parameters())


CHANGES = [n_step_returns, larger_buffer, more_steps, rarer_targets, freeze, noise_for_longer]


@pytest.mark.parametrize("n", [1, 2])
def test_another_group_of_parameters_is_refused(n):
    makers = [partial(make, "MSAC", seed) for seed in range(n)]
    changes = each_at([another_group, lambda model: None][:n], [STARTS + 10] * n)
    if n == 1:
        with pytest.raises(RuntimeError, match="the policy's"):
            makers[0]().learn(STARTS + 20, changes(0, None))
        return
    _, errors = train_together(makers, STARTS + 20, changes)
    assert [type(error) for error in errors] == [RuntimeError, type(None)]


def test_what_is_put_where_another_was_in_memory_is_seen():
    for _ in range(3):
        model = make("MSAC")
        model.learn(STARTS + 3, At(STARTS + 1, lambda m: layer_where_one_was(m) is None))
        assert model.actor.mu.weight in model.actor.optimizer.state


@pytest.mark.parametrize(("changed", "change"), [*((place % 2, change) for place, change in enumerate(CHANGES)), (1, freeze)])
def test_of_two_the_one_that_was_changed_leaves(changed, change):
    changes = [lambda model: None] * 2
    changes[changed] = change
    makers = [partial(make, "MSAC", seed) for seed in range(2)]
    models, errors = train_together(makers, STARTS + 30, each_at(changes, [STARTS + 10] * 2))
    assert "the others of its stack are no longer like it" in str(errors[changed])
    assert errors[1 - changed] is None
    assert difference(models[1 - changed], make("MSAC", 1 - changed).learn(STARTS + 30)) < 1e-6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: setattr(model, "critic_target", deepcopy(model.critic)), "its critic_target is no part of its policy"),
        (
            lambda model: setattr(model.actor, "mu", deepcopy(model.actor.mu)),
            "an optimiser has parameters that are not the policy's",
        ),
        (
            lambda model: setattr(model, "train_freq", TrainFreq(1, TrainFrequencyUnit.EPISODE)),
            "train_freq counts episodes",
        ),
        (
            lambda model: model.set_env(VecNormalize(make_vec_env("Pendulum-v1")), force_reset=False),
            "observations or rewards are normalised as they change",
        ),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_what_is_not_run_any_more_is_refused_before_it_goes_wrong(change, reason, n):
    makers = [partial(make, "MSAC", seed, train_freq=5) for seed in range(n)]
    changes = each_at([lambda model: change(model) is None] * n, [STARTS + 12] * n)
    if n == 1:
        with pytest.raises(RuntimeError, match=reason):
            makers[0]().learn(STARTS + 30, changes(0, None))
        return
    models, errors = train_together(makers, STARTS + 30, changes)
    assert all(reason in str(error) for error in errors)
    assert all(STARTS + 12 <= model.num_timesteps <= STARTS + 15 for model in models)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("gradient_steps", 2), ("batch_size", 8), ("munchausen_bound", None), ("target_update_interval", 3)],
)
def test_what_is_left_of_a_stack_follows_changes_too(attribute, value):
    def change(model):
        setattr(model, attribute, value)

    changes, steps = [lambda model: False, change, change], [STARTS + 5, STARTS + 10, STARTS + 10]
    models = members("MSAC", 3, STARTS + 30, each_at(changes, steps))
    assert models[0].num_timesteps == STARTS + 5
    for seed in (1, 2):
        alone = make("MSAC", seed).learn(STARTS + 30, At(STARTS + 10, lambda m: change(m) is None))
        assert models[seed]._n_updates == alone._n_updates
        assert difference(models[seed], alone) < 1e-6


def test_a_model_may_be_copied_while_it_learns():
    copies = []

    def copy(model):
        copies.extend([deepcopy(model), cloudpickle.loads(cloudpickle.dumps(model))])
        return True

    model = make("MSAC")
    model.learn(STARTS + 20, At(STARTS + 10, copy))
    for copied in copies:
        assert difference(copied, model) > 1e-6
        copied.dump_logs()
        assert copied.learn(STARTS + 5, reset_num_timesteps=False).num_timesteps == 2 * STARTS + 15


@pytest.mark.parametrize("name", ["MSAC", "MDQN"])
def test_all_may_stop_in_the_middle_of_a_rollout(name):
    models = members(name, 2, STARTS + 60, lambda index, model: At(STARTS + 13, lambda m: False), train_freq=10)
    assert [model.num_timesteps for model in models] == [STARTS + 13] * 2


def test_an_array_may_be_an_argument():
    bound = np.array([-0.5, 0.5])
    models = [make("MSAC", munchausen_bound=given).learn(STARTS + 20) for given in (bound, (-0.5, 0.5))]
    assert difference(*models) < 1e-6


def test_a_change_that_the_fast_engine_does_not_run_is_said_where_it_happens():
    def branch(model):
        model.munchausen_bound = lambda bonus: bonus if bonus.sum() > 0 else -bonus
        return True

    model = make("MSAC")
    message = f'has changed MSAC at step {STARTS + 15} into what the fast engine does not run: .* engine="sb3" runs it'
    with pytest.raises(RuntimeError, match=message):
        model.learn(STARTS + 40, At(STARTS + 15, branch))
    assert model.num_timesteps == STARTS + 15
    assert difference(model, make("MSAC").learn(STARTS + 14)) < 1e-6


def test_a_callback_that_dumps_the_logs_finds_what_training_has_to_say():
    class Reads(BaseCallback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def _on_step(self):
            if self.num_timesteps % 10 == 0:
                self.model.logger.dump = lambda step: self.seen.append((step, set(self.model.logger.name_to_value)))
                self.model.dump_logs()
                self.model.logger.name_to_value.clear()
            return True

    seen = []
    for engine in ("sb3", FAST):
        reads = Reads()
        # A rollout of 20 steps: of two dumps one has something to say.
        make("MSAC", engine=engine, train_freq=20).learn(STARTS + 60, reads, log_interval=None)
        seen.append(reads.seen)
    assert seen[0] == seen[1]
    assert sum("train/critic_loss" in names for _, names in seen[1]) == 2


def test_what_training_has_to_say_is_not_lost_when_something_is_replaced():
    logged = {}

    def replace(model):
        model.policy.optimizer.load_state_dict(model.policy.optimizer.state_dict())

    def look(model):
        model.logger.dump = lambda step: logged.update({model.engine_used: {**model.logger.name_to_value}})
        model.dump_logs()

    for engine in ("sb3", FAST):
        callbacks = CallbackList([At(STARTS + 9, replace), At(STARTS + 11, look)])
        make("MDQN", engine=engine, train_freq=4).learn(STARTS + 13, callbacks)
    theirs, ours = ({name for name in values if name.startswith("train/")} for values in logged.values())
    assert theirs == ours and "train/loss" in ours


def test_a_learning_rate_that_a_callback_sets_is_sb3s_again_at_the_next_step():
    def set_rate(model):
        model.policy.optimizer.param_groups[0]["lr"] = 123.0

    found = []
    for engine in ("sb3", FAST):
        model = make("MDQN", engine=engine, learning_rate=1e-3)
        model.learn(STARTS + 9, At(STARTS + 5, set_rate), log_interval=None)
        found.append((model.logger.name_to_value["train/learning_rate"], model.policy.optimizer.param_groups[0]["lr"]))
    assert found == [(1e-3, 1e-3)] * 2


@pytest.mark.parametrize("name", ["learning_starts", "action_noise"])
def test_what_is_replaced_within_a_rollout_counts_from_the_next_on(name):
    def replace(model):
        setattr(model, name, 0 if name == "learning_starts" else NormalActionNoise(np.zeros(1), np.ones(1)))

    actions = []
    for engine in ("sb3", FAST):
        model = make("MSAC", engine=engine, train_freq=8, learning_starts=STARTS).learn(STARTS, At(STARTS - 6, replace))
        actions.append(model.replay_buffer.actions[:STARTS].copy())
    assert (actions[0] == actions[1]).all()


def test_a_change_of_precision_is_followed(monkeypatch):
    # SB3's loop ends here with an error: Adam's moments do not follow the parameters.
    changed = make("MDQN")
    changed.learn(STARTS + 40, At(STARTS + 15, lambda model: in_double_precision(monkeypatch)(model) is model))
    monkeypatch.undo()
    assert next(changed.policy.parameters()).dtype == th.float64
    assert difference(changed, make("MDQN").learn(STARTS + 40)) < 1e-4


def test_a_callback_may_train_another_model():
    def train_another(model):
        state, numbers = th.get_rng_state(), np.random.get_state()
        make("MDQN", seed=4).learn(STARTS + 10)
        th.set_rng_state(state)
        np.random.set_state(numbers)
        return True

    disturbed = make("MSAC")
    disturbed.learn(STARTS + 30, At(STARTS + 15, train_another))
    assert difference(disturbed, make("MSAC").learn(STARTS + 30)) == 0


def test_the_number_of_threads_may_change():
    before = th.get_num_threads()
    model = make("MSAC")
    try:
        model.learn(STARTS + 20, At(STARTS + 10, lambda m: th.set_num_threads(3 - min(before, 2)) is None))
    finally:
        th.set_num_threads(before)
    assert difference(model, make("MSAC").learn(STARTS + 20)) < 1e-5


def test_every_seed_has_its_callbacks_and_its_logs(tmp_path):
    def callbacks(seed):
        folder = tmp_path / str(seed)
        return [
            CheckpointCallback(50, folder, name_prefix="at"),
            EvalCallback(make_vec_env("CartPole-v1"), n_eval_episodes=1, eval_freq=30, log_path=folder, verbose=0),
        ]

    options = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": STARTS, "train_freq": 1, "device": "cpu"}
    models = train_seeds(
        MDQN, "MlpPolicy", "CartPole-v1", seeds=[4, 6], total_timesteps=100, callback=callbacks, engine=FAST, **options,
        tensorboard_log=str(tmp_path / "logs"),
    )  # fmt: skip
    assert [model.seed for model in models] == [4, 6]
    assert [model.num_timesteps for model in models] == [100, 100]
    for seed in (4, 6):
        assert (tmp_path / str(seed) / "at_50_steps.zip").exists()
        assert np.load(tmp_path / str(seed) / "evaluations.npz")["timesteps"].tolist() == [30, 60, 90]
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["MDQN_seed4_1", "MDQN_seed6_1"]


def test_a_stopped_seed_leaves_and_the_others_go_on():
    stopping = members("MSAC", 3, STARTS + 30, lambda index, model: At(STARTS + 10, lambda m: index != 1))
    whole = members("MSAC", 3, STARTS + 30)
    assert [model.num_timesteps for model in stopping] == [STARTS + 30, STARTS + 10, STARTS + 30]
    assert [model._n_updates for model in stopping] == [30, 9, 30]
    for index in (0, 2):
        assert difference(stopping[index], whole[index]) < 1e-6
    assert difference(stopping[1], make("MSAC", 1).learn(STARTS + 9)) < 1e-6


def test_a_seed_that_raises_leaves_and_the_others_go_on():
    def callback(seed):
        def fail(model):
            if seed == 2:
                raise ArithmeticError("no")

        return At(STARTS + 10, lambda model: fail(model) or True)

    options = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": STARTS, "device": "cpu", "engine": FAST}
    with pytest.raises(SeedsFailedError, match=r"1 of 3 seeds failed \(2\); seed 2 with ArithmeticError\('no'\)") as raised:
        train_seeds(
            MSAC, "MlpPolicy", "Pendulum-v1", seeds=[1, 2, 3], total_timesteps=STARTS + 20, callback=callback, **options
        )
    assert [model.num_timesteps for model in raised.value.models] == [STARTS + 20, STARTS + 10, STARTS + 20]
    assert isinstance(raised.value.errors[2], ArithmeticError)


class NeverBegins(CartPoleEnv):
    """An environment whose first reset raises, for one of several."""

    made = 0

    def __init__(self):
        super().__init__()
        NeverBegins.made += 1
        self.number = NeverBegins.made

    def reset(self, **options):
        if self.number == 1:
            raise OSError("no simulator answers")
        return super().reset(**options)


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [(MDQN, {"learning_starts": STARTS}), (EntropyPPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 2})],
    ids=["off-policy", "on-policy"],
)
def test_a_seed_whose_first_reset_raises_leaves_the_others_alone(algorithm, arguments):
    def train(env, seeds):
        options = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu", "engine": FAST, **arguments}
        return train_seeds(algorithm, "MlpPolicy", env, seeds=seeds, total_timesteps=STARTS + 60, **options)

    NeverBegins.made = 0
    with pytest.raises(SeedsFailedError, match="no simulator answers") as failed:
        train(NeverBegins, [1, 2, 3])
    assert list(failed.value.errors) == [1]
    assert failed.value.models[0].num_timesteps == 0
    for model, alone in zip(failed.value.models[1:], train(CartPoleEnv, [2, 3]), strict=True):
        assert difference(model, alone) < 1e-6


def test_a_seed_that_diverges_leaves():
    def spoil(model):
        with th.no_grad():
            next(model.critic.parameters()).fill_(float("nan"))
        return True

    makers = [partial(make, "MSAC", seed) for seed in range(2)]
    spoiling = [None, At(STARTS + 10, spoil)]
    models, errors = train_together(makers, 450, lambda index, model: spoiling[index], log_interval=1)
    assert errors[0] is None
    # Torch's distributions refuse what is no number in SB3's own loop.
    assert isinstance(errors[1], ValueError)
    assert [model.num_timesteps for model in models] == [450, STARTS + 10]


@pytest.mark.parametrize("engine", ["sb3", FAST])
@pytest.mark.parametrize("algorithm", [MSAC, EntropyPPO])
def test_a_policy_that_gives_no_numbers_ends_the_run_as_in_sb3(algorithm, engine):
    class NoReward(gym.RewardWrapper):
        def reward(self, reward):
            return float("nan")

    small = {"n_steps": 16, "batch_size": 16} if algorithm is EntropyPPO else {"learning_starts": 10}
    model = algorithm("MlpPolicy", NoReward(gym.make("Pendulum-v1")), engine=engine, device="cpu", **small)
    with pytest.raises(ValueError, match=r"Expected parameter|gives no numbers any more at step"):
        model.learn(60)
    assert model.num_timesteps == (16 if algorithm is EntropyPPO else 11)


def test_a_schedule_that_raises_is_that_seeds_alone():
    def raises(progress):
        if progress < 0.5:
            raise ArithmeticError("no")
        return 1e-3

    makers = [partial(make, "MSAC", seed, **({"learning_rate": raises} if seed == 1 else {})) for seed in range(3)]
    models, errors = train_together(makers, STARTS + 60, lambda index, model: None, log_interval=None)
    assert [type(error) for error in errors] == [type(None), ArithmeticError, type(None)]
    assert [model.num_timesteps for model in models] == [100, 51, 100]


def test_what_seeds_have_failed_with_comes_back_from_another_process():
    error = pickle.loads(pickle.dumps(SeedsFailedError([None, None], {7: ArithmeticError("no")})))
    assert str(error) == "1 of 2 seeds failed (7); seed 7 with ArithmeticError('no')."
    assert (error.models, list(error.errors)) == ([None, None], [7])


def test_a_divergence_found_at_the_end_is_that_seeds_alone():
    options = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": STARTS, "train_freq": 1, "device": "cpu", "engine": FAST}
    rates = [1e-3, 1e30, 1e-3]
    with pytest.raises(SeedsFailedError) as raised:
        train_seeds(
            *(MDQN, "MlpPolicy", "CartPole-v1"), seeds=[1, 2, 3], total_timesteps=STARTS + 40, log_interval=None,
            learning_rate=rates, **options,
        )  # fmt: skip
    assert list(raised.value.errors) == [2]
    assert isinstance(raised.value.errors[2], FloatingPointError)


def test_an_interruption_leaves_models_as_they_were_then():
    def interrupt(model):
        raise KeyboardInterrupt

    model = make("MSAC")
    with pytest.raises(KeyboardInterrupt):
        model.learn(STARTS + 20, At(STARTS + 10, interrupt))
    assert difference(model, make("MSAC").learn(STARTS + 9)) < 1e-6
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in model.policy.parameters())
    model.learn(STARTS + 10)


def test_an_interruption_before_training_leaves_models_that_share_nothing():
    def interrupt(index, model):
        models.append(model)
        if index == 1:

            class Interrupts(BaseCallback):
                def _on_training_start(self):
                    raise KeyboardInterrupt

                def _on_step(self):
                    return True

            return Interrupts()
        return None

    models = []
    with pytest.raises(KeyboardInterrupt):
        members("MSAC", 2, STARTS + 5, interrupt)
    assert all(p.untyped_storage().nbytes() == p.nbytes for model in models for p in model.policy.parameters())


def test_numpys_global_generator_is_given_back():
    before = np.random.get_bit_generator()
    members("MDQN", 2, STARTS + 5)
    assert np.random.get_bit_generator() is before

    class Interrupts(BaseCallback):
        def _on_training_start(self):
            raise KeyboardInterrupt

        def _on_step(self):
            return True

    with pytest.raises(KeyboardInterrupt):
        members("MDQN", 2, STARTS + 5, lambda index, model: Interrupts())
    assert np.random.get_bit_generator() is before
