"""Sources of captures: paths, patterns, standard input and file objects, resolved to names."""

from __future__ import annotations

import errno
import glob
import io
import os
import shlex
import stat
from collections.abc import Iterable
from typing import Any, Protocol

from conntrack_py.config import Config
from conntrack_py.exceptions import CaptureError
from conntrack_py.io import remote


class SupportsRead(Protocol):
    """A binary file object to read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


Source = str | os.PathLike[str] | SupportsRead


#: A name, with None for a file that the extension module opens, a file object to read instead, or a reason not to read.
Input = tuple[str, SupportsRead | str | None]


class Tree(str):
    """A directory whose files are read, and those of the directories below."""

    __slots__ = ()


def inputs(source: Any, config: Config, *, recursive: bool = False) -> list[Input]:
    """Resolve sources to names.

    Args:
        source: What a user gave.
        config: With `on_error="skip"`, what is wrong with a source is left to the extension module, which lists it.
        recursive: Take directories for a `Tree`.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        raise TypeError("source: found bytes; wrap them in io.BytesIO")
    several = not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read")
    if several and not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(f"source: found {kind}, expected a path, a binary file object or a list of them")
    found = [
        one for some in (source if several else [source]) for one in _found(some, config.on_error == "skip", recursive)
    ]
    if not found:
        raise ValueError("source: the list of captures is empty")
    return found


def _found(source: Any, skip: bool, recursive: bool) -> list[Input]:
    if hasattr(source, "read"):
        if isinstance(source, io.TextIOBase):
            raise TypeError(f"source: {_name(source)} is open as text; open it in binary mode, 'rb'")
        return [(_name(source), source)]
    if source == "-":
        return [("-", None)]
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: found {type(source).__name__}, expected a path or a binary file object")
    path = os.fsdecode(source)
    if isinstance(source, str) and remote.is_url(source):
        return _objects(path, skip, recursive or isinstance(source, Tree))
    if not isinstance(source, str) or isinstance(source, Tree) or os.path.lexists(path) or not glob.has_magic(path):
        return (
            [_file(path, skip)]
            if not (os.path.isdir(path) and (recursive or isinstance(source, Tree)))
            else _tree(path)
        )
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if not os.path.isdir(match)]
    if not matches:
        reason = "no file matches this pattern"
        if skip:
            return [(path, reason)]
        raise FileNotFoundError(errno.ENOENT, reason, path)
    return [(match, None) for match in matches]


def _objects(url: str, skip: bool, recursive: bool) -> list[Input]:
    """The objects that a URL names. Their absence is told by the first read."""
    try:
        return [(name, remote.Remote(name)) for name in remote.found(url, recursive)]
    except (FileNotFoundError, CaptureError) as error:
        if skip:
            return [(url, error.strerror or str(error) if isinstance(error, OSError) else str(error))]
        raise


def _file(path: str, skip: bool) -> Input:
    """A file by name. Its absence is Python's own error."""
    try:
        found = os.stat(path)
    except OSError:
        if skip:
            return path, None
        raise
    if stat.S_ISDIR(found.st_mode):
        files = os.path.join(glob.escape(path), "*")
        reason = f"{os.strerror(errno.EISDIR)}; give its files, {shlex.quote(files)}, or --recursive (recursive=True)"
        if skip:
            return path, reason
        raise IsADirectoryError(errno.EISDIR, reason, path)
    return path, None


def _tree(directory: str) -> list[Input]:
    """The files of a directory and those below it, by name; hidden ones are not read."""
    found: list[Input] = []
    failed: list[Input] = []

    def note(error: OSError) -> None:
        failed.append((os.fsdecode(error.filename), error.strerror or str(error)))

    for place, folders, files in os.walk(directory, onerror=note):
        for name in files:
            path = os.path.join(place, name)
            found.append((path, "a hidden file" if _is_hidden(name) else _special(path)))
        found += [(os.path.join(place, name), "a hidden directory") for name in folders if _is_hidden(name)]
        folders[:] = [name for name in folders if not _is_hidden(name)]
    if not found and not failed:
        raise FileNotFoundError(errno.ENOENT, "no file is in this directory", directory)
    return sorted([*found, *failed], key=lambda one: one[0])


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _special(path: str) -> str | None:
    """The reason not to read what is no file: a pipe that was found, not given, may have no writer."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.strerror or str(error)
    return None if stat.S_ISREG(mode) else "no regular file"


def _name(file: Any) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"<{type(file).__name__}>"


#: First bytes of captures: pcap in its byte orders and resolutions, pcapng, snoop; gzip, zstd, lz4, xz, bzip2.
_MAGICS = (
    *(bytes.fromhex(magic) for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1")),
    *(bytes.fromhex(magic) for magic in ("0a0d0d0a", "1f8b08", "28b52ffd", "04224d18", "fd377a585a00")),
    b"snoop\0",
    b"BZh",
)


def is_capture(path: str | os.PathLike[str]) -> bool:
    """Test whether a regular file begins as a capture does, plain or compressed."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(max(map(len, _MAGICS))).startswith(_MAGICS)
    except OSError:
        return False
