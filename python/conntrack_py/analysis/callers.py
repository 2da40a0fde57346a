"""Hosts that initiate the most, and the largest connections, with bytes by who opened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack_py.analysis.columns import Columns, by_direction
from conntrack_py.policy.traffic.keys import different
from conntrack_py.policy.traffic.roles import UNSPECIFIED
from conntrack_py.table import Connection, ConnectionTable


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A host that initiates.

    Attributes:
        address: The address.
        local: It is in a local network.
        connections: Connections that it opened.
        answered: Those of them that were answered.
        hosts: Different hosts or groups that it called.
        sent: IP bytes that it sent in them.
        received: IP bytes that it was sent in them.
        directions: Numbers of them by direction, the most first.
        uses: The services of them with the most connections, at most three.
        services: Different services.
    """

    address: str
    local: bool
    connections: int
    answered: int
    hosts: int
    sent: int
    received: int
    directions: dict[str, int]
    uses: tuple[str, ...]
    services: int


@dataclass(frozen=True, kw_only=True)
class Largest:
    """One of the connections with the most IP bytes."""

    row: int
    connection: Connection


#: Services that are named of a caller.
_NAMED = 3


def callers(table: ConnectionTable, top: int = 10, *, columns: Columns | None = None) -> list[Caller]:
    """The hosts that opened the most connections."""
    data = Columns(table) if columns is None else columns
    number = len(data.traffic.addresses)
    opened = np.bincount(data.orig, minlength=number)
    opened[[place for place, address in enumerate(data.traffic.addresses) if address in UNSPECIFIED]] = 0
    busiest = [place for place in np.argsort(-opened, kind="stable")[:top].tolist() if opened[place]]
    wanted = np.zeros(number, bool)
    wanted[busiest] = True
    rows = np.flatnonzero(wanted[data.orig])
    hosts = different(data.orig[rows], data.resp[rows], number)
    by_host = {place: rows[data.orig[rows] == place] for place in busiest}
    return [_caller(data, place, some, int(hosts[place])) for place, some in by_host.items()]


def _caller(data: Columns, place: int, rows: np.ndarray[tuple[int], np.dtype[np.int64]], hosts: int) -> Caller:
    services, counts = np.unique(data.services[rows], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_NAMED].tolist()
    return Caller(
        address=data.name(place),
        local=bool(data.traffic.orig_local[data.rows[rows[0]]]),
        connections=len(rows),
        answered=int(data.answered[rows].sum()),
        hosts=hosts,
        sent=int(data.orig_bytes[rows].sum()),
        received=int(data.resp_bytes[rows].sum()),
        directions=by_direction(data, rows),
        uses=tuple(data.service(int(services[one])) for one in most),
        services=len(services),
    )


def largest(table: ConnectionTable, top: int = 6, *, columns: Columns | None = None) -> list[Largest]:
    """The connections with the most IP bytes, both ways together; of equal ones the earliest."""
    data = Columns(table) if columns is None else columns
    size = data.orig_bytes + data.resp_bytes
    order = np.lexsort((data.rows, -size))[:top].tolist()
    rows = [int(data.rows[place]) for place in order]
    return [Largest(row=row, connection=table[row]) for row in rows]
