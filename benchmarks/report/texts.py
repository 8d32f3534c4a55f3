"""What is written about a folder of results as pages beside the page, since browsers do not show Markdown."""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from benchmarks.report.page import anchor_of, render
from benchmarks.store import replace_text

FIRST = "README.md"
SUFFIX = ".html"
POLICY = "img-src data: 'self' file:; style-src 'unsafe-inline'"
TABLES = "leaderboard.md"
"""What the page shows is linked to on the page."""


def write_texts(folder: Path, page: str, problems: list[str]) -> list[Path]:
    """Write a folder's ``README.md``, and the other texts in the folder that it leads to, as HTML, each beside its own.

    Links to tables lead to the page, those to texts to their HTML; of links and pictures out of the folder, which is all
    that is published, the words are left.

    :param folder: such as ``results/``
    :param page: the file name of the page in it
    :param problems: a sentence about each text that cannot be read is appended to it
    :return: the HTML files
    """
    named, folder = folder, folder.resolve()
    found = [folder / FIRST] * (folder / FIRST).is_file()
    written = []
    # It grows by the texts that are met.
    for path in found:
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path} cannot be read ({error}), so it is no page.")
            continue
        text = _Text(source, path.parent, folder, page)
        found += [other for other in text.leads_to if other not in found]
        home = quote(Path(os.path.relpath(folder / page, path.parent)).as_posix())
        written.append(named / path.with_suffix(SUFFIX).relative_to(folder))
        replace_text(written[-1], render("text.html", text.title or path.stem, POLICY, body=text.html(), page=home))
    return written


class _Text:
    """A text in Markdown. Tags in it are shown, not obeyed.

    :ivar leads_to: texts in the folder that it has links to
    """

    def __init__(self, source: str, here: Path, folder: Path, page: str):
        self._here, self._folder, self._page = here, folder, page
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        self._tokens = self._markdown.parse(source)
        self.leads_to: list[Path] = []
        self.title = ""
        for before, token in zip([None, *self._tokens], self._tokens, strict=False):
            if before is not None and before.type == "heading_open":
                words = "".join(child.content for child in token.children or ())
                self.title = self.title or words
                before.attrSet("id", _as_anchor(words))
            token.children = self._led(token.children or []) if token.children is not None else None

    def html(self) -> Markup:
        return Markup(self._markdown.renderer.render(self._tokens, self._markdown.options, {}))

    def _led(self, children: list[Token]) -> list[Token]:
        kept, links = [], []
        for child in children:
            if child.type == "link_open":
                links.append(self._lead(child, "href"))
            if child.type == "image" and not self._lead(child, "src"):
                child = Token("text", "", 0, content=child.content)
            is_shown = not child.type.startswith("link_") or links[-1]
            kept += [child] * is_shown
            if child.type == "link_close":
                links.pop()
        return kept

    def _lead(self, token: Token, attribute: str) -> bool:
        """Let a link lead to where it leads among the published files; whether it does."""
        parts = urlsplit(str(token.attrGet(attribute)))
        if parts.scheme or parts.netloc:
            # The page shows no pictures from elsewhere.
            return attribute == "href"
        if not parts.path:
            return True
        target = (self._here / unquote(parts.path)).resolve()
        if not (target.is_relative_to(self._folder) and target.is_file()):
            return False
        fragment = parts.fragment
        if attribute == "href" and target.name == TABLES:
            target, fragment = self._folder / self._page, anchor_of(target.parent.name)
        elif attribute == "href" and target.suffix == ".md":
            self.leads_to.append(target)
            target = target.with_suffix(SUFFIX)
        path = quote(Path(os.path.relpath(target, self._here)).as_posix())
        token.attrSet(attribute, path + (f"#{fragment}" if fragment else ""))
        return True


def _as_anchor(heading: str) -> str:
    """As those who show Markdown make one of a heading: ``What it is, and why`` is ``what-it-is-and-why``."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
