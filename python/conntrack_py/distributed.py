"""A distributed run: headers of captures by shard, connections of a shard, and hindsight over all shards.

An engine (Spark, Ray, Dask, a database) moves the rows: it runs `decode_headers` on each capture, groups the rows by
shard, sorts them by `ts`, `file` and `idx`, and runs `track_stream` on each group. The connections of all shards do not
depend on the number of shards or on the order of files.

Hindsight needs a second pass: `facts_of` the connections of each shard, `merge_facts` of all shards, and `look_back` on
the connections of each shard. The connections are then those of `track` on the list of all files.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from conntrack_py import _native
from conntrack_py.arrow import ArrowBatch, ArrowSchema
from conntrack_py.config import Config, checked
from conntrack_py.exceptions import CaptureWarning, ConfigError
from conntrack_py.io.source import Source, inputs
from conntrack_py.ranges import Range
from conntrack_py.stats import Stats, stats_from

#: As many cells of pairs of addresses are there, and as many shards at most.
CELLS = 1 << 16


#: The schema of `decode_headers`.
HEADERS = ArrowSchema(_native.Headers.none(False))
#: The same with the columns to filter by.
HEADERS_TO_FILTER = ArrowSchema(_native.Headers.none(True))
#: The schema of `track_stream` and `look_back`; `track_stream(facts=True)` adds `hindsight` (binary).
FLOWS = ArrowSchema(_native.Part(Config()._native(), False).finish(None))
#: The schema of `facts_of` and `merge_facts`.
FACTS = ArrowSchema(_native.Facts().tables()[0])


def shard_v1(one: str, other: str, shards: int) -> int:
    """The shard of packets between two addresses, whichever of them sends: version 1 of the hash, which never changes.

    Both addresses are 16 bytes (IPv4 mapped into IPv6, RFC 4291 section 2.5.5.2), the smaller one first, and are taken
    as four big-endian words of 64 bits. From `h = 0`, each word gives `h = mix(h ^ word)`, where `mix(s)` is the number
    that SplitMix64 makes of seed `s` (Steele, Lea, Flood 2014). The upper 16 bits of `h` are the cell, and the shard is
    the cell modulo `shards`.

    Raises:
        ValueError: One of them is no address, or there are too many shards.
    """
    return _native.cell(one, other) % shard_count(shards)


def decode_headers(
    path: Source,
    file_id: int,
    shards: int,
    *,
    columns: Literal["tracker", "all"] = "tracker",
    config: Config | None = None,
    part: Range | None = None,
) -> Iterator[ArrowBatch]:
    """The headers of a capture's packets, each with the shard that tracks it.

    Columns, none of them with nulls: `ts` (int64, nanoseconds since 1970 UTC), `file` (int32, `file_id`), `idx` (int64,
    byte offset of the record in the uncompressed file), `shard` (int32) and `packet` (binary: what the tracker reads of
    the record, without a payload that says nothing of who initiated). With `columns="all"` also columns to filter by:
    `src` and `dst` (text), `sport`, `dport` (ICMP: type and code) and `proto` (int32) and `length` (int64, bytes of the
    IP packet), all of the packet that is tracked. Records that carry no IP packet are left out, unless the whole file
    has none: one row then says when the file began. What could not be used is a `CaptureWarning` once all were read.

    The shard is that of the packet's addresses (`shard_v1`), of those inside a tunnel as `config.tunnels` says; an
    ICMP error goes with the packet that it quotes, a later fragment with its first one. Inside a fragmented tunnel
    datagram this holds where the first fragment comes first and in the same file.

    Args:
        path: A path, `"-"`, or a binary file object.
        file_id: What tells the capture from others of the run; of packets of one time, the smaller comes first.
        shards: How many shards there are, 1 to 65536.
        columns: Which columns there are.
        config: Whose `tunnels`, `checksum` and `strict` are followed; the same as `track_stream` gets.
        part: One of `split_points`, of one file: only its records. All ranges together have the rows of the file. The
            shard of a fragment inside a tunnel may differ if the first fragment is in another range.

    Raises:
        FileNotFoundError: There is no such file.
        CaptureError: It is no capture; at its end: all of its packets have a link type without a decoder. Of a range:
            the file has changed since `split_points`.
        ConfigError: The configuration has what no shard can do alone; see `track_stream`.
        ValueError: `file_id` or `shards` is out of range, or `columns` is another word.
    """
    number = operator.index(file_id)
    if not 0 <= number < 1 << 31:
        raise ValueError(f"file_id: found {number}, expected 0 to 2**31 - 1")
    if columns not in ("tracker", "all"):
        raise ValueError(f"columns: found {columns!r}, expected 'tracker' or 'all'")
    return _headers(_opened(path, _alone(config), number, shard_count(shards), columns == "all", part))


def _opened(
    path: Source, config: Config, number: int, shards: int, filters: bool, part: Range | None
) -> _native.Headers:
    found = inputs(path, config)
    if part is None:
        return _native.Headers(found, config._native(), number, shards, filters)
    if len(found) != 1 or found[0][0] == "-" or not isinstance(part, Range):
        raise ValueError(f"part: found {part!r} of {path!r}, expected a range of split_points of one file")
    file: Any = found[0][1]
    if file is not None and not isinstance(file, str):
        file.seek(part.start)
    return _native.Headers(found, config._native(), number, shards, filters, (part.start, part.head, part.end))


def _headers(native: _native.Headers) -> Iterator[ArrowBatch]:
    for batch in iter(native.next, None):
        yield ArrowBatch(batch)
    for message in _warnings(stats_from(native.account())):
        warnings.warn(message, CaptureWarning, stacklevel=2)


def _warnings(stats: Stats) -> list[str]:
    """Warnings of a reading of headers."""
    messages = (stats.describe_skipped_files(), stats.describe_loss(), stats.describe_not_ip())
    return [message for message in messages if message is not None]


def read_account(path: Source, *, config: Config | None = None, part: Range | None = None) -> tuple[Stats, list[str]]:
    """The account of a reading of headers, which knows no connections, and its warnings."""
    native = _opened(path, _alone(config), 0, 1, False, part)
    for _ in iter(native.next, None):
        pass
    stats = stats_from(native.account())
    return stats, _warnings(stats)


def track_stream(
    batches: Iterable[Any] | Any, *, config: Config | None = None, until: int | None = None, facts: bool = False
) -> Iterator[ArrowBatch]:
    """The connections of some shards, batch by batch as they end, in bounded memory.

    The columns are those of a `ConnectionTable` in types that every engine has: times are int64 nanoseconds, counts
    int64, ports int32, words and addresses text. Before them comes `id`, 32 hexadecimal digits that tell the
    connection from all others of the run: a hash of its tuple and of time, file and place of its first packet.
    `related_to` is such an `id`.

    The answers are those of a `Tracker`: who initiated is judged by what has come so far; `look_back` has hindsight.
    They differ where they must, so that they do not depend on what else is in a shard: connections of ICMP errors are
    told apart also by the shard cell of the packet that they quote, and a fragmented error is related to nothing; and
    what has not ended at the end ends by its own timeout, or with `until` by whether that comes first. Of a capture
    whose clock stepped back, packets are taken in the order of their times, not of the file.

    Args:
        batches: Rows of `decode_headers` (`ts`, `file`, `idx` and `packet` are needed), sorted by `ts`,
            `file` and `idx`: anything with the Arrow PyCapsule interface, or an iterable of such.
        config: The configuration, by default `Config()`.
        until: When the capture of all shards ends, in nanoseconds since 1970 UTC: what lives then has the `end_reason`
            `end_of_capture`. Default: nobody knows, and the timeouts of all connections run out.
        facts: Add the column `hindsight` (binary), from which `facts_of` and `look_back` work.

    Raises:
        ConfigError: `max_connections` or `memory_limit` is set, or `tunnels` is `both`, or `profile` is `zeek`, whose
            connections of ICMP errors are those of many shards.
        ValueError: A column is missing or has another type, or rows are not sorted.
    """
    moment = None if until is None else operator.index(until)
    if moment is not None and not -(1 << 63) <= moment < 1 << 63:
        raise ValueError(f"until: found {moment}, expected nanoseconds since 1970 in 64 bits")
    return _tracked(_native.Part(_alone(config)._native(), facts), _each(batches), moment)


def _tracked(part: _native.Part, batches: Iterable[Any], until: int | None) -> Iterator[ArrowBatch]:
    for batch in batches:
        over = ArrowBatch(part.take(batch))
        if len(over):
            yield over
    yield ArrowBatch(part.finish(until))


def facts_of(flows: Iterable[Any] | Any, *, config: Config | None = None) -> Iterator[ArrowBatch]:
    """Facts that the connections of some shards show about those of others, as a table.

    Columns: `kind` (text), `key` (binary), `first`, `second` and `bits` (int64), and `parent` (text or null):
    listeners, roles of hosts, meetings, announcements, questions to groups, and times of activity. Facts add up: those
    of all shards are the same for any number of shards, in any order. Memory holds the connections of the call.

    Args:
        flows: All connections of one or more whole shards, of `track_stream(facts=True)`, in any order: `id`,
            `related_to` and `hindsight` are needed. Anything with the Arrow PyCapsule interface, or an iterable of
            such.
        config: The same as `track_stream` got.

    Raises:
        ConfigError: `profile` is `zeek`, whose choice of the originator stands.
        ValueError: A column is missing, has another type, or has what `track_stream` did not write.
    """
    return _facts_of(_native.ShardRows(_judged(config)._native()), _each(flows))


def _facts_of(rows: _native.ShardRows, flows: Iterable[Any]) -> Iterator[ArrowBatch]:
    for batch in flows:
        rows.add(batch)
    yield from map(ArrowBatch, rows.facts().tables())


def merge_facts(facts: Iterable[Any] | Any, *, settle: bool = False) -> Iterator[ArrowBatch]:
    """Facts of all parts together, one row for each kind and key, in an order that is always the same.

    Args:
        facts: Tables of `facts_of` or `merge_facts`, in any order: anything with the Arrow PyCapsule interface, or an
            iterable of such. Facts of one part must not be there twice.
        settle: These are the facts of all shards: leave out what decides nothing, such as endpoints that only
            initiate. The result is about as large as the list of servers and clients, not of connections. Further
            facts must not be merged into it.

    Raises:
        ValueError: A column is missing, has another type, or has what `facts_of` did not write.
    """
    return _merged(_each(facts), settle)


def _merged(facts: Iterable[Any], settle: bool) -> Iterator[ArrowBatch]:
    whole = _sum(facts)
    if settle:
        whole.settle()
    yield from map(ArrowBatch, whole.tables())


def look_back(
    flows: Iterable[Any] | Any, facts: Iterable[Any] | Any, *, config: Config | None = None
) -> Iterator[ArrowBatch]:
    """The connections of some shards with hindsight: who initiated is judged by all connections of all shards.

    The result has the columns of `track_stream`. Together with the other shards it has the connections that `track` has
    of all files: only `id` is new, and `related_to` is an `id`. With `until` in `track_stream`, `end_reason` is the
    same, too. Memory holds the connections of the call, and the facts.

    Args:
        flows: As for `facts_of`.
        facts: The facts of all shards, merged or not: as for `merge_facts`.
        config: The same as `track_stream` got.

    Raises:
        ConfigError: `profile` is `zeek`, whose choice of the originator stands.
        ValueError: A column is missing, has another type, or has what the functions above did not write.
    """
    return _looked_back(_native.ShardRows(_judged(config)._native()), _each(flows), _each(facts))


def _looked_back(rows: _native.ShardRows, flows: Iterable[Any], facts: Iterable[Any]) -> Iterator[ArrowBatch]:
    for batch in flows:
        rows.add(batch)
    yield from map(ArrowBatch, rows.look_back(_sum(facts)))


def _sum(facts: Iterable[Any]) -> _native.Facts:
    whole = _native.Facts()
    for table in facts:
        whole.add(table)
    return whole


def _each(batches: Iterable[Any] | Any) -> Iterable[Any]:
    """Batches one by one, those of an Arrow stream as they come."""
    if hasattr(batches, "__arrow_c_stream__"):
        return iter(_native.ArrowReader(batches).next, None)
    return [batches] if hasattr(batches, "__arrow_c_array__") else batches


def _alone(config: Config | None) -> Config:
    """A configuration whose connections do not depend on each other."""
    config = checked(config)
    for key, refused in (("profile", "zeek"), ("tunnels", "both")):
        if getattr(config, key) == refused:
            raise ConfigError(f"{key}: found {refused!r}, expected another one: shards are tracked each alone")
    for key in ("max_connections", "memory_limit"):
        if getattr(config, key) is not None:
            raise ConfigError(f"{key}: found {getattr(config, key)}, expected none: shards are tracked each alone")
    return config


def _judged(config: Config | None) -> Config:
    """A configuration whose originators hindsight may change."""
    config = checked(config)
    if config.profile == "zeek":
        raise ConfigError("profile: found 'zeek', expected another one: Zeek's own choice of the originator stands")
    return config


def shard_count(shards: int) -> int:
    """A number of shards, checked.

    Raises:
        ValueError: The number is out of range.
    """
    number = operator.index(shards)
    if not 1 <= number <= CELLS:
        raise ValueError(f"shards: found {number}, expected 1 to {CELLS}")
    return number
