"""The rows that the browser shows: those of a condition, in an order, as texts of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.reporting.words import EVIDENCE_MEANINGS
from conntrack_py.table import Connection, ConnectionTable
from conntrack_py.where import condition, ranks


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the browser.

    Attributes:
        name: Its head.
        width: Characters of it.
        right: Numbers stand at the right.
        key: The column of the table that it is sorted by.
        cell: The text of a row.
    """

    name: str
    width: int
    key: str
    cell: Callable[[Connection], str]
    right: bool = False


#: Columns in their order; those that fit are shown.
COLUMNS = (
    Column(name="time", width=8, key="start", cell=lambda row: text.moment(row.start, "s")[11:]),
    Column(name="direction", width=9, key="direction", cell=lambda row: row.direction),
    Column(name="originator", width=15, key="orig_addr", cell=lambda row: row.orig_addr),
    Column(name="responder", width=15, key="resp_addr", cell=lambda row: row.resp_addr),
    Column(name="service", width=9, key="resp_port", cell=text.service_of),
    Column(name="sent", width=7, key="orig_ip_bytes", cell=lambda row: text.size(row.orig_ip_bytes), right=True),
    Column(name="received", width=8, key="resp_ip_bytes", cell=lambda row: text.size(row.resp_ip_bytes), right=True),
    Column(name="state", width=12, key="state", cell=lambda row: row.state),
    Column(name="evidence", width=14, key="evidence", cell=lambda row: row.evidence),
    Column(name="confidence", width=10, key="confidence", cell=lambda row: f"{row.confidence:.2f}", right=True),
)


class View:
    """Rows of a table by a condition and an order."""

    def __init__(self, table: ConnectionTable) -> None:
        self.table = table
        self.where = ""
        self.sorted_by = COLUMNS[0]
        self.descending = False
        self._kept: NDArray[np.int64] = np.arange(len(table))
        self.rows: NDArray[np.int64] = self._kept

    def keep(self, where: str) -> None:
        """Show only the rows for which a condition holds; "" shows all.

        Raises:
            WhereError: It is no condition. The rows stay as they are.
        """
        where = where.strip()
        kept = np.flatnonzero(condition(where, self.table).mask(self.table)) if where else np.arange(len(self.table))
        self.where, self._kept = where, kept.astype(np.int64)
        self._order()

    def sort(self, column: Column, descending: bool) -> None:
        """Sort by a column; equal rows stay in the order of their first packets."""
        self.sorted_by, self.descending = column, descending
        self._order()

    def _order(self) -> None:
        ranks = self._ranks[self.sorted_by.key][self._kept]
        self.rows = self._kept[np.argsort(-ranks if self.descending else ranks, kind="stable")]

    @cached_property
    def _ranks(self) -> _Ranks:
        return _Ranks(self.table)

    def row(self, place: int) -> Connection:
        """The connection at a place of the view."""
        return self.table[int(self.rows[place])]

    def cells(self, place: int, columns: list[Column]) -> list[str]:
        """The texts of a row, each of its column's width."""
        row = self.row(place)
        return [_fitted(column.cell(row), column) for column in columns]


class _Ranks(dict[str, NDArray[np.int64]]):
    """Column → rank of each row, made when it is asked for."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table

    def __missing__(self, name: str) -> NDArray[np.int64]:
        self[name] = found = ranks(name, self._table)
        return found


def _fitted(words: str, column: Column) -> str:
    words = text.cut(words, column.width)
    return words.rjust(column.width) if column.right else words.ljust(column.width)


def fitting(width: int) -> list[Column]:
    """The columns that fit a width, with a blank between two. Wider terminals give addresses room for IPv6."""
    found: list[Column] = []
    left = width + 1
    for column in COLUMNS:
        if column.width + 1 > left:
            break
        found.append(column)
        left -= column.width + 1
    return found


def details(row: Connection, number: int) -> list[tuple[str, str]]:
    """Facts of a connection for the pane, the evidence first."""

    def end(addr: str, port: int, packets: int, size: int) -> str:
        return f"{text.endpoint(addr, port, row.proto)}  {text.counted(packets, 'packet')}, {text.size(size)}"

    span = None if row.start is None or row.end is None else row.end - row.start
    facts = [
        ("evidence", f"{row.evidence}: {EVIDENCE_MEANINGS[row.evidence]} (confidence {row.confidence:.2f})"),
        ("originator", end(row.orig_addr, row.orig_port, row.orig_pkts, row.orig_ip_bytes)),
        ("responder", end(row.resp_addr, row.resp_port, row.resp_pkts, row.resp_ip_bytes)),
        ("first packet", f"{text.moment(row.start, 'us')} UTC, by the {'responder' if row.flipped else 'originator'}"),
        ("lasted", "-" if span is None else text.span(span)),
        ("state", f"{row.state}, {row.conn_state}, history {row.history or '-'}, {row.end_reason}"),
        ("gateway", f"{'assured' if row.assured else 'not assured'}, {'reply seen' if row.seen_reply else 'no reply'}"),
    ]
    more = (
        ("zones", f"{row.orig_zone or '-'} to {row.resp_zone or '-'}" if row.orig_zone or row.resp_zone else ""),
        ("vlan", "" if row.vlan is None else f"{row.vlan}"),
        ("tunnel", row.tunnel or ""),
        ("related to", "" if row.related_to is None else f"row {row.related_to:,}"),
    )
    return [*facts, *(fact for fact in more if fact[1]), ("row", f"{number:,}, {row.community_id}")]
