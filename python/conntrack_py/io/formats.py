"""File formats of connections: names and suffixes, as the extension module declares them."""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

from conntrack_py import _native


class Format(NamedTuple):
    """A file format of connections."""

    #: Suffixes that tell it, without their dot.
    suffixes: tuple[str, ...]
    #: Not for a terminal.
    is_binary: bool
    #: Each row is complete with its line.
    by_line: bool


#: The formats by name.
FORMATS = {
    name: Format(tuple(suffixes), is_binary, by_line)
    for name, (suffixes, is_binary, by_line) in _native.FORMATS.items()
}
_SUFFIXES = {f".{suffix}": name for name, format in FORMATS.items() for suffix in format.suffixes}


class SupportsWrite(Protocol):
    """A binary file object to write to."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""

    def flush(self) -> object:
        """Flush buffers."""


def checked_format(format: str) -> str:
    """Return the name of a known format.

    Raises:
        ValueError: It is not; the message lists those that are.
    """
    if format in FORMATS:
        return format
    raise ValueError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")


def format_of(path: str | os.PathLike[str] | SupportsWrite) -> str:
    """The format of a path's suffix.

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
