"""`conntrack-py live`: connections of what passes interfaces of this machine."""

from __future__ import annotations

import sys
from typing import Any

import click

from conntrack_py.cli.options import config_of, config_options, need_standard_output, output_options
from conntrack_py.cli.publish.rotation import rotation
from conntrack_py.cli.publish.written import check_target, format_for
from conntrack_py.cli.view import check_columns, columns_option, view_of, where_option
from conntrack_py.io.formats import FORMATS
from conntrack_py.tracker import Report

#: Bytes of the units of a size.
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(context: click.Context, param: click.Parameter, text: str) -> int:
    """The bytes of `65536`, `64K`, `32M`, `1G`."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if unit not in _UNITS or not (number.isascii() and number.isdecimal()) or len(number) > 12:
        raise click.BadParameter(f"found {text!r}, expected bytes such as 65536, 64K, 32M or 1G", context, param)
    return int(number) * _UNITS[unit]


@click.command()
@click.argument("interfaces", metavar="INTERFACE...", nargs=-1, required=True)
@click.option(
    "--filter",
    metavar="FILTER",
    help="Packets to capture, in the words of tcpdump: host, net, port, portrange, src, dst, tcp, udp, ... with and, "
    "or and not. @FILE: a compiled filter, the output of tcpdump -ddd.",
)
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice([*FORMATS]),
    help="Default: by the suffix of --output, else CSV.",
)
@output_options
@where_option
@columns_option
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Resume from the checkpoint FILE if it exists, and save open connections in FILE, also every minute.",
)
@click.option("--last", is_flag=True, help="With --state: the last run. Write open connections, and remove FILE.")
@click.option(
    "--report",
    type=click.Choice(["closed", "gone"]),
    default="closed",
    help="Write a connection as soon as its packets close it (default), or once its entry has left the table.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Serve metrics for Prometheus; a port alone is one of 127.0.0.1. Needs the extra metrics.",
)
@click.option(
    "--snaplen", metavar="BYTES", default="256K", callback=_size, help="Bytes of a packet to capture. Default: 256K."
)
@click.option(
    "--buffer-size",
    metavar="BYTES",
    default="32M",
    callback=_size,
    help="Bytes of the kernel's buffer. A full one drops packets, which are counted. Default: 32M.",
)
@click.option(
    "--promiscuous/--no-promiscuous", default=True, help="Capture also packets for other hosts. Default: yes."
)
@click.option("--progress/--no-progress", default=False, help="Show packets and bytes on standard error.")
@config_options
def live(
    interfaces: tuple[str, ...],
    filter: str | None,
    format: str | None,
    output: str,
    by: str | None,
    rotate: tuple[str, ...],
    state: str | None,
    last: bool,
    report: Report,
    metrics: str | None,
    where: str | None,
    columns: str | None,
    **options: Any,
) -> int:
    """Track what passes interfaces of this machine, and list connections as they close.

    INTERFACE is a name such as eth0, or any for all. Linux only; needs root or CAP_NET_RAW. SIGTERM and Ctrl-C end it:
    packets that have passed are tracked, and open connections are written.
    """
    from conntrack_py.cli import stream as streams
    from conntrack_py.interfaces import live as capture

    if last and state is None:
        raise click.UsageError("--last ends what --state has begun: give --state, too.")
    if rotate and output == "-":
        raise click.UsageError("--rotate writes several files: give -o FILE, or -o DIR with --by.")
    if output == "-":
        need_standard_output()
    chosen = format or ("csv" if output == "-" else format_for(None, output))
    streams.check(chosen, None)
    check_target(chosen, output, by)
    check_columns(chosen, columns)
    config = config_of(**options)
    view = view_of(config, where, columns)
    try:
        source = capture.live(
            *interfaces,
            filter=filter,
            snaplen=options["snaplen"],
            buffer_size=options["buffer_size"],
            promiscuous=options["promiscuous"],
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    with source:
        wanted = streams.StreamOptions(
            files=(),
            target=sys.stdout.buffer if output == "-" else output,
            format=chosen,
            by=by,
            rotation=rotation(rotate),
            state=state,
            last=last,
            follow=False,
            report=report,
            live=True,
            progress=bool(options["progress"]),
            interfaces=source,
            metrics=metrics,
            view=view,
        )
        status = streams.run(wanted, config)
        if source._gone is not None:
            raise source._gone
    return status
