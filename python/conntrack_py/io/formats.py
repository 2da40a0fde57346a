"""File formats of connections: names and suffixes, as the extension module declares them."""

from __future__ import annotations

import os
from typing import Protocol

FORMATS = ("csv", "jsonl", "arrow", "parquet", "conntrack", "zeek", "ipfix")
_SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".parquet": "parquet",
    ".log": "zeek",
    ".ipfix": "ipfix",
}


class SupportsWrite(Protocol):
    """A binary file object to write to."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes."""

    def flush(self) -> object:
        """Hand them on."""


def checked_format(format: str) -> str:
    """The format, if it is one.

    Raises:
        ValueError: It is not; the message lists those that are.
    """
    if format in FORMATS:
        return format
    raise ValueError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")


def format_of(path: str | os.PathLike[str] | SupportsWrite) -> str:
    """The format that the suffix of a path tells.

    Raises:
        ValueError: It tells none.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"a file object has no suffix: give a format, one of {', '.join(FORMATS)}")
    suffix = os.path.splitext(path)[1]
    if suffix.lower() not in _SUFFIXES:
        known = " ".join(_SUFFIXES)
        found = f"its suffix is {suffix}" if suffix else "it has no suffix"
        raise ValueError(f"{os.fspath(path)}: {found}: give a format ({', '.join(FORMATS)}) or one of {known}")
    return _SUFFIXES[suffix.lower()]
