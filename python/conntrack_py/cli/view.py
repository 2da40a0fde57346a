"""The part of the connections that is written: a condition, an order, a number, columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from conntrack_py.config import Config
from conntrack_py.exceptions import WhereError
from conntrack_py.table import Anonymiser, ConnectionTable
from conntrack_py.tracker import Tracker
from conntrack_py.where import Condition, condition, key_of, order

#: Formats whose columns are given.
_FIXED = ("conntrack", "zeek", "ipfix", "ecs")

where_option = click.option(
    "--where",
    metavar="CONDITION",
    help="Only connections for which a condition holds, such as "
    "'direction == \"egress\" and resp_port in [80, 443] and resp_addr not in 10.0.0.0/8'.",
)
columns_option = click.option(
    "--columns", metavar="NAMES", help="The columns to write, separated by commas, in this order."
)


def sort_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--sort` and `--top`."""
    for option in (
        click.option("--top", metavar="N", type=click.IntRange(min=1), help="Only the first N connections, as sorted."),
        click.option(
            "--sort", metavar="COLUMN", help="Order by a column, duration, bytes or packets; -bytes: the largest first."
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class View:
    """A part of a table, its order, and names in place of addresses."""

    condition: Condition | None = None
    sort: str | None = None
    top: int | None = None
    columns: tuple[str, ...] = ()
    names: Anonymiser | None = None

    def of(self, table: ConnectionTable) -> ConnectionTable:
        """The table as it is written."""
        if self.condition is not None:
            table = table[self.condition.mask(table)]
        if self.sort is not None:
            table = table[order(self.sort, table)]
        if self.top is not None:
            table = table[: self.top]
        if self.names is not None:
            table = self.names.table(table)
        return table[list(self.columns)] if self.columns else table


def view_of(
    config: Config,
    where: str | None,
    columns: str | None,
    sort: str | None = None,
    top: int | None = None,
    table: ConnectionTable | None = None,
) -> View:
    """The view of the options, checked before anything is read; of flow logs, against the `table` that was read."""
    if where is None and columns is None and sort is None:
        return View(top=top)
    # Of no packets: what it has is the columns and the words.
    table = Tracker(config).drain() if table is None else table
    names = tuple(name.strip() for name in (columns or "").split(",")) if columns is not None else ()
    try:
        option = "--where"
        found = condition(where, table) if where is not None else None
        option = "--columns"
        for name in names:
            if name not in table.columns:
                key_of(name, table[[*table.columns]])
                raise WhereError(f"found {name!r}, expected columns of the table: {', '.join(table.columns)}")
        if len(set(names)) < len(names):
            raise WhereError(f"found {columns!r}, expected each column once")
        option = "--sort"
        if sort is not None:
            key_of(sort, table)
    except WhereError as error:
        raise WhereError(f"{option}: {error}") from error
    return View(condition=found, sort=sort, top=top, columns=names)


def check_columns(format: str, columns: str | None) -> None:
    """Refuse columns for a format that has its own."""
    if columns is not None and format in _FIXED:
        raise click.UsageError(f"--columns: {format} has columns of its own.")
