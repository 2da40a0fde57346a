"""`track`: the connections and labels of a capture, in one call."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, overload

from conntrack_py import _native, text
from conntrack_py.config import Config, checked
from conntrack_py.io.labels import labels_of
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import Source, inputs
from conntrack_py.stats import Stats, stats_with_warning
from conntrack_py.table import Anonymiser, ConnectionTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from conntrack_py.reporting import Chart


class HostName(NamedTuple):
    """A name that a capture showed for an address. Anybody may send any name: it is for display."""

    name: str
    """A host name: letters, digits, hyphens, underscores and dots."""
    shown_by: tuple[str, ...]
    """`sni`: a TLS handshake; `http`: a request; `dns`: an answer with the address."""


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
        config: The configuration of the run: whose local networks and zones these are.
        sources: The names of the captures, in their order; `-` is standard input.
        names: None unless asked for: the names of responders' addresses, those of TLS and HTTP first; at most 4 each.
    """

    connections: ConnectionTable
    stats: Stats
    labels: NDArray[np.void] | None = None
    config: Config = field(default_factory=Config)
    sources: tuple[str, ...] = ()
    names: Mapping[str, tuple[HostName, ...]] | None = None

    def __repr__(self) -> str:
        """The size of it, and how many connections of each direction."""
        codes, words = self.connections.codes("direction")
        directions = ", ".join(f"{words[code]} {count:,}" for code, count in Counter(codes.tolist()).most_common())
        facts = [text.counted(len(self.connections), "connection") + (f" ({directions})" if directions else "")]
        facts.append(text.counted(self.stats.packets, "packet"))
        if self.stats.first_timestamp is not None and self.stats.last_timestamp is not None:
            facts.append(f"{text.span(self.stats.last_timestamp - self.stats.first_timestamp)}")
        if self.stats.skipped:
            facts.append(f"{sum(self.stats.skipped.values()):,} skipped")
        if self.labels is not None:
            facts.append("with labels")
        return f"<TrackResult: {', '.join(facts)}>"

    def plot(self, chart: str) -> Chart:
        """A picture: `answer`, `servers`, `matrix`, `volume`, `timeline` or `rules`.

        Raises:
            ValueError: There is no chart of that name.
        """
        from conntrack_py.reporting import plot

        return plot(self, chart)

    def anonymised(self, names: Anonymiser) -> Self:
        """The result with names in place of addresses, of local networks and of zones; without host and file names."""
        config = dataclasses.replace(
            self.config,
            local=[names.network(network) for network in self.config.local],
            zones={
                zone: [names.network(network) for network in networks] for zone, networks in self.config.zones.items()
            },
        )
        return dataclasses.replace(
            self, connections=names.table(self.connections), config=config, sources=(), names=None
        )

    def _repr_html_(self) -> str:
        """The result in short, for notebooks."""
        from conntrack_py.reporting.notebook import html

        return html(self)


@dataclass(frozen=True, eq=False, repr=False)
class LabelledResult(TrackResult):
    """Result of `track` with `labels=True`: the labels are there."""

    labels: NDArray[np.void]


@overload
def track(
    source: Source | Iterable[Source],
    *,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    labels: Literal[True],
    threads: int | None = None,
    progress: bool | Progress = False,
    recursive: bool = False,
    names: bool = False,
) -> LabelledResult: ...
@overload
def track(
    source: Source | Iterable[Source],
    *,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    labels: bool = False,
    threads: int | None = None,
    progress: bool | Progress = False,
    recursive: bool = False,
    names: bool = False,
) -> TrackResult: ...
def track(
    source: Source | Iterable[Source],
    *,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    labels: bool = False,
    threads: int | None = None,
    progress: bool | Progress = False,
    recursive: bool = False,
    names: bool = False,
) -> TrackResult:
    """Track the connections of a capture.

    Pcap, pcapng and snoop are recognised by content, as are gzip, zstd, lz4, xz and bzip2 around them.

    Args:
        source: A path; a glob pattern (a file that has the pattern for a name goes first); `"-"` for standard input; a
            binary file object; or a list of these, whose packets are merged by time.
        local: The networks whose perspective is taken, as CIDR text; instead of `config.local`.
        config: The configuration; by default `Config()`.
        labels: Whether to label every packet, at 16 bytes each.
        threads: Instead of `config.threads`.
        progress: True shows a bar on standard error. A callable is called about ten times a second with the bytes
            read, the bytes in all (None where a source has no size) and the packets so far.
        recursive: Read the files of directories and of those below, in which case files that cannot be read are skipped
            and listed in `stats.skipped_files`, hidden ones among them: `on_error` is `"skip"`. Links to directories
            are not followed.
        names: Whether to collect the names that TLS, HTTP and DNS show for responders, in the same pass; one thread
            does it.

    Returns:
        The connections, the account and, if asked for, names and labels: with labels a `LabelledResult`.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        IsADirectoryError: A source is a directory, and `recursive` is not set.
        CaptureError: A file is no capture, its link type has no decoder, or it is damaged and `config.strict` is set.
            With `config.on_error="skip"` such files, and those that cannot be opened, are no error.
        ConfigError: `local` or `threads` is refused.

    Warns:
        CaptureWarning: Files were skipped; part of the capture was not used, because of damage or packets that could
            not be decoded; or the results are doubtful: one end was captured, packets are duplicated, the clock
            stepped, or hardly any opening packet was captured. One warning at the end; `stats` has the counts.
    """
    config = checked(config)
    if local is not None:
        config = dataclasses.replace(config, local=local)
    if threads is not None:
        config = dataclasses.replace(config, threads=threads)
    if recursive:
        config = dataclasses.replace(config, on_error="skip")
    with ExitStack() as stack:
        opened = inputs(source, config, recursive=recursive)
        work = _with_names if names else _without_names
        native, memory, shown, account = work(opened, config._native(), labels, observer(progress, stack))
    stats = stats_with_warning(account)
    table, sources = ConnectionTable(native), tuple(name for name, _ in opened)
    if memory is not None:
        return LabelledResult(table, stats, labels_of(memory), config, sources, shown)
    return TrackResult(table, stats, None, config, sources, shown)


def track_with_names(
    source: Source | Iterable[Source], config: Config, progress: bool | Progress
) -> tuple[TrackResult, Mapping[int, str]]:
    """Track a capture, and read the names that originators asked for in payloads (DNS, TLS, HTTP), by row.

    Arguments, errors and warnings are those of `track`.
    """
    with ExitStack() as stack:
        opened = inputs(source, config)
        native, names, account = _native.named(opened, config._native(), observer(progress, stack))
    sources = tuple(name for name, _ in opened)
    return TrackResult(ConnectionTable(native), stats_with_warning(account), config=config, sources=sources), names


def _without_names(*given: Any) -> tuple[Any, Any, None, Any]:
    native, memory, account = _native.track(*given)
    return native, memory, None, account


def _with_names(*given: Any) -> tuple[Any, Any, dict[str, tuple[HostName, ...]], Any]:
    native, memory, shown, account = _native.track_with_names(*given)
    return native, memory, {address: _host_names(names) for address, names in shown.items()}, account


def _host_names(shown: Sequence[tuple[str, str]]) -> tuple[HostName, ...]:
    """Each name once, with all that showed it."""
    by_name: dict[str, list[str]] = {}
    for name, word in shown:
        by_name.setdefault(name, []).append(word)
    return tuple(HostName(name, tuple(words)) for name, words in by_name.items())
