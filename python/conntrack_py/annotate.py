"""`label` and `split`: packets written back with comments, or to one file for each direction."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conntrack_py import _native
from conntrack_py.config import Config, checked
from conntrack_py.io.formats import SupportsWrite
from conntrack_py.io.progress import Progress, observer
from conntrack_py.io.source import Source, inputs
from conntrack_py.stats import stats_with_warning
from conntrack_py.table import ConnectionTable
from conntrack_py.track import TrackResult


def label(
    source: Source | Iterable[Source],
    output: str | os.PathLike[str] | SupportsWrite,
    *,
    config: Config | None = None,
    progress: bool | Progress = False,
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

    Returns:
        The result of `track`, without labels.

    Raises:
        ValueError: A source can be read only once.
        CaptureError: As for `track`.
        RuntimeError: The capture changed between the first reading and the second.
        OSError: The system refused.
    """
    with ExitStack() as stack:
        names = _names(source)
        native, account = _native.label(names, checked(config)._native(), output, observer(progress, stack))
    return TrackResult(ConnectionTable(native), stats_with_warning(account), None)


def split(
    source: Source | Iterable[Source],
    directory: str | os.PathLike[str],
    *,
    config: Config | None = None,
    progress: bool | Progress = False,
) -> tuple[TrackResult, list[Path]]:
    """Write the packets of a capture to one pcapng file for each direction of their connections.

    The files are `egress.pcapng`, `ingress.pcapng`, ...; `none.pcapng` has the packets of no connection. Files without
    packets are not written. All files appear once all of them are complete.

    Args:
        source: As for `label`.
        directory: The output directory, created if necessary.
        config: The configuration; by default `Config()`.
        progress: As for `track`.

    Returns:
        The result of `track`, without labels, and the files.

    Raises:
        ValueError: A source can be read only once.
        CaptureError: As for `track`.
        RuntimeError: The capture changed between the first reading and the second.
        OSError: The system refused.
    """
    with ExitStack() as stack:
        names = _names(source)
        native, account, files = _native.split(names, checked(config)._native(), directory, observer(progress, stack))
    result = TrackResult(ConnectionTable(native), stats_with_warning(account), None)
    return result, [Path(file) for file in files]


def _names(source: Any) -> list[str]:
    """The files, which must be there to be read again."""
    names = []
    for name, file in inputs(source):
        if file is not None or name == "-" or not os.path.isfile(name):
            raise ValueError(f"source: {name} can be read only once; write it to a file first")
        names.append(name)
    return names
