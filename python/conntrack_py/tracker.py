"""`Tracker`: the push-based API, batch by batch in bounded memory."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Self

from conntrack_py import _native
from conntrack_py.config import Config, checked
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture
from conntrack_py.io.labels import labels_of
from conntrack_py.stats import Stats, stats_from
from conntrack_py.table import Connection, ConnectionTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tracker:
    """Follows connections batch by batch, in bounded memory: what has ended is taken by `drain`.

    Any thread may call any method at any time. Batches are followed one after another, each as a whole; whoever brings
    one goes on once it was followed, by himself or by another thread that was at it. Readers (`lookup`, `snapshot`)
    wait for nobody and nobody waits for them: they see each connection as it was between two packets. A lookup finds a
    connection that lives all the time it takes; a snapshot has every connection that does, once, each as it was at some
    moment of the call.

    Who initiated is judged by what has come so far. `track` also looks back over the whole capture, so that it may name
    another originator where the opening packet was not captured.

    >>> tracker = Tracker()
    >>> with open_capture("capture.pcap") as capture:  # doctest: +SKIP
    ...     for batch in capture:
    ...         labels = tracker.process(batch)
    ...         closed = tracker.drain()
    """

    __slots__ = ("_config", "_native")

    def __init__(self, config: Config | None = None) -> None:
        """Track by this configuration, by default `Config()`. `threads` is not used: any number may feed it."""
        self._config = checked(config)
        self._native = _native.Tracker(self._config._native())

    @property
    def config(self) -> Config:
        """What it tracks by."""
        return self._config

    def stats(self, capture: Capture | None = None) -> Stats:
        """The account of what was processed since the tracker was made or loaded.

        Args:
            capture: Where the batches came from: its damage is counted, too, and files have names until it is closed.

        Returns:
            As `track` gives it, without `quality`, which takes a look at the whole capture.

        Raises:
            CaptureError: All packets of a file have a link type without a decoder.
        """
        return stats_from(self._native.account(None if capture is None else capture._native))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: everything that the next packet may meet, and the configuration.

        It is as things are between two batches; `process` waits meanwhile. The file is written beside `path`
        (`NAME.part`), by one at a time, and renamed once it is on the disk: `path` has the old checkpoint or the new
        one, even if the process is killed. Connections that have ended and were not drained are in it too.

        Raises:
            OSError: The system refuses, or the path is a device or a pipe.
        """
        self._native.save(path, self._config.to_toml())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Go on from a checkpoint: what follows gets the labels and connections that it would have got there.

        Raises:
            CheckpointError: The file is no checkpoint, one of another version of its format, or a damaged one.
            FileNotFoundError: There is no such file.
        """
        checkpoint = _native.Checkpoint(path)
        tracker = cls.__new__(cls)
        tracker._config = Config._of_toml(checkpoint.config.encode(), os.fspath(path))
        tracker._native = checkpoint.resume(tracker._config._native())
        return tracker

    def process(self, batch: PacketBatch) -> NDArray[np.void]:
        """Follow the packets of a batch.

        Returns:
            Their labels, one row each, as `TrackResult.labels` has them; `connection` is the connection's number in the
            order of first packets, counted from 0 over all batches.

        Raises:
            TypeError: It is no batch.
        """
        if not isinstance(batch, PacketBatch):
            kind = type(batch).__name__
            raise TypeError(f"batch: found {kind}, expected a PacketBatch; PacketBatch.from_arrow makes one of a table")
        return labels_of(self._native.process(batch._native))

    def drain(self) -> ConnectionTable:
        """The connections that have ended since this was asked for last, in the order of their first packets."""
        return ConnectionTable(self._native.drain())

    def finish(self) -> ConnectionTable:
        """End the connections that are left, as at the end of a capture, and drain."""
        return ConnectionTable(self._native.finish())

    def snapshot(self) -> ConnectionTable:
        """The live connections in the order of their first packets, as if the capture ended now.

        Their `end_reason` is what it would be then.
        """
        return ConnectionTable(self._native.snapshot())

    def lookup(
        self, src: str, sport: int, dst: str, dport: int, proto: str, *, vlan: int | None = None
    ) -> Connection | None:
        """The live connection between two ends, whichever of them is named first; None if there is none.

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
