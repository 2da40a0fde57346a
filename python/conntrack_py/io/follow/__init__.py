"""`follow`: a capture that grows, or a directory of rotated captures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import BinaryIO, NoReturn, Self

from conntrack_py.config import Config
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture, open_capture
from conntrack_py.io.follow.files import Chain, Rotated, place_again, warn_of_missed
from conntrack_py.io.follow.growing import Growing
from conntrack_py.io.follow.position import Place, Position
from conntrack_py.io.follow.watch import Watch

_NO_PACKETS = PacketBatch.from_frames([], [])

_Found = tuple[Capture | None, PacketBatch]


class Follow(Iterator[_Found]):
    """Batches of captures that grow, each with its open capture: the result of `follow`."""

    def __init__(self, path: str, config: Config | None, idle: bool, position: str | None) -> None:
        """Begin at a position."""
        where = os.path.abspath(path)
        self._path = path
        self._config = config
        self._idle = idle
        self._is_directory = os.path.isdir(path)
        self._directory = path if self._is_directory else os.path.dirname(path) or "."
        if not self._is_directory and not os.path.isdir(self._directory):
            raise FileNotFoundError(2, "No such directory for the file to follow", self._directory)
        self._position = Position(where) if position is None else Position.from_text(position, where)
        self._rotated = Rotated(self._directory, self._position)
        self._chain = Chain(path)
        self._watch = Watch(self._directory)
        self._batches = self._run()

    def __repr__(self) -> str:
        """The path."""
        return f"<Follow: {self._path}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: open files stay in their process."""
        raise TypeError("a Follow is not pickled or copied: call follow(path, position=...) in the other process")

    @property
    def position(self) -> str:
        """Text for `follow(position=...)`: behind the batch that came last."""
        return self._position.to_text()

    def __next__(self) -> _Found:
        """The next batch.

        Raises:
            CaptureError: A file is no capture, or is damaged and `config.strict` is set.
            FileNotFoundError: There is no such directory any more.
        """
        return next(self._batches)

    def close(self) -> None:
        """Close the file. No more packets come."""
        self._batches.close()  # type: ignore[attr-defined]
        self._watch.close()

    def __enter__(self) -> Self:
        """Return the object, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _run(self) -> Iterator[_Found]:
        if self._position.place is not None:
            yield from self._resume(self._position.place)
        yield from self._every_file() if self._is_directory else self._files_of_a_name()

    def _resume(self, place: Place) -> Iterator[_Found]:
        """The rest of the file that a run before was in."""
        again = place_again(self._directory, place)
        try:
            file = None if again is None else open(again, "rb", buffering=0)  # noqa: SIM115
        except OSError:
            file = None
        if file is None:
            warn_of_missed(self._directory, [f"{place.name} (behind packet {place.records:,})"])
            return
        yield from self._read(file, place.first, place.records)

    def _every_file(self) -> Iterator[_Found]:
        has_waited = False
        while True:
            found = self._rotated.next()
            if found is None:
                if not has_waited and self._position.place is None:
                    self._say("no capture is there yet")
                has_waited = True
                self._watch.wait()
                if self._idle:
                    yield None, _NO_PACKETS
                continue
            has_waited = True
            try:
                file = open(os.path.join(self._directory, found.name), "rb", buffering=0)  # noqa: SIM115
            except FileNotFoundError:
                warn_of_missed(self._directory, [found.name])
                continue
            yield from self._read(file, found.at, 0)

    def _files_of_a_name(self) -> Iterator[_Found]:
        has_waited = False
        while True:
            path = self._chain.next(self._position.place)
            try:
                file = None if path is None else open(path, "rb", buffering=0)  # noqa: SIM115
            except FileNotFoundError:
                file = None
            if file is not None:
                has_waited = True
                yield from self._read(file, None, 0)
                continue
            if not has_waited and self._position.place is None:
                self._say("no such file yet")
            has_waited = True
            self._watch.wait()
            if self._idle:
                yield None, _NO_PACKETS

    def _say(self, what: str) -> None:
        warnings.warn(f"{self._path}: {what}: waiting for it", CaptureWarning, stacklevel=4)

    def _is_over(self) -> bool:
        """True if there is a later file than the one that is read."""
        return self._rotated.has_more() if self._is_directory else self._chain.next(self._position.place) is not None

    def _read(self, file: BinaryIO, first: int | None, skip: int) -> Iterator[_Found]:
        """Batches of a file behind `skip` records, up to the file's end."""
        place = Place.of(str(file.name), file, first)
        place.records = skip
        before = self._position.place
        if before is not None:
            place.after = before.after if before.first is None else before.first
        growing = Growing(file, self._is_over, self._watch.wait)
        self._position.place = place
        with file, open_capture(growing, config=self._config) as capture:
            capture._native.skip(skip)
            try:
                for batch in capture._live() if self._idle else capture:
                    if place.first is None and len(batch):
                        place.first = int(batch.timestamps[0].astype("i8"))
                    place.records += len(batch)
                    place.head, place.size = growing.head, growing.size
                    yield capture, batch
                place.head, place.size = growing.head, growing.size
            finally:
                growing.close()


def follow(
    path: str | os.PathLike[str], *, config: Config | None = None, idle: bool = False, position: str | None = None
) -> Follow:
    """Read a growing capture, or a directory of rotated captures, without end.

    At its end a file is watched for more: by inotify with the package `watchfiles` (`conntrack_py[follow]`), else every
    0.2 s. If another file has taken its name, as after a rotation, or another capture was written over it, that one is
    read next. Files that had the name meanwhile and were renamed (`one.pcap.1`, `one-2.pcap`) are read before, and the
    end of a file that was copied and truncated is read in the copy. Captures of a directory are read in the order of
    their first packets, whatever their names; the last one grows until there is a later one. Files that are no capture
    yet, or have no packet, are examined again later. A capture that is copied, or compressed after it was read
    (`one.pcap`, then `one.pcap.gz`), is not read again.

    What was missed, and the wait for a file that is not there, are a `CaptureWarning`.

    Args:
        path: The file or directory. A file may not be there yet.
        config: As for `open_capture`.
        idle: Also yield batches without packets while nothing comes.
        position: Where an earlier run was, from `Follow.position`: packets up to there do not come again.
            `Tracker.save(path, note=...)` keeps it with the state that belongs to it.

    Returns:
        An iterator over the open capture (None: none is open) and its next batch. `position` is the text for the next
        run, `close` ends it.

    Raises:
        CaptureError: A file is no capture, or is damaged and `config.strict` is set.
        ConfigError: `position` is no position, or that of another path.
        FileNotFoundError: There is no such directory.
    """
    return Follow(os.fsdecode(path), config, idle, position)
