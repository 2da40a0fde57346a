"""Progress of a run: the callback, and a bar on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import TaskID

Progress = Callable[[int, int | None, int], object]


def observer(progress: bool | Progress, stack: ExitStack) -> Progress | None:
    """The receiver of progress, or None."""
    if callable(progress):
        return progress
    if not progress:
        return None
    return stack.enter_context(Bar())


class Bar:
    """Progress of `track` as a bar that disappears at the end of the run.

    Args:
        delay: Seconds to wait before it is shown: a short run need not flicker.
    """

    def __init__(self, delay: float = 0.0) -> None:
        """Prepare the bar; the first call after the delay shows it."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Display

        self._progress = Display(
            TextColumn("tracking"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[packets]:,} packets"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._from = time.monotonic() + delay

    def __enter__(self) -> Self:
        """Return the bar, still hidden."""
        return self

    def __call__(self, done: int, total: int | None, packets: int) -> None:
        """Show the progress."""
        if self._task is None:
            if time.monotonic() < self._from:
                return
            self._task = self._progress.add_task("tracking", total=total, completed=done, packets=packets)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total, packets=packets)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._progress.stop()
