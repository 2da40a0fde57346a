"""Check of the built site beyond mkdocs: no page or style asks another host for anything. Tables for small screens.

Links are for the reader to follow; what a browser fetches by itself (scripts, styles, pictures, fonts) has to be
in the site. What is not is a warning, and `mkdocs build --strict` fails.
"""

from __future__ import annotations

import logging
import re
from html.parser import HTMLParser
from pathlib import Path

log = logging.getLogger("mkdocs.hooks.outside")

#: Relations of a `<link>` that a browser does not follow.
_FOR_READERS = {"canonical", "prev", "next", "alternate", "author", "license", "edit"}
#: Attributes that make a browser fetch.
_FETCHED = ("src", "srcset", "poster", "data")
#: The theme's script fetches from another host for these: stars of a repository, diagrams, formulas.
_ASKING = {"data-md-component": {"source"}, "class": {"mermaid", "md-source"}}


def _is_outside(address: str) -> bool:
    return re.match(r"\s*([a-z][a-z0-9+.-]*:)?//", address, re.IGNORECASE) is not None


def outside_in_css(css: str) -> list[str]:
    """The addresses of other hosts that a style sheet makes a browser fetch."""
    addresses = re.findall(r"""(?:url\(\s*|@import\s+(?!url\())["']?([^"')\s;]+)""", css)
    return [address for address in addresses if _is_outside(address)]


class _Page(HTMLParser):
    """Collects what a browser would fetch from other hosts to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        fetched = [given[name] for name in _FETCHED if name in given]
        if tag == "link" and not set(given.get("rel", "").split()) <= _FOR_READERS:
            fetched.append(given.get("href", ""))
        if tag in ("image", "use"):
            fetched += [given.get("href", ""), given.get("xlink:href", "")]
        self.outside += [address for address in fetched if _is_outside(address)]
        self.outside += outside_in_css(given.get("style", ""))
        for name, values in _ASKING.items():
            self.outside += [f'{name}="{word}"' for word in given.get(name, "").split() if word in values]
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.outside += outside_in_css(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def outside_in_html(html: str) -> list[str]:
    """The addresses of other hosts that a page makes a browser fetch, and elements whose scripts would."""
    page = _Page()
    page.feed(html)
    page.close()
    return page.outside


#: A table of words has so many columns at most, to be readable on a telephone as it is.
_NARROW = 2


def labelled_tables(html: str) -> str:
    """The tables with the head of each cell's column as its `data-label`: style.css stacks cells on small screens."""
    return re.sub(r"<table>.*?</table>", lambda found: _labelled(found[0]), html, flags=re.DOTALL)


def _labelled(table: str) -> str:
    heads = [re.sub(r"<[^>]*>", "", head).strip() for head in re.findall(r"<th[^>]*>(.*?)</th>", table, re.DOTALL)]
    if len(heads) <= _NARROW:
        return table
    rows = re.split(r"(?=<tr>)", table)
    for place, row in enumerate(rows):
        labels = iter(heads)
        rows[place] = re.sub(r"<td", lambda _, labels=labels: f'<td data-label="{next(labels, "")}"', row)
    return "".join(rows).replace("<table>", "<table data-stacks>", 1)


def on_page_content(html: str, **_: object) -> str:
    """Prepare the tables of a page."""
    return labelled_tables(html)


def on_post_build(config: dict[str, object], **_: object) -> None:
    """Look at every page and style of the finished site."""
    site = Path(str(config["site_dir"]))
    for path in sorted(site.rglob("*")):
        look = {".html": outside_in_html, ".svg": outside_in_html, ".css": outside_in_css}.get(path.suffix)
        for address in look(path.read_text(encoding="utf-8")) if look else ():
            log.warning("%s asks another host: %s", path.relative_to(site), address)
