"""Time axes: round times with their labels, and places in percent of the span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.bins import DAY, ROUND

_S = 10**9
_MINUTE = 60 * _S
#: Steps between labels in nanoseconds.
_STEPS = (*ROUND, *(number * DAY for number in (1, 2, 5, 10, 30, 100, 365, 3650, 36500)))
#: Labels of an axis, at most.
_MOST = 6


@dataclass(frozen=True)
class Axis:
    """An axis from one capture time to another, in nanoseconds since 1970 UTC."""

    first: int
    last: int

    @property
    def span(self) -> int:
        """Nanoseconds from end to end, at least one."""
        return max(self.last - self.first, 1)

    def place(self, at: int) -> float:
        """The place of a time in percent."""
        return round(100 * min(max(at - self.first, 0), self.span) / self.span, 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of round times, none too near an end."""
        step = next((one for one in _STEPS if self.span // one < _MOST), _STEPS[-1])
        at = -(-self.first // step) * step
        found: list[tuple[float, str]] = []
        while at <= self.last and len(found) < _MOST:
            place = self.place(at)
            if 3 <= place <= 95:
                found.append((place, _label(at, step)))
            at += step
        return found


def _label(at: int, step: int) -> str:
    time = np.datetime64(at, "ns")
    if step >= DAY:
        return str(time.astype("datetime64[D]"))
    if step >= _MINUTE:
        return str(time.astype("datetime64[m]"))[11:]
    if step >= _S:
        return str(time.astype("datetime64[s]"))[11:]
    return str(time.astype("datetime64[ms]"))[17:]
