"""What a gate is told."""

import json

import pytest

from benchmarks import statistics
from benchmarks.__main__ import main
from benchmarks.protocol import PROTOCOLS
from benchmarks.store import EVALUATIONS, Store
from tests.benchmarks.conftest import finish_run

# Of Pendulum-v1 a reference is 1050.6 above a random policy, so the default threshold is 52.5.
UNIT = 1050.555


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 200)


@pytest.fixture
def compared(tmp_path, make_spec, capsys):
    """Compare final scores of msac, one a seed; returns exit code, what was printed and what was written."""

    def compared(base, candidate, *options, **changes):
        for name, scores in (("base", base), ("candidate", candidate)):
            for seed, score in enumerate(scores):
                finish_run(Store(tmp_path / name), make_spec(seed=seed, **changes), [-1000.0, score])
        out = tmp_path / "comparison"
        code = main(["compare", str(tmp_path / "base"), str(tmp_path / "candidate"), "--out", str(out), *options])
        written = json.loads((out / "comparison.json").read_text())
        return code, " ".join(capsys.readouterr().out.split()), written, (out / "comparison.md").read_text()

    return compared


def test_an_algorithm_whose_entry_has_changed_is_compared_with_itself(tmp_path, make_spec, capsys):
    for name, temperature, score in (("base", 0.1, 90.0), ("candidate", 0.2, -90.0)):
        for seed in range(5):
            spec = make_spec(env="MountainCarContinuous-v0", seed=seed, hyperparameters={"ent_coef": temperature})
            finish_run(Store(tmp_path / name), spec, [-100.0, score])
    for label in ("", ":msac"):
        sides = [f"{tmp_path / name}{label}" for name in ("base", "candidate")]
        assert main(["compare", *sides, "--out", str(tmp_path / "comparison")]) == 1
        (comparison,) = json.loads((tmp_path / "comparison" / "comparison.json").read_text())["comparisons"]
        assert comparison["base"]["algorithm"] == comparison["candidate"]["algorithm"] == "msac"


@pytest.mark.parametrize(
    ("shift", "code", "verdict"),
    [
        (0.0, 0, "undecided"),
        (-51.0, 0, "undecided"),
        (-54.0, 1, "regression"),
        (54.0, 0, "improvement"),
        (51.0, 0, "undecided"),
    ],
)
def test_a_regression_is_an_interval_wholly_beyond_the_threshold(shift, code, verdict, compared):
    got, printed, written, markdown = compared([-300.0] * 5, [-300.0 + shift] * 5)
    assert got == code
    (comparison,) = written["comparisons"]
    assert comparison["verdict"] == verdict
    assert comparison["difference"] == {"value": shift, "interval": [shift, shift]}
    assert comparison["improvement"]["value"] == (0.5 if shift == 0 else float(shift > 0))
    assert comparison["margin"] == pytest.approx(PROTOCOLS["comparison"]["regression_beyond"] * UNIT)
    assert f"| {verdict} |" in markdown
    if verdict != "undecided":
        assert f"{verdict}: msac on Pendulum-v1 after 100 steps: the interval of the difference lies wholly" in printed


def test_a_difference_that_may_be_chance_is_none(compared):
    code, _, written, markdown = compared([-100.0, -500.0, -900.0], [-200.0, -600.0, -1000.0])
    assert code == 0
    assert written["comparisons"][0]["verdict"] == "undecided"
    assert "Neither a regression nor an improvement." in markdown


@pytest.mark.parametrize(("threshold", "code"), [("0", 1), ("0.09", 1), ("0.1", 0), ("1", 0)])
def test_the_threshold_is_a_share_of_the_way_to_the_reference(threshold, code, compared):
    assert compared([-300.0] * 3, [-400.0] * 3, "--threshold", threshold)[0] == code


@pytest.mark.parametrize(("fall", "code"), [(4.0, 0), (6.0, 1)])
def test_without_a_reference_it_is_a_share_of_the_bases_own_score(fall, code, compared):
    assert compared([-100.0] * 3, [-100.0 - fall] * 3, env="Odd-v1")[0] == code


def test_one_seed_each_decides_nothing(compared):
    code, printed, written, _ = compared([0.0], [-5000.0])
    assert code == 0
    assert written["comparisons"][0]["difference"] == {"value": -5000.0, "interval": None}
    assert "Fewer than 5 seeds" in printed
    assert "of one seed there is no interval" in printed
    assert "-5,000 0.00 1, 1" in printed, "and no dash in its place"
    assert "with an interval" not in printed


def test_only_comparisons_with_an_interval_are_counted(compared, tmp_path, make_spec):
    for name in ("base", "candidate"):
        finish_run(Store(tmp_path / name), make_spec(env="Hopper-v4"), [0.0, 1.0])
    _, printed, *_ = compared([-300.0] * 5, [-300.0] * 5)
    assert "1 comparison with an interval." in printed
    assert "A comparison of one run with one has no interval" in printed


def test_runs_that_fail_only_in_the_candidate_are_a_regression(compared, tmp_path, make_spec):
    candidate = Store(tmp_path / "candidate")
    candidate.fail(make_spec(seed=2), candidate.begin(make_spec(seed=2)), "ValueError: no")
    code, printed, *_ = compared([-300.0] * 3, [-300.0] * 2)
    assert code == 1
    assert "regression: msac on Pendulum-v1 after 100 steps: 1 of 3 runs failed, and of the base 0." in printed


def test_where_no_run_of_the_candidate_finished(compared, tmp_path, make_spec):
    candidate = Store(tmp_path / "candidate")
    candidate.fail(make_spec(), candidate.begin(make_spec()), "ValueError: no")
    code, _, written, _ = compared([-300.0] * 3, [])
    assert code == 1
    assert written["comparisons"][0]["difference"] is None


def test_a_newer_version_of_which_every_run_failed_is_meant(compared, tmp_path, make_spec):
    candidate, newer = Store(tmp_path / "candidate"), make_spec(package="sb3_entropic 0.2.0")
    candidate.fail(newer, candidate.begin(newer), "ValueError: no")
    assert compared([-300.0] * 3, [-300.0] * 3)[0] == 1


def test_runs_that_failed_before_too_are_none(compared, tmp_path, make_spec):
    for name in ("base", "candidate"):
        store = Store(tmp_path / name)
        store.fail(make_spec(seed=2), store.begin(make_spec(seed=2)), "ValueError: no")
    assert compared([-300.0] * 2, [-300.0] * 2)[0] == 0


def test_a_file_of_the_candidates_that_cannot_be_used_is_no_pass(compared, tmp_path, make_spec):
    compared([-300.0] * 3, [-300.0] * 3)
    path = tmp_path / "candidate" / make_spec(seed=1).path / EVALUATIONS
    path.write_bytes(b"half")
    arguments = ["compare", str(tmp_path / "base"), str(tmp_path / "candidate")]
    assert main(arguments) == 1
    (tmp_path / "base" / make_spec(seed=1).path / EVALUATIONS).write_bytes(b"half")
    path.unlink()
    (path.parent / "run.json").unlink()
    assert main(arguments) == 0, "of the base's it is"


def test_cautions_are_of_base_and_candidate(compared, tmp_path, make_spec):
    for seed in range(5):
        record = (
            {"engine": "fast", "versions": {"torch": "2.8"}} if seed == 0 else {"engine": "sb3", "versions": {"torch": "2.8"}}
        )
        finish_run(Store(tmp_path / "candidate"), make_spec(seed=seed), [0.0, 1.0], **record)
    _, printed, written, _ = compared([1.0] * 6, [])
    assert any(note == "The algorithms have different numbers of seeds." for note in written["notes"])
    assert any("different package versions" in note for note in written["notes"])
    assert "Engines differ: fast (candidate); not recorded (base); sb3 (candidate)." in written["notes"]
    assert "Engines differ" in printed


@pytest.fixture
def grid(tmp_path, make_spec):
    for label, score in (("dqn", 100.0), ("mdqn", 300.0), ("aldqn", 200.0)):
        for seed in range(3):
            finish_run(
                Store(tmp_path / "runs"), make_spec(env="CartPole-v1", label=label, algo=label, seed=seed), [0.0, score]
            )
    finish_run(Store(tmp_path / "runs"), make_spec(label="sac"), [0.0, 1.0])
    for label in ("mdqn", "new"):
        finish_run(Store(tmp_path / "later"), make_spec(env="CartPole-v1", label=label), [0.0, 250.0])
    return tmp_path


@pytest.mark.parametrize(
    ("base", "candidate", "code", "said"),
    [
        ("runs:dqn", "runs:mdqn", 0, "improvement: mdqn for dqn on CartPole-v1 after 100 steps"),
        ("runs:mdqn", "runs:dqn", 1, "regression: dqn for mdqn on CartPole-v1 after 100 steps"),
        ("runs", "later", 1, "Only the candidate has CartPole-v1 after 100 steps (new)."),
        ("runs", "later", 1, "Only the base has CartPole-v1 after 100 steps (aldqn, dqn); Pendulum-v1 after 100 steps (sac)."),
        ("runs:mdqn", "later", 1, "regression: mdqn on CartPole-v1"),
        ("runs", "later:mdqn", 1, "regression: mdqn on CartPole-v1"),
    ],
)
def test_what_is_compared_with_what(base, candidate, code, said, grid, monkeypatch, capsys):
    monkeypatch.chdir(grid)
    assert main(["compare", base, candidate]) == code
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("env", ["CartPole", "CartPole-v1", "Pendulum,CartPole"])
def test_an_environment_without_a_version_means_every_one(env, grid, monkeypatch, capsys):
    monkeypatch.chdir(grid)
    assert main(["compare", "runs", "later:mdqn", "--env", env]) == 1
    assert "regression: mdqn on CartPole-v1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("runs runs", "runs cannot be compared with itself"),
        ("runs:dqn runs:dqn", "runs:dqn cannot be compared with itself"),
        ("runs:dqn runs", "runs:dqn cannot be compared with itself"),
        ("runs nope", "nope is not a folder: name a folder of runs, or one algorithm of it as in runs:mdqn."),
        ("runs:dqn runs:mdqnn", "There is no mdqnn in runs, only aldqn, dqn, mdqn, sac: did you mean 'mdqn'?"),
        ("runs:sac later", "There is no sac in later, only mdqn, new."),
        ("runs:sac runs:dqn", "runs:sac and runs:dqn have nothing in common to compare. Only the base has Pendulum-v1"),
        ("runs empty", "There are no runs in empty."),
        ("runs later --threshold -1", "'-1' is not a number from 0"),
        ("runs later --threshold much", "'much' is not a number from 0"),
        ("runs later --env Hopper-v4", "There are no runs of Hopper-v4 in runs and later, only of CartPole-v1, Pendulum-v1."),
        ("runs later --env Pendulm", "did you mean 'Pendulum-v1'?"),
        ("runs later --env Pendulum", "runs and later have nothing in common to compare. Only the base has Pendulum-v1"),
        ("runs later --out file", "OUT=file is a file"),
        ("runs", "the following arguments are required: CANDIDATE"),
    ],
)
def test_wrong_inputs_get_a_sentence(arguments, message, grid, monkeypatch, refusal):
    monkeypatch.chdir(grid)
    (grid / "empty").mkdir()
    (grid / "file").write_text("")
    assert message in refusal(main, ["compare", *arguments.split()]).err


def test_of_several_versions_the_last_is_compared(tmp_path, make_spec, capsys):
    for name, package, score, started in (
        ("base", "sb3_entropic 1", -300.0, "2026-01-01"),
        ("candidate", "sb3_entropic 1", -300.0, "2026-01-01"),
        ("candidate", "sb3_entropic 2", -900.0, "2026-02-01"),
    ):
        for seed in range(5):
            finish_run(Store(tmp_path / name), make_spec(seed=seed, package=package), [-1000.0, score], started=started)
    assert main(["compare", str(tmp_path / "base"), str(tmp_path / "candidate")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "Of several versions in the candidate the one run last is meant: msac (" in printed
    assert "Only the" not in printed
    for label in (":msac", ""):
        # Another environment, where the algorithm has a single version and is called by its name alone.
        finish_run(Store(tmp_path / "base"), make_spec(env="Acrobot-v1"), [0.0, 1.0])
        finish_run(Store(tmp_path / "candidate"), make_spec(env="Acrobot-v1"), [0.0, 1.0])
        assert main(["compare", f"{tmp_path / 'base'}{label}", f"{tmp_path / 'candidate'}{label}"]) == 1
        printed = " ".join(capsys.readouterr().out.split())
        assert "regression: msac (" in printed
        assert "Of several versions in the candidate the one run last is meant: msac (" in printed
