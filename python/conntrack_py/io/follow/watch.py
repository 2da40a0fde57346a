"""Waits for changes in a directory: by inotify where the package `watchfiles` is there, else by looking again.

A wait ends after `LOOK_EVERY` seconds in any case: a network's file system tells nothing of what other machines write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

#: Seconds after which it is looked again whether there is more.
LOOK_EVERY = 0.2

#: Milliseconds within which changes are told together.
_TOGETHER = 20


class Watch:
    """A directory to wait for."""

    def __init__(self, directory: str) -> None:
        """Watch a directory."""
        self._directory = directory
        self._changes: Iterator[Any] | None = _changes(directory)

    @property
    def is_told(self) -> bool:
        """The system tells changes."""
        return self._changes is not None

    def wait(self) -> None:
        """Return once something has changed, or after `LOOK_EVERY`."""
        if self._changes is not None:
            try:
                next(self._changes)
            except (OSError, StopIteration):
                # The directory is gone, or no more watches are to be had.
                self._changes = None
            else:
                return
        time.sleep(LOOK_EVERY)

    def close(self) -> None:
        """Stop watching."""
        if self._changes is not None:
            self._changes.close()  # type: ignore[attr-defined]
            self._changes = None


def _changes(directory: str) -> Iterator[Any] | None:
    try:
        from watchfiles import watch
    except ImportError:
        return None
    if not os.path.isdir(directory):
        return None
    return watch(
        directory,
        watch_filter=None,
        debounce=_TOGETHER,
        step=_TOGETHER // 2,
        rust_timeout=int(LOOK_EVERY * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
