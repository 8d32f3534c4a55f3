"""The entropy bonus and its estimators, what holds the entropy at a target, and the divergence from the old policy."""

import math
import warnings

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_entropic import Engine, EntropyPPO, MaxEntPPO
from sb3_entropic.errors import HyperparameterWarning
from sb3_entropic.on_policy.coefficients import largest_entropy, towards_divergence, towards_entropy, usual_entropy
from sb3_entropic.on_policy.loop import Evaluation
from sb3_entropic.operators import kl_from_old, kl_to_new
from tests.on_policy.worlds import Bandit

# One pass is enough for most of these tests.
pytestmark = pytest.mark.filterwarnings("ignore:kl_coef=.* follows")

SQUASHED = {"use_sde": True, "policy_kwargs": {"net_arch": [8], "squash_output": True}}


def make(env="Pendulum-v1", constructor=EntropyPPO, **arguments):
    arguments = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}, **arguments}
    # SB3 writes into policy_kwargs.
    arguments["policy_kwargs"] = dict(arguments["policy_kwargs"])
    return constructor("MlpPolicy", env, seed=0, device="cpu", **arguments)


def entropy_of(model, observations):
    """Mean entropy of the policy in nats, of a squashed one over the same noise every time."""
    distribution = model.policy.get_distribution(observations)
    if distribution.entropy() is not None:
        return distribution.entropy().mean().item()
    gaussian = distribution.distribution
    noise = normal_quantiles(4096)[:, None, None]
    size = (gaussian.mean + noise * gaussian.stddev).abs()
    # Written out, rather than with the function under test.
    log_det = 2 * (math.log(2) - size - th.log1p(th.exp(-2 * size)))
    return (gaussian.entropy() + log_det.mean(dim=0)).sum(dim=1).mean().item()


def normal_quantiles(n):
    return th.special.ndtri((th.arange(n) + 0.5) / n)


@pytest.mark.parametrize("settings", [{"env": "CartPole-v1"}, {}, SQUASHED], ids=["categorical", "Gaussian", "squashed"])
def test_with_zero_advantages_a_step_raises_the_entropy(settings):
    model = make(ent_coef=0.1, vf_coef=0.0, learning_rate=1e-2, **settings)
    with th.no_grad():
        # Away from the largest entropy, which a squashed policy has for a standard deviation near 0.87.
        model.policy.action_net.bias.add_(th.arange(len(model.policy.action_net.bias)) * 0.5)
    model.learn(64)
    model.rollout_buffer.advantages[:] = 0.0
    observations = th.as_tensor(model.rollout_buffer.observations)
    before = entropy_of(model, observations)
    model.train()
    assert entropy_of(model, observations) > before + 1e-3


def gradients_of_the_estimators(n=8192):
    """By mean and by the logarithm of the standard deviation of a squashed policy: of each estimator, and the truth."""
    model = make(ent_coef=1.0, vf_coef=0.0, **SQUASHED)
    with th.no_grad():
        model.policy.action_net.bias.fill_(0.7)
    observations = th.tensor([[0.6, -0.8, 0.3]]).expand(n, 3)
    gaussian = model.policy.get_distribution(observations).distribution
    mean, std, noise = gaussian.mean[0].item(), gaussian.stddev[0].item(), normal_quantiles(n)
    actions = th.tanh(mean + std * noise)[:, None]
    log_prob = model.policy.evaluate_actions(observations, actions)[1].detach()
    batch = RolloutBufferSamples(observations, actions, *(th.zeros(n), log_prob, th.zeros(n), th.zeros(n)))
    parameters = [model.policy.action_net.bias, model.policy.log_std]
    found = []
    for given_noise in (None, noise[:, None]):
        loss, _ = model.clipped_loss(model.policy, batch, given_noise)
        found.append([-gradient.sum().item() for gradient in th.autograd.grad(loss, parameters)])
    # H = log std + E[log(1 - tanh(mean + std noise)^2)] + a constant.
    slope = -2 * th.tanh(mean + std * noise).double()
    truth = [slope.mean().item(), 1 + std * (slope * noise).mean().item()]
    return *found, truth


def test_sb3s_estimator_has_no_gradient_until_the_policy_has_moved_and_ours_has_the_right_one():
    sb3s, ours, truth = gradients_of_the_estimators()
    assert min(map(abs, truth)) > 0.1
    assert sb3s == pytest.approx([0.0, 0.0], abs=5e-3)
    assert ours == pytest.approx(truth, abs=5e-3)


def test_fresh_actions_are_drawn_only_where_they_are_needed():
    class Batch:
        actions = th.zeros(5, 1)

    assert make(ent_coef=0.1, **SQUASHED).draw_noise(Batch).shape == (5, 1)
    assert make(ent_coef=0.0, **SQUASHED).draw_noise(Batch) is None
    assert make(ent_coef=0.1, entropy_estimator="sb3", **SQUASHED).draw_noise(Batch) is None
    assert make(ent_coef=0.1, use_sde=True).draw_noise(Batch) is None
    assert make(ent_coef=0.1, constructor=MaxEntPPO, **SQUASHED).draw_noise(Batch) is None


def test_a_schedule_is_followed_logged_and_saved(tmp_path):
    model = make(ent_coef="lin_0.02", target_kl=10.0, kl_coef=lambda progress: 1 + progress).learn(128)
    assert model.current_ent_coef() == pytest.approx(0.0)
    assert model.logger.name_to_value["train/kl_coef"] == pytest.approx(1.0)
    model._current_progress_remaining = 0.25
    assert model.current_ent_coef() == pytest.approx(0.005)
    model.save(tmp_path / "model")
    loaded = EntropyPPO.load(tmp_path / "model", env=model.env)
    assert loaded.ent_coef(0.5) == pytest.approx(0.01)


@pytest.mark.parametrize("target", [0.4, 1.2])
def test_the_entropy_reaches_its_target_on_a_bandit(target):
    arguments = {"n_steps": 1, "n_epochs": 4, "learning_rate": 0.01, "normalize_advantage": False}
    controlled = {"ent_coef": "auto_0.1", "target_entropy": target, "ent_coef_bounds": (0.001, 5.0)}
    model = make(DummyVecEnv([Bandit] * 64), policy_kwargs={"net_arch": []}, **controlled, **arguments)
    entropies = []
    model.learn(64 * 300, callback=lambda *_: entropies.append(entropy_of(model, th.ones(1, 1))) or True)
    assert np.mean(entropies[-60:]) == pytest.approx(target, rel=0.05)


def test_nothing_winds_up_while_a_target_is_out_of_reach():
    coefficient, bounds = 0.01, (0.001, 0.1)
    for _ in range(1000):
        coefficient = towards_entropy(coefficient, entropy=0.2, target=0.6, rate=0.1, bounds=bounds)
    assert coefficient == 0.1, "and not a rounding beyond it"
    assert towards_entropy(coefficient, entropy=0.6, target=0.2, rate=0.1, bounds=bounds) == pytest.approx(
        0.1 * math.exp(-0.04)
    )


@given(st.floats(1e-6, 0.5), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-3, 10))
def test_the_coefficient_rises_exactly_while_the_policy_is_too_deterministic(coefficient, entropy, target, rate):
    changed = towards_entropy(coefficient, entropy, target, rate, (1e-7, 1.0))
    assert 1e-7 * 0.999 <= changed <= 1.001
    if abs(rate * (target - entropy)) > 1e-6:
        assert (changed > coefficient) == (target > entropy)


@pytest.mark.parametrize("bounds", [(1e-6, 0.1), (1e-6, 0.05), (1e-5, 0.5)])
def test_a_coefficient_at_its_bound_is_saved_and_narrower_bounds_hold_it(bounds, tmp_path):
    target = -5.0 if bounds[1] == 0.5 else 5.0
    model = make(ent_coef="auto_0.03", target_entropy=target, ent_coef_bounds=bounds, ent_coef_rate=10.0).learn(64)
    assert model.learned_ent_coef == bounds[target > 0]
    model.save(tmp_path / "model")
    assert EntropyPPO.load(tmp_path / "model").learned_ent_coef == bounds[target > 0]
    assert EntropyPPO.load(tmp_path / "model", ent_coef_bounds=(0.01, 0.02)).learned_ent_coef == (0.02 if target > 0 else 0.01)
    with pytest.raises(ValueError, match=r"ent_coef='auto_0.3' starts at 0.3, outside \(0.01, 0.02\)"):
        EntropyPPO.load(tmp_path / "model", ent_coef="auto_0.3", ent_coef_bounds=(0.01, 0.02))


def test_the_learned_coefficient_is_saved(tmp_path):
    follows = {"ent_coef": "auto_0.05", "target_entropy": 5.0, "kl_coef": "auto_2", "target_kl": 1e-8}
    model = make(**follows, n_epochs=2, learning_rate=3e-3).learn(192)
    # The entropy of 1.4 nats is too small after every update, and the divergence too large.
    assert model.learned_ent_coef == pytest.approx(0.05 * math.exp(0.1 * 3 * (5.0 - 1.42)), rel=0.01)
    assert model.learned_kl_coef == 16.0
    assert model.logger.name_to_value["train/target_entropy"] == 5.0
    model.save(tmp_path / "model")
    loaded = EntropyPPO.load(tmp_path / "model", env=model.env)
    assert (loaded.learned_ent_coef, loaded.learned_kl_coef) == (model.learned_ent_coef, 16.0)
    loaded.set_logger(model.logger)
    assert loaded.learn(64).learned_ent_coef > model.learned_ent_coef


def test_a_learned_coefficient_begins_anew_only_under_another_text(tmp_path):
    follows = {"ent_coef": "auto_0.05", "target_entropy": 5.0, "kl_coef": "auto_2", "target_kl": 1e-8}
    model = make(**follows).learn(64)
    model.save(tmp_path / "model")

    def loaded(**arguments):
        model = EntropyPPO.load(tmp_path / "model", **arguments)
        return model.learned_ent_coef, model.learned_kl_coef

    reached = (model.learned_ent_coef, model.learned_kl_coef)
    assert loaded() == loaded(ent_coef="auto_0.05") == reached
    assert loaded(ent_coef="auto_0.3") == (0.3, reached[1])
    assert loaded(kl_coef="auto_3") == (reached[0], 3.0)
    assert loaded(ent_coef=0.1, kl_coef=0.2) == (None, None)


def test_a_coefficient_may_be_set_on_a_model_and_a_text_only_given_to_it():
    model = make(ent_coef="auto_0.05", target_entropy=5.0).learn(64)
    learned, model.ent_coef = model.learned_ent_coef, 0.2
    model.learn(64)
    assert (model.current_ent_coef(), model.learned_ent_coef) == (0.2, learned)
    numeric = make(ent_coef=0.1)
    numeric.ent_coef = "auto"
    with pytest.raises(ValueError, match=r"ent_coef='auto' cannot be set on a model .*: give it to load\(\)"):
        numeric.learn(64)


def test_a_target_may_follow_the_progress():
    model = make(ent_coef="auto_0.05", target_entropy=lambda progress: 1.0 + progress, ent_coef_rate=1e-6)
    targets = []

    class Targets(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            targets.append(self.logger.name_to_value.get("train/target_entropy"))

    model.learn(256, callback=Targets(), log_interval=None)
    assert targets == pytest.approx([None, 1.75, 1.5, 1.25], nan_ok=True)
    assert model.logger.name_to_value["train/target_entropy"] == pytest.approx(1.0)


def test_what_a_second_critics_coefficient_follows_is_the_entropy_of_a_squashed_policy():
    settings = {"use_sde": True, "policy_kwargs": {**SQUASHED["policy_kwargs"], "log_std_init": -1.0}}
    model = make(constructor=MaxEntPPO, ent_coef="auto", n_steps=1024, learning_rate=3e-3, **settings)
    for _ in range(3):
        model.learn(1024, reset_num_timesteps=False, log_interval=None)
        followed = -model.logger.name_to_value["train/entropy_loss"]
        assert followed == pytest.approx(entropy_of(model, th.as_tensor(model.rollout_buffer.observations)), abs=0.08)
        assert followed < math.log(2)


def test_the_usual_target():
    space = Bandit.action_space
    assert usual_entropy(space, False, 1.0) == pytest.approx(0.7 * math.log(4))
    assert usual_entropy(space, False, 0.0) == pytest.approx(0.1 * math.log(4))
    gaussian = th.distributions.Normal(0.0, 0.3 * 2.0).entropy().item()
    model = make(ent_coef="auto")
    assert model.current_target_entropy() == pytest.approx(gaussian)
    assert make(ent_coef="auto", **SQUASHED).current_target_entropy() == pytest.approx(gaussian - math.log(2.0))
    assert largest_entropy(model.action_space, squashed=True) == pytest.approx(math.log(2))
    for without_width in (spaces.Box(-3.4e38, 3.4e38, (2,)), spaces.Box(np.zeros(2), np.zeros(2), dtype=np.float64)):
        of_width_one = 2 * th.distributions.Normal(0.0, 0.3).entropy().item()
        assert usual_entropy(without_width, False, 1.0) == pytest.approx(of_width_one)


def test_the_divergences_are_unbiased_and_so_are_their_gradients():
    old = th.softmax(th.tensor([0.3, -1.0, 0.8], dtype=th.float64), 0)
    logits = th.tensor([-0.5, 0.4, 0.1], dtype=th.float64, requires_grad=True)
    new = th.softmax(logits, 0)
    log_ratio = new.log() - old.log()
    for estimate, truth in (
        ((old * kl_from_old(log_ratio)).sum(), (new * log_ratio).sum()),
        ((old * kl_to_new(log_ratio)).sum(), -(old * log_ratio).sum()),
    ):
        assert estimate.item() == pytest.approx(truth.item())
        th.testing.assert_close(*(th.autograd.grad(value, logits, retain_graph=True)[0] for value in (estimate, truth)))
    assert min(kl_from_old(th.tensor([-2.0, 0.0, 1.0]))) == 0.0
    small = th.linspace(-1e-3, 1e-3, 1001)
    assert kl_from_old(small).min() >= 0
    th.testing.assert_close(kl_from_old(small), 0.5 * small**2, rtol=2e-2, atol=1e-10)


def test_the_penalty_is_the_divergence_from_the_old_policy():
    """And not the other one, which is the same near 0."""
    model = make(ent_coef=0.2, kl_coef=3.0)
    evaluation, log_ratio = Evaluation(th.zeros(2), th.zeros(2), th.tensor([0.5, 1.5])), th.tensor([-1.0, 0.5])
    loss, metrics = model.regularisation(evaluation, log_ratio)
    ratio = log_ratio.exp()
    divergence = (ratio * log_ratio - (ratio - 1)).mean()
    th.testing.assert_close(metrics["kl_from_old"], divergence)
    th.testing.assert_close(loss, 3.0 * divergence - 0.2)


def test_a_target_that_nothing_follows_is_warned_of():
    with pytest.warns(HyperparameterWarning, match="target_entropy is not read with ent_coef=0.01: ent_coef='auto' learns"):
        make(ent_coef=0.01, target_entropy=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(ent_coef="auto", target_entropy=0.2)


def test_a_weight_that_adapts_needs_a_second_pass():
    with pytest.warns(HyperparameterWarning, match="kl_coef='auto' follows the divergence of the last pass .* n_epochs=1"):
        make(kl_coef="auto", target_kl=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(kl_coef="auto", target_kl=0.01, n_epochs=2)
        make(kl_coef=0.1)


@pytest.mark.parametrize("engine", ["sb3", "fast"])
def test_an_update_that_stopped_early_has_gone_too_far(engine):
    """Whatever the mean of its last pass is, of which the first minibatches have hardly moved."""
    follows = {"kl_coef": "auto_1", "target_kl": 0.01, "learning_rate": 0.05, "n_steps": 512, "batch_size": 32}
    model = make("CartPole-v1", engine=Engine(engine, compile=False), **follows).learn(512)
    assert model.logger.name_to_value["train/approx_kl"] < 0.015
    assert model.learned_kl_coef == 2.0


def test_the_weight_follows_the_last_pass():
    model = make(kl_coef="auto_1", target_kl=0.01)
    model.after_training({"entropy_loss": -1.0, "approx_kl": 0.02, "kl_from_old": 0.001}, stopped_early=False)
    assert model.learned_kl_coef == 2.0


def test_the_penalty_keeps_the_policy_near_the_old_one():
    def moved(kl_coef):
        model = make("CartPole-v1", kl_coef=kl_coef, learning_rate=1e-2, n_epochs=10).learn(64)
        return model.logger.name_to_value["train/approx_kl"]

    assert moved(10.0) < 0.3 * moved(0.0)


def test_the_adaptive_weight_doubles_and_halves():
    assert [towards_divergence(1.0, kl, 0.01) for kl in (0.016, 0.0149, 0.0067, 0.006)] == [2.0, 1.0, 1.0, 0.5]
    assert towards_divergence(1e4, 1.0, 0.01) == 1e4
    assert towards_divergence(1e-4, 0.0, 0.01) == 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ent_coef": "auto_x"}, "ent_coef='auto_x' is none of \"auto\""),
        ({"ent_coef": "auto_0"}, "ent_coef='auto_0' is none of"),
        ({"ent_coef": "lin_x"}, "ent_coef='lin_x' is not a schedule: write lin_0.001"),
        ({"ent_coef": -1}, "ent_coef=-1 is below 0"),
        ({"ent_coef": "auto_2"}, r"ent_coef='auto_2' starts at 2.0, outside \(1e-06, 0.5\)"),
        ({"ent_coef_bounds": (0.5, 0.1)}, "ent_coef_bounds=.* are not two numbers"),
        ({"ent_coef_bounds": 3}, "ent_coef_bounds=3 are not two numbers"),
        ({"ent_coef_rate": 0}, "ent_coef_rate=0 is not a finite number above 0"),
        ({"entropy_estimator": "sb33"}, "did you mean 'sb3'"),
        ({"kl_coef": "auto"}, "kl_coef='auto' adapts to target_kl, which is None"),
        ({"kl_coef": lambda progress: progress - 1}, r"kl_coef\(0.75\)=-0.25 is below 0"),
        ({"env": "CartPole-v1", "ent_coef": "auto", "target_entropy": -1}, "target_entropy=-1 is below 0"),
        ({"env": "CartPole-v1", "ent_coef": "auto", "target_entropy": 0.7}, "target_entropy=0.7 cannot be reached.*0.693"),
        ({"ent_coef": "auto", "target_entropy": 0.7, **SQUASHED}, "cannot be reached: these actions have at most 0.693"),
        ({"ent_coef": "auto", "target_entropy": "atuo"}, "target_entropy='atuo' is neither 'auto' nor a number: did you"),
        ({"target_entropy": "atuo"}, "target_entropy='atuo' is neither 'auto' nor a number: did you mean 'auto'"),
        ({"clip_range": -1}, "clip_range=-1 is below 0"),
        ({"clip_range_vf": lambda remaining: remaining - 0.5}, r"clip_range_vf\(0.25\)=-0.25 is below 0"),
        ({"kl_coef": "auto", "target_kl": 0}, "target_kl=0 is not a finite number above 0"),
        ({"kl_coef": "auto_100000", "target_kl": 0.01}, r"kl_coef='auto_100000' starts at 100000, outside \(0.0001, 10000\)"),
        ({"kl_coef": math.inf}, "kl_coef=inf is not finite"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("space", "most"), [(spaces.MultiBinary(3), 3 * math.log(2)), (spaces.MultiDiscrete([2, 5]), math.log(10))]
)
def test_the_largest_entropy_of_several_choices(space, most):
    assert largest_entropy(space, False) == pytest.approx(most)
    assert usual_entropy(space, False, 1.0) == pytest.approx(0.7 * most)
