"""`--flows`: flow logs in place of captures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.config import FLOW_KINDS, Config
from conntrack_py.track import TrackResult

_KIND = "conntrack_py.flows"
_FIELDS = "conntrack_py.flow_fields"
#: The value of `--flows` without a kind.
GUESS = "guess"


class _Flows(click.Option):
    """An option whose value may be left out: what is no kind is the next argument."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Give back a word that is no kind."""
        super().add_to_parser(parser, ctx)
        option = parser._long_opt[self.opts[0]]
        process = option.process

        def taken(value: Any, state: Any) -> None:
            if value not in (GUESS, *FLOW_KINDS):
                if isinstance(value, str):
                    state.rargs.insert(0, value)
                value = GUESS
            process(value, state)

        option.process = taken


def _note(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def note(context: click.Context, _: click.Parameter, value: Any) -> None:
        context.meta[key] = value

    return note


def flows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--flows` and `--fields` to a command that tracks."""
    flows = click.option(
        "--flows",
        cls=_Flows,
        metavar="[KIND]",
        is_flag=False,
        flag_value=GUESS,
        is_eager=True,
        expose_value=False,
        callback=_note(_KIND),
        help=f"FILE is a flow log, not a capture: {', '.join(FLOW_KINDS)}. Default: guessed from its content.",
    )
    return flows(fields_option(command))


def fields_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--fields`."""
    return click.option(
        "--fields",
        metavar="NAMES",
        is_eager=True,
        expose_value=False,
        callback=_note(_FIELDS),
        help="Flow logs of AWS without a line of field names: the fields of their format, separated by spaces or "
        "commas.",
    )(command)


def asked() -> str | None:
    """The kind of `--flows`, `guess` for none; None: the files are captures."""
    context = click.get_current_context(silent=True)
    found: str | None = context.meta.get(_KIND) if context is not None else None
    return found


def logged(files: tuple[str, ...], config: Config, progress: Any, kind: str | None = None) -> TrackResult:
    """Read flow logs with warnings, and log the counts of the run."""
    from conntrack_py.exceptions import FlowWarning
    from conntrack_py.flows import read

    chosen = kind or asked()
    fields = click.get_current_context().meta.get(_FIELDS)
    with warnings.catch_warnings():
        warnings.simplefilter("always", FlowWarning)
        warnings.showwarning = lambda message, *_, **__: log.warning(str(message))
        result = read(
            list(files), None if chosen == GUESS else chosen, fields=fields, config=config, progress=progress or False
        )
    return result.tracked()
