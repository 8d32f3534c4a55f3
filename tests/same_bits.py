"""Comparison of two trained models."""

import torch as th


def same_bits(ours, theirs):
    """Every tensor a saved model would hold, the optimisers' moments included."""
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            same_bits(value, theirs[key])
        elif isinstance(value, th.Tensor):
            assert th.equal(value, theirs[key]), key
