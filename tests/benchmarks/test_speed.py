"""The speed command: its cases are well-formed, its ratios are taken within rounds, and what it measures is kept."""

import io
import json
import os
import signal

import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.speed.cases import CASES, PEERS, Case, System, sac_step_flop
from benchmarks.speed.measure import Timing, TimingError, _turns, measure, runnable
from benchmarks.speed.report import markdown, ratios, record, table
from sb3_entropic import Engine

EAGER = {"kind": "fast", "compile": False}
TINY = Case(
    "tiny",
    "a tiny case",
    (
        System("DQN", "DQN", "stable_baselines3:DQN", "CartPole-v1", {"train_freq": 1}),
        System("MDQN", "DQN", "sb3_entropic:MDQN", "CartPole-v1", {"train_freq": 1}, EAGER, seeds=2, processes=2),
    ),
)
ORIGIN = {"command": "make speed", "date": "2025-01-01", "commit": "c0ffee", "versions": {"torch": "2.9"}}
ORIGIN["machine"] = {"processor": "some processor", "cores": 2, "system": "Linux x86_64"}


def timing(system, index, rate, **more):
    usual = {"update_ms": 2.0, "startup_seconds": 10.0 if index else 30.0, "peak_bytes": 500e6, "cores_used": 1.0}
    return Timing("tiny", system, index, {"steps_per_second": rate, **usual, **more})


@pytest.fixture
def tiny(monkeypatch):
    for module in ("benchmarks.commands", "benchmarks.speed.report"):
        monkeypatch.setattr(f"{module}.CASES", {"tiny": TINY})


def test_every_case_is_well_formed():
    for name, case in CASES.items():
        labels = [system.label for system in case.systems]
        assert case.name == name and len(labels) == len(set(labels))
        assert all(label.replace(",", "").isprintable() and "|" not in label for label in labels), "fit for a Markdown table"
        for system in case.systems:
            peer = next(other for other in case.systems if other.label == system.peer)
            assert peer.peer == peer.label, "a peer is compared with itself"
            assert (peer.env, peer.processes) == (system.env, system.processes)
            assert (system.engine is not None) == (system.package == "sb3_entropic")
            assert system.engine is None or Engine(**system.engine)
            json.dumps(system.arguments)


def test_the_arithmetic_of_a_step_by_hand():
    # One unit everywhere, a batch of one: every product costs 2, networks of two layers cost 4, or 6 for the actor.
    actor, critic, first_of_actor, first_of_critic = 6, 6, 2, 4
    critics = 2 * (3 * critic - first_of_critic)
    expected = actor + 2 * critic + critics + (3 * actor - first_of_actor) + 2 * 2 * critic
    assert sac_step_flop(observations=1, actions=1, batch=1, hidden=[1]) == expected
    assert sac_step_flop(observations=11, actions=3, batch=256, hidden=[256, 256]) == pytest.approx(564e6, rel=1e-3)


def test_ratios_are_taken_round_by_round():
    timings = [timing("DQN", k, rate) for k, rate in enumerate([100.0, 50.0, 80.0])]
    timings += [timing("MDQN", k, rate) for k, rate in enumerate([120.0, 55.0, 120.0, 99.0])]
    found = record(TINY, timings, 10, ORIGIN)
    assert ratios(found, "MDQN") == pytest.approx([1.2, 1.1, 1.5]), "a round without its peer has no ratio"
    head, peer, ours = table(found)
    assert head[-1] == "cores"
    assert peer[:3] == ["DQN", "80", "peer"]
    assert ours[:5] == ["MDQN", "110", "1.20 [1.10-1.50]", "2.00", "30 / 10"]


def test_the_share_of_the_floor_and_failures_are_told():
    probed = {"gflops": 100.0, "gflops_switched": 200.0, "floor_ms": 0.5}
    found = record(TINY, [timing("MDQN", 0, 7.0, **probed), Timing("tiny", "DQN", 0, {})], 10, ORIGIN)
    head, ours = table(found)
    assert (head[-1], ours[-1], ours[2]) == ("floor", "25 %", "-")
    text = markdown({"tiny": found})
    assert "Not timed, it failed: DQN." in text
    assert "100 GFLOP/s by torch's own library and at 200" in text
    assert "1 round, 2025-01-01. some processor, 2 cores, Linux x86_64. torch 2.9, commit c0ffee. `make speed`" in text


def test_no_system_always_follows_the_same_neighbour():
    case = next(iter(CASES.values()))
    firsts = [next(iter(_turns([case], index)))[1] for index in range(len(case.systems))]
    assert firsts == list(case.systems)


def test_systems_nobody_asked_for_or_that_cannot_run_are_left_out():
    others = [System(f"{package} again", "DQN", f"{package}:DQN", "CartPole-v1") for package in PEERS.values()]
    case = Case("tiny", "", (*TINY.systems, *others))
    kept, reasons = runnable(case, [])
    assert [system.label for system in kept.systems] == ["DQN", "MDQN"] and reasons == {}
    unknown = Case("tiny", "", (System("A", "A", "no_such_package:A", "CartPole-v1"),))
    assert "is not installed" in runnable(unknown, [])[1]["A"]


def test_rounded_products_are_left_out_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr("sb3_entropic.engine.gemm._multiplies_16_bits", lambda: False)
    monkeypatch.setattr("benchmarks.speed.measure.has_compiler", lambda *_: True)
    kept, reasons = runnable(CASES["sixteen-bits"], [])
    assert [system.label for system in kept.systems] == ["MSAC, 5 seeds"]
    assert reasons == {
        "MSAC, 5 seeds, 16 bits": "matrix_library='bf16' needs a processor that multiplies matrices of 16 bits (AMX) and a "
        "torch with oneDNN"
    }


def test_a_case_for_a_gpu_is_refused_without_one(monkeypatch, tmp_path, refusal):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    printed = refusal(main, ["speed", "--cases", "msac-hopper-gpu", "--peers", "sb3", "--out", str(tmp_path)])
    assert "msac-hopper-gpu is left out, there is no GPU that torch can use." in printed.out
    assert "Nothing of this can be timed here." in printed.err


def test_end_to_end(tiny, tmp_path, capsys):
    out = tmp_path / "speed"
    out.mkdir()
    earlier = {"other": record(TINY, [timing("DQN", 0, 3.0)], 10, ORIGIN)}
    (out / "speed.json").write_text(json.dumps(earlier))
    assert main(["speed", "--cases", "tiny", "--rounds", "1", "--steps", "20", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "round 1  tiny, MDQN: " in printed and "left" in printed
    found = json.loads((out / "speed.json").read_text())
    assert found["other"] == earlier["other"], "other cases stay"
    assert found["tiny"]["command"] == "python -m benchmarks speed --cases tiny --rounds 1 --steps 20"
    for measured in found["tiny"]["timings"]:
        assert min(measured[name] for name in ("steps_per_second", "update_ms", "startup_seconds", "cores_used")) > 0
        assert measured["peak_bytes"] > 50e6
    text = (out / "speed.md").read_text()
    assert "| DQN |" in text and str(tmp_path) not in text


def test_a_failing_system_is_told_of_once_and_the_rest_goes_on(monkeypatch, tiny, tmp_path, capsys):
    def time_system(system, steps, scratch):
        if system.label == "MDQN":
            raise TimingError("ValueError: no")
        return timing("DQN", 0, 5.0).measured

    monkeypatch.setattr("benchmarks.speed.measure.time_system", time_system)
    assert main(["speed", "--rounds", "3", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("failed, ValueError: no") == 1
    found = json.loads((tmp_path / "speed.json").read_text())["tiny"]
    assert (len(found["timings"]), found["failed"]) == (3, ["MDQN"])


@pytest.mark.parametrize("whole_round", [False, True])
def test_ctrl_c_keeps_what_was_measured(whole_round, monkeypatch, tiny, tmp_path, capsys):
    calls = []

    def time_system(system, steps, scratch):
        calls.append(system)
        if len(calls) > 1 + whole_round:
            os.kill(os.getpid(), signal.SIGINT)
        return timing("DQN", 0, 5.0).measured

    monkeypatch.setattr("benchmarks.speed.measure.time_system", time_system)
    (tmp_path / "kept").mkdir()
    earlier = {"tiny": record(TINY, [timing("DQN", 0, 3.0)], 10, ORIGIN)}
    (tmp_path / "kept" / "speed.json").write_text(json.dumps(earlier))
    assert main(["speed", "--rounds", "3", "--out", str(tmp_path / "kept")]) == 130
    assert "Stopped" in capsys.readouterr().out
    found = json.loads((tmp_path / "kept" / "speed.json").read_text())["tiny"]
    assert [t["steps_per_second"] for t in found["timings"]] == ([5.0, 5.0] if whole_round else [3.0])


def test_a_worker_that_raises_says_why():
    console = Console(file=io.StringIO(), width=200)
    broken = Case("tiny", "", (System("A", "A", "stable_baselines3:DQN", "CartPole-v1", {"no_such_argument": 1}),))
    assert [one.measured for one in measure([broken], 2, 10, console)] == [{}]
    assert "no_such_argument" in console.file.getvalue()


@pytest.mark.parametrize("content", ["{", "[1]", '{"tiny": {}}'])
def test_a_file_of_something_else_is_not_overwritten(content, tiny, tmp_path, refusal):
    (tmp_path / "speed.json").write_text(content)
    assert "is no record of this command" in refusal(main, ["speed", "--out", str(tmp_path)]).err
    assert (tmp_path / "speed.json").read_text() == content
