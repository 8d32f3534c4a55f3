"""Which engine runs what, and what is said of it."""

import os
import re
import signal
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.nn.utils import prune

from sb3_entropic import MDQN, MSAC, Engine, EntropyPPO, MoDQN, train_seeds
from sb3_entropic.engine import choice, compiler, gemm
from sb3_entropic.engine.support import why_not_together, why_not_unasked
from sb3_entropic.train_seeds import train_together
from tests.engine.cases import FAST, STARTS, difference, in_double_precision, make
from tests.extractors import BatchNormExtractor, DropoutExtractor

LARGE, SMALL = th.nn.Linear(256, 256), th.nn.Linear(64, 64)


class OwnTrain(MSAC):
    def train(self, gradient_steps, batch_size=64):
        super().train(gradient_steps, batch_size)


class OwnBuffer(ReplayBuffer):
    """One that may do anything."""


class OwnTargets(MSAC):
    def after_gradient_step(self, gradient_step):
        """Nothing."""


class Branches(MSAC):
    def actor_loss(self, networks, batch, noise):
        loss, metrics = super().actor_loss(networks, batch, noise)
        return (loss if loss.item() > 0 else 2 * loss), metrics


class BranchesActing(MDQN):
    def acting_values(self, networks, observations):
        values = super().acting_values(networks, observations)
        return values if values.sum() > 0 else -values


class OwnRates(MSAC):
    def _update_learning_rate(self, optimizers):
        super()._update_learning_rate(optimizers)


class OwnLoss(MSAC):
    """With an argument that is not kept under its name."""

    def __init__(self, *args, scale=2.0, **kwargs):
        self._scale = scale
        super().__init__(*args, **kwargs)

    def regularised_rewards(self, networks, batch):
        rewards, metrics = super().regularised_rewards(networks, batch)
        return self._scale * rewards, metrics


def changed(change, **arguments):
    model = make("MSAC", **arguments)
    change(model)
    return model


class WholeNumbers(gym.Env):
    observation_space = spaces.Box(0, 100, (2,), np.int64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def on_policy(change=lambda model: None, env="CartPole-v1"):
    model = EntropyPPO("MlpPolicy", env, engine=FAST, n_steps=16, batch_size=16, device="cpu")
    change(model)
    return model


REFUSED = {
    "its train was replaced": lambda: changed(lambda model: setattr(model, "train", model.train)),
    "a method of the replay buffer was replaced": lambda: changed(
        lambda model: setattr(model.replay_buffer, "add", model.replay_buffer.add)
    ),
    "a method of the policy's SACPolicy was replaced": lambda: changed(
        lambda model: setattr(model.policy, "predict", model.policy.predict)
    ),
    "a method of the policy's Actor was replaced": lambda: changed(
        lambda model: setattr(model.actor, "forward", model.actor.forward)
    ),
    "a method of the rollout buffer was replaced": lambda: on_policy(
        lambda model: setattr(model.rollout_buffer, "get", model.rollout_buffer.get)
    ),
    "whole numbers are normalised": lambda: on_policy(env=VecNormalize(DummyVecEnv([WholeNumbers]))),
    "OwnRates has its own _update_learning_rate": lambda: OwnRates("MlpPolicy", "Pendulum-v1", engine="fast", device="cpu"),
    "the losses of BranchesActing cannot be recorded .they branch on a tensor's value": lambda: BranchesActing(
        "MlpPolicy", "CartPole-v1", engine="fast", device="cpu"
    ),
    "OwnTargets has its own after_gradient_step": lambda: OwnTargets("MlpPolicy", "Pendulum-v1", engine="fast", device="cpu"),
    "the losses of Branches cannot be recorded .they take a number out of a tensor": lambda: Branches(
        "MlpPolicy", "Pendulum-v1", engine="fast", device="cpu"
    ),
    "OwnTrain has its own train": lambda: OwnTrain("MlpPolicy", "Pendulum-v1", engine="fast", device="cpu"),
    "the policy holds a BatchNorm": lambda: make("MSAC", policy_kwargs={"features_extractor_class": BatchNormExtractor}),
    "the policy holds a Dropout": lambda: make("MSAC", policy_kwargs={"features_extractor_class": DropoutExtractor}),
    "the replay buffer is not SB3's plain one": lambda: make("MSAC", replay_buffer_class=OwnBuffer),
    "train_freq counts episodes": lambda: make("MSAC", train_freq=(1, "episode")),
    "the optimiser is SGD, not Adam": lambda: make("MSAC", policy_kwargs={"net_arch": [8], "optimizer_class": th.optim.SGD}),
    "Adam has amsgrad set": lambda: make("MSAC", policy_kwargs={"net_arch": [8], "optimizer_kwargs": {"amsgrad": True}}),
    "normalised as they change": lambda: MSAC(
        "MlpPolicy", VecNormalize(make_vec_env("Pendulum-v1")), engine=FAST, device="cpu"
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_fast_engine_does_not_run_is_said(reason):
    with pytest.raises(ValueError, match=f'engine="fast" cannot run this: .*{reason}'):
        REFUSED[reason]().learn(10)


@pytest.mark.parametrize(
    "register",
    [
        lambda model: model.actor.mu.weight.register_hook(lambda gradient: None),
        lambda model: model.actor.mu.weight.register_post_accumulate_grad_hook(lambda parameter: None),
        lambda model: model.log_ent_coef.register_hook(lambda gradient: None),
        lambda model: model.critic.register_forward_hook(lambda *arguments: None),
        lambda model: model.critic.register_forward_pre_hook(lambda *arguments: None),
        lambda model: model.critic.register_full_backward_hook(lambda *arguments: None),
        lambda model: model.actor.optimizer.register_step_pre_hook(lambda *arguments: None),
        lambda model: model.actor.optimizer.register_step_post_hook(lambda *arguments: None),
    ],
)
def test_models_with_hooks_are_left_to_sb3s_loop(register):
    with pytest.raises(ValueError, match="hooks are to be called at every step"):
        changed(register).learn(10)

    class Registers(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == STARTS + 5:
                register(self.model)
            return True

    with pytest.raises(RuntimeError, match=r"A callback has changed MSAC .*: hooks are to be called at every step"):
        make("MSAC").learn(STARTS + 10, Registers())


def test_a_method_that_a_callback_replaces_is_not_ignored():
    class Replaces(BaseCallback):
        def _on_training_start(self):
            self.model.train = self.model.train

        def _on_step(self):
            return True

    with pytest.raises(RuntimeError, match="its train was replaced"):
        make("MSAC").learn(STARTS + 10, Replaces())


def test_hooks_of_all_modules_are_hooks():
    handle = th.nn.modules.module.register_module_forward_hook(lambda *arguments: None)
    try:
        with pytest.raises(ValueError, match="hooks are to be called at every step"):
            make("MSAC").learn(10)
    finally:
        handle.remove()


def test_weights_that_are_pruned_are_left_to_sb3s_loop():
    """Their masks differ between seeds, and change with every call."""
    model = changed(lambda model: prune.l1_unstructured(model.actor.mu, "weight", amount=0.5))
    with pytest.raises(ValueError, match="hooks are to be called at every step"):
        model.learn(10)


def test_a_step_of_an_optimiser_that_was_replaced_is_called():
    calls = []

    def replace(model):
        step = model.actor.optimizer.step
        model.actor.optimizer.step = lambda *arguments, **others: calls.append(1) or step(*arguments, **others)

    class Replaces(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == STARTS + 3:
                replace(self.model)
            return True

    with pytest.raises(ValueError, match="an optimiser's step was replaced"):
        changed(replace).learn(10)
    with pytest.raises(RuntimeError, match="an optimiser's step was replaced"):
        make("MSAC").learn(STARTS + 10, Replaces())
    assert not calls


def test_auto_leaves_a_loss_that_was_replaced_to_sb3s_loop(monkeypatch):
    def halved(self, networks, batch, noise):
        loss, metrics = loss_of_class(self, networks, batch, noise)
        return 0.5 * loss, metrics

    loss_of_class = type(make("MSAC")).actor_loss
    of_one, of_class = make("MSAC", engine="auto"), make("MSAC", engine="auto")
    of_one.actor_loss = partial(halved, of_one)
    assert "its actor_loss was replaced" in why_not_unasked(of_one)
    assert why_not_unasked(of_class) is None
    monkeypatch.setattr(type(of_class), "actor_loss", halved)
    assert "MSAC's actor_loss was replaced" in why_not_unasked(of_class)


def test_models_whose_networks_hold_other_constants_do_not_share_a_stack():
    models = [make("MSAC", seed=seed) for seed in range(2)]
    assert why_not_together(models) is None
    for seed, model in enumerate(models):
        model.actor.mu.register_buffer("mask", th.full((2,), float(seed)))
    assert "besides parameters" in why_not_together(models)


def test_auto_leaves_what_the_fast_engine_does_not_run_to_sb3s_loop(capsys):
    model = make("MSAC", engine="auto", verbose=1, train_freq=(1, "episode"))
    model.learn(STARTS + 5)
    assert "SB3's own loop: train_freq counts episodes" in capsys.readouterr().out


def test_losses_that_cannot_be_recorded_are_left_to_sb3s_loop(capsys, monkeypatch):
    monkeypatch.setattr(choice, "LONG_RUN", 10)
    bound = {"munchausen_bound": lambda bonus: bonus if bonus.sum() > 0 else -bonus}
    with pytest.warns(UserWarning, match="the losses of MSAC cannot be recorded .*, so SB3's own loop is used"):
        left = make("MSAC", engine="auto", verbose=1, **bound).learn(STARTS + 15)
    assert "SB3's own loop: the losses of MSAC cannot be recorded" in capsys.readouterr().out
    assert difference(left, make("MSAC", engine="sb3", **bound).learn(STARTS + 15)) == 0


def test_auto_leaves_losses_of_a_users_to_sb3s_loop(capsys, monkeypatch):
    monkeypatch.setattr(choice, "LONG_RUN", 10)
    options = {"learning_starts": STARTS, "device": "cpu", "verbose": 1, "seed": 0}
    models = [
        OwnLoss("MlpPolicy", "Pendulum-v1", engine=engine, policy_kwargs={"net_arch": [8]}, **options).learn(STARTS + 15)
        for engine in ("auto", "sb3", FAST)
    ]
    assert 'SB3\'s own loop: OwnLoss has its own regularised_rewards, of which engine="fast"' in capsys.readouterr().out
    assert [model.engine_used for model in models] == ["sb3", "sb3", "fast, not compiled"]
    assert difference(*models[:2]) == 0
    assert difference(*models[1:]) < 1e-5


class Watches(BaseCallback):
    """Registers a hook when it is told of its model, as those do that log gradients."""

    def __init__(self):
        super().__init__()
        self.told, self.seen = 0, 0

    def _init_callback(self):
        next(self.model.policy.parameters()).register_hook(self.see)

    def see(self, gradient):
        self.seen += 1

    def _on_training_start(self):
        self.told += 1

    def _on_step(self):
        return True


@pytest.mark.parametrize("algorithm", [partial(make, "MSAC"), partial(EntropyPPO, "MlpPolicy", "CartPole-v1", n_steps=16)])
def test_auto_leaves_what_a_callback_makes_of_a_model_to_sb3s_loop(algorithm, monkeypatch):
    monkeypatch.setattr(choice, "LONG_RUN", 1)
    arguments, models, watches = {"seed": 0, "batch_size": 16, "device": "cpu"}, {}, {}
    for engine in ("auto", "sb3"):
        watches[engine] = Watches()
        models[engine] = algorithm(engine=engine, **arguments).learn(STARTS + 20, watches[engine])
        models[engine].learn(30, reset_num_timesteps=False)
    assert models["auto"].engine_used == "sb3"
    assert watches["auto"].told == watches["sb3"].told == 1
    assert watches["auto"].seen == watches["sb3"].seen > 0
    assert difference(models["auto"], models["sb3"]) == 0
    assert "_setup_learn" not in vars(models["auto"])


def test_so_it_does_with_all_seeds_of_a_stack():
    arguments = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 20, "device": "cpu"}
    watches = {engine: {seed: Watches() for seed in (0, 1)} for engine in ("auto", "sb3")}
    models = [
        train_seeds(
            MSAC,
            "MlpPolicy",
            "Pendulum-v1",
            seeds=[0, 1],
            total_timesteps=60,
            engine=engine,
            callback=lambda seed, engine=engine: watches[engine][seed] if seed else None,
            **arguments,
        )
        for engine in ("auto", "sb3")
    ]
    assert [model.engine_used for model in models[0]] == ["sb3", "sb3"]
    assert watches["auto"][1].seen == watches["sb3"][1].seen > 0
    assert [difference(*pair) for pair in zip(*models, strict=True)] == [0, 0]


def test_auto_leaves_short_runs_to_sb3s_loop_bit_for_bit(capsys):
    automatic = make("MSAC", engine="auto", verbose=1).learn(STARTS + 20)
    assert "20 gradient steps would not repay the fast engine" in capsys.readouterr().out
    assert difference(automatic, make("MSAC", engine="sb3").learn(STARTS + 20)) == 0


def test_auto_takes_the_fast_engine_for_long_runs(capsys, monkeypatch):
    monkeypatch.setattr(choice, "LONG_RUN", 20)
    make("MSAC", engine="auto", verbose=1).learn(STARTS + 20)
    assert "Fast engine, not compiled: 20 gradient steps would not repay it" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "message"), [("fats", "did you mean 'fast'"), ("numpy", "engine='numpy' is none of")])
def test_a_wrong_engine_is_answered(given, message):
    with pytest.raises(ValueError, match=message):
        MSAC("MlpPolicy", "Pendulum-v1", engine=given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"compile": "yes"}, "is neither True nor False"), ({"matrix_library": "bf61"}, "did you mean 'bf16'")],
)
def test_wrong_options_are_answered(arguments, message):
    with pytest.raises(ValueError, match=message):
        Engine(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [1, 1]}, "are not one or several different"),
        ({"seeds": []}, "are not one or several different"),
        ({"seeds": [0.0, 1.0]}, r"seeds=\[0.0, 1.0\] are not one or several different whole numbers"),
        ({"seeds": 3}, r"seeds=3 are not several whole numbers: write range\(3\)"),
        ({"algorithm": "MSAC"}, "'MSAC' is not a class of this package, such as sb3_entropic.MSAC"),
        ({"algorithm": SAC}, "SAC is not a class of this package"),
        ({"callback": []}, "callback is one object"),
        ({"env": make_vec_env("Pendulum-v1")}, "every seed needs its own"),
        ({"gamma": [0.9]}, "gamma has 1 values for 2 seeds"),
        ({"batch_size": [16, 32]}, "batch_size cannot differ between seeds: those that can are .*learning_rate"),
        ({"train_freq": (1, "episode")}, 'engine="fast" cannot run this'),
        ({"gama": 0.9}, "MSAC has no argument 'gama': did you mean 'gamma'"),
    ],
)
def test_wrong_arguments_of_train_seeds_are_answered(arguments, message):
    arguments = {"seeds": [1, 2], "env": "Pendulum-v1", "total_timesteps": 10, "engine": FAST, "device": "cpu"} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        train_seeds(**{"algorithm": MSAC, "policy": "MlpPolicy"} | arguments)


def test_seeds_that_the_fast_engine_does_not_run_are_those_of_sb3s_loop():
    options = {"learning_starts": STARTS, "policy_kwargs": {"net_arch": [8]}, "train_freq": (1, "episode"), "device": "cpu"}
    models = train_seeds(MSAC, "MlpPolicy", "Pendulum-v1", seeds=[1, 2], total_timesteps=STARTS + 10, **options)
    for seed, model in zip([1, 2], models, strict=True):
        alone = MSAC("MlpPolicy", "Pendulum-v1", seed=seed, **options).learn(STARTS + 10)
        assert difference(model, alone) == 0


@pytest.mark.parametrize(("second", "alike"), [(-1.0, True), (-0.5, False)])
def test_bounds_made_by_functools_are_alike_if_they_say_the_same(second, alike):
    bounds = [partial(th.clamp, min=lowest, max=1.0) for lowest in (-1.0, second)]
    makers = [partial(make, "MSAC", seed, munchausen_bound=bound) for seed, bound in enumerate(bounds)]
    if alike:
        models, errors = train_together(makers, STARTS + 5, lambda *_: None)
        assert (errors, models[1].engine_used) == ([None, None], "fast, not compiled")
    else:
        with pytest.raises(ValueError, match="the models differ in munchausen_bound"):
            train_together(makers, STARTS + 5, lambda *_: None)


def test_an_environment_may_be_made_by_a_function():
    import gymnasium as gym

    made = []

    def environment():
        made.append(TransformObservation(gym.make("CartPole-v1"), np.abs, None))
        return made[-1]

    options = {"learning_starts": STARTS, "policy_kwargs": {"net_arch": [8]}, "device": "cpu", "engine": FAST}
    models = train_seeds(MoDQN, "MlpPolicy", environment, seeds=[1, 2], total_timesteps=STARTS + 10, **options)
    assert len(made) == 2
    assert all((model.replay_buffer.observations >= 0).all() for model in models)


class TestCompiler:
    @pytest.mark.parametrize(("platform", "name"), [("linux", "g++"), ("darwin", "clang++"), ("win32", "cl")])
    def test_the_compiler_is_the_one_that_torch_calls(self, platform, name, monkeypatch):
        asked = []
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(compiler.sys, "platform", platform)
        monkeypatch.setattr(compiler.shutil, "which", asked.append)
        assert not compiler.has_compiler()
        assert asked == [name]

    def test_short_runs_and_machines_without_a_compiler_go_without(self, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert compiler.decide("auto", 10**6) == (False, "not compiled: no C++ compiler was found")
        monkeypatch.setenv("CXX", "true")
        assert compiler.decide("auto", 10**6)[0]
        assert not compiler.decide("auto", 100)[0]
        assert compiler.decide(True, 100)[0]
        assert not compiler.decide(False, 10**6)[0]

    def test_ctrl_c_is_heard_once_the_compiler_is_done(self, monkeypatch):
        done = []

        def compile_like_torch(graph, examples):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                return lambda *_: None
            done.append(True)
            return lambda *_: None

        monkeypatch.setattr("torch._inductor.compile", compile_like_torch)
        with pytest.raises(KeyboardInterrupt):
            compiler.compile_graph(th.fx.symbolic_trace(th.nn.Identity()), [])
        assert done

    def test_a_failed_compilation_is_warned_of_and_the_run_goes_on(self, monkeypatch):
        def fail(*_):
            raise OSError("no space left")

        monkeypatch.setattr("torch._inductor.compile", fail)
        with pytest.warns(UserWarning, match=r"compiling failed, so the run goes on without \(OSError: no space left\)"):
            model = make("MSAC", engine=Engine("fast", compile=True)).learn(STARTS + 5)
        assert model.engine_used == "fast, not compiled"
        assert difference(model, make("MSAC").learn(STARTS + 5)) == 0

    @pytest.mark.skipif(not compiler.has_compiler(), reason="needs a C++ compiler")
    @pytest.mark.parametrize("name", ["MDQN", "MSAC"])
    def test_what_is_compiled_is_the_same_maths(self, name, monkeypatch):
        double = in_double_precision(monkeypatch)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="compiling failed")
            compiled = double(make(name, engine=Engine("fast", compile=True))).learn(STARTS + 100)
        assert compiled.engine_used == "fast, compiled"
        assert difference(compiled, double(make(name, engine="sb3")).learn(STARTS + 100)) < 1e-10


def test_a_torch_without_the_switch_of_matrix_products_trains_all_the_same(monkeypatch):
    class Backend:
        is_available = staticmethod(lambda: True)

    monkeypatch.setattr(gemm, "_gains", lambda: True)
    monkeypatch.setattr(th.backends, "mkldnn", Backend)
    with gemm.fast_matrix_products(LARGE) as said:
        assert said == "torch's own matrix library, this build of torch has no other"
    with pytest.raises(ValueError, match="needs a newer torch"):
        gemm.check_matrix_library("bf16")


@pytest.mark.skipif(not gemm._has_switch(), reason="this torch has no switch of matrix products (2.9 has)")
class TestMatrixLibrary:
    @pytest.fixture(autouse=True)
    def gaining(self, monkeypatch):
        monkeypatch.setattr(gemm, "_gains", lambda: True)

    @staticmethod
    def precision():
        return th.backends.mkldnn.matmul.fp32_precision

    def test_the_switch_is_on_within_the_block_alone(self, monkeypatch):
        monkeypatch.setattr(gemm, "_rounding_of_the_switch", lambda: 1e-7)
        before = self.precision()
        with pytest.raises(KeyError), gemm.fast_matrix_products(LARGE) as said:
            assert self.precision() == "bf16"
            assert said == "oneDNN's matrix products"
            with gemm.fast_matrix_products(LARGE) as inner:
                assert inner == said
            assert self.precision() == "bf16"
            raise KeyError
        assert self.precision() == before

    def test_the_last_of_several_to_end_turns_it_off(self, monkeypatch):
        """Threads share the switch, and need not end in the order in which they began."""
        monkeypatch.setattr(gemm, "_rounding_of_the_switch", lambda: 2e-3)
        before, blocks = self.precision(), [gemm.fast_matrix_products(LARGE, wanted) for wanted in ("bf16", "torch")]
        assert [block.__enter__() for block in blocks] == ["oneDNN's products of 16-bit inputs"] * 2
        blocks[0].__exit__(None, None, None)
        assert self.precision() == "bf16"
        blocks[1].__exit__(None, None, None)
        assert self.precision() == before

    def test_what_the_user_has_set_is_left_and_told(self, monkeypatch):
        before = self.precision()
        th.backends.mkldnn.matmul.fp32_precision = "bf16"
        try:
            with gemm.fast_matrix_products(LARGE) as said:
                assert (said, self.precision()) == ("the precision of matrix products is set already", "bf16")
        finally:
            th.backends.mkldnn.matmul.fp32_precision = before

    @pytest.mark.parametrize("reason", ["16 bits", "not wanted", "no gain", "small"])
    def test_the_switch_stays_off(self, reason, monkeypatch):
        monkeypatch.setattr(gemm, "_rounding_of_the_switch", lambda: 2e-3 if reason == "16 bits" else 1e-7)
        monkeypatch.setattr(gemm, "_gains", lambda: reason != "no gain")
        before = self.precision()
        wanted = "torch" if reason == "not wanted" else "auto"
        with gemm.fast_matrix_products(SMALL if reason == "small" else LARGE, wanted) as said:
            assert self.precision() == before
        assert said.startswith("torch's own matrix library")

    def test_sixteen_bits_are_taken_where_they_are_asked_for(self, monkeypatch):
        monkeypatch.setattr(gemm, "_rounding_of_the_switch", lambda: 2e-3)
        monkeypatch.setattr(gemm, "_gains", lambda: False)
        before = self.precision()
        with gemm.fast_matrix_products(LARGE, "bf16") as said:
            assert self.precision() == "bf16"
            assert said == "oneDNN's products of 16-bit inputs"
        with gemm.fast_matrix_products(SMALL, "bf16") as said:
            assert self.precision() == before
            assert said == "torch's own matrix library, the layers are small"

    def test_sixteen_bits_are_refused_where_the_processor_has_none(self, monkeypatch):
        monkeypatch.setattr(gemm, "_multiplies_16_bits", lambda: False)
        model = make("MSAC", engine=Engine("fast", compile=False, matrix_library="bf16"))
        with pytest.raises(ValueError, match="here, on cpu, the choices are auto and torch"):
            model.learn(STARTS + 2)

    @pytest.mark.parametrize(("rounding", "there"), [(2e-3, True), (1e-7, False)])
    def test_what_the_switch_rounds_to_says_whether_there_are_sixteen_bits(self, rounding, there, monkeypatch):
        monkeypatch.setattr(gemm, "_rounding_of_the_switch", lambda: rounding)
        if there:
            gemm.check_matrix_library("bf16")
        else:
            with pytest.raises(ValueError, match="the choices are"):
                gemm.check_matrix_library("bf16")

    @pytest.mark.parametrize(("wanted", "backend"), [("bf16", th.backends.mkldnn), ("tf32", th.backends.cuda)])
    def test_a_torch_that_cannot_be_told_to_round_is_named(self, wanted, backend, monkeypatch):
        monkeypatch.setattr(backend, "matmul", object())
        with pytest.raises(
            ValueError, match=f"matrix_library='{wanted}' needs a newer torch than {re.escape(th.__version__)}"
        ):
            gemm.check_matrix_library(wanted, "cuda" if wanted == "tf32" else "cpu")

    @pytest.mark.parametrize(("wanted", "device"), [("bf16", "cuda"), ("tf32", "cpu")])
    def test_what_the_other_device_has_is_refused(self, wanted, device):
        with pytest.raises(ValueError, match=f"matrix_library='{wanted}' needs .* here, on {device}, the choices are auto, "):
            gemm.check_matrix_library(wanted, device)

    def test_tf32_is_refused_on_the_cpu_before_anything_is_trained(self):
        model = make("MSAC", engine=Engine("fast", compile=False, matrix_library="tf32"))
        with pytest.raises(ValueError, match="a GPU of NVIDIA's"):
            model.learn(STARTS + 2)

    def test_training_with_sixteen_bits_is_near_training_with_thirty_two(self):
        if not gemm._multiplies_16_bits():
            pytest.skip("the processor has no 16-bit matrix products")
        weights = []
        for library in ("torch", "bf16"):
            engine = Engine("fast", compile=False, matrix_library=library)
            model = make("MSAC", engine=engine, policy_kwargs={"net_arch": [256, 256]})
            start = th.nn.utils.parameters_to_vector(model.critic.parameters()).detach()
            model.learn(STARTS + 20)
            weights.append(th.nn.utils.parameters_to_vector(model.critic.parameters()).detach() - start)
        exact, rounded = weights
        assert 0 < (exact - rounded).norm() < 0.2 * exact.norm()

    @pytest.mark.parametrize(
        ("vendor", "flag", "gains"),
        [("AuthenticAMD", "avx512f", True), ("AuthenticAMD", "avx2", False), ("GenuineIntel", "avx512f", False)],
    )
    def test_the_processor_says_whether_it_gains(self, vendor, flag, gains, monkeypatch):
        monkeypatch.undo()
        text = f"vendor_id\t: {vendor}\nflags\t\t: fpu {flag} bmi2\n"
        monkeypatch.setattr(gemm.Path, "read_text", lambda *_, **__: text)
        gemm._gains.cache_clear()
        try:
            assert gemm._gains() is gains
        finally:
            gemm._gains.cache_clear()

    def test_the_check_sees_sixteen_bits(self, monkeypatch):
        class Backend:
            class matmul:
                fp32_precision = "none"

        # Whatever the processor does, the products below are the only ones of 16 bits.
        monkeypatch.setattr(th.backends, "mkldnn", Backend)
        rounded = th.bmm
        monkeypatch.setattr(th, "bmm", lambda a, b: rounded(a.bfloat16(), b.bfloat16()).float())
        gemm._rounding_of_the_switch.cache_clear()
        try:
            assert gemm._rounding_of_the_switch() > 100 * gemm.TOLERANCE
        finally:
            gemm._rounding_of_the_switch.cache_clear()

    def test_a_run_may_opt_out(self, monkeypatch, capsys):
        monkeypatch.setattr(gemm, "_rounding_of_the_switch", lambda: 1e-7)
        for wanted, said in (("auto", "oneDNN's matrix products"), ("torch", "torch's own matrix library, as asked for")):
            MDQN(
                "MlpPolicy",
                "CartPole-v1",
                device="cpu",
                verbose=1,
                policy_kwargs={"net_arch": [128, 128]},
                engine=Engine("fast", False, wanted),
            ).learn(20)
            assert said in capsys.readouterr().out
