"""A file that is read while it grows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from conntrack_py.exceptions import IdleError
from conntrack_py.io.follow.position import HEAD, LEAST_HEAD, head_of, identity


class Growing:
    """A growing file, read until it is overwritten or `is_over` is true at its end.

    A file that was copied and then truncated (logrotate's copytruncate) is read to its end in the copy.
    """

    def __init__(self, file: BinaryIO, is_over: Callable[[], bool], wait: Callable[[], None]) -> None:
        """Read from this file; `wait` passes the time."""
        self.name = file.name
        self._wait = wait
        self._file = file
        self._is_over = is_over
        self._copy: BinaryIO | None = None
        #: First bytes, up to `HEAD`. They grow until they are there.
        self.head = b""

    @property
    def size(self) -> int:
        """Bytes that were read."""
        return (self._copy or self._file).tell()

    def _is_another(self) -> bool:
        """True if the file was truncated below the read position or overwritten."""
        number = self._file.fileno()
        head = os.pread(number, HEAD, 0)
        if os.fstat(number).st_size < self._file.tell() or not head.startswith(self.head):
            return True
        self.head = head
        return False

    def read(self, size: int) -> bytes:
        """Return the next bytes; none at the end or if the file was overwritten.

        Raises:
            IdleError: No data came for a while; the caller reads again.
        """
        if self._copy is not None:
            return self._copy.read(size)
        if self._is_another():
            return self._rest(size)
        before = self._file.tell()
        if data := self._file.read(size):
            # Another capture may have been written over it between the look and the read.
            if not self._is_another():
                return data
            self._file.seek(before)
            return self._rest(size)
        if self._is_over():
            # What was written before somebody went on elsewhere.
            return self._file.read(size)
        self._wait()
        raise IdleError

    def _rest(self, size: int) -> bytes:
        """The bytes that a copy has behind the read position."""
        copy = _copy_of(str(self.name), self.head, self._file)
        if copy is None:
            return b""
        self._copy = copy
        return copy.read(size)

    def close(self) -> None:
        """Close the copy."""
        if self._copy is not None:
            self._copy.close()


def _copy_of(path: str, head: bytes, file: BinaryIO) -> BinaryIO | None:
    """A file of the same directory with these first bytes, behind the read position of the file."""
    at, mine = file.tell(), identity(os.fstat(file.fileno()))
    if len(head) < LEAST_HEAD:
        return None
    with os.scandir(os.path.dirname(path) or ".") as entries:
        for entry in entries:
            try:
                found = entry.stat()
                is_one = entry.is_file() and identity(found) != mine and found.st_size > at
            except OSError:
                continue
            if is_one and head_of(entry.path).startswith(head):
                copy = open(entry.path, "rb", buffering=0)  # noqa: SIM115
                copy.seek(at)
                return copy
    return None
