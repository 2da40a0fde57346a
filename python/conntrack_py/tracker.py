"""`Tracker`: the push-based API, batch by batch."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, Self

from conntrack_py import _native, text
from conntrack_py.arrow import ArrowBatch
from conntrack_py.config import Config, checked
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture
from conntrack_py.io.labels import labels_of
from conntrack_py.stats import Stats, stats_from
from conntrack_py.table import Connection, ConnectionTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: When a connection is due: as soon as its packets closed it, or once its entry is gone.
Report = Literal["closed", "gone"]


class TableFill(NamedTuple):
    """The fill of a tracker's table."""

    #: Live connections.
    connections: int
    #: Their bound; None: no bound.
    max_connections: int | None
    #: Bytes of memory for live connections, as `memory_limit` counts them.
    bytes: int
    #: Their bound; None: no bound.
    memory_limit: int | None
    #: Bound → connections evicted for it since the tracker was made or loaded, as in `Stats.evicted_by`.
    evicted_by: Mapping[str, int]
    #: Packets that began no connection for lack of room, in the same way.
    refused: int

    @property
    def is_bounded(self) -> bool:
        """The table has a bound."""
        return self.max_connections is not None or self.memory_limit is not None

    def __str__(self) -> str:
        """The connections and their memory, with the bounds."""
        most = "" if self.max_connections is None else f" of {self.max_connections:,}"
        limit = "" if self.memory_limit is None else f" of {text.size(self.memory_limit)}"
        return f"{self.connections:,}{most} connections, {text.size(self.bytes)}{limit}"


class Tracker:
    """Connections tracked batch by batch: `drain` takes those that have ended.

    Memory holds the live connections, and those that were not drained. Without `max_connections` or `memory_limit` in
    the configuration a flood of sources makes it grow: 160 bytes for each SYN over IPv4 until its timeout of two
    minutes. The command line bounds input without an end by itself.

    Any thread may call any method at any time. Batches form a work queue, drained by whichever thread holds the lock
    (flat combining); `process` returns once its batch is done. Readers (`lookup`, `snapshot`) neither wait nor block:
    they see each connection as of a moment between two packets. `lookup` finds a connection that lives for the whole
    call. `snapshot` has each such connection once, as of some moment of the call.

    After `fork` the child has a copy of its own. A call that another thread was in at the fork never ends there: every
    method of the child's copy is then a `RuntimeError`.

    The originator is inferred from the packets so far. `track` also looks back over the whole capture, so that its
    originator may differ where the opening packet was not captured.

    >>> tracker = Tracker()
    >>> with open_capture("capture.pcap") as capture:  # doctest: +SKIP
    ...     for batch in capture:
    ...         labels = tracker.process(batch)
    ...         closed = tracker.drain()
    """

    __slots__ = ("_config", "_native", "_note", "_watches")

    def __init__(self, config: Config | None = None, *, report: Report = "gone", facts: bool = False) -> None:
        """Make a tracker.

        Args:
            config: The configuration, by default `Config()`. `threads` is not used.
            report: When `drain` has a connection, see there.
            facts: Keep announcements of connections and begins of files for `flows`. A checkpoint has none of them, nor
                this choice.

        Raises:
            ValueError: `report` is another word.
        """
        _check(report)
        self._config = checked(config)
        self._note = ""
        self._native = _native.Tracker(self._config._native())
        self._watches = self.fill.is_bounded
        if facts:
            self._native.note_facts()
        if report == "closed":
            self._report(report)

    def __repr__(self) -> str:
        """The packets so far, and the connections."""
        try:
            packets, begun, live, ended = self._native.sizes()
        except RuntimeError:
            return "<Tracker: in use when the process was forked>"
        return f"<Tracker: {packets:,} packets, {begun:,} connections begun, {live:,} live, {ended:,} to drain>"

    def __reduce__(self) -> NoReturn:
        """Refuse a copy, of which other threads and processes would see nothing."""
        raise TypeError("a Tracker is not pickled or copied: use save(path), and Tracker.load(path) elsewhere")

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._config

    def stats(self, capture: Capture | None = None) -> Stats:
        """Counts since the tracker was made or loaded; a loaded one begins with zeros.

        Args:
            capture: The source of the batches. Its damage is counted too, and files have names until it is closed.

        Returns:
            As from `track`, without `quality`, which needs the whole capture.

        Raises:
            CaptureError: All packets of a file have a link type without a decoder.
        """
        return stats_from(self._native.account(None if capture is None else capture._native))

    @property
    def note(self) -> str:
        """The note of the checkpoint that the tracker was loaded from, else an empty text."""
        return self._note

    def save(self, path: str | os.PathLike[str], *, note: str = "") -> None:
        """Write a checkpoint: the whole state between two batches, and the configuration.

        `process` waits meanwhile, and so do other calls of `save`. The file is written beside `path` (`NAME.part`) and
        renamed once it is on the disk: `path` has the old checkpoint or the new one, even if the process is killed.
        Connections that have ended and were not drained are included.

        Args:
            path: The file.
            note: A text to keep with the state, such as the position of `follow` that belongs to it.

        Raises:
            OSError: The system refuses, or the path is a device or a pipe.
        """
        self._native.save(path, self._config.to_toml(), note)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Resume from a checkpoint: further packets get the labels and connections of an uninterrupted run.

        Raises:
            CheckpointError: The file is no checkpoint, is damaged or has another version of the format.
            FileNotFoundError: There is no such file.
        """
        checkpoint = _native.Checkpoint(path)
        tracker = cls.__new__(cls)
        tracker._config = Config._of_toml(checkpoint.config.encode(), os.fspath(path))
        tracker._note = checkpoint.note
        tracker._native = checkpoint.resume(tracker._config._native())
        tracker._watches = tracker.fill.is_bounded
        return tracker

    def process(self, batch: PacketBatch) -> NDArray[np.void]:
        """Track the packets of a batch.

        Returns:
            Their labels, one row each, as `TrackResult.labels` has them; `connection` is the connection's number in the
            order of first packets, counted from 0 over all batches.

        Raises:
            TypeError: `batch` is no `PacketBatch`.

        Warns:
            CaptureWarning: A bound of the configuration was hit for the first time.
        """
        if not isinstance(batch, PacketBatch):
            kind = type(batch).__name__
            raise TypeError(f"batch: found {kind}, expected a PacketBatch; PacketBatch.from_arrow makes one of a table")
        labels = labels_of(self._native.process(batch._native))
        if self._watches:
            self._watch()
        return labels

    def _watch(self) -> None:
        """Warn of the first packet that found the table full."""
        fill = self.fill
        if fill.evicted_by or fill.refused:
            self._watches = False
            which = f"{', '.join(fill.evicted_by)} is hit" if fill.evicted_by else "the table is full"
            message = f"{which}: {fill}; from here on results depend on the bounds"
            warnings.warn(message, CaptureWarning, stacklevel=3)

    def _bound(self, max_connections: int | None, memory_limit: int | None) -> None:
        """Bound the live connections anew, whatever the configuration says."""
        self._native.set_bounds(max_connections, memory_limit)
        self._watches = self.fill.is_bounded

    @property
    def fill(self) -> TableFill:
        """The fill of the table. Connections that are over count until they are swept."""
        (connections, most), (taken, limit), evicted_by, refused = self._native.fill()
        return TableFill(connections, most, taken, limit, evicted_by, refused)

    def drain(self, *, report: Report | None = None) -> ConnectionTable:
        """Take the connections that are due since the last call, in the order of their first packets.

        Args:
            report: When connections are due from this call on; by default as before. `"gone"`: once the entry has left
                the table, by a timeout or reuse. A gateway keeps an entry after the close (TIME_WAIT for 120 s).
                `"closed"`: also as soon as its packets have closed it (both FINs acknowledged, or an RST accepted).
                Later packets of such a connection belong to it; `stats().after_close` counts them, and no row does.

        Raises:
            ValueError: `report` is another word.
        """
        if report is not None:
            self._report(report)
        return ConnectionTable(self._native.drain())

    def flows(self, *, finish: bool = False) -> ArrowBatch:
        """Take the connections that are due since the last call, in the form of `track_stream(facts=True)`.

        Hindsight can come later: `facts_of` all batches together, and `look_back` on them. Connections are named by
        `id`, their number. Batches of other trackers have the same numbers, and are no part of one look back.

        Args:
            finish: End the live connections before, as at the end of a capture.
        """
        return ArrowBatch(self._native.flows(finish))

    def _report(self, report: Report) -> None:
        _check(report)
        self._native.report_closes(report == "closed")

    def advance(self, timestamp: int) -> None:
        """Advance capture time without a packet: connections that are over by then end.

        For live input that is silent; the results are those of two packets at this time. A connection is over 10 s
        after its timeout, as elsewhere: packets may come late.

        Args:
            timestamp: Nanoseconds since 1970 UTC.
        """
        self._native.advance(operator.index(timestamp))

    def finish(self) -> ConnectionTable:
        """End the live connections, as at the end of a capture, and drain."""
        return ConnectionTable(self._native.finish())

    def snapshot(self) -> ConnectionTable:
        """The live connections in the order of their first packets, as if the capture ended now.

        Their `end_reason` is that of such an end. Connections that were due at their close are left out.
        """
        return ConnectionTable(self._native.snapshot())

    def lookup(
        self, src: str, sport: int, dst: str, dport: int, proto: str, *, vlan: int | None = None
    ) -> Connection | None:
        """The live connection between two endpoints, named in either order; None if there is none.

        Args:
            src: An address.
            sport: Its port.
            dst: The other address.
            dport: Its port.
            proto: `tcp`, `udp`, `sctp`, ... or the number of a protocol as text.
            vlan: The VLAN id, where the packets had a tag; tunnels are not looked into.

        Raises:
            ValueError: An address, port or protocol is none, or the protocol is ICMP, which has no ports.
        """
        ends = [(str(addr), _port(name, port)) for addr, name, port in ((src, "sport", sport), (dst, "dport", dport))]
        found = self._native.lookup(ends[0], ends[1], proto, None if vlan is None else _vlan(vlan))
        return None if found is None else ConnectionTable(found)[0]


def _check(report: str) -> None:
    if report not in ("closed", "gone"):
        raise ValueError(f"report: found {report!r}, expected 'closed' or 'gone'")


def _port(name: str, port: int) -> int:
    number = operator.index(port)
    if not 0 <= number <= 0xFFFF:
        raise ValueError(f"{name}: found {number}, expected a port from 0 to 65535")
    return number


def _vlan(vlan: int) -> int:
    number = operator.index(vlan)
    if not 0 <= number <= 0xFFF:
        raise ValueError(f"vlan: found {number}, expected an id from 0 to 4095")
    return number
