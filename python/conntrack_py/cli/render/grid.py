"""Tables that fit a terminal, whole.

Rich alone would cut what does not fit, or break it anywhere. A broken address reads as another one: addresses stay
whole. Where one has no room in its column, it runs on to the right, and the rest of the row follows on the next line:

    2001:db8:1111:2222:3333:4444:5555:aaaa
             2001:db8:1111:2222:3333:4444:5555:b000
                      53/udp  524 kB
"""

from __future__ import annotations

import re
from typing import IO, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

#: Width of tables in files.
FILE_WIDTH = 160
#: Widths at which cells fold last: an IPv4 address, most services.
IPV4 = 15
SERVICE = 11
#: Longest address with a prefix or a port that stays whole.
_LONGEST_ADDRESS = 64
_STYLES = {"egress": "yellow", "ingress": "cyan", "internal": "green", "transit": "magenta", "multicast": "dim"}
_ADDRESS = re.compile(r"\[?[0-9a-fA-F]*[:.][0-9a-fA-F:.]*\]?(?::[0-9]+|/[0-9]+)?[?,;]?")


def console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for these tables. To rich's eyes, parts of IPv6 addresses are emoji (`:100:`)."""
    return Console(file=file, width=width, emoji=False, highlight=False)


def count(number: int, noun: str) -> str:
    """`1 host`, `2,000 hosts`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def direction(word: str, unsure: bool = False) -> str:
    """A direction in its colour, with a mark where the originator is a guess."""
    return f"[{style(word)}]{word}[/]" + ("[bold red]?[/]" if unsure else "")


def style(word: str) -> str:
    """The style of a direction."""
    return _STYLES.get(word, "dim")


def say(out: Console, markup: str) -> None:
    """Print a line, broken where the width ends as a cell is: addresses whole, no blanks at the end."""
    out.print(Text("\n").join(_folded(Text.from_markup(markup, emoji=False), out.width)), soft_wrap=True)


class Grid:
    """A table that fits the width it is printed at and loses nothing: numbers and addresses whole, words folded."""

    def __init__(self, gap: int, header_style: str) -> None:
        self._gap = gap
        self._header_style = header_style
        self._columns: list[_Column] = []
        self._rows: list[tuple[Text, ...]] = []

    def column(
        self, name: str, *, right: bool = False, least: int | None = None, spare: int = 0, wish: int = 0
    ) -> None:
        """Add a column.

        Args:
            name: Its heading.
            right: Flush right.
            least: It may fold, if possible not below this width. None: it may not.
            spare: It may be left out where room is short, those with the highest number first; 1: only where addresses
                have run on before. 0: it may not.
            wish: The width it has even if its cells need less, where there is room.
        """
        self._columns.append(_Column(name, right, least, spare, wish))

    def row(self, *cells: str) -> None:
        """Add a row, with markup; the cells of columns at the end may be missing."""
        self._rows.append(tuple(Text.from_markup(cell, emoji=False) for cell in cells))

    def print(self, out: Console) -> None:
        """Print it."""
        kept, widths = self._fitted(out.width)
        starts = [sum(widths[:place]) + self._gap * place for place in range(len(widths))]
        slots = [
            _Slot(start, width, self._columns[place]) for place, start, width in zip(kept, starts, widths, strict=True)
        ]
        lines = _lines([Text(slot.column.name, self._header_style) for slot in slots], slots, out.width)
        for row in self._rows:
            cells = [row[place] if place < len(row) else Text() for place in kept]
            # A row of a left-out column alone has nothing to say.
            if any(cell.plain for cell in cells):
                lines += _lines(cells, slots, out.width)
        out.print(Text("\n").join(lines), soft_wrap=True)

    def _fitted(self, room: int) -> tuple[list[int], list[int]]:
        """The columns that are kept, and their widths."""
        every = range(len(self._columns))
        wishes, whole = [self._wish(place) for place in every], [self._whole(place) for place in every]

        def needed(some: list[int], least: list[int]) -> int:
            return sum(least[place] for place in some) + self._gap * (len(some) - 1)

        def kept_of(least: list[int], last: int) -> list[int]:
            kept = list(every)
            while needed(kept, least) > room:
                spare = max(kept, key=lambda place: self._columns[place].spare)
                if self._columns[spare].spare < last:
                    break
                kept.remove(spare)
            return kept

        least = whole
        kept = kept_of(least, 2)
        # Long addresses run on where they have no room, the last of a row first.
        for place in reversed(every):
            if needed(kept, least) <= room:
                break
            least[place] = min(wishes[place], self._columns[place].least or wishes[place])
            kept = kept_of(least, 2)
        kept = kept_of(least, 1)
        bare = [wishes[place] if self._columns[place].least is None else 1 for place in kept]
        room -= self._gap * (len(kept) - 1)
        widths = _shrunk([wishes[place] for place in kept], [least[place] for place in kept], room)
        return kept, _shrunk(widths, bare, room)

    def _cells(self, place: int) -> list[Text]:
        return [row[place] for row in self._rows if place < len(row)]

    def _wish(self, place: int) -> int:
        column = self._columns[place]
        return max(column.wish, len(column.name), *(cell.cell_len for cell in self._cells(place)), 0)

    def _whole(self, place: int) -> int:
        """The least width at which no address runs on."""
        wish, least = self._wish(place), self._columns[place].least
        if least is None:
            return wish
        words = (word for cell in self._cells(place) for word in cell.plain.split())
        return min(wish, max(least, *(cell_len(word) for word in words if _is_address(word)), 0))


class _Column(NamedTuple):
    name: str
    right: bool
    least: int | None
    spare: int
    wish: int


class _Slot(NamedTuple):
    start: int
    width: int
    column: _Column


def _is_address(word: str) -> bool:
    return len(word) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(word) is not None


def _shrunk(widths: list[int], least: list[int], room: int) -> list[int]:
    """The widths, the widest first made smaller until their sum fits, but none below its least."""
    widths = list(widths)
    while sum(widths) > room and any(width > bound for width, bound in zip(widths, least, strict=True)):
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _pieces(word: str, width: int) -> list[int]:
    """Begins of the pieces of a long word: behind a dot of a host name, else anywhere."""
    starts, used, dot = [0], 0, 0
    for place, letter in enumerate(word):
        if used + cell_len(letter) > width and used:
            starts.append(dot if 2 * (dot - starts[-1]) > place - starts[-1] else place)
            used = cell_len(word[starts[-1] : place])
        used += cell_len(letter)
        if letter == ".":
            dot = place + 1
    return starts


def _folded(cell: Text, width: int) -> list[Text]:
    """The lines of a cell: broken between words, and within words that are too long and no address."""
    breaks, used = [], 0
    for found in re.finditer(r"\S+\s*", cell.plain):
        word = found[0].rstrip()
        if used and used + cell_len(word) > width:
            breaks.append(found.start())
            used = 0
        if cell_len(word) > width and not _is_address(word):
            pieces = _pieces(word, width)
            breaks += [found.start() + place for place in pieces[1:]]
            used = cell_len(word[pieces[-1] :])
            used += len(found[0]) - len(word)
        else:
            used += cell_len(found[0])
    lines = list(cell.divide(breaks)) if breaks else [cell.copy()]
    for line in lines:
        line.rstrip()
    return lines


def _lines(cells: list[Text], slots: list[_Slot], room: int) -> list[Text]:
    """The lines of a row."""
    done: list[Text] = []
    band: list[tuple[int, list[Text]]] = []
    end = 0
    for cell, slot in zip(cells, slots, strict=True):
        if not cell.plain:
            continue
        lines = _folded(cell, slot.width)
        needs = max(line.cell_len for line in lines)
        start = slot.start if needs <= slot.width else max(min(slot.start, room - needs), 0)
        if band and start < end:
            done += _side_by_side(band)
            band = []
        if slot.column.right:
            for line in lines:
                line.pad_left(max(slot.width - line.cell_len, 0))
        band.append((start, lines))
        end = start + max(needs, slot.width if slot.column.right else 0) + 1
    return done + _side_by_side(band)


def _side_by_side(band: list[tuple[int, list[Text]]]) -> list[Text]:
    made = []
    for place in range(max((len(lines) for _, lines in band), default=0)):
        whole = Text()
        for start, lines in band:
            if place < len(lines):
                whole.pad_right(max(start - whole.cell_len, 0))
                whole.append_text(lines[place])
        whole.rstrip()
        made.append(whole)
    return made
