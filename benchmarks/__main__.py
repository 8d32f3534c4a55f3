"""``python -m benchmarks``: run a seed grid, report on it, measure speed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from sb3_entropic.catalog import ALGORITHMS, check_environment, find_algorithm, find_environment
from sb3_entropic.cli import ArgumentParser, positive
from sb3_entropic.errors import UserError

if TYPE_CHECKING:
    from benchmarks.executors import Pace
    from benchmarks.plan import Plan, RunSpec
    from benchmarks.store import Store

DEFAULT_OUT = Path("runs")

EXAMPLES = """\
examples:
  python -m benchmarks run --env Hopper-v4
  python -m benchmarks run --env Hopper-v4,Walker2d-v4 --algos msac,sac,tqc --seeds 10 --steps 1000000
  python -m benchmarks run --env Pendulum-v1 --algos msac -p munchausen_alpha=0.9
  python -m benchmarks report --out runs
  python -m benchmarks speed

A run that is finished is never run again: call the same command after an interruption and it continues.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    :return: 0; 1 if a run failed; 2 for a wrong input; 130 after Ctrl-C
    """
    warnings.filterwarnings("ignore")
    arguments = _parser().parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else argv
    console = Console()
    try:
        return arguments.command(arguments, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in ("pandas", "pyarrow", "rliable", "matplotlib", "scipy"):
            raise
        print(f"error: {error.name} is missing, run `pip install -e '.[benchmark]'`", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Seed grids of entropy-regularised algorithms beside their Stable-Baselines3 parents.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{run,report,speed}")

    def command(name: str, function: object, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=summary, description=summary, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.set_defaults(command=function)
        return sub

    run = command("run", _run, "run a seed grid and print its leaderboard")
    run.add_argument("--env", required=True, help="environment ids with their versions, separated by commas")
    algorithms = "; ".join(f"{a.name}: {a.summary}" for a in ALGORITHMS.values())
    run.add_argument("--algos", help=f"algorithms, separated by commas (default: the protocol's); {algorithms}")
    run.add_argument("--budget", default="short", help="smoke, short (about an hour on two cores, the default) or full")
    run.add_argument("--seeds", type=positive, help="number of seeds (default: the budget's)")
    run.add_argument("--steps", type=positive, help="environment steps of a run (default: the budget's)")
    run.add_argument("--workers", type=positive, help="runs at a time, one thread each (default: the number of cores)")
    run.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="[ALGO.]NAME=VALUE",
        help="a hyperparameter, over the zoo's, of one algorithm or of all; repeatable",
    )
    run.add_argument(
        "--fresh", action="store_true", help="run again what is finished; each record is replaced when its run has finished"
    )
    run.add_argument("--retry-failed", action="store_true", help="run again what failed")
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    report = command("report", _report, "print and write the leaderboards of every run in a folder")
    report.add_argument("--env", help="these environments only, separated by commas")
    for sub in (run, report):
        sub.add_argument("--out", type=Path, default=DEFAULT_OUT, help="the folder of runs (default: runs)")
    speed = command("speed", _speed, "training speed beside Stable-Baselines3's, alternating in one process")
    speed.add_argument("--env", default="Hopper-v4", help="environment id (default: Hopper-v4)")
    speed.add_argument("--rounds", type=positive, default=20, help="times each system is measured (default: 20)")
    speed.add_argument("--steps", type=positive, default=200, help="environment steps each time (default: 200)")
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.executors import run_locally
    from benchmarks.plan import make_plan
    from benchmarks.store import Store

    store = Store(arguments.out)
    plan = make_plan(
        envs=_names(arguments.env, "--env"),
        algos=None if arguments.algos is None else _names(arguments.algos, "--algos"),
        budget=arguments.budget,
        seeds=arguments.seeds,
        steps=arguments.steps,
        overrides=arguments.param,
        workers=arguments.workers or _cores(),
    )
    _print_plan(plan, store, arguments, console)
    if arguments.dry_run:
        return 0
    command = shlex.join(["python", "-m", "benchmarks", *_without_folder(arguments.words)])
    store.write_plan(plan, command)
    outcome = run_locally(plan, store, console, command, arguments.fresh, arguments.retry_failed)
    done = len(outcome.finished) + len(outcome.kept)
    if outcome.interrupted:
        console.print(f"Stopped: {done} of {len(plan.runs)} runs are finished and kept; {_continue(arguments)}")
        return 130
    _write_and_show(store, plan.experiments, console)
    if outcome.failed:
        option = "ARGS=--retry-failed" if "MAKELEVEL" in os.environ else "--retry-failed"
        console.print(f"[red]{len(outcome.failed)} of {len(plan.runs)} runs failed[/]; {option} runs them again.")
    return 1 if outcome.failed else 0


def _without_folder(words: list[str]) -> list[str]:
    """The call without ``--out``: a folder of the user's machine determines no number."""
    kept = [word for word, before in zip(words, ["", *words[:-1]], strict=True) if before != "--out"]
    return [word for word in kept if word != "--out" and not word.startswith("--out=")]


def _continue(arguments: argparse.Namespace) -> str:
    return "the same command without --fresh continues." if arguments.fresh else "the same command continues."


def _report(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.store import Store

    store = Store(arguments.out)
    experiments = {(record["spec"]["env"], record["spec"]["steps"]) for record in store.records()}
    if not experiments:
        raise UserError(f"There are no runs in {arguments.out}: `python -m benchmarks run --env Pendulum-v1` makes some.")
    if arguments.env is not None:
        wanted = {find_environment(name).unwrapped.spec.id for name in _names(arguments.env, "--env")}
        if missing := wanted - {env for env, _ in experiments}:
            there = ", ".join(sorted({env for env, _ in experiments}))
            raise UserError(f"There are no runs of {', '.join(sorted(missing))} in {arguments.out}, only of {there}.")
        experiments = {(env, steps) for env, steps in experiments if env in wanted}
    _write_and_show(store, experiments, console)
    return 0


def _speed(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.speed import measure_speed, speed_table

    env_id = check_environment(arguments.env, find_algorithm("msac"))
    console.print(speed_table(env_id, measure_speed(env_id, arguments.rounds, arguments.steps, console)))
    return 0


def _write_and_show(store: Store, experiments: set[tuple[str, int]], console: Console) -> None:
    from benchmarks.report import build_leaderboards, show, write_report

    boards = build_leaderboards(store)
    for board in boards:
        if (board.env, board.steps) in experiments:
            show(board, console)
    written = write_report(boards, store.out / "report")
    console.print("Written: " + ", ".join(str(path) for path in written), highlight=False, soft_wrap=True)


def _print_plan(plan: Plan, store: Store, arguments: argparse.Namespace, console: Console) -> None:
    from benchmarks.executors import measure_paces
    from benchmarks.plan import BUDGETS

    todo = [spec for spec in plan.runs if arguments.fresh or not store.is_finished(spec)]
    kept = len(plan.runs) - len(todo)
    kinds = {spec.group: spec for spec in plan.runs}
    for env, steps in sorted(plan.experiments):
        members = [spec for spec in plan.runs if (spec.env, spec.steps) == (env, steps)]
        labels = ", ".join(dict.fromkeys(spec.label for spec in members))
        seeds = len({spec.seed for spec in members})
        console.print(
            f"[bold]{env}[/]: {escape(labels)}; {seeds} seeds of {steps:,} steps, {members[0].evaluations} evaluations"
        )
    for spec in kinds.values():
        changed = {name: value for name, value in spec.hyperparameters.items() if name != "policy"}
        settings = ", ".join(f"{name}={value}" for name, value in changed.items()) or "the defaults of its class"
        console.print(f"  {spec.label} on {spec.env}: {settings} ({spec.package})", style="dim", highlight=False, markup=False)
    resumed = f", {kept} of them finished before" if kept else ""
    console.print(
        f"{len(plan.runs)} runs{resumed}; {sum(spec.steps for spec in todo):,} steps to go, {plan.workers} at a time"
    )
    if todo and not arguments.dry_run:
        console.print(_estimate(plan, todo, measure_paces(plan, todo, console)), highlight=False)
    for budget in BUDGETS:
        if budget != plan.budget:
            line = f"  {budget}: {_command(arguments, budget)}  ({BUDGETS[budget]})"
            console.print(line, style="dim", highlight=False, soft_wrap=True)


def _estimate(plan: Plan, todo: list[RunSpec], paces: dict[str, Pace]) -> str:
    if not all(spec.group in paces for spec in todo):
        return "Estimated time: unknown, a run is too short to measure (or fails: then its record will say why)."
    at_once = min(plan.workers, len(todo))
    training = sum(spec.steps / paces[spec.group].steps_per_second for spec in todo) / at_once / 3600
    evaluations = sum(paces[spec.group].evaluation_seconds for spec in todo) / at_once / 3600
    labels = {spec.group: spec.label for spec in todo}
    speeds = ", ".join(f"{escape(labels[group])} {pace.steps_per_second:,.0f} steps/s" for group, pace in paces.items())
    return f"Estimated time: [bold]{_duration(training)}[/], and at most {_duration(evaluations)} of evaluations ({speeds})"


def _command(arguments: argparse.Namespace, budget: str) -> str:
    """The call that runs another budget, with its own seeds and steps, in the words the user used: make's or Python's."""
    kept = {"algos": arguments.algos, "workers": arguments.workers, "out": arguments.out}
    kept = {name: str(value) for name, value in kept.items() if value is not None and value != DEFAULT_OUT}
    parameters = [word for text in arguments.param for word in ("-p", text)]
    if "MAKELEVEL" in os.environ:
        words = [f"{name.upper()}={shlex.quote(value)}" for name, value in kept.items()]
        words += [f"ARGS={shlex.quote(shlex.join(parameters))}"] if parameters else []
        return " ".join([f"make benchmark ENV={shlex.quote(arguments.env)} BUDGET={budget}", *words])
    words = [word for name, value in kept.items() for word in (f"--{name}", value)] + parameters
    return shlex.join(["python", "-m", "benchmarks", "run", "--env", arguments.env, "--budget", budget, *words])


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours > 1 / 40 else "about a minute"


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{option} is empty: name at least one, separated by commas.")
    return names


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
