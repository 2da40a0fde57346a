"""`conntrack-py config`: the effective configuration."""

from __future__ import annotations

from typing import Any

import click

from conntrack_py.cli.options import config_of, config_options, need_standard_output


@click.command()
@config_options
@click.option("--show", is_flag=True, required=True, help="Print the effective configuration as TOML.")
def config(show: bool, **options: Any) -> None:
    """Print the effective configuration: every key and every timeout."""
    assert show
    need_standard_output()
    click.echo(config_of(**options).to_toml(), nl=False)
