"""The stream mode of `track`: connections are written as they close."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import click

from conntrack_py.cli import bounds, log
from conntrack_py.cli.options import is_lifted, progress_of
from conntrack_py.cli.publish.output import Output, from_note, note_of, output_of
from conntrack_py.cli.publish.rotation import Rotation
from conntrack_py.cli.service import Service
from conntrack_py.cli.view import View
from conntrack_py.config import Config
from conntrack_py.exceptions import ConfigError
from conntrack_py.interfaces.live import Live
from conntrack_py.io.batch import PacketBatch
from conntrack_py.io.capture import Capture, open_capture
from conntrack_py.io.clock import LiveClock
from conntrack_py.io.follow import Follow, follow
from conntrack_py.io.formats import SupportsWrite
from conntrack_py.stats import SkippedFile, Stats, describe_loss, describe_skipped_files
from conntrack_py.text import counted
from conntrack_py.tracker import Report, Tracker

#: Seconds after which the state of what never ends is saved again.
SAVE_EVERY = 60.0
#: Seconds after a signal for which endless input is read on, as long as packets wait.
LAST_LOOK = 2.0

_Found = tuple[Capture | None, PacketBatch]


class _Stop:
    """Handler of SIGTERM and SIGINT: the first ends the input, the second the program."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._at: float | None = None
        self._first = first
        #: The input has ended.
        self.reached_end = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._at is not None:
            raise KeyboardInterrupt
        self._at = time.monotonic()
        self._first()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Install the handler within the block."""
        before = [(number, signal.signal(number, self)) for number in (signal.SIGTERM, signal.SIGINT)]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def until(self, batches: Iterator[_Found], patience: float) -> Iterator[_Found]:
        """Yield batches until the end is asked for, and those that wait at that moment.

        Args:
            batches: The input.
            patience: The most seconds to read on; without a limit the input ends by itself.
        """
        while self._at is None or time.monotonic() < self._at + patience:
            found = next(batches, None)
            if found is None:
                self.reached_end = True
                return
            if self._at is not None and patience < math.inf and not len(found[1]):
                return
            yield found


class _Damage:
    """Damage of the captures read: totals of finished ones, and that of the current one."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, str, int]] = {}
        self._lost: dict[str, int] = {}
        self._bytes = self._parts = self._early = 0
        self._skipped: tuple[SkippedFile, ...] = ()
        #: Number of captures so far.
        self.captures = 0
        self._capture: Capture | None = None

    def of(self, capture: Capture) -> None:
        """Set the current capture."""
        if capture is not self._capture:
            for reason, (count, file, offset) in ({} if self._capture is None else self._capture.damage()).items():
                had, file, offset = self._before.get(reason, (0, file, offset))
                self._before[reason] = (had + count, file, offset)
            lost, size, parts, early = ({}, 0, 0, 0) if self._capture is None else self._capture._lost()
            for reason, count in lost.items():
                self._lost[reason] = self._lost.get(reason, 0) + count
            self._bytes += size
            self._skipped += () if self._capture is None else self._capture.skipped_files()
            self._parts += parts
            self._early += early
            self._capture = capture
            self.captures += 1

    def added_to(self, stats: Stats) -> Stats:
        """Counts with the damage of all captures, not of the current one alone."""
        skipped, places = dict(stats.skipped), dict(stats.skipped_at)
        for reason, (count, file, offset) in self._before.items():
            skipped[reason] = skipped.get(reason, 0) + count
            places[reason] = (file, offset)
        lost = dict(stats.skipped_bytes)
        for reason, count in self._lost.items():
            lost[reason] = lost.get(reason, 0) + count
        return dataclasses.replace(
            stats,
            skipped=skipped,
            skipped_at=places,
            skipped_bytes=lost,
            skipped_files=(*self._skipped, *stats.skipped_files),
            file_bytes=stats.file_bytes + self._bytes,
            parts=stats.parts + self._parts,
            early_parts=stats.early_parts + self._early,
        )


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """Options of `track` as a stream."""

    files: tuple[str, ...]
    target: str | SupportsWrite
    format: str
    by: Any
    #: When files are over; None: by the kind of output.
    rotation: Rotation | None
    state: str | None
    last: bool
    follow: bool
    #: When a connection is written: at its close, or once its entry is gone.
    report: Report
    #: The input is live: time advances while it is silent. None: where its packets are near the wall clock.
    live: bool | None
    progress: bool
    #: The interfaces, in the place of files.
    interfaces: Live | None = None
    #: The address of the metrics.
    metrics: str | None = None
    #: The part of each batch that is written.
    view: View = field(default_factory=View)

    @property
    def endless(self) -> bool:
        """True for input without an end of its own: a pipe, a file that grows, and interfaces."""
        return self.follow or "-" in self.files or self.interfaces is not None

    def stop(self) -> None:
        """End the input that can be ended."""
        if self.interfaces is not None:
            self.interfaces.stop()

    @property
    def patience(self) -> float:
        """Seconds for which the input is read on after a signal."""
        if self.interfaces is not None:
            return math.inf
        return LAST_LOOK if self.endless else 0.0


def run(options: StreamOptions, config: Config) -> int:
    """Write closed connections after each batch; at the end write open ones, or save them as the state.

    Returns:
        The exit status.
    """
    files, state = options.files, options.state
    tracker = _tracker(config, state, options.report)
    position, known = from_note(tracker.note, state or "")
    service = Service(options.metrics)
    stop, damage, live = _Stop(options.stop), _Damage(), options.interfaces
    # What stops in the middle of a file is not done.
    endless = options.endless
    clock = LiveClock(options.live if endless else False)
    if endless:
        bounds.bound(tracker, config, lifted=is_lifted())
    with log.warnings_of_the_library(), stop.heard(), ExitStack() as stack:
        tell = stack.enter_context(progress_of(options.progress))
        batches: Iterator[_Found]
        following = capture = None
        if live is not None:
            batches = ((None, batch) for batch in live._live())
            clock.begin()
        elif options.follow:
            batches = following = follow(files[0], config=config, idle=True, position=position)
            stack.callback(following.close)
        else:
            capture = stack.enter_context(open_capture(files, config=config))
            batches = ((capture, batch) for batch in capture._live())
        output = output_of(
            options.target,
            options.format,
            options.by,
            options.rotation,
            endless=endless,
            known=known,
            resumes=following is not None,
        )
        stack.enter_context(_left_alone_after_an_error(output))
        saving = _Saving(tracker, state if endless else None, following, output)
        # With the names of the columns, before anything comes.
        output.write(options.view.of(tracker.drain()))
        saving.begin()
        stack.enter_context(service.running(tracker, live))
        for found, batch in stop.until(batches, options.patience):
            if found is not None:
                capture = found
                damage.of(capture)
            _take(tracker, batch, clock)
            closed = tracker.drain()
            if len(closed):
                output.write(options.view.of(closed))
            service.turn(batch, closed)
            output.look(_last_times(batch, clock))
            saving.look()
            if tell is not None and len(batch):
                so_far = tracker.stats()
                tell(so_far.bytes, None, so_far.packets)
        service.stopping()
        stats = tracker.stats(capture)
        if live is not None:
            stats = live._counted(stats)
        stopped = not (endless or stop.reached_end)
        if stopped and state is not None:
            raise click.ClickException(
                f"stopped before the end, after {counted(stats.packets, 'packet')}; {state} is as it was: "
                "throw away what was printed, and run it again"
            )
        if damage.captures > 1 and stats.unsorted:
            # Captures read one after another have no numbers of their own.
            stats = dataclasses.replace(stats, unsorted={"": max(stats.unsorted.values())})
        _warn_of_packets(stats, capture)
        if stopped:
            log.warning(
                f"stopped before the end, after {counted(stats.packets, 'packet')}: what follows them is not there"
            )
        if state is None or options.last:
            output.write(options.view.of(tracker.finish()))
            # First what has closed, then that it is no more in the state.
            output.close()
            if state is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(state)
        elif saving.between is not None:
            output.end()
            saving.save()
            output.close()
        else:
            output.close()
            tracker.save(state)
    log.read(damage.added_to(stats), whole=False)
    return 130 if stopped else 0


class _Saving:
    """Saves the state of what never ends, and publishes what the state has."""

    def __init__(self, tracker: Tracker, between: str | None, following: Follow | None, output: Output) -> None:
        """Save to `between`; None: there is no state, or no save before the end."""
        self.between = between
        self._tracker = tracker
        self._following = following
        self._output = output
        self._saved = time.monotonic()

    def begin(self) -> None:
        """Save where the input resumes: rows before the next save are made again, and taken back."""
        if self.between is not None and self._following is not None and self._output.mark() is not None:
            self.save()

    def look(self) -> None:
        """Save where files wait for their names, or once a minute."""
        if self.between is None:
            self._output.publish()
        elif self._output.is_due() or (time.monotonic() - self._saved > SAVE_EVERY and self._output.may_wait()):
            self.save()

    def save(self) -> None:
        """Save the state, with the position of the input and the length of the output."""
        if self.between is None:
            return
        output = self._output.mark()
        position = None if self._following is None else self._following.position
        self._tracker.save(self.between, note=note_of(position, output))
        self._output.publish()
        self._saved = time.monotonic()


@contextlib.contextmanager
def _left_alone_after_an_error(output: Output) -> Iterator[None]:
    try:
        yield
    except BaseException:
        output.abandon()
        raise


def _take(tracker: Tracker, batch: PacketBatch, clock: LiveClock) -> None:
    """Track a batch, or advance the time of live input that is silent."""
    if len(batch):
        tracker.process(batch)
        clock.note(batch)
    elif (now := clock.now()) is not None:
        tracker.advance(now)


def _last_times(batch: PacketBatch, clock: LiveClock) -> list[int]:
    """Times of the last two packets, or that of the clock while none come."""
    if len(batch):
        return [int(at) for at in batch.timestamps[-2:].astype("i8")]
    now = clock.now()
    return [] if now is None else [now, now]


def _warn_of_packets(stats: Stats, capture: Capture | None) -> None:
    """Log lost packets, and frames without IP; each capture warns of damage to its file itself."""
    damaged = {} if capture is None else capture.damage()
    lost = {reason: count for reason, count in stats.skipped.items() if reason not in damaged}
    loss = describe_loss(lost, stats.skipped_at, stats.skipped_bytes, stats.file_bytes)
    told = () if capture is None else capture.skipped_files()
    files = describe_skipped_files([one for one in stats.skipped_files if one not in told])
    for message in (files, loss, stats.describe_evicted(), stats.describe_not_ip(), *stats.describe_order()):
        if message is not None:
            log.warning(message)


def _tracker(config: Config, state: str | None, report: Report) -> Tracker:
    if state is None:
        return Tracker(config, report=report)
    begins = not os.path.exists(state)
    if not begins and not os.path.isfile(state):
        raise click.UsageError(f"--state {state}: found a device, pipe or directory, expected a file.")
    _check_place(state)
    if begins:
        return Tracker(config, report=report)
    tracker = Tracker.load(state)
    tracker._report(report)
    tracker._bound(config.max_connections, config._memory_limit())
    # Earlier results do not depend on these.
    theirs = dataclasses.replace(
        tracker.config,
        threads=config.threads,
        strict=config.strict,
        on_error=config.on_error,
        max_connections=config.max_connections,
        memory_limit=config.memory_limit,
    )
    tracker._config = theirs
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


def check_follow(files: tuple[str, ...]) -> None:
    """Refuse files that --follow does not have."""
    if len(files) != 1 or files[0] == "-":
        raise click.UsageError("--follow takes one file or directory.")
