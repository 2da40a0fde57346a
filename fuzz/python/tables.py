"""Any columns of Arrow or NumPy as a table of packets: refused with a `ValueError`, or tracked.

Arrow arrays are made of unchecked buffers, as a damaged file has them: offsets that fall, text that is not UTF-8, keys
of a dictionary that are not in it. No buffer is shorter than Arrow's C interface demands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

import conntrack_py as ct

NAMES = (
    *("timestamp", "src", "dst", "sport", "dport", "proto", "length", "ip_version", "tcp_flags", "seq", "ack"),
    *("window", "tcp_options", "payload", "ip_header_length", "ip_id", "fragment_offset", "more_fragments", "vlan"),
    *("inner_vlan", "to_group", "udp_length", "icmp_id", "sctp_vtag"),
)
#: The usual type of each column; other types come from the input.
USUAL: dict[str, Any] = {
    "timestamp": pa.timestamp("ns"),
    "src": pa.string(),
    "dst": pa.string(),
    "proto": pa.uint8(),
    "ip_version": pa.uint8(),
    "tcp_flags": pa.uint8(),
    "tcp_options": pa.binary(),
    "payload": pa.binary(),
    "more_fragments": pa.bool_(),
    "to_group": pa.bool_(),
}
#: Numbers that make a packet, where the input does not choose them.
LAWFUL = {
    "sport": 40_000,
    "dport": 443,
    "proto": 6,
    "length": 60,
    "ip_version": 4,
    "tcp_flags": 2,
    "ip_header_length": 20,
}
TYPES: tuple[Any, ...] = (
    *(pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.bool_()),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "+25:61")),
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(16), pa.binary(0)),
    *(pa.float32(), pa.float64(), pa.null(), pa.date32(), pa.duration("ns"), pa.list_(pa.int8())),
)
DTYPES = (
    "u1",
    "u2",
    "u4",
    "u8",
    "i1",
    "i8",
    ">u2",
    ">i8",
    "?",
    "f8",
    "M8[ns]",
    "M8[s]",
    "M8[D]",
    "S16",
    "V16",
    "U15",
    "O",
)
#: The usual type of each NumPy column.
USUAL_DTYPES = {"timestamp": "i8", "src": "u4", "dst": "u4", "proto": "u1"}
ADDRESSES = ("10.0.0.1", "192.0.2.7", "2001:db8::1", "::ffff:10.0.0.9", "", "10.0.0.256", "x")


class Draw:
    """Numbers and bytes of an input; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        found = self._data[self._at : self._at + count]
        self._at += count
        return found.ljust(count, b"\0")

    def below(self, end: int) -> int:
        """A number below an end."""
        return int.from_bytes(self.bytes(1 if end <= 256 else 4), "little") % end


def _offsets(draw: Draw, rows: int, dtype: str, most: int) -> bytes:
    """Offsets up to the end of the bytes, mostly growing; the last one is never more than there are bytes."""
    found = [draw.below(most + 1) for _ in range(rows + 1)]
    if draw.below(4) < 3:
        found.sort()
    if draw.below(16) == 15:
        found[draw.below(rows + 1) % max(rows, 1)] = -1 - draw.below(256)
    if found[-1] < 0:
        found[-1] = 0
    return np.array(found, dtype).tobytes()


def _array(draw: Draw, kind: Any, rows: int, usual: int = 0) -> Any:
    valid = pa.py_buffer(draw.bytes((rows + 7) // 8)) if draw.below(4) == 3 else None
    if pa.types.is_null(kind):
        return pa.nulls(rows)
    if pa.types.is_list(kind):
        return pa.array([[1]] * rows, kind)
    if kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        text = [ADDRESSES[draw.below(len(ADDRESSES))].encode() for _ in range(rows)]
        data = draw.bytes(draw.below(64)) if draw.below(4) == 3 else b"".join(text)
        wide = "i8" if kind in (pa.large_string(), pa.large_binary()) else "i4"
        ends = np.cumsum([0, *map(len, text)]).astype(wide).tobytes()
        if ends[-(8 if wide == "i8" else 4) :] != np.array([len(data)], wide).tobytes() or draw.below(4) == 3:
            ends = _offsets(draw, rows, wide, len(data))
        return pa.Array.from_buffers(kind, rows, [valid, pa.py_buffer(ends), pa.py_buffer(data)])
    if pa.types.is_integer(kind) and draw.below(4) < 2:
        return pa.array([usual] * rows, pa.uint16()).cast(kind, safe=False)
    width = kind.bit_width
    return pa.Array.from_buffers(kind, rows, [valid, pa.py_buffer(draw.bytes((rows * width + 7) // 8))])


def _column(draw: Draw, name: str, rows: int) -> Any:
    kind = USUAL.get(name, pa.uint16())
    if draw.below(8) == 7:
        kind = TYPES[draw.below(len(TYPES))]
    array = _array(draw, kind, rows, LAWFUL.get(name, 0))
    if draw.below(16) == 15:
        keys = pa.Array.from_buffers(pa.int8(), rows, [None, pa.py_buffer(draw.bytes(rows))])
        return pa.DictionaryArray.from_arrays(keys, array, safe=False)
    if rows and draw.below(16) == 15:
        return array.slice(draw.below(rows))
    return array


def _arrow(draw: Draw) -> ct.PacketBatch:
    rows = draw.below(9)
    names = NAMES[: 7 + draw.below(len(NAMES) - 6)]
    columns = {name: _column(draw, name, rows) for name in names if draw.below(32) != 31}
    least = min(map(len, columns.values()), default=0)
    batches = [pa.record_batch({name: column[:least] for name, column in columns.items()})]
    return ct.PacketBatch.from_arrow(pa.Table.from_batches(batches * (1 + draw.below(2))))


def _numpy(draw: Draw) -> ct.PacketBatch:
    rows = draw.below(9)
    columns: dict[str, Any] = {}
    for name in NAMES[: 7 + draw.below(len(NAMES) - 6)]:
        dtype = np.dtype(DTYPES[draw.below(len(DTYPES))] if draw.below(4) == 3 else USUAL_DTYPES.get(name, "u2"))
        count = draw.below(9) if draw.below(16) == 15 else rows
        if name in ("tcp_options", "payload"):
            data = draw.bytes(draw.below(64))
            ends = np.frombuffer(_offsets(draw, count, "i8", len(data)), "i8")
            columns[name] = (data, ends) if draw.below(4) < 3 else [draw.bytes(draw.below(4)) for _ in range(count)]
        elif dtype.kind == "O":
            columns[name] = np.array([ADDRESSES[draw.below(len(ADDRESSES))] for _ in range(count)], "O")
        else:
            lawful = dtype.kind in "iu" and draw.below(4) < 2
            usual = np.full(count, LAWFUL.get(name, 0) if lawful else 0).astype(dtype).tobytes()
            data = np.frombuffer(usual if lawful else draw.bytes(dtype.itemsize * count), "u1")
            if dtype.kind == "U":
                data = np.array([ADDRESSES[value % len(ADDRESSES)] for value in data[:count]], "U15").view("u1")
            found = data.view(dtype) if count else np.empty(0, dtype)
            columns[name] = found[::-1] if draw.below(8) == 7 else found
    return ct.PacketBatch.from_arrays(**columns)


def test_one_input(data: bytes) -> None:
    """Make a batch, track it, and give its columns back."""
    draw = Draw(data)
    try:
        batch = _arrow(draw) if draw.below(2) else _numpy(draw)
    except (ValueError, TypeError):
        return
    tracker = ct.Tracker()
    assert len(tracker.process(batch)) == len(batch)
    assert len(tracker.finish()) <= len(batch)
    again = ct.PacketBatch.from_arrow(batch)
    assert pa.table(again).equals(pa.table(batch))
