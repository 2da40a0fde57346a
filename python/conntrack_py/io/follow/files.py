"""Captures of a directory that are still to be read, in the order of their first packets."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from conntrack_py.exceptions import CaptureError, CaptureWarning
from conntrack_py.io.capture import open_capture
from conntrack_py.io.follow.position import LEAST_HEAD, Identity, Place, Position, head_of, identity

_COMPRESSED = {".gz", ".zst", ".lz4", ".xz", ".bz2"}
#: Files that a warning names.
_NAMED = 5
#: A number or a time, which rotation puts between the stem of a name and its suffix.
_TURN = re.compile(r"[-_.][-_.:0-9TZ]*")


class _Seen(NamedTuple):
    """State of a file when it was last examined."""

    #: Capture time of its first packet; None where it has none yet.
    at: int | None
    size: int
    #: Modification time, nanoseconds.
    changed: int
    #: First bytes, which another capture does not share.
    head: bytes


class Found(NamedTuple):
    """A file of the directory, by the capture time of its first packet."""

    at: int
    changed: int
    name: str
    identity: Identity
    head: bytes


class _Directory:
    """Files of a directory, each examined again once it has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: dict[tuple[Identity, str], _Seen] = {}

    def files(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """The regular files."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    found = entry.stat()
                except OSError:
                    # Taken away meanwhile, or a link to nothing or to itself.
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield entry, found

    def forget_all_but(self, there: set[Identity]) -> None:
        """Forget files that are gone."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] in there}

    def examined(self, entry: os.DirEntry[str], found: os.stat_result) -> _Seen:
        """The first packet of a file, and its first bytes."""
        key = identity(found), entry.path
        seen = self._seen.get(key)
        size, changed = found.st_size, found.st_mtime_ns
        if seen is not None and (seen.size, seen.changed) == (size, changed):
            return seen
        head, at = head_of(entry.path), None
        # Looked at again once there is more to see, or something else: a ring of files writes over the oldest.
        if seen is not None and seen.at is not None and size >= seen.size and head.startswith(seen.head):
            at = seen.at
        elif head:
            at = _first_packet(entry.path)
        self._seen[key] = _Seen(at, size, changed, head)
        return self._seen[key]


class Rotated:
    """Captures of a directory, whatever their names."""

    def __init__(self, directory: str, position: Position) -> None:
        """Look for files that are not done in this position."""
        self._directory = _Directory(directory)
        self._position = position
        self._waited: dict[tuple[Identity, int], str] = {}

    def next(self) -> Found | None:
        """The capture with the earliest first packet; it counts as read from now on."""
        waiting = self._waiting()
        if not waiting:
            return None
        found = min(waiting)
        self._position.done.add((found.identity, found.at))
        self._position.names.add((_plain(found.name), found.at))
        if len(found.head) >= LEAST_HEAD:
            self._position.heads.add((found.head, found.at))
        return found

    def has_more(self) -> bool:
        """True if another capture waits."""
        return bool(self._waiting())

    def _waiting(self) -> list[Found]:
        known = self._position
        waiting, there, names = [], set(), set()
        for entry, found in self._directory.files():
            mine, plain = identity(found), _plain(entry.name)
            there.add(mine)
            names.add(plain)
            seen = self._directory.examined(entry, found)
            at = seen.at
            if at is None or (mine, at) in known.done or (plain, at) in known.names:
                continue
            # A copy of a capture that was read, as copytruncate makes it.
            if not any(at == first and seen.head.startswith(head) for head, first in known.heads):
                waiting.append(Found(at, found.st_mtime_ns, entry.name, mine, seen.head))
        known.done = {done for done in known.done if done[0] in there}
        known.names = {done for done in known.names if done[0] in names}
        times = {at for _, at in known.done} | {at for _, at in known.names}
        known.heads = {done for done in known.heads if done[1] in times}
        self._directory.forget_all_but(there)
        self._warn_of_missed(waiting, there)
        return waiting

    def _warn_of_missed(self, waiting: list[Found], there: set[Identity]) -> None:
        """Warn of captures that waited at the last look and were taken away."""
        compressed = {(_plain(found.name), found.at) for found in waiting} | self._position.names
        missed = [
            name
            for (mine, at), name in self._waited.items()
            if mine not in there and (_plain(name), at) not in compressed and (mine, at) not in self._position.done
        ]
        self._waited = {(found.identity, found.at): found.name for found in waiting}
        if missed:
            warn_of_missed(self._directory.path, missed)


class Chain:
    """The files that had a name one after another: the current one is replaced by a later one."""

    def __init__(self, path: str) -> None:
        """Look for the files of this name."""
        self._directory = _Directory(os.path.dirname(path) or ".")
        self._name = os.path.basename(path)

    def next(self, last: Place | None) -> str | None:
        """The path of the file that follows the last one; None: there is none yet."""
        path = os.path.join(self._directory.path, self._name)
        try:
            current = os.stat(path)
        except FileNotFoundError:
            # Moved away; the next one comes in a moment, and until then more may come to the last one.
            is_there = False
        else:
            is_there = True
            if last is None:
                return path
            if identity(current) == last.identity and (not last.head or last.is_begin_of(head_of(path))):
                return None
        between = [] if last is None else self._between(last)
        if between:
            return os.path.join(self._directory.path, min(between).name)
        return path if is_there else None

    def _between(self, last: Place) -> list[Found]:
        """Files that had the name after the last one, and were moved away or copied."""
        later, there = [], set()
        bound = last.after if last.first is None else last.first
        for entry, found in self._directory.files():
            there.add(identity(found))
            if entry.name == self._name or not is_turned(entry.name, self._name) or identity(found) == last.identity:
                continue
            seen = self._directory.examined(entry, found)
            is_later = (
                seen.at is not None
                and not last.is_begin_of(seen.head)
                and (found.st_mtime_ns > last.opened if bound is None else seen.at > bound)
            )
            if seen.at is not None and is_later:
                later.append(Found(seen.at, found.st_mtime_ns, entry.name, identity(found), seen.head))
        self._directory.forget_all_but(there)
        return later


def is_turned(name: str, of: str) -> bool:
    """True if rotation gives a file of the name `of` this name: `a.pcap.1`, `a.pcap-20260101.gz`, `a-2.pcap`."""
    name = _plain(name)
    if name.startswith(of):
        return True
    stem, suffix = os.path.splitext(of)
    return (
        name.startswith(stem)
        and name.endswith(suffix)
        and _TURN.fullmatch(name[len(stem) : len(name) - len(suffix)]) is not None
    )


def place_again(directory: str, place: Place) -> str | None:
    """The path of a file that a run before has read in part; it may have got another name, or be a copy."""
    found = []
    for entry, state in _Directory(directory).files():
        if place.head and state.st_size >= place.size and place.is_begin_of(head_of(entry.path)):
            found.append((identity(state) != place.identity, entry.name != place.name, entry.path))
        elif not place.head and identity(state) == place.identity:
            found.append((False, entry.name != place.name, entry.path))
    return min(found)[2] if found else None


def warn_of_missed(directory: str, names: list[str]) -> None:
    """Warn of captures that were taken away before they were read."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    noun = "capture was" if len(names) == 1 else "captures were"
    listed = ", ".join(sorted(names)[:_NAMED]) + more
    warnings.warn(f"{directory}: {len(names)} {noun} taken away before the end: {listed}", CaptureWarning, stacklevel=2)


def _first_packet(path: str) -> int | None:
    """Capture time of the first packet; None if none can be read."""
    try:
        with warnings.catch_warnings(), open_capture(path) as capture:
            warnings.simplefilter("ignore", CaptureWarning)
            first = next(capture, None)
    except (CaptureError, OSError):
        return None
    return None if first is None else int(first.timestamps[0].astype("i8"))


def _plain(name: str) -> str:
    """The name without a compression suffix."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix in _COMPRESSED else name
