"""The learned temperature moves the policy's entropy towards its target."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from sb3_entropic import MDQN, MSAC, MTQC, DiscreteSAC, Engine, EntropyPPO, SoftQ
from sb3_entropic.temperature import current_temperature, temperature_loss


@pytest.mark.parametrize(("entropy", "direction"), [(-2.0, 1), (0.0, -1)])
def test_it_rises_exactly_while_the_policy_is_too_deterministic(entropy, direction):
    log_temperature = th.zeros(1, requires_grad=True)
    log_prob = th.full((4, 1), -entropy)
    temperature_loss(log_temperature, log_prob, target_entropy=-1.0).backward()
    # The gradient is entropy - target_entropy, and descent goes against it.
    assert log_temperature.grad.item() == pytest.approx(entropy + 1.0)
    assert -log_temperature.grad.sign().item() == direction


def test_it_rests_at_the_target():
    log_temperature = th.ones(1, requires_grad=True)
    temperature_loss(log_temperature, th.full((4, 1), 1.0), target_entropy=-1.0).backward()
    assert log_temperature.grad.item() == 0.0


def test_no_gradient_reaches_the_policy():
    log_prob = th.zeros(4, 1, requires_grad=True)
    temperature_loss(th.zeros(1, requires_grad=True), log_prob, target_entropy=-1.0).backward()
    assert log_prob.grad is None


@pytest.mark.parametrize(("ent_coef", "expected"), [("auto", 1.0), ("auto_0.2", 0.2), (0.3, 0.3)])
def test_current_temperature_is_sb3s(ent_coef, expected):
    temperature = current_temperature(MSAC("MlpPolicy", "Pendulum-v1", ent_coef=ent_coef, buffer_size=10, device="cpu"))
    assert temperature.item() == pytest.approx(expected)
    assert not temperature.requires_grad


def halving(progress):
    return 0.1 + 0.1 * progress


@pytest.mark.parametrize("constructor", [MSAC, MTQC])
def test_a_scheduled_temperature_is_followed_logged_and_saved(constructor, tmp_path):
    arguments = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 500, "device": "cpu"}
    model = constructor("MlpPolicy", "Pendulum-v1", ent_coef=halving, **arguments)
    assert current_temperature(model).item() == pytest.approx(0.2)
    model.learn(400)
    assert model.logger.name_to_value["train/ent_coef"] == pytest.approx(0.1, abs=1e-3)
    model.save(tmp_path / "model")
    loaded = constructor.load(tmp_path / "model", env=model.env)
    assert loaded.ent_coef(0.5) == pytest.approx(0.15)
    assert loaded.learn(200).logger.name_to_value["train/ent_coef"] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("saved", [0.3, halving])
@pytest.mark.parametrize("constructor", [MSAC, MTQC])
def test_a_loaded_model_takes_another_temperature(constructor, saved, tmp_path):
    arguments = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 500, "device": "cpu"}
    constructor("MlpPolicy", "Pendulum-v1", ent_coef=saved, **arguments).save(tmp_path / "model")
    kept = constructor.load(tmp_path / "model", device="cpu")
    assert current_temperature(kept).item() == pytest.approx(0.3 if saved == 0.3 else 0.2)
    other = constructor.load(tmp_path / "model", device="cpu", ent_coef=0.7)
    assert current_temperature(other).item() == pytest.approx(0.7)


def test_a_loaded_model_of_sac_takes_another_temperature(tmp_path):
    SAC("MlpPolicy", "Pendulum-v1", ent_coef=0.1, buffer_size=500, device="cpu").save(tmp_path / "model")
    assert current_temperature(MSAC.load(tmp_path / "model", device="cpu")).item() == pytest.approx(0.1)
    assert current_temperature(MSAC.load(tmp_path / "model", device="cpu", ent_coef=0.7)).item() == pytest.approx(0.7)


@pytest.mark.parametrize("engine", ["sb3", "fast"])
@pytest.mark.parametrize("later", [0.9, np.float32(0.9), "0.9", lambda progress: 0.9])
def test_a_fixed_temperature_may_be_set_while_training(engine, later):
    class Sets(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 120:
                self.model.ent_coef = value
            return True

    trained = []
    for value in (0.1, later):
        arguments = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 500, "device": "cpu", "seed": 0, "ent_coef": 0.1}
        model = MSAC("MlpPolicy", "Pendulum-v1", engine=Engine(engine, compile=False), **arguments).learn(150, Sets())
        trained.append(next(model.actor.parameters()))
        assert model.logger.name_to_value["train/ent_coef"] == pytest.approx(0.1 if value == 0.1 else 0.9)
    assert not th.equal(*trained)


@pytest.mark.parametrize(
    ("later", "message"),
    [(-1.0, "ent_coef=-1.0 is below 0"), ("auto", "cannot begin to be learned"), ("lin_x", "schedule")],
)
def test_what_is_set_while_training_is_checked(later, message):
    model = MSAC("MlpPolicy", "Pendulum-v1", ent_coef=0.1, buffer_size=500, device="cpu")
    with pytest.raises(ValueError, match=message):
        model.ent_coef = later
    assert (model.ent_coef, model.ent_coef_tensor.item()) == (0.1, pytest.approx(0.1))


def test_text_is_a_schedule_of_temperatures_too(tmp_path):
    model = MSAC("MlpPolicy", "Pendulum-v1", ent_coef="lin_0.2", target_entropy=-1, buffer_size=500, device="cpu")
    assert [model.ent_coef(remaining) for remaining in (1.0, 0.5, 0.0)] == pytest.approx([0.2, 0.1, 0.0])
    model.save(tmp_path / "model")
    assert MSAC.load(tmp_path / "model", device="cpu", ent_coef="lin_0.4").ent_coef(0.5) == pytest.approx(0.2)
    discrete = DiscreteSAC("MlpPolicy", "CartPole-v1", target_entropy="lin_0.2", buffer_size=500, device="cpu")
    assert discrete.target_entropy(0.5) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="temperature='lin_x' is not a schedule"):
        MDQN("MlpPolicy", "CartPole-v1", temperature="lin_x")


@pytest.mark.parametrize("constructor", [SAC, MSAC])
def test_a_temperature_that_a_callback_has_changed_is_saved(constructor, tmp_path):
    model = constructor("MlpPolicy", "Pendulum-v1", ent_coef=0.5, buffer_size=500, device="cpu")
    model.ent_coef_tensor = th.tensor(0.05)
    model.save(tmp_path / "model")
    for loads in (SAC, MSAC):
        assert loads.load(tmp_path / "model", device="cpu").ent_coef_tensor.item() == pytest.approx(0.05)
    for given in ({"ent_coef": 0.5}, {"custom_objects": {"ent_coef": 0.5}}, {"ent_coef": lambda progress: progress / 2}):
        assert MSAC.load(tmp_path / "model", device="cpu", **given).ent_coef_tensor.item() == pytest.approx(0.5)


def test_a_learned_temperature_starts_again_where_another_start_is_given(tmp_path):
    model = MSAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=500, device="cpu").learn(150)
    model.save(tmp_path / "model")
    given = ({}, {"ent_coef": "auto"}, {"ent_coef": "auto_0.05"})
    kept, same, other = (MSAC.load(tmp_path / "model", device="cpu", **arguments) for arguments in given)
    for loaded in (kept, same):
        assert loaded.log_ent_coef.item() == model.log_ent_coef.item() != 0.0
        assert loaded.ent_coef_optimizer.state
    assert current_temperature(other).item() == pytest.approx(0.05)
    assert not other.ent_coef_optimizer.state
    other.set_env(model.env)
    other.learn(150)


@pytest.mark.parametrize(
    ("target_entropy", "warns"), [(0.7, True), (lambda progress: progress, True), (0.69, False), (-1.0, False)]
)
def test_an_entropy_that_is_never_reached_is_warned_of(target_entropy, warns, recwarn):
    for ent_coef in ("auto", 0.1):
        MSAC("MlpPolicy", "Pendulum-v1", target_entropy=target_entropy, ent_coef=ent_coef, buffer_size=500, device="cpu")
    said = [str(warning.message) for warning in recwarn if "is not reached: 1 action has" in str(warning.message)]
    assert len(said) == warns


@pytest.mark.parametrize(("saved", "given", "word"), [("auto", 0.5, ""), ("auto", halving, ""), (0.5, "auto_0.1", "not ")])
def test_a_learned_temperature_is_not_mixed_with_another(saved, given, word, tmp_path):
    made = MSAC("MlpPolicy", "Pendulum-v1", ent_coef=saved, buffer_size=500, device="cpu")
    made.save(tmp_path / "model")
    with pytest.raises(ValueError, match=f"The saved temperature is {word}learned .*load it as it is, make a model"):
        MSAC.load(tmp_path / "model", ent_coef=given)
    other = MSAC("MlpPolicy", "Pendulum-v1", ent_coef=given, buffer_size=500, device="cpu")
    other.policy.load_state_dict(MSAC.load(tmp_path / "model", device="cpu").policy.state_dict())
    assert all(th.equal(a, b) for a, b in zip(other.policy.parameters(), made.policy.parameters(), strict=True))


@pytest.mark.parametrize("constructor", [MSAC, MTQC])
def test_a_scheduled_target_entropy_is_followed(constructor):
    arguments = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 500, "device": "cpu"}
    model = constructor("MlpPolicy", "Pendulum-v1", target_entropy=lambda progress: -1 - progress, **arguments)
    for progress, entropy in ((1.0, -2.0), (0.5, -1.5), (-0.1, -1.0)):
        model._current_progress_remaining = progress
        assert model.current_target_entropy() == entropy
        assert model.coefficients()["target_entropy"] == entropy


def test_a_constant_schedule_is_the_constant():
    def learned(**arguments):
        model = MSAC(
            "MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, seed=0, buffer_size=500, device="cpu", **arguments
        )
        return model.learn(200).get_parameters()["policy"]

    numbers = learned(ent_coef=0.2, target_entropy=-0.5)
    schedules = learned(ent_coef=lambda _: 0.2, target_entropy=lambda _: -0.5)
    assert all(th.equal(value, schedules[name]) for name, value in numbers.items())


def test_an_unreachable_end_of_a_discrete_schedule_is_named():
    with pytest.raises(ValueError, match=r"target_entropy=1\.0 cannot be reached: 2 actions have at most 0\.693"):
        DiscreteSAC("MlpPolicy", "CartPole-v1", target_entropy=lambda progress: progress, buffer_size=10)
    model = DiscreteSAC("MlpPolicy", "CartPole-v1", target_entropy=lambda progress: 0.6 * progress, buffer_size=10)
    assert model.current_target_entropy() == 0.6


@pytest.mark.parametrize("later", [0.3, "auto_0.3", lambda progress: 0.3])
def test_a_learned_temperature_is_not_set(later, tmp_path):
    model = MSAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=500, device="cpu")
    with pytest.raises(ValueError, match="would change nothing: this model learns it"):
        model.ent_coef = later
    model.ent_coef = "auto"
    model.save(tmp_path / "model")
    assert MSAC.load(tmp_path / "model", device="cpu").ent_coef == "auto"


def test_the_temperature_that_a_loss_divides_by_stays_above_zero():
    model = SoftQ("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=500, device="cpu")
    with pytest.raises(ValueError, match=r"ent_coef=0\.0 is not a finite number above 0"):
        model.ent_coef = 0.0
    model.ent_coef = "0.3"
    assert current_temperature(model).item() == pytest.approx(0.3)


@pytest.mark.parametrize("engine", ["sb3", "fast"])
@pytest.mark.parametrize(
    ("constructor", "name", "value", "message"),
    [
        (MDQN, "temperature", 0.0, "temperature=0.0 is not a finite number above 0"),
        (MDQN, "munchausen_alpha", 2, r"munchausen_alpha=2 is outside \[0, 1\]"),
        (DiscreteSAC, "entropy_penalty", -1, "entropy_penalty=-1 is below 0"),
        (DiscreteSAC, "target_entropy", "auto", "target_entropy='auto' is not a number"),
        (EntropyPPO, "ent_coef", -1, "ent_coef=-1 is below 0"),
        (EntropyPPO, "kl_coef", -1, "kl_coef=-1 is below 0"),
        (EntropyPPO, "ent_coef", "garbage", "ent_coef='garbage' is none of"),
        (EntropyPPO, "gamma", 3, r"gamma=3 is outside \[0, 1\]"),
    ],
)
def test_what_has_been_set_is_checked_when_learning_begins(constructor, name, value, message, engine):
    small = {"n_steps": 16, "batch_size": 16} if constructor is EntropyPPO else {"buffer_size": 100}
    model = constructor("MlpPolicy", "CartPole-v1", engine=engine, device="cpu", **small)
    setattr(model, name, value)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    with pytest.raises(ValueError, match=message):
        model.learn(16)
    assert all(map(th.equal, before, model.policy.parameters()))


def test_another_text_changes_nothing_of_a_coefficient_that_is_learned():
    model = EntropyPPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, ent_coef="auto", device="cpu").learn(16)
    model.ent_coef = "auto_0.2"
    with pytest.raises(ValueError, match=r"ent_coef='auto_0\.2' would change nothing: this model learns it"):
        model.learn(16)
    model.ent_coef, model.target_entropy = "auto", -5.0
    with pytest.raises(ValueError, match=r"target_entropy=-5.0 is below 0"):
        model.learn(16)


def test_a_schedule_that_has_been_set_as_text_is_one():
    model = EntropyPPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, device="cpu")
    model.ent_coef = "lin_0.1"
    assert model.learn(16).current_ent_coef() == 0.0 < model.ent_coef(0.5)
