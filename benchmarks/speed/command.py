"""What ``python -m benchmarks speed`` does."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from benchmarks.provenance import provenance
from benchmarks.speed.cases import Case
from benchmarks.speed.measure import Timing, measure, runnable
from benchmarks.speed.report import Record, markdown, read, record, write
from sb3_entropic.errors import UserError


def run_speed(cases: list[Case], peers: list[str], rounds: int, steps: int, out: Path, command: str, console: Console) -> int:
    """Time the cases, keep what was measured after every timing, and print it at the end.

    :param peers: packages timed beside ours
    :param steps: environment steps of a timing
    :param out: folder of ``speed.json`` and ``speed.md``; what they have of other cases stays
    :param command: what the user called, kept in every record
    :return: 0; 1 if a system could not be timed, 130 after Ctrl-C
    :raises UserError: if the folder holds something else of that name, or nothing can be timed here
    """
    earlier = read(out)
    cases = [_without_missing(case, peers, console) for case in cases]
    if not any(case.systems for case in cases):
        raise UserError("Nothing of this can be timed here.")
    devices = {system.device for case in cases for system in case.systems}
    date = datetime.now(timezone.utc).date().isoformat()
    origin = {"command": command, "date": date, **provenance("cuda" if "cuda" in devices else "cpu")}
    timings: list[Timing] = []
    found: dict[str, Record] = {}
    interrupted = False
    try:
        for timing in measure(cases, rounds, steps, console):
            timings.append(timing)
            records = {case.name: record(case, timings, steps, origin) for case in cases}
            found = {name: one for name, one in records.items() if one["timings"]}
            # An earlier record gives way to a whole round, not to less.
            write({**found, **earlier, **{name: one for name, one in found.items() if _has_round(one)}}, out)
    except KeyboardInterrupt:
        interrupted = True
    if found:
        console.print(Markdown(markdown(found)))
        console.print(f"Written: {out / 'speed.json'}, {out / 'speed.md'}", highlight=False, soft_wrap=True)
    if interrupted:
        console.print("Stopped; what had been measured is kept, but an earlier record gives way only to a whole round.")
        return 130
    return 1 if any(not timing.measured for timing in timings) else 0


def _has_round(found: Record) -> bool:
    return set(found["peers"]) == {timing["system"] for timing in found["timings"]} | set(found["failed"])


def _without_missing(case: Case, peers: list[str], console: Console) -> Case:
    kept, reasons = runnable(case, peers)
    for reason in dict.fromkeys(reasons.values()):
        labels = [label for label, other in reasons.items() if other == reason]
        left_out = f"{case.name} is left out" if not kept.systems else f"Left out of {case.name}: {'; '.join(labels)}"
        console.print(escape(f"{left_out}, {reason}."), highlight=False, soft_wrap=True)
    return kept
