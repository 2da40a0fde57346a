"""Options that commands share, and the run behind them."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from conntrack_py.cli import bounds, log, logs
from conntrack_py.config import PROFILES, Config
from conntrack_py.io.progress import Bar, Progress
from conntrack_py.io.source import Tree
from conntrack_py.table import Anonymiser
from conntrack_py.track import TrackResult
from conntrack_py.track import track as run

_T = TypeVar("_T")
#: Seconds a run takes before it has a progress bar.
_PATIENCE = 1.0
_RECURSIVE = "conntrack_py.recursive"
_LIFTED = "conntrack_py.lifted"
_TRANSLATIONS = "conntrack_py.translations"


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the captures and options of every command that tracks."""
    return _files(config_options(_progress(command)), required=True)


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add flow logs as the files, and the options of a configuration that are about them."""
    for option in (
        click.option(
            "--on-error",
            type=click.Choice(["stop", "skip"]),
            help="What to do with a file that cannot be read: stop (default), or go on with the next file, list it and "
            "exit with status 3.",
        ),
        click.option(
            "--config", metavar="TOML", type=click.Path(dir_okay=False), help="A file with the keys of Config."
        ),
        click.option(
            "--local",
            metavar="CIDR",
            multiple=True,
            help="A local network, such as 10.0.0.0/8; repeat it or separate by commas. Default: private ranges.",
        ),
    ):
        command = option(command)
    files = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(allow_dash=True))
    return files(log.option(_progress(command)))


def optional_input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the captures, which may be none, and the options of every command that tracks."""
    return _files(config_options(_progress(command)), required=False)


def _files(command: Callable[..., Any], required: bool) -> Callable[..., Any]:
    metavar = "FILE..." if required else "[FILE...]"
    files = click.argument(
        "files", metavar=metavar, nargs=-1, required=required, type=click.Path(allow_dash=True), callback=_trees
    )
    return files(_recursive(command))


def _recursive(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-r",
        "--recursive",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_note_recursive,
        help="Read the files of directories and of those below. What cannot be read is skipped.",
    )(command)


def _note_recursive(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_RECURSIVE] = value


def _trees(context: click.Context, _: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    """Mark the directories to read."""
    return tuple(map(Tree, files)) if context.meta.get(_RECURSIVE) else files


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
        click.option(
            "--profile",
            metavar="NAME",
            shell_complete=lambda _context, _option, begun: [one for one in PROFILES if one.startswith(begun)],
            help="Profile of timeouts and rules: linux, zeek, ...",
        ),
        click.option("--threads", metavar="N", type=int, help="The most threads to track with."),
        click.option(
            "--tunnels",
            type=click.Choice(["inner", "outer", "both"]),
            help="Which connection of a tunnelled packet counts. Default: inner.",
        ),
        click.option("--strict", is_flag=True, help="Fail at the first damage instead of going on behind it."),
        click.option(
            "--on-error",
            type=click.Choice(["stop", "skip"]),
            help="What to do with a file that cannot be read: stop (default), or go on with the next file, list it and "
            "exit with status 3.",
        ),
    )
    command = bounds.option(command)
    for option in reversed(options):
        command = option(command)
    return log.option(command)


def need_standard_output(output: str = "-") -> None:
    """Fail where standard output is closed, and is the output."""
    # Python has no file object for a descriptor that was closed before it started (`>&-`).
    if output == "-" and sys.stdout is None:
        raise click.ClickException("standard output is closed")


def config_of(
    local: tuple[str, ...],
    config: str | None,
    profile: str | None,
    threads: int | None,
    tunnels: str | None,
    strict: bool,
    on_error: str | None,
    max_connections: int | None,
    memory_limit: str | None,
    **_: object,
) -> Config:
    """Merge the configuration file and the options, which take precedence."""
    base = Config() if config is None else Config.load(config)
    given: dict[str, Any] = {"profile": profile, "threads": threads, "tunnels": tunnels, "on_error": on_error}
    given["max_connections"] = max_connections
    if bounds.lifts(memory_limit):
        base = dataclasses.replace(base, memory_limit=None)
        click.get_current_context().meta[_LIFTED] = True
    else:
        given["memory_limit"] = memory_limit
    if click.get_current_context().meta.get(_RECURSIVE):
        if on_error == "stop":
            raise click.UsageError("--recursive skips what cannot be read: leave --on-error stop out.")
        given["on_error"] = "skip"
    if local:
        given["local"] = [network.strip() for networks in local for network in networks.split(",")]
    if strict:
        given["strict"] = True
    # An empty word and a zero were given too: they are for Config to refuse.
    return dataclasses.replace(base, **{key: value for key, value in given.items() if value is not None})


def is_lifted() -> bool:
    """`--memory-limit none` was given."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_LIFTED))


def tracked(files: tuple[str, ...], config: Config, progress: bool | None, *, names: bool = False) -> TrackResult:
    """Track, or read the flow logs of `--flows`, with progress and warnings, and log the counts of the run."""
    if logs.asked() is not None:
        result = read_logs(files, config, progress)
    else:
        result = watched(progress, lambda bar: run(files, config=config, progress=bar, names=names))
    log.read(result.stats)
    return revealed(result)


def _note_translations(context: click.Context, _: click.Parameter, log_of_gateway: str | None) -> None:
    context.meta[_TRANSLATIONS] = log_of_gateway


#: The gateway's own table, by which `tracked` names true ends.
translations_option = click.option(
    "--translations",
    metavar="LOG",
    type=click.Path(),
    expose_value=False,
    callback=_note_translations,
    help="A gateway's own table, of conntrack -E or -L: true clients and servers in place of the gateway's address.",
)


def revealed(result: TrackResult) -> TrackResult:
    """The result with the true ends of connections, where `--translations` was given."""
    memory = click.get_current_context().meta.get(_TRANSLATIONS)
    if memory is None:
        return result
    from conntrack_py.nat import reveal

    with log.warnings_of_the_library():
        return dataclasses.replace(result, connections=reveal(result.connections, memory))


def source_of(files: tuple[str, ...], config: Config, progress: bool | None) -> Any:
    """The captures for the library to track, or the connections of `--flows` and `--translations`."""
    if logs.asked() is not None:
        return revealed(read_logs(files, config, progress))
    if click.get_current_context().meta.get(_TRANSLATIONS) is None:
        return files
    return revealed(watched(progress, lambda bar: run(files, config=config, progress=bar)))


def read_logs(files: tuple[str, ...], config: Config, progress: bool | None, kind: str | None = None) -> TrackResult:
    """Read flow logs with progress and warnings; `kind`: None for that of `--flows`."""
    return watched(progress, lambda bar: logs.logged(files, config, bar, kind))


#: Names that captures show.
names_option = click.option(
    "--names/--no-names",
    default=True,
    help="Show the names that DNS, TLS and HTTP had for addresses, in tables. Default: yes; one thread reads them.",
)


def anonymise_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--anonymise`, whose value `anonymised` takes."""
    return click.option(
        "--anonymise",
        metavar="KEY",
        help="Write names in place of addresses, the same for the same key: networks stay networks, and private ones "
        "private. KEY is a text of at least 8 characters, @FILE, or env:NAME for an environment variable.",
    )(command)


def anonymiser_of(key: str | None) -> Anonymiser | None:
    """The names of `--anonymise`, if it was given."""
    if key is None:
        return None
    try:
        return Anonymiser.of(key)
    except ValueError as error:
        raise click.UsageError(f"--anonymise: {error}.") from error


def anonymised(result: TrackResult, names: Anonymiser | None) -> TrackResult:
    """The result with names in place of addresses, where they were asked for."""
    return result if names is None else result.anonymised(names)


def watched(progress: bool | None, work: Callable[[Progress], _T]) -> _T:
    """Run work with progress and warnings."""
    with log.warnings_of_the_library(), progress_of(progress) as tell:
        return work(log.reading(tell))


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


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that write connections: where to, and to which files."""
    for option in (
        click.option(
            "--rotate",
            metavar="BOUND",
            multiple=True,
            help="Stream to files one after another: FILE.csv becomes FILE.000000.csv, FILE.000001.csv, ... A file is "
            "over after a time (15m, 1h, by the packets' times), a size (500MB, 1GB) or a number of rows (100k, 1M); "
            "repeat it for several. A file that is complete has its name, and is never written again.",
        ),
        click.option(
            "--by",
            type=click.Choice(["direction", "hour"]),
            help="Write a directory: a file for each direction, or for each hour (UTC) in which connections began.",
        ),
        click.option(
            "-o",
            "--output",
            metavar="FILE",
            default="-",
            help="Where to write to; - is standard output (default).",
        ),
    ):
        command = option(command)
    return command


def _inventory(_context: click.Context, _option: click.Parameter, path: str | None) -> Any:
    from conntrack_py.policy.inventory import Inventory

    return Inventory() if path is None else Inventory.load(path)


#: Names of hosts, for policies.
inventory_option = click.option(
    "--inventory",
    metavar="FILE",
    callback=_inventory,
    help="Names of hosts: a hosts file, CSV with address, name, owner, group, or leases of dhcpd or dnsmasq.",
)
#: A day for rules with a last one.
today_option = click.option(
    "--today",
    metavar="DAY",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=lambda _context, _option, day: None if day is None else day.date(),
    help="The day on which rules may have expired. Default: this day, in UTC.",
)
