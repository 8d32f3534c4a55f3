"""Texts are read in a browser as they are on the page that they stand beside."""

import os
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.report import write_texts

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def folder(tmp_path):
    """Results that have tables, a picture and other texts."""
    folder = tmp_path / "results"
    for name in ("my grid", "speed"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "outside.md").write_text("")
    (folder / "my grid" / "leaderboard.md").write_text("# Leaderboard")
    (folder / "my grid" / "curve.png").write_bytes(b"")
    (folder / "runs.csv").write_text("")
    (folder / "mine.md").write_text("# Nothing leads here")
    (folder / "speed" / "speed.md").write_text("# Training speed\n\n[back](../README.md#what-is-fast-and-why)")
    return folder


@pytest.fixture
def written(folder):
    """Writes a README and returns its HTML, and that of what it leads to."""

    def write(text):
        (folder / "README.md").write_text(text, encoding="utf-8")
        problems = []
        paths = write_texts(folder, "index.html", problems)
        assert not problems
        return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    return write


def links(html):
    return re.findall(r'<a href="([^"]*)">', html)


def test_links_lead_to_what_is_published_and_to_nothing_else(written, folder):
    inside = (
        "[`one`](my%20grid/leaderboard.md) [two](speed/speed.md) [data](runs.csv) [web](https://a.b/c?d=e) [here](#findings)"
    )
    outside = "[out](../outside.md) [gone](nothing.md) [folder](speed)"
    pages = written(f"# Findings\n\n{inside} {outside}")
    assert pages.keys() == {"README.html", "speed/speed.html"}, "what nothing leads to is nobody's page"
    readme = pages["README.html"]
    expected = ["index.html", "index.html#grid-my%20grid", "speed/speed.html", "runs.csv", "https://a.b/c?d=e", "#findings"]
    assert links(readme) == expected
    assert "</a> out gone folder</p>" in readme


@pytest.mark.parametrize("name", ["results", "../{}/results", "results/../results"])
def test_a_folder_may_be_named_in_any_way(name, written, folder, monkeypatch):
    first = written("# T\n\n[one](speed/speed.md) [out](../outside.md)")
    monkeypatch.chdir(folder.parent)
    name = name.format(folder.parent.name)
    paths = write_texts(Path(name), "index.html", [])
    assert [path.read_text() for path in paths] == [*first.values()]
    assert [str(path) for path in paths] == [f"{Path(name) / page}" for page in first]


def test_an_anchor_is_where_it_leads(written):
    pages = written("# Findings\n\n## What is `fast`, and why?\n\n[speed](speed/speed.md)")
    assert 'id="what-is-fast-and-why"' in pages["README.html"]
    assert links(pages["speed/speed.html"]) == ["../index.html", "../README.html#what-is-fast-and-why"]


def test_pictures_and_tables_are_shown(written):
    readme = written(
        "# T\n\n![curve](my%20grid/curve.png) ![away](../a.png) ![web](https://a.b/c.png)\n\n|a|b|\n|---|---|\n|1|2|\n"
    )
    assert re.findall(r'<img src="([^"]*)" alt="([^"]*)"', readme["README.html"]) == [("my%20grid/curve.png", "curve")]
    assert "away web</p>" in readme["README.html"], "of what is not published, or not loaded by the page, the words"
    assert readme["README.html"].count("<td") == 2


def test_tags_in_a_text_are_shown_and_not_obeyed(written):
    (readme,) = written("Before.\n\n# <b>T</b> `c`\n\n<script>alert(1)</script> [x](javascript:alert(2))").values()
    assert "<script" not in readme and "javascript:" not in "".join(links(readme))
    assert "<title>&lt;b&gt;T&lt;/b&gt; c</title>" in readme


def test_what_cannot_be_read_is_told_and_costs_itself_alone(folder):
    (folder / "README.md").write_text("# T\n\n[speed](speed/speed.md)")
    (folder / "speed" / "speed.md").write_bytes(b"\xff\xfe")
    problems = []
    assert [path.name for path in write_texts(folder, "index.html", problems)] == ["README.html"]
    assert [problem.split(" (")[0] for problem in problems] == [f"{folder / 'speed' / 'speed.md'} cannot be read"]


def test_without_a_text_there_is_none(folder):
    assert write_texts(folder, "index.html", []) == []


def test_the_page_links_to_the_text_and_the_text_to_its_tables(store, make_spec, finish, tmp_path):
    finish(make_spec(), [0.0, 1.0])
    results = tmp_path / "results"
    assert main(["export", str(results / "mine"), "--out", str(store.out)]) == 0
    (results / "README.md").write_text("# What it shows\n\n[mine](mine/leaderboard.md)")
    assert main(["leaderboard", "--results", str(results)]) == 0
    page, text = ((results / name).read_text(encoding="utf-8") for name in ("index.html", "README.html"))
    assert '<a href="README.html">What the grids show</a>' in page
    (link,) = [link for link in links(text) if "#" in link]
    assert link == "index.html#grid-mine" and 'id="grid-mine"' in page


def test_what_is_published_loses_no_link_for_a_slip_of_the_pen():
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    inside = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not re.match(r"\.\./|https:", link)]
    assert inside and all((RESULTS / link).is_file() for link in inside)
    outside = [link.partition("#")[0] for link in re.findall(r"\]\((\.\./[^)]+)\)", text)]
    assert outside and all(os.path.exists(RESULTS / link) for link in outside)
