"""The record of what was timed, and the report made from it alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.measure import Timing
from benchmarks.store import replace_text
from sb3_entropic.errors import UserError

Record = dict[str, Any]

HEADINGS = ["system", "steps/s", "ratio to peer", "update ms", "start-up s", "memory MB", "cores", "floor"]

NOTE = """\
Environment steps per second, of all seeds and processes, within `learn()` calls with a monitor, a logger and a callback, \
once they run at their speed; one thread a process, each timing in fresh processes; medians over rounds.

- ratio: to the row above that says *peer*, taken round by round: median [lowest-highest]
- update: of one gradient step of one seed, with the sampling of its batch; on a GPU until it is launched, \
which may be before it is done
- start-up: until training runs at its speed (imports, tracing, compiling), in the first round / in later ones, which find \
what was compiled
- memory: the peak, of all processes
- cores: used by a process while the clock runs; below 1, the machine was busy with other work"""

FLOOR_NOTE = """\
256x256x256 matrix products in 32 bits ran at {:.0f} GFLOP/s by torch's own library and at {:.0f} with our choice of it. \
Floor: the share of an update's time that its matrix products need at the higher rate."""


def record(case: Case, timings: Sequence[Timing], steps: int, origin: dict[str, Any]) -> Record:
    """Everything a reader needs of a case, as JSON has it.

    :param timings: of any cases
    :param steps: environment steps asked for
    :param origin: command, date, commit, versions and machine
    """
    own = [timing for timing in timings if timing.case == case.name]
    rounds = [{"system": timing.system, "round": timing.round, **timing.measured} for timing in own if timing.measured]
    failed = [timing.system for timing in own if not timing.measured]
    peers = {system.label: system.peer for system in case.systems}
    return {"title": case.title, "steps": steps, "peers": peers, "timings": rounds, "failed": failed, **origin}


def ratios(found: Record, system: str) -> list[float]:
    """Of a system's steps per second to its peer's, in every round that timed both."""
    rates = {(timing["system"], timing["round"]): timing["steps_per_second"] for timing in found["timings"]}
    pairs = [(rate, rates.get((found["peers"][system], index))) for (label, index), rate in rates.items() if label == system]
    return [own / peer for own, peer in pairs if peer is not None]


def table(found: Record) -> list[list[str]]:
    """A case's table, without the systems that have no timing: cells of the head and of every row."""
    with_floor = any("floor_ms" in timing for timing in found["timings"])
    rows = [_row(found, system) for system in found["peers"] if any(t["system"] == system for t in found["timings"])]
    return [HEADINGS if with_floor else HEADINGS[:-1], *rows]


def _row(found: Record, system: str) -> list[str]:
    timings = sorted((t for t in found["timings"] if t["system"] == system), key=lambda timing: timing["round"])

    def middle(name: str) -> float:
        return median(timing[name] for timing in timings)

    ratio, own = "peer", ratios(found, system)
    if found["peers"][system] != system:
        between = f" [{min(own):.2f}-{max(own):.2f}]" if len(own) > 1 else ""
        ratio = f"{median(own):.2f}{between}" if own else "-"
    first, *later = (timing["startup_seconds"] for timing in timings)
    floor = [timing["floor_ms"] / timing["update_ms"] for timing in timings if "floor_ms" in timing]
    return [
        system,
        f"{middle('steps_per_second'):,.0f}",
        ratio,
        f"{middle('update_ms'):.2f}",
        f"{first:.0f} / {median(later):.0f}" if later else f"{first:.0f}",
        f"{middle('peak_bytes') / 1e6:,.0f}",
        f"{middle('cores_used'):.2f}",
        *([f"{100 * median(floor):.0f} %"] if floor else []),
    ]


def markdown(records: dict[str, Record]) -> str:
    """The whole report."""
    parts = ["# Training speed", NOTE]
    for name, found in records.items():
        head, *rows = table(found)
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        parts += [f"## {name}", f"{found['title']}.", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        if probed := [timing for timing in found["timings"] if "floor_ms" in timing]:
            parts.append(FLOOR_NOTE.format(*(median(t[rate] for t in probed) for rate in ("gflops", "gflops_switched"))))
        if found["failed"]:
            parts.append(f"Not timed, it failed: {', '.join(found['failed'])}.")
        parts.append(_origin(found))
    return "\n\n".join(parts) + "\n"


def _origin(found: Record) -> str:
    machine, rounds = found["machine"], len({timing["round"] for timing in found["timings"]})
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    commit = (found["commit"] or "unknown").replace("+", " and ")
    return (
        f"{rounds} round{'s' * (rounds > 1)}, {found['date']}. {machine['processor']}, {machine['cores']} cores{gpu}, "
        f"{machine['system']}. {versions}, commit {commit}. `{found['command']}`"
    )


def read(out: Path) -> dict[str, Record]:
    """The records that earlier calls have left in a folder, by case.

    :raises UserError: if there is a file of that name that is none of ours
    """
    path = out / "speed.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        markdown(found)
    except (ValueError, LookupError, AttributeError, TypeError):
        raise UserError(f"{path} is no record of this command: choose another folder, such as --out runs/speed.") from None
    return found


def write(records: dict[str, Record], out: Path) -> None:
    """Write ``speed.json`` and ``speed.md``, cases in the table's order."""
    out.mkdir(parents=True, exist_ok=True)
    ordered = {name: records[name] for name in (*CASES, *records) if name in records}
    replace_text(out / "speed.json", json.dumps(ordered, indent=1) + "\n")
    replace_text(out / "speed.md", markdown(ordered))
