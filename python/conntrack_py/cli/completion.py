"""`conntrack-py completion`: the script with which a shell completes commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from conntrack_py.cli.options import need_standard_output

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


class _Bash(BashComplete):
    """The script without the question which bash there is: the shell that reads it may be another one."""

    def source(self) -> str:
        return self.source_template % self.source_vars()


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the completion script of a shell.

    
    bash: conntrack-py completion bash > ~/.local/share/bash-completion/completions/conntrack-py
    zsh:  conntrack-py completion zsh > "${fpath[1]}/_conntrack-py"
    fish: conntrack-py completion fish > ~/.config/fish/completions/conntrack-py.fish
    """
    need_standard_output()
    program = context.find_root()
    name = program.info_name or "conntrack-py"
    made = _Bash if shell == "bash" else _SHELLS[shell]
    click.echo(made(program.command, {}, name, "_CONNTRACK_PY_COMPLETE").source())
