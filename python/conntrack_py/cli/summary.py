"""`conntrack-py summary`: the initiators of a capture, by direction, service, host and zone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from conntrack_py.cli.logs import flows_options
from conntrack_py.cli.options import (
    anonymise_option,
    anonymised,
    anonymiser_of,
    config_of,
    input_options,
    inventory_option,
    names_option,
    need_standard_output,
    tracked,
    translations_option,
)
from conntrack_py.cli.view import view_of, where_option

if TYPE_CHECKING:
    from conntrack_py.policy.inventory import Inventory
    from conntrack_py.summaries import Sort, Summary
    from conntrack_py.table import ConnectionTable


@click.command()
@input_options
@flows_options
@anonymise_option
@inventory_option
@names_option
@translations_option
@where_option
@click.option(
    "--sort",
    type=click.Choice(["connections", "bytes"]),
    default="connections",
    show_default=True,
    help="The order of directions, services, hosts and zones.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option(
    "--format",
    type=click.Choice(["text", "json", "ecs"]),
    help="text, json as --json, or ecs: the findings as documents of the Elastic Common Schema, one a line.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="The most services, and hosts of each role, to list.",
)
@click.option(
    "--baseline",
    metavar="FILE",
    type=click.Path(),
    help="An earlier capture: connections that servers initiate are new where it lacks them.",
)
def summary(
    files: tuple[str, ...],
    as_json: bool,
    format: str | None,
    top: int,
    baseline: str | None,
    anonymise: str | None,
    inventory: Inventory,
    where: str | None,
    sort: Sort,
    names: bool,
    **options: Any,
) -> None:
    """Summarise initiators by direction, service, host and zone."""
    from conntrack_py import summaries

    if as_json and format not in (None, "json"):
        raise click.UsageError(f"--json and --format {format} are two formats: give one.")
    if anonymise is not None and inventory.hosts:
        raise click.UsageError("--anonymise hides what --inventory names: give one.")
    need_standard_output()
    config = config_of(**options)
    condition = view_of(config, where, None).condition
    hidden = anonymiser_of(anonymise)
    named = names and hidden is None and format != "ecs"
    read = tracked(files, config, options["progress"], names=named)
    result = anonymised(read, hidden)
    before = None
    if baseline is not None:
        before = anonymised(tracked((baseline,), config, options["progress"]), hidden).connections
    # The condition is about the addresses of the capture, whose names it must not tell.
    chosen = "" if condition is None else condition.mask(read.connections) if hidden is not None else condition.text
    facts = summaries.summary(result, top=top, baseline=before, where=chosen, sort=sort)
    facts = summaries.named(facts, result.names or {}, inventory)
    if format == "ecs":
        from conntrack_py.policy.traffic import ecs

        click.echo(ecs.lines(facts.findings), nl=False)
        return
    if as_json or format == "json":
        from conntrack_py.schema import dumps

        click.echo(dumps(summaries.as_json(facts) | _behind(result.connections)), nl=False)
        return
    _print(facts, result.connections, top)


def _behind(table: ConnectionTable) -> dict[str, Any]:
    """The hosts behind a gateway, where the gateway's table was given."""
    from conntrack_py import nat

    return {"translations": dataclasses.asdict(nat.facts(table))} if "nat_evidence" in table.columns else {}


def _print(facts: Summary, table: ConnectionTable, top: int) -> None:
    """Print a summary, with pictures where the terminal shows them."""
    from conntrack_py import analysis
    from conntrack_py.analysis.columns import Columns
    from conntrack_py.cli.render import grid, pictures
    from conntrack_py.cli.render import summary as render

    out = grid.console()
    shown = table.where(facts.where) if facts.where else table
    times = pictures.Times(shown) if pictures.fits(out, pictures.WIDE) and len(shown) else None
    columns = Columns(table)
    order = {(one.server, one.service): place for place, one in reversed([*enumerate(facts.findings)])}
    found = analysis.initiatives(table, facts.findings, columns=columns)
    found = sorted(found, key=lambda one: order[one.server, one.service])
    vain = analysis.calls_in_vain(table, columns=columns) if not facts.where else []
    render.summary(out, facts, times, found, vain)
    if "nat_evidence" in shown.columns:
        from conntrack_py import nat
        from conntrack_py.cli.render import nat as behind

        behind.hidden(out, nat.facts(shown), top)
