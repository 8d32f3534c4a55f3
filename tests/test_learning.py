"""Algorithms learn what they should. Minutes long: `make test-learning`."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import ConvertCallback, EveryNTimesteps

from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import load_hyperparameters, make_model

# DIAYN does not follow the environment's reward: what it learns is tested beside it.
OURS = [algorithm for algorithm in ALGORITHMS.values() if algorithm.parent and algorithm.name != "diayn"]


def of_actions(space):
    return pytest.mark.parametrize("algorithm", [a for a in OURS if space in a.actions], ids=lambda a: a.name)


def curve(algorithm, env_id, steps, seed, evaluations=1):
    """Mean evaluation returns at even distances, the last at the end."""
    model = make_model(algorithm, env_id, load_hyperparameters(algorithm, env_id), seed=seed, device="cpu")
    evaluator, scores = Evaluator(env_id), []

    def evaluate(*_):
        scores.append(np.mean([episode.total_reward for episode in evaluator.evaluate(model)]))
        return True

    model.learn(steps, callback=EveryNTimesteps(steps // evaluations, ConvertCallback(evaluate)))
    evaluator.close()
    return scores


@pytest.mark.learning
@of_actions(spaces.Box)
def test_solves_pendulum(algorithm):
    """Median of three seeds after 6,000 steps; the published protocol is 20,000 steps."""
    scores = [curve(algorithm, "Pendulum-v1", 6_000, seed)[-1] for seed in range(3)]
    assert np.median(scores) > -250, scores


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(3))
def test_six_skills_are_told_apart_on_the_disc(seed):
    """In fresh episodes, after 4,000 of the example's 10,000 steps; guessing is right in a sixth of the states."""
    spec = importlib.util.spec_from_file_location("skills_example", Path(__file__).parents[1] / "examples" / "skills.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model = example.make(seed).learn(4_000)
    assert example.accuracy(model, example.rollouts(model, 100, seed=1000)) > 0.8


@pytest.mark.learning
@of_actions(spaces.Discrete)
def test_learns_cartpole(algorithm):
    """Median of three seeds of the best evaluation within 25,000 steps; a random policy has 22.

    The best, because with the zoo's learning rate a value-based policy comes and goes until the end.
    """
    scores = [max(curve(algorithm, "CartPole-v1", 25_000, seed, evaluations=25)) for seed in range(3)]
    assert np.median(scores) > 195, scores
