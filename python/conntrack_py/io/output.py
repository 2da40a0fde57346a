"""Complete output: every byte arrives, or an `OSError` has the number of the system and the name of the file.

Files are written under a temporary name beside their own, created exclusively, and renamed once they are complete. A
replaced file keeps its mode and owner.

The flags of a descriptor belong to every process that has it. So standard output may be a pipe that does not block, and
Python's own streams lose what does not fit. Here the write waits.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from conntrack_py import _native

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Names of the standard streams in messages.
NAMES = {1: "standard output", 2: "standard error"}


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file in UTF-8.

    Raises:
        OSError: The system refused.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole binary file.

    Raises:
        OSError: The system refused.
    """
    _native.write_file(path, data)


class _Waiting(io.RawIOBase):
    """A descriptor whose writes are complete."""

    def __init__(self, raw: io.FileIO, name: str) -> None:
        self._raw = raw
        self.name = name

    def write(self, data: Buffer, /) -> int:
        """Write all bytes; wait while the descriptor takes none."""
        taken = memoryview(data).tobytes()
        try:
            _native.write_all(self._raw, taken)
        except OSError as error:
            if error.errno is not None:
                error.filename = self.name
            raise
        return len(taken)

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """True for a terminal."""
        return self._raw.isatty()


def wait_for_standard_streams() -> None:
    """Replace standard output and standard error by streams whose writes are complete."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        # None: the descriptor was closed before Python started.
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, _waiting(stream, number))


def _waiting(stream: io.TextIOWrapper, number: int) -> TextIO:
    raw = _Waiting(io.FileIO(stream.fileno(), "wb", closefd=False), NAMES[number])
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        newline=None,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def finish() -> None:
    """Flush standard output.

    Raises:
        OSError: The system refused; nothing is left to be written at the exit of the interpreter.
    """
    error = _flushed("stdout")
    if error is not None:
        raise error


def abandon() -> None:
    """Drop what the standard streams hold and cannot write: the interpreter would try it again at its exit."""
    for name in ("stdout", "stderr"):
        _flushed(name)


def _flushed(name: str) -> OSError | None:
    stream = getattr(sys, name)
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        return error
    return None
