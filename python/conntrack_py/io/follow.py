"""`follow`: a capture that grows, or a directory of rotated captures."""

from __future__ import annotations

import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from conntrack_py.config import Config
from conntrack_py.exceptions import CaptureError, CaptureWarning
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture, open_capture

#: Seconds after which it is looked again whether there is more.
LOOK_EVERY = 0.2

#: So many first bytes tell a capture from another that is written over it: the file's header and the first packet's.
_HEAD = 128
_COMPRESSED = {".gz", ".zst", ".lz4", ".xz", ".bz2"}

#: Device and inode: they tell a file from a later one of its name.
_Identity = tuple[int, int]


class _Growing:
    """A growing file, read until it is overwritten or `is_over` is true at its end."""

    def __init__(self, file: BinaryIO, is_over: Callable[[], bool]) -> None:
        """Read from this file."""
        self.name = file.name
        self._file = file
        self._is_over = is_over
        self._head = b""

    def _is_another(self) -> bool:
        """True if the file was truncated below the read position or overwritten."""
        number = self._file.fileno()
        head = os.pread(number, _HEAD, 0)
        if os.fstat(number).st_size < self._file.tell() or not head.startswith(self._head):
            return True
        # It grows until it is there.
        self._head = head
        return False

    def read(self, size: int) -> bytes:
        """Block until data is there; return none at the end or if the file was overwritten."""
        while True:
            if self._is_another():
                return b""
            if data := self._file.read(size):
                # Another capture may have been written over it between the look and the read.
                return b"" if self._is_another() else data
            if self._is_over():
                # What was written before somebody went on elsewhere.
                return self._file.read(size)
            time.sleep(LOOK_EVERY)


def follow(path: str | os.PathLike[str], *, config: Config | None = None) -> Iterator[tuple[Capture, PacketBatch]]:
    """Read a growing capture, or a directory of rotated captures, without end.

    At its end a file is polled for more. If another file has taken its name, as after a rotation, or another capture
    was written over it, that one is read next. Captures of a directory are read in the order of their first packets,
    whatever their names; the last one grows until there is a later one. Files that are no capture yet, or have no
    packet, are examined again later. A capture that is compressed after it was read (`one.pcap`, then `one.pcap.gz`) is
    not read again.

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
    """True if another file has taken the name."""
    try:
        found = os.stat(name)
    except FileNotFoundError:
        # Moved away; the next one comes in a moment, and until then more may come here.
        return False
    return _identity(found) != _identity(os.fstat(file.fileno()))


def _directory(name: str, config: Config | None) -> Iterator[tuple[Capture, PacketBatch]]:
    known = _Rotated(name)
    while True:
        current = known.next()
        if current is None:
            time.sleep(LOOK_EVERY)
            continue
        try:
            file = open(current, "rb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            # Taken away meanwhile, as rings of files are.
            continue
        yield from _batches(file, known.has_more, config)


def _batches(
    file: BinaryIO, is_over: Callable[[], bool], config: Config | None
) -> Iterator[tuple[Capture, PacketBatch]]:
    with file, open_capture(_Growing(file, is_over), config=config) as capture:
        for batch in capture:
            yield capture, batch


class _Seen(NamedTuple):
    """State of a file of the directory when it was last examined."""

    #: Capture time of its first packet; None where it has none yet.
    at: int | None
    size: int
    #: Modification time, nanoseconds.
    changed: int
    #: First bytes, which another capture does not share.
    head: bytes


class _Rotated:
    """Captures of a directory that are still to be read."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seen: dict[tuple[_Identity, str], _Seen] = {}
        #: Files read, by identity and first packet, and by name: a file may be compressed later.
        self._done: set[tuple[_Identity, int]] = set()
        self._names: set[tuple[str, int]] = set()

    def next(self) -> str | None:
        """The capture with the earliest first packet; it counts as read from now on."""
        waiting = self._waiting()
        if not waiting:
            return None
        at, name, identity = min(waiting)
        self._done.add((identity, at))
        self._names.add((_plain(name), at))
        return os.path.join(self._directory, name)

    def has_more(self) -> bool:
        """True if another capture waits."""
        return bool(self._waiting())

    def _waiting(self) -> list[tuple[int, str, _Identity]]:
        waiting, there, names = [], set(), set()
        with os.scandir(self._directory) as entries:
            for entry in entries:
                try:
                    found = entry.stat()
                except OSError:
                    # Taken away meanwhile, or a link to nothing or to itself.
                    continue
                if not stat.S_ISREG(found.st_mode):
                    continue
                identity = _identity(found)
                there.add(identity)
                names.add(_plain(entry.name))
                at = self._first(entry.path, identity, found)
                if at is not None and (identity, at) not in self._done and (_plain(entry.name), at) not in self._names:
                    waiting.append((at, entry.name, identity))
        self._done = {done for done in self._done if done[0] in there}
        self._names = {done for done in self._names if done[0] in names}
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in there}
        return waiting

    def _first(self, path: str, identity: _Identity, found: os.stat_result) -> int | None:
        """The capture time of a file's first packet."""
        seen = self._seen.get((identity, path))
        size, changed = found.st_size, found.st_mtime_ns
        if seen is not None and (seen.size, seen.changed) == (size, changed):
            return seen.at
        try:
            with open(path, "rb") as file:
                head = file.read(_HEAD)
            # Looked at again once there is more to see, or something else: a ring of files writes over the oldest.
            if seen is not None and seen.at is not None and size >= seen.size and head.startswith(seen.head):
                at: int | None = seen.at
            else:
                at = _first_packet(path)
        except OSError:
            at, head = None, b""
        self._seen[identity, path] = _Seen(at, size, changed, head)
        return at


def _first_packet(path: str) -> int | None:
    """Capture time of the first packet; None if none can be read."""
    try:
        with warnings.catch_warnings(), open_capture(path) as capture:
            warnings.simplefilter("ignore", CaptureWarning)
            first = next(capture, None)
    except CaptureError:
        return None
    return None if first is None else int(first.timestamps[0].astype("i8"))


def _plain(name: str) -> str:
    """The name without a compression suffix."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix in _COMPRESSED else name


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino
