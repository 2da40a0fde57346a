"""The form in which a whole table is written: its format, its target, and the table that people read."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping

import click

from conntrack_py.io.formats import FORMATS, checked_format, format_of
from conntrack_py.io.output import write_text
from conntrack_py.table import ConnectionTable
from conntrack_py.track import HostName

HostNames = Mapping[str, tuple[HostName, ...]]


def check_target(format: str, output: str, by: str | None) -> None:
    """Refuse a binary format on a terminal, and a directory without a name."""
    if format in FORMATS and FORMATS[format].is_binary and output == "-" and sys.stdout.isatty():
        raise click.UsageError(f"{format} is binary: give -o FILE, or a pipe.")
    if by is not None and (output == "-" or format == "table"):
        raise click.UsageError("--by writes a directory: give -o DIR, and -f where its suffix tells no format.")


def check_limit(format: str, limit: int | None) -> None:
    """Refuse a number of rows for what is no table."""
    if limit is not None and format != "table":
        raise click.UsageError(f"--limit is for tables; this is {format}.")


def format_for(format: str | None, output: str) -> str:
    """The format: the one given, or that of the output."""
    if format is not None:
        return format
    if output == "-":
        return "table" if sys.stdout.isatty() else "csv"
    try:
        return checked_format(format_of(output))
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def print_table(table: ConnectionTable, names: HostNames, output: str, limit: int | None, *, plain: bool) -> None:
    """Print connections as a table of at most `limit` rows (100 for None), of the columns asked for where plain."""
    from conntrack_py.cli.render import connections, grid

    limit = 100 if limit is None else limit
    file = None if output == "-" else io.StringIO()
    out = grid.console() if file is None else grid.console(file, grid.FILE_WIDTH)
    if plain:
        connections.columns(out, table, limit)
    else:
        known = {address: {one.name: list(one.shown_by) for one in some} for address, some in names.items()}
        connections.connections(out, table, limit, known)
    if file is not None:
        write_text(output, file.getvalue())
