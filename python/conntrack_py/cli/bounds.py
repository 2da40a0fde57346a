"""The bound on live connections of input without an end: a quarter of the memory, unless options say otherwise.

The kernel derives `nf_conntrack_max` from the machine's memory in the same way. In a container the memory is that of
its control group (cgroups(7), versions 1 and 2).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

import click

from conntrack_py.cli import log
from conntrack_py.config import Config
from conntrack_py.text import size
from conntrack_py.tracker import Tracker

#: Part of the memory that live connections take by default.
_PART = 4
#: Memory of a machine that does not tell, in bytes.
_UNTOLD = 4 << 30
#: Bytes of a live connection over IPv4, with its part of index and wheel; a test of the table measures it.
EACH = 160
_GROUPS, _CONTROL = "/proc/self/cgroup", "/sys/fs/cgroup"


def bound(tracker: Tracker, config: Config, *, lifted: bool) -> None:
    """Bound the live connections of a stream without an end, and log the bound.

    Args:
        tracker: The stream's tracker.
        config: Its configuration, whose own bounds stand.
        lifted: The memory is not to be bounded.
    """
    limit = config._memory_limit()
    why = ""
    if limit is None and not lifted:
        limit, why = memory() // _PART, " (a quarter of the memory)"
        tracker._bound(config.max_connections, limit)
    log.bounds(_said(config.max_connections, limit, why), config.max_connections, limit)


def _said(connections: int | None, limit: int | None, why: str) -> str:
    parts = []
    if connections is not None:
        parts.append(f"{connections:,} connections (--max-connections)")
    if limit is not None:
        parts.append(f"{size(limit)}{why}, which {limit // EACH:,} connections over IPv4 fill (--memory-limit)")
    return f"live connections: at most {' and '.join(parts)}" if parts else "live connections: no bound"


def memory() -> int:
    """Bytes of memory that the process may use: the machine's, or less in a control group or under a resource limit."""
    limits = [*_control_groups(), resource.getrlimit(resource.RLIMIT_AS)[0]]
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        limits.append(_UNTOLD)
    return min(limit for limit in limits if limit > 0)


def _control_groups(groups: str = _GROUPS, control: str = _CONTROL) -> Iterator[int]:
    """The limits of the process's control groups, and of those above."""
    try:
        with open(groups, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except (OSError, UnicodeDecodeError):
        return
    for found in lines:
        if len(found) != 3 or (found[1] and "memory" not in found[1].split(",")):
            continue
        base, name = (f"{control}/memory", "memory.limit_in_bytes") if found[1] else (control, "memory.max")
        path = found[2]
        while True:
            yield from _limit(f"{base}{path.rstrip('/')}/{name}")
            if path in ("", "/"):
                break
            path = os.path.dirname(path)


def _limit(path: str) -> Iterator[int]:
    try:
        with open(path, encoding="ascii") as file:
            yield int(file.read())
    except (OSError, ValueError):
        return  # There is no such group, or it has the limit `max`.


def lifts(value: str | None) -> bool:
    """The option asks for no bound."""
    return value is not None and value.strip().lower() == "none"


def option(command: Any) -> Any:
    """Add the options `--max-connections` and `--memory-limit`."""
    command = click.option(
        "--memory-limit",
        metavar="SIZE",
        help="The most memory for live connections, such as 512M or 2G; none: no bound. Default: of input without an "
        "end a quarter of the memory, else none.",
    )(command)
    return click.option(
        "--max-connections",
        metavar="N",
        type=int,
        help="The most connections that live at once. A new one then takes the place of one that is not assured.",
    )(command)
