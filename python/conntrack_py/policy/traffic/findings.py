"""Servers that initiate: what they should seldom do, judged by who initiated and never by volume.

A beacon is a server that calls one service of one host again and again in even steps. Its score is 1 less the median
absolute deviation of the intervals between the beginnings of its connections, divided by their median: 1 is a clock.
Jitter of 5 % gives about 0.95, people about 0.3. Connections that begin within a second of each other are one call; at
least five calls and a score of 0.8 make a beacon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conntrack_py.policy.traffic import roles
from conntrack_py.policy.traffic.pairs import CONFIDENCE, KEPT, LEFT_OUT, Ints, Pair, Traffic
from conntrack_py.policy.traffic.roles import Host
from conntrack_py.policy.traffic.services import breaks
from conntrack_py.table import ConnectionTable
from conntrack_py.text import service as service_text

#: Marks of findings, the most telling first.
MARKS = {
    "beacon": "it calls in even steps",
    "unanswered": "nobody ever answered",
    "first": "a server that had only answered began to initiate",
    "new_destination": "it initiates where it did not before",
    "egress": "it leaves the local networks",
    "unsure": "the capture does not show who initiated: perhaps the server did",
}
#: Calls that make a beacon, its least period in seconds, its least score.
_BEACON = 5
_PERIOD = 1.0
_SCORE = 0.8
#: Connections that a server has answered before its first own one is news.
_ONLY_ANSWERED = 10


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A server initiates to a service of another host.

    Attributes:
        server: Its address.
        destination: The responder.
        service: `8443/tcp`, `icmp echo`, ...
        connections: How many it initiated.
        first: When the first of them began, nanoseconds since 1970 UTC.
        last: When the last of them began.
        marks: Words of `MARKS`, the most telling first.
        period: Median seconds between connections, of a beacon.
        score: How even they are, 0 to 1, of a beacon.
        offers: What the server offers, which makes it one.
        breaks: What would stop working if this were denied.
    """

    server: str
    destination: str
    service: str
    connections: int
    first: int
    last: int
    marks: tuple[str, ...]
    period: float | None
    score: float | None
    offers: tuple[str, ...]
    breaks: str


def findings(table: ConnectionTable, baseline: ConnectionTable | None = None) -> list[Finding]:
    """Find connections that servers initiate, the most telling first.

    Args:
        table: The connections.
        baseline: Connections of an earlier time: a destination that a server initiated to there is not new. Without
            one, a destination is new where the server initiates in both halves of the capture's time, and there only in
            the second.
    """
    traffic = Traffic(table, CONFIDENCE)
    servers = roles.servers(traffic, traffic.pairs(traffic.kept))
    if not servers:
        return []
    # An attempt that nobody answers was initiated all the same.
    asked = [list(LEFT_OUT).index(reason) for reason in ("refused", "unanswered")]
    by_server = np.array([address in servers for address in traffic.addresses], bool)[traffic.orig]
    which = np.isin(traffic.why, [KEPT, *asked]) & by_server & ~traffic.resp_group
    known = _destinations(baseline) if baseline is not None else None
    middle = int(traffic.start.min()) // 2 + int(traffic.start.max()) // 2
    grouped = traffic.grouped(np.flatnonzero(which))
    began = {pair.orig: pair.first for pair, _ in reversed(grouped)}
    first_rows = {pair.orig: rows[0] for pair, rows in reversed(grouped)}
    answered = _answered_before(traffic, first_rows)
    egress = traffic.egress
    found = []
    for pair, rows in grouped:
        period, score = _evenness(traffic.start[rows])
        is_new = (pair.orig, pair.resp) not in known if known is not None else began[pair.orig] < middle <= pair.first
        is_first = rows[0] == first_rows[pair.orig] and answered[pair.orig] >= _ONLY_ANSWERED
        marks = {
            "beacon": score is not None,
            "unanswered": not bool(traffic.answered[rows].any()),
            "first": is_first,
            "new_destination": is_new and not is_first,
            "egress": bool(egress[rows].any()),
        }
        found.append(_finding(pair, servers[pair.orig], marks, period, score))
    for pair, rows in traffic.perhaps_outwards({address: host.offers for address, host in servers.items()}):
        period, score = _evenness(np.sort(traffic.start[rows]))
        marks = {
            "beacon": score is not None,
            "unanswered": not bool((traffic.answered[rows]).any()),
            "egress": True,
            "unsure": True,
        }
        found.append(_finding(pair, servers[pair.orig], marks, period, score))
    order = list(MARKS)
    return sorted(found, key=lambda one: ([mark not in one.marks for mark in order], one.first, one.destination))


def _finding(pair: Pair, server: Host, marks: Mapping[str, bool], period: float | None, score: float | None) -> Finding:
    return Finding(
        server=pair.orig,
        destination=pair.resp,
        service=service_text(pair.proto, pair.service),
        connections=pair.connections,
        first=pair.first,
        last=pair.last,
        marks=tuple(mark for mark, holds in marks.items() if holds),
        period=period,
        score=score,
        offers=tuple(sorted(service_text(*service) for service in server.offers)),
        breaks=breaks(pair.proto, pair.service),
    )


def _destinations(table: ConnectionTable) -> set[tuple[str, str]]:
    return set(zip(table["orig_addr"].tolist(), table["resp_addr"].tolist(), strict=True))


def _answered_before(traffic: Traffic, first_rows: Mapping[str, int]) -> dict[str, int]:
    """Connections that others initiated and a host answered, before the first one of its own, which is that row."""
    rows = np.fromiter(first_rows.values(), np.int64, len(first_rows))
    until = np.full(len(traffic.addresses), np.iinfo(np.int64).min)
    until[traffic.orig[rows]] = traffic.start[rows]
    before = traffic.kept & (traffic.start < until[traffic.resp])
    counts = np.bincount(traffic.resp[before], minlength=len(traffic.addresses))
    return dict(zip(first_rows, counts[traffic.orig[rows]].tolist(), strict=True))


def _evenness(starts: Ints) -> tuple[float | None, float | None]:
    """The period in seconds and the score of a beacon; None and None where it is none."""
    # Several connections at once are one call.
    calls = starts[np.diff(starts, prepend=starts[0] - int(2e9 * _PERIOD)) >= _PERIOD * 1e9]
    if len(calls) < _BEACON:
        return None, None
    intervals = np.diff(calls) / 1e9
    median = float(np.median(intervals))
    score = max(0.0, 1.0 - float(np.median(np.abs(intervals - median))) / median)
    return (median, score) if score >= _SCORE else (None, None)
