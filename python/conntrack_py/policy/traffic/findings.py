"""Servers that initiate, and beacons of any host, judged by who initiated and never by volume.

Of servers every destination is a finding, of other hosts calls in even steps alone (`beacons`). Calls that are even
for a known reason have a mark of their own and stand below: the clock, and polls of a host inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conntrack_py.policy.traffic import roles
from conntrack_py.policy.traffic.beacons import FEWEST, evenness
from conntrack_py.policy.traffic.keys import Bools, Ints
from conntrack_py.policy.traffic.pairs import CONFIDENCE, Pair, Traffic, is_loopback
from conntrack_py.policy.traffic.roles import Host
from conntrack_py.policy.traffic.services import breaks
from conntrack_py.table import ConnectionTable
from conntrack_py.text import service as service_text

#: Marks of findings, the most telling first.
MARKS = {
    "beacon": "it calls a host outside in even steps",
    "unanswered": "nobody ever answered",
    "first": "a server that had only answered began to initiate",
    "new_destination": "it initiates where it did not before",
    "egress": "it leaves the local networks",
    "unsure": "the capture does not show who initiated: perhaps the server did",
    "poll": "it calls a host inside in even steps",
    "health_check": "it calls a host inside in even steps, with hardly any data",
    "clock": "NTP, which is even by design",
}
#: Marks of calls that are even for a known reason.
_EXPLAINED = {"poll", "health_check", "clock"}
#: Connections that a server has answered before its first own one is news.
_ONLY_ANSWERED = 10
#: NTP's port, and the least and greatest length of its messages (RFC 5905: a header, perhaps a key and a digest).
_NTP, _NTP_BYTES = ("udp", 123), (48, 68)
#: The most bytes of a side of a health check.
_CHECK_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A server initiates to a service of another host, or a host calls one in even steps.

    Attributes:
        server: The address of the host that initiates.
        role: `server`, or `client`: it offers nothing.
        destination: The responder.
        service: `8443/tcp`, `icmp echo`, ...
        connections: How many it initiated.
        first: When the first of them began, nanoseconds since 1970 UTC.
        last: When the last of them began.
        marks: Words of `MARKS`, the most telling first.
        period: Median seconds between calls in even steps.
        score: How even they are, 0 to 1 (`conntrack_py.policy.traffic.beacons`).
        offers: What the host offers, which makes it a server.
        breaks: What would stop working if this were denied.
    """

    server: str
    role: str
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
    """Find connections that servers initiate, and beacons of other hosts, the most telling first.

    Args:
        table: The connections.
        baseline: Connections of an earlier time: a destination that a server initiated to there is not new. Without
            one, a destination is new where the server initiates in both halves of the capture's time, and there only in
            the second.
    """
    traffic = Traffic(table, CONFIDENCE)
    hosts = roles.local_hosts(traffic)
    if not hosts:
        return []
    # An attempt that nobody answers was initiated all the same.
    asked = traffic.kept | traffic.because("refused", "unanswered", "probe", "announced")
    local = np.array([address in hosts and not is_loopback(address) for address in traffic.addresses], bool)
    which = asked & local[traffic.orig] & ~traffic.resp_group & (traffic.orig != traffic.resp)
    known = _destinations(baseline) if baseline is not None else None
    middle = int(traffic.start.min()) // 2 + int(traffic.start.max()) // 2
    serves = np.array([address in hosts and hosts[address].is_server for address in traffic.addresses], bool)
    grouped = traffic.grouped(np.flatnonzero(which & serves[traffic.orig]))
    began = {pair.orig: pair.first for pair, _ in reversed(grouped)}
    first_rows = {pair.orig: rows[0] for pair, rows in reversed(grouped)}
    answered = _answered_before(traffic, first_rows)
    egress = traffic.egress
    found = []
    for pair, rows in grouped:
        is_new = (pair.orig, pair.resp) not in known if known is not None else began[pair.orig] < middle <= pair.first
        is_first = rows[0] == first_rows[pair.orig] and answered[pair.orig] >= _ONLY_ANSWERED
        marks = {
            "unanswered": not bool(traffic.answered[rows].any()),
            "first": is_first,
            "new_destination": is_new and not is_first,
            "egress": bool(egress[rows].any()),
        }
        found.append(_finding(traffic, pair, rows, hosts[pair.orig], marks))
    for pair, rows in traffic.grouped(_often(traffic, which & ~serves[traffic.orig])):
        marks = {"unanswered": not bool(traffic.answered[rows].any()), "egress": bool(egress[rows].any())}
        one = _finding(traffic, pair, rows, hosts[pair.orig], marks)
        found += [one] if one.period is not None else []
    for pair, rows in traffic.perhaps_outwards(roles.of_services(hosts)):
        rows = rows[np.argsort(traffic.start[rows], kind="stable")]
        marks = {"unanswered": not bool((traffic.answered[rows]).any()), "egress": True, "unsure": True}
        found.append(_finding(traffic, pair, rows, hosts[pair.orig], marks))
    return sorted(found, key=_order)


def _order(one: Finding) -> tuple[bool, list[bool], int, str, str, str]:
    """The place of a finding: what is even for a known reason stands below the rest."""
    explained = not _EXPLAINED.isdisjoint(one.marks)
    return explained, [mark not in one.marks for mark in MARKS], one.first, one.server, one.destination, one.service


def _often(traffic: Traffic, which: Bools) -> Ints:
    """The rows of pairs that have enough connections to be a beacon."""
    rows = np.flatnonzero(which)
    _, places, counts = np.unique(traffic.keys[rows], return_inverse=True, return_counts=True)
    return rows[counts[places] > FEWEST]


def _even(traffic: Traffic, pair: Pair, rows: Ints, leaves: bool) -> str:
    """The mark of calls in even steps."""
    sides = [(traffic.table[f"{side}_bytes"][rows], traffic.table[f"{side}_pkts"][rows]) for side in ("orig", "resp")]
    if (pair.proto, pair.service) == _NTP:
        least, most = _NTP_BYTES
        # Anything may call itself NTP by its port; messages of another length are a beacon.
        if all(bool(((size >= least * packets) & (size <= most * packets)).all()) for size, packets in sides):
            return "clock"
    if leaves:
        return "beacon"
    return "health_check" if all(int(np.median(size)) <= _CHECK_BYTES for size, _ in sides) else "poll"


def _finding(traffic: Traffic, pair: Pair, rows: Ints, host: Host, marks: Mapping[str, bool]) -> Finding:
    even = evenness(traffic.start[rows])
    held = {mark for mark, holds in marks.items() if holds}
    if even is not None:
        held.add(_even(traffic, pair, rows, marks["egress"]))
    return Finding(
        server=pair.orig,
        role="server" if host.is_server else "client",
        destination=pair.resp,
        service=service_text(pair.proto, pair.service),
        connections=pair.connections,
        first=pair.first,
        last=pair.last,
        marks=tuple(mark for mark in MARKS if mark in held),
        period=even[0] if even else None,
        score=even[1] if even else None,
        offers=tuple(sorted(service_text(*service) for service in host.offers)),
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
