"""`conntrack-py label` and `conntrack-py split`: packets written back with their connections."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.cli.options import config_of, input_options, need_standard_output, watched
from conntrack_py.exceptions import ConntrackError
from conntrack_py.track import TrackResult


@click.command()
@input_options
@click.option("-o", "--output", metavar="FILE", required=True, help="The pcapng file to write; - is standard output.")
def label(files: tuple[str, ...], output: str, **options: Any) -> None:
    """Write the same packets as pcapng, each with its direction bits and a comment that names the initiator.

    The captures are read twice. Wireshark shows frame.comment and frame.packet_flags_direction.
    """
    from conntrack_py import annotate

    target: Any = output
    if output == "-":
        need_standard_output()
        if sys.stdout.isatty():
            raise click.UsageError("pcapng is binary: give -o FILE, or a pipe.")
        target = sys.stdout.buffer
    config = config_of(**options)
    _twice(options["progress"], lambda bar: annotate.label(files, target, config=config, progress=bar))


@click.command()
@input_options
@click.option("-o", "--output", metavar="DIR", required=True, help="The directory to write to.")
def split(files: tuple[str, ...], output: str, **options: Any) -> None:
    """Write one pcapng file for each direction: egress.pcapng, ingress.pcapng, ...

    The captures are read twice. What is in no connection goes to none.pcapng.
    """
    from conntrack_py import annotate

    config = config_of(**options)
    _twice(options["progress"], lambda bar: annotate.split(files, output, config=config, progress=bar)[0])


def _twice(progress: bool | None, work: Callable[[Any], TrackResult]) -> None:
    """Run work that reads its captures twice; report an unsuitable source in one line."""
    try:
        log.read(watched(progress, work).stats)
    except ConntrackError:
        raise
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
