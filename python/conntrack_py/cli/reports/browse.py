"""`conntrack-py browse`: connections in the terminal, to sort, filter and look into."""

from __future__ import annotations

import sys
from typing import Any

import click

from conntrack_py.cli.options import config_of, input_options, tracked
from conntrack_py.cli.view import where_option


@click.command()
@input_options
@where_option
def browse(files: tuple[str, ...], where: str | None, **options: Any) -> None:
    """Browse connections: sort, filter, and look at the evidence of one. Needs the extra browse.

    Keys: arrows, page up and down, enter (evidence), s (sort by the next column), r (reverse), / (condition), q (quit).
    """
    if sys.stdout is None or not sys.stdout.isatty() or not sys.stdin.isatty():
        raise click.UsageError("browse needs a terminal; track lists connections in a pipe.")
    try:
        from conntrack_py.browse.app import Browser
        from conntrack_py.browse.view import View
    except ImportError as error:
        raise click.ClickException("browse needs the extra browse: pip install 'conntrack_py[browse]'") from error
    result = tracked(files, config_of(**options), options["progress"])
    view = View(result.connections)
    view.keep(where or "")
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    Browser(view, f"{files[0]}{more}").run()
