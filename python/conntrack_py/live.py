"""`track` of what never ends: connections are printed as they close."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import click

from conntrack_py import log
from conntrack_py.config import Config
from conntrack_py.connections import SupportsWrite
from conntrack_py.exceptions import CaptureWarning, ConfigError
from conntrack_py.following import follow
from conntrack_py.streaming import Capture, PacketBatch, Tracker, open_capture
from conntrack_py.writer import ConnectionWriter


class _Stopped(BaseException):
    """Somebody asked for the end while packets were waited for."""


class _Stop:
    """SIGTERM and Ctrl-C: they end the wait for packets, and nothing else. The second one ends the program."""

    def __init__(self) -> None:
        self.asked = False
        self._waits = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._waits:
            raise _Stopped

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Signals come here."""
        before = [(number, signal.signal(number, self)) for number in (signal.SIGTERM, signal.SIGINT)]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def until(self, batches: Iterator[tuple[Capture, PacketBatch]]) -> Iterator[tuple[Capture, PacketBatch]]:
        """What comes until then."""
        while not self.asked:
            try:
                self._waits = True
                found = next(batches, None)
            except _Stopped:
                return
            finally:
                self._waits = False
            if found is None:
                return
            yield found


def run(
    files: tuple[str, ...],
    config: Config,
    target: str | SupportsWrite,
    format: str,
    by: Any,
    state: str | None,
    following: bool,
) -> None:
    """Write what has closed after each batch, and at the end what is left; with a state, it is saved instead."""
    tracker = _tracker(config, state)
    stop = _Stop()
    with log.warnings_of_the_library(), stop.heard(), ExitStack() as stack:
        if following:
            capture, batches = None, follow(files[0], config=tracker.config)
        else:
            capture = stack.enter_context(open_capture(files, config=tracker.config))
            batches = ((capture, batch) for batch in capture)
        writer = stack.enter_context(ConnectionWriter(target, format, by=by))
        # With the names of the columns, before anything comes.
        writer.write(tracker.drain())
        for found, batch in stop.until(batches):
            capture = found
            tracker.process(batch)
            closed = tracker.drain()
            if len(closed):
                writer.write(closed)
        stats = tracker.stats(capture)
        warning = stats.warning()
        if warning is not None:
            warnings.warn(warning, CaptureWarning, stacklevel=1)
        if state is None:
            writer.write(tracker.finish())
        else:
            tracker.save(state)
    log.read(stats, whole=False)


def _tracker(config: Config, state: str | None) -> Tracker:
    if state is None or not os.path.exists(state):
        return Tracker(config)
    tracker = Tracker.load(state)
    if tracker.config.to_toml() != config.to_toml():
        raise ConfigError(
            f"{state}: found the state of a run with another configuration; give the same options (it has them as "
            "'conntrack-py config --show' prints them), or begin anew with another --state"
        )
    return tracker


def check(format: str | None, limit: int | None) -> None:
    """Refuse what cannot be had while connections close."""
    if limit is not None or format == "table":
        raise click.UsageError("--stream writes no table and has no --limit: leave them out, or give --no-stream.")


def check_following(files: tuple[str, ...], state: str | None) -> None:
    """Refuse what cannot be had of captures that are still being written."""
    if len(files) != 1 or files[0] == "-":
        raise click.UsageError("--follow takes one file or directory.")
    if state is not None:
        raise click.UsageError(
            "--state does not say where --follow was in its files: give it rotated files one after another."
        )
