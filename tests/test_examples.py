"""The examples draw what they say; `make test-learning` trains them."""

import numpy as np
import pytest
import torch as th
from PIL import Image
from stable_baselines3.common.callbacks import BaseCallback

from sb3_entropic import Engine
from sb3_entropic.tabular import TabularEnv
from sb3_entropic.value_based.networks import Fractions, ValueNetworks
from tests.engine.cases import difference
from tests.load_example import load_example
from tests.value_based.tables import GAMMA, all_transitions, arguments, as_network, small_mdp, table

MDP = small_mdp()


def test_multigoal_draws_a_picture_and_an_animation(tmp_path, monkeypatch, capsys):
    example = load_example("multigoal")
    first, *_, last = example.entries()
    monkeypatch.setattr(example, "entries", lambda: [first, last])
    monkeypatch.setattr(example, "RESOLUTION", 12)
    example.main(["--steps", "60", "--episodes", "2", "--out", str(tmp_path)])
    assert "SoftQ, temperature 8" in capsys.readouterr().out
    assert Image.open(tmp_path / "multigoal.png").size[0] == example.WIDTH
    assert Image.open(tmp_path / "multigoal.gif").n_frames > 1


def test_a_landscape_is_the_best_actions_value(monkeypatch):
    example = load_example("multigoal")
    monkeypatch.setattr(example, "RESOLUTION", 3)

    class Model:
        @staticmethod
        def critic(states, actions):
            value = 10 * states[:, :1] + states[:, 1:] - (actions - 0.5).square().sum(1, keepdim=True)
            return value, value + 1

    edge = example.EDGE
    expected = np.array([[10 * x + y for x in (-edge, 0, edge)] for y in (-edge, 0, edge)])
    assert example.landscape(Model) == pytest.approx(expected, abs=1e-5)


def test_skills_draws_a_picture(tmp_path, capsys):
    load_example("skills").main(["--steps", "60", "--out", str(tmp_path)])
    assert "discriminator accuracy" in capsys.readouterr().out
    assert Image.open(tmp_path / "skills.png").size[0] > 800


class TestNewAlgorithm:
    @pytest.fixture
    def algorithm(self):
        return load_example("new_algorithm").PAL

    def test_three_seeds_of_it_are_trained(self, capsys):
        load_example("new_algorithm").main(["--steps", "1100"])
        assert capsys.readouterr().out.count("seed ") == 3

    def test_its_own_argument_may_be_scheduled_on_either_engine(self, algorithm):
        sizes = {"learning_starts": 20, "train_freq": 1, "batch_size": 16, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
        engines = (Engine("fast", compile=False), "sb3")
        fast, exact = (
            algorithm("MlpPolicy", "CartPole-v1", seed=0, persistence="lin_1", engine=engine, **sizes).learn(60)
            for engine in engines
        )
        assert difference(fast, exact) < 1e-5
        with pytest.raises(ValueError, match=r"persistence\(1.0\)=2.0 is outside"):
            algorithm("MlpPolicy", "CartPole-v1", persistence="lin_2")

    def test_its_target_is_the_larger_of_the_two(self, algorithm):
        model = algorithm("MlpPolicy", TabularEnv(MDP), persistence=0.5, **arguments())
        networks = ValueNetworks(as_network(table(7)), as_network(table(3)), 1.0)
        batch = all_transitions(MDP)
        targets, _ = model.td_target(networks, batch, Fractions())
        q = table(3)
        for target, s, a, next_s in zip(targets, batch.observations, batch.actions, batch.next_observations, strict=True):
            s, a, next_s = s.item(), a.item(), next_s.item()
            best = q[next_s].max()
            gap_here, gap_there = q[s].max() - q[s, a], best - q[next_s, a]
            one = MDP.rewards[s, a] + GAMMA * best - 0.9 * gap_here
            other = MDP.rewards[s, a] + GAMMA * (best - 0.5 * gap_there)
            assert target.item() == pytest.approx(max(one, other).item())

    def test_the_fast_engine_follows_it_and_its_own_argument(self, algorithm):
        class Persists(BaseCallback):
            def _on_step(self):
                if self.num_timesteps == 60:
                    self.model.persistence = 0.2
                return True

        options = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 20, "train_freq": 1, "seed": 0, "device": "cpu"}
        engines = ("sb3", Engine("fast", compile=False))
        exact, fast = (algorithm("MlpPolicy", "CartPole-v1", engine=e, **options).learn(120, Persists()) for e in engines)
        unmoved = algorithm("MlpPolicy", "CartPole-v1", engine="sb3", **options).learn(120)
        for ours, theirs in zip(fast.policy.parameters(), exact.policy.parameters(), strict=True):
            th.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
        assert not th.equal(next(exact.policy.parameters()), next(unmoved.policy.parameters()))


@pytest.mark.parametrize(("name", "argument"), [("skills", "--seed=-1"), ("skills", "--steps=0"), ("multigoal", "--seed=-1")])
def test_a_wrong_argument_is_named(name, argument, capsys):
    with pytest.raises(SystemExit):
        load_example(name).main([argument])
    assert "is not a whole number" in capsys.readouterr().err
