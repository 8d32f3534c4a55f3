"""A user's loss that the fast engine would run otherwise than SB3's loop is refused, with what to do instead."""

from functools import lru_cache

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_entropic import MSAC, EntropyPPO, train_seeds
from sb3_entropic.actor_critic.loop import ActorCriticLoop
from sb3_entropic.checks import check_at_least_zero
from sb3_entropic.off_policy import OffPolicyLoop
from sb3_entropic.on_policy.loop import OnPolicyLoop
from sb3_entropic.updates import Update
from tests.engine.cases import FAST, STARTS, difference

STEPS = STARTS + 20


def make(cls, engine=FAST, **arguments):
    sizes = {"policy_kwargs": {"net_arch": [8]}, "batch_size": 16, "learning_starts": STARTS, "device": "cpu"}
    return cls("MlpPolicy", "Pendulum-v1", seed=0, engine=engine, **sizes, **arguments)


class Scaled(MSAC):
    """The actor's loss times something."""

    def factor(self, batch):
        return 1.0

    def actor_loss(self, networks, batch, noise):
        loss, metrics = super().actor_loss(networks, batch, noise)
        return loss * self.factor(batch), metrics


class OfProgress(Scaled):
    def factor(self, batch):
        return 1 + self._current_progress_remaining


class OfSteps(Scaled):
    def factor(self, batch):
        return 1 + self.num_timesteps / 100


class OfUpdates(Scaled):
    def factor(self, batch):
        return 1 + self._n_updates / 100


class OfNumpy(Scaled):
    def factor(self, batch):
        return 1 + np.random.rand()


class Counts(Scaled):
    count = 0

    def factor(self, batch):
        self.count += 1
        return 1 + self.count / 10


class Averages(Scaled):
    average = 0.0

    def factor(self, batch):
        self.average = 0.9 * self.average + 0.1 * batch.rewards.mean()
        return 1 + self.average


class Remembers(Scaled):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def factor(self, batch):
        self.seen.append(batch.rewards.mean())
        return 1 + len(self.seen) / 10


@pytest.mark.parametrize("cls", [OfProgress, OfSteps, OfUpdates, OfNumpy, Counts, Averages, Remembers])
def test_what_changes_apart_from_what_is_followed_is_refused(cls):
    model = make(cls)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=f"{cls.__name__} cannot be recorded .*(read something that|they) change"):
        model.learn(STEPS)
    assert vars(model).keys() - before.keys() <= {"engine_used", "start_time"}, "and nothing is left of the recording"
    assert make(cls, "sb3").learn(STEPS).engine_used == "sb3"


class AveragesATensor(Scaled):
    def __init__(self, *args, **kwargs):
        self.average = th.zeros(())
        super().__init__(*args, **kwargs)

    def factor(self, batch):
        self.average = 0.9 * self.average + 0.1 * batch.rewards.mean()
        return 1 + self.average


class Decays(Scaled):
    beta = 1.0

    def coefficients(self):
        return {**super().coefficients(), "beta": self.beta}

    def factor(self, batch):
        self.beta = 0.9 * self.beta
        return self.beta


@pytest.mark.parametrize(("cls", "name"), [(AveragesATensor, "average"), (Decays, "beta")])
def test_what_the_engine_follows_is_not_set_by_a_loss(cls, name):
    with pytest.raises(ValueError, match=f"they set self.{name}, which the engine follows"):
        make(cls).learn(STEPS)


@lru_cache
def halves(n):
    return th.full((n,), 0.5).mean()


class Memorises(Scaled):
    constant = None

    def factor(self, batch):
        if self.constant is None:
            self.constant = th.tensor([1.0, float("nan")])
        return halves(3) + th.nan_to_num(self.constant).sum()


def test_constants_may_be_made_once():
    halves.cache_clear()
    assert difference(make(Memorises).learn(STEPS), make(Memorises, "sb3").learn(STEPS)) < 1e-5


class Same(MSAC):
    """Ours, under a user's name."""


class SamePPO(EntropyPPO):
    """Ours, under a user's name."""


@pytest.mark.parametrize("rate", [lambda remaining: 0.5 * (1 - remaining), 0])
def test_what_begins_at_0_is_no_change(rate):
    fast, exact = (make(Same, engine, ent_coef=rate).learn(STEPS) for engine in (FAST, "sb3"))
    assert difference(fast, exact) < 1e-5


@pytest.mark.parametrize(
    "arguments", [{"kl_coef": lambda remaining: 1 - remaining}, {"ent_coef": 0}, {"clip_range": LinearSchedule(0.2, 0.0, 1.0)}]
)
def test_what_begins_or_ends_at_0_on_policy_is_no_change(arguments):
    fast, exact = (make_ppo(SamePPO, engine, **arguments).learn(64).learn(64) for engine in (FAST, "sb3"))
    assert difference(fast, exact) < 1e-5


class Holds(Scaled):
    """Keeps what no two of compare."""

    def __init__(self, *args, goals=(), prior=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.goals, self.prior = [np.array(goal) for goal in goals], prior


def test_what_a_users_class_keeps_may_be_anything():
    stack = train_seeds(
        Holds,
        "MlpPolicy",
        "Pendulum-v1",
        seeds=[0, 1],
        total_timesteps=STEPS,
        engine=FAST,
        goals=([1.0, 2.0], [3.0, 4.0]),
        prior=lambda x: x,
        policy_kwargs={"net_arch": [8]},
        learning_starts=STARTS,
        device="cpu",
    )
    assert [model.engine_used for model in stack] == ["fast, not compiled"] * 2


class PassesOn(Scaled):
    def factor(self, batch):
        self.scale = batch.rewards.abs().mean()
        return 1 + self.scale


def test_what_a_loss_hands_itself_within_a_step_may_be_an_attribute():
    fast = make(PassesOn).learn(STEPS)
    assert difference(fast, make(PassesOn, "sb3").learn(STEPS)) < 1e-5
    assert not hasattr(fast, "scale")


class Penalised(Scaled):
    def __init__(self, *args, penalty=1.0, **kwargs):
        self.penalty = penalty
        super().__init__(*args, **kwargs)

    def factor(self, batch):
        return self.penalty


class Raises(BaseCallback):
    def _on_step(self):
        if self.n_calls == STARTS + 10:
            self.model.penalty = 50.0
        return True


def test_an_argument_of_a_users_class_is_followed_when_it_is_set():
    fast, exact = (make(Penalised, engine).learn(STEPS, Raises()) for engine in (FAST, "sb3"))
    assert difference(fast, exact) < 1e-5
    with pytest.raises(ValueError, match=r"penalty cannot differ .* What Penalised returns of coefficients\(\) can, too"):
        train_seeds(Penalised, "MlpPolicy", "Pendulum-v1", seeds=[0, 1], total_timesteps=STEPS, penalty=[1.0, 2.0])


class Branches(Scaled):
    def factor(self, batch):
        return 2.0 if batch.rewards.mean() > 0 else 1.0


class Draws(Scaled):
    def factor(self, batch):
        return th.rand(())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Branches, r"they branch on a tensor's value, where torch.where .*in factor, line \d+ of test_purity.py"),
        (Draws, "they draw random numbers, which draw_noise is for"),
    ],
)
def test_the_place_in_the_users_code_is_named(cls, message):
    with pytest.raises(ValueError, match=message) as raised:
        make(cls).learn(STEPS)
    assert raised.value.__cause__ is not None


class Returns(MSAC):
    returned = None

    def actor_loss(self, networks, batch, noise):
        loss, metrics = super().actor_loss(networks, batch, noise)
        return type(self).returned(loss, metrics)


@pytest.mark.parametrize("engine", ["sb3", FAST], ids=["sb3", "fast"])
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda loss, metrics: loss, "returns no pair of a scalar tensor and a dictionary"),
        (lambda loss, metrics: (loss, {"one": 1.0}), "returns scalar tensors: 'one' is the float 1.0"),
        (lambda loss, metrics: (loss.expand(3), {}), r"returns scalar tensors: 'its loss' is of shape \(3,\)"),
    ],
)
def test_what_a_loss_may_not_return_is_named(returned, message, engine):
    Returns.returned = staticmethod(returned)
    with pytest.raises((TypeError, ValueError), match=rf"Returns\.actor_loss\(\) {message}"):
        make(Returns, engine).learn(STEPS)


class Margin:
    def __init__(self, *args, margin=0.0, **kwargs):
        self.margin = margin
        super().__init__(*args, **kwargs)

    def check_arguments(self):
        super().check_arguments()
        check_at_least_zero("margin", self.margin)


class Plain(Margin, OnPolicyLoop, PPO):
    """No more than SB3's clipped surrogate."""


class OfNoFamily(Margin, OffPolicyLoop, DQN):
    """Only arguments."""


class ActorCritic(Margin, ActorCriticLoop, SAC):
    """No more than SB3's losses."""


def make_ppo(cls, engine, **arguments):
    sizes = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "device": "cpu", "policy_kwargs": {"net_arch": [8]}}
    return cls("MlpPolicy", "CartPole-v1", seed=0, engine=engine, **sizes, **arguments)


def test_an_on_policy_loss_regularises_nothing_unless_it_says_so():
    sizes = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "device": "cpu", "policy_kwargs": {"net_arch": [8]}}
    exact = PPO("MlpPolicy", "CartPole-v1", seed=0, **sizes).learn(64)
    for engine in ("sb3", FAST):
        assert difference(make_ppo(Plain, engine).learn(64), exact) < 1e-6


@pytest.mark.parametrize(
    ("cls", "env"),
    [(Plain, "CartPole-v1"), (OfNoFamily, "CartPole-v1"), (ActorCritic, "Pendulum-v1")],
    ids=["ppo", "dqn", "sac"],
)
def test_the_arguments_of_every_family_are_checked_when_a_model_is_made(cls, env):
    with pytest.raises(ValueError, match="margin=-1 is below 0"):
        cls("MlpPolicy", env, device="cpu", margin=-1)


class Twice(EntropyPPO):
    def updates(self):
        return [*super().updates(), Update("again", self.policy.optimizer, self.clipped_loss)]


@pytest.mark.parametrize("engine", ["sb3", FAST], ids=["sb3", "fast"])
def test_an_on_policy_algorithm_has_one_update(engine):
    with pytest.raises(ValueError, match=r"updates\(\) of Twice has 2 entries"):
        make_ppo(Twice, engine).learn(64)


class Silent(EntropyPPO):
    def clipped_loss(self, networks, batch, noise):
        loss, metrics = super().clipped_loss(networks, batch, noise)
        return loss, {name: value for name, value in metrics.items() if name != "approx_kl"}


def test_the_divergence_need_not_be_logged():
    fast, exact = (make_ppo(Silent, engine).learn(64) for engine in (FAST, "sb3"))
    assert difference(fast, exact) < 1e-6
