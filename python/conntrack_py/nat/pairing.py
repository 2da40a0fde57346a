"""`correlate`: connections before and behind a translation; `reveal`: true ends by a gateway's own table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conntrack_py import _native, text
from conntrack_py.config import Config, checked, with_local
from conntrack_py.exceptions import FlowError
from conntrack_py.flows import translations
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import Source, inputs
from conntrack_py.nat.behind import facts
from conntrack_py.stats import Stats, stats_with_warning
from conntrack_py.table import ConnectionTable

#: Least confidence in a translation by which the other end is named.
SURE = 0.9
#: Bit of the flags of a pair: both rows are inside.
_HAIRPIN = 1


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Counts of a correlation, and the difference of the clocks.

    Attributes:
        paired: Pairs of a connection inside and one outside.
        hairpins: Pairs of connections that are both inside: the gateway sent them back.
        by_evidence: Pairs by their strongest evidence.
        ambiguous_inside: Connections inside that share evidence with the outside and are not paired: it is not enough,
            or more than one connection has it.
        ambiguous_outside: The same of connections outside.
        contradicted: Pairs refused for different initial sequence numbers, in spite of other evidence.
        remembered: Connections inside whose translation the gateway's table has.
        unclear: Connections inside with entries in that table that time does not tell apart.
        offset: Clock of the outside less that of the inside, nanoseconds, the median; None: unknown.
        drift: Change of that difference, parts per million; None: unknown.
        tolerance: Bound for the times of a packet on both sides, nanoseconds; None without a clock.
        samples: Packets that the clock is made of.
    """

    paired: int = 0
    hairpins: int = 0
    by_evidence: Mapping[str, int] = field(default_factory=dict)
    ambiguous_inside: int = 0
    ambiguous_outside: int = 0
    contradicted: int = 0
    remembered: int = 0
    unclear: int = 0
    offset: int | None = None
    drift: float | None = None
    tolerance: int | None = None
    samples: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Correlation:
    """Result of `correlate`.

    Attributes:
        connections: Connections inside, each once, in the order of their first packets. `nat_orig_addr`,
            `nat_orig_port`, `nat_resp_addr` and `nat_resp_port` are the ends as the outside sees them, missing where no
            pair was found. The first leg of a hairpin has the second one there, which has no row of its own.
        outside: Connections outside, with their ends as the inside sees them; None without captures of the outside.
        pairing: Counts, and the difference of the clocks.
        inside_stats: Counts of packets inside.
        outside_stats: Counts of packets outside; None without captures of the outside.
    """

    connections: ConnectionTable
    outside: ConnectionTable | None
    pairing: Pairing
    inside_stats: Stats
    outside_stats: Stats | None = None

    def __repr__(self) -> str:
        """The sizes of it."""
        outside = "" if self.outside is None else f", {len(self.outside):,} outside"
        found = self.pairing.paired + self.pairing.hairpins or self.pairing.remembered
        inside = text.counted(len(self.connections), "connection")
        return f"<Correlation: {inside} inside{outside}, {found:,} paired>"

    def revealed(self, confidence: float = SURE) -> ConnectionTable:
        """The connections outside with the ends that the inside sees in place of their own.

        Args:
            confidence: Least confidence in a translation.

        Raises:
            ValueError: There are no captures of the outside.
        """
        if self.outside is None:
            raise ValueError("outside: there are no captures of the outside")
        return ConnectionTable(_native.reveal(self.outside._native, confidence))


def correlate(
    inside: Source | Iterable[Source],
    outside: Source | Iterable[Source] | None = None,
    *,
    memory: ConnectionTable | Source | Iterable[Source] | None = None,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    offset: float | None = None,
    tolerance: float = 0.5,
    progress: bool | Progress = False,
) -> Correlation:
    """Join the connections on both sides of a gateway that translates addresses.

    Two connections are joined where the evidence is mutual and unique: TCP sequence numbers and timestamps, DNS ids
    with their questions, ICMP sequence numbers with contents, payloads, and IPv4 identifications. Time is a bound and
    never evidence. The clocks may differ and drift; the difference comes from pairs that need no time. What fits more
    than one connection is counted and not joined. The order of files and the number of threads make no difference.

    Args:
        inside: The captures of the inside, as for `track`.
        outside: The captures of the outside.
        memory: The gateway's own table: a log of conntrack, or what `translations` made of it. Its entries stand where
            they differ from pairs.
        local: The networks whose perspective is taken; instead of `config.local`.
        config: The configuration; by default `Config()`.
        offset: The clock of the outside less that of the inside in seconds, where it is known.
        tolerance: With `offset`, the bound for the difference from it, seconds.
        progress: As for `track`.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        CaptureError: As for `track`.
        FlowError: `memory` is no log of conntrack, or has no translation.
        ValueError: There is neither `outside` nor `memory`, or a bound is negative.

    Warns:
        CaptureWarning: Part of a capture was not used.
    """
    if outside is None and memory is None:
        raise ValueError("found neither outside nor memory, expected captures of the outside or a log of the gateway")
    if not tolerance >= 0:
        raise ValueError(f"tolerance: found {tolerance}, expected seconds from 0")
    config = with_local(checked(config), local)
    table = None if memory is None else _memory(memory, config)
    clock = None if offset is None else (round(offset * 1e9), round(tolerance * 1e9))
    with ExitStack() as stack:
        ours = inputs(inside, config)
        theirs = [] if outside is None else inputs(outside, config)
        found = _native.correlate(ours, theirs, config._native(), clock, observer(progress, stack))
    own, account, other, there, arrays, counts = found
    pairs = [np.frombuffer(memoryview(one), dtype=kind) for one, kind in zip(arrays, _PAIRS, strict=True)]
    untold = 0
    if table is not None:
        own, _, untold = _native.recall(own, table._native, False)
        other, _, _ = _native.recall(other, table._native, False)
    connections = ConnectionTable(own)
    second = np.union1d(pairs[1][(pairs[2] & _HAIRPIN) != 0], _second_legs(connections)).astype(np.int64)
    if len(second):
        kept = np.ones(len(connections), dtype=bool)
        kept[second] = False
        connections = connections[kept]
    pairing = _pairing(pairs, counts, _remembered(connections), untold)
    is_there = outside is not None
    return Correlation(
        connections=connections,
        outside=ConnectionTable(other) if is_there else None,
        pairing=pairing,
        inside_stats=stats_with_warning(account),
        outside_stats=stats_with_warning(there) if is_there else None,
    )


#: Rows inside and outside, flags, evidence, bits.
_PAIRS = ("u4", "u4", "u1", "u1", "u2")


def _remembered(table: ConnectionTable) -> int:
    """Connections whose translation the gateway's table has."""
    return int(np.count_nonzero(table["nat_evidence"] == "gateway"))


def _second_legs(table: ConnectionTable) -> list[int]:
    """Rows of the later one of two connections that are translations of each other by the gateway's table."""
    rows = np.flatnonzero(table["nat_evidence"] == "gateway")
    some = table[rows]
    own = [some[name].tolist() for name in ("proto", "orig_addr", "orig_port", "resp_addr", "resp_port")]
    other = [own[0], *(some[f"nat_{name}"].tolist() for name in ("orig_addr", "orig_port", "resp_addr", "resp_port"))]
    firsts: dict[tuple[Any, ...], tuple[int, int]] = {}
    later = []
    starts, tuples = (
        some["start"].astype("i8").tolist(),
        zip(zip(*own, strict=True), zip(*other, strict=True), strict=True),
    )
    for row, start, (here, there) in zip(rows.tolist(), starts, tuples, strict=True):
        if there in firsts and firsts[there][0] <= start:
            later.append(row)
        firsts[here] = (start, row)
    return later


def _pairing(pairs: Sequence[Any], counts: Mapping[str, Any], told: int, untold: int) -> Pairing:
    hairpins = int(np.count_nonzero(pairs[2] & _HAIRPIN))
    numbers = np.bincount(pairs[3], minlength=len(_native.NAT_EVIDENCE)).tolist()
    by_evidence = {word: number for word, number in zip(_native.NAT_EVIDENCE, numbers, strict=True) if number}
    ours, theirs = counts["ambiguous"]
    return Pairing(
        paired=len(pairs[0]) - hairpins,
        hairpins=hairpins,
        by_evidence=dict(reversed(by_evidence.items())),
        ambiguous_inside=ours,
        ambiguous_outside=theirs,
        contradicted=counts["contradicted"],
        remembered=told,
        unclear=untold,
        offset=counts["offset"],
        drift=counts["drift"],
        tolerance=counts["tolerance"],
        samples=counts["samples"] or 0,
    )


def as_json(result: Correlation) -> dict[str, Any]:
    """The counts, the clock, and what the gateway hides, as what `json` takes."""
    outside = None if result.outside is None else len(result.outside)
    found = dataclasses.asdict(facts(result.connections))
    return {"outside": outside, "pairing": dataclasses.asdict(result.pairing), **found}


def _memory(memory: Any, config: Config) -> ConnectionTable:
    """The table of a gateway, from its log where it is one."""
    table = memory if isinstance(memory, ConnectionTable) else translations(memory, config=config)
    if "nat_evidence" not in table.columns:
        raise FlowError("memory: found a table without translations, expected what translations() makes of a log")
    return table


def reveal(connections: ConnectionTable, memory: ConnectionTable | str | os.PathLike[str]) -> ConnectionTable:
    """Name the true ends of connections by the gateway's own table.

    In place of the gateway's address a connection has the host behind it: `orig_addr` the true client, `resp_addr` the
    true server. `nat_orig_addr` and its like are what the capture showed. Connections that the gateway does not
    remember, or whose entries time does not tell apart, stay.

    Args:
        connections: The connections of a capture on either side.
        memory: A log of conntrack, or what `translations` made of it.

    Raises:
        FlowError: `memory` is no log of conntrack, or has no translation.
    """
    table = _memory(memory, Config())
    return ConnectionTable(_native.recall(connections._native, table._native, True)[0])
