"""The speed table is made of ratios within rounds."""

import io

from rich.console import Console

from benchmarks.speed import PEER, SYSTEMS, measure_speed, speed_table


def test_ratios_are_taken_round_by_round():
    rates = {PEER: [100.0, 50.0, 80.0], "MSAC": [120.0, 55.0, 120.0]}
    console = Console(file=io.StringIO(), width=120)
    console.print(speed_table("Hopper-v4", rates))
    printed = console.file.getvalue()
    # ratios 1.2, 1.1, 1.5
    assert "1.20 [1.10-1.50]" in printed
    assert "1.00 [1.00-1.00]" in printed


def test_every_system_is_timed_in_every_round():
    rates = measure_speed("Pendulum-v1", rounds=2, steps=10, console=Console(file=io.StringIO()))
    assert rates.keys() == SYSTEMS.keys()
    assert all(len(values) == 2 and min(values) > 0 for values in rates.values())
