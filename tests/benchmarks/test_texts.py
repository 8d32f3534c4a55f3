"""Texts are read in a browser as they are on the page that they stand beside."""

import re
from pathlib import Path

import pytest

from benchmarks.report import write_texts

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def written(tmp_path):
    """Writes a text into a folder of results that has tables, a picture and another text; returns its HTML."""
    folder = tmp_path / "results"
    (folder / "classic").mkdir(parents=True)
    (folder / "speed").mkdir()
    (tmp_path / "outside.md").write_text("")
    (folder / "classic" / "leaderboard.md").write_text("# Leaderboard")
    (folder / "classic" / "curve.png").write_bytes(b"")
    (folder / "speed" / "speed.md").write_text("# Training speed\n\n[back](../README.md#first)")

    def write(text):
        (folder / "README.md").write_text(text, encoding="utf-8")
        paths = write_texts(folder, "index.html")
        assert [path.relative_to(folder).as_posix() for path in paths] == ["README.html", "speed/speed.html"]
        return [path.read_text(encoding="utf-8") for path in paths]

    return write


def links(html):
    return re.findall(r'<a href="([^"]*)">', html)


def test_links_lead_to_what_is_published_and_to_nothing_else(written):
    text = "# Findings\n\n[`one`](classic/leaderboard.md) [two](speed/speed.md) [out](../outside.md) [gone](nothing.md) [web](https://a.b)"
    readme, speed = written(text)
    assert links(readme) == ["index.html", "index.html#grid-classic", "speed/speed.html", "https://a.b"]
    assert "<title>Findings</title>" in readme and ">out gone <a" in re.sub(r"</a> out", "</a> >out", readme)
    assert links(speed) == ["../index.html", "../README.html#first"]


def test_pictures_and_tables_are_shown(written):
    readme, _ = written("# T\n\n![curve](classic/curve.png)\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n")
    assert '<img src="classic/curve.png" alt="curve"' in readme and readme.count("<td") == 2


def test_tags_in_a_text_are_shown_and_not_obeyed(written):
    readme, _ = written("# <b>T</b>\n\n<script>alert(1)</script> [x](javascript:alert(2))")
    assert "<script" not in readme and "javascript:" not in "".join(links(readme))
    assert "<title>&lt;b&gt;T&lt;/b&gt;</title>" in readme


def test_what_is_published_links_to_its_own_tables(tmp_path):
    """Every table that the published text speaks of is on the page, and no link of it is left out for a slip of the pen."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    inside = [link for link in re.findall(r"[^!]\[[^\]]*\]\(([^)#]+)\)", text) if not link.startswith("../")]
    assert inside and all((RESULTS / link).is_file() for link in inside)
