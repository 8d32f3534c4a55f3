"""``python -m benchmarks``: run a seed grid, report on it, compare two, look into single runs, measure speed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.cases import CASES, PEERS, choose
from sb3_entropic.catalog import ALGORITHMS, find_environment
from sb3_entropic.cli import ArgumentParser, Console, amount, exit_code_of, positive, show_warnings_in_one_line
from sb3_entropic.engine.gemm import MATRIX_LIBRARIES
from sb3_entropic.engine.support import DEVICES
from sb3_entropic.errors import UserError, nearest

if TYPE_CHECKING:
    from benchmarks.executors import Executor
    from benchmarks.store import Store

CHECKPOINT_SECONDS = 300
PAGE, VERDICTS = "index.html", "does-it-help"
DEFAULT_OUT, DEFAULT_RESULTS, DEFAULT_SPEED_OUT = Path("runs"), Path("results"), Path("runs/speed")

EXAMPLES = """\
examples:
  python -m benchmarks run --env Hopper-v4
  python -m benchmarks run --env Hopper-v4,Walker2d-v4 --algos msac,sac,tqc --seeds 10 --steps 1000000
  python -m benchmarks run --env Pendulum-v1 --algos msac -p munchausen_alpha=0.9
  python -m benchmarks run --env Pendulum-v1 --algos msac --grid munchausen_alpha=0,0.5,0.9
  python -m benchmarks run --env MyEnv-v0 --import my_envs --algos sac,my_algos:MySAC --hyperparameters mine.yml
  python -m benchmarks report --out runs
  python -m benchmarks export results/mine --out runs
  python -m benchmarks restore results/mine --out runs
  python -m benchmarks leaderboard
  python -m benchmarks compare runs-before runs-after
  python -m benchmarks compare runs:dqn runs:mdqn
  python -m benchmarks plot runs/Hopper-v4/*/*/seed-0
  python -m benchmarks speed --cases msac-hopper,scaling

Call the same command after an interruption and it continues: a run that is finished is never run again, and one that was
under way goes on from its last checkpoint.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    :return: 0; 1 if a run failed, or what is compared got worse; 2 for a wrong input; 130 after Ctrl-C
    """
    warnings.filterwarnings("ignore")
    show_warnings_in_one_line()
    arguments = _parser().parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else argv
    console = Console()
    try:
        return exit_code_of(lambda: arguments.command(arguments, console))
    except ModuleNotFoundError as error:
        if error.name in ("fcntl", "resource"):
            print("error: the harness needs Linux or macOS; on Windows it runs in WSL.", file=sys.stderr)
            return 2
        if error.name not in ("pandas", "pyarrow", "matplotlib", "jinja2", "markdown_it", "plotly", "ray"):
            raise
        extra = "ray" if error.name == "ray" else "benchmark"
        print(f"error: {error.name} is missing, run `pip install -e '.[{extra}]'`", file=sys.stderr)
        return 2
    except OSError as error:
        # Such as a full disk.
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Seed grids of entropy-regularised algorithms beside their Stable-Baselines3 parents.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{run,report,export,restore,leaderboard,compare,plot,speed}")

    def command(name: str, function: object, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=summary, description=summary, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.set_defaults(command=function)
        return sub

    run = command("run", _run, "run a seed grid and print its leaderboard")
    run.add_argument("--env", required=True, help="environment ids with their versions, separated by commas")
    algorithms = "; ".join(f"{a.name}: {a.summary}" for a in ALGORITHMS.values())
    run.add_argument(
        "--algos",
        help=f"algorithms, separated by commas (default: the protocol's); module:Class is one of your own; {algorithms}",
    )
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
        "--grid",
        action="append",
        default=[],
        metavar="[ALGO.]NAME=VALUE,VALUE",
        help="a sweep: an experiment for each value of a hyperparameter; given several times, for each combination",
    )
    run.add_argument(
        "--hyperparameters",
        type=Path,
        metavar="FILE",
        help="YAML of hyperparameters that go over the zoo's: algorithm, below it an environment id or default, below that "
        "name: value",
    )
    run.add_argument(
        "--import", dest="modules", metavar="MODULE", help="modules to import first, such as those that register environments"
    )
    run.add_argument(
        "--fresh", action="store_true", help="run again what is finished; each record is replaced when its run has finished"
    )
    run.add_argument("--retry-failed", action="store_true", help="run again what failed")
    run.add_argument(
        "--stack",
        type=_stack,
        default="auto",
        metavar="N|auto",
        help="seeds of one experiment that are trained together, where the algorithm can be (default: as is soonest done)",
    )
    run.add_argument(
        "--matrix-library",
        choices=MATRIX_LIBRARIES,
        default="auto",
        help="auto: oneDNN multiplies matrices where it is faster and as exact, for every algorithm alike; torch: never; "
        "bf16: the inputs of products are rounded to 16 bits, faster where the processor has such instructions; tf32: to "
        "TF32, on a GPU. Runs with rounded inputs are experiments of their own (default: auto)",
    )
    run.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="where networks are trained, but for on-policy algorithms', which stay on the CPU; a GPU pays most for stacks of "
        "many seeds (default: cpu)",
    )
    run.add_argument(
        "--checkpoint-every",
        type=positive,
        default=CHECKPOINT_SECONDS,
        metavar="SECONDS",
        help="between checkpoints of a run, from which it goes on if it is interrupted (default: 300)",
    )
    run.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="local: processes on this machine; ray: a Ray cluster, the one of RAY_ADDRESS or a new one on this machine, "
        "where --workers is by default what fits into it",
    )
    run.add_argument("--cpus-per-run", type=amount, default=1, metavar="N", help="cores a job reserves on Ray (default: 1)")
    run.add_argument(
        "--gpus-per-run",
        type=amount,
        default=0,
        metavar="N",
        help="GPUs a job reserves on Ray, 0.5 for half of one, and trains on: --device is cuda then (default: 0)",
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    report = command("report", _report, "print and write the leaderboards of every run in a folder")
    report.add_argument("--env", help="show these environments only, separated by commas")
    report.add_argument(
        "--pair",
        nargs=2,
        action="append",
        metavar=("X", "Y"),
        help="show the probability that X improves on Y; repeatable (default: every algorithm over its parent)",
    )
    report.add_argument("--svg", action="store_true", help="write the figures as SVG too")
    export = command("export", _export, "write what a report needs of a folder of runs, to be published")
    export.description = (
        "Write the records (runs.jsonl) and the evaluations (evaluations.parquet) of a folder of runs into another: what "
        "every table and figure is made from, small and without anything that reading could execute."
    )
    export.add_argument("results", type=Path, metavar="RESULTS", help="the folder to write, such as results/mine")
    export.add_argument("--env", help="these environments only, separated by commas")
    restore = command("restore", _restore, "put published runs back into a folder of runs, for a grid to go on from")
    restore.description = (
        "The inverse of export: a grid in that folder takes the published runs for finished, and runs what is missing of its "
        "own. So a long grid can be divided between machines and days, and a published one be given more seeds."
    )
    restore.add_argument("results", type=Path, metavar="RESULTS", help="the folder that export wrote, such as results/mine")
    leaderboard = command("leaderboard", _leaderboard, "build the reports of everything published, and the page")
    leaderboard.add_argument(
        "--results",
        type=Path,
        default=DEFAULT_RESULTS,
        help="the folder with a folder for every export: these get their tables and figures, and it the page "
        "(default: results)",
    )
    leaderboard.add_argument(
        "--readme",
        type=Path,
        help="a text in Markdown that gets the table of every algorithm beside its parent, between the two comments that "
        "say where, if it has them (default: the README.md beside RESULTS)",
    )
    leaderboard.add_argument("--svg", action="store_true", help="write the figures as SVG too")
    for sub in (run, report, export, restore):
        sub.add_argument("--out", type=Path, default=DEFAULT_OUT, help="the folder of runs (default: runs)")
    compare = command("compare", _compare, "tell whether runs got worse than others, for a person or a gate")
    compare.description = (
        "Compare two folders of runs, algorithm by algorithm where environment and number of steps are the same, such as "
        "those of two versions; or two algorithms, as in runs:dqn runs:mdqn. The difference is of interquartile means over "
        "seeds, with a 95 % bootstrap interval, beside the probability that a run of CANDIDATE scores above one of BASE. "
        "Exit code 1 tells of a regression: the whole interval lies below the threshold, or a larger share of runs failed; "
        "or of a file in CANDIDATE that cannot be used. Nothing is trained."
    )
    compare.add_argument(
        "base", metavar="BASE", help="a folder of runs (--out of a grid, or published ones), or FOLDER:ALGORITHM"
    )
    compare.add_argument("candidate", metavar="CANDIDATE", help="likewise; without :ALGORITHM that of BASE is meant")
    compare.add_argument(
        "--threshold",
        type=amount,
        metavar="SHARE",
        help="what is no regression yet, as a share of the way from a random policy to the reference score in "
        "benchmarks/normalisation.csv, or of BASE's IQM where there is none (default: that of benchmarks/protocols.yml)",
    )
    compare.add_argument("--env", help="compare these environments only, separated by commas")
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="write comparison.md and comparison.json there")
    plot = command("plot", _plot, "draw the training diagnostics of a run, or of several together")
    plot.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run, or any progress.csv of SB3's csv logger"
    )
    plot.add_argument("--out", type=Path, metavar="FILE", help="PNG to write (default: diagnostics.png beside the csv)")
    speed = command("speed", _speed, "training speed, as a ratio to Stable-Baselines3's")
    speed.description = (
        "Training speed of whole learn() calls beside Stable-Baselines3's, alternating in rounds, each timing in processes "
        "of its own with one thread. The defaults take about two hours on two idle cores; Ctrl-C keeps what was measured."
    )
    cases = "; ".join(f"{case.name}: {case.title}" for case in CASES.values())
    speed.add_argument("--cases", help=f"cases, separated by commas (default: all); {cases}")
    speed.add_argument("--rounds", type=positive, default=5, help="times each system is measured (default: 5)")
    speed.add_argument(
        "--steps", type=positive, default=2000, help="environment steps each time; fast cases take a multiple (default: 2000)"
    )
    speed.add_argument(
        "--peers",
        default=",".join(PEERS),
        help="libraries to measure beside ours, sb3 and sbx, separated by commas (default: both, sbx where it is installed); "
        "what a ratio is to is always measured",
    )
    speed.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_SPEED_OUT,
        help="folder for speed.json and speed.md, which keep what they have of other cases (default: runs/speed)",
    )
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.grid import run_grid, units_of
    from benchmarks.machine import cores
    from benchmarks.plan import make_plan
    from benchmarks.preview import show_estimate, show_plan
    from benchmarks.store import Store, check_folder

    if arguments.executor == "local":
        reserved = {"--cpus-per-run": arguments.cpus_per_run != 1, "--gpus-per-run": bool(arguments.gpus_per_run)}
        for option in (option for option, is_given in reserved.items() if is_given):
            raise UserError(f"{option} is what a run reserves on a Ray cluster: it goes with --executor ray.")
    check_folder(arguments.out, "runs")
    store = Store(arguments.out)
    executor = None if arguments.dry_run else _executor(arguments)
    plan = make_plan(
        envs=_names(arguments.env, "--env"),
        algos=None if arguments.algos is None else _names(arguments.algos, "--algos"),
        budget=arguments.budget,
        seeds=arguments.seeds,
        steps=arguments.steps,
        overrides=arguments.param,
        workers=arguments.workers or getattr(executor, "room", cores()),
        stack=arguments.stack,
        matrix_library=arguments.matrix_library,
        device="cuda" if arguments.gpus_per_run else arguments.device,
        elsewhere=arguments.executor != "local",
        sweeps=arguments.grid,
        entries=arguments.hyperparameters,
        modules=_names(arguments.modules, "--import") if arguments.modules else None,
    )
    plan = store.with_earlier_sizes(plan)
    again = arguments.fresh or arguments.retry_failed
    failed = [spec for spec in plan.runs if store.has_failed(spec) and not again]
    todo = [spec for spec in plan.runs if arguments.fresh or not (store.is_finished(spec) or spec in failed)]
    units = units_of(plan, store, todo, arguments.fresh)
    show_plan(plan, units, failed, console)
    if failed:
        console.print(f"{len(failed)} of these runs failed before; {_option('--retry-failed')} runs them again.")
    if todo and not arguments.dry_run:
        show_estimate(plan, units, console)
    _show_other_budgets(arguments, console)
    if arguments.dry_run:
        return 0
    command = shlex.join(["python", "-m", "benchmarks", *_without_folder(arguments.words)])
    store.write_plan(plan, command)
    outcome = run_grid(
        plan,
        store,
        console,
        command,
        arguments.fresh,
        arguments.retry_failed,
        executor=executor,
        checkpoint_seconds=arguments.checkpoint_every,
    )
    done = len(outcome.finished) + len(outcome.kept)
    if outcome.interrupted:
        console.print(f"Stopped: {done} of {len(plan.runs)} runs are finished and kept; {_continue(arguments)}")
        return 130
    _write_and_show(store, plan.experiments, console)
    if outcome.failed:
        remedy = f"{_option('--retry-failed')} runs them again."
        if arguments.fresh:
            remedy = f"what they had finished before is kept, and {_option('--fresh')} runs all again."
        console.print(f"[red]{len(outcome.failed)} of {len(plan.runs)} runs failed[/]; {remedy}")
    return 1 if outcome.failed else 0


def _executor(arguments: argparse.Namespace) -> Executor:
    if arguments.executor == "local":
        from benchmarks.executors.local import LocalExecutor

        return LocalExecutor()
    if arguments.device != "cpu" and not arguments.gpus_per_run:
        raise UserError(f"--device {arguments.device} needs --gpus-per-run on Ray, such as --gpus-per-run 1.")
    from benchmarks.executors.ray import RayExecutor

    try:
        return RayExecutor(arguments.cpus_per_run, arguments.gpus_per_run)
    except ConnectionError as error:
        address = os.environ.get("RAY_ADDRESS", "")
        raise UserError(f"No Ray cluster answers at RAY_ADDRESS={address}: `ray start --head` starts one here.") from error


def _without_folder(words: list[str]) -> list[str]:
    """The call without ``--out``: a folder of the user's machine determines no number."""
    kept = [word for word, before in zip(words, ["", *words[:-1]], strict=True) if before != "--out"]
    return [word for word in kept if word != "--out" and not word.startswith("--out=")]


def _option(name: str) -> str:
    """An option in the words the user used: make's or Python's."""
    return f"ARGS={name}" if "MAKELEVEL" in os.environ else name


def _continue(arguments: argparse.Namespace) -> str:
    if arguments.fresh:
        return "without --fresh the same command goes on with what has no record."
    return "the same command continues."


def _report(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.records import choose_environments
    from benchmarks.report import show_problems
    from benchmarks.report.build import label_now
    from benchmarks.store import Store

    store = Store(arguments.out)
    problems: list[str] = []
    records = store.records(problems)
    experiments = {(record["spec"]["env"], record["spec"]["steps"]) for record in records}
    if not experiments:
        show_problems(problems, console)
        usable = "usable " if problems else ""
        raise UserError(
            f"There are no {usable}runs in {arguments.out}: `python -m benchmarks run --env Pendulum-v1` makes some."
        )
    if arguments.env is not None:
        wanted = choose_environments(_names(arguments.env, "--env"), {env for env, _ in experiments}, arguments.out)
        experiments = {(env, steps) for env, steps in experiments if env in wanted}
    pairs = [tuple(pair) for pair in arguments.pair or ()]
    _check_labels([label for pair in pairs for label in pair], {label_now(record["spec"]) for record in records})
    _write_and_show(store, experiments, console, pairs or None, arguments.svg)
    return 0


def _export(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.published import publish
    from benchmarks.records import choose_environments
    from benchmarks.report import show_problems
    from benchmarks.store import Store

    if arguments.results.resolve() == arguments.out.resolve():
        raise UserError(f"{arguments.results} holds the runs themselves: name another folder, such as results/mine.")
    store = Store(arguments.out)
    wanted = None
    if arguments.env is not None:
        there = {record["spec"]["env"] for record in store.records([])}
        wanted = choose_environments(_names(arguments.env, "--env"), there, arguments.out)
    problems: list[str] = []
    try:
        written = publish(store, arguments.results, wanted, problems)
    finally:
        show_problems(problems, console)
    console.print(f"Written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True, markup=False)
    return 1 if problems else 0


def _restore(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.published import RUNS, Published, restore
    from benchmarks.report import show_problems
    from benchmarks.store import Store

    store = Store(arguments.out)
    if not (arguments.results / RUNS).is_file():
        raise UserError(f"There are no published runs in {arguments.results}: name a folder with a {RUNS}.")
    problems: list[str] = []
    count, failed = restore(Published(arguments.results), store, problems)
    show_problems(problems, console)
    said = f"Restored: {count} run{'s' * (count != 1)} to {arguments.out}"
    if failed:
        said += f"; {failed} that failed {'are' if failed > 1 else 'is'} left to a grid to try again"
    console.print(said, highlight=False, soft_wrap=True, markup=False)
    return 1 if problems else 0


def _leaderboard(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.published import RUNS, Published
    from benchmarks.report import Grid, build_across, build_leaderboards, show_problems, write_page, write_report, write_texts
    from benchmarks.report.figures import draw_verdicts
    from benchmarks.report.verdicts import find_verdicts, write_into

    folders = sorted(path.parent for path in arguments.results.glob(f"*/{RUNS}"))
    if not folders:
        example = f"`python -m benchmarks export {arguments.results / 'mine'} --out runs`"
        raise UserError(f"There is nothing published in {arguments.results}: {example} publishes a folder of runs.")
    grids = []
    for folder in folders:
        problems: list[str] = []
        boards = build_leaderboards(Published(folder), problems)
        tables = build_across(boards)
        written = write_report(boards, tables, folder, problems, _suffixes(arguments.svg))
        console.print(f"Written: {folder}, {len(written)} files", highlight=False, soft_wrap=True, markup=False)
        show_problems(problems, console)
        grids.append(Grid(folder.name, boards, tables, problems))
    unread: list[str] = []
    texts = write_texts(arguments.results, PAGE, unread)
    show_problems(unread, console)
    # The page links to the texts that are there.
    for path in [*texts, write_page(grids, arguments.results / PAGE)]:
        console.print(f"Written: {path}", highlight=False, soft_wrap=True, markup=False)
    verdicts = find_verdicts(grids)
    for suffix in _suffixes(arguments.svg) if verdicts else ():
        figure = (arguments.results / VERDICTS).with_suffix(suffix)
        draw_verdicts(verdicts, figure)
        console.print(f"Written: {figure}", highlight=False, soft_wrap=True, markup=False)
    readme = arguments.readme or arguments.results.parent / "README.md"
    if write_into(readme, verdicts):
        console.print(f"Written: the table in {readme}", highlight=False, soft_wrap=True, markup=False)
    return 1 if unread or any(grid.problems for grid in grids) else 0


def _suffixes(svg: bool) -> tuple[str, ...]:
    return (".png", ".svg") if svg else (".png",)


def _compare(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.compare import THRESHOLD, compare

    envs = None if arguments.env is None else _names(arguments.env, "--env")
    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    return compare(arguments.base, arguments.candidate, threshold, envs, arguments.out, console)


def _plot(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.report.diagnostics import default_path, draw_diagnostics, read_diagnostics

    runs = [read_diagnostics(path) for path in arguments.runs]
    out = arguments.out or default_path(runs)
    if out.suffix != ".png":
        raise UserError(f"--out {out} is not a PNG: name a file such as {out.with_suffix('.png')}.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"{out} cannot be written: name a file in a folder of yours, such as --out {out.name}.")
    draw_diagnostics(runs, out)
    console.print(f"Written: {out}", highlight=False, soft_wrap=True, markup=False)
    return 0


def _speed(arguments: argparse.Namespace, console: Console) -> int:
    from benchmarks.speed.command import run_speed
    from benchmarks.store import check_folder

    cases = choose(list(CASES) if arguments.cases is None else _names(arguments.cases, "--cases"), CASES, "case")
    peers = choose(_names(arguments.peers, "--peers"), PEERS, "peer")
    check_folder(arguments.out, str(DEFAULT_SPEED_OUT))
    for env in {system.env: None for case in cases for system in case.systems}:
        find_environment(env)
    command = shlex.join(["python", "-m", "benchmarks", *_without_folder(arguments.words)])
    return run_speed(cases, peers, arguments.rounds, arguments.steps, arguments.out, command, console)


def _check_labels(labels: list[str], there: set[str]) -> None:
    for label in labels:
        # A label that several versions share is shown with the version in brackets behind it.
        if label.partition(" (")[0] not in there:
            raise UserError(f"There are no runs of {label!r}, only of {', '.join(sorted(there))}{nearest(label, there)}")


def _write_and_show(
    store: Store,
    experiments: set[tuple[str, int]],
    console: Console,
    pairs: list[tuple[str, str]] | None = None,
    svg: bool = False,
) -> None:
    from benchmarks.report import (
        Grid,
        build_across,
        build_leaderboards,
        show,
        show_across,
        show_problems,
        write_page,
        write_report,
    )

    problems: list[str] = []
    boards = build_leaderboards(store, problems, pairs)
    tables = build_across(boards)
    for board in boards:
        if (board.env, board.steps) in experiments:
            show(board, console)
    for across in tables:
        if experiments >= {(board.env, board.steps) for board in across.boards}:
            show_across(across, console)
    show_problems(problems, console)
    folder = store.out / "report"
    written = write_report(boards, tables, folder, problems, _suffixes(svg))
    written.insert(0, write_page([Grid("", boards, tables, problems)], folder / PAGE))
    figures = [path for path in written if path.suffix in (".png", ".svg")]
    texts = ", ".join(str(path) for path in written if path not in figures)
    console.print(f"Written: {texts} and {len(figures)} figures beside them", highlight=False, soft_wrap=True, markup=False)


def _show_other_budgets(arguments: argparse.Namespace, console: Console) -> None:
    from benchmarks.protocol import BUDGETS

    for budget, summary in BUDGETS.items():
        if budget != arguments.budget:
            line = f"  {budget}: {_command(arguments, budget)}  ({summary})"
            console.print(line, style="dim", highlight=False, soft_wrap=True, markup=False)


def _command(arguments: argparse.Namespace, budget: str) -> str:
    """The call that runs another budget, with its own seeds and steps, in the words the user used: make's or Python's."""
    kept = {"algos": arguments.algos, "workers": arguments.workers, "out": arguments.out}
    kept = {name: str(value) for name, value in kept.items() if value is not None and value != DEFAULT_OUT}
    parameters = [word for text in arguments.param for word in ("-p", text)]
    parameters += [word for text in arguments.grid for word in ("--grid", text)]
    own = {"--hyperparameters": arguments.hyperparameters, "--import": arguments.modules}
    parameters += [word for option, value in own.items() if value is not None for word in (option, str(value))]
    usual = vars(_parser().parse_args(["run", "--env", arguments.env]))
    for name in ("stack", "matrix_library", "device", "executor", "cpus_per_run", "gpus_per_run", "checkpoint_every"):
        if (value := getattr(arguments, name)) != usual[name]:
            parameters += [f"--{name.replace('_', '-')}", str(value)]
    if "MAKELEVEL" in os.environ:
        words = [f"{name.upper()}={shlex.quote(value)}" for name, value in kept.items()]
        words += [f"ARGS={shlex.quote(shlex.join(parameters))}"] if parameters else []
        return " ".join([f"make benchmark ENV={shlex.quote(arguments.env)} BUDGET={budget}", *words])
    words = [word for name, value in kept.items() for word in (f"--{name}", value)] + parameters
    return shlex.join(["python", "-m", "benchmarks", "run", "--env", arguments.env, "--budget", budget, *words])


def _stack(text: str) -> int | str:
    return text if text == "auto" else positive(text)


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{option} is empty: name at least one, separated by commas.")
    return names


if __name__ == "__main__":
    sys.exit(main())
