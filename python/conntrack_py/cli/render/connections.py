"""Connections as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render.grid import IPV4, SERVICE, Grid, direction
from conntrack_py.summary import UNSURE
from conntrack_py.table import Connection, ConnectionTable

_UNSURE_NOTE = "? nothing in the capture says who initiated: a guess (the first sender seen), a scan, or its echo"
#: Width from which on every row has its date.
_DATED = 160


def is_unsure(row: Connection) -> bool:
    """True where the originator of a connection is only a guess."""
    return row.evidence in UNSURE


def connections(out: Console, table: ConnectionTable | Sequence[Connection], limit: int) -> None:
    """Print the first `limit` connections (0: all), with as many columns as the width allows."""
    shown = list(islice(table, limit or None))
    wide = out.width
    unit = "ms" if wide >= 100 else "s"
    days = len({_day(row, unit) for row in shown}) > 1
    # Where room is short each day has a line of its own.
    dated = days and wide >= _DATED
    grid = Grid(2 if wide >= 100 else 1, "bold")
    grid.column("time (UTC)" if wide >= 100 else "time", spare=1)
    grid.column("direction")
    grid.column("originator", least=IPV4, wish=IPV4)
    grid.column("responder", least=IPV4, wish=IPV4)
    grid.column("service", least=SERVICE)
    if wide >= 120:
        grid.column("state")
    for sender in ("sent", "received"):
        if wide >= 140:
            grid.column("packets", right=True)
        grid.column(sender, right=True)
    if wide >= 140:
        grid.column("evidence", spare=2)
    day = None
    for row in shown:
        if days and not dated and _day(row, unit) != day:
            day = _day(row, unit)
            grid.row(f"[dim]{day}[/]")
        grid.row(*_cells(row, wide, dated))
    grid.print(out)
    rest = len(table) - len(shown)
    if rest:
        out.print(f"[dim]... and {rest:,} more of {len(table):,} connections; --limit 0 shows all[/]")
    if any(map(is_unsure, shown)):
        out.print(f"[dim]{_UNSURE_NOTE}[/]")


def _day(row: Connection, unit: str) -> str:
    return text.moment(row.start, unit).split()[0]


def _cells(row: Connection, wide: int, dated: bool) -> Iterable[str]:
    moment = text.moment(row.start, "ms" if wide >= 100 else "s")
    yield moment if dated else moment.split()[-1]
    yield direction(row.direction, is_unsure(row))
    # An originator's port says little; where there is room it is shown.
    orig = text.endpoint(row.orig_addr, row.orig_port, row.proto) if wide >= 100 else row.orig_addr
    # `[fe80::1]` would be markup.
    yield escape(orig)
    yield row.resp_addr
    yield text.service(row.proto, row.orig_port if text.is_icmp(row.proto) else row.resp_port)
    if wide >= 120:
        yield row.state
    for packets, size in ((row.orig_pkts, row.orig_ip_bytes), (row.resp_pkts, row.resp_ip_bytes)):
        if wide >= 140:
            yield f"{packets:,}"
        yield text.size(size)
    if wide >= 140:
        yield row.evidence
