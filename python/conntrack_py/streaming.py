"""Batch by batch: captures open for reading, and the tracker that takes what comes of them."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conntrack_py import _native
from conntrack_py.config import Config
from conntrack_py.connections import Connection, ConnectionTable
from conntrack_py.stats import Stats, stats_from
from conntrack_py.tracker import LABEL, Source, checked, inputs


class PacketBatch:
    """Some packets as they were captured, in capture order. It does not change, and any thread may use it."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Batch) -> None:
        """Wrap what the extension module holds."""
        self._native = native

    def __len__(self) -> int:
        """The number of packets."""
        return len(self._native)

    @classmethod
    def from_frames(
        cls, frames: Any, timestamps: ArrayLike, linktype: int = 1, *, lengths: ArrayLike | None = None
    ) -> Self:
        """Frames that something else has captured or read.

        Args:
            frames: A list of bytes; or a tuple of one buffer and offsets, of which there is one more than frames, as
                Arrow has it. Less than 4 GiB in all.
            timestamps: Capture times: whole nanoseconds since 1970 UTC, or `datetime64`; one for each frame.
            linktype: The LINKTYPE_ number of what the frames begin with: 1 is Ethernet, 101 IP.
            lengths: Lengths on the wire, where frames were cut.

        Raises:
            ValueError: A length, type or byte order is refused; the message names the argument.
        """
        from conntrack_py.frames import of_frames

        return cls(_native.Batch.from_frames(*of_frames(frames, timestamps, lengths), _linktype(linktype)))

    @classmethod
    def from_dpkt(
        cls, reader: Iterable[tuple[Any, Any]], *, linktype: int | None = None, count: int | None = None
    ) -> Self:
        """The packets of a dpkt reader, or of any iterable of `(seconds, bytes)`.

        dpkt does not tell how long a frame was before it was cut: what was captured counts. Times that are floats are
        whole microseconds, since a float has no room for more.

        Args:
            reader: `dpkt.pcap.Reader`, `dpkt.pcapng.Reader`, or an iterable.
            linktype: The LINKTYPE_ number of what the frames begin with. Default: the reader's `datalink()`, or
                Ethernet.
            count: At most so many packets; the next call goes on with the same reader. A batch of none is the end.

        Raises:
            ValueError: A time or frame is refused; the message has its place.
        """
        from conntrack_py.frames import of_pairs

        if linktype is None:
            datalink = getattr(reader, "datalink", None)
            linktype = datalink() if callable(datalink) else 1
        pairs = iter(reader)
        some = pairs if count is None else islice(pairs, count)
        return cls(_native.Batch.from_frames(*of_pairs(some), _linktype(linktype)))

    @property
    def timestamps(self) -> NDArray[np.datetime64]:
        """Capture times, `datetime64[ns]` in UTC, read-only."""
        return np.frombuffer(memoryview(self._native.timestamps()), dtype="<M8[ns]")

    def __repr__(self) -> str:
        """How many there are."""
        return f"<PacketBatch: {len(self):,} packet{'' if len(self) == 1 else 's'}>"


class Capture(Iterator[PacketBatch]):
    """A capture, or several merged by time, open for reading: what `open_capture` gives.

    One thread at a time reads it.
    """

    def __init__(self, native: _native.Capture) -> None:
        """Wrap what the extension module reads."""
        self._native = native

    def __next__(self) -> PacketBatch:
        """The next packets.

        Raises:
            CaptureError: The capture is damaged and `config.strict` is set.
            RuntimeError: Another thread reads it at this moment.
        """
        batch = self._native.next()
        if batch is None:
            raise StopIteration
        return PacketBatch(batch)

    def close(self) -> None:
        """Close the files. No more packets come."""
        self._native.close()

    def __enter__(self) -> Self:
        """Itself, to be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()


def open_capture(source: Source | Iterable[Source], *, config: Config | None = None) -> Capture:
    """Open a capture, to take its packets batch by batch.

    Args:
        source: As for `track`: a path, a pattern, `"-"`, a binary file object, or a list of these.
        config: Whose `strict` says what is done about damage; by default `Config()`.

    Returns:
        An iterator over `PacketBatch`, and a context manager that closes the files.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        CaptureError: A file is no capture.
    """
    return Capture(_native.Capture(inputs(source), checked(config)._native()))


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
            capture: Where the batches came from, not closed yet: its damage is counted, too, and files have names.

        Returns:
            As `track` gives it, without `quality`, which takes a look at the whole capture.

        Raises:
            CaptureError: All packets of a file have a link type without a decoder.
        """
        return stats_from(self._native.account(None if capture is None else capture._native))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: everything that the next packet may meet, and the configuration.

        It is as things are between two batches; `process` waits meanwhile. The file is written beside `path` and
        renamed once it is on the disk: `path` has the old checkpoint or the new one, even if the process is killed.
        Connections that have ended and were not drained are in it too.

        Raises:
            OSError: The system refuses.
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
        """
        return np.frombuffer(memoryview(self._native.process(batch._native)), dtype=LABEL)

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


def _linktype(linktype: int) -> int:
    number = operator.index(linktype)
    if not 0 <= number <= 0xFFFF:
        raise ValueError(f"linktype: found {number}, expected a LINKTYPE_ number such as 1 (Ethernet) or 101 (IP)")
    return number


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
