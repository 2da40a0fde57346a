"""`read_flows`: flow logs in the schema of captures."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from conntrack_py import _native
from conntrack_py.config import Config, checked, with_local
from conntrack_py.exceptions import FlowError, FlowWarning
from conntrack_py.flows import parquet
from conntrack_py.flows.stats import FlowStats, stats_from
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import Input, Source, inputs
from conntrack_py.stats import NO_FLAWS, SkippedFile, no_stats
from conntrack_py.table import EVIDENCE, ConnectionTable
from conntrack_py.track import TrackResult


@dataclass(frozen=True, kw_only=True)
class FlowResult:
    """Result of `read`.

    Attributes:
        connections: The connections, one row each, in the order of their times.
        stats: Counts of records, and of bad ones by reason.
        sources: The names of the files, in their order.
        config: The configuration of the run.
    """

    connections: ConnectionTable
    stats: FlowStats
    sources: tuple[str, ...] = ()
    config: Config = dataclasses.field(default_factory=Config)

    def tracked(self) -> TrackResult:
        """The result in the form that summaries, reports and policies take: packets are those that records count."""
        import numpy as np

        table = self.connections
        codes, words = table.codes("evidence")
        numbers = np.bincount(codes, minlength=len(words)).tolist()
        sure = {"observed": 0, "inferred": 0, "unknown": 0}
        for word, number in zip(words, numbers, strict=True):
            sure[EVIDENCE[word][1]] += number
        starts, ends = (column[~np.isnat(column)] for column in (table["start"], table["end"]))
        first = int(starts.view(np.int64).min()) if len(starts) else None
        last = int(ends.view(np.int64).max()) if len(ends) else None
        sums = [int(table[name].sum()) for name in ("orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes")]
        skipped = [
            SkippedFile(file=file, reason=reason, offset=None, packets=0)
            for file, reason in self.stats.skipped_files.items()
        ]
        stats = no_stats(
            packets=sums[0] + sums[1],
            bytes=sums[2] + sums[3],
            connections=len(table),
            first_timestamp=first,
            last_timestamp=last,
            skipped_files=tuple(skipped),
            quality=dataclasses.replace(NO_FLAWS, **sure),
        )
        return TrackResult(table, stats, None, self.config, self.sources)


def read_flows(
    source: Source | Iterable[Source],
    kind: str | None = None,
    *,
    fields: str | Sequence[str] | None = None,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    progress: bool | Progress = False,
) -> ConnectionTable:
    """Read flow logs as connections: who initiated each, as far as the logs know.

    Records of one direction or of one window are paired and joined. The order of lines and of files makes no
    difference. What a log cannot know is missing: None in rows, null in Arrow.

    Args:
        source: A path; a directory, whose files are read with those below; a glob pattern; a URL that fsspec knows
            (`s3://bucket/prefix/`); `"-"`; a binary file object; or a list of these. Compression is recognised by
            content (gzip, zstd, lz4, xz, bzip2), and so is Parquet, which PyArrow reads.
        kind: `aws`, `azure`, `gcp`, `zeek`, `suricata`, `netflow` or `conntrack`. Default: guessed from the content of
            each file.
        fields: The fields of a custom format of AWS in files without a head, as text or a list of names.
        local: The networks whose perspective is taken, as CIDR text; instead of `config.local`.
        config: The configuration: local networks, zones, likely server ports, `on_error`.
        progress: As for `track`; it counts records.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        FlowError: A file is of no kind that is known here, its format lacks fields, or it is damaged.
        ImportError: Parquet needs PyArrow, a URL fsspec.
        ValueError: `kind` is none.

    Warns:
        FlowWarning: Records were not read, or the log leaves out what its connections depend on.
    """
    result = read(source, kind, fields=fields, local=local, config=config, progress=progress)
    return result.connections


def read(
    source: Source | Iterable[Source],
    kind: str | None = None,
    *,
    fields: str | Sequence[str] | None = None,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    progress: bool | Progress = False,
) -> FlowResult:
    """Read flow logs as `read_flows` does, with the account."""
    config = with_local(checked(config), local)
    names = fields.replace("${", " ").replace("}", " ").replace(",", " ").split() if isinstance(fields, str) else fields
    with ExitStack() as stack:
        opened = [parquet.as_text(one, stack) for one in _inputs(source, config, stack)]
        tell = _told(observer(progress, stack))
        given = list(names) if names is not None else None
        native, account = _native.read_flows(opened, config._native(), kind, given, tell)
    stats = stats_from(account)
    for line in stats.warnings():
        warnings.warn(line, FlowWarning, stacklevel=3)
    return FlowResult(
        connections=ConnectionTable(native), stats=stats, sources=tuple(name for name, _ in opened), config=config
    )


def translations(log: Source | Iterable[Source], *, config: Config | None = None) -> ConnectionTable:
    """The translations of a gateway's connection tracking: `conntrack -L`, `-E` or `/proc/net/nf_conntrack`.

    Every entry is a row from its originator's view. Where the gateway translates, `nat_orig_addr`, `nat_orig_port`,
    `nat_resp_addr` and `nat_resp_port` are the ends as the other side sees them; `nat_evidence` is `gateway`.

    Raises:
        FlowError: A file is no such log, or has no translation.
    """
    table = read(log, "conntrack", config=config).connections
    if "nat_evidence" not in table.columns:
        raise FlowError("no entry of the gateway has a translation: expected a reply tuple that is not the turned one")
    return table


def _told(progress: Progress | None) -> Callable[[int, int], object] | None:
    """A receiver of bytes and records."""
    if progress is None:
        return None
    return lambda done, records: progress(done, None, records)


def _inputs(source: Any, config: Config, stack: ExitStack) -> Iterator[Input]:
    several = not isinstance(source, str) and not hasattr(source, "read") and isinstance(source, Iterable)
    for one in source if several else [source]:
        if isinstance(one, str) and "://" in one:
            yield from _remote(one, stack)
            continue
        for name, what in inputs(one, config, recursive=True):
            # Of a directory: what is hidden is not part of a log.
            if not isinstance(what, str) or not what.startswith("a hidden"):
                yield name, what


def _remote(url: str, stack: ExitStack) -> Iterator[Input]:
    """The files of a URL: one, those of a pattern, or all below a prefix."""
    try:
        import fsspec
    except ImportError as error:
        remedy = "pip install 'conntrack_py[remote]', and s3fs, adlfs or gcsfs"
        raise ImportError(f"{url}: a URL needs the extra remote: {remedy}") from error
    system, path = fsspec.core.url_to_fs(url)
    names = sorted(system.glob(path)) if any(letter in path for letter in "*?[") else [path]
    found = [file for name in names for file in (sorted(system.find(name)) if system.isdir(name) else [name])]
    if not found:
        raise FileNotFoundError(2, "no file is at this address", url)
    for name in found:
        yield f"{url.split('://', 1)[0]}://{name}", stack.enter_context(system.open(name, "rb"))


__all__ = ("FlowResult", "read", "read_flows", "translations")
