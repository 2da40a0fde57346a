"""`conntrack-py flows`: flow logs as connections."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from conntrack_py.cli import log, logs
from conntrack_py.cli.options import (
    anonymise_option,
    anonymiser_of,
    config_of,
    log_options,
    need_standard_output,
    read_logs,
)
from conntrack_py.cli.publish.written import check_limit, check_target, format_for, print_table
from conntrack_py.cli.view import check_columns, columns_option, sort_options, view_of, where_option
from conntrack_py.config import FLOW_KINDS
from conntrack_py.io.formats import FORMATS


@click.command()
@log_options
@click.option(
    "--kind",
    type=click.Choice(FLOW_KINDS),
    help="The kind of the logs. Default: guessed from the content of each file.",
)
@logs.fields_option
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice(["table", *FORMATS]),
    help="Default: by the suffix of --output; else a table on a terminal, CSV in a pipe.",
)
@click.option(
    "--by",
    type=click.Choice(["direction", "hour"]),
    help="Write a directory: a file for each direction, or for each hour (UTC) in which connections began.",
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default).")
@where_option
@sort_options
@columns_option
@anonymise_option
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), help="Rows of the table to show, 0 for all. Default: 100."
)
def flows(
    files: tuple[str, ...],
    kind: str | None,
    format: str | None,
    by: Any,
    output: str,
    where: str | None,
    sort: str | None,
    top: int | None,
    columns: str | None,
    anonymise: str | None,
    limit: int | None,
    **options: Any,
) -> None:
    """List the connections of flow logs, one line each, with the initiator as far as the logs know.

    FILE is a log of AWS, Azure, Google Cloud, Zeek, Suricata, NetFlow, IPFIX or conntrack, plain or compressed, or a
    directory of logs. Their order makes no difference.
    """
    if output == "-":
        need_standard_output()
    chosen = format_for(format, output)
    check_limit(chosen, limit)
    check_target(chosen, output, by)
    check_columns(chosen, columns)
    nothing: dict[str, Any] = dict.fromkeys(("profile", "threads", "tunnels", "max_connections", "memory_limit"))
    config = config_of(**nothing, strict=False, **options)
    read = read_logs(files, config, options["progress"], kind or logs.GUESS)
    log.read(read.stats)
    view = view_of(config, where, columns, sort, top, read.connections)
    table = dataclasses.replace(view, names=anonymiser_of(anonymise)).of(read.connections)
    if chosen == "table":
        print_table(table, {}, output, limit, plain=columns is not None)
    else:
        table.write(sys.stdout.buffer if output == "-" else output, chosen, by=by)
