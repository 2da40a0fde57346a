"""`track`: the connections and labels of a capture, in one call."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conntrack_py import _native, text
from conntrack_py.config import Config, checked
from conntrack_py.io.labels import labels_of
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import Source, inputs
from conntrack_py.stats import Stats, stats_with_warning
from conntrack_py.table import ConnectionTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class TrackResult:
    """Result of `track`.

    Attributes:
        connections: The connections, one row each, in the order of their first packets.
        stats: Counts of packets read, and of packets skipped by reason.
        labels: None unless asked for: a structured array, one row per captured packet in capture order (several files:
            merged by time). Fields: `connection` i8 (row in `connections`; -1: not tracked), `ctstate` u1 (`CtState`)
            and `ctdir` u1 (`CtDir`) as a Linux gateway would have them, `reply` bool (sent by the responder),
            `direction` u1 (`Direction` of the connection), `state` u1 (`State` of the connection after this packet).
    """

    connections: ConnectionTable
    stats: Stats
    labels: NDArray[np.void] | None

    def __repr__(self) -> str:
        """The size of it, and how many connections of each direction."""
        codes, words = self.connections.codes("direction")
        directions = ", ".join(f"{words[code]} {count:,}" for code, count in Counter(codes.tolist()).most_common())
        facts = [f"{len(self.connections):,} connections" + (f" ({directions})" if directions else "")]
        facts.append(f"{self.stats.packets:,} packets")
        if self.stats.first_timestamp is not None and self.stats.last_timestamp is not None:
            facts.append(f"{text.span(self.stats.last_timestamp - self.stats.first_timestamp)}")
        if self.stats.skipped:
            facts.append(f"{sum(self.stats.skipped.values()):,} skipped")
        if self.labels is not None:
            facts.append("with labels")
        return f"<TrackResult: {', '.join(facts)}>"


def track(
    source: Source | Iterable[Source],
    *,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    labels: bool = False,
    threads: int | None = None,
    progress: bool | Progress = False,
) -> TrackResult:
    """Track the connections of a capture.

    Pcap and pcapng are recognised by content, as are gzip, zstd, lz4, xz and bzip2 around them.

    Args:
        source: A path; a glob pattern (a file that has the pattern for a name goes first); `"-"` for standard input; a
            binary file object; or a list of these, whose packets are merged by time.
        local: The networks whose perspective is taken, as CIDR text; instead of `config.local`.
        config: The configuration; by default `Config()`.
        labels: Whether to label every packet, at 16 bytes each.
        threads: Instead of `config.threads`.
        progress: True shows a bar on standard error. A callable is called about ten times a second with the bytes
            read, the bytes in all (None where a source has no size) and the packets so far.

    Returns:
        The connections, the account and, if asked for, the labels.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        IsADirectoryError: A source is a directory.
        CaptureError: A file is no capture, its link type has no decoder, or it is damaged and `config.strict` is set.
        ConfigError: `local` or `threads` is refused.

    Warns:
        CaptureWarning: Part of the capture was not used, because of damage or packets that could not be decoded; or the
            results are doubtful: one end was captured, packets are duplicated, the clock stepped, or hardly any opening
            packet was captured. One warning at the end; `stats` has the counts.
    """
    config = checked(config)
    if local is not None:
        config = dataclasses.replace(config, local=local)
    if threads is not None:
        config = dataclasses.replace(config, threads=threads)
    with ExitStack() as stack:
        opened = inputs(source)
        native, memory, account = _native.track(opened, config._native(), labels, observer(progress, stack))
    stats = stats_with_warning(account)
    return TrackResult(ConnectionTable(native), stats, None if memory is None else labels_of(memory))
