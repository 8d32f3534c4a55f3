"""Algorithms learn what they should. Minutes long: `make test-learning`."""

import numpy as np
import pytest

from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import load_hyperparameters, make_model


@pytest.mark.learning
@pytest.mark.parametrize("name", [algorithm.name for algorithm in ALGORITHMS.values() if algorithm.parent])
def test_solves_pendulum(name):
    """Median of three seeds after 6,000 steps; the published protocol is 20,000 steps."""
    algorithm, scores = ALGORITHMS[name], []
    for seed in range(3):
        hyperparameters = load_hyperparameters(algorithm, "Pendulum-v1")
        model = make_model(algorithm, "Pendulum-v1", hyperparameters, seed=seed, device="cpu").learn(6_000)
        scores.append(np.mean([episode.total_reward for episode in Evaluator("Pendulum-v1").evaluate(model)]))
    assert np.median(scores) > -250, scores
