"""Options that commands share, and the run behind them."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from conntrack_py.cli import log
from conntrack_py.config import Config
from conntrack_py.io.progress import Bar, Progress
from conntrack_py.track import TrackResult
from conntrack_py.track import track as run

_T = TypeVar("_T")
#: Seconds a run takes before it has a progress bar.
_PATIENCE = 1.0


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the captures and options of every command that tracks."""
    return _files(config_options(_progress(command)), required=True)


def optional_input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the captures, which may be none, and the options of every command that tracks."""
    return _files(config_options(_progress(command)), required=False)


def _files(command: Callable[..., Any], required: bool) -> Callable[..., Any]:
    metavar = "FILE..." if required else "[FILE...]"
    files = click.argument("files", metavar=metavar, nargs=-1, required=required, type=click.Path(allow_dash=True))
    return files(command)


def _progress(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--progress/--no-progress",
        default=None,
        help="Show a progress bar on standard error. Default: on a terminal, for long runs that are no stream.",
    )(command)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that a configuration is made of, and `--json-log`."""
    options = (
        click.option(
            "--local",
            metavar="CIDR",
            multiple=True,
            help="A local network, such as 10.0.0.0/8; repeat it or separate by commas. Default: private ranges.",
        ),
        click.option(
            "--config", metavar="TOML", type=click.Path(dir_okay=False), help="A file with the keys of Config."
        ),
        click.option("--profile", metavar="NAME", help="Profile of timeouts and rules: linux, zeek, ..."),
        click.option("--threads", metavar="N", type=int, help="The most threads to track with."),
        click.option(
            "--tunnels",
            type=click.Choice(["inner", "outer", "both"]),
            help="Which connection of a tunnelled packet counts. Default: inner.",
        ),
        click.option("--strict", is_flag=True, help="Fail at the first damage instead of going on behind it."),
    )
    for option in reversed(options):
        command = option(command)
    return log.option(command)


def need_standard_output() -> None:
    """Fail where standard output is closed."""
    # Python has no file object for a descriptor that was closed before it started (`>&-`).
    if sys.stdout is None:
        raise click.ClickException("standard output is closed")


def config_of(
    local: tuple[str, ...],
    config: str | None,
    profile: str | None,
    threads: int | None,
    tunnels: str | None,
    strict: bool,
    **_: object,
) -> Config:
    """Merge the configuration file and the options, which take precedence."""
    base = Config() if config is None else Config.load(config)
    given: dict[str, Any] = {"profile": profile, "threads": threads, "tunnels": tunnels}
    if local:
        given["local"] = [network.strip() for networks in local for network in networks.split(",")]
    if strict:
        given["strict"] = True
    # An empty word and a zero were given too: they are for Config to refuse.
    return dataclasses.replace(base, **{key: value for key, value in given.items() if value is not None})


def tracked(files: tuple[str, ...], config: Config, progress: bool | None) -> TrackResult:
    """Track with progress and warnings, and log the counts of the run."""
    result = watched(progress, lambda bar: run(files, config=config, progress=bar))
    log.read(result.stats)
    return result


def watched(progress: bool | None, work: Callable[[bool | Progress], _T]) -> _T:
    """Run work with progress and warnings."""
    with log.warnings_of_the_library(), progress_of(progress) as tell:
        return work(False if tell is None else tell)


@contextlib.contextmanager
def progress_of(progress: bool | None) -> Iterator[Progress | None]:
    """Yield the receiver of progress, or None."""
    if log.is_json():
        yield log.Steps() if progress else None
    elif progress or (progress is None and sys.stderr is not None and sys.stderr.isatty()):
        with Bar(delay=0.0 if progress else _PATIENCE) as bar:
            yield bar
    else:
        yield None
