"""The command line: `conntrack-py`.

Exit status: 0 done, 1 a check found something, 2 wrong use or unreadable input, 130 Ctrl-C, or a signal in the middle
of a file that is streamed. A reader that goes away ends the program quietly by SIGPIPE, as it ends cat (141 in a
shell).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from conntrack_py import __version__, log
from conntrack_py.connections import BINARY_FORMATS, FORMATS, checked_format, format_of
from conntrack_py.exceptions import ConntrackError
from conntrack_py.options import (
    config_of,
    config_options,
    input_options,
    need_standard_output,
    tracked,
    watched,
)
from conntrack_py.policy_cli import policy
from conntrack_py.tracker import TrackResult

NAME = "conntrack-py"


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
        args = sys.argv[1:] if args is None else args
        # NumPy's BLAS starts a thread for every core when it is imported, and nothing here multiplies matrices.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        with log.form(args):
            return self._run(args, prog_name, complete_var, extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C ends it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return _interrupted()

    def _run(self, args: Sequence[str], prog_name: str | None, complete_var: str | None, extra: Any) -> NoReturn:
        try:
            status = super().main(args, prog_name, complete_var, False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            # Its message is the whole help.
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else NAME
            _fail(f"{error.format_message()} See '{command} --help'.", error)
        except click.ClickException as error:
            _fail(error.format_message(), error)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(_interrupted())
        except ConntrackError as error:
            _fail(str(error), error)
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error), error)
        except Exception as error:
            # Status 1 would say that a check found something.
            if sys.flags.dev_mode:
                raise
            _fail(f"a fault of this program: {type(error).__name__}: {error}; python -X dev shows where", error)
        sys.exit(status if isinstance(status, int) else 0)


def _interrupted() -> int:
    if log.is_json():
        log.event("error", "interrupted", status=130)
    else:
        # Behind the terminal's ^C.
        click.echo(err=True)
    return 130


def _fail(message: str, cause: Exception) -> NoReturn:
    log.error(NAME, message, cause, 2)
    sys.exit(2)


@click.group(cls=_Program, name=NAME, context_settings={"help_option_names": ["-h", "--help"]})
@log.option
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
def cli() -> None:
    """Track the connections of captures: who initiated each of them, and seen from where.

    FILE is a pcap or pcapng file, plain or compressed (gz, zst, lz4, xz, bz2), or - for standard input.
    """


@cli.command()
@input_options
@click.option(
    "-f",
    "--format",
    "format",
    type=click.Choice(["table", *FORMATS]),
    help="Default: by the suffix of --output; else a table on a terminal, CSV in a pipe.",
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to write to; - is standard output (default).")
@click.option(
    "--by",
    type=click.Choice(["direction", "hour"]),
    help="Write a directory: a file for each direction, or for each hour (UTC) in which connections began.",
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), help="Rows of the table to show, 0 for all. Default: 100."
)
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Print connections as they close, as CSV or jsonl, in bounded memory. Who initiated is then judged by "
    "what has come so far. SIGTERM and Ctrl-C end it, and what is open is printed. Default: for - to standard output.",
)
@click.option(
    "--follow", is_flag=True, help="Stream a file that is still growing, or a directory of rotated captures in order."
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Stream, go on from what is in FILE if it is there, and leave what is open in it for the next run. Of a pipe "
    "it is saved every minute, too.",
)
@click.option("--last", is_flag=True, help="With --state: this is the end. Print what is open, and take FILE away.")
def track(
    files: tuple[str, ...],
    format: str | None,
    output: str,
    by: str | None,
    limit: int | None,
    stream: bool | None,
    follow: bool,
    state: str | None,
    last: bool,
    **options: Any,
) -> int:
    """List connections, one line each: who initiated, to whom, what was sent.

    Several files are merged by time.
    """
    if stream is False and (follow or state is not None):
        raise click.UsageError("--follow and --state stream; leave --no-stream out.")
    if last and state is None:
        raise click.UsageError("--last ends what --state has begun: give --state, too.")
    if stream is None:
        may = output == "-" and limit is None and format in (None, "csv", "jsonl")
        stream = follow or state is not None or (files == ("-",) and may)
    if stream:
        from conntrack_py import live

        live.check(format, limit)
        if follow:
            live.check_following(files, state)
        if output == "-":
            need_standard_output()
        chosen = format or ("csv" if output == "-" else _format(None, output))
        _check_target(chosen, output, by)
        target = sys.stdout.buffer if output == "-" else output
        return live.run(
            files,
            config_of(**options),
            target,
            chosen,
            by,
            state=state,
            last=last,
            following=follow,
            progress=bool(options["progress"]),
        )
    if output == "-":
        need_standard_output()
    chosen = _format(format, output)
    if limit is not None and chosen != "table":
        raise click.UsageError(f"--limit is for tables; this is {chosen}.")
    _check_target(chosen, output, by)
    result = tracked(files, config_of(**options), options["progress"])
    _write(result, chosen, output, by, 100 if limit is None else limit)
    return 0


def _check_target(format: str, output: str, by: str | None) -> None:
    if format in BINARY_FORMATS and output == "-" and sys.stdout.isatty():
        raise click.UsageError(f"{format} is binary: give -o FILE, or a pipe.")
    if by is not None and (output == "-" or format == "table"):
        raise click.UsageError("--by writes a directory: give -o DIR, and -f where its suffix tells no format.")


def _format(format: str | None, output: str) -> str:
    if format is not None:
        return format
    if output == "-":
        return "table" if sys.stdout.isatty() else "csv"
    try:
        return checked_format(format_of(output))
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _write(result: TrackResult, format: str, output: str, by: Any, limit: int) -> None:
    if format == "table":
        from conntrack_py import grid, render

        if output == "-":
            render.connections(grid.console(), result.connections, limit)
        else:
            with click.open_file(output, "w", encoding="utf-8", atomic=_is_file(output)) as file:
                render.connections(grid.console(file, grid.FILE_WIDTH), result.connections, limit)
    else:
        result.connections.write(sys.stdout.buffer if output == "-" else output, format, by=by)


def _is_file(output: str) -> bool:
    """What is none, a device or a pipe, cannot be put in place as a whole."""
    return os.path.isfile(output) or not os.path.exists(output)


@cli.command()
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
    help="A capture of an earlier time: what servers initiate is new where it was not in it.",
)
def summary(files: tuple[str, ...], as_json: bool, top: int, baseline: str | None, **options: Any) -> None:
    """Say who initiates to whom: by direction, service, host and zone."""
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
    from conntrack_py import grid, render

    render.summary(grid.console(), facts)


@cli.command()
@input_options
@click.option("-o", "--output", metavar="FILE", required=True, help="The pcapng file to write; - is standard output.")
def label(files: tuple[str, ...], output: str, **options: Any) -> None:
    """Write the same packets as pcapng, each with its direction bits and a comment that says who initiated.

    The captures are read twice. Wireshark shows frame.comment and frame.packet_flags_direction.
    """
    from conntrack_py import annotate

    target: Any = output
    if output == "-":
        need_standard_output()
        if sys.stdout.isatty():
            raise click.UsageError("pcapng is binary: give -o FILE, or a pipe.")
        target = sys.stdout.buffer
    config = config_of(**options)
    _twice(options["progress"], lambda bar: annotate.label(files, target, config=config, progress=bar))


@cli.command()
@input_options
@click.option("-o", "--output", metavar="DIR", required=True, help="The directory to write to.")
def split(files: tuple[str, ...], output: str, **options: Any) -> None:
    """Write one pcapng file for each direction: egress.pcapng, ingress.pcapng, ...

    The captures are read twice. What is in no connection goes to none.pcapng.
    """
    from conntrack_py import annotate

    config = config_of(**options)
    _twice(options["progress"], lambda bar: annotate.split(files, output, config=config, progress=bar)[0])


def _twice(progress: bool | None, work: Callable[[Any], TrackResult]) -> None:
    """Do something that reads its captures twice, and say it in a line where it cannot."""
    try:
        log.read(watched(progress, work).stats)
    except ConntrackError:
        raise
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error


@cli.command()
@config_options
@click.option("--show", is_flag=True, required=True, help="Print the effective configuration as TOML.")
def config(show: bool, **options: Any) -> None:
    """The configuration that a run with these options has: every key, and every timeout."""
    assert show
    need_standard_output()
    click.echo(config_of(**options).to_toml(), nl=False)


cli.add_command(policy)


def main() -> None:
    """Run the program; what the console script calls."""
    if hasattr(signal, "SIGPIPE"):
        # Python ignores it and raises BrokenPipeError where it writes next, which may be at exit.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Completion and --help must know the program by one name, also as `python -m conntrack_py`.
    cli.main(prog_name=NAME)


__all__ = ("cli", "main")
