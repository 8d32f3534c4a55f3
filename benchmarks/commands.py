"""What each command does with its arguments; what it needs is imported when it is called, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections import Counter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.cases import CASES, PEERS, choose
from sb3_entropic.cli import Console
from sb3_entropic.envs.registry import find_environment
from sb3_entropic.errors import UserError, nearest

if TYPE_CHECKING:
    from benchmarks.executors import Executor
    from benchmarks.published import Published
    from benchmarks.report.leaderboard import Leaderboard
    from benchmarks.store import Store

PAGE, VERDICTS = "index.html", "does-it-help"
DEFAULT_OUT, DEFAULT_RESULTS, DEFAULT_SPEED_OUT = Path("runs"), Path("results"), Path("runs/speed")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run a grid and show its leaderboard; 1 if a run has failed."""
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


def report(arguments: argparse.Namespace, console: Console) -> int:
    """Show and write the leaderboards of a folder of runs."""
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


def export(arguments: argparse.Namespace, console: Console) -> int:
    """Publish a folder of runs as text and Parquet."""
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
        written = publish(store, arguments.results, wanted, problems, arguments.replace)
    finally:
        show_problems(problems, console)
    console.print(f"Written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True, markup=False)
    return 1 if problems else 0


def restore(arguments: argparse.Namespace, console: Console) -> int:
    """Make runs of what was published."""
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


def leaderboard(arguments: argparse.Namespace, console: Console) -> int:
    """Write the reports of everything published, and the page."""
    from benchmarks.published import RUNS, Published
    from benchmarks.report import Grid, build_across, build_leaderboards, show_problems, write_page, write_report, write_texts
    from benchmarks.report.figures import draw_verdicts
    from benchmarks.report.verdicts import find_verdicts, write_into

    folders = sorted(path.parent for path in arguments.results.glob(f"*/{RUNS}") if path.is_file())
    if not folders:
        example = f"`python -m benchmarks export {arguments.results / 'mine'} --out runs`"
        raise UserError(f"There is nothing published in {arguments.results}: {example} publishes a folder of runs.")
    grids = []
    elsewhere: dict[tuple[str, str], str] = {}
    for folder in folders:
        problems: list[str] = []
        published = Published(folder)
        boards = build_leaderboards(published, problems)
        _note_twice_published(published, elsewhere, problems)
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


def _note_twice_published(published: Published, elsewhere: dict[tuple[str, str], str], problems: list[str]) -> None:
    """Say which runs of a folder are in an earlier one, too: they count twice in what is said of all.

    :param elsewhere: by path and start, the name of the first folder of a run; the new ones are put into it
    """
    twice: Counter[str] = Counter()
    for record in published.records([]):
        if "error" not in record and "started" in record:
            first = elsewhere.setdefault((record["path"], record["started"]), published.folder.name)
            twice[first] += first != published.folder.name
    for first, count in twice.items():
        if count:
            problems.append(f"{published.folder} has {count} run{'s' * (count > 1)} of {first}, too: a run is published once.")


def _suffixes(svg: bool) -> tuple[str, ...]:
    return (".png", ".svg") if svg else (".png",)


def compare(arguments: argparse.Namespace, console: Console) -> int:
    """Compare two folders of runs; 1 if something got worse."""
    from benchmarks.compare import THRESHOLD, compare

    envs = None if arguments.env is None else _names(arguments.env, "--env")
    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    return compare(arguments.base, arguments.candidate, threshold, envs, arguments.out, console)


def plot(arguments: argparse.Namespace, console: Console) -> int:
    """Draw what single runs have logged."""
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


def speed(arguments: argparse.Namespace, console: Console) -> int:
    """Measure training speed."""
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
        if label not in there and re.sub(r" \([0-9a-f]{10}\)$", "", label) not in there:
            raise UserError(f"There are no runs of {label!r}, only of {', '.join(sorted(there))}{nearest(label, there)}")


def _pairs_without_a_table(pairs: list[tuple[str, str]], boards: list[Leaderboard]) -> list[str]:
    compared = set()
    for board in boards:
        names = {row.label: row.name for row in board.rows}
        compared |= {pair for found in board.pairs for pair in product((found.x, names[found.x]), (found.y, names[found.y]))}
    return [f"No table has scores of both {x} and {y}." for x, y in pairs if (x, y) not in compared]


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
    if pairs is not None:
        problems += _pairs_without_a_table(pairs, boards)
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
    for name in ("stack", "matrix_library", "device", "executor", "cpus_per_run", "gpus_per_run", "checkpoint_every"):
        if (value := getattr(arguments, name)) != arguments.default_of(name):
            parameters += [f"--{name.replace('_', '-')}", str(value)]
    if "MAKELEVEL" in os.environ:
        words = [f"{name.upper()}={shlex.quote(value)}" for name, value in kept.items()]
        words += [f"ARGS={shlex.quote(shlex.join(parameters))}"] if parameters else []
        return " ".join([f"make benchmark ENV={shlex.quote(arguments.env)} BUDGET={budget}", *words])
    words = [word for name, value in kept.items() for word in (f"--{name}", value)] + parameters
    return shlex.join(["python", "-m", "benchmarks", "run", "--env", arguments.env, "--budget", budget, *words])


def _names(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{option} is empty: name at least one, separated by commas.")
    return names
