"""Write the man pages of the program, one for each command, into a directory: `python docs/man.py DIRECTORY`.

Pages have no date, so that they change only with the commands.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import click
from click_man.man import ManPage

from conntrack_py import __version__
from conntrack_py.cli import cli

#: Sections of the program's own page behind those of its options.
_MORE = r"""
.SH EXIT STATUS
.TP
.B 0
done
.TP
.B 1
a check found something, or two policies differ
.TP
.B 2
wrong use or unreadable input: one line on standard error
.TP
.B 3
done, but files were skipped
.TP
.B 130
Ctrl\-C, or a signal in the middle of a file that is streamed
.SH EXAMPLES
.nf
conntrack\-py summary capture.pcap
conntrack\-py track capture.pcap \-o connections.parquet
conntrack\-py policy suggest capture.pcap \-o policy.toml
tcpdump \-w \- | conntrack\-py track \-
.fi
"""


def pages(name: str, command: click.Command, parent: click.Context | None = None) -> dict[str, str]:
    """The pages of a command and of those below it, by file name."""
    context = click.Context(command, info_name=name, parent=parent)
    page = ManPage(context.command_path)
    page.version = __version__
    page.date = ""
    page.short_help = command.get_short_help_str(10_000)
    page.description = _described(command.help or "")
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.options = [
        record
        for option in command.params
        if isinstance(option, click.Option) and (record := option.get_help_record(context)) is not None
    ]
    below = command.commands if isinstance(command, click.Group) else {}
    page.commands = [(one, found.get_short_help_str(10_000)) for one, found in sorted(below.items())]
    # Else the title runs into the middle of the head.
    text = str(page).replace(f'"{context.command_path} Manual"', '"conntrack_py"', 1).rstrip() + (
        "\n" if parent is not None else _MORE
    )
    found = {f"{context.command_path.replace(' ', '-')}.1": text}
    for one, child in sorted(below.items()):
        found |= pages(one, child, context)
    return found


def _described(text: str) -> str:
    """A help text for troff: click marks paragraphs whose lines stay as they are with a line of its own."""
    text = re.sub(r"(?m)^([.'])", r"\\&\1", inspect.cleandoc(text).replace("\\", r"\e"))
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        f".nf\n{one.removeprefix(chr(8)).strip(chr(10))}\n.fi" if one.startswith("\b") else one for one in paragraphs
    )


def main(directory: str) -> None:
    """Write all pages."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    made = pages("conntrack-py", cli)
    for old in target.glob("*.1"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (target / name).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
