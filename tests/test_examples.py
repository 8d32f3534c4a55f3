"""The examples draw what they say; `make test-learning` trains them."""

import numpy as np
import pytest
from PIL import Image

from tests.load_example import load_example


def test_multigoal_draws_a_picture_and_an_animation(tmp_path, monkeypatch, capsys):
    example = load_example("multigoal")
    first, *_, last = example.entries()
    monkeypatch.setattr(example, "entries", lambda: [first, last])
    monkeypatch.setattr(example, "RESOLUTION", 12)
    example.main(["--steps", "60", "--episodes", "2", "--out", str(tmp_path)])
    assert "SoftQ, temperature 8" in capsys.readouterr().out
    assert Image.open(tmp_path / "multigoal.png").size[0] == example.WIDTH
    assert Image.open(tmp_path / "multigoal.gif").n_frames > 1


def test_a_landscape_is_the_best_actions_value(monkeypatch):
    example = load_example("multigoal")
    monkeypatch.setattr(example, "RESOLUTION", 3)

    class Model:
        @staticmethod
        def critic(states, actions):
            value = 10 * states[:, :1] + states[:, 1:] - (actions - 0.5).square().sum(1, keepdim=True)
            return value, value + 1

    edge = example.EDGE
    expected = np.array([[10 * x + y for x in (-edge, 0, edge)] for y in (-edge, 0, edge)])
    assert example.landscape(Model) == pytest.approx(expected, abs=1e-5)


def test_skills_draws_a_picture(tmp_path, capsys):
    load_example("skills").main(["--steps", "60", "--out", str(tmp_path)])
    assert "discriminator accuracy" in capsys.readouterr().out
    assert Image.open(tmp_path / "skills.png").size[0] > 800


@pytest.mark.parametrize(("name", "argument"), [("skills", "--seed=-1"), ("skills", "--steps=0"), ("multigoal", "--seed=-1")])
def test_a_wrong_argument_is_named(name, argument, capsys):
    with pytest.raises(SystemExit):
        load_example(name).main([argument])
    assert "is not a whole number" in capsys.readouterr().err
