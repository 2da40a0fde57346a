"""`label` and `split`: packets written back with comments, or to one file for each direction."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conntrack_py import _native
from conntrack_py.config import Config, checked
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.io.formats import SupportsWrite
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import Input, Source, inputs
from conntrack_py.stats import stats_with_warning
from conntrack_py.table import Anonymiser, ConnectionTable
from conntrack_py.text import counted, printable
from conntrack_py.track import TrackResult


def label(
    source: Source | Iterable[Source],
    output: str | os.PathLike[str] | SupportsWrite,
    *,
    config: Config | None = None,
    progress: bool | Progress = False,
    names: Anonymiser | None = None,
) -> TrackResult:
    """Write the packets of a capture as pcapng, each with its direction bits and a comment.

    The bits (`epb_flags`; in Wireshark `frame.packet_flags_direction`) are inbound (1) or outbound (2), seen from the
    local networks, and unset for internal and transit connections. The comment (`frame.comment`) has the originator,
    the evidence, and the conntrack state of the packet: `orig=10.0.0.5:51514
    resp=203.0.113.80:443 direction=egress sender=resp ctstate=ESTABLISHED state=ESTABLISHED evidence=syn
    confidence=1.00`.

    Args:
        source: Files by path, pattern or list; they are read twice, so neither standard input nor file objects.
        output: The file, which appears under its name once it is complete, or a binary file object.
        config: The configuration; by default `Config()`.
        progress: As for `track`.
        names: Write headers alone, with these names in place of addresses, as Ethernet frames without MAC addresses.
            Payloads are cut off, and with them tunnelled packets and those that ICMP errors quote; TCP options that may
            hold addresses are blanked. Packets without an IP header (ARP) or with a damaged one are left out.

    Returns:
        The result of `track`, without labels. With `names` it has names, too.

    Raises:
        ValueError: A source can be read only once.
        CaptureError: As for `track`.
        RuntimeError: The capture changed between the first reading and the second.
        OSError: The system refused.

    Warns:
        CaptureWarning: As for `track`; and with `names`, packets were left out.
    """
    with ExitStack() as stack:
        config = checked(config)
        opened, tell = _files(source, config), observer(progress, stack)
        by = None if names is None else names._native
        native, account, dropped = _native.label(opened, config._native(), output, tell, by)
    _warn_of(dropped)
    result = _result(ConnectionTable(native), account, names)
    return dataclasses.replace(result, config=config, sources=tuple(name for name, _ in opened))


def split(
    source: Source | Iterable[Source],
    directory: str | os.PathLike[str],
    *,
    config: Config | None = None,
    progress: bool | Progress = False,
    names: Anonymiser | None = None,
) -> tuple[TrackResult, list[Path]]:
    """Write the packets of a capture to one pcapng file for each direction of their connections.

    The files are `egress.pcapng`, `ingress.pcapng`, ...; `none.pcapng` has the packets of no connection. Files without
    packets are not written. All files appear once all of them are complete.

    Args:
        source: As for `label`.
        directory: The output directory, created if necessary.
        config: The configuration; by default `Config()`.
        progress: As for `track`.
        names: As for `label`.

    Returns:
        The result of `track`, without labels, and the files.

    Raises:
        ValueError: A source can be read only once.
        CaptureError: As for `track`.
        RuntimeError: The capture changed between the first reading and the second.
        OSError: The system refused.
    """
    with ExitStack() as stack:
        config = checked(config)
        opened, tell = _files(source, config), observer(progress, stack)
        by = None if names is None else names._native
        native, account, files, dropped = _native.split(opened, config._native(), directory, tell, by)
    _warn_of(dropped)
    result = _result(ConnectionTable(native), account, names)
    sources = tuple(name for name, _ in opened)
    return dataclasses.replace(result, config=config, sources=sources), [Path(file) for file in files]


def _result(table: ConnectionTable, account: Any, names: Anonymiser | None) -> TrackResult:
    shown = table if names is None else names.table(table)
    return TrackResult(shown, stats_with_warning(account), None)


def _warn_of(dropped: int) -> None:
    if dropped:
        message = f"{counted(dropped, 'packet')} left out: there is no whole IP header to write under other names"
        warnings.warn(message, CaptureWarning, stacklevel=3)


def _files(source: Any, config: Config) -> list[Input]:
    """The files, which must be there to be read again. Those that are not read are left as they are."""
    found = inputs(source, config)
    for name, file in found:
        is_once = hasattr(file, "read") or (os.path.exists(name) and not os.path.isfile(name))
        if name == "-" or (is_once and not isinstance(file, str)):
            raise ValueError(f"source: {printable(name)} can be read only once; write it to a file first")
    return found
