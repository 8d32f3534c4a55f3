"""A forward pass is made once for the losses that share it."""

import torch as th

from sb3_entropic.forwards import SharedForwards


def test_a_forward_is_made_once_for_the_same_inputs_and_again_for_others():
    forwards, made = SharedForwards(), []
    one, other = th.zeros(1), th.zeros(1)
    calls = [(one,), (one,), (other,), (one, other)]
    assert [forwards.once(lambda: made.append(1) or len(made), *inputs) for inputs in calls] == [1, 1, 2, 3]


def test_a_forward_without_gradient_is_made_again_where_one_is_wanted():
    forwards, weight = SharedForwards(), th.ones(1, requires_grad=True)
    with th.no_grad():
        assert not forwards.once(lambda: 2 * weight, weight).requires_grad
    with_gradient = forwards.once(lambda: 2 * weight, weight)
    assert with_gradient.requires_grad
    with th.no_grad():
        assert forwards.once(lambda: 2 * weight, weight) is with_gradient


def test_an_input_keeps_its_identity_while_its_forward_is_kept():
    """Python gives the id of a dead object to the next: a forward must never answer for another input."""
    forwards = SharedForwards()
    seen = {forwards.once(lambda value=value: value, th.full((1,), float(value))) for value in range(100)}
    assert seen == set(range(100))
