"""``python -m sb3_entropic train``: train one model, in one short command."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_entropic import __version__
from sb3_entropic.catalog import ALGORITHMS, find_algorithm
from sb3_entropic.checks import check_gpu
from sb3_entropic.cli import ArgumentParser, Console, exit_code_of, positive, seed, show_warnings_in_one_line
from sb3_entropic.envs.registry import find_environment
from sb3_entropic.errors import UserError, is_refusal
from sb3_entropic.evaluation import Evaluator
from sb3_entropic.zoo import env_wrapper, load_hyperparameters, make_model, parse_override

DEFAULT_STEPS = 100_000

EXAMPLES = """\
examples:
  python -m sb3_entropic train --algo msac --env Pendulum-v1
  python -m sb3_entropic train --algo msac --env LunarLanderContinuous-v3 --steps 150000 --seed 1 --save lander.zip
  python -m sb3_entropic train --algo msac --env Hopper-v4 -p munchausen_alpha=0.9 -p 'munchausen_bound=[-1, 1]'

then, in Python:
  from sb3_entropic import MSAC
  model = MSAC.load("lander.zip")
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for a wrong input, 130 after Ctrl-C."""
    parser = ArgumentParser(
        prog="python -m sb3_entropic",
        description="Entropy-regularised reinforcement learning for Stable-Baselines3: train one model in one short command.",
        epilog=overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sb3_entropic {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="train")
    train = commands.add_parser(
        "train", help="train one model", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    algorithms = "; ".join(f"{a.name}: {a.summary}" for a in ALGORITHMS.values())
    train.add_argument("--algo", required=True, help=f"the algorithm ({algorithms})")
    train.add_argument("--env", required=True, help="a gymnasium id with its version, such as Hopper-v4")
    train.add_argument("--steps", type=positive, help=f"environment steps (default: the zoo's, else {DEFAULT_STEPS:,})")
    train.add_argument("--seed", type=seed, default=0, help="of networks, exploration and environment (default: 0)")
    train.add_argument("--save", type=Path, metavar="FILE", help="save the model here, also when stopped by Ctrl-C")
    train.add_argument("--tensorboard", type=Path, metavar="DIR", help="log to this folder for TensorBoard")
    train.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")
    train.add_argument("--eval-episodes", type=positive, default=10, help="episodes of the final evaluation (default: 10)")
    train.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter, over the zoo's; repeatable"
    )
    arguments = parser.parse_args(argv)
    return exit_code_of(lambda: _train(arguments))


def overview() -> str:
    """What there is besides: the algorithms, and the other commands."""
    width = max(map(len, ALGORITHMS))
    lines = [f"  {algorithm.name:{width}}  {algorithm.summary}" for algorithm in ALGORITHMS.values()]
    return "\n".join(
        [
            "algorithms:",
            *lines,
            "",
            "`python -m sb3_entropic train --help` tells what train takes. `python -m benchmarks --help`, in a clone of the",
            "repository, runs grids of seeds and compares algorithms. `python -m sb3_entropic.zoo --help` tells those of",
            "rl-baselines3-zoo with these algorithms.",
        ]
    )


def _train(arguments: argparse.Namespace) -> int:
    console = Console()
    algorithm = find_algorithm(arguments.algo)
    env_id = find_environment(arguments.env).id
    overrides = dict(parse_override(text) for text in arguments.param)
    hyperparameters = {**load_hyperparameters(algorithm, env_id, overrides), **overrides}
    check_gpu(arguments.device, f"--device {arguments.device}")
    steps = arguments.steps or hyperparameters.get("n_timesteps", DEFAULT_STEPS)
    _check_outputs(arguments)
    logs = {} if arguments.tensorboard is None else {"tensorboard_log": str(arguments.tensorboard)}
    warnings.filterwarnings("ignore", message=".*is out of date.*")
    show_warnings_in_one_line()
    model = make_model(algorithm, env_id, hyperparameters, arguments.seed, device=arguments.device, **logs)

    shown = {name: value for name, value in hyperparameters.items() if name not in ("policy", "n_timesteps")}
    settings = (
        ", ".join(f"{name}={value}" for name, value in shown.items()) or f"the defaults of {algorithm.constructor.__name__}"
    )
    console.print(
        f"[bold]{algorithm.name}[/] on [bold]{env_id}[/], {steps:,} steps, seed {arguments.seed} ({escape(settings)})"
    )
    stopped = False
    try:
        with ProgressBar.on(console) as progress:
            model.learn(steps, callback=ProgressBar(progress, steps))
        if model.num_timesteps > steps:
            console.print(f"It trained for {model.num_timesteps:,} steps: what was begun together ended together.")
    except KeyboardInterrupt:
        stopped = True
        console.print(f"Stopped by Ctrl-C after {model.num_timesteps:,} of {steps:,} steps.")
    except (ValueError, AssertionError, TypeError, AttributeError, ArithmeticError) as error:
        if model.num_timesteps or not _is_a_librarys(error):
            raise
        raise UserError(f"{algorithm.name} on {env_id}: {error}") from error
    if arguments.save is not None:
        path, statistics_file = _saved(model, arguments.save)
        console.print(f"Saved to {path}; open it with {algorithm.constructor.__name__}.load.", soft_wrap=True, markup=False)
        if statistics_file is not None:
            text = f"Its observations are normalised: open {statistics_file} with VecNormalize.load."
            console.print(text, soft_wrap=True, markup=False)
    if stopped:
        return 130
    _print_evaluation(
        console, model, Evaluator(env_id, arguments.eval_episodes, wrapper=env_wrapper(hyperparameters, evaluates=True))
    )
    return 0


def _with_ending(path: Path) -> Path:
    """Where SB3 saves a model: it gives a name without one its ending."""
    return path if path.suffix else Path(f"{path}.zip")


def _saved(model: BaseAlgorithm, path: Path) -> tuple[Path, Path | None]:
    """Save a model whole or not at all: a disk that is full, or a second Ctrl-C, leaves an earlier one as it was.

    :return: where it is, and where the statistics are that its observations are normalised by, if they are
    """
    model_file = _with_ending(path)
    # Of a name such as hopper-0.5 nothing is an ending.
    name = model_file.name.removesuffix(".zip")
    statistics_file = model_file.with_name(f"{name}.vecnormalize.pkl")
    normalize = model.get_vec_normalize_env()
    with TemporaryDirectory(prefix=".saving-", dir=path.parent) as folder:
        unfinished = {model_file: Path(folder, "model" + model_file.suffix)}
        model.save(unfinished[model_file])
        if normalize is not None:
            unfinished[statistics_file] = Path(folder, "statistics.pkl")
            normalize.save(str(unfinished[statistics_file]))
        for final, file in unfinished.items():
            # What a link points to is meant.
            shutil.move(file, final.resolve())
    return model_file, None if normalize is None else statistics_file


def _is_a_librarys(error: Exception) -> bool:
    """Whether a library has raised it, which refuses some settings only when learning begins, and not an environment."""
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return is_refusal(error) and not any(name.startswith("stable_baselines3.common.vec_env") for name in modules)


def _check_outputs(arguments: argparse.Namespace) -> None:
    if arguments.save is not None:
        if (folder := arguments.save).is_dir() or (folder := _with_ending(arguments.save)).is_dir():
            example = folder / "model.zip"
            raise UserError(f"--save {arguments.save}: {folder} is a folder: name a file in it, such as {example}.")
        if not arguments.save.parent.is_dir():
            raise UserError(f"--save {arguments.save}: the folder {arguments.save.parent} does not exist.")
        if not os.access(arguments.save.parent, os.W_OK):
            raise UserError(f"--save {arguments.save}: the folder {arguments.save.parent} cannot be written.")
    if arguments.tensorboard is not None:
        if arguments.tensorboard.is_file():
            raise UserError(f"--tensorboard {arguments.tensorboard} is a file: name a folder.")
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise UserError("--tensorboard needs the tensorboard package: run `pip install tensorboard`.") from None
        try:
            arguments.tensorboard.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--tensorboard {arguments.tensorboard} cannot be made: {error.strerror}.") from None
        if not os.access(arguments.tensorboard, os.W_OK):
            raise UserError(f"--tensorboard {arguments.tensorboard} cannot be written.")


def _print_evaluation(console: Console, model: BaseAlgorithm, evaluator: Evaluator) -> None:
    returns = [episode.total_reward for episode in evaluator.evaluate(model)]
    evaluator.close()
    spread = f" +- {statistics.stdev(returns):.1f}" if len(returns) > 1 else ""
    console.print(
        f"Return [bold]{statistics.mean(returns):.1f}[/]{spread} over {len(returns)} episodes, deterministic policy."
    )


class ProgressBar(BaseCallback):
    """A bar with the steps done, their rate, the time left and the mean return of the last episodes.

    :param progress: from :meth:`on`
    :param total: environment steps of the run
    """

    def __init__(self, progress: Progress, total: int):
        super().__init__()
        self._progress = progress
        self._task = progress.add_task("training", total=total, rate="", episodes="")
        self._total = total
        self._next_update = 0

    @staticmethod
    def on(console: Console) -> Progress:
        """The display to enter as a context."""
        columns: list[Any] = [BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TextColumn("{task.fields[rate]}")]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[episodes]}")]
        return Progress(*columns, console=console)

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next_update:
            self._next_update = self.num_timesteps + 20
            returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
            speed = self._progress.tasks[self._task].speed
            self._progress.update(
                self._task,
                completed=min(self.num_timesteps, self._total),
                rate=f"{speed:,.0f}/s" if speed else "",
                episodes=f"return {statistics.mean(returns):,.1f}" if returns else "",
            )
        return True

    def _on_training_end(self) -> None:
        self._progress.update(self._task, completed=min(self.num_timesteps, self._total))


if __name__ == "__main__":
    sys.exit(main())
