"""``python -m benchmarks``: run a seed grid, report on it, compare two, look into single runs, measure speed."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from benchmarks import commands
from benchmarks.commands import DEFAULT_OUT, DEFAULT_RESULTS, DEFAULT_SPEED_OUT
from benchmarks.speed.cases import CASES, PEERS
from sb3_entropic.catalog import ALGORITHMS
from sb3_entropic.cli import ArgumentParser, Console, amount, exit_code_of, positive, show_warnings_in_one_line
from sb3_entropic.engine.gemm import MATRIX_LIBRARIES
from sb3_entropic.engine.support import DEVICES

CHECKPOINT_SECONDS = 300

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
    subparsers = parser.add_subparsers(required=True, metavar="{run,report,export,restore,leaderboard,compare,plot,speed}")

    def command(name: str, function: object, summary: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=summary, description=summary, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.set_defaults(command=function)
        return sub

    run = command("run", commands.run, "run a seed grid and print its leaderboard")
    run.set_defaults(default_of=run.get_default)
    run.add_argument("--env", required=True, help="environment ids with their versions, separated by commas")
    algorithms = "; ".join(f"{a.name}: {a.summary}" for a in ALGORITHMS.values())
    run.add_argument(
        "--algos",
        help=f"algorithms, separated by commas (default: the protocol's); module:Class is one of your own; {algorithms}",
    )
    run.add_argument(
        "--budget",
        default="short",
        help="smoke, short (about an hour on two cores, much longer with images, the default) or full",
    )
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
    report = command("report", commands.report, "print and write the leaderboards of every run in a folder")
    report.add_argument("--env", help="show these environments only, separated by commas")
    report.add_argument(
        "--pair",
        nargs=2,
        action="append",
        metavar=("X", "Y"),
        help="show the probability that X improves on Y; repeatable (default: every algorithm of ours over its parent)",
    )
    report.add_argument("--svg", action="store_true", help="write the figures as SVG too")
    export = command("export", commands.export, "write what a report needs of a folder of runs, to be published")
    export.description = (
        "Write the records (runs.jsonl) and the evaluations (evaluations.parquet) of a folder of runs into another: what "
        "every table and figure is made from, small and without anything that reading could execute."
    )
    export.add_argument("results", type=Path, metavar="RESULTS", help="the folder to write, such as results/mine")
    export.add_argument("--env", help="these environments only, separated by commas")
    export.add_argument(
        "--replace", action="store_true", help="even if RESULTS holds finished runs that are not in the folder, which are lost"
    )
    restore = command("restore", commands.restore, "put published runs back into a folder of runs, for a grid to go on from")
    restore.description = (
        "The inverse of export: a grid in that folder takes the published runs for finished, and runs what is missing of its "
        "own. So a long grid can be divided between machines and days, and a published one be given more seeds."
    )
    restore.add_argument("results", type=Path, metavar="RESULTS", help="the folder that export wrote, such as results/mine")
    leaderboard = command("leaderboard", commands.leaderboard, "build the reports of everything published, and the page")
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
    compare = command("compare", commands.compare, "tell whether runs got worse than others, for a person or a gate")
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
    plot = command("plot", commands.plot, "draw the training diagnostics of a run, or of several together")
    plot.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run, or any progress.csv of SB3's csv logger"
    )
    plot.add_argument("--out", type=Path, metavar="FILE", help="PNG to write (default: diagnostics.png beside the csv)")
    speed = command("speed", commands.speed, "training speed, as a ratio to Stable-Baselines3's")
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


def _stack(text: str) -> int | str:
    return text if text == "auto" else positive(text)


if __name__ == "__main__":
    sys.exit(main())
