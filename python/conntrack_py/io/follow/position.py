"""Position of `follow`: the files that were read, and how far. Text, to be kept with the state of a tracker.

Records are counted, not bytes: a resumed run reads the file from its begin and drops as many. So damage, compression
and pcapng's interfaces are those of an uninterrupted run. A file is told by its first bytes, which have the capture
time of the first packet; device and inode tell copies apart.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Self

from conntrack_py.exceptions import ConfigError

#: So many first bytes tell a capture from another: the file's header, the first packet's, and some of its bytes.
HEAD = 128

#: Fewer first bytes tell nothing: the file's header and that of the first packet.
LEAST_HEAD = 40

#: Device and inode: they tell a file from a later one of its name.
Identity = tuple[int, int]


def identity(found: os.stat_result) -> Identity:
    """Device and inode."""
    return found.st_dev, found.st_ino


def head_of(path: str) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), HEAD, 0)
    except OSError:
        return b""


@dataclass
class Place:
    """A file, and how much of it was read."""

    #: Name within the directory.
    name: str
    identity: Identity
    head: bytes = b""
    #: Capture time of the first packet, nanoseconds; None: there was none yet.
    first: int | None = None
    #: Capture time of the first packet of the file before; None: there was none.
    after: int | None = None
    #: Records that were read.
    records: int = 0
    #: Bytes that were read, of which the last may be an incomplete record's.
    size: int = 0
    #: Modification time when it was opened, nanoseconds.
    opened: int = 0

    @classmethod
    def of(cls, path: str, file: BinaryIO, first: int | None) -> Self:
        """The begin of an open file."""
        found = os.fstat(file.fileno())
        return cls(os.path.basename(path), identity(found), b"", first, opened=found.st_mtime_ns)

    def is_begin_of(self, head: bytes) -> bool:
        """True if a file with these first bytes may be this one."""
        return len(self.head) > 0 and head.startswith(self.head)


@dataclass
class Position:
    """The place in a file or directory."""

    #: Absolute path of the file or directory.
    path: str
    #: The file that is read, or was read last.
    place: Place | None = None
    #: Of a directory: files that were read, by identity, by name (which may get a suffix) and by first bytes, each with
    #: the time of the first packet.
    done: set[tuple[Identity, int]] = field(default_factory=set)
    names: set[tuple[str, int]] = field(default_factory=set)
    heads: set[tuple[bytes, int]] = field(default_factory=set)

    def to_text(self) -> str:
        """The position as JSON."""
        place = None if self.place is None else {**vars(self.place), "head": self.place.head.hex()}
        return json.dumps(
            {
                "path": self.path,
                "place": place,
                "done": sorted([*identity, at] for identity, at in self.done),
                "names": sorted(map(list, self.names)),
                "heads": sorted([head.hex(), at] for head, at in self.heads),
            }
        )

    @classmethod
    def from_text(cls, text: str, path: str) -> Self:
        """The position of a path.

        Raises:
            ConfigError: The text is no position, or that of another path.
        """
        try:
            found = json.loads(text)
            position = cls(
                _checked(found["path"], str),
                None if found["place"] is None else _place(found["place"]),
                {((_checked(a, int), _checked(b, int)), _checked(at, int)) for a, b, at in found["done"]},
                {(_checked(name, str), _checked(at, int)) for name, at in found["names"]},
                {(bytes.fromhex(head), _checked(at, int)) for head, at in found["heads"]},
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError("position: expected text of the position of follow") from None
        if position.path != path:
            raise ConfigError(f"position: found that of {position.path}, expected that of {path}")
        return position


def _place(found: dict[str, Any]) -> Place:
    first, after = found["first"], found["after"]
    device, inode = found["identity"]
    name = _checked(found["name"], str)
    if os.path.basename(name) != name:
        raise ValueError(name)
    return Place(
        name,
        (_checked(device, int), _checked(inode, int)),
        bytes.fromhex(found["head"]),
        None if first is None else _checked(first, int),
        None if after is None else _checked(after, int),
        _count(found["records"]),
        _count(found["size"]),
        _checked(found["opened"], int),
    )


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(value)
    return value


def _count(value: Any) -> int:
    number: int = _checked(value, int)
    if not 0 <= number < 1 << 63:
        raise ValueError(number)
    return number
