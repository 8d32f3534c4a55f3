"""Does regularisation average errors? The Garnet experiment of "Leverage the Average" (arXiv 2003.14089, appendix D).

Every iteration of every scheme sees a single sampled transition for each state and action. Plain value iteration forgets
the noise of the past and keeps that of the last sample; a KL penalty to the last policy averages it away. Run it with

    python examples/garnet.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch as th

from sb3_entropic import tabular
from sb3_entropic.tabular import Solution

COLUMNS = (25, 100, 200, 400, 800)
# Okabe and Ito's colours, told apart by colour-blind readers too.
VERMILION, ORANGE, BLUE, SKY, GREEN, PURPLE, BLACK = (
    "#D55E00",
    "#E69F00",
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#CC79A7",
    "#000000",
)


class Entry(NamedTuple):
    """A row of the table and, unless its line would lie on another's, a curve of the figure."""

    name: str
    solve: Callable[..., Solution]
    colour: str | None = None
    style: str = "-"


def entries() -> list[Entry]:
    """The schemes compared, from no averaging to all of it."""
    munchausen = lambda alpha, t: partial(tabular.munchausen_value_iteration, temperature=t, munchausen_alpha=alpha)  # noqa: E731
    return [
        Entry("AVI", tabular.value_iteration, VERMILION),
        Entry("soft VI (0.001)", partial(tabular.soft_value_iteration, temperature=0.001), ORANGE, "--"),
        Entry("M-VI α=0.5 (0.01)", munchausen(0.5, 0.01), SKY),
        Entry("M-VI α=0.9 (0.01)", munchausen(0.9, 0.01), BLUE),
        Entry("CVI α=0.9 (0.01)", partial(tabular.conservative_value_iteration, temperature=0.01, munchausen_alpha=0.9)),
        Entry("M-VI α=0.99 (0.1)", munchausen(0.99, 0.1), BLUE, "--"),
        Entry("DA-VI λ=10", partial(tabular.dual_averaging_value_iteration, kl_coef=10.0, temperature=0.0), PURPLE),
        Entry("DA-VI λ=0.1", partial(tabular.dual_averaging_value_iteration, kl_coef=0.1, temperature=0.0)),
        Entry("DPP-L (0.1)", partial(tabular.dynamic_policy_programming, temperature=0.1, soft_value="lse")),
        Entry("DPP (0.1)", partial(tabular.dynamic_policy_programming, temperature=0.1), GREEN),
        Entry("MoVI", tabular.momentum_value_iteration, BLACK, ":"),
    ]


def run(n_garnets: int, n_iterations: int, seed: int) -> tuple[list[Entry], np.ndarray, np.ndarray]:
    """Solve all Garnets at once with every scheme, each from the same sampled transitions.

    :return: the schemes, the iterations recorded and the error, mean over Garnets, ``(n_schemes, n_records)``
    """
    mdp = tabular.garnet(n_states=30, n_actions=4, branching=4, gamma=0.9, seed=seed, batch=n_garnets)
    record = [k for k in range(1, n_iterations + 1) if k < 25 or k % 25 == 0 or k == n_iterations]
    errors = []
    for entry in entries():
        generator = th.Generator().manual_seed(seed + 1)
        solution = entry.solve(mdp, n_iterations=n_iterations, generator=generator, record=record)
        errors.append(solution.errors.mean(1).numpy())
    return entries(), np.array(record), np.array(errors)


def table_of(schemes: list[Entry], record: np.ndarray, errors: np.ndarray, arguments: argparse.Namespace) -> str:
    """The error at a few iterations, as Markdown."""
    columns = [k for k in COLUMNS if k in record]
    command = f"examples/garnet.py --garnets {arguments.garnets} --iterations {arguments.iterations} --seed {arguments.seed}"
    lines = [
        "# Which schemes average errors?",
        "",
        f"Relative error of the policy, ‖q* − q_π‖₁ / ‖q*‖₁, after k iterations, mean over {arguments.garnets} Garnets",
        "(30 states, 4 actions, branching 4, gamma 0.9). Backups see one sampled transition for each state, action and",
        "iteration, the same for every scheme. In brackets the temperature. Processors round",
        "differently, so that single cells may differ by a few percent on another one.",
        f"Made by `python {command}`.",
        "",
        "| scheme | " + " | ".join(f"k = {k}" for k in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for scheme, error in zip(schemes, errors, strict=True):
        cells = (f"{error[record == k].item():.4f}" for k in columns)
        lines.append(f"| {scheme.name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "DPP-L and DA-VI at λ = 0.1 are one algorithm written in two ways; M-VI at α = 0.9 and CVI are another such pair,",
        "whose policies agree until single roundings, amplified by the sampled backups, have grown to the size of the noise",
        "(after some hundred iterations).",
        "",
    ]
    return "\n".join(lines)


def draw(schemes: list[Entry], record: np.ndarray, errors: np.ndarray, setting: str, path: Path) -> None:
    """Error against iteration on a log scale, every line labelled at its end."""
    figure, axes = plt.subplots(figsize=(8, 4.9))
    drawn = [(scheme, error) for scheme, error in zip(schemes, errors, strict=True) if scheme.colour]
    for scheme, error in drawn:
        axes.plot(record, error, scheme.style, color=scheme.colour, linewidth=1.8)
    axes.set_yscale("log")
    axes.set_xlim(0, record[-1])
    positions = spread(np.log10([error[-1] for _, error in drawn]), gap=0.052 * np.ptp(np.log10(axes.get_ylim())))
    for (scheme, error), position in zip(drawn, positions, strict=True):
        axes.annotate(
            scheme.name,
            (record[-1], error[-1]),
            (1.025 * record[-1], 10**position),
            color=scheme.colour,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": scheme.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )
    axes.set_xlabel("iteration, one sampled transition for each state and action")
    axes.set_ylabel("relative error of the policy, log scale")
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda error, _: f"{error:g}"))
    axes.set_title(
        f"A KL penalty averages sampling errors away, entropy alone does not\n{setting}; temperature in brackets",
        loc="left",
        fontsize=11,
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def spread(positions: np.ndarray, gap: float) -> np.ndarray:
    """Move label positions apart until no two are nearer than ``gap``, each group around its own mean."""
    order = np.argsort(positions, kind="stable")
    placed = positions[order].astype(float)
    for _ in range(1000):
        overlaps = gap - np.diff(placed)
        if (overlaps <= 1e-9).all():
            break
        push = np.clip(overlaps, 0, None) / 2
        placed[:-1] -= push
        placed[1:] += push
    result = np.empty_like(placed)
    result[order] = placed
    return result


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for garnet.png and garnet.md (default: runs)")
    parser.add_argument("--garnets", type=int, default=100, help="how many MDPs (default: 100)")
    parser.add_argument("--iterations", type=int, default=800, help="iterations of each scheme (default: 800)")
    parser.add_argument("--seed", type=int, default=0, help="of the MDPs and the samples (default: 0)")
    arguments = parser.parse_args(argv)
    if min(arguments.garnets, arguments.iterations) < 1:
        parser.error(f"--garnets {arguments.garnets} and --iterations {arguments.iterations} must be at least 1.")

    started = time.perf_counter()
    schemes, record, errors = run(arguments.garnets, arguments.iterations, arguments.seed)
    setting = f"Mean over {arguments.garnets} Garnets with 30 states and 4 actions"
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = table_of(schemes, record, errors, arguments)
    (arguments.out / "garnet.md").write_text(table, encoding="utf-8")
    draw(schemes, record, errors, setting, arguments.out / "garnet.png")
    print(table)
    print(f"{time.perf_counter() - started:.1f} seconds; written to {arguments.out}/garnet.png and garnet.md")


if __name__ == "__main__":
    main()
