"""Four goals at equal distances: which policies keep all four ways open?

A point starts in the middle of MultiGoal-v0 and may go to any of four goals, all equally good. What entropy is worth keeps
the ways open: soft Q-learning's sampler can have a mode for each, a Gaussian policy a width that covers them, a deterministic
policy has one action. Every algorithm is trained once and then plays the same number of episodes from the very same start.
Run it with

    python examples/multigoal.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch as th
from matplotlib.collections import LineCollection
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.noise import NormalActionNoise

from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.cli import ArgumentParser, positive, seed
from sb3_entropic.envs.multigoal import GOAL_RADIUS, GOALS, MAX_EPISODE_STEPS
from sb3_entropic.zoo import constructor_arguments, load_hyperparameters, make_model

ENV = "MultiGoal-v0"
# Okabe and Ito's colours, told apart by colour-blind readers too: east, north, west, south, and no goal at all.
COLOURS = ("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#999999")
INK, PAPER = "#333333", "white"
EDGE = 6.4
WIDTH = 1600
"""Pixels of the picture and the animation."""
RESOLUTION = 80
"""Of the landscapes, points along an edge."""
FRAMES_A_STEP = 3
TRAIL = 4
"""Steps that stay visible behind a moving point."""


class Entry(NamedTuple):
    """A panel of the picture."""

    title: str
    algorithm: str
    arguments: dict[str, Any]


class Rollouts(NamedTuple):
    """Episodes of one policy."""

    paths: np.ndarray
    """Positions ``(n_episodes, MAX_EPISODE_STEPS + 1, 2)``; a finished episode stays where it is."""
    goals: np.ndarray
    """What each reached, an index of ``GOALS`` or -1, ``(n_episodes,)``."""
    lengths: np.ndarray
    """Steps of each."""

    def counts(self) -> list[int]:
        """How many episodes reached each goal."""
        return [int((self.goals == goal).sum()) for goal in range(len(GOALS))]


Result = tuple[Entry, Rollouts, np.ndarray]
"""An entry, its episodes and its landscape."""


def entries() -> list[Entry]:
    """The policies compared, from much entropy to none."""
    return [
        Entry("SoftQ, temperature 8", "softq", {"ent_coef": 8.0}),
        Entry("SAC, temperature 8", "sac", {"ent_coef": 8.0}),
        Entry("SAC, temperature 1", "sac", {"ent_coef": 1.0}),
        Entry("SAC, temperature 0.1", "sac", {"ent_coef": 0.1}),
        Entry("TD3", "td3", {}),
    ]


def make(entry: Entry, seed: int) -> BaseAlgorithm:
    """The model of an entry, with the zoo's hyperparameters for this world: SAC's, and for TD3 SAC's too."""
    if entry.algorithm == "td3":
        shared = constructor_arguments(ALGORITHMS["sac"], load_hyperparameters(ALGORITHMS["sac"], ENV))
        noise = NormalActionNoise(np.zeros(2), 0.1 * np.ones(2))
        return TD3("MlpPolicy", ENV, action_noise=noise, seed=seed, device="cpu", **shared)
    algorithm = ALGORITHMS[entry.algorithm]
    return make_model(algorithm, ENV, {**load_hyperparameters(algorithm, ENV), **entry.arguments}, seed=seed, device="cpu")


def roll_out(model: BaseAlgorithm, episodes: int, seed: int) -> Rollouts:
    """Episodes of the stochastic policy, each from the origin itself."""
    th.manual_seed(seed)
    env = gym.make(ENV, start_std=0.0)
    paths = np.zeros((episodes, MAX_EPISODE_STEPS + 1, 2))
    goals, lengths = np.full(episodes, -1), np.full(episodes, MAX_EPISODE_STEPS)
    for episode in range(episodes):
        position, info = env.reset(seed=seed)
        for step in range(1, MAX_EPISODE_STEPS + 1):
            action, _ = model.predict(position, deterministic=False)
            position, _, terminated, truncated, info = env.step(action)
            paths[episode, step:] = position
            if terminated or truncated:
                goals[episode], lengths[episode] = info["goal"], step
                break
    return Rollouts(paths, goals, lengths)


def landscape(model: BaseAlgorithm) -> np.ndarray:
    """``max_a min_i Q_i(s, a)`` over a grid of actions, at a grid of positions, ``(RESOLUTION, RESOLUTION)``."""
    edge, actions = th.linspace(-EDGE, EDGE, RESOLUTION), th.cartesian_prod(*[th.linspace(-1, 1, 9)] * 2)
    states = th.cartesian_prod(edge, edge).flip(1)
    with th.no_grad():
        pairs = states.repeat_interleave(len(actions), 0), actions.repeat(len(states), 1)
        values = th.stack(model.critic(*pairs)).amin(0)
    return values.reshape(RESOLUTION, RESOLUTION, len(actions)).amax(-1).numpy()


class Panel:
    """One policy's episodes over the contours of what its critics have learned."""

    def __init__(self, axes: plt.Axes, entry: Entry, rollouts: Rollouts, values: np.ndarray):
        self.axes, self.entry, self.rollouts = axes, entry, rollouts
        self.colours = np.array([matplotlib.colors.to_rgba(COLOURS[goal]) for goal in rollouts.goals])
        grid = np.linspace(-EDGE, EDGE, RESOLUTION)
        # What lies in the corners, where nobody walks, is not worth the shades.
        levels = np.linspace(np.quantile(values, 0.1), values.max(), 12)
        axes.contourf(grid, grid, values, levels=levels, cmap=LANDSCAPE, extend="min", zorder=0)
        axes.contour(grid, grid, values, levels=levels, colors=PAPER, linewidths=0.5, linestyles="solid", zorder=1)
        axes.plot(0, 0, "o", color=INK, markersize=3.5, zorder=4)
        for position, colour in zip(GOALS, COLOURS, strict=False):
            axes.add_patch(plt.Circle(position, GOAL_RADIUS, facecolor=PAPER, edgecolor=colour, linewidth=2, zorder=3))
        self.counts = [
            axes.text(*position, "", ha="center", va="center", fontsize=9.5, fontweight="bold", color=colour, zorder=4)
            for position, colour in zip(GOALS, COLOURS, strict=False)
        ]
        axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
        self.lines = LineCollection([], linewidths=1.0, capstyle="round", zorder=2)
        axes.add_collection(self.lines)
        self.points = axes.scatter([], [], s=14, linewidths=0, zorder=5)

    def show(self, time: float, trail: float) -> None:
        """Draw the episodes at a time between two steps, with a trail of so many steps."""
        rollouts = self.rollouts
        ends = np.minimum(time, rollouts.lengths)
        starts = np.clip(time - trail, 0, ends)
        self.lines.set_segments([self._path(index, a, b) for index, (a, b) in enumerate(zip(starts, ends, strict=True))])
        self.lines.set_colors(self.colours * [1, 1, 1, 0.55])
        moving = rollouts.lengths > time
        self.points.set_offsets(np.array([self._at(index, ends[index]) for index in np.flatnonzero(moving)]).reshape(-1, 2))
        self.points.set_facecolors(self.colours[moving])
        arrived = np.where(rollouts.lengths <= time, rollouts.goals, -1)
        for goal, text in enumerate(self.counts):
            text.set_text(str(int((arrived == goal).sum())))

    def title(self) -> None:
        """The final count above the panel."""
        reached = sum(count > 0 for count in self.rollouts.counts())
        text = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "bottom", "color": INK}
        self.axes.annotate(self.entry.title, (0.5, 1), (0, 20), fontsize=11, **text)
        self.axes.annotate(f"{reached} of {len(GOALS)} goals", (0.5, 1), (0, 4), fontsize=12, fontweight="bold", **text)

    def _at(self, episode: int, time: float) -> np.ndarray:
        before = int(time)
        path = self.rollouts.paths[episode]
        after = min(before + 1, len(path) - 1)
        return path[before] + (time - before) * (path[after] - path[before])

    def _path(self, episode: int, start: float, end: float) -> np.ndarray:
        whole = self.rollouts.paths[episode][int(np.ceil(start)) : int(np.floor(end)) + 1]
        return np.vstack([self._at(episode, start), whole, self._at(episode, end)])


def figure_of(results: list[Result]) -> tuple[plt.Figure, list[Panel]]:
    """The panels side by side."""
    n = len(results)
    figure, axes = plt.subplots(1, n, figsize=(10, 10 / n + 0.55), squeeze=False)
    figure.subplots_adjust(left=0.004, right=0.996, bottom=0.01, top=1 - 0.53 / (10 / n + 0.55), wspace=0.03)
    panels = [Panel(ax, *result) for ax, result in zip(axes[0], results, strict=True)]
    for panel in panels:
        panel.title()
    return figure, panels


def draw(results: list[Result], path: Path) -> None:
    """Whole paths and final counts."""
    figure, panels = figure_of(results)
    for panel in panels:
        panel.show(MAX_EPISODE_STEPS, trail=MAX_EPISODE_STEPS)
    figure.savefig(path, dpi=WIDTH / 10, metadata={"Software": None})
    plt.close(figure)


def animate(results: list[Result], path: Path) -> None:
    """Points that walk with fading trails, then the picture of :func:`draw`."""
    figure, panels = figure_of(results)
    figure.set_dpi(WIDTH / 10)
    last = max(int(rollouts.lengths[rollouts.goals >= 0].max(initial=1)) for _, rollouts, _ in results)
    images = []
    for time_ in np.arange(0, min(last + 1, MAX_EPISODE_STEPS) + 1e-9, 1 / FRAMES_A_STEP):
        images.append(_image(figure, panels, time_, TRAIL))
    images.append(_image(figure, panels, MAX_EPISODE_STEPS, MAX_EPISODE_STEPS))
    plt.close(figure)
    # One palette for all, and no dithering: what does not move stays the same and costs nothing.
    palette = images[-1].quantize(256, kmeans=2, dither=Image.Dither.NONE)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [60] * (len(frames) - 1) + [3000]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


def _image(figure: plt.Figure, panels: list[Panel], time_: float, trail: float) -> Image.Image:
    for panel in panels:
        panel.show(time_, trail)
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


LANDSCAPE = matplotlib.colors.LinearSegmentedColormap.from_list("landscape", ["#d3dce5", "#eef2f6", "#ffffff"])


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for multigoal.png and .gif (default: runs)")
    parser.add_argument("--steps", type=positive, default=20_000, help="environment steps of each training (default: 20,000)")
    parser.add_argument("--episodes", type=positive, default=100, help="episodes drawn of each policy (default: 100)")
    parser.add_argument("--seed", type=seed, default=0, help="of the networks, the exploration and the episodes (default: 0)")
    arguments = parser.parse_args(argv)

    started, results = time.perf_counter(), []
    columns = (TextColumn("{task.description:24}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for entry in entries():
            task = progress.add_task(entry.title, total=arguments.steps)
            model = make(entry, arguments.seed)
            model.learn(arguments.steps, callback=ConvertCallback(lambda *_, t=task: progress.advance(t) or True))
            results.append((entry, roll_out(model, arguments.episodes, arguments.seed), landscape(model)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(results, arguments.out / "multigoal.png")
    animate(results, arguments.out / "multigoal.gif")
    for entry, rollouts, _ in results:
        east, north, west, south = rollouts.counts()
        print(f"{entry.title:22} east {east:3}  north {north:3}  west {west:3}  south {south:3}  of {arguments.episodes}")
    print(f"{time.perf_counter() - started:.0f} seconds; written to {arguments.out}/multigoal.png and multigoal.gif")


if __name__ == "__main__":
    main()
