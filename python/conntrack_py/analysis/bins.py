"""Connections by the time at which they were opened, for each direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.columns import Columns
from conntrack_py.table import ConnectionTable

#: The most bins.
MOST = 120
_MS, _S = 10**6, 10**9
_MINUTE, _HOUR = 60 * _S, 3600 * _S
#: A day in nanoseconds.
DAY = 24 * _HOUR
#: Round lengths of time below a day, nanoseconds.
ROUND = (
    *(number * _MS for number in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(number * _S for number in (1, 2, 5, 10, 15, 30)),
    *(number * _MINUTE for number in (1, 2, 5, 10, 15, 30)),
    *(number * _HOUR for number in (1, 2, 3, 6, 12)),
)
#: Lengths of bins, nanoseconds.
_LENGTHS = (*ROUND, *(number * DAY for number in (1, 2, 7, 14, 30, 60, 90, 180, 365)))


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Numbers of connections that were opened in steps of time.

    Attributes:
        begin: Begin of the first bin, nanoseconds since 1970 UTC.
        length: Length of a bin in nanoseconds, a round one.
        first: When the earliest connection began.
        last: When the latest one began.
        counts: Direction → number of connections of each bin, the direction with the most first.
    """

    begin: int
    length: int
    first: int
    last: int
    counts: dict[str, list[int]]


def bins(table: ConnectionTable, *, columns: Columns | None = None) -> Bins | None:
    """Count connections by the time of their first packet, in at most 120 bins; None without connections."""
    data = Columns(table) if columns is None else columns
    if not len(data.rows):
        return None
    first, last = int(data.start.min()), int(data.start.max())
    length = _length(first, last)
    begin = first // length * length
    number = (last - begin) // length + 1
    # Times of 1970 ± 292 years: the difference needs 64 unsigned bits.
    since = (data.start.view(np.uint64) - np.uint64(begin % (1 << 64))) // np.uint64(length)
    places = data.direction.astype(np.int64) * number + since.astype(np.int64)
    counts = np.bincount(places, minlength=len(data.directions) * number).reshape(-1, number)
    order = np.argsort(-counts.sum(axis=1), kind="stable").tolist()
    found = {data.directions[code]: counts[code].tolist() for code in order if counts[code].any()}
    return Bins(begin=begin, length=length, first=first, last=last, counts=found)


def _length(first: int, last: int) -> int:
    """The least round length of which the span has at most `MOST`."""
    for length in _LENGTHS:
        if last // length - first // length < MOST:
            return length
    years = -(-(last - first) // (MOST - 1) // _LENGTHS[-1])
    return years * _LENGTHS[-1]
