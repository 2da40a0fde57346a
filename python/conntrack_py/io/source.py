"""Sources of captures: paths, patterns, standard input and file objects, resolved to names."""

from __future__ import annotations

import errno
import glob
import io
import os
import stat
from collections.abc import Iterable
from typing import Any, Protocol


class SupportsRead(Protocol):
    """A binary file object to read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


Source = str | os.PathLike[str] | SupportsRead


def inputs(source: Any) -> list[tuple[str, SupportsRead | None]]:
    """Resolve sources to names, with a file object where the extension module does not open the file."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        raise TypeError("source: found bytes; wrap them in io.BytesIO")
    several = not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read")
    if several and not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(f"source: found {kind}, expected a path, a binary file object or a list of them")
    found = [one for some in (source if several else [source]) for one in _found(some)]
    if not found:
        raise ValueError("source: the list of captures is empty")
    return found


def _found(source: Any) -> list[tuple[str, SupportsRead | None]]:
    if hasattr(source, "read"):
        if isinstance(source, io.TextIOBase):
            raise TypeError(f"source: {_name(source)} is open as text; open it in binary mode, 'rb'")
        return [(_name(source), source)]
    if source == "-":
        return [("-", None)]
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: found {type(source).__name__}, expected a path or a binary file object")
    path = os.fsdecode(source)
    if not isinstance(source, str) or os.path.lexists(path) or not glob.has_magic(path):
        # Its absence is Python's own error.
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return [(path, None)]
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if not os.path.isdir(match)]
    if not matches:
        raise FileNotFoundError(errno.ENOENT, "no file matches this pattern", path)
    return [(match, None) for match in matches]


def _name(file: Any) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"<{type(file).__name__}>"
