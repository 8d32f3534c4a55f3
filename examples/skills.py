"""Skills without a reward: a point on a disc learns six ways to move, told apart by where they lead (arXiv 1802.06070).

Nothing is rewarded but that a discriminator can tell from the point's position which skill is at work. Run it with

    python examples/skills.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle

from sb3_entropic import DIAYN
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.cli import ArgumentParser, positive, seed
from sb3_entropic.zoo import constructor_arguments, load_hyperparameters

N_SKILLS = 6
STEPS_AN_EPISODE = 20
STEPS_OF_TRAINING = 10_000
# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2", "#CC79A7")


class Disc(gym.Env):
    """A point on a disc of radius 1 around the origin, where it starts; it stops at the edge. There is no reward.

    The observation is the position ``(2,)`` in radii, the action the velocity ``(2,)`` in units of :attr:`speed` radii a
    step, each within ±1.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    speed = 0.1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start near the origin."""
        super().reset(seed=seed)
        return self._move_to(self.np_random.normal(scale=0.03, size=2)), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move by the action."""
        return self._move_to(self.position + self.speed * np.clip(action, -1, 1)), 0.0, False, False, {}

    def _move_to(self, position: np.ndarray) -> np.ndarray:
        self.position = (position / max(1.0, np.linalg.norm(position))).astype(np.float32)
        return self.position.copy()


def make(seed: int) -> DIAYN:
    """A model with the hyperparameters that the package keeps for DIAYN, and a network of the problem's size."""
    arguments = constructor_arguments(ALGORITHMS["diayn"], load_hyperparameters(ALGORITHMS["diayn"], "Disc"))
    env = TimeLimit(Disc(), STEPS_AN_EPISODE)
    arguments |= {"n_skills": N_SKILLS, "policy_kwargs": {"net_arch": [64, 64]}, "device": "cpu"}
    return DIAYN("MlpPolicy", env, seed=seed, **arguments)


def rollouts(model: DIAYN, n: int, seed: int = 0) -> np.ndarray:
    """Positions of ``n`` episodes of every skill by the policy's own random actions, ``(n_skills, n, steps + 1, 2)``."""
    th.manual_seed(seed)
    envs = [Disc() for _ in range(n)]
    paths = np.zeros((N_SKILLS, n, STEPS_AN_EPISODE + 1, 2), dtype=np.float32)
    for skill in range(N_SKILLS):
        model.set_skill(skill)
        paths[skill, :, 0] = [env.reset(seed=seed + index)[0] for index, env in enumerate(envs)]
        for step in range(STEPS_AN_EPISODE):
            actions, _ = model.predict(paths[skill, :, step])
            paths[skill, :, step + 1] = [env.step(action)[0] for env, action in zip(envs, actions, strict=True)]
    return paths


def skill_probabilities(model: DIAYN, positions: np.ndarray) -> np.ndarray:
    """``q(z|s)``, ``(..., n_skills)`` for positions ``(..., 2)``."""
    with th.no_grad():
        log_q = model.discriminator(th.as_tensor(positions, dtype=th.float32).reshape(-1, 2))
    return log_q.exp().numpy().reshape(*positions.shape[:-1], N_SKILLS)


def accuracy(model: DIAYN, paths: np.ndarray) -> float:
    """The share of the states reached, from an episode's first step on, whose likeliest skill is the right one."""
    found = skill_probabilities(model, paths[:, :, 1:]).argmax(axis=-1)
    return float((found == np.arange(N_SKILLS)[:, None, None]).mean())


def draw(axes: plt.Axes, model: DIAYN, paths: np.ndarray, title: str) -> None:
    """Every skill's paths in its colour, before the regions in which the discriminator believes in it."""
    axis = np.linspace(-1.02, 1.02, 400)
    q = skill_probabilities(model, np.stack(np.meshgrid(axis, axis), axis=-1))
    # The less certain it is, the whiter: an entropy of log(n_skills) is white.
    certainty = 1 + (q * np.log(q + 1e-12)).sum(axis=-1, keepdims=True) / np.log(N_SKILLS)
    colours = np.array([to_rgb(colour) for colour in COLOURS])
    image = 1 - 0.34 * certainty * (1 - q @ colours)
    edge = Circle((0, 0), 1, facecolor="none", edgecolor="#555555", linewidth=1.2, zorder=5)
    axes.add_patch(edge)
    background = axes.imshow(image, origin="lower", extent=(-1.02, 1.02, -1.02, 1.02), interpolation="bilinear")
    background.set_clip_path(edge)
    for skill, colour in enumerate(COLOURS):
        for path in paths[skill]:
            axes.plot(*path.T, color=colour, linewidth=1.1, alpha=0.75, solid_capstyle="round", zorder=3)
        axes.scatter(*paths[skill, :, -1].T, s=16, color=colour, edgecolor="white", linewidth=0.5, zorder=6)
    axes.set_title(title, fontsize=11)
    axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
    axes.axis("off")


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for skills.png (default: runs)")
    parser.add_argument("--steps", type=positive, default=STEPS_OF_TRAINING, help="of training (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="(default: 0)")
    arguments = parser.parse_args(argv)

    started = time.perf_counter()
    figure, (before, after) = plt.subplots(1, 2, figsize=(8, 4.3), layout="constrained")
    model = make(arguments.seed)
    draw(before, model, rollouts(model, 10), "before training")
    model.learn(arguments.steps)
    paths = rollouts(model, 10)
    share = accuracy(model, rollouts(model, 100, seed=1000))
    draw(after, model, paths, f"after {arguments.steps:,} steps, discriminator accuracy {share:.1%}")
    figure.suptitle("Six skills of a point on a disc, learned without a reward", fontsize=13)
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out / "skills.png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    print(f"discriminator accuracy {share:.3f} after {arguments.steps:,} steps, seed {arguments.seed}")
    print(f"{time.perf_counter() - started:.1f} seconds; written to {arguments.out}/skills.png")


if __name__ == "__main__":
    main()
