"""The command line: `conntrack-py`.

Exit status: 0 done, 2 wrong use or unreadable input, 130 Ctrl-C. A reader that goes away ends the program quietly by
SIGPIPE, as it ends cat (141 in a shell).
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import click

from conntrack_py import __version__
from conntrack_py.config import Config
from conntrack_py.connections import checked_format, format_of
from conntrack_py.exceptions import CaptureWarning, ConntrackError
from conntrack_py.tracker import TrackResult
from conntrack_py.tracker import track as run

NAME = "conntrack-py"
_BINARY = ("arrow", "parquet")
#: Seconds a run takes before it has a progress bar.
_PATIENCE = 1.0
#: Width of tables that do not go to a terminal.
_FILE_WIDTH = 160


class _Program(click.Group):
    """A group whose errors are one line on standard error, and whose exit statuses are the documented ones."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and turn what goes wrong into a line and a status."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            status = super().main(args, prog_name, complete_var, False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            # Its message is the whole help.
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else NAME
            _fail(f"{error.format_message()} See '{command} --help'.")
        except click.ClickException as error:
            _fail(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        except ConntrackError as error:
            _fail(str(error))
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    click.echo(f"{NAME}: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _input_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that tracks."""
    options = (
        click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True)),
        click.option(
            "--local",
            metavar="CIDR",
            multiple=True,
            help="A local network, such as 10.0.0.0/8; repeat it or separate by commas. Default: private ranges.",
        ),
        click.option(
            "--config", metavar="TOML", type=click.Path(dir_okay=False), help="A file with the keys of Config."
        ),
        click.option("--profile", metavar="NAME", help="Whose timeouts to follow: linux, zeek, ..."),
        click.option("--threads", metavar="N", type=int, help="The most threads to track with."),
        click.option(
            "--tunnels",
            type=click.Choice(["inner", "outer", "both"]),
            help="Which connection of a tunnelled packet counts. Default: inner.",
        ),
        click.option("--strict", is_flag=True, help="Fail at the first damage instead of going on behind it."),
        click.option(
            "--progress/--no-progress",
            default=None,
            help="A progress bar on standard error. Default: if that is a terminal and the run takes a while.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=_Program, name=NAME, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
def cli() -> None:
    """Track the connections of captures: who initiated each of them, and seen from where.

    FILE is a pcap or pcapng file, plain or compressed (gz, zst, lz4, xz, bz2), or - for standard input.
    """


@cli.command()
@_input_options
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice(["table", "csv", "jsonl", *_BINARY, "conntrack", "zeek"]),
    help="Default: by the suffix of --output; else a table on a terminal, CSV in a pipe.",
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default).")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), help="Rows of the table to show, 0 for all. Default: 100."
)
def track(files: tuple[str, ...], format: str | None, output: str, limit: int | None, **options: Any) -> None:
    """List connections, one line each: who initiated, to whom, what was sent.

    Several files are merged by time.
    """
    if output == "-":
        _need_standard_output()
    chosen = _format(format, output)
    if limit is not None and chosen != "table":
        raise click.UsageError(f"--limit is for tables; this is {chosen}.")
    if chosen in _BINARY and output == "-" and sys.stdout.isatty():
        raise click.UsageError(f"{chosen} is binary: give -o FILE, or a pipe.")
    result = _tracked(files, _config(**options), options["progress"])
    _write(result, chosen, output, 100 if limit is None else limit)


def _need_standard_output() -> None:
    # Python has no file object for a descriptor that was closed before it started (`>&-`).
    if sys.stdout is None:
        raise click.ClickException("standard output is closed")


def _format(format: str | None, output: str) -> str:
    if format is not None:
        return format
    if output == "-":
        return "table" if sys.stdout.isatty() else "csv"
    try:
        return checked_format(format_of(output))
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _write(result: TrackResult, format: str, output: str, limit: int) -> None:
    if format == "table":
        from conntrack_py import render

        if output == "-":
            render.connections(render.console(), result.connections, limit)
        else:
            with open(output, "w", encoding="utf-8") as file:
                render.connections(render.console(file, _FILE_WIDTH), result.connections, limit)
    else:
        result.connections.write(sys.stdout.buffer if output == "-" else output, format)


@cli.command()
@_input_options
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="The most services, and hosts of each role, to list.",
)
def summary(files: tuple[str, ...], as_json: bool, top: int, **options: Any) -> None:
    """Say who initiates to whom: by direction, service, host and zone."""
    from conntrack_py import summary as summaries

    _need_standard_output()
    config = _config(**options)
    result = _tracked(files, config, options["progress"])
    facts = summaries.summarise(result.connections, result.stats, config, top=top)
    if as_json:
        import json

        click.echo(json.dumps(summaries.as_json(facts), indent=2))
        return
    from conntrack_py import render

    render.summary(render.console(), facts)


def _config(
    local: tuple[str, ...],
    config: str | None,
    profile: str | None,
    threads: int | None,
    tunnels: str | None,
    strict: bool,
    **_: object,
) -> Config:
    """The configuration of the file, and on top of it that of the command line."""
    base = Config() if config is None else Config.load(config)
    given: dict[str, Any] = {"profile": profile, "threads": threads, "tunnels": tunnels}
    if local:
        given["local"] = [network.strip() for networks in local for network in networks.split(",")]
    if strict:
        given["strict"] = True
    # An empty word and a zero were given too: they are for Config to refuse.
    return dataclasses.replace(base, **{key: value for key, value in given.items() if value is not None})


def _tracked(files: tuple[str, ...], config: Config, progress: bool | None) -> TrackResult:
    with _one_line_warnings(), contextlib.ExitStack() as stack:
        bar = None
        if progress or (progress is None and sys.stderr is not None and sys.stderr.isatty()):
            from conntrack_py.progress import Bar

            bar = stack.enter_context(Bar(delay=0.0 if progress else _PATIENCE))
        return run(files, config=config, progress=bar if bar is not None else False)


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        line = f"warning: {message}"
        if sys.stderr.isatty():
            line = textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
        click.echo(line, err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CaptureWarning)
        warnings.showwarning = show
        yield


def main() -> None:
    """Run the program; what the console script calls."""
    if hasattr(signal, "SIGPIPE"):
        # Python ignores it and raises BrokenPipeError where it writes next, which may be at exit.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Completion and --help must know the program by one name, also as `python -m conntrack_py`.
    cli.main(prog_name=NAME)


__all__ = ("cli", "main")
