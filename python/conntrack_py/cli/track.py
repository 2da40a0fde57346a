"""`conntrack-py track`: connections as a table, a file or a stream."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from conntrack_py.cli.options import config_of, input_options, need_standard_output, tracked
from conntrack_py.io.formats import FORMATS, checked_format, format_of
from conntrack_py.track import TrackResult


@click.command()
@input_options
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice(["table", *FORMATS]),
    help="Default: by the suffix of --output; else a table on a terminal, CSV in a pipe.",
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default).")
@click.option(
    "--by",
    type=click.Choice(["direction", "hour"]),
    help="Write a directory: a file for each direction, or for each hour (UTC) in which connections began.",
)
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
    "For a pipe FILE is also saved every minute.",
)
@click.option("--last", is_flag=True, help="With --state: the last run. Write open connections, and remove FILE.")
def track(
    files: tuple[str, ...],
    format: str | None,
    output: str,
    by: str | None,
    limit: int | None,
    stream: bool | None,
    follow: bool,
    state: str | None,
    last: bool,
    **options: Any,
) -> int:
    """List connections, one line each: originator, responder, packets and bytes.

    Several files are merged by time.
    """
    if stream is False and (follow or state is not None):
        raise click.UsageError("--follow and --state stream; leave --no-stream out.")
    if last and state is None:
        raise click.UsageError("--last ends what --state has begun: give --state, too.")
    if stream is None:
        by_line = [name for name, one in FORMATS.items() if one.by_line]
        may = output == "-" and limit is None and format in (None, *by_line)
        stream = follow or state is not None or (files == ("-",) and may)
    if stream:
        from conntrack_py.cli import stream as streams

        streams.check(format, limit)
        if follow:
            streams.check_follow(files, state)
        if output == "-":
            need_standard_output()
        chosen = format or ("csv" if output == "-" else _format(None, output))
        _check_target(chosen, output, by)
        target = sys.stdout.buffer if output == "-" else output
        return streams.run(
            files,
            config_of(**options),
            target,
            chosen,
            by,
            state=state,
            last=last,
            follows=follow,
            progress=bool(options["progress"]),
        )
    if output == "-":
        need_standard_output()
    chosen = _format(format, output)
    if limit is not None and chosen != "table":
        raise click.UsageError(f"--limit is for tables; this is {chosen}.")
    _check_target(chosen, output, by)
    result = tracked(files, config_of(**options), options["progress"])
    _write(result, chosen, output, by, 100 if limit is None else limit)
    return 0


def _check_target(format: str, output: str, by: str | None) -> None:
    if format in FORMATS and FORMATS[format].is_binary and output == "-" and sys.stdout.isatty():
        raise click.UsageError(f"{format} is binary: give -o FILE, or a pipe.")
    if by is not None and (output == "-" or format == "table"):
        raise click.UsageError("--by writes a directory: give -o DIR, and -f where its suffix tells no format.")


def _format(format: str | None, output: str) -> str:
    if format is not None:
        return format
    if output == "-":
        return "table" if sys.stdout.isatty() else "csv"
    try:
        return checked_format(format_of(output))
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _write(result: TrackResult, format: str, output: str, by: Any, limit: int) -> None:
    if format == "table":
        from conntrack_py.cli.render import connections, grid

        if output == "-":
            connections.connections(grid.console(), result.connections, limit)
        else:
            with click.open_file(output, "w", encoding="utf-8", atomic=_is_file(output)) as file:
                connections.connections(grid.console(file, grid.FILE_WIDTH), result.connections, limit)
    else:
        result.connections.write(sys.stdout.buffer if output == "-" else output, format, by=by)


def _is_file(output: str) -> bool:
    """True for a regular file or a new one: devices and pipes cannot be replaced atomically."""
    return os.path.isfile(output) or not os.path.exists(output)
