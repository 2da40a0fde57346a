"""`conntrack-py config`: the effective configuration."""

from __future__ import annotations

from typing import Any

import click

from conntrack_py.cli.options import config_of, config_options, need_standard_output


@click.command()
@config_options
@click.option("--show", is_flag=True, expose_value=False, help="Print it as TOML; without the option, too.")
def config(**options: Any) -> None:
    """Print the effective configuration: every key and every timeout."""
    need_standard_output()
    click.echo(config_of(**options).to_toml(), nl=False)
