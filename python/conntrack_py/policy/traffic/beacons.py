"""Beacons: calls of one host to one service of another in steps that chance does not make.

The score of some calls is the geometric mean of the intervals between them over their arithmetic mean: 1 is a clock,
and arrivals without memory (exponential intervals) tend to 0.56. Its logarithm is Moran's statistic, the best test of
exponential intervals against more even ones (P. A. P. Moran, "The random division of an interval II", 1951). Some calls
are a beacon where their score is above the one that a thousandth of memoryless arrivals of the same number exceed, and
above 0.85. docs/findings.md has the misses and the false alarms.

Connections that begin within a second of the one before are one call; this second is taken off the intervals, so that
arrivals at any rate keep the false-alarm rate. A host sleeps, a call fails: of 6 to 19 intervals the longest may be
left out, at half the false alarms each way, and of 20 and more the longest tenth is.

Most hosts have few intervals, for which a list takes a tenth of an array's time.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

#: Connections that begin so soon after one another, in seconds, are one call.
_ONE_CALL = 1.0
#: Intervals below which nothing is even.
FEWEST = 4
#: Scores of 4 to 19 intervals that a thousandth of memoryless arrivals exceed, from 6 on half of that: 2,000,000 draws.
_ALL = (
    *(0.9963, 0.9892, 0.9841, 0.9741, 0.9643, 0.9538, 0.9438, 0.9344),
    *(0.9240, 0.9152, 0.9071, 0.8993, 0.8917, 0.8837, 0.8774, 0.8715),
)
#: Scores of 6 to 19 intervals without the longest that half a thousandth exceed.
_ALL_BUT_ONE = (
    *(0.9947, 0.9888, 0.9812, 0.9728, 0.9647, 0.9557, 0.9465),
    *(0.9380, 0.9303, 0.9230, 0.9152, 0.9074, 0.8996, 0.8946),
)
#: Scores of 20 intervals and more without the longest tenth that a thousandth exceed.
_MANY_OF_THEM = (0.8940, 0.8871, 0.8812, 0.8763, 0.8714, 0.8656, 0.8609, 0.8562, 0.8509, 0.8473, 0.8557, 0.8518)
_SOME, _MANY = 6, 20
#: The least score of a beacon, however many its calls: people and queues are more even than chance, too.
_EVEN = 0.85
#: The shortest interval, in seconds, that counts as one.
_SHORTEST = 1e-3


def evenness(starts: NDArray[np.int64]) -> tuple[float, float] | None:
    """The median interval in seconds and the score of the calls of a beacon; None where they are none.

    Args:
        starts: When the connections began, nanoseconds, in order.
    """
    whole = starts.tolist()
    calls = [time for time, before in zip(whole, [-math.inf, *whole], strict=False) if time - before >= _ONE_CALL * 1e9]
    if len(calls) <= FEWEST:
        return None
    intervals = [(after - before) / 1e9 for before, after in itertools.pairwise(calls)]
    value = score(intervals)
    return None if value is None else (statistics.median(intervals), value)


def score(intervals: Iterable[float]) -> float | None:
    """The evenness of at least four intervals in seconds, from 0 to 1; None where chance makes it, too."""
    rests = sorted(max(interval - _ONE_CALL, _SHORTEST) for interval in intervals)
    number = len(rests)
    if number >= _MANY:
        place = number - _MANY
        least = max(_MANY_OF_THEM[place], _EVEN) if place < len(_MANY_OF_THEM) else _EVEN
        ways = [(rests[: number - number // 10], least)]
    else:
        ways = [(rests, _ALL[number - FEWEST])]
        if number >= _SOME:
            ways.append((rests[:-1], _ALL_BUT_ONE[number - _SOME]))
    return next((value for some, least in ways if (value := _ratio(some)) > least), None)


def _ratio(rests: list[float]) -> float:
    number = len(rests)
    return min(1.0, math.exp(math.fsum(map(math.log, rests)) / number) / (math.fsum(rests) / number))
