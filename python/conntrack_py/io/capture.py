"""`open_capture`: captures open for reading, batch by batch."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NoReturn, Self

from conntrack_py import _native
from conntrack_py.config import Config, checked
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.source import Source, inputs
from conntrack_py.stats import SkippedFile, describe_loss, describe_skipped_files, parted, skipped_files_from


class Capture(Iterator[PacketBatch]):
    """An open capture, or several merged by time: the result of `open_capture`.

    One thread at a time reads the capture. Damage and skipped files are one `CaptureWarning`, at the end or when the
    capture is closed.
    """

    def __init__(self, native: _native.Capture) -> None:
        """Wrap what the extension module reads."""
        self._native = native
        self._damage: dict[str, tuple[int, str, int]] | None = None
        self._sizes: tuple[dict[str, int], int, int, int] | None = None
        self._skipped: tuple[SkippedFile, ...] = ()

    def __repr__(self) -> str:
        """Open or closed."""
        return f"<Capture: {'open' if self._damage is None else 'at its end'}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: open files stay in their process."""
        raise TypeError("a Capture is not pickled or copied: call open_capture in the other process")

    def __next__(self) -> PacketBatch:
        """The next packets.

        Raises:
            CaptureError: The capture is damaged and `config.strict` is set.
            RuntimeError: Another thread reads it at this moment.
        """
        batch = self._next(False)
        if batch is None:
            raise StopIteration
        return batch

    def _next(self, idle: bool) -> PacketBatch | None:
        """The next packets, or None at the end; with `idle` also a batch without packets while the source is silent."""
        batch = self._native.next(idle)
        if batch is None:
            self._warn()
            return None
        return PacketBatch(batch)

    def _live(self) -> Iterator[PacketBatch]:
        """The batches, and empty ones while the source is silent."""
        while (batch := self._next(True)) is not None:
            yield batch

    def close(self) -> None:
        """Close the files. No more packets come."""
        try:
            self._warn()
        finally:
            self._native.close()

    def damage(self) -> dict[str, tuple[int, str, int]]:
        """Damage so far: reason → count, and file and offset of the first place.

        The reasons are those of `Stats.skipped`; once it is closed, it is what there was by then.
        """
        return dict(self._native.damage() if self._damage is None else self._damage)

    def skipped_files(self) -> tuple[SkippedFile, ...]:
        """Files that were not read to their end so far, as in `Stats.skipped_files`."""
        return tuple(skipped_files_from(self._native.skipped_files())) if self._damage is None else self._skipped

    def _lost(self) -> tuple[dict[str, int], int, int, int]:
        """Bytes that damage cost by reason, bytes of the files, captures, and those out of order, up to the close."""
        return self._native.lost() if self._sizes is None else self._sizes

    def _warn(self) -> None:
        """Warn of damage, once."""
        if self._damage is None:
            self._damage = self._native.damage()
            self._sizes = self._native.lost()
            self._skipped = tuple(skipped_files_from(self._native.skipped_files()))
            parts = describe_skipped_files(self._skipped), describe_loss(*parted(self._damage), *self._sizes[:2])
            loss = "; ".join(part for part in parts if part)
            if loss:
                warnings.warn(loss, CaptureWarning, stacklevel=3)

    def __enter__(self) -> Self:
        """Return the capture, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()


def open_capture(
    source: Source | Iterable[Source], *, config: Config | None = None, recursive: bool = False
) -> Capture:
    """Open a capture for reading batch by batch.

    Args:
        source: As for `track`: a path, a pattern, `"-"`, a binary file object, or a list of these.
        config: The configuration, of which `strict` and `on_error` are used; by default `Config()`.
        recursive: As for `track`.

    Returns:
        An iterator over `PacketBatch`, and a context manager that closes the files.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        CaptureError: A file is no capture.
    """
    config = checked(config)
    if recursive:
        config = dataclasses.replace(config, on_error="skip")
    return Capture(_native.Capture(inputs(source, config, recursive=recursive), config._native()))
