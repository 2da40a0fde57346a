"""What the command line says on standard error: lines for people, or with `--json-log` a JSON object a line.

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
    """The option, of the program and of each command."""
    return click.option(
        _OPTION,
        is_flag=True,
        expose_value=False,
        help="For programs: warnings, errors and the account of the run as JSON on standard error, an object a line.",
    )(command)


@contextlib.contextmanager
def form(args: Sequence[str]) -> Iterator[None]:
    """Say it in the form that a command line asks for, also where the rest of it is wrong."""
    options = args[: args.index("--")] if "--" in args else args
    token = _AS_JSON.set(_OPTION in options)
    try:
        yield
    finally:
        _AS_JSON.reset(token)


def is_json() -> bool:
    """Whether a program listens."""
    return _AS_JSON.get()


def event(level: str, name: str, **facts: Any) -> None:
    """An object."""
    click.echo(json.dumps({"level": level, "event": name, **facts}), err=True)


def read(stats: Stats, *, whole: bool = True) -> None:
    """The account of a run, for programs; with `quality` where it was looked at as a whole."""
    if is_json():
        account = dataclasses.asdict(stats)
        if not whole:
            del account["quality"]
        account["skipped_at"] = {
            reason: {"file": file, "offset": offset} for reason, (file, offset) in stats.skipped_at.items()
        }
        event("info", "read", **account)


def warning(message: str) -> None:
    """A warning in a line. It may quote a file of somebody else."""
    if is_json():
        event("warning", "warning", message=message)
        return
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in f"warning: {message}")
    if sys.stderr.isatty():
        line = textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
    click.echo(line, err=True)


def error(program: str, message: str, cause: BaseException, status: int) -> None:
    """What ended the program, in a line."""
    line = " ".join(message.split())
    if is_json():
        file = getattr(cause, "path", None) or getattr(cause, "filename", None)
        place = {"file": None if file is None else str(file), "offset": getattr(cause, "offset", None)}
        event("error", "error", message=line, kind=type(cause).__name__, **place, status=status)
    else:
        click.echo(f"{program}: {line}", err=True)


@contextlib.contextmanager
def warnings_of_the_library() -> Iterator[None]:
    """They are said here."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        warning(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", CaptureWarning)
        warnings.showwarning = show
        yield


class Steps:
    """What `track` tells of its progress, for programs."""

    def __init__(self) -> None:
        """The first is said at once."""
        self._next = 0.0

    def __call__(self, done: int, total: int | None, packets: int) -> None:
        """Say how far it is, if the last time is a while ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _STEP
            event("info", "progress", bytes=done, total=total, packets=packets)
