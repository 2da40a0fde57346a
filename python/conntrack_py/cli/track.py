"""`conntrack-py track`: connections as a table, a file or a stream."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from conntrack_py.cli.options import (
    anonymise_option,
    anonymiser_of,
    config_of,
    input_options,
    names_option,
    need_standard_output,
    output_options,
    tracked,
)
from conntrack_py.cli.publish.rotation import rotation
from conntrack_py.cli.publish.written import check_limit, check_target, format_for, print_table
from conntrack_py.cli.view import check_columns, columns_option, sort_options, view_of, where_option
from conntrack_py.io.formats import FORMATS
from conntrack_py.tracker import Report


@click.command()
@input_options
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice(["table", *FORMATS]),
    help="Default: by the suffix of --output; else a table on a terminal, CSV in a pipe.",
)
@output_options
@where_option
@sort_options
@columns_option
@names_option
@anonymise_option
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), help="Rows of the table to show, 0 for all. Default: 100."
)
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Write connections as they close, as CSV or JSON Lines, in bounded memory. The originator is inferred from "
    "the packets so far. SIGTERM and Ctrl-C end the stream and write open connections. "
    "Default: for - to standard output.",
)
@click.option(
    "--follow", is_flag=True, help="Stream a file that is still growing, or a directory of rotated captures in order."
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Stream, resume from the checkpoint FILE if it exists, and save open connections in FILE for the next run. "
    "For a pipe and --follow FILE is also saved every minute. With --follow the next run goes on where this one was.",
)
@click.option(
    "--report",
    type=click.Choice(["closed", "gone"]),
    help="Stream, and write a connection as soon as its packets close it, or once its entry has left the table: after "
    "the close as long as a gateway keeps it, 2 minutes for TCP. Default: closed for a pipe and --follow, else gone.",
)
@click.option(
    "--live/--no-live",
    default=None,
    help="Stream, and let time advance by the clock of this machine while the input is silent, or by packets alone. "
    "Default: by the clock where a pipe's last packet is at most 10 seconds old.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Stream, and serve metrics for Prometheus; a port alone is one of 127.0.0.1. Needs the extra metrics.",
)
@click.option("--last", is_flag=True, help="With --state: the last run. Write open connections, and remove FILE.")
def track(
    files: tuple[str, ...],
    format: str | None,
    output: str,
    by: Any,
    rotate: tuple[str, ...],
    limit: int | None,
    stream: bool | None,
    follow: bool,
    state: str | None,
    report: Report | None,
    live: bool | None,
    metrics: str | None,
    last: bool,
    anonymise: str | None,
    where: str | None,
    columns: str | None,
    sort: str | None,
    top: int | None,
    names: bool,
    **options: Any,
) -> int:
    """List connections, one line each: originator, responder, packets and bytes.

    Several files are merged by time.
    """
    if stream is False and (follow or state is not None):
        raise click.UsageError("--follow and --state stream; leave --no-stream out.")
    if stream is False and (report is not None or live is not None or metrics is not None):
        raise click.UsageError("--report, --live and --metrics are for streams; leave --no-stream out.")
    if stream is False and rotate:
        raise click.UsageError("--rotate is for streams; leave --no-stream out.")
    if rotate and output == "-":
        raise click.UsageError("--rotate writes several files: give -o FILE, or -o DIR with --by.")
    if last and state is None:
        raise click.UsageError("--last ends what --state has begun: give --state, too.")
    if stream is None:
        by_line = [name for name, one in FORMATS.items() if one.by_line]
        may = output == "-" and limit is None and sort is None and top is None and format in (None, *by_line)
        given = (report, live, metrics, state, rotate or None)
        asked = follow or any(option is not None for option in given)
        stream = asked or (files == ("-",) and may)
    config = config_of(**options)
    view = dataclasses.replace(view_of(config, where, columns, sort, top), names=anonymiser_of(anonymise))
    if stream:
        from conntrack_py.cli import stream as streams

        if sort is not None or top is not None:
            raise click.UsageError("--sort and --top take all connections: leave streams out, or give --no-stream.")

        streams.check(format, limit)
        if follow:
            streams.check_follow(files)
        if output == "-":
            need_standard_output()
        chosen = format or ("csv" if output == "-" else format_for(None, output))
        check_target(chosen, output, by)
        check_columns(chosen, columns)
        target = sys.stdout.buffer if output == "-" else output
        if live and not follow and "-" not in files:
            raise click.UsageError("--live is for input that goes on: give - (standard input) or --follow.")
        wanted = streams.StreamOptions(
            files=files,
            target=target,
            format=chosen,
            by=by,
            rotation=rotation(rotate),
            state=state,
            last=last,
            follow=follow,
            report=report or ("closed" if follow or "-" in files else "gone"),
            live=bool(live) if follow else live,
            progress=bool(options["progress"]),
            metrics=metrics,
            view=view,
        )
        return streams.run(wanted, config)
    if output == "-":
        need_standard_output()
    chosen = format_for(format, output)
    check_limit(chosen, limit)
    check_target(chosen, output, by)
    check_columns(chosen, columns)
    named = names and anonymise is None and chosen == "table"
    result = tracked(files, config, options["progress"], names=named)
    table = view.of(result.connections)
    if chosen == "table":
        print_table(table, result.names or {}, output, limit, plain=columns is not None)
    else:
        table.write(sys.stdout.buffer if output == "-" else output, chosen, by=by)
    return 0
