"""The words of an HTML page in one pass of the standard parser, whose time grows with the page and not its nesting."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_UNSEEN = frozenset({"head", "script", "style", "noscript", "template", "nav", "svg"})
_LINES = frozenset({"br", "div", "dd", "dt", "footer", "header", "li", "section", "tr"})
_PARAGRAPHS = frozenset({"article", "blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "p"})
_PARAGRAPHS |= {"pre", "table", "ul"}
_CELLS = frozenset({"td", "th"})


def html_text(page: str) -> str:
    """Text as a reader sees it: a line a block, a blank line between paragraphs, ``pre`` as it is."""
    words = _Words()
    words.feed(page)
    words.close()
    text = re.sub(r"[ \t]+\n", "\n", "".join(words.pieces))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden_by, self._hidden_depth = "", 0
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._hidden_by = ""  # ends a head whose own end was left out, as HTML allows
        elif not self._hidden_by and tag in _UNSEEN:
            self._hidden_by, self._hidden_depth = tag, 1
        elif tag == self._hidden_by:
            self._hidden_depth += 1
        self._preformatted += tag == "pre"
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden_by:
            self._hidden_depth -= 1
            self._hidden_by = tag if self._hidden_depth else ""
        self._preformatted = max(0, self._preformatted - (tag == "pre"))
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._hidden_by:
            return
        if not self._preformatted:
            data = re.sub(r"\s+", " ", data)
            if not self.pieces or self.pieces[-1].endswith((" ", "\n")):
                data = data.lstrip()
        if data:
            self.pieces.append(data)

    def _break(self, tag: str) -> None:
        if self._hidden_by or not self.pieces:
            return
        if tag in _PARAGRAPHS:
            self.pieces.append("\n\n")
        elif tag in _LINES and not self.pieces[-1].endswith("\n"):
            self.pieces.append("\n")
        elif tag in _CELLS and not self.pieces[-1].endswith((" ", "\n")):
            self.pieces.append(" ")
