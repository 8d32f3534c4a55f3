"""On a GPU a gradient step is recorded once and replayed: what it reads has to be where it was."""

from functools import partial

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_entropic.engine import replay, replay_lockstep, step
from sb3_entropic.engine.place import WARM_UP, Place, _Block
from sb3_entropic.engine.replay import PackedReplay
from sb3_entropic.train_seeds import train_together
from tests.engine.cases import CASES, STARTS, difference, in_double_precision, make

pytestmark = pytest.mark.filterwarnings("ignore:munchausen_clip")
needs_gpu = pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU that torch's CUDA can use")


class Replayed(Place):
    """A GPU's ways on the CPU: a recorded function is called as it was when recorded, and writes where it wrote then."""

    copies = True

    def __init__(self):
        self._blocks, self._calls, self._recorded = {}, {}, {}
        self.recordings = 0

    def inputs(self, name, values):
        if not values:
            return values
        return self._blocks.setdefault(name, _Block(values, th.device("cpu"))).fill(values)

    def kept(self, results):
        return th.stack(results)

    def run(self, name, function, key=None):
        calls = self._calls[name, key] = self._calls.get((name, key), 0) + 1
        if calls <= WARM_UP:
            return function()
        if name not in self._recorded or self._recorded[name][0] != key:
            self._recorded[name] = key, function, [result.clone() for result in function()]
            self.recordings += 1
            return self._recorded[name][2]
        _, recorded, results = self._recorded[name]
        for place, result in zip(results, recorded(), strict=True):
            place.copy_(result)
        return results


@pytest.fixture
def replayed(monkeypatch):
    """Let stacks on the CPU work as on a GPU; gives the places that were made."""
    places = []

    def place_of(device):
        places.append(Replayed())
        return places[-1]

    def switch_on():
        for module in (replay_lockstep, step):
            monkeypatch.setattr(module, "place_of", place_of)

    return switch_on, places


VARIANTS = [
    *((name, {}) for name in CASES),
    ("MSAC", {"use_sde": True}),
    ("MTQC", {"use_sde": True, "sde_sample_freq": 7, "n_envs": 2}),
    *((name, {"n_steps": 3, "buffer_size": 60}) for name in ("MSAC", "MDQN")),
]


@pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=str)
def test_what_is_replayed_is_what_would_be_called(name, arguments, replayed, monkeypatch):
    convert, (switch_on, places) = in_double_precision(monkeypatch), replayed
    called = convert(make(name, **arguments)).learn(STARTS + 60, log_interval=None)
    switch_on()
    model = convert(make(name, **arguments)).learn(STARTS + 60, log_interval=None)
    assert sum(place.recordings for place in places) >= 2
    assert difference(model, called) < 1e-10
    np.testing.assert_array_equal(model.replay_buffer.actions, called.replay_buffer.actions)


def test_several_gradient_steps_follow_several_environment_steps(replayed):
    switch_on, _ = replayed
    arguments = {"train_freq": 4, "gradient_steps": 3, "buffer_size": 40}
    called = make("MSAC", **arguments).learn(STARTS + 60, log_interval=None)
    switch_on()
    model = make("MSAC", **arguments).learn(STARTS + 60, log_interval=None)
    assert difference(model, called) < 1e-5
    assert model.replay_buffer.full
    for name in ("train/critic_loss", "train/actor_loss", "train/policy_entropy"):
        assert model.logger.name_to_value[name] == pytest.approx(called.logger.name_to_value[name], rel=1e-3)


def test_rows_that_do_not_fit_on_the_gpu_are_gathered_on_the_cpu(replayed, monkeypatch):
    def full(*arguments, **options):
        raise th.OutOfMemoryError("full")

    switch_on, _ = replayed
    called = make("MSAC").learn(STARTS + 20, log_interval=None)
    switch_on()
    monkeypatch.setattr(replay, "_RowsOnGpu", full)
    assert difference(make("MSAC").learn(STARTS + 20, log_interval=None), called) < 1e-5


def test_seeds_may_differ_in_their_rates(replayed):
    switch_on, _ = replayed
    rates = [{"learning_rate": 1e-3, "tau": 0.1}, {"learning_rate": lambda progress: 3e-3 * progress, "tau": 0.01}]
    alone = [make("MSAC", seed, **own).learn(STARTS + 30) for seed, own in enumerate(rates)]
    switch_on()
    makers = [partial(make, "MSAC", seed, **own) for seed, own in enumerate(rates)]
    stack, errors = train_together(makers, STARTS + 30, lambda *_: None)
    assert errors == [None, None]
    for together, single in zip(stack, alone, strict=True):
        assert difference(together, single) < 1e-5


@pytest.mark.parametrize("n_envs", [1, 2])
def test_rows_are_copied_as_they_are_written(n_envs):
    def buffer():
        return ReplayBuffer(7 * n_envs, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), device="cpu", n_envs=n_envs)

    def add(target):
        observations = np.random.rand(2, n_envs, 3).astype(np.float32)
        ends = np.random.rand(n_envs) < 0.5
        target.add(*observations, np.random.rand(n_envs, 2), np.random.rand(n_envs), ends, [{} for _ in range(n_envs)])

    buffers = [buffer(), buffer()]
    for _ in range(3):
        add(buffers[1])
    packed = PackedReplay(buffers, Replayed())
    # What is added besides what is told, as callbacks do, is copied, too, if it is less than a whole buffer.
    for added, told in ((1, 1), (1, 1), (4, 4), (0, 0), (6, 6), (5, 1), (1, 1), (7, 7), (8, 8), (6, 0), (1, 1), (15, 15)):
        for each in buffers:
            for _ in range(added):
                add(each)
        packed.wrote(told)
        rows = np.stack([packed.draw(index, 5) for index in range(2)])
        batch = packed.gather(rows)
        for index, each in enumerate(buffers):
            steps, envs = np.divmod(rows[index] - index * 7 * n_envs, n_envs)
            np.testing.assert_array_equal(batch["observations"][index], each.observations[steps, envs])
            np.testing.assert_array_equal(batch["actions"][index], each.actions[steps, envs])
            np.testing.assert_array_equal(batch["dones"][index, :, 0], each.dones[steps, envs])


def test_a_block_gives_back_what_it_is_filled_with_where_it_was():
    first = [th.arange(3), th.rand(2, 5, dtype=th.float64), th.rand(7)]
    block = _Block(first, th.device("cpu"))
    places = [tensor.data_ptr() for tensor in block.fill(first)]
    second = [th.arange(3, 6), th.rand(2, 5, dtype=th.float64), th.rand(7)]
    filled = block.fill(second)
    assert [tensor.data_ptr() for tensor in filled] == places
    for found, given in zip(filled, second, strict=True):
        th.testing.assert_close(found, given, rtol=0, atol=0)


@needs_gpu
@pytest.mark.parametrize(("name", "arguments"), VARIANTS, ids=str)
def test_a_run_on_a_gpu_is_the_run_on_the_cpu(name, arguments, monkeypatch):
    convert = in_double_precision(monkeypatch)
    on_cpu = convert(make(name, **arguments)).learn(STARTS + 60, log_interval=None)
    on_gpu = convert(make(name, device="cuda", **arguments)).learn(STARTS + 60, log_interval=None)
    assert on_gpu.engine_used == on_cpu.engine_used == "fast, not compiled"
    on_gpu.policy.cpu()
    if getattr(on_gpu, "log_ent_coef", None) is not None:
        on_gpu.log_ent_coef = on_gpu.log_ent_coef.cpu()
    # What is rounded in 32 bits all the same: the learning rates.
    assert difference(on_gpu, on_cpu) < 1e-5
    np.testing.assert_allclose(on_gpu.replay_buffer.actions, on_cpu.replay_buffer.actions, atol=1e-5)


@needs_gpu
def test_a_stack_on_a_gpu_is_its_seeds_alone_and_logs():
    seeds = [3, 5, 8]
    stack, errors = train_together([partial(make, "MSAC", seed, device="cuda") for seed in seeds], 260, lambda *_: None)
    assert errors == [None] * 3
    for seed, model in zip(seeds, stack, strict=True):
        alone = make("MSAC", seed).learn(260)
        np.testing.assert_allclose(model.replay_buffer.actions, alone.replay_buffer.actions, atol=1e-3)
        assert model.logger.name_to_value["train/critic_loss"] == pytest.approx(
            alone.logger.name_to_value["train/critic_loss"], rel=1e-2
        )
