"""Columns that the analyses share: a table's connections without ICMP errors, with hosts and directions as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.policy.traffic.keys import Bools, Ints
from conntrack_py.policy.traffic.pairs import Traffic, refusals
from conntrack_py.table import ConnectionTable


class Columns:
    """Rows that somebody initiated, and the numbers of their hosts, services and directions.

    Attributes:
        traffic: All rows.
        rows: Indices of the rows that are counted: all but ICMP errors, which initiate nothing.
    """

    def __init__(self, table: ConnectionTable, traffic: Traffic | None = None) -> None:
        self.table = table
        self.traffic = Traffic(table) if traffic is None else traffic
        errors = self.traffic.because("icmp_error")
        self.rows: Ints = np.flatnonzero(~errors)
        codes, self.directions = table.codes("direction")
        self.direction = codes[self.rows]
        self.orig, self.resp = self.traffic.orig[self.rows], self.traffic.resp[self.rows]
        self.start, self.services = self.traffic.start[self.rows], self.traffic.services[self.rows]
        self.orig_bytes, self.resp_bytes = self.column("orig_ip_bytes"), self.column("resp_ip_bytes")
        #: True where the responder answered with more than a refusal.
        self.answered: Bools = (self.column("resp_pkts") > 0) & ~refusals(table)[self.rows]

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers, of the counted rows."""
        found: NDArray[Any] = self.table[name][self.rows]
        return found

    def is_direction(self, word: str) -> Bools:
        """The counted rows of a direction."""
        found: Bools = np.equal(self.direction, self.directions.index(word))
        return found

    def name(self, host: int) -> str:
        """The address of a host's number."""
        return self.traffic.addresses[host]

    def service(self, number: int) -> str:
        """A service's number as people write it: `443/tcp`."""
        return text.service(*self.traffic.service_of(number))


def places_in_time(times: Ints, first: int, last: int, cells: int) -> Ints:
    """The cell of each time, 0 to `cells` - 1, of as many equal cells between two times."""
    # Times of 1970 ± 292 years: the difference needs 64 unsigned bits.
    since = (times.view(np.uint64) - np.uint64(first % (1 << 64))).astype(np.float64)
    found: Ints = np.clip((since / max(last - first, 1) * cells).astype(np.int64), 0, cells - 1)
    return found


def by_direction(columns: Columns, rows: Any) -> dict[str, int]:
    """Numbers of connections of each direction among some counted rows, the most first."""
    counts = np.bincount(columns.direction[rows], minlength=len(columns.directions))
    order = np.argsort(-counts, kind="stable").tolist()
    return {columns.directions[code]: int(counts[code]) for code in order if counts[code]}
