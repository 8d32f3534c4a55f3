"""The page says what the tables say, whatever its data; what a browser makes of it is tested in test_browser."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from benchmarks import statistics
from benchmarks.__main__ import main
from benchmarks.report import Grid, build_across, build_leaderboards, write_page
from benchmarks.report.figures import styles

HOSTILE = "msac[</script><script>alert(1)</script>&lt;]"


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 50)


class Parsed(HTMLParser):
    """Start tags with their attributes, the text of the visible elements, and that of the script that holds the data."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.data, self._within = [], "", "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._within = dict(attributes).get("id") or tag

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._within = ""

    def handle_data(self, data):
        if not self._within:
            self.text += data
        elif self._within == "data":
            self.data += data

    def all(self, name):
        return [attributes[name] for _, attributes in self.tags if attributes.get(name)]


@pytest.fixture
def page(store, tmp_path):
    def page(name="page"):
        boards = build_leaderboards(store)
        path = write_page(
            [Grid(name, boards, build_across(boards), ["runs/x cannot be read <b>."])], tmp_path / f"{name}.html"
        )
        return path.read_text()

    return page


def test_the_tables_are_there_with_their_provenance(store, make_spec, finish, page):
    origin = {
        "started": "2026-01-02T03:04:05+00:00",
        "commit": "c" * 40,
        "machine": {"cores": 2},
        "versions": {"torch": "2.8"},
    }
    usual = {"hyperparameters": {"learning_rate": 1e-3}}
    for seed in range(5):
        finish(
            make_spec(seed=seed, **usual), [0.0, 100.0 + seed], command="python -m benchmarks run --env Pendulum-v1", **origin
        )
        finish(make_spec(seed=seed, algo="sac", label="sac"), [0.0, 50.0 + seed], **origin)
    failed = make_spec(seed=5, **usual)
    store.fail(failed, store.begin(failed), "Traceback\n  File x\nValueError: it <broke>")
    parsed = Parsed(page())
    text = " ".join(parsed.text.split())
    for words in (
        "2 algorithms on 1 environment: 10 finished runs, 1 failed, started 2026-01-02.",
        "Pendulum-v1 after 100 steps",
        "102.0",
        "Some runs failed",
        "msac seed 5 ValueError: it <broke>",
        "File x",
        "python -m benchmarks run --env Pendulum-v1",
        "c" * 40,
        "torch 2.8",
        "cores 2",
        "learning_rate=0.001",
        "seeds 0 to 4",
        "1.00–1.00",
        "runs/x cannot be read <b>.",
    ):
        assert words in text, words
    data = json.loads(parsed.data)
    (rows,) = data["boards"].values()
    assert [row["label"] for row in rows] == ["msac", "sac"]
    assert rows[0]["curve"]["step"] == [50, 100]
    assert rows[0]["profile"]["share"] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0, 0])
    kinds = [attributes["data-kind"] for tag, attributes in parsed.tags if attributes.get("data-kind")]
    assert kinds == ["curve", "time", "profile"]


def test_several_environments_are_shown_together(make_spec, finish, page):
    for env in ("Pendulum-v1", "CartPole-v1"):
        for seed in range(2):
            finish(make_spec(env=env, seed=seed), [0.0, 100.0])
    html = page()
    parsed = Parsed(html)
    assert "2 environments together" in parsed.text
    assert "normalised" in parsed.all("data-kind")
    names = re.findall(r'<td class="picture"></td>|<button type="button">([^<]*)</button></th>', html)
    (together, *_) = re.findall(r'<tr data-label="msac">(.*?)</tr>', html, re.DOTALL)
    cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", together, re.DOTALL)
    assert cells[names.index("runs")] == "4 <small>(fewer than 5 each)</small>", "two seeds on each"


def test_settings_and_versions_of_an_algorithm_are_no_other_algorithms(make_spec, finish, page):
    finish(make_spec(), [0.0, 100.0])
    finish(make_spec(package="sb3_entropic 0.2.0"), [0.0, 100.0])
    finish(make_spec(label="msac[gamma=0.9]", hyperparameters={"gamma": 0.9}), [0.0, 100.0])
    finish(make_spec(algo="sac", label="sac"), [0.0, 100.0])
    assert "2 algorithms in 3 settings on 1 environment: 4 finished runs" in " ".join(Parsed(page()).text.split())


@pytest.mark.parametrize("case", ["nothing", "one run", "failures only"])
def test_there_may_be_little_to_show(case, store, make_spec, finish, page):
    if case == "one run":
        finish(make_spec(), [1.0, 2.0])
    elif case == "failures only":
        store.fail(make_spec(), store.begin(make_spec()), "ValueError: no")
    parsed = Parsed(page())
    expected = {
        "nothing": "There are no runs yet",
        "one run": "1 seed an algorithm",
        "failures only": "No run has finished here",
    }
    assert expected[case] in parsed.text
    assert parsed.data or case == "nothing"


def test_what_users_call_things_is_text_and_nothing_else(store, make_spec, finish, page):
    finish(make_spec(label=HOSTILE), [1.0, 2.0], machine={"<img src=x onerror=alert(2)>": 1})
    finish(make_spec(algo="sac", label='sac["><script>alert(3)</script>]'), [1.0, 2.0])
    failed = make_spec(label=HOSTILE, seed=1)
    store.fail(failed, store.begin(failed), "</pre><script>alert(4)</script>\nValueError: </pre><script>alert(5)</script>")
    html = page(name="a<b")
    parsed = Parsed(html)
    scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}, {}], "ours and no others"
    assert not any(tag == "img" for tag, _ in parsed.tags)
    assert HOSTILE in parsed.text
    assert HOSTILE in {row["label"] for rows in json.loads(parsed.data)["boards"].values() for row in rows}


def test_the_page_needs_nothing_else(make_spec, finish, page, tmp_path):
    finish(make_spec(), [1.0, 2.0])
    parsed = Parsed(page())
    assert not parsed.all("src")
    beside = [link for link in parsed.all("href") if not link.startswith(("#", "data:"))]
    assert beside == ["page/leaderboard.md"], "the published tables of the folder that it is of"
    (tmp_path / "README.html").write_text("")
    beside = [link for link in Parsed(page()).all("href") if not link.startswith(("#", "data:"))]
    assert beside == ["page/leaderboard.md", "README.html"], "and what else is there"
    (policy,) = (attributes["content"] for tag, attributes in parsed.tags if attributes.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert len(re.findall(r"'sha256-[^']+'", policy)) == 2


def test_the_same_data_gives_the_same_bytes_and_every_id_once(make_spec, finish, page):
    for env in ("Pendulum-v1", "CartPole-v1"):
        for seed in range(2):
            finish(make_spec(env=env, seed=seed), [1.0, 2.0])
            finish(make_spec(env=env, seed=seed, algo="sac", label="sac"), [1.0, 3.0])
    html = page()
    assert page() == html
    ids = Parsed(html).all("id")
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in Parsed(html).all("href") if link.startswith("#")}
    assert targets <= set(ids)


def test_grids_with_similar_names_have_sections_of_their_own(make_spec, finish, store, tmp_path):
    for seed in range(2):
        finish(make_spec(seed=seed), [1.0, 2.0])
    boards = build_leaderboards(store)
    html = write_page([Grid(name, boards, (), ()) for name in ("run_1", "run-1")], tmp_path / "page.html").read_text()
    ids = Parsed(html).all("id")
    assert len(ids) == len(set(ids))


def test_an_algorithm_is_told_by_its_dashes_as_by_its_colour():
    labels = [f"algorithm {index:02}" for index in range(28)]
    looks = styles([reversed(labels)])
    assert len(set(looks.values())) == 28
    for one, next_ in itertools.pairwise(labels):
        assert looks[one][0] != looks[next_][0]
        assert looks[one][1] != looks[next_][1]
    assert styles([[*labels, "z", "a[gamma=0.9]"]])[labels[3]] == looks[labels[3]]


def test_in_one_plot_no_two_of_28_algorithms_look_the_same():
    plots = [[f"a{index:02}" for index in range(begin, begin + 20)] for begin in range(0, 60, 10)]
    looks = styles(plots)
    assert [len({looks[label] for label in labels}) for labels in plots] == [20] * 6


def test_in_a_plot_that_all_share_each_has_a_colour_of_its_own():
    pair = ["a", "a[off=True]"]
    many = [f"b{index:02}" for index in range(20)]
    # Without the pair in a plot of its own, six of many lie between the two.
    looks = styles([[*many[:6], *pair], [*many, *pair], pair, ["b00", "a", "c", "d", "e"]])
    assert looks["a"][1] != looks["a[off=True]"][1]
    assert len({looks[label][1] for label in ("b00", "a", "c", "d", "e")}) == 5


def test_a_verdict_has_its_interval_and_links_to_its_section(make_spec, finish, page):
    for seed in range(2):
        finish(make_spec(seed=seed), [1.0, 2.0 - seed])
        finish(make_spec(seed=seed, algo="sac", label="sac"), [1.0, 3.0 * seed])
    html = page()
    (section,) = re.findall(r'<section id="([^"]+)" class="board"', html)
    (verdict,) = re.findall(rf'<div data-board="{section}"><a href="#{section}">(.*?)</a>(.*?)</div>', html)
    assert verdict == ("Pendulum-v1 (100)", ", 2 seeds: 0.50 [0.00, 1.00], late 0.50")
    assert html.index("Does it help?") < html.index('<h2 id="scores">')


def test_whose_losses_a_baseline_has_stands_behind_it(make_spec, finish, page):
    for label in ("msac", "msac[munchausen_alpha=0]"):
        finish(make_spec(label=label), [1.0, 2.0])
    html = page()
    assert "</a> <small>(SAC&#39;s losses)</small></th>" in html
    styles_of = json.loads(Parsed(html).data)["styles"]
    assert [look["name"] for look in styles_of.values()] == ["msac", "msac[munchausen_alpha=0] (SAC's losses)"]


def test_what_is_exported_gives_a_leaderboard(store, make_spec, finish, tmp_path, capsys, refusal):
    for env in ("Pendulum-v1", "CartPole-v1"):
        finish(make_spec(env=env), [1.0, 2.0])
    results = tmp_path / "results"
    assert "There is nothing published" in refusal(main, ["leaderboard", "--results", str(results)]).err
    assert (
        "There are no runs of Hopper-v4"
        in refusal(main, ["export", str(results / "mine"), "--out", str(store.out), "--env", "Hopper-v4"]).err
    )
    assert main(["export", str(results / "one"), "--out", str(store.out), "--env", "Pendulum-v1"]) == 0
    assert main(["export", str(results / "two"), "--out", str(store.out)]) == 0
    assert main(["leaderboard", "--results", str(results), "--svg"]) == 0
    assert (results / "one" / "learning-curve-Pendulum-v1-100.svg").is_file()
    assert not list((results / "one").glob("*CartPole*"))
    text = Parsed((results / "index.html").read_text()).text
    assert all(words in text for words in ("one", "two", "2 environments together"))
    runs = (results / "two" / "runs.jsonl").read_text().splitlines()
    for name in ("one", "two"):
        (results / name / "runs.jsonl").write_text("\n".join(json.dumps({**json.loads(r), "started": "2026"}) for r in runs))
    assert main(["leaderboard", "--results", str(results)]) == 1
    assert f"{results / 'two'} has 2 runs of one, too: a run is published once." in " ".join(capsys.readouterr().out.split())
    (results / "one" / "evaluations.parquet").write_bytes(b"PAR1")
    capsys.readouterr()
    assert main(["leaderboard", "--results", str(results)]) == 1, "and the rest is made"
    assert "left out:" in capsys.readouterr().out
    assert "evaluations.parquet cannot be read" in (results / "index.html").read_text()
