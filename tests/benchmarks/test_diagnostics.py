"""The figure of a run's diagnostics shows what the run logged, and says what is missing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.logger import configure

from benchmarks.__main__ import main
from benchmarks.report.diagnostics import PANELS, read_diagnostics

STEPS = "time/total_timesteps"


@pytest.fixture
def write(tmp_path):
    """Write a ``progress.csv`` of 4 rows with the given columns in a new folder."""

    def write(name, rows=4, **columns):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        values = {column.replace("__", "/"): value for column, value in columns.items()}
        pd.DataFrame({STEPS: 100 * np.arange(1, rows + 1), **values}).to_csv(folder / "progress.csv", index=False)
        return folder

    return write


@pytest.fixture
def draw(monkeypatch):
    """Plot runs and look at the axes and legends of the figure before they are gone."""

    def draw(*arguments):
        seen = []
        monkeypatch.setattr(plt, "close", seen.append)
        assert main(["plot", *map(str, arguments)]) == 0
        (figure,) = seen
        return {axes.get_title(loc="left"): axes for axes in figure.axes}, figure

    yield draw
    monkeypatch.undo()
    plt.close("all")


def points(line):
    return [(x, y) for x, y in zip(*line.get_data(), strict=True)]


def test_only_panels_with_data_are_drawn(write, draw):
    axes, _ = draw(write("run", train__loss=[None, 1.0, 0.5, 0.1], train__action_gap=[None] * 4, train__n_updates=range(4)))
    assert list(axes) == ["loss of the values"]
    (line,) = axes["loss of the values"].lines
    assert points(line) == [(200, 1.0), (300, 0.5), (400, 0.1)]


def test_every_panel_is_drawn_where_there_is_data_for_it(write, draw):
    columns = {next(iter(panel.columns)).replace("/", "__"): [1.0, 2.0, 3.0, 4.0] for panel in PANELS}
    axes, figure = draw(write("run", **columns))
    assert list(axes) == [panel.title for panel in PANELS]
    assert all(points(panel.lines[0])[-1] == (400, 4.0) for panel in axes.values())
    assert figure.get_suptitle() == "run"


@pytest.mark.parametrize(
    ("algorithm", "env", "panels"),
    [
        (DQN, "CartPole-v1", {"return", "loss of the values"}),
        (PPO, "CartPole-v1", {"return", "loss of the values", "loss of the policy", "policy entropy (nats)"}),
        (SAC, "Pendulum-v1", {"return", "loss of the values", "loss of the policy", "temperature"}),
    ],
)
def test_what_sb3_logs_is_found(algorithm, env, panels, tmp_path, draw):
    off_policy = {"learning_starts": 200, "buffer_size": 1000, "train_freq": (1, "episode"), "gradient_steps": 1}
    keywords = {"n_steps": 128} if algorithm is PPO else off_policy
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **keywords)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(900, log_interval=1)
    axes, _ = draw(tmp_path)
    assert axes.keys() == panels
    if algorithm is PPO:
        assert 0 < axes["policy entropy (nats)"].lines[0].get_ydata()[0] <= np.log(2) + 1e-6, "of two actions"


def test_a_run_of_a_grid_has_its_title_and_its_evaluations(store, make_spec, finish, write, draw):
    spec = make_spec(env="MinAtar/Breakout-v1")
    finish(spec, [-5.0, -1.0])
    folder = store.out / spec.path
    (write("log", rollout__ep_rew_mean=[-9.0, -8.0, -7.0, -6.0]) / "progress.csv").rename(folder / "progress.csv")
    axes, figure = draw(folder)
    assert figure.get_suptitle() == "msac MinAtar/Breakout-v1 seed 0"
    training, evaluation = axes["return"].lines
    assert points(training) == [(100, -9.0), (200, -8.0), (300, -7.0), (400, -6.0)]
    assert points(evaluation) == [(50, -5.0), (100, -1.0)]
    assert [text.get_text() for text in axes["return"].get_legend().get_texts()] == ["evaluation", "training, exploring"]
    assert (folder / "diagnostics.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_run_says_so(store, make_spec, write):
    folder = store.begin(make_spec())
    (write("log", train__loss=range(4)) / "progress.csv").rename(folder / "progress.csv")
    store.fail(make_spec(), folder, "ValueError: no")
    (failed,) = store.out.glob("*/*/*/*.failed")
    assert read_diagnostics(failed).title == "msac Pendulum-v1 seed 0 (failed)"


def test_another_programs_record_is_no_title(write):
    folder = write("mine", train__loss=range(4))
    (folder / "run.json").write_text('{"spec": {"name": "x"}}')
    assert read_diagnostics(folder).title == "mine"


def test_several_runs_are_told_apart(write, draw, tmp_path):
    folders = [write("one/run", train__ent_coef=range(4)), write("two/run", train__temperature=range(4)), write("three")]
    pd.DataFrame({STEPS: [1, 2], "train/ent_coef": [5.0, 6.0]}).to_csv(folders[2] / "progress.csv", index=False)
    axes, figure = draw(*folders)
    lines = axes["temperature"].lines
    assert [points(line)[-1] for line in lines] == [(400, 3.0), (400, 3.0), (2, 6.0)]
    assert len({line.get_color() for line in lines}) == 3
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [f"run ({folders[0]})", f"run ({folders[1]})", "three"]
    assert [line.get_color() for line in legend.get_lines()] == [line.get_color() for line in lines]
    assert (tmp_path / "diagnostics.png").is_file(), "in the folder that holds them all"


def test_a_long_log_is_averaged_over_a_running_window(write, draw):
    values = np.ones(1000)
    values[500] = 101.0
    axes, _ = draw(write("long", rows=1000, train__loss=values, train__action_gap=values, rollout__ep_rew_mean=values))
    log, median = axes["loss of the values"].lines
    assert log.get_ydata().max() == 101.0
    assert median.get_ydata().tolist() == [1.0] * 1000
    _, mean = axes["action gap"].lines
    assert mean.get_ydata()[[0, 500, 999]].tolist() == [1.0, pytest.approx(1 + 100 / 20), 1.0], "20 points in a window"
    assert axes["return"].lines[0].get_ydata().max() == 101.0, "a mean of episodes already"


def test_what_is_not_finite_is_left_out(write):
    run = read_diagnostics(write("run", train__loss=[np.inf, 1.0, np.nan, -np.inf]))
    assert run.series(PANELS[1]).to_dict() == {200: 1.0}


def test_the_figure_goes_where_it_is_wanted(write, tmp_path, capsys):
    folder = write("run", train__loss=range(4))
    for arguments, expected in (
        ([folder], folder / "diagnostics.png"),
        ([folder / "progress.csv"], folder / "diagnostics.png"),
        ([folder, "--out", tmp_path / "x.png"], tmp_path / "x.png"),
    ):
        assert main(["plot", *map(str, arguments)]) == 0
        assert capsys.readouterr().out == f"Written: {expected}\n"
        assert expected.read_bytes().startswith(b"\x89PNG")
        expected.unlink()


def test_the_same_run_gives_the_same_bytes(write, tmp_path):
    folder = write("run", train__loss=[3.0, 2.0, 1.0, 0.5])
    for name in ("a.png", "b.png"):
        assert main(["plot", str(folder), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_where_there_is_no_run_the_nearest_are_named(write, tmp_path, monkeypatch, refusal):
    for seed in range(5):
        write(f"runs/Env-v0/dqn/100-abc/seed-{seed}", train__loss=range(4))
    monkeypatch.chdir(tmp_path)
    group = "runs/Env-v0/dqn/100-abc"
    wrong = refusal(main, ["plot", f"{group}/seed-11"]).err
    assert f"error: There is no {group}/seed-11: the nearest runs are {group}/seed-1, " in wrong
    wrong = refusal(main, ["plot", "runs/Env-v0"]).err
    assert f"error: runs/Env-v0 has no progress.csv: the nearest runs are {group}/seed-" in wrong
    assert wrong.count("seed-") == 3
    wrong = refusal(main, ["plot", "/no/such/folder"]).err
    assert wrong == "error: There is no /no/such/folder: name the folder of a run, which holds a progress.csv.\n"


def test_of_published_runs_it_is_said_that_they_have_no_log(tmp_path, refusal):
    (tmp_path / "run.json").write_text("{}")
    assert (
        "no progress.csv: runs restored from published records have no training log"
        in refusal(main, ["plot", str(tmp_path)]).err
    )


def test_wrong_inputs_get_a_sentence_and_exit_code_2(write, tmp_path, refusal):
    good, empty, other = write("good", train__loss=range(4)), write("empty"), write("other", train__n_updates=range(4))
    (empty / "progress.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    nothing_logged = write("nothing", train__loss=[None] * 4)
    for arguments, message in (
        ([empty], "empty/progress.csv has no column time/total_timesteps"),
        ([tmp_path / "binary.csv"], "binary.csv has no column time/total_timesteps"),
        ([other], "other/progress.csv has nothing to draw: it has values in none of rollout/ep_rew_mean, train/critic_loss"),
        ([good, nothing_logged], "nothing/progress.csv has nothing to draw"),
        ([good, "--out", "x.pdf"], "--out x.pdf is not a PNG: name a file such as x.png"),
        ([good, "--out", tmp_path / "no" / "x.png"], "no/x.png cannot be written"),
        ([], "the following arguments are required: RUN"),
    ):
        assert message in refusal(main, ["plot", *map(str, arguments)]).err
    assert not (good / "diagnostics.png").exists()
