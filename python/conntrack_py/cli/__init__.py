"""The command line, `conntrack-py`: options, commands, rendering and log lines."""

from conntrack_py.cli.program import cli, main

__all__ = ("cli", "main")
