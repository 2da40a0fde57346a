"""The program `conntrack-py`: its group of commands, exit statuses and errors.

Exit status: 0 done, 1 a check found something, 2 wrong use or unreadable input, 3 done, but
files were skipped, 130 Ctrl-C, or a signal in the middle
of a file that is streamed. A reader that goes away ends the program quietly by SIGPIPE, as it ends cat (141 in a
shell).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from conntrack_py import __version__
from conntrack_py.cli import log
from conntrack_py.cli.annotate import label, split
from conntrack_py.cli.completion import completion
from conntrack_py.cli.config import config
from conntrack_py.cli.gateway.nat import nat
from conntrack_py.cli.live import live
from conntrack_py.cli.policy import policy
from conntrack_py.cli.reports.browse import browse
from conntrack_py.cli.reports.flows import flows
from conntrack_py.cli.reports.report import report
from conntrack_py.cli.summary import summary
from conntrack_py.cli.track import track
from conntrack_py.exceptions import ConntrackError
from conntrack_py.io import output

NAME = "conntrack-py"


class _Program(click.Group):
    """A command group with errors of one line and the documented exit statuses."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and turn an exception into a log line and an exit status."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        args = sys.argv[1:] if args is None else args
        # NumPy's BLAS starts a thread for every core when it is imported, and nothing here multiplies matrices.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        with log.form(args):
            return self._run(args, prog_name, complete_var, extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C ends it, and so does a reader that went away."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Where SIGPIPE is blocked. Click would end with status 1, which says that a check found something.
            return _unread()
        except KeyboardInterrupt:
            return _interrupted()

    def _run(self, args: Sequence[str], prog_name: str | None, complete_var: str | None, extra: Any) -> NoReturn:
        try:
            status = super().main(args, prog_name, complete_var, False, **extra)
            output.finish()
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
        except BrokenPipeError:
            sys.exit(_unread())
        except OSError as error:
            output.abandon()
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error), error)
        except Exception as error:
            # Status 1 would say that a check found something.
            if sys.flags.dev_mode:
                raise
            _fail(f"a fault of this program: {type(error).__name__}: {error}; python -X dev shows where", error)
        status = status if isinstance(status, int) else 0
        sys.exit(3 if status == 0 and log.skipped_files() else status)


def _interrupted() -> int:
    log.interrupted(130)
    return 130


def _unread() -> int:
    """The status of a shell for SIGPIPE."""
    output.abandon()
    return 128 + getattr(signal, "SIGPIPE", 13)


def _fail(message: str, cause: Exception) -> NoReturn:
    try:
        log.error(NAME, message, cause, 2)
    except OSError:
        # Standard error is full, too.
        output.abandon()
    sys.exit(2)


@click.group(cls=_Program, name=NAME, context_settings={"help_option_names": ["-h", "--help"]})
@log.option
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
def cli() -> None:
    """Track the connections of captures, with the initiator and the direction of each.

    FILE is a pcap, pcapng or snoop file, plain or compressed (gz, zst, lz4, xz, bz2), or - for standard input.
    """


for _command in (track, live, flows, summary, report, browse, label, split, nat, config, policy, completion):
    cli.add_command(_command)


def main() -> None:
    """Run the program: the entry point of the console script."""
    if hasattr(signal, "SIGPIPE"):
        # Python ignores it and raises BrokenPipeError where it writes next, which may be at exit.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    output.wait_for_standard_streams()
    # Completion and --help must know the program by one name, also as `python -m conntrack_py`.
    cli.main(prog_name=NAME)
