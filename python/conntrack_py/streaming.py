"""Batch by batch: captures open for reading, and the tracker that takes what comes of them."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from conntrack_py import _native
from conntrack_py.config import Config
from conntrack_py.connections import Connection, ConnectionTable
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.stats import Stats, describe_loss, parted, stats_from
from conntrack_py.tracker import Source, checked, inputs, labels_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


class PacketBatch:
    """Some packets as they were captured, in capture order. It does not change, and any thread may use it.

    It has columns, one value for each packet, as NumPy arrays (`batch["length"]`, `to_arrays`) and as an Arrow stream
    (`polars.DataFrame(batch)`), under the names that `from_arrays` takes. They say what the headers of the outermost IP
    packet say. Where there is none, or its headers were cut by the capture or contradict themselves, `ip_version` and
    all others are 0, and `src` and `dst` are null in Arrow.
    """

    __slots__ = ("_columns", "_native")

    def __init__(self, native: _native.Batch) -> None:
        """Wrap what the extension module holds."""
        self._native = native
        self._columns: dict[str, _native.Buffer] | None = None

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

    @classmethod
    def from_arrays(
        cls,
        *,
        timestamp: ArrayLike,
        src: Any,
        dst: Any,
        sport: ArrayLike,
        dport: ArrayLike,
        proto: ArrayLike,
        length: ArrayLike,
        ip_version: ArrayLike | None = None,
        ip_header_length: ArrayLike | None = None,
        ip_id: ArrayLike | None = None,
        fragment_offset: ArrayLike | None = None,
        more_fragments: ArrayLike | None = None,
        vlan: ArrayLike | None = None,
        inner_vlan: ArrayLike | None = None,
        to_group: ArrayLike | None = None,
        tcp_flags: ArrayLike | None = None,
        seq: ArrayLike | None = None,
        ack: ArrayLike | None = None,
        window: ArrayLike | None = None,
        tcp_options: Any = None,
        udp_length: ArrayLike | None = None,
        icmp_id: ArrayLike | None = None,
        sctp_vtag: ArrayLike | None = None,
        payload: Any = None,
    ) -> Self:
        """Packets of a table: one value of each column for each packet, in capture order.

        Numbers are whole, of any type that holds them and this machine's byte order; arrays need not be contiguous.
        What is not given has its default. The packets are tracked as those of a capture are; with all columns that
        belong to their protocols, labels and connections are those of the capture. Checksums are not verified.

        Without `payload` nobody knows what was said: the originator of a connection that began before the capture may
        be judged by less, ICMP errors are related to nothing, SCTP has no states, and tunnels are not looked into.
        Without `seq`, `ack`, `window` or `tcp_options`, windows of TCP are not tracked (`window_tracking` says so):
        states are followed as if everything had come once and in order, nothing is `INVALID` for its numbers, and
        `history` knows no retransmissions and no gaps. Feed a tracker either with all four or without. Without
        `tcp_options` up to 40 bytes in a segment without PSH are taken for its options (RFC 9293 section 3.9.1.2: who
        sends the last of his data sets PSH); elsewhere options count as data.

        Args:
            timestamp: Capture times: nanoseconds since 1970 UTC, or `datetime64` of any unit.
            src: Source addresses: IPv4 as uint32 (10.0.0.1 is 0x0a000001); or 16 bytes each in network order, uint8 of
                shape (packets, 16) or `V16`, IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2); or text.
            dst: Destination addresses.
            sport: Source ports; ICMP: the type; 0 for protocols that have none, and for later fragments.
            dport: Destination ports; ICMP: the code.
            proto: IP protocol numbers, behind IPv6's extension headers: 6 is TCP.
            length: Bytes of the IP packet with its headers, as its header says.
            ip_version: 4 or 6; 0 where it is no IP packet, and nothing else is looked at. Default: IPv4 where `src` and
                `dst` are IPv4 or mapped.
            ip_header_length: Bytes of the IP header with options or extension headers. Default: 20 or 40 (48 for
                fragments).
            ip_id: Identification, which fragments of a datagram share.
            fragment_offset: Bytes of the datagram before this fragment's, a multiple of 8.
            more_fragments: Fragments of the datagram follow.
            vlan: VLAN ids of the outer tag; 0: untagged.
            inner_vlan: VLAN ids of the second tag.
            to_group: Sent to a group or broadcast address of the link layer. Those of IP speak for themselves.
            tcp_flags: The flag byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32. Needed where there is TCP.
            seq: TCP sequence numbers.
            ack: TCP acknowledgement numbers.
            window: TCP windows as sent, unscaled.
            tcp_options: TCP options as sent, of a multiple of 4 bytes: a list of bytes, or a tuple of one buffer and
                offsets, of which there is one more than packets.
            udp_length: Lengths in UDP headers, where they are not what the IP header leaves.
            icmp_id: Identifiers of ICMP queries.
            sctp_vtag: SCTP verification tags.
            payload: What is above the header of TCP, UDP, ICMP (8 bytes) or SCTP (12 bytes), and above the IP header
                for other protocols and later fragments, as far as captured; as `tcp_options`.

        Raises:
            ValueError: A column is missing, or a length, type, byte order or value is refused; the message names it.
        """
        from conntrack_py.packets import COLUMNS, of_columns

        columns = locals()
        return cls(_native.Batch.from_columns(*of_columns({n: columns[n] for n in COLUMNS if columns[n] is not None})))

    @classmethod
    def from_arrow(cls, source: Any) -> Self:
        """Packets of anything that has `__arrow_c_stream__` or `__arrow_c_array__`, as data frames and tables have.

        The columns are those of `from_arrays`, of any type of whole numbers; `timestamp` may be a timestamp, `src` and
        `dst` are text, uint32 for IPv4, or binary of 16 bytes, `tcp_options` and `payload` are binary. Others are not
        looked at. Nulls are 0 or empty, where the packet's protocol does not need the value.

        Raises:
            ValueError: A column is missing or refused; the message names it.
        """
        from conntrack_py.packets import of_arrow, of_columns

        return cls(_native.Batch.from_columns(*of_columns(of_arrow(source))))

    @property
    def window_tracking(self) -> bool:
        """Windows of TCP are tracked: every segment has its numbers, its window and its options, or there is none."""
        return not self._native.lacks()[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in their order; what the packets were made without is not among them."""
        from conntrack_py.packets import COLUMNS, PIECES

        no_payloads, no_numbers = self._native.lacks()
        there = {"payload": not no_payloads, "tcp_options": not no_numbers}
        return tuple(n for n in COLUMNS if (there[n] if n in PIECES else n in self._numbers()))

    def __getitem__(self, name: str) -> Any:
        """A column as a read-only array, with the dtype that `to_arrays` says.

        Raises:
            KeyError: There is no such column.
        """
        import numpy as np

        from conntrack_py.packets import NUMBERS, PIECES

        if name not in self.columns:
            raise KeyError(name)
        if name in PIECES:
            data, offsets = self._native.pieces(name)
            return np.frombuffer(memoryview(data), np.uint8), np.frombuffer(memoryview(offsets), np.int64)
        memory = memoryview(self._numbers()[name])
        if name in ("src", "dst"):
            return np.frombuffer(memory, np.uint8).reshape(-1, 16)
        return np.frombuffer(memory, "<M8[ns]" if name == "timestamp" else NUMBERS[name])

    def to_arrays(self) -> dict[str, Any]:
        """All columns by name, so that `PacketBatch.from_arrays(**batch.to_arrays())` says the same of the packets.

        `timestamp` is `datetime64[ns]`; `src` and `dst` are uint8 of shape (packets, 16), IPv4 mapped into IPv6;
        `more_fragments` and `to_group` are bool; `ip_version`, `proto` and `tcp_flags` are uint8; `length`,
        `ip_header_length`, `ip_id`, `seq`, `ack` and `sctp_vtag` uint32; all other numbers uint16. `tcp_options` and
        `payload` are tuples of bytes (uint8) and offsets (int64), of which there is one more than packets.
        """
        return {name: self[name] for name in self.columns}

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """The columns as an Arrow stream, which Polars, PyArrow, DuckDB and pandas read. Addresses are text."""
        return self._native.__arrow_c_stream__(requested_schema)

    def _numbers(self) -> dict[str, _native.Buffer]:
        if self._columns is None:
            self._columns = self._native.numbers()
        return self._columns

    @property
    def timestamps(self) -> NDArray[np.datetime64]:
        """Capture times, `datetime64[ns]` in UTC, read-only."""
        import numpy as np

        return np.frombuffer(memoryview(self._native.timestamps()), dtype="<M8[ns]")

    def __repr__(self) -> str:
        """How many there are."""
        return f"<PacketBatch: {len(self):,} packet{'' if len(self) == 1 else 's'}>"


class Capture(Iterator[PacketBatch]):
    """A capture, or several merged by time, open for reading: what `open_capture` gives.

    One thread at a time reads it. Damage in it is a `CaptureWarning`, once, at its end or when it is closed.
    """

    def __init__(self, native: _native.Capture) -> None:
        """Wrap what the extension module reads."""
        self._native = native
        self._damage: dict[str, tuple[int, str, int]] | None = None

    def __next__(self) -> PacketBatch:
        """The next packets.

        Raises:
            CaptureError: The capture is damaged and `config.strict` is set.
            RuntimeError: Another thread reads it at this moment.
        """
        batch = self._native.next()
        if batch is None:
            self._warn()
            raise StopIteration
        return PacketBatch(batch)

    def close(self) -> None:
        """Close the files. No more packets come."""
        try:
            self._warn()
        finally:
            self._native.close()

    def damage(self) -> dict[str, tuple[int, str, int]]:
        """What is wrong with the files so far: reason → how often, and file and offset of the first place.

        The reasons are those of `Stats.skipped`; once it is closed, it is what there was by then.
        """
        return dict(self._native.damage() if self._damage is None else self._damage)

    def _warn(self) -> None:
        """Say once what was wrong."""
        if self._damage is None:
            self._damage = self._native.damage()
            loss = describe_loss(*parted(self._damage))
            if loss is not None:
                warnings.warn(loss, CaptureWarning, stacklevel=3)

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
