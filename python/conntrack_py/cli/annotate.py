"""`conntrack-py label` and `conntrack-py split`: packets written back with their connections."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.cli.options import (
    anonymise_option,
    anonymiser_of,
    config_of,
    input_options,
    need_standard_output,
    watched,
)
from conntrack_py.exceptions import ConntrackError
from conntrack_py.text import counted, printable, size
from conntrack_py.track import TrackResult

#: Ends of names that say another format than is written.
_OTHER_FORMATS = (".pcap", ".cap", ".snoop", ".gz", ".zst", ".lz4", ".xz", ".bz2")


@click.command()
@input_options
@anonymise_option
@click.option("-o", "--output", metavar="FILE", required=True, help="The pcapng file to write; - is standard output.")
def label(files: tuple[str, ...], output: str, anonymise: str | None, **options: Any) -> None:
    """Write the same packets as pcapng, each with its direction bits and a comment that names the initiator.

    The captures are read twice. Wireshark shows frame.comment and frame.packet_flags_direction.
    """
    from conntrack_py import annotate

    target: Any = output
    if output.lower().endswith(_OTHER_FORMATS):
        # Only pcapng has comments and direction bits.
        name = printable(output)
        raise click.UsageError(f"--output {name}: label writes pcapng, uncompressed; give a name that ends in .pcapng.")
    if output == "-":
        need_standard_output()
        if sys.stdout.isatty():
            raise click.UsageError("pcapng is binary: give -o FILE, or a pipe.")
        target = sys.stdout.buffer
    config, names = config_of(**options), anonymiser_of(anonymise)
    result = _twice(
        options["progress"], lambda bar: annotate.label(files, target, config=config, progress=bar, names=names)
    )
    if output != "-":
        packets, written = result.stats.packets, size(os.path.getsize(output))
        log.wrote([output], f"{printable(output)}: {counted(packets, 'packet')}, {written}")


@click.command()
@input_options
@anonymise_option
@click.option("-o", "--output", metavar="DIR", required=True, help="The directory to write to.")
def split(files: tuple[str, ...], output: str, anonymise: str | None, **options: Any) -> None:
    """Write one pcapng file for each direction: egress.pcapng, ingress.pcapng, ...

    The captures are read twice. What is in no connection goes to none.pcapng.
    """
    from conntrack_py import annotate

    config, names = config_of(**options), anonymiser_of(anonymise)
    paths: list[str] = []

    def work(bar: Any) -> TrackResult:
        result, found = annotate.split(files, output, config=config, progress=bar, names=names)
        paths.extend(map(str, found))
        return result

    _twice(options["progress"], work)
    sizes = ", ".join(f"{printable(os.path.basename(path))} ({size(os.path.getsize(path))})" for path in paths)
    log.wrote(paths, f"{printable(output)}: {sizes or 'no file, as there was no packet'}")


def _twice(progress: bool | None, work: Callable[[Any], TrackResult]) -> TrackResult:
    """Run work that reads its captures twice; report an unsuitable source in one line."""
    try:
        result = watched(progress, work)
        log.read(result.stats)
        return result
    except ConntrackError:
        raise
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
