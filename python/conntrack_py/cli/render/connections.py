"""Connections as a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.markup import escape

from conntrack_py import text
from conntrack_py.cli.render import names
from conntrack_py.cli.render.grid import IPV4, SERVICE, Grid, count, direction, say
from conntrack_py.cli.render.names import Names
from conntrack_py.summaries import UNSURE
from conntrack_py.table import Connection, ConnectionTable
from conntrack_py.table.row import shown_values

_UNSURE_NOTE = "? nothing in the capture says who initiated: a guess (the first sender seen), a scan, or its echo"
#: Width from which on every row has its date.
_DATED = 160


def is_unsure(row: Connection) -> bool:
    """True where the originator of a connection is only a guess."""
    return row.evidence in UNSURE


def columns(out: Console, table: ConnectionTable, limit: int) -> None:
    """Print the chosen columns of the first `limit` connections (0: all)."""
    grid = Grid(2, "bold")
    for name in table.columns:
        wide = name in ("history", "community_id", "state", "evidence") or name.endswith("_zone")
        is_address = name.endswith("_addr")
        grid.column(name, right=_is_number(table, name), least=IPV4 if is_address else 8 if wide else None)
    for row in islice(table, limit or None):
        grid.row(*(escape(text.printable(cell)) for cell in shown_values(row)))
    grid.print(out)
    _rest(out, table, min(len(table), limit or len(table)))


def _is_number(table: ConnectionTable, name: str) -> bool:
    dtype = table[:0][name].dtype
    return dtype.kind in "iuf"


def _rest(out: Console, table: ConnectionTable | Sequence[Connection], shown: int) -> None:
    if len(table) > shown:
        rest = len(table) - shown
        say(out, f"[dim]... and {rest:,} more of {count(len(table), 'connection')}; --limit 0 shows all[/]")


def connections(
    out: Console, table: ConnectionTable | Sequence[Connection], limit: int, known: Names | None = None
) -> None:
    """Print the first `limit` connections (0: all), with as many columns as the width allows.

    Args:
        out: The terminal.
        table: The connections.
        limit: How many.
        known: Names of addresses.
    """
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
            grid.column("packets", right=True, spare=3)
        grid.column(sender, right=True)
    if wide >= 140:
        grid.column("evidence", spare=2)
    day = None
    for row in shown:
        if days and not dated and _day(row, unit) != day:
            day = _day(row, unit)
            grid.row(f"[dim]{day}[/]")
        grid.row(*_cells(row, wide, dated, known or {}))
    grid.print(out)
    _rest(out, table, len(shown))
    if any(map(is_unsure, shown)):
        say(out, f"[dim]{_UNSURE_NOTE}[/]")


def _day(row: Connection, unit: str) -> str:
    return text.moment(row.start, unit).split()[0]


def _cells(row: Connection, wide: int, dated: bool, known: Names) -> Iterable[str]:
    moment = text.moment(row.start, "ms" if wide >= 100 else "s")
    yield moment if dated else moment.split()[-1]
    yield direction(row.direction, is_unsure(row))
    # An originator's port says little; where there is room it is shown.
    orig = text.endpoint(row.orig_addr, row.orig_port or 0, row.proto) if wide >= 100 else row.orig_addr
    # `[fe80::1]` would be markup.
    # An endpoint has no name of its own.
    yield names.host(row.orig_addr, known) if orig == row.orig_addr and wide >= 100 else escape(orig)
    yield names.host(row.resp_addr, known if wide >= 100 else {})
    yield names.service(text.service_of(row), wide >= 120)
    if wide >= 120:
        yield row.state or "-"
    for packets, size in ((row.orig_pkts, row.orig_ip_bytes), (row.resp_pkts, row.resp_ip_bytes)):
        # A flow log may count nothing.
        if wide >= 140:
            yield "-" if packets is None else f"{packets:,}"
        yield "-" if size is None else text.size(size)
    if wide >= 140:
        yield row.evidence
