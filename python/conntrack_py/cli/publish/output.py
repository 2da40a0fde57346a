"""Output of a stream: its publication, and its length in the state.

A run that never ends publishes: lines go to the end of a file that grows under its name, and a directory or a series of
files gets each file once it is over. With a state that resumes its input (`--follow --state`), a file is published
right after a state that has its rows, and a restart takes back the rows that came after the state: they are made again.
Nothing that was published is written again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Sequence
from typing import Any, Literal

import click

from conntrack_py.cli import log
from conntrack_py.cli.publish.rotation import Rotation
from conntrack_py.exceptions import CheckpointError
from conntrack_py.io.formats import FORMATS, SupportsWrite
from conntrack_py.table import ConnectionTable, ConnectionWriter

_SECOND = 10**9
_HOUR = 3600 * _SECOND
#: Nanoseconds of capture time after which an hour is over: late packets may begin connections in it until then.
_LATENESS = 10 * _SECOND
#: Seconds after which lines are brought to the disk.
_SYNC_EVERY = 60.0
#: Bytes that are searched for a line's end at once.
_PIECE = 1 << 16

_By = Literal["direction", "hour"] | None


class Output:
    """Output that is complete at the end: a pipe, a file object, or a file that has its name then."""

    def __init__(self, writer: ConnectionWriter, *, by_line: bool = False) -> None:
        """Write with a writer; `by_line`: rows are out when `write` returns."""
        self.writer = writer
        self._by_line = by_line

    def write(self, table: ConnectionTable) -> None:
        """Write connections."""
        self.writer.write(table)

    def look(self, times: Sequence[int]) -> None:
        """Note the last packets' times, or that of the clock: files may be over."""

    def is_due(self) -> bool:
        """True if files are complete and wait for their names, until a state has their rows."""
        return False

    def may_wait(self) -> bool:
        """True if the state may be saved now, as rows so far are out or recoverable."""
        return self._by_line

    def mark(self) -> dict[str, Any] | None:
        """Content of the state about the output; rows so far are on the disk."""
        return None

    def publish(self) -> None:
        """Give complete files their names."""

    def end(self) -> None:
        """Complete every file; nothing more is written."""
        self.writer.close()

    def close(self) -> None:
        """End and publish."""
        self.end()
        self.writer.close()

    def abandon(self) -> None:
        """Leave after an error."""
        self.writer.discard()


class GrowingFile(Output):
    """Lines at the end of a file, which readers see whole."""

    def __init__(self, path: str, format: str, known: dict[str, Any] | None, resumes: bool) -> None:
        """Go on behind the rows that a state knows; without it begin anew, and keep the file that is there."""
        self._path = os.path.realpath(path)
        at = _begin(self._path, known, resumes)
        super().__init__(ConnectionWriter._growing(self._path, format, at), by_line=True)
        self._file = os.open(self._path, os.O_RDONLY)
        self._synced = time.monotonic()

    def look(self, times: Sequence[int]) -> None:
        """Bring lines to the disk from time to time."""
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()

    def mark(self) -> dict[str, Any]:
        """The length of the file."""
        self._sync()
        found = os.fstat(self._file)
        return {"path": self._path, "file": [found.st_dev, found.st_ino], "length": found.st_size}

    def close(self) -> None:
        """Close, with all lines on the disk."""
        super().close()
        self._sync()
        os.close(self._file)

    def abandon(self) -> None:
        """Leave the lines that are there."""
        with contextlib.suppress(OSError):
            self.writer.close()
        os.close(self._file)


class Parts(Output):
    """Files one after another, each with its name once it is over."""

    def __init__(
        self, path: str, format: str, by: _By, rotation: Rotation, known: dict[str, Any] | None, resumes: bool
    ) -> None:
        """Complete or keep what a killed run has left, and write further files."""
        self._path = os.path.abspath(path)
        writer = ConnectionWriter._in_parts(self._path, format, by, rotation.rows, rotation.size)
        super().__init__(writer, by_line=format in ("csv", "jsonl", "zeek", "conntrack", "ecs"))
        self._by_hour = by == "hour"
        self._period = None if rotation.seconds is None else rotation.seconds * _SECOND
        self._times: tuple[int, int] | None = None
        self._last: list[int] = []
        self._is_empty = True
        marks = None if known is None or not resumes else _marks(known, self._path)
        for file, what in writer._native.recover(marks):
            log.warning(f"{os.fspath(file)}.part was left by a run that did not end: {what}")

    def write(self, table: ConnectionTable) -> None:
        """Write connections."""
        super().write(table)
        self._is_empty = self._is_empty and not len(table)

    def look(self, times: Sequence[int]) -> None:
        """End files whose hour or time is over. One wrong timestamp ends none."""
        if not times:
            return
        self._last = [*self._last, *times][-2:]
        at = min(self._last)
        hour, period = (at - _LATENESS) // _HOUR, 0 if self._period is None else at // self._period
        if self._times is None:
            self._times = hour, period
        if self._times == (hour, period):
            return
        is_new_period = self._times[1] != period
        is_new_hour = self._by_hour and self._times[0] != hour
        self._times = hour, period
        if is_new_period:
            self.writer._native.end_parts()
        elif is_new_hour:
            self.writer._native.end_parts(hour)

    def is_due(self) -> bool:
        """True if complete files wait."""
        return self.writer._native.waiting_parts() > 0

    def may_wait(self) -> bool:
        """True for lines, and where no row was written since the last state."""
        return self._by_line or self._is_empty

    def mark(self) -> dict[str, Any]:
        """The files without a name, and how much of each is complete."""
        marks = [[os.fspath(path), length] for path, length in self.writer._native.marks()]
        self._is_empty = True
        return {"path": self._path, "parts": marks}

    def publish(self) -> None:
        """Give complete files their names."""
        self.writer._native.publish_parts()

    def end(self) -> None:
        """Complete every file."""
        self.writer._native.end_parts()

    def abandon(self) -> None:
        """Leave what is there; the next run completes it."""


def output_of(
    target: str | SupportsWrite,
    format: str,
    by: _By,
    rotation: Rotation | None,
    *,
    endless: bool,
    known: dict[str, Any] | None,
    resumes: bool,
) -> Output:
    """The output of a stream.

    Args:
        target: A path or a binary file object.
        format: Its format.
        by: The directory's partitions.
        rotation: When files are over.
        endless: The input has no end of its own.
        known: What the state knows of the output.
        resumes: The input goes on where the state is, so that later rows come again.
    """
    if isinstance(target, str) and (rotation is not None or (endless and by is not None)):
        if rotation is None:
            # A direction is never over.
            rotation = Rotation(seconds=3600) if by == "direction" else Rotation()
        return Parts(target, format, by, rotation, known, resumes)
    by_line = FORMATS[format].by_line
    if isinstance(target, str) and endless and by_line and (os.path.isfile(target) or not os.path.exists(target)):
        return GrowingFile(target, format, known, resumes)
    return Output(ConnectionWriter(target, format, by=by), by_line=by_line and not isinstance(target, str))


def note_of(position: str | None, output: dict[str, Any] | None) -> str:
    """The note of a state."""
    return json.dumps({"position": position, "output": output})


def from_note(note: str, state: str) -> tuple[str | None, dict[str, Any] | None]:
    """The position and the output of a state's note; a state that `Tracker.save` wrote has neither.

    Raises:
        CheckpointError: The note is not that of this program.
    """
    if not note:
        return None, None
    try:
        found = json.loads(note)
        position, output = found["position"], found["output"]
        if not isinstance(position, str | None) or not isinstance(output, dict | None):
            raise TypeError(note)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointError(f"{state}: found another note than that of track --state") from None
    return position, output


def _marks(known: dict[str, Any], path: str) -> list[tuple[str, int]] | None:
    """The files that a state knows, if they are of this output."""
    parts = known.get("parts")
    if known.get("path") != path or not isinstance(parts, list):
        return None
    try:
        return [(str(name), int(length)) for name, length in parts]
    except (TypeError, ValueError):
        return None


def _begin(path: str, known: dict[str, Any] | None, resumes: bool) -> int:
    """The length at which lines go on; the file is there afterwards."""
    found = None
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
    if known is not None and known.get("path") == path and isinstance(length := known.get("length"), int):
        if found is not None and known.get("file") == [found.st_dev, found.st_ino] and 0 <= length <= found.st_size:
            return length if resumes else _whole_lines(path)
        log.warning(f"{path}: found another file than the state has: its connections go on in a new one")
    if found is not None:
        _check_free(path)
    if found is not None and not found.st_size:
        return 0
    if found is not None:
        _set_aside(path)
    _create(path, found)
    return 0


def _check_free(path: str) -> None:
    """Fail where another process has the file."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(f"{path}: another process writes to it") from None
        except OSError:
            # A file system without locks.
            return


def _whole_lines(path: str) -> int:
    """Bytes of the whole lines of a file."""
    with open(path, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at:
            begin = max(0, at - _PIECE)
            file.seek(begin)
            last = file.read(at - begin).rfind(b"\n")
            if last >= 0:
                return begin + last + 1
            at = begin
    return 0


def _set_aside(path: str) -> None:
    """Give a file the name with the first number that is free."""
    stem, suffix = os.path.splitext(path)
    number = 1
    while os.path.lexists(kept := f"{stem}.{number}{suffix}"):
        number += 1
    os.rename(path, kept)
    log.warning(f"{path} was there, of an earlier run: it is {kept} now")


def _create(path: str, like: os.stat_result | None) -> None:
    """Create a file, with the mode and the owner of the one before as far as the system permits."""
    mode = 0o666 if like is None else 0o600
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        if like is not None:
            is_owned = True
            try:
                os.fchown(file, like.st_uid, like.st_gid)
            except OSError:
                is_owned = os.fstat(file).st_gid == like.st_gid
            os.fchmod(file, like.st_mode & (0o777 if is_owned else 0o707))
    finally:
        os.close(file)
