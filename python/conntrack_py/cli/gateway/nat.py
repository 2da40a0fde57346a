"""`conntrack-py nat`: connections before and behind a translation."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.cli.options import config_of, config_options, need_standard_output, watched
from conntrack_py.cli.view import where_option
from conntrack_py.io.formats import FORMATS, checked_format, format_of
from conntrack_py.io.output import write_text

#: Options that take every argument up to the next option.
_GREEDY = ("--inside", "--outside", "--memory")


class _Sides(click.Command):
    """A command whose options of files take several: `--inside a.pcap b.pcap`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its files."""
        return super().parse_args(ctx, spread(args))


def spread(args: Sequence[str]) -> list[str]:
    """The arguments with the name of the option before each of its files."""
    made: list[str] = []
    option = None
    for arg in args:
        if arg.startswith("-") and arg != "-":
            option = arg if arg in _GREEDY else None
            made += [] if option else [arg]
        else:
            made += [option, arg] if option else [arg]
    return made


def _files(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name, metavar="FILE...", multiple=True, type=click.Path(allow_dash=True), help=text, required=name == "--inside"
    )


@click.command(cls=_Sides)
@_files("--inside", "Captures of the inside: before sources are translated.")
@_files("--outside", "Captures of the outside.")
@_files("--memory", "The gateway's own table: logs of conntrack -E or -L. It stands where pairs differ from it.")
@click.option(
    "--offset",
    metavar="SECONDS",
    type=float,
    help="The clock of the outside less that of the inside, where it is known. Default: found from sure pairs.",
)
@click.option(
    "--progress/--no-progress",
    default=None,
    help="Show a progress bar on standard error. Default: on a terminal, for long runs.",
)
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice(["table", "json", *FORMATS]),
    help="Default: by the suffix of --output; else tables on a terminal, CSV in a pipe. json: what the gateway hides.",
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default).")
@click.option(
    "--side",
    type=click.Choice(["inside", "outside"]),
    default="inside",
    show_default=True,
    help="Whose connections are listed; nat_ columns have the ends as the other side sees them.",
)
@where_option
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), default=20, show_default=True, help="Rows of tables; 0: all."
)
@config_options
def nat(
    inside: tuple[str, ...],
    outside: tuple[str, ...],
    memory: tuple[str, ...],
    offset: float | None,
    progress: bool | None,
    format: str | None,
    output: str,
    side: str,
    where: str | None,
    limit: int,
    **options: Any,
) -> None:
    """Join connections on both sides of a gateway, and name the hosts behind its address."""
    from conntrack_py import nat as translating

    if not outside and not memory:
        raise click.UsageError("found neither --outside nor --memory, expected captures of the outside or a log.")
    if side == "outside" and not outside:
        raise click.UsageError("--side outside lists captures of the outside: give --outside, too.")
    if output == "-":
        need_standard_output()
    chosen = _format(format, output)
    config = config_of(**options)
    result = watched(
        progress,
        lambda bar: translating.correlate(
            inside, outside or None, memory=list(memory) or None, config=config, offset=offset, progress=bar
        ),
    )
    log.read(result.inside_stats)
    if result.outside_stats is not None:
        log.read(result.outside_stats)
    table = result.connections if side == "inside" or result.outside is None else result.outside
    table = table.where(where) if where else table
    if chosen == "json":
        from conntrack_py.schema import dumps

        write = click.echo if output == "-" else lambda text, nl: write_text(output, text)
        write(dumps(translating.as_json(result)), nl=False)
    elif chosen == "table":
        _print(result, table, output, limit)
    else:
        table.write(sys.stdout.buffer if output == "-" else output, chosen)


def _format(format: str | None, output: str) -> str:
    if format is None and output == "-":
        return "table" if sys.stdout.isatty() else "csv"
    try:
        chosen = format or checked_format(format_of(output))
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    if chosen in FORMATS and FORMATS[chosen].is_binary and output == "-" and sys.stdout.isatty():
        raise click.UsageError(f"{chosen} is binary: give -o FILE, or a pipe.")
    return chosen


def _print(result: Any, table: Any, output: str, limit: int) -> None:
    from conntrack_py.cli.render import grid
    from conntrack_py.cli.render import nat as render

    file = None if output == "-" else io.StringIO()
    out = grid.console() if file is None else grid.console(file, grid.FILE_WIDTH)
    render.translations(out, result, table, limit)
    if file is not None:
        write_text(output, file.getvalue())
