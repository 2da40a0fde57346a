"""`conntrack-py summary`: the initiators of a capture, by direction, service, host and zone."""

from __future__ import annotations

from typing import Any

import click

from conntrack_py.cli.options import config_of, input_options, need_standard_output, tracked


@click.command()
@input_options
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
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
def summary(files: tuple[str, ...], as_json: bool, top: int, baseline: str | None, **options: Any) -> None:
    """Summarise initiators by direction, service, host and zone."""
    from conntrack_py import summary as summaries

    need_standard_output()
    config = config_of(**options)
    result = tracked(files, config, options["progress"])
    before = tracked((baseline,), config, options["progress"]).connections if baseline is not None else None
    facts = summaries.summarise(result.connections, result.stats, config, top=top, baseline=before)
    if as_json:
        import json

        click.echo(json.dumps(summaries.as_json(facts), indent=2))
        return
    from conntrack_py.cli.render import grid
    from conntrack_py.cli.render import summary as render

    render.summary(grid.console(), facts)
