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
    """Connections tracked batch by batch, in bounded memory: `drain` takes those that have ended.

    Any thread may call any method at any time. Batches form a work queue, drained by whichever thread holds the lock
    (flat combining); `process` returns once its batch is done. Readers (`lookup`, `snapshot`) neither wait nor block:
    they see each connection as of a moment between two packets. `lookup` finds a connection that lives for the whole
    call. `snapshot` has each such connection once, as of some moment of the call.

    The originator is inferred from the packets so far. `track` also looks back over the whole capture, so that its
    originator may differ where the opening packet was not captured.

    >>> tracker = Tracker()
    >>> with open_capture("capture.pcap") as capture:  # doctest: +SKIP
    ...     for batch in capture:
    ...         labels = tracker.process(batch)
    ...         closed = tracker.drain()
    """

    __slots__ = ("_config", "_native")

    def __init__(self, config: Config | None = None) -> None:
        """Make a tracker with this configuration, by default `Config()`. `threads` is not used."""
        self._config = checked(config)
        self._native = _native.Tracker(self._config._native())

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._config

    def stats(self, capture: Capture | None = None) -> Stats:
        """Counts since the tracker was made or loaded.

        Args:
            capture: The source of the batches. Its damage is counted too, and files have names until it is closed.

        Returns:
            As from `track`, without `quality`, which needs the whole capture.

        Raises:
            CaptureError: All packets of a file have a link type without a decoder.
        """
        return stats_from(self._native.account(None if capture is None else capture._native))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: the whole state between two batches, and the configuration.

        `process` waits meanwhile, and so do other calls of `save`. The file is written beside `path` (`NAME.part`) and
        renamed once it is on the disk: `path` has the old checkpoint or the new one, even if the process is killed.
        Connections that have ended and were not drained are included.

        Raises:
            OSError: The system refuses, or the path is a device or a pipe.
        """
        self._native.save(path, self._config.to_toml())

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
        tracker._native = checkpoint.resume(tracker._config._native())
        return tracker

    def process(self, batch: PacketBatch) -> NDArray[np.void]:
        """Track the packets of a batch.

        Returns:
            Their labels, one row each, as `TrackResult.labels` has them; `connection` is the connection's number in the
            order of first packets, counted from 0 over all batches.

        Raises:
            TypeError: `batch` is no `PacketBatch`.
        """
        if not isinstance(batch, PacketBatch):
            kind = type(batch).__name__
            raise TypeError(f"batch: found {kind}, expected a PacketBatch; PacketBatch.from_arrow makes one of a table")
        return labels_of(self._native.process(batch._native))

    def drain(self) -> ConnectionTable:
        """Take the connections that have ended since the last call, in the order of their first packets."""
        return ConnectionTable(self._native.drain())

    def finish(self) -> ConnectionTable:
        """End the live connections, as at the end of a capture, and drain."""
        return ConnectionTable(self._native.finish())

    def snapshot(self) -> ConnectionTable:
        """The live connections in the order of their first packets, as if the capture ended now.

        Their `end_reason` is that of such an end.
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
