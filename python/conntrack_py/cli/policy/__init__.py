"""`conntrack-py policy`: suggest, merge, check, explain, lint, diff, convert.

The policy, or the answer for programs, goes to standard output; what is said about it to people goes to standard error
where standard output carries a policy. Exit status: 1 if `check` refused something, `lint` found something, or the
policies of `diff` differ.
"""

from __future__ import annotations

import click

from conntrack_py.cli import log
from conntrack_py.cli.policy.judge import check, diff, explain, lint
from conntrack_py.cli.policy.make import convert, merge, suggest


@click.group()
@log.option
def policy() -> None:
    """Firewall rules from captures, and back: who may initiate what."""


for command in (suggest, check, explain, merge, diff, lint, convert):
    policy.add_command(command)
