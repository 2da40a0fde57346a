"""Log lines on standard error: text, or with `--json-log` one JSON object a line.

Objects have a `level` (`info`, `warning`, `error`) and an `event`: `read` (the account of a run, as `Stats` has it,
times in ISO 8601), `progress` (`bytes` of `total` read, null where nobody knows, and `packets`; at most once a second,
with `--progress`), `report` (what `policy suggest` says beside the policy), `bounds` (`message`, `max_connections` and
`memory_limit` in bytes, null where there is none: the bounds of input without an end, at its start), `warning`
(`message`), `error` (`message`, `kind`: the exception's name, `file` and `offset` where it has them, `status`), `wrote`
(`files`: the paths) and `interrupted` (`status`, `bytes` of `total` read and `packets`; null before the first packets).
There is no wall time in them, so that two runs say the same; collectors have their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import click

from conntrack_py.exceptions import CaptureWarning, WhereError
from conntrack_py.schema import exact, moment_or_none
from conntrack_py.stats import Stats
from conntrack_py.text import counted, printable, size

_OPTION = "--json-log"
_AS_JSON: ContextVar[bool] = ContextVar("as_json", default=False)
#: Not empty where a run skipped files.
_SKIPPED: ContextVar[list[bool]] = ContextVar("skipped")
#: Bytes read, their total and packets, of a run that may be interrupted.
_PROGRESS: ContextVar[tuple[int, int | None, int] | None] = ContextVar("progress", default=None)
#: Seconds between two objects of progress.
_STEP = 1.0


def option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--json-log`, which the program and each command have."""
    return click.option(
        _OPTION,
        is_flag=True,
        expose_value=False,
        help="Log warnings, errors and the counts of the run as JSON on standard error, one object a line.",
    )(command)


@contextlib.contextmanager
def form(args: Sequence[str]) -> Iterator[None]:
    """Select the form that a command line asks for, valid or not."""
    options = args[: args.index("--")] if "--" in args else args
    token, skipped = _AS_JSON.set(_OPTION in options), _SKIPPED.set([])
    try:
        yield
    finally:
        _AS_JSON.reset(token)
        _SKIPPED.reset(skipped)


def skipped_files() -> bool:
    """True if a run skipped files."""
    return bool(_SKIPPED.get())


def is_json() -> bool:
    """True where lines are JSON."""
    return _AS_JSON.get()


def event(level: str, name: str, **facts: Any) -> None:
    """Log one JSON object."""
    click.echo(json.dumps(exact({"level": level, "event": name, **facts})), err=True)


def read(stats: Stats, *, whole: bool = True) -> None:
    """Note whether files were skipped, and log the counts of a run, as JSON only.

    Args:
        stats: The account.
        whole: The whole capture was tracked at once, so that there is a `quality`.
    """
    if stats.skipped_files:
        _SKIPPED.get().append(True)
    if is_json():
        account = dataclasses.asdict(stats)
        if not whole:
            del account["quality"]
        account["skipped_at"] = {
            reason: {"file": file, "offset": offset} for reason, (file, offset) in stats.skipped_at.items()
        }
        for name in ("first_timestamp", "last_timestamp"):
            account[name] = moment_or_none(account[name])
        event("info", "read", **account)


def wrote(files: Sequence[str], message: str) -> None:
    """Log the files that a command wrote, and what is in them."""
    if is_json():
        event("info", "wrote", files=list(files))
    else:
        click.echo(f"wrote {message}", err=True)


def reading(tell: Callable[[int, int | None, int], object] | None) -> Callable[[int, int | None, int], object]:
    """A receiver of progress that keeps it for `interrupted`, and passes it on."""
    _PROGRESS.set(None)

    def keep(done: int, total: int | None, packets: int) -> None:
        _PROGRESS.set((done, total, packets))
        if tell is not None:
            tell(done, total, packets)

    return keep


def interrupted(status: int) -> None:
    """Log the end by Ctrl-C, and how much had been read."""
    done, total, packets = _PROGRESS.get() or (None, None, None)
    if is_json():
        event("error", "interrupted", status=status, bytes=done, total=total, packets=packets)
        return
    # Behind the terminal's ^C.
    click.echo(err=True)
    if done is not None and packets is not None:
        whole = "" if total is None else f" of {size(total)}"
        click.echo(
            f"interrupted: {size(done)}{whole} read, {counted(packets, 'packet')}; nothing was written", err=True
        )


def bounds(message: str, max_connections: int | None, memory_limit: int | None) -> None:
    """Log the bounds of a run without an end."""
    if is_json():
        event("info", "bounds", message=message, max_connections=max_connections, memory_limit=memory_limit)
    else:
        click.echo(message, err=True)


def warning(message: str) -> None:
    """Log a warning in one line. Unprintable characters, which a quoted file or a name may hold, are escaped."""
    line = printable(f"warning: {message}")
    if is_json():
        event("warning", "warning", message=line.removeprefix("warning: "))
        return
    if sys.stderr.isatty():
        line = textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
    click.echo(line, err=True)


def error(program: str, message: str, cause: BaseException, status: int) -> None:
    """Log the error that ends the program."""
    # The lines below that of a condition show the place.
    line, *shown = message.split("\n") if isinstance(cause, WhereError) else [message]
    line = printable(line if "\n" not in line else " ".join(line.split()))
    if is_json():
        file = getattr(cause, "path", None) or getattr(cause, "filename", None)
        place = {"file": None if file is None else str(file), "offset": getattr(cause, "offset", None)}
        event("error", "error", message=line, kind=type(cause).__name__, **place, status=status)
    else:
        click.echo("\n".join((f"{program}: {line}", *map(printable, shown))), err=True)


@contextlib.contextmanager
def warnings_of_the_library() -> Iterator[None]:
    """Log warnings of the library within the block."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        warning(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", CaptureWarning)
        warnings.showwarning = show
        yield


class Steps:
    """Progress of a run as log lines."""

    def __init__(self) -> None:
        """Log the first call at once."""
        self._next = 0.0

    def __call__(self, done: int, total: int | None, packets: int) -> None:
        """Log the progress, at most once a second."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _STEP
            event("info", "progress", bytes=done, total=total, packets=packets)
