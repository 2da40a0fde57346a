"""Log lines on standard error: text, or with `--json-log` one JSON object a line.

Objects have a `level` (`info`, `warning`, `error`) and an `event`: `read` (the account of a run, as `Stats` has it),
`progress` (`bytes` of `total` read, null where nobody knows, and `packets`; at most once a second, with `--progress`),
`report` (what `policy suggest` says beside the policy), `warning` (`message`), `error` (`message`, `kind`: the
exception's name, `file` and `offset` where it has them, `status`) and `interrupted` (`status`). There is no wall time
in them, so that two runs say the same; collectors have their own.
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

from conntrack_py.exceptions import CaptureWarning
from conntrack_py.stats import Stats

_OPTION = "--json-log"
_AS_JSON: ContextVar[bool] = ContextVar("as_json", default=False)
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
    token = _AS_JSON.set(_OPTION in options)
    try:
        yield
    finally:
        _AS_JSON.reset(token)


def is_json() -> bool:
    """True where lines are JSON."""
    return _AS_JSON.get()


def event(level: str, name: str, **facts: Any) -> None:
    """Log one JSON object."""
    click.echo(json.dumps({"level": level, "event": name, **facts}), err=True)


def read(stats: Stats, *, whole: bool = True) -> None:
    """Log the counts of a run, as JSON only; with `quality` if the whole capture was tracked at once."""
    if is_json():
        account = dataclasses.asdict(stats)
        if not whole:
            del account["quality"]
        account["skipped_at"] = {
            reason: {"file": file, "offset": offset} for reason, (file, offset) in stats.skipped_at.items()
        }
        event("info", "read", **account)


def warning(message: str) -> None:
    """Log a warning in one line. Unprintable characters, which a quoted file may hold, are replaced."""
    if is_json():
        event("warning", "warning", message=message)
        return
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in f"warning: {message}")
    if sys.stderr.isatty():
        line = textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
    click.echo(line, err=True)


def error(program: str, message: str, cause: BaseException, status: int) -> None:
    """Log the error that ends the program."""
    line = " ".join(message.split())
    if is_json():
        file = getattr(cause, "path", None) or getattr(cause, "filename", None)
        place = {"file": None if file is None else str(file), "offset": getattr(cause, "offset", None)}
        event("error", "error", message=line, kind=type(cause).__name__, **place, status=status)
    else:
        click.echo(f"{program}: {line}", err=True)


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
