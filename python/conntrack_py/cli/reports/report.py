"""`conntrack-py report`: who initiated what, as a page or a picture."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.cli.logs import flows_options
from conntrack_py.cli.options import (
    anonymise_option,
    anonymiser_of,
    config_of,
    input_options,
    inventory_option,
    need_standard_output,
    source_of,
    tracked,
    translations_option,
    watched,
)
from conntrack_py.cli.view import where_option

#: Names of the charts of `reporting`, which is imported once there is a report to make.
_CHARTS = ("answer", "servers", "matrix", "volume", "timeline", "rules")
#: Formats by the suffix of the file.
_SUFFIXES = {".html": "html", ".htm": "html", ".svg": "svg", ".png": "png"}


@click.command()
@input_options
@flows_options
@translations_option
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    help="The page (.html), or with --chart a picture (.svg, .png); - is standard output.",
)
@click.option(
    "--policy", metavar="FILE", type=click.Path(), help="A policy to judge the connections by, in a section of its own."
)
@click.option(
    "--groups", metavar="FILE", type=click.Path(), help="A policy whose groups name the parts of the network."
)
@click.option(
    "--baseline",
    metavar="FILE",
    type=click.Path(),
    help="An earlier capture: connections that servers initiate are new where it lacks them.",
)
@anonymise_option
@inventory_option
@where_option
@click.option("--title", metavar="TEXT", default="", help="The heading of the page.")
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="The most services and hosts to list.",
)
@click.option("--no-names", is_flag=True, help="Leave out names that payloads had for hosts (DNS, TLS, HTTP).")
@click.option(
    "--format",
    "format",
    type=click.Choice(["html", "svg", "png"]),
    help="Default: by the suffix of --output; html for -.",
)
@click.option("--chart", type=click.Choice(_CHARTS), help="A picture instead of the page, for slides.")
def report(
    files: tuple[str, ...],
    output: str,
    policy: str | None,
    groups: str | None,
    baseline: str | None,
    anonymise: str | None,
    inventory: Any,
    where: str | None,
    title: str,
    top: int,
    no_names: bool,
    format: str | None,
    chart: str | None,
    **options: Any,
) -> None:
    """Write a report that people look at: one HTML page that loads nothing, or one of its pictures.

    It says who initiates connections to whom, what servers call, what was called in vain, the least rules, and how sure
    all of this is.
    """
    from conntrack_py import reporting
    from conntrack_py.policy import Policy

    need_standard_output(output)
    chosen = _format(format, output, chart)
    hidden = anonymiser_of(anonymise)
    for option in ("policy", "groups", "inventory") if hidden is not None else ():
        given = {"policy": policy, "groups": groups, "inventory": inventory.hosts}[option]
        if given:
            raise click.UsageError(f"--{option} speaks of addresses that --anonymise hides: give one of the two.")
    config = config_of(**options)
    judge = Policy.load(policy) if policy is not None else None
    parts = Policy.load(groups) if groups is not None else None
    for line in (*(judge.warnings if judge else ()), *(parts.warnings if parts else ())):
        log.warning(line)
    before = tracked((baseline,), config, options["progress"]).connections if baseline is not None else None
    source = source_of(files, config, options["progress"])
    made = watched(
        options["progress"],
        lambda bar: reporting.drawn(
            source,
            chart,
            config=config,
            policy=judge,
            groups=parts,
            baseline=before,
            inventory=None if hidden is not None else inventory,
            anonymiser=hidden,
            where=where or "",
            title=title,
            top=top,
            names=not no_names,
            progress=bar,
        ),
    )
    log.read(made.result.stats)
    if output != "-":
        made.save(output, chosen)
    elif chosen == "png":
        sys.stdout.buffer.write(made.data(chosen))
    else:
        sys.stdout.write(made.text)


def _format(format: str | None, output: str, chart: str | None) -> str:
    suffix = os.path.splitext(output)[1].lower()
    chosen = format or _SUFFIXES.get(suffix, "")
    if not chosen and output == "-":
        chosen = "html" if chart is None else "svg"
    if not chosen:
        raise click.UsageError(f"--output {output}: give a name that ends in .html, .svg or .png, or --format.")
    if chosen == "html" and chart is not None:
        raise click.UsageError(f"--chart {chart} is a picture: give a name that ends in .svg or .png, or --format.")
    if chosen != "html" and chart is None:
        raise click.UsageError(f"{chosen} is a picture: give --chart, one of {', '.join(_CHARTS)}.")
    if chosen == "png" and output == "-" and sys.stdout.isatty():
        raise click.UsageError("png is binary: give -o FILE, or a pipe.")
    return chosen
