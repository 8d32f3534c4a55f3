"""Within Adam's step numbers too small for the usual exponents are 0, and nowhere else."""

import numpy as np
import pytest
import torch as th

from sb3_entropic import MSAC
from sb3_entropic.engine.denormals import denormals_as_zero
from sb3_entropic.engine.stack import Stack

SMALL = 1e-40

pytestmark = pytest.mark.skipif(
    not th.set_flush_denormal(False), reason="this processor has no way to take denormal numbers for 0"
)


def product():
    return (th.tensor([SMALL]) * 1.0).item()


def test_they_are_zero_within_and_themselves_after():
    assert product() != 0
    with denormals_as_zero():
        assert product() == 0
        assert np.float32(SMALL) * np.float32(1) == 0
    assert product() != 0
    with pytest.raises(KeyError), denormals_as_zero():
        raise KeyError
    assert product() != 0


def test_what_was_set_before_stays_set():
    th.set_flush_denormal(True)
    try:
        with denormals_as_zero():
            assert product() == 0
        assert product() == 0
    finally:
        th.set_flush_denormal(False)


def test_moments_do_not_stay_among_them():
    model = MSAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [4]}, buffer_size=10, device="cpu")
    adam = next(optimizer for optimizer in Stack([model]).optimizers if len(optimizer.names) > 1)
    for moments in (*adam._first, *adam._second):
        moments.fill_(2 * SMALL)
    adam.count([1e-3])
    gradients = [th.zeros_like(parameter) for parameter in adam._parameters]
    adam.step(gradients, adam.steps, th.tensor([1e-3], dtype=th.float64))
    assert all((moments == 0).all() for moments in (*adam._first, *adam._second))
    assert product() != 0
