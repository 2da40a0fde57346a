"""Findings folded by server and service, with the times of their connections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.columns import Columns, places_in_time
from conntrack_py.policy.traffic.findings import MARKS, Finding
from conntrack_py.policy.traffic.keys import Bools, Ints, distinct
from conntrack_py.table import ConnectionTable

#: Beginnings that are told one by one; of more there is a histogram.
MOST_TIMES = 300
#: Bins of the histogram.
BINS = 150
#: Destinations that are named.
_NAMED = 5
#: The marks by which findings are ordered, the most telling first.
_ORDER = ("beacon", "unanswered", "first", "new_destination", "egress", "unsure")


@dataclass(frozen=True, kw_only=True)
class Initiative:
    """The findings about one host and one service.

    Attributes:
        server: The address of the host that initiates.
        role: `server` or `client`, as in `Finding`.
        service: `8443/tcp`, `icmp echo`, ...
        destinations: Number of different responders.
        named: The responders with the most connections, at most five.
        connections: Number of connections.
        first: When the first of them began, nanoseconds since 1970 UTC.
        last: When the last of them began.
        marks: Marks of any of the findings, the most telling first.
        period: Median seconds between the calls of the most even finding; None: no calls are even.
        score: Evenness of these calls.
        even: Connections of that finding.
        offers: What the host offers.
        breaks: What would stop working if this were denied.
        times: When the connections began, sorted, where they are at most 300.
        histogram: Numbers of connections in 150 bins from the first to the last of the table, where they are more.
    """

    server: str
    role: str
    service: str
    destinations: int
    named: tuple[str, ...]
    connections: int
    first: int
    last: int
    marks: tuple[str, ...]
    period: float | None
    score: float | None
    even: int
    offers: tuple[str, ...]
    breaks: str
    times: tuple[int, ...]
    histogram: tuple[int, ...]


def initiatives(
    table: ConnectionTable, findings: Iterable[Finding], *, columns: Columns | None = None
) -> list[Initiative]:
    """Fold findings, the most telling first."""
    data = Columns(table) if columns is None else columns
    folded: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        folded.setdefault((one.server, one.service), []).append(one)
    if not folded:
        return []
    rows_of = _Rows(data, {server for server, _ in folded})
    made = [_folded(data, some, rows_of.of(some)) for some in folded.values()]
    return sorted(made, key=_place)


def _place(one: Initiative) -> tuple[list[bool], int, str, str]:
    return [mark not in one.marks for mark in _ORDER], one.first, one.server, one.service


class _Rows:
    """Rows by server and service, of some servers."""

    def __init__(self, data: Columns, servers: set[str]) -> None:
        self._data = data
        self._ports = data.column("orig_port")
        self._places = {address: place for place, address in enumerate(data.traffic.addresses)}
        self._numbers = {server: self._places[server] for server in servers}
        wanted = np.zeros(len(data.traffic.addresses), bool)
        wanted[list(self._numbers.values())] = True
        self._by_server: dict[int, Ints] = {}
        for ends in (data.orig, data.resp):
            rows = np.flatnonzero(wanted[ends])
            rows = rows[np.argsort(ends[rows], kind="stable")]
            for some in np.split(rows, np.flatnonzero(np.diff(ends[rows])) + 1) if len(rows) else []:
                number = int(ends[some[0]])
                before = self._by_server.get(number, np.zeros(0, np.int64))
                self._by_server[number] = np.concatenate((before, some))

    def of(self, findings: list[Finding]) -> Ints:
        """The rows of findings about one server and one service. Rows in doubt may name the server as the responder."""
        data, one = self._data, findings[0]
        number = self._numbers[one.server]
        rows = self._by_server.get(number, np.zeros(0, np.int64))
        peers = [self._places[finding.destination] for finding in findings]
        rows = rows[np.isin(self._others(rows, number), peers)]
        asked: Bools = data.orig[rows] == number
        services = [place for place in distinct(data.services[rows]).tolist() if data.service(place) == one.service]
        is_service = np.isin(data.services[rows], services)
        # In doubt the service is the port of the other end, which the row has as the originator's.
        port = one.service.partition("/")[0]
        is_unsure = "unsure" in one.marks and port.isdigit()
        backwards = ~asked & (self._ports[rows] == int(port)) if is_unsure else np.zeros_like(asked)
        found: Ints = rows[(asked & is_service) | backwards]
        return found

    def _others(self, rows: Ints, number: int) -> Ints:
        data = self._data
        return np.where(data.orig[rows] == number, data.resp[rows], data.orig[rows])


def _folded(data: Columns, some: list[Finding], rows: Ints) -> Initiative:
    even = [one for one in some if one.score is not None]
    best = max(even, key=lambda one: (one.marks and "beacon" in one.marks, one.score or 0.0), default=None)
    starts = np.sort(data.start[rows])
    held = {mark for one in some for mark in one.marks}
    busiest = sorted(some, key=lambda one: (-one.connections, one.first, one.destination))
    many = len(starts) > MOST_TIMES
    return Initiative(
        server=some[0].server,
        role=some[0].role,
        service=some[0].service,
        destinations=len({one.destination for one in some}),
        named=tuple(dict.fromkeys(one.destination for one in busiest))[:_NAMED],
        connections=sum(one.connections for one in some),
        first=min(one.first for one in some),
        last=max(one.last for one in some),
        marks=tuple(mark for mark in MARKS if mark in held),
        period=best.period if best else None,
        score=best.score if best else None,
        even=best.connections if best else 0,
        offers=some[0].offers,
        breaks=some[0].breaks,
        times=() if many else tuple(starts.tolist()),
        histogram=_histogram(starts, data.start) if many else (),
    )


def _histogram(starts: Ints, whole: Ints) -> tuple[int, ...]:
    places = places_in_time(starts, int(whole.min()), int(whole.max()), BINS)
    return tuple(np.bincount(places, minlength=BINS).tolist())
