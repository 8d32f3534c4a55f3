"""The four-goal world pays what its docstring says, favours no goal and can be repeated."""

import importlib
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sb3_entropic.envs
from sb3_entropic.envs.multigoal import GOALS, MAX_EPISODE_STEPS, MultiGoal
from sb3_entropic.envs.registry import find_environment
from sb3_entropic.errors import UserError


def play(env, action, seed=0):
    """An episode of one action: its rewards, and what its last step returned."""
    env.reset(seed=seed)
    rewards, over = [], False
    while not over:
        *last, terminated, truncated, info = env.step(np.asarray(action, dtype=np.float32))
        rewards.append(last[1])
        over = terminated or truncated
    return rewards, last[0], terminated, info


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_gymnasium_has_nothing_to_say(render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("MultiGoal-v0", render_mode=render_mode).unwrapped)


def test_importing_twice_registers_once():
    spec = gym.spec("MultiGoal-v0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(sb3_entropic.envs)
    assert gym.spec("MultiGoal-v0") is spec
    assert spec.max_episode_steps == MAX_EPISODE_STEPS == 30
    assert find_environment("MultiGoal").id == "MultiGoal-v0"


def test_gymnasium_finds_it_by_the_modules_name():
    code = "import gymnasium; print(gymnasium.make('sb3_entropic.envs:MultiGoal-v0').spec.id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MultiGoal-v0"


@pytest.mark.parametrize("goal", range(4))
def test_every_goal_is_the_same_walk_away(goal):
    env = gym.make("MultiGoal-v0", start_std=0)
    rewards, position, terminated, info = play(env, 0.75 * GOALS[goal] / 5)
    # After k steps, at 0.75 k: 30 * 0.75^2 + (5 - 0.75 k)^2, until nearer than 1.
    distances = [5 - 0.75 * k for k in range(1, 7)]
    expected = [-30 * 0.75**2 - distance**2 for distance in distances]
    assert rewards == pytest.approx([*expected[:-1], expected[-1] + 10])
    assert terminated
    assert info["goal"] == goal
    assert np.allclose(position, 0.9 * GOALS[goal])


def test_a_goal_begins_at_its_radius():
    env = gym.make("MultiGoal-v0", start_std=0)
    env.reset(seed=0)
    for expected in (False, False, False, False, True):
        _, _, terminated, _, info = env.step(np.array([0.0, -0.81 if not expected else -0.77], dtype=np.float32))
        assert terminated is expected
        assert info["goal"] == (3 if expected else -1)


def test_who_stands_still_runs_out_of_time():
    rewards, _, terminated, info = play(gym.make("MultiGoal-v0", start_std=0), [0, 0])
    assert rewards == [-25.0] * MAX_EPISODE_STEPS
    assert not terminated
    assert info["goal"] == -1


def test_actions_and_positions_are_limited():
    env = MultiGoal(start_std=0)
    env.reset(seed=0)
    _, reward, *_ = env.step(np.array([9.0, -9.0], dtype=np.float32))
    assert reward == pytest.approx(-30 * 2 - (16 + 1))
    for _ in range(9):
        position, *_ = env.step(np.array([1.0, -1.0], dtype=np.float32))
    assert env.observation_space.contains(position)
    assert np.array_equal(position, [7, -7])


def test_a_seed_decides_the_start():
    env = MultiGoal()
    starts = np.array([env.reset(seed=seed)[0] for seed in range(500)])
    assert np.array_equal(starts[7], MultiGoal().reset(seed=7)[0])
    assert starts.std() == pytest.approx(0.1, rel=0.1)
    assert not np.array_equal(env.reset()[0], env.reset()[0])


def test_an_image_shows_goals_and_the_path():
    env = MultiGoal("rgb_array", start_std=0)
    env.reset(seed=0)
    centre, east = (env.size // 2, env.size // 2), (env.size // 2, int(env.size * (7 + 1) / 14))
    before = env.render()
    env.step(np.array([1, 0], dtype=np.float32))
    after = env.render()
    assert before.shape == (256, 256, 3)
    assert before[centre][0] > 2 * before[centre][2], "red where the point is"
    assert (before[east] == 255).all()
    assert after[east][0] > 2 * after[east][2]
    assert np.array_equal(before[::-1], before), "four goals, alike"
    assert np.array_equal(before.transpose(1, 0, 2), before)
    assert MultiGoal().render() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"render_mode": "human"}, "render_mode='human' is not"), ({"start_std": -1}, "start_std=-1 is below 0")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        MultiGoal(**arguments)
