"""Tables that fit a terminal, whole."""

from __future__ import annotations

from typing import IO, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Width of tables in files.
FILE_WIDTH = 160
#: Widths at which cells fold last: an IPv4 address, most services.
IPV4 = 15
SERVICE = 11
_STYLES = {"egress": "yellow", "ingress": "cyan", "internal": "green", "transit": "magenta", "multicast": "dim"}


def console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for these tables. To rich's eyes, parts of IPv6 addresses are emoji (`:100:`)."""
    return Console(file=file, width=width, emoji=False, highlight=False)


def count(number: int, noun: str) -> str:
    """`1 host`, `2,000 hosts`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def direction(word: str, unsure: bool = False) -> str:
    """A direction in its colour, with a mark where the originator is a guess."""
    return f"[{_STYLES.get(word, 'dim')}]{word}[/]" + ("[bold red]?[/]" if unsure else "")


class Grid:
    """A table that fits the width it is printed at and loses nothing: numbers whole, long words on several lines.

    Rich alone would cut what does not fit.
    """

    def __init__(self, gap: int, header_style: str) -> None:
        self._gap = gap
        self._header_style = header_style
        self._columns: list[_Column] = []
        self._rows: list[tuple[str, ...]] = []

    def column(
        self, name: str, *, right: bool = False, least: int | None = None, spare: int = 0, wish: int = 0
    ) -> None:
        """Add a column.

        Args:
            name: Its heading.
            right: Flush right.
            least: It may fold, if possible not below this width. None: it may not.
            spare: It may be left out where room is short, those with the highest number first. 0: it may not.
            wish: The width it has even if its cells need less, where there is room.
        """
        self._columns.append(_Column(name, right, least, spare, wish))

    def row(self, *cells: str) -> None:
        """Add a row, with markup; the cells of columns at the end may be missing."""
        self._rows.append(cells)

    def print(self, out: Console) -> None:
        """Print it."""
        kept = list(range(len(self._columns)))
        wishes = [self._wish(place) for place in kept]
        gaps = self._gap * (len(kept) - 1)
        while gaps + sum(self._least(place, wishes[place]) for place in kept) > out.width:
            spare = max(kept, key=lambda place: self._columns[place].spare)
            if not self._columns[spare].spare:
                break
            kept.remove(spare)
            gaps -= self._gap
        least = [self._least(place, wishes[place]) for place in kept]
        bare = [wish if self._columns[place].least is None else 1 for place, wish in enumerate(wishes)]
        widths = _fitted([wishes[place] for place in kept], least, out.width - gaps)
        widths = _fitted(widths, [bare[place] for place in kept], out.width - gaps)
        grid = Table(box=None, pad_edge=False, header_style=self._header_style, padding=(0, self._gap, 0, 0))
        for place, width in zip(kept, widths, strict=True):
            column = self._columns[place]
            grid.add_column(column.name, justify="right" if column.right else "left", width=width, overflow="fold")
        for row in self._rows:
            # A row of a left-out column alone has nothing to say.
            if any(row[place] for place in kept if place < len(row)):
                grid.add_row(*(row[place] if place < len(row) else "" for place in kept))
        out.print(grid)

    def _wish(self, place: int) -> int:
        cells = (Text.from_markup(row[place], emoji=False).cell_len for row in self._rows if place < len(row))
        column = self._columns[place]
        return max(column.wish, len(column.name), *cells, 0)

    def _least(self, place: int, wish: int) -> int:
        least = self._columns[place].least
        return wish if least is None else min(wish, least)


class _Column(NamedTuple):
    name: str
    right: bool
    least: int | None
    spare: int
    wish: int


def _fitted(widths: list[int], least: list[int], room: int) -> list[int]:
    """The widths, the widest first made smaller until their sum fits, but none below its least."""
    widths = list(widths)
    while sum(widths) > room and widths != least:
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths
