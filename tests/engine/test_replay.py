"""Packed rows hold what SB3's buffers hold."""

import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from sb3_entropic.engine.replay import FIELDS, PackedReplay, pack

SPACES = {
    "vector": (spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,))),
    "double": (spaces.Box(-1, 1, (5,), np.float64), spaces.Box(-1, 1, (1,), np.float64)),
    "discrete": (spaces.Box(-1, 1, (4,)), spaces.Discrete(3)),
    "bytes": (spaces.Box(0, 255, (2, 3), np.uint8), spaces.Discrete(2)),
    "integers": (spaces.Box(-5, 5, (3,), np.int16), spaces.Discrete(2)),
}


def fill(buffer, n, seed):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        obs, next_obs = (np.stack([buffer.observation_space.sample() for _ in range(buffer.n_envs)]) for _ in range(2))
        action = np.stack([np.atleast_1d(buffer.action_space.sample()) for _ in range(buffer.n_envs)])
        done = rng.random(buffer.n_envs) < 0.3
        infos = [{"TimeLimit.truncated": bool(truncated)} for truncated in rng.random(buffer.n_envs) < 0.5]
        buffer.add(obs, next_obs, action, rng.random(buffer.n_envs), done, infos)


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("n_filled", [7, 23])
def test_a_batch_is_sb3s(kind, n_envs, n_filled):
    plain = [ReplayBuffer(20 * n_envs, *SPACES[kind], device="cpu", n_envs=n_envs) for _ in range(3)]
    packed = [ReplayBuffer(20 * n_envs, *SPACES[kind], device="cpu", n_envs=n_envs) for _ in range(3)]
    for space in SPACES[kind]:
        space.seed(0)
    for seed, buffer in enumerate(plain):
        fill(buffer, 5, seed)
    for theirs, ours in zip(plain, packed, strict=True):
        for field in (*FIELDS, "pos", "full"):
            setattr(ours, field, pickle.loads(pickle.dumps(getattr(theirs, field))))
    replay = PackedReplay(packed)
    for buffers in (plain, packed):
        for space in SPACES[kind]:
            space.seed(1)
        for seed, buffer in enumerate(buffers):
            fill(buffer, n_filled - 5, seed)
    np.random.seed(0)
    batch = replay.gather(np.stack([replay.draw(index, 64) for index in range(3)]))
    np.random.seed(0)
    for index, buffer in enumerate(plain):
        theirs = buffer.sample(64)
        for field in ("observations", "next_observations", "actions", "rewards"):
            assert batch[field].dtype == getattr(theirs, field).dtype
            assert th.equal(batch[field][index], getattr(theirs, field)), field
        assert th.equal(batch["dones"][index] * (1 - batch["timeouts"][index]), theirs.dones)
    assert batch["timeouts"].any()


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kind", ["vector", "double"])
@pytest.mark.parametrize("n_filled", [7, 20, 23])
def test_a_batch_of_n_step_returns_is_sb3s(kind, n_envs, n_filled):
    gammas = (0.9, 0.99, 1.0)
    made = [
        [NStepReplayBuffer(20 * n_envs, *SPACES[kind], device="cpu", n_envs=n_envs, n_steps=4, gamma=g) for g in gammas]
        for _ in range(2)
    ]
    for buffers in made:
        for space in SPACES[kind]:
            space.seed(0)
        for seed, buffer in enumerate(buffers):
            fill(buffer, n_filled, seed)
    plain, packed = made
    replay = pack(packed)
    np.random.seed(0)
    batch = replay.gather(np.stack([replay.draw(index, 64) for index in range(3)]))
    np.random.seed(0)
    for index, buffer in enumerate(plain):
        theirs = buffer.sample(64)
        for field in ("observations", "next_observations", "actions", "rewards", "discounts"):
            assert batch[field].dtype == getattr(theirs, field).dtype, field
            assert th.equal(batch[field][index], getattr(theirs, field)), field
        assert th.equal(batch["dones"][index] * (1 - batch["timeouts"][index]), theirs.dones)
    assert batch["discounts"][1].unique().numel() > 1


def test_a_packed_buffer_is_saved_alone():
    buffers = [ReplayBuffer(1000, *SPACES["vector"], device="cpu") for _ in range(4)]
    alone = len(pickle.dumps(buffers[0]))
    for buffer in buffers:
        fill(buffer, 3, 0)
    PackedReplay(buffers)
    saved = pickle.dumps(buffers[2])
    # Not four times as many; a space that has been sampled from brings its generator along.
    assert len(saved) == pytest.approx(alone, rel=0.05)
    assert np.array_equal(pickle.loads(saved).rewards, buffers[2].rewards)


def test_the_memory_of_a_row_is_stated():
    replay = PackedReplay([ReplayBuffer(10, *SPACES["vector"], device="cpu")])
    # 3 + 3 observations, 2 actions, the reward and two flags, in words of 4 bytes, and one to come out even.
    assert replay.row_bytes == 4 * 12
