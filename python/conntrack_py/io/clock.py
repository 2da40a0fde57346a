"""The clock of live input, the only one that advances without packets.

Files and replays have capture time alone: the time of their packets. A live line may be silent, while the connections
on it expire. Its capture time then is the last packet's time, and the monotonic time since that packet was read.
"""

from __future__ import annotations

import time

from conntrack_py.io.batch import PacketBatch

#: A pipe is live while its last packet is at most this far from the wall clock, nanoseconds.
NEAR = 10 * 10**9


class LiveClock:
    """Capture time of a live input."""

    def __init__(self, is_live: bool | None) -> None:
        """Make a clock of input that is live, is not, or (None) is live while its packets are near the wall clock."""
        self._is_live = is_live
        self._last: tuple[int, int] | None = None

    def begin(self) -> None:
        """Take the wall clock's time: that of the packets of an interface, before the first of them."""
        self._last = (time.time_ns(), time.monotonic_ns())

    def note(self, batch: PacketBatch) -> None:
        """Take the time of a batch's last packet."""
        if self._is_live is False:
            return
        last = int(batch.timestamps[-1].astype("i8"))
        is_live = self._is_live or abs(time.time_ns() - last) <= NEAR
        self._last = (last, time.monotonic_ns()) if is_live else None

    def now(self) -> int | None:
        """Capture time at this moment, nanoseconds since 1970 UTC; None where only packets may advance time."""
        if self._last is None:
            return None
        last, at = self._last
        return last + time.monotonic_ns() - at
