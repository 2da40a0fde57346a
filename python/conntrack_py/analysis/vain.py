"""Calls in vain: hosts that try many others, or many services of one, and are not answered.

A service tried on 15 hosts, or 15 services tried on one host, by one caller is a scan where at least half of the
caller's calls of that kind were in vain: unanswered, refused, or handshakes left without data. Zeek's scan detection
counts failed attempts in the same way (`Scan::addr_scan_threshold` 25, `Scan::port_scan_threshold` 15).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.columns import Columns
from conntrack_py.policy.traffic.keys import Bools, Ints, different, joined
from conntrack_py.table import ConnectionTable

#: Different hosts, or services of a host, from which calls in vain are a scan.
LEAST = 15
#: Services or hosts that are named of a caller.
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class VainCaller:
    """A host that tried many others, or many services of one, in vain.

    Attributes:
        caller: The address.
        local: It is in a local network.
        calls: Its connections to the hosts and services of these scans.
        in_vain: Those of `calls` that were unanswered, refused, or left without data.
        hosts: Different hosts that it tried in vain.
        services: Different services that it tried in vain.
        most: The services with the most calls in vain, at most five.
        targets: The hosts with the most calls in vain, at most five.
        first: When the first call in vain began, nanoseconds since 1970 UTC.
        last: When the last one began.
    """

    caller: str
    local: bool
    calls: int
    in_vain: int
    hosts: int
    services: int
    most: tuple[str, ...]
    targets: tuple[str, ...]
    first: int
    last: int


def calls_in_vain(table: ConnectionTable, *, columns: Columns | None = None) -> list[VainCaller]:
    """Find callers in vain, those with the most tried hosts and services first."""
    data = Columns(table) if columns is None else columns
    traffic = data.traffic
    vain = (~data.answered | traffic.because("probe", "refused", "unanswered")[data.rows]) & ~data.is_direction(
        "multicast"
    )
    earnest = ~data.is_direction("multicast")
    scans = _scans(data.orig, data.services, data.resp, vain, earnest)
    scans |= _scans(data.orig, data.resp, data.services, vain, earnest)
    rows = np.flatnonzero(scans)
    order = rows[np.argsort(data.orig[rows], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(data.orig[order])) + 1) if len(order) else []
    found = [_caller(data, some, vain) for some in parts]
    return sorted(found, key=lambda one: (-max(one.hosts, one.services), one.first, one.caller))


def _scans(callers: Ints, fixed: Ints, varied: Ints, vain: Bools, counted: Bools) -> Bools:
    """The calls of scans: of a caller and a fixed service (or host), tried in vain on many hosts (or services)."""
    _, groups = np.unique(joined(callers, fixed), return_inverse=True)
    number = int(groups.max()) + 1 if len(groups) else 0
    tried = different(groups[vain], varied[vain], number)
    all_calls = np.bincount(groups[counted], minlength=number)
    in_vain = np.bincount(groups[vain], minlength=number)
    is_scan = (tried >= LEAST) & (2 * in_vain >= all_calls)
    found: Bools = is_scan[groups] & counted
    return found


def _caller(data: Columns, rows: Ints, vain: Bools) -> VainCaller:
    mine = rows[vain[rows]]
    services, service_counts = np.unique(data.services[mine], return_counts=True)
    hosts, host_counts = np.unique(data.resp[mine], return_counts=True)
    local = bool(data.traffic.orig_local[data.rows[mine[0]]])
    return VainCaller(
        caller=data.name(int(data.orig[mine[0]])),
        local=local,
        calls=len(rows),
        in_vain=len(mine),
        hosts=len(hosts),
        services=len(services),
        most=tuple(data.service(int(services[place])) for place in _most(service_counts)),
        targets=tuple(data.name(int(hosts[place])) for place in _most(host_counts)),
        first=int(data.start[mine].min()),
        last=int(data.start[mine].max()),
    )


def _most(counts: Ints) -> list[int]:
    places: list[int] = np.argsort(-counts, kind="stable")[:_NAMED].tolist()
    return places
