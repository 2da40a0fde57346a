"""Pictures of block characters: share bars, sparklines, strips. Each is the last column, beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from conntrack_py import text
from conntrack_py.analysis import Initiative
from conntrack_py.analysis.columns import places_in_time
from conntrack_py.table import ConnectionTable

#: Cells of a share bar, of a sparkline and of a strip, and the widths from which they are shown.
BAR, LINE, STRIP = 16, 48, 32
WIDE, WIDER = 110, 125
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
#: Nothing in the place of a column.
_NONE = "·"


def fits(out: Console, width: int) -> bool:
    """True where the output is a terminal of that width that shows block characters."""
    blocks = out.is_terminal and not (out.is_dumb_terminal or out.options.ascii_only or out.legacy_windows)
    return blocks and out.width >= width


def bar(part: int, whole: int, cells: int = BAR) -> str:
    """A share as a bar in eighths of a cell; what is not nothing has at least one."""
    eighths = max(round(8 * cells * part / whole), 1) if part else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def line(counts: Sequence[int]) -> str:
    """Counts as columns, the largest one as high as a cell."""
    top = max(counts, default=0)
    return "".join(_LEVELS[-(-8 * count // top) - 1] if count else _NONE for count in counts)


class Times:
    """The axis of time of a table: from the first connection to the last, in cells."""

    def __init__(self, table: ConnectionTable) -> None:
        starts = table["start"]
        self._known: NDArray[np.bool_] = ~np.isnat(starts)
        times = starts.view(np.int64)
        known = times[self._known]
        self.first, self.last = (int(known.min()), int(known.max())) if len(known) else (0, 0)
        self._table = table
        self._times = times

    def lines(self, cells: int = LINE) -> dict[str, str]:
        """Direction → a line of its connections over time."""
        codes, words = self._table.codes("direction")
        places = self._places(self._times[self._known], cells)
        counts = np.bincount(codes[self._known].astype(np.int64) * cells + places, minlength=len(words) * cells)
        return {word: line(some) for word, some in zip(words, counts.reshape(-1, cells).tolist(), strict=True)}

    def strip(self, one: Initiative, cells: int = STRIP) -> str:
        """A strip of the connections of a finding."""
        if one.histogram:
            bins = np.arange(len(one.histogram)) * cells // len(one.histogram)
            counts = np.bincount(bins, weights=one.histogram, minlength=cells)
        else:
            counts = np.bincount(self._places(np.array(one.times, np.int64), cells), minlength=cells)
        return line(counts.astype(np.int64).tolist())

    def head(self, title: str, cells: int = LINE) -> str:
        """The ends of the axis, and its title between them."""
        unit = "ms" if self.last - self.first < 10**9 else "s"
        first, last = text.moment(self.first, unit), text.moment(self.last, unit)
        same_day = first.split()[0] == last.split()[0]
        ends = [end.split()[1 if same_day else 0] for end in (first, last)]
        if same_day and self.last - self.first > 100 * 60 * 10**9:
            ends = [end[:5] for end in ends]
        room = max(cells - len(ends[0]) - len(ends[1]), 1)
        return ends[0] + (title if len(title) + 4 <= room else "").center(room) + ends[1]

    def _places(self, times: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
        return places_in_time(times, self.first, self.last, cells)
