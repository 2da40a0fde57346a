"""The stream mode of `track`: connections are written as they close."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.cli.options import progress_of
from conntrack_py.config import Config
from conntrack_py.exceptions import ConfigError
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture, open_capture
from conntrack_py.io.follow import follow
from conntrack_py.io.formats import FORMATS, SupportsWrite
from conntrack_py.stats import Stats, describe_loss
from conntrack_py.tracker import Tracker
from conntrack_py.writer import ConnectionWriter

#: Seconds after which the state of what never ends is saved again.
SAVE_EVERY = 60.0


class _Stopped(BaseException):
    """A signal arrived during the wait for packets."""


class _Stop:
    """Handler of SIGTERM and SIGINT: the first ends the wait for packets, the second the program."""

    def __init__(self) -> None:
        self.asked = False
        #: The input has ended.
        self.reached_end = False
        self._waits = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._waits:
            raise _Stopped

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Install the handler within the block."""
        before = [(number, signal.signal(number, self)) for number in (signal.SIGTERM, signal.SIGINT)]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def until(self, batches: Iterator[tuple[Capture, PacketBatch]]) -> Iterator[tuple[Capture, PacketBatch]]:
        """Yield batches until the end is asked for."""
        while not self.asked:
            try:
                self._waits = True
                found = next(batches, None)
            except _Stopped:
                return
            finally:
                self._waits = False
            if found is None:
                self.reached_end = True
                return
            yield found


class _Damage:
    """Damage of the captures read: totals of finished ones, and that of the current one."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, str, int]] = {}
        self._capture: Capture | None = None

    def of(self, capture: Capture) -> None:
        """Set the current capture."""
        if capture is not self._capture:
            for reason, (count, file, offset) in ({} if self._capture is None else self._capture.damage()).items():
                had, file, offset = self._before.get(reason, (0, file, offset))
                self._before[reason] = (had + count, file, offset)
            self._capture = capture

    def added_to(self, stats: Stats) -> Stats:
        """Counts with the damage of all captures, not of the current one alone."""
        skipped, places = dict(stats.skipped), dict(stats.skipped_at)
        for reason, (count, file, offset) in self._before.items():
            skipped[reason] = skipped.get(reason, 0) + count
            places[reason] = (file, offset)
        return dataclasses.replace(stats, skipped=skipped, skipped_at=places)


def run(
    files: tuple[str, ...],
    config: Config,
    target: str | SupportsWrite,
    format: str,
    by: Any,
    *,
    state: str | None,
    last: bool,
    follows: bool,
    progress: bool,
) -> int:
    """Write closed connections after each batch; at the end write open ones, or save them as the state.

    Returns:
        The exit status.
    """
    tracker = _tracker(config, state)
    stop, damage = _Stop(), _Damage()
    # A pipe or a file that grows has no end of its own; what stops in the middle of a file is not done.
    endless = follows or "-" in files
    # Lines that closed are handed on at once, so that who goes on from a state leaves out nothing; blocks may wait.
    by_line = FORMATS[format].by_line and not isinstance(target, str)
    between = state if endless and by_line else None
    with log.warnings_of_the_library(), stop.heard(), ExitStack() as stack:
        tell = stack.enter_context(progress_of(progress))
        if follows:
            capture, batches = None, follow(files[0], config=config)
        else:
            capture = stack.enter_context(open_capture(files, config=config))
            batches = ((capture, batch) for batch in capture)
        writer = stack.enter_context(ConnectionWriter(target, format, by=by))
        # With the names of the columns, before anything comes.
        writer.write(tracker.drain())
        saved = time.monotonic()
        for found, batch in stop.until(batches):
            capture = found
            damage.of(capture)
            tracker.process(batch)
            closed = tracker.drain()
            if len(closed):
                writer.write(closed)
            if tell is not None:
                so_far = tracker.stats()
                tell(so_far.bytes, None, so_far.packets)
            if between is not None and time.monotonic() - saved > SAVE_EVERY:
                tracker.save(between)
                saved = time.monotonic()
        stats = tracker.stats(capture)
        stopped = not (endless or stop.reached_end)
        if stopped and state is not None:
            raise click.ClickException(
                f"stopped before the end, after {stats.packets:,} packets; {state} is as it was: "
                "throw away what was printed, and run it again"
            )
        _warn_of_packets(stats, capture)
        if stopped:
            log.warning(f"stopped before the end, after {stats.packets:,} packets: what follows them is not there")
        if state is None or last:
            writer.write(tracker.finish())
        # First what has closed, then that it is no more in the state.
        writer.close()
        if state is not None and last:
            with contextlib.suppress(FileNotFoundError):
                os.remove(state)
        elif state is not None:
            tracker.save(state)
    log.read(damage.added_to(stats), whole=False)
    return 130 if stopped else 0


def _warn_of_packets(stats: Stats, capture: Capture | None) -> None:
    """Log lost packets; each capture warns of damage to its file itself."""
    damaged = {} if capture is None else capture.damage()
    lost = {reason: count for reason, count in stats.skipped.items() if reason not in damaged}
    loss = describe_loss(lost, stats.skipped_at)
    if loss is not None:
        log.warning(loss)


def _tracker(config: Config, state: str | None) -> Tracker:
    if state is None:
        return Tracker(config)
    begins = not os.path.exists(state)
    if not begins and not os.path.isfile(state):
        raise click.UsageError(f"--state {state}: found a device, pipe or directory, expected a file.")
    _check_place(state)
    if begins:
        return Tracker(config)
    tracker = Tracker.load(state)
    # Results do not depend on these.
    theirs = dataclasses.replace(tracker.config, threads=config.threads, strict=config.strict)
    if theirs.to_toml() != config.to_toml():
        raise ConfigError(
            f"{state}: found the state of a run with another configuration; give the same options (it has them as "
            "'conntrack-py config --show' prints them), or begin anew with another --state"
        )
    return tracker


def _check_place(state: str) -> None:
    """Check now that the state can be written at the end of the run, which may be days away."""
    directory = os.path.dirname(os.path.realpath(state))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise click.UsageError(f"--state {state}: {directory} is no directory that can be written to.")


def check(format: str | None, limit: int | None) -> None:
    """Refuse options that a stream does not have."""
    if limit is not None or format == "table":
        raise click.UsageError("--stream writes no table and has no --limit: leave them out, or give --no-stream.")


def check_follow(files: tuple[str, ...], state: str | None) -> None:
    """Refuse options that --follow does not have."""
    if len(files) != 1 or files[0] == "-":
        raise click.UsageError("--follow takes one file or directory.")
    if state is not None:
        raise click.UsageError(
            "--state does not say where --follow was in its files: give it rotated files one after another."
        )
