"""Columns of packets, checked and converted for the extension module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conntrack_py import _native
from conntrack_py.io.frames import whole

#: The columns of numbers beside `timestamp`, `src` and `dst`, and what they are.
NUMBERS = {
    "ip_version": "u1",
    "sport": "u2",
    "dport": "u2",
    "proto": "u1",
    "length": "u4",
    "ip_header_length": "u4",
    "ip_id": "u4",
    "fragment_offset": "u2",
    "more_fragments": "?",
    "vlan": "u2",
    "inner_vlan": "u2",
    "to_group": "?",
    "tcp_flags": "u1",
    "seq": "u4",
    "ack": "u4",
    "window": "u2",
    "udp_length": "u2",
    "icmp_id": "u2",
    "sctp_vtag": "u4",
}
#: The columns of bytes.
PIECES = ("tcp_options", "payload")
#: All columns, in their order.
COLUMNS = ("timestamp", "src", "dst", *NUMBERS, *PIECES)
#: Required columns.
REQUIRED = ("timestamp", "src", "dst", "sport", "dport", "proto", "length")
#: With these, all of them, the windows of TCP are tracked.
WINDOWS = ("seq", "ack", "window", "tcp_options")
#: Columns that must have a value where the packet is TCP.
OF_TCP = ("tcp_flags", "seq", "ack", "window")

_TCP = 6
#: Protocols with ports, or with types and codes in their place.
_WITH_PORTS = (1, 6, 17, 58, 132, 136)
#: VLAN ids end here, IEEE 802.1Q section 9.6.
_LAST_VLAN = 4095


class Given(NamedTuple):
    """A column as given: its values, and a mask of those that are not null (None: all)."""

    values: Any
    valid: NDArray[np.bool_] | None = None


class Table(NamedTuple):
    """Columns for the extension module, and flags for columns that are lacking."""

    columns: dict[str, Any]
    lacks_payloads: bool
    lacks_numbers: bool


def of_columns(given: Mapping[str, Any]) -> Table:
    """Convert columns of any NumPy form to those of the extension module.

    Raises:
        ValueError: A column is missing, or has the wrong length, type, byte order or range; the message names it.
    """
    columns = {name: value if isinstance(value, Given) else Given(value) for name, value in given.items()}
    for name in REQUIRED:
        if name not in columns:
            raise ValueError(f"{name}: found none, expected one for each packet")
    for name, column in columns.items():
        if np.ma.isMaskedArray(column.values) and np.ma.getmaskarray(column.values).any():
            raise ValueError(f"{name}: found masked values, expected a value for each packet")
    made: dict[str, Any] = {"timestamp": _times(columns["timestamp"])}
    count = len(made["timestamp"])
    for name, dtype in NUMBERS.items():
        if name in columns:
            values = _protocols(columns[name]) if name == "proto" else columns[name].values
            made[name] = _numbers(name, values, np.dtype(dtype), count)
    for name in PIECES:
        if name in columns:
            made[name] = _pieces(name, columns[name].values, count)
    for name in ("src", "dst"):
        made[name] = _addresses(name, columns[name], count)
    is_ip = made["ip_version"] != 0 if "ip_version" in made else np.ones(count, bool)
    is_tcp = is_ip & (made["proto"] == _TCP)
    _refuse_nulls(columns, made, is_ip, is_tcp)
    for name in ("vlan", "inner_vlan"):
        if name in made and count and (most := int(made[name].max())) > _LAST_VLAN:
            raise ValueError(f"{name}: found {most}, expected ids from 1 to {_LAST_VLAN}, or 0 for no tag")
    has_tcp = bool(is_tcp.any())
    if has_tcp and "tcp_flags" not in made:
        raise ValueError("tcp_flags: found none, expected one for each packet, since some are TCP")
    return Table(made, "payload" not in made, has_tcp and any(name not in made for name in WINDOWS))


def of_arrow(source: Any) -> dict[str, Given]:
    """Read the known columns of an object with `__arrow_c_stream__` or `__arrow_c_array__`.

    Raises:
        ValueError: It is no such thing, or a column has a type that fits none of ours.
    """
    found = {}
    for name, kind, holds, data, offsets, valid in _native.arrow_columns(source, list(COLUMNS)):
        expected = _expected(name)
        if holds not in expected:
            raise ValueError(f"{name}: found {kind}, expected {' or '.join(expected.values())}")
        where = None if valid is None else np.frombuffer(memoryview(valid), bool)
        if offsets is not None:
            pieces = (np.frombuffer(memoryview(data), np.uint8), np.frombuffer(memoryview(offsets), np.int64))
            found[name] = Given(_Text(*pieces) if holds == "text" else pieces, where)
            continue
        numbers = np.frombuffer(memoryview(data), np.int64)
        numbers = numbers if where is None else np.where(where, numbers, 0)
        found[name] = Given(numbers, where)
    return found


class _Text(NamedTuple):
    """Text of all packets in UTF-8, and offsets."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def _expected(name: str) -> dict[str, str]:
    """Kinds of Arrow columns that a column may have, in words."""
    if name == "timestamp":
        return {"time": "a timestamp", "int": "nanoseconds as whole numbers"}
    if name in ("src", "dst"):
        return {"text": "text", "int": "IPv4 addresses as whole numbers", "bytes": "16 bytes each"}
    if name == "proto":
        return {"int": "whole numbers", "text": "text"}
    return {"bytes": "binary"} if name in PIECES else {"int": "whole numbers"}


def _refuse_nulls(
    columns: Mapping[str, Given], made: Mapping[str, Any], is_ip: NDArray[np.bool_], is_tcp: NDArray[np.bool_]
) -> None:
    """Refuse nulls where the protocol needs a value; elsewhere a null is 0 or empty."""
    needed = {"timestamp": np.ones(len(is_ip), bool), "ip_version": np.ones(len(is_ip), bool)}
    needed |= dict.fromkeys(("src", "dst", "proto", "length", "ip_header_length"), is_ip)
    needed |= dict.fromkeys(("sport", "dport"), is_ip & np.isin(made["proto"], _WITH_PORTS))
    needed |= dict.fromkeys(OF_TCP, is_tcp)
    for name, where in needed.items():
        valid = columns[name].valid if name in columns else None
        if valid is not None and (refused := where & ~valid).any():
            raise ValueError(f"{name}: found null in packet {int(refused.argmax())}, expected a value")


def _sized(name: str, found: int, count: int) -> None:
    if found != count:
        raise ValueError(f"{name}: found {found:,}, expected {count:,}, one for each packet")


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: found rows of several lengths, expected a value for each packet") from error


def _whole(name: str, values: Any) -> NDArray[Any]:
    return whole(name, _array(name, values), "iub")


def _protocols(given: Given) -> Any:
    """Numbers of protocols, of which there may be names."""
    values = given.values
    if isinstance(values, _Text):
        texts = [bytes(values.data[start:end]).decode() for start, end in pairwise(values.offsets)]
        values = np.array(texts, dtype=object)
        values = values if given.valid is None else np.where(given.valid, values, "0")
    found = _array("proto", values)
    if found.dtype.kind not in "UO" or found.ndim != 1 or not found.size:
        return values
    known = _numbers_of_protocols()
    numbers = np.empty(len(found), np.int64)
    for place, name in enumerate(found.tolist()):
        number = known.get(name.lower()) if isinstance(name, str) else name
        if isinstance(number, bool) or not isinstance(number, int):
            shown = repr(name)[:40]
            raise ValueError(f"proto: found {shown} in packet {place}, expected a number, or a name such as tcp")
        numbers[place] = number if -1 <= number <= 256 else 256
    return numbers


@cache
def _numbers_of_protocols() -> dict[str, int]:
    """Names and decimal texts of protocols, and their numbers."""
    named = {name: number for number, name in enumerate(_native.PROTOCOLS)}
    # IANA's keyword, and that of other programs.
    also = {"ipv6-icmp": named["icmp6"], "icmpv6": named["icmp6"]}
    return {str(number): number for number in range(256)} | named | also


def _numbers(name: str, values: Any, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    found = _whole(name, values)
    _sized(name, len(found), count)
    most = 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
    if found.dtype != dtype and len(found):
        least, largest = int(found.min()), int(found.max())
        if least < 0 or largest > most:
            bad = least if least < 0 else largest
            place = int((found == bad).argmax())
            raise ValueError(f"{name}: found {bad} in packet {place}, expected 0 to {most}")
    made = np.ascontiguousarray(found.astype(dtype, copy=False))
    return made.view(np.uint8) if dtype.kind == "b" else made


def _times(given: Given) -> NDArray[np.int64]:
    found = _array("timestamp", given.values)
    if found.dtype.kind == "M":
        if not found.dtype.isnative or found.ndim != 1:
            raise ValueError(f"timestamp: found {found.dtype.str} of shape {found.shape}, expected datetime64[ns]")
        if (lost := np.isnat(found)).any() and given.valid is None:
            raise ValueError(f"timestamp: found NaT in packet {int(lost.argmax())}, expected a time")
        return np.ascontiguousarray(_nanoseconds(found).view(np.int64))
    if found.dtype.kind not in "iu" and found.size:
        raise ValueError(f"timestamp: found {found.dtype}, expected nanoseconds as whole numbers, or datetime64")
    found = _whole("timestamp", found)
    if found.dtype.kind == "u" and len(found) and int(found.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"timestamp: found {int(found.max())}, expected nanoseconds since 1970 in 63 bits")
    return np.ascontiguousarray(found, dtype=np.int64)


def _nanoseconds(moments: NDArray[Any]) -> NDArray[Any]:
    """Moments in nanoseconds; NumPy wraps those that have no room."""
    made = moments.astype("M8[ns]")
    if (changed := made.astype(moments.dtype) != moments).any() and not np.isnat(moments[changed]).all():
        place = int(changed.argmax())
        raise ValueError(f"timestamp: found {moments[place]} in packet {place}, expected a time from 1677 to 2262")
    return made


def _pieces(name: str, values: Any, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes of all packets, and offsets: one more than there are packets."""
    if isinstance(values, tuple) and len(values) == 2:
        try:
            data = np.frombuffer(values[0], np.uint8)
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"{name}: found {type(values[0]).__name__}, expected bytes in one piece") from error
        offsets = np.ascontiguousarray(_whole(name, values[1]), dtype=np.int64)
        if len(offsets) == 0:
            raise ValueError(
                f"{name}: found no offsets, expected {count + 1:,}: where each packet's bytes begin and end"
            )
        _sized(name, len(offsets) - 1, count)
        if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
            raise ValueError(f"{name}: expected offsets that grow from 0 to at most {len(data):,}, the bytes there are")
        return data, offsets
    is_text = isinstance(values, (bytes, bytearray, memoryview, str))
    if is_text or not (isinstance(values, Sequence) or getattr(getattr(values, "dtype", None), "hasobject", False)):
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name}: found {kind}, expected a list of bytes, or a tuple of bytes and offsets")
    for place, value in enumerate(values):
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise ValueError(f"{name}: found {type(value).__name__} in packet {place}, expected bytes")
    _sized(name, len(values), count)
    pieces = [bytes(value) for value in values]
    offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    return np.frombuffer(b"".join(pieces), np.uint8), offsets


def _addresses(name: str, given: Given, count: int) -> NDArray[Any]:
    """IPv4 addresses as u4, or any as 16 bytes each, IPv4 mapped into IPv6."""
    values = given.values
    if isinstance(values, _Text):
        _sized(name, len(values.offsets) - 1, count)
        return _read(name, values, given.valid)
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], np.ndarray):
        return _sixteen(name, values, given.valid, count)
    found = _array(name, values)
    if found.dtype.kind in "iu" and found.ndim == 1:
        return _numbers(name, found, np.dtype("u4"), count)
    if found.dtype == np.uint8 and found.ndim == 2 and found.shape[1] == 16:
        _sized(name, len(found), count)
        return np.ascontiguousarray(found).reshape(-1)
    if found.dtype.kind in "SV" and found.dtype.itemsize == 16 and found.ndim == 1:
        _sized(name, len(found), count)
        return np.ascontiguousarray(found).view(np.uint8)
    if found.ndim == 1 and (found.dtype.kind in "UO" or not len(found)):
        _sized(name, len(found), count)
        return _read(name, _utf8(found), None)
    raise ValueError(
        f"{name}: found {found.dtype} of shape {found.shape}, expected addresses: uint32 for IPv4, uint8 of shape "
        "(packets, 16), V16, or text"
    )


def _utf8(texts: NDArray[Any]) -> _Text:
    encoded = [str(text).encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return _Text(np.frombuffer(b"".join(encoded), np.uint8), offsets)


def _read(name: str, text: _Text, valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    where = None if valid is None else valid.view(np.uint8)
    return np.frombuffer(memoryview(_native.addresses(name, text.data, text.offsets, where)), np.uint8)


def _sixteen(
    name: str, pieces: tuple[NDArray[np.uint8], NDArray[np.int64]], valid: NDArray[np.bool_] | None, count: int
) -> NDArray[np.uint8]:
    """Sixteen bytes in each place, and zeros where there are none."""
    data, offsets = pieces
    _sized(name, len(offsets) - 1, count)
    sizes = np.diff(offsets)
    where = np.ones(count, bool) if valid is None else valid
    if (wrong := where & (sizes != 16)).any():
        place = int(wrong.argmax())
        raise ValueError(f"{name}: found {int(sizes[place])} bytes in packet {place}, expected 16")
    made = np.zeros((count, 16), np.uint8)
    places = offsets[:-1][where]
    made[where] = data[places[:, None] + np.arange(16)] if len(places) else 0
    return made.reshape(-1)
