"""The texts of a folder of results as pages beside the page, since browsers do not show Markdown."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from benchmarks.store import replace_text

WEB = Path(__file__).parent / "web"
SUFFIX = ".html"
TABLES = "leaderboard.md"
"""What the page shows is linked to on the page."""


def anchor_of(grid: str) -> str:
    """The id that a folder of runs has on the page."""
    return "grid-" + quote(grid, safe="")


def write_texts(folder: Path, page: str) -> list[Path]:
    """Write a folder's texts as HTML, each beside its own: all Markdown files in it and its folders but the tables.

    Links to tables lead to the page, those to other texts to their HTML, and those out of the folder, which is all that is
    published, are left out.

    :param folder: such as ``results/``
    :param page: the file name of the page in it
    :return: the HTML files
    """
    texts = sorted({*folder.glob("*.md"), *folder.glob("*/*.md")} - {*folder.glob(f"*/{TABLES}")})
    template = jinja2.Environment(loader=jinja2.FileSystemLoader(WEB), autoescape=True).get_template("text.html")
    css, written = Markup((WEB / "page.css").read_text(encoding="utf-8")), []
    for path in texts:
        # Tags in a text are shown, not obeyed.
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        tokens = markdown.parse(path.read_text(encoding="utf-8"))
        _lead_links(tokens, path.parent, folder, page)
        title = next((token.content for token in tokens if token.type == "inline"), path.stem)
        body = Markup(markdown.renderer.render(tokens, markdown.options, {}))
        home = os.path.relpath(folder / page, path.parent)
        written.append(path.with_suffix(SUFFIX))
        replace_text(written[-1], template.render(title=title, css=css, body=body, page=Path(home).as_posix()))
    return written


def _lead_links(tokens: Iterable[Token], here: Path, folder: Path, page: str) -> None:
    for token in tokens:
        children, open_links = token.children or [], []
        for child in children:
            if child.type == "link_open":
                href = _led(str(child.attrGet("href")), here, folder, page)
                child.attrSet("href", href or "")
                child.hidden = href is None
                open_links.append(child)
            elif child.type == "link_close":
                child.hidden = open_links.pop().hidden
        token.children = [child for child in children if not child.hidden] if children else token.children


def _led(href: str, here: Path, folder: Path, page: str) -> str | None:
    """Where a text's link leads among the published files; ``None`` if it leads out of them."""
    if re.match(r"[a-z]+:|#", href):
        return href
    file, _, fragment = href.partition("#")
    target = Path(os.path.normpath(here / file))
    if not target.is_relative_to(folder) or not target.exists():
        return None
    if target.name == TABLES:
        target, fragment = folder / page, anchor_of(target.parent.name)
    elif target.suffix == ".md":
        target = target.with_suffix(SUFFIX)
    return Path(os.path.relpath(target, here)).as_posix() + (f"#{fragment}" if fragment else "")
