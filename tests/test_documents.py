"""What the texts point at is there."""

import re
from pathlib import Path

import pytest
import yaml

from sb3_entropic import __version__
from sb3_entropic.catalog import ALGORITHMS

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def test_the_version_to_cite_is_the_packages():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def anchors(text):
    """Of a text's headings, as GitHub names them."""
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", text)}


def test_the_reference_has_every_algorithm():
    reference = (ROOT / "docs" / "algorithms.md").read_text()
    ours = [algorithm.constructor.__name__ for algorithm in ALGORITHMS.values() if algorithm.parent]
    assert sorted(re.findall(r"autoclass:: sb3_entropic\.(\w+)$", reference, re.MULTILINE)) == sorted(ours)


@pytest.mark.parametrize("name", ["README.md", "results/README.md"])
def test_links_lead_somewhere(name):
    document = ROOT / name
    text = re.sub(r"\s+", " ", document.read_text())
    links = LINK.findall(text)
    assert len(links) > 10
    for path, anchor in links:
        target = document.parent / path if path else document
        assert target.exists(), f"{name} has a link to {path}"
        assert not anchor or anchor in anchors(target.read_text()), f"{name} has a link to {path}#{anchor}"
