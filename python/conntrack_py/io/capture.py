"""`open_capture`: captures open for reading, batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from conntrack_py import _native
from conntrack_py.config import Config, checked
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.source import Source, inputs
from conntrack_py.stats import describe_loss, parted


class Capture(Iterator[PacketBatch]):
    """An open capture, or several merged by time: the result of `open_capture`.

    One thread at a time reads the capture. Damage is one `CaptureWarning`, at the end or when the capture is closed.
    """

    def __init__(self, native: _native.Capture) -> None:
        """Wrap what the extension module reads."""
        self._native = native
        self._damage: dict[str, tuple[int, str, int]] | None = None

    def __next__(self) -> PacketBatch:
        """The next packets.

        Raises:
            CaptureError: The capture is damaged and `config.strict` is set.
            RuntimeError: Another thread reads it at this moment.
        """
        batch = self._native.next()
        if batch is None:
            self._warn()
            raise StopIteration
        return PacketBatch(batch)

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

    def _warn(self) -> None:
        """Warn of damage, once."""
        if self._damage is None:
            self._damage = self._native.damage()
            loss = describe_loss(*parted(self._damage))
            if loss is not None:
                warnings.warn(loss, CaptureWarning, stacklevel=3)

    def __enter__(self) -> Self:
        """Return the capture, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()


def open_capture(source: Source | Iterable[Source], *, config: Config | None = None) -> Capture:
    """Open a capture for reading batch by batch.

    Args:
        source: As for `track`: a path, a pattern, `"-"`, a binary file object, or a list of these.
        config: The configuration, of which `strict` is used; by default `Config()`.

    Returns:
        An iterator over `PacketBatch`, and a context manager that closes the files.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        CaptureError: A file is no capture.
    """
    return Capture(_native.Capture(inputs(source), checked(config)._native()))
