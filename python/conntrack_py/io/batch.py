"""`PacketBatch`: packets in capture order, from captures, frames, arrays or Arrow."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, Self

from conntrack_py import _native

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


class PacketBatch:
    """Packets in capture order, immutable and thread-safe.

    Columns have one value for each packet, as NumPy arrays (`batch["length"]`, `to_arrays`) and as an Arrow stream
    (`polars.DataFrame(batch)`), under the names of the arguments of `from_arrays`. Values are those of the headers of
    the outermost IP packet. Without IP, or with truncated or inconsistent headers, `ip_version` and all other columns
    are 0, and `src` and `dst` are null in Arrow.
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
        """Make a batch of frames captured or read elsewhere.

        Args:
            frames: A list of bytes; or a tuple of one buffer and offsets, of which there is one more than frames, as
                Arrow has it. Less than 4 GiB in all.
            timestamps: Capture times: whole nanoseconds since 1970 UTC, or `datetime64`; one for each frame.
            linktype: The LINKTYPE_ number of what the frames begin with: 1 is Ethernet, 101 IP.
            lengths: Lengths on the wire, where frames were cut.

        Raises:
            ValueError: A length, type or byte order is refused; the message names the argument.
        """
        from conntrack_py.io.frames import of_frames

        return cls(_native.Batch.from_frames(*of_frames(frames, timestamps, lengths), _linktype(linktype)))

    @classmethod
    def _of_block(cls, block: memoryview, linktype: int | None, ring: int) -> Self:
        """Packets of a receive ring's block."""
        return cls(_native.Batch.from_block(block, linktype, ring))

    @classmethod
    def _merged(cls, batches: list[PacketBatch], until: int) -> tuple[Self, Self]:
        """Packets of several rings by time, up to a time; and the rest."""
        now, later = _native.Batch.merged([batch._native for batch in batches], until)
        return cls(now), cls(later)

    @classmethod
    def _none(cls) -> Self:
        """No packets."""
        return cls(_native.Batch.merged([], 0)[0])

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[Any, Any]], *, linktype: int = 1, count: int | None = None) -> Self:
        """Make a batch of any iterable of `(time, bytes)`. The captured length counts as the length on the wire.

        A time is one of these, packet by packet:

        - `float`: seconds since 1970 UTC, rounded to microseconds, the precision of a float.
        - `int` or `decimal.Decimal`: seconds, exact; digits after the ninth are cut off.
        - `datetime` or `pandas.Timestamp`: exact. Without a time zone it is in UTC, as in NumPy, pandas and Polars.
        - `numpy.datetime64`: exact to nanoseconds, UTC.

        Args:
            pairs: The packets, in capture order.
            linktype: The LINKTYPE_ number of what the frames begin with: 1 is Ethernet, 101 IP.
            count: At most so many packets; the next call goes on with the same iterator. A batch of none is the end.

        Raises:
            ValueError: A time or frame is refused, NaN, infinity and times beyond 1677 to 2262 among them; the message
                has its place.
        """
        from conntrack_py.io.frames import of_pairs

        return cls(_native.Batch.from_frames(*of_pairs(_some(pairs, count)), _linktype(linktype)))

    @classmethod
    def from_dpkt(
        cls, reader: Iterable[tuple[Any, Any]], *, linktype: int | None = None, count: int | None = None
    ) -> Self:
        """Make a batch of a dpkt reader: `from_pairs` with the reader's own link type.

        Args:
            reader: `dpkt.pcap.Reader`, `dpkt.pcapng.Reader`, or an iterable.
            linktype: The LINKTYPE_ number of what the frames begin with. Default: the reader's `datalink()`, or
                Ethernet.
            count: At most so many packets; the next call goes on with the same reader. A batch of none is the end.

        Raises:
            ValueError: A time or frame is refused; the message has its place.
        """
        if linktype is None:
            datalink = getattr(reader, "datalink", None)
            linktype = datalink() if callable(datalink) else 1
        return cls.from_pairs(reader, linktype=linktype, count=count)

    @classmethod
    def from_scapy(cls, packets: Iterable[Any], *, linktype: int | None = None, count: int | None = None) -> Self:
        """Make a batch of Scapy's packets: a `PacketList`, a `PcapReader`, or any iterable of packets.

        Scapy is not imported: of a packet `time`, `wirelen` and `bytes(packet)` count, times as in `from_pairs`.

        Args:
            packets: The packets, in capture order.
            linktype: The LINKTYPE_ number of what `bytes(packet)` begins with. Default: that of the outermost layer
                (`Ether`, `IP`, `IPv6`, `CookedLinux`, `RadioTap`, ...), which all packets then have.
            count: At most so many packets; the next call goes on with the same iterator. A batch of none is the end.

        Raises:
            ValueError: A packet is refused; the message has its place.
        """
        from conntrack_py.io.scapy import of_packets

        made = of_packets(_some(packets, count), None if linktype is None else _linktype(linktype))
        return cls(_native.Batch.from_frames(*made.frames, made.linktype))

    @classmethod
    def from_arrays(
        cls,
        *,
        timestamp: ArrayLike,
        src: Any,
        dst: Any,
        sport: ArrayLike,
        dport: ArrayLike,
        proto: Any,
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
        """Make a batch of a table: one value of each column for each packet, in capture order.

        Numbers are integers of any sufficient type, in native byte order; arrays need not be contiguous. Columns that
        are not given have their defaults. With all columns of their protocols, packets get the labels and connections
        that they get from a capture. Checksums are not verified.

        Without `payload`, the originator of a connection that began before the capture has less evidence, ICMP errors
        are related to nothing, SCTP has no states, and tunnels are not decapsulated.

        Without `seq`, `ack`, `window` or `tcp_options`, TCP windows are not tracked (see `window_tracking`). States
        then assume that every segment arrives once and in order, no segment is `INVALID` for its numbers, and `history`
        has no retransmissions and no gaps. Give one tracker batches with all four, or without. Without `tcp_options`,
        up to 40 bytes in a segment without PSH count as options (RFC 9293 section 3.9.1.2: the last segment of a send
        has PSH); elsewhere options count as data.

        Args:
            timestamp: Capture times: nanoseconds since 1970 UTC, or `datetime64` of any unit.
            src: Source addresses: IPv4 as uint32 (10.0.0.1 is 0x0a000001); or 16 bytes each in network order, uint8 of
                shape (packets, 16) or `V16`, IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2); or text.
            dst: Destination addresses.
            sport: Source ports; ICMP: the type; 0 for protocols that have none, and for later fragments.
            dport: Destination ports; ICMP: the code.
            proto: IP protocols, behind IPv6's extension headers: numbers, or names as the column `proto` of
                `ConnectionTable` has them (`tcp`, `udp`, `icmp6`).
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
        from conntrack_py.io.columns import COLUMNS, of_columns

        columns = locals()
        return cls(_native.Batch.from_columns(*of_columns({n: columns[n] for n in COLUMNS if columns[n] is not None})))

    @classmethod
    def from_arrow(cls, source: Any) -> Self:
        """Make a batch of an object with `__arrow_c_stream__` or `__arrow_c_array__`: a data frame or a table.

        The columns are those of `from_arrays`, of any integer type; `timestamp` may be a timestamp, `proto` text, `src`
        and `dst` are text, uint32 for IPv4, or binary of 16 bytes, `tcp_options` and `payload` are binary. Other
        columns are ignored.
        Nulls are 0 or empty where the packet's protocol does not need the value.

        Raises:
            ValueError: A column is missing or refused; the message names it.
        """
        from conntrack_py.io.columns import of_arrow, of_columns

        return cls(_native.Batch.from_columns(*of_columns(of_arrow(source))))

    @property
    def window_tracking(self) -> bool:
        """Windows of TCP are tracked: every segment has its numbers, its window and its options, or there is none."""
        return not self._native.lacks()[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in their order; what the packets were made without is not among them."""
        from conntrack_py.io.columns import COLUMNS, PIECES

        no_payloads, no_numbers = self._native.lacks()
        there = {"payload": not no_payloads, "tcp_options": not no_numbers}
        return tuple(n for n in COLUMNS if (there[n] if n in PIECES else n in self._numbers()))

    def __getitem__(self, name: str) -> Any:
        """A column as a read-only array, with the dtype that `to_arrays` says.

        Raises:
            KeyError: There is no such column.
        """
        import numpy as np

        from conntrack_py.io.columns import NUMBERS, PIECES

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

    def __copy__(self) -> Self:
        """The batch, which never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """The batch, which never changes."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse: Arrow hands packets on."""
        raise TypeError(
            "a PacketBatch is not pickled: hand on pyarrow.table(batch), which PacketBatch.from_arrow takes"
        )

    def __repr__(self) -> str:
        """The number of packets."""
        return f"<PacketBatch: {len(self):,} packet{'' if len(self) == 1 else 's'}>"


def _some(packets: Iterable[Any], count: int | None) -> Iterator[Any]:
    some = iter(packets)
    return some if count is None else islice(some, count)


def _linktype(linktype: int) -> int:
    number = operator.index(linktype)
    if not 0 <= number <= 0xFFFF:
        raise ValueError(f"linktype: found {number}, expected a LINKTYPE_ number such as 1 (Ethernet) or 101 (IP)")
    return number
