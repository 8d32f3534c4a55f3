"""A plan as its user sees it before it runs: what will run with which settings, and about how long it takes."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from benchmarks.pace import Pace, measure_paces
from benchmarks.plan import Plan, RunSpec, title_of


def show_plan(plan: Plan, todo: list[RunSpec], failed: list[RunSpec], console: Console) -> None:
    """Print the environments, the settings of every kind of run, and how much there is to do.

    :param plan: the grid
    :param todo: those of its runs that are to do
    :param failed: those that failed before and are left out
    :param console: where to print
    """
    for env, steps in sorted(plan.experiments):
        members = [spec for spec in plan.runs if (spec.env, spec.steps) == (env, steps)]
        labels = ", ".join(dict.fromkeys(spec.label for spec in members))
        seeds = len({spec.seed for spec in members})
        console.print(
            f"[bold]{env}[/]: {escape(labels)}; {seeds} seeds of {steps:,} steps, {members[0].evaluations} evaluations"
        )
    for spec in {spec.group: spec for spec in plan.runs}.values():
        changed = {name: value for name, value in spec.hyperparameters.items() if name != "policy"}
        settings = ", ".join(f"{name}={value}" for name, value in changed.items()) or "the defaults of its class"
        console.print(f"  {spec.label} on {spec.env}: {settings} ({spec.package})", style="dim", highlight=False, markup=False)
    kept = len(plan.runs) - len(todo) - len(failed)
    resumed = f", {kept} of them finished before" if kept else ""
    together = [title_of(stack) for stack in plan.stacks(todo) if len(stack) > 1]
    if together:
        console.print(f"  trained together: {'; '.join(together)}", style="dim", highlight=False, markup=False)
    at_a_time = f"{plan.workers} at a time" if not together else f"{plan.workers} runs or stacks at a time"
    console.print(f"{len(plan.runs)} runs{resumed}; {sum(spec.steps for spec in todo):,} steps to go, {at_a_time}")


def show_estimate(plan: Plan, todo: list[RunSpec], console: Console) -> None:
    """Train every kind of run for a few seconds and print how long the grid will take.

    :param plan: the grid
    :param todo: those of its runs that are to do
    :param console: where to print
    """
    console.print(_estimate(plan, todo, measure_paces(plan, todo, console)), highlight=False)


def _estimate(plan: Plan, todo: list[RunSpec], paces: dict[str, Pace]) -> str:
    if not all(spec.group in paces for spec in todo):
        return "Estimated time: unknown, a run is too short to measure (or fails: then its record will say why)."
    at_once = min(plan.workers, len(plan.stacks(todo)))
    training = sum(spec.steps / paces[spec.group].steps_per_second for spec in todo) / at_once / 3600
    evaluations = sum(paces[spec.group].evaluation_seconds for spec in todo) / at_once / 3600
    labels = {spec.group: spec.label for spec in todo}
    speeds = ", ".join(f"{escape(labels[group])} {pace.steps_per_second:,.0f} steps/s" for group, pace in paces.items())
    less = ", less once compiled" if any(pace.compiles for pace in paces.values()) else ""
    return (
        f"Estimated time: [bold]{_duration(training)}[/]{less}, and at most {_duration(evaluations)} of evaluations ({speeds})"
    )


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours > 1 / 40 else "about a minute"
