"""Kinds of columns, and values of each kind as text.

Kinds follow from the one list of columns (`ConnectionTable.columns`), their types and names. Beside the columns of a
table there are those of `DERIVED`.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rows(Protocol):
    """The part of a `ConnectionTable` that conditions read."""

    _native: Any

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def __getitem__(self, key: str, /) -> Any:
        """A column as a NumPy array."""
        ...

    def codes(self, name: str) -> tuple[Any, list[str]]:
        """A column of words as numbers, and the words."""
        ...

    def texts(self, name: str) -> Iterator[str]:
        """The values of a column of texts."""
        ...


class Kind(Enum):
    """Kind of a column; the value says what an error expects."""

    TIME = "a time, such as 2026-01-01 or 2026-01-01T08:00:00Z"
    DURATION = "a duration, such as 30s, 5min, 1.5h or 200ms"
    BYTES = "a number of bytes, such as 1500, 10kB, 1.5MB or 2MiB"
    NUMBER = "a number"
    PORT = "a port from 0 to 65535"
    FRACTION = "a number from 0 to 1"
    BOOLEAN = "true or false"
    WORD = "a word"
    ADDRESS = "an address, such as 10.0.0.1 or 2001:db8::1"
    TEXT = "a text"


#: Columns that are worked out of others, with their kinds. `addr` and `port` are those of either end.
DERIVED = {
    "duration": (Kind.DURATION, ("start", "end")),
    "bytes": (Kind.BYTES, ("orig_ip_bytes", "resp_ip_bytes")),
    "packets": (Kind.NUMBER, ("orig_pkts", "resp_pkts")),
    "addr": (Kind.ADDRESS, ("orig_addr", "resp_addr")),
    "port": (Kind.PORT, ("orig_port", "resp_port")),
}
#: Columns of which a row has two values: a comparison holds if it does for one of them.
EITHER = ("addr", "port")
#: Kinds that have an order.
ORDERED = (Kind.TIME, Kind.DURATION, Kind.BYTES, Kind.NUMBER, Kind.PORT, Kind.FRACTION)

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15}
_SIZES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50}
_SPANS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_SPANS |= {"m": _SPANS["min"], "d": 24 * _SPANS["h"], "w": 7 * 24 * _SPANS["h"]}
_NUMBER = re.compile(r"(-?[0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-zA-Zµ]*)")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def kind_of(table: Rows, name: str) -> Kind | None:
    """The kind of a column of a table; None if there is no such column."""
    if name in DERIVED:
        return DERIVED[name][0] if set(DERIVED[name][1]) <= set(table.columns) else None
    if name not in table.columns:
        return None
    dtype = table._native.dtype(name)
    if dtype is None:
        return Kind.ADDRESS if name.endswith("_addr") else Kind.TEXT
    if table._native.words(name) is not None:
        return Kind.WORD
    return {
        "<M8[ns]": Kind.TIME,
        "<u8": Kind.BYTES if name.endswith("_bytes") else Kind.NUMBER,
        "<u2": Kind.PORT,
        "<f4": Kind.FRACTION,
        "?": Kind.BOOLEAN,
    }.get(dtype, Kind.NUMBER)


def number(kind: Kind, text: str) -> Fraction | None:
    """A time or duration in nanoseconds, bytes, a port or a number; None if the text is none."""
    if kind is Kind.TIME:
        return _time(text)
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    value, unit = Fraction(found[1]), found[2]
    if kind is Kind.DURATION:
        return value * _SPANS[unit] if unit in _SPANS else None
    if kind is Kind.BYTES:
        return value * _SIZES[unit.lower()] if unit.lower() in _SIZES else None
    if unit or (kind is Kind.PORT and (value.denominator != 1 or not 0 <= value <= 0xFFFF)):
        return None
    return value


def _time(text: str) -> Fraction | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, rest, zone = found.groups()
    try:
        moment = datetime.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=datetime.UTC
        )
    except ValueError:
        return None
    seconds = (moment - _EPOCH) // datetime.timedelta(seconds=1)
    if zone and zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            return None
        seconds -= (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
    return Fraction(seconds * 10**9 + int((rest or "").ljust(9, "0")))


def network(text: str) -> Network | None:
    """An address as a network of one, or a network in CIDR notation; None if the text is neither."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    return None if "%" in text else found


def boolean(text: str) -> bool | None:
    """True or false; None if the text is neither."""
    return {"true": True, "false": False}.get(text.lower())


def listed(words: Sequence[str], most: int = 24) -> str:
    """The words that a column has, as an error lists them."""
    shown = ", ".join(words[:most])
    return f"{shown} and {len(words) - most:,} more" if len(words) > most else shown
