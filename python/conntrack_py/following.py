"""Captures that are still being written: one that grows, or a directory of rotated ones."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from conntrack_py.config import Config
from conntrack_py.exceptions import CaptureError
from conntrack_py.streaming import Capture, PacketBatch, open_capture

#: Seconds after which it is looked again whether there is more.
LOOK_EVERY = 0.2

#: What tells one file from another that has its name later.
_Identity = tuple[int, int]


class _Growing:
    """A file that is read as it grows, until `is_over` says so where it ends."""

    def __init__(self, file: BinaryIO, is_over: Callable[[], bool]) -> None:
        """Read from this file."""
        self.name = file.name
        self._file = file
        self._is_over = is_over

    def read(self, size: int) -> bytes:
        """What has come, once something has."""
        while True:
            if data := self._file.read(size):
                return data
            if self._is_over():
                # What was written before somebody went on elsewhere.
                return self._file.read(size)
            time.sleep(LOOK_EVERY)


def follow(path: str | os.PathLike[str], *, config: Config | None = None) -> Iterator[tuple[Capture, PacketBatch]]:
    """Read a capture while it is written, or a directory of rotated ones, for ever.

    A file is read on where it ends. If another file has its name by then, as after a rotation, or it was cut, that is
    read next. Of a directory, captures are read in the order of their first packets, whatever they are called; the last
    one grows until there is a later one. What is no capture, or has no packet yet, is left until it is one.

    Args:
        path: The file or directory. A file may not be there yet.
        config: As for `open_capture`.

    Yields:
        The open capture and its next batch.

    Raises:
        CaptureError: A file is no capture, or is damaged and `config.strict` is set.
        FileNotFoundError: There is no such directory any more.
    """
    name = os.fsdecode(path)
    return _directory(name, config) if os.path.isdir(name) else _file(name, config)


def _file(name: str, config: Config | None) -> Iterator[tuple[Capture, PacketBatch]]:
    while True:
        try:
            file = open(name, "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            time.sleep(LOOK_EVERY)
            continue
        yield from _batches(file, lambda file=file: _is_replaced(name, file), config)  # type: ignore[misc]


def _is_replaced(name: str, file: BinaryIO) -> bool:
    """Another file has the name, or this one was cut to less than was read."""
    try:
        found = os.stat(name)
    except FileNotFoundError:
        # Moved away; the next one comes in a moment, and until then more may come here.
        return False
    mine = os.fstat(file.fileno())
    return _identity(found) != _identity(mine) or mine.st_size < file.tell()


def _directory(name: str, config: Config | None) -> Iterator[tuple[Capture, PacketBatch]]:
    known = _Rotated(name)
    while True:
        current = known.next()
        if current is None:
            time.sleep(LOOK_EVERY)
            continue
        file = open(current, "rb", buffering=0)  # noqa: SIM115
        yield from _batches(file, known.has_more, config)


def _batches(
    file: BinaryIO, is_over: Callable[[], bool], config: Config | None
) -> Iterator[tuple[Capture, PacketBatch]]:
    with file, open_capture(_Growing(file, is_over), config=config) as capture:
        for batch in capture:
            yield capture, batch


class _Rotated:
    """The captures of a directory that were not read yet."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        #: When the first packet of each file was captured; None where it has none, with the size that it had.
        self._begun: dict[tuple[_Identity, str], tuple[int | None, int]] = {}
        self._done: set[tuple[_Identity, int]] = set()

    def next(self) -> str | None:
        """The one that begins first, and is not to be read again."""
        waiting = self._waiting()
        if not waiting:
            return None
        at, name, identity = min(waiting)
        self._done.add((identity, at))
        return os.path.join(self._directory, name)

    def has_more(self) -> bool:
        """Whether there is another one."""
        return bool(self._waiting())

    def _waiting(self) -> list[tuple[int, str, _Identity]]:
        waiting, there = [], set()
        with os.scandir(self._directory) as entries:
            for entry in entries:
                found = entry.stat()
                if not stat.S_ISREG(found.st_mode):
                    continue
                identity = _identity(found)
                there.add(identity)
                at = self._first(entry.path, identity, found.st_size)
                if at is not None and (identity, at) not in self._done:
                    waiting.append((at, entry.name, identity))
        self._done = {done for done in self._done if done[0] in there}
        self._begun = {key: begun for key, begun in self._begun.items() if key[0] in there}
        return waiting

    def _first(self, path: str, identity: _Identity, size: int) -> int | None:
        """The capture time of a file's first packet."""
        at, before = self._begun.get((identity, path), (None, -1))
        # Looked at again once there is more to see, or less: a ring of files writes over the oldest.
        if size < before or (at is None and size != before):
            try:
                with open_capture(path) as capture:
                    first = next(capture, None)
                at = None if first is None else int(first.timestamps[0].astype("i8"))
            except (CaptureError, OSError):
                at = None
        self._begun[identity, path] = (at, size)
        return at


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino
