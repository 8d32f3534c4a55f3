"""A plan as its user sees it before it runs: what will run with which settings, and about how long it takes."""

from __future__ import annotations

from heapq import heappushpop

from rich.console import Console
from rich.markup import escape

from benchmarks.grid import Unit
from benchmarks.pace import Pace, kind_of, measure_paces
from benchmarks.plan import Plan
from benchmarks.spec import RunSpec, title_of


def show_plan(plan: Plan, units: list[Unit], failed: list[RunSpec], console: Console) -> None:
    """Print the environments, the settings of every kind of run, and how much there is to do.

    :param plan: the grid
    :param units: those of its runs that are to do, as jobs
    :param failed: those that failed before and are left out
    :param console: where to print
    """
    for env, steps in sorted(plan.experiments):
        members = [spec for spec in plan.runs if (spec.env, spec.steps) == (env, steps)]
        labels = ", ".join(dict.fromkeys(spec.label for spec in members))
        seeds = len({spec.seed for spec in members})
        console.print(
            f"[bold]{env}[/]: {escape(labels)}; {seeds} seed{'s' * (seeds != 1)} of {steps:,} steps, "
            f"{members[0].evaluations} evaluation{'s' * (members[0].evaluations != 1)}"
        )
    for spec in {spec.group: spec for spec in plan.runs}.values():
        changed = {name: value for name, value in spec.hyperparameters.items() if name != "policy"}
        settings = ", ".join(f"{name}={value}" for name, value in changed.items()) or "the defaults of its class"
        console.print(f"  {spec.label} on {spec.env}: {settings} ({spec.package})", style="dim", highlight=False, markup=False)
    kept = len(plan.runs) - sum(len(unit.specs) for unit in units) - len(failed)
    begun = sum(len(unit.specs) for unit in units if unit.resume is not None)
    resumed = f", {kept} of them finished before" if kept else ""
    resumed += f", {begun} of them {'go' if begun > 1 else 'goes'} on from a checkpoint" if begun else ""
    together = [title_of(unit.specs) for unit in units if len(unit.specs) > 1]
    if together:
        console.print(f"  trained together: {'; '.join(together)}", style="dim", highlight=False, markup=False)
    at_a_time = f"{plan.workers} at a time" if not together else f"{plan.workers} runs or stacks at a time"
    to_go = sum(unit.steps_to_go for unit in units)
    console.print(f"{len(plan.runs)} run{'s' * (len(plan.runs) != 1)}{resumed}; {to_go:,} steps to go, {at_a_time}")


def show_estimate(plan: Plan, units: list[Unit], console: Console) -> None:
    """Train every kind of run for a few seconds and print how long the grid will take.

    :param plan: the grid
    :param units: those of its runs that are to do, as jobs
    :param console: where to print
    """
    paces = measure_paces(plan, (unit.specs for unit in units), console)
    console.print(_estimate(plan, units, paces), highlight=False)


def _estimate(plan: Plan, units: list[Unit], paces: dict[tuple[str, int], Pace]) -> str:
    labels = {kind_of(unit.specs): unit.specs[0].label for unit in units}
    if not labels.keys() <= paces.keys():
        return "Estimated time: unknown, a run is too short to measure (or fails: then its record will say why)."
    of_unit = [(unit, paces[kind_of(unit.specs)]) for unit in units]
    training = _until_all_are_done([unit.steps_to_go / pace.steps_per_second for unit, pace in of_unit], plan.workers)
    evaluations = _until_all_are_done([len(unit.specs) * pace.evaluation_seconds for unit, pace in of_unit], plan.workers)
    speeds = ", ".join(_speed(labels[kind], kind[1], pace) for kind, pace in paces.items())
    less = ", less once compiled" if any(pace.compiles for pace in paces.values()) else ""
    return (
        f"Estimated time: [bold]{_duration(training)}[/]{less}, and at most {_duration(evaluations)} of evaluations ({speeds})"
    )


def _speed(label: str, seeds: int, pace: Pace) -> str:
    together = f" with {seeds} seeds" if seeds > 1 else ""
    return f"{escape(label)}{together} {pace.steps_per_second:,.0f} steps/s"


def _until_all_are_done(seconds: list[float], workers: int) -> float:
    """Hours until jobs that take that long are done, each begun in its turn by the first worker that is free."""
    free = [0.0] * workers
    for each in seconds:
        heappushpop(free, free[0] + each)
    return max(free) / 3600


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours > 1 / 40 else "about a minute"
