"""The front door: captures in, connections and labels out."""

from __future__ import annotations

import dataclasses
import errno
import glob
import io
import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from conntrack_py import _native, text
from conntrack_py.config import Config
from conntrack_py.connections import ConnectionTable
from conntrack_py.exceptions import CaptureWarning
from conntrack_py.stats import Stats, stats_from

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SupportsRead(Protocol):
    """A binary file object to read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


Source = str | os.PathLike[str] | SupportsRead
Progress = Callable[[int, int | None, int], object]


@dataclass(frozen=True, eq=False, repr=False)
class TrackResult:
    """What `track` found.

    Attributes:
        connections: The connections, one row each, in the order of their first packets.
        stats: What was read, and what was not and why.
        labels: None unless asked for: a structured array, one row per captured packet in capture order (several files:
            merged by time). Fields: `connection` i8 (row in `connections`; -1: not tracked), `ctstate` u1 (`CtState`)
            and `ctdir` u1 (`CtDir`) as a Linux gateway would have them, `reply` bool (sent by the responder),
            `direction` u1 (`Direction` of the connection), `state` u1 (`State` of the connection after this packet).
    """

    connections: ConnectionTable
    stats: Stats
    labels: NDArray[np.void] | None

    def __repr__(self) -> str:
        """The size of it, and how many connections of each direction."""
        codes, words = self.connections.codes("direction")
        directions = ", ".join(f"{words[code]} {count:,}" for code, count in Counter(codes.tolist()).most_common())
        facts = [f"{len(self.connections):,} connections" + (f" ({directions})" if directions else "")]
        facts.append(f"{self.stats.packets:,} packets")
        if self.stats.first_timestamp is not None and self.stats.last_timestamp is not None:
            facts.append(f"{text.span(self.stats.last_timestamp - self.stats.first_timestamp)}")
        if self.stats.skipped:
            facts.append(f"{sum(self.stats.skipped.values()):,} skipped")
        if self.labels is not None:
            facts.append("with labels")
        return f"<TrackResult: {', '.join(facts)}>"


def track(
    source: Source | Iterable[Source],
    *,
    local: str | Sequence[str] | None = None,
    config: Config | None = None,
    labels: bool = False,
    threads: int | None = None,
    progress: bool | Progress = False,
) -> TrackResult:
    """Track the connections of a capture.

    Pcap and pcapng are known by their content, as are gzip, zstd, lz4, xz and bzip2 around them.

    Args:
        source: A path; a glob pattern (a file that has the pattern for a name goes first); `"-"` for standard input; a
            binary file object; or a list of these, whose packets are merged by time.
        local: The networks whose perspective is taken, as CIDR text; instead of `config.local`.
        config: The configuration; by default `Config()`.
        labels: Whether to label every packet, at 16 bytes each.
        threads: Instead of `config.threads`.
        progress: True shows a bar on standard error. A callable is called about ten times a second with the bytes
            read, the bytes in all (None where a source has no size) and the packets so far.

    Returns:
        The connections, the account and, if asked for, the labels.

    Raises:
        FileNotFoundError: There is no such file, or nothing matches the pattern.
        IsADirectoryError: A source is a directory.
        CaptureError: A file is no capture, its link type has no decoder, or it is damaged and `config.strict` is set.
        ConfigError: `local` or `threads` is refused.

    Warns:
        CaptureWarning: Part of the capture was not used: it is damaged, or packets could not be decoded; or its answers
            are to be taken with care: one end was captured, packets twice, the clock stepped, or hardly any beginning
            is in it. Said once, at the end, in words; `stats` has it by reason, and `stats.quality` in numbers.
    """
    config = checked(config)
    if local is not None:
        config = dataclasses.replace(config, local=local)
    if threads is not None:
        config = dataclasses.replace(config, threads=threads)
    with ExitStack() as stack:
        opened = inputs(source)
        native, memory, account = _native.track(opened, config._native(), labels, observer(progress, stack))
    stats = stats_with_warning(account)
    return TrackResult(ConnectionTable(native), stats, None if memory is None else labels_of(memory))


def labels_of(memory: _native.Buffer) -> NDArray[np.void]:
    """The labels that the Rust core laid out: see `TrackResult.labels`."""
    import numpy as np

    return np.frombuffer(memoryview(memory), dtype=_label())


@cache
def _label() -> np.dtype[np.void]:
    import numpy as np

    names, formats, offsets = (list(facts) for facts in zip(*_native.LABEL_FIELDS, strict=True))
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": _native.LABEL_WIDTH})


def stats_with_warning(account: _native._Account) -> Stats:
    """The account of a run; what of the capture was not used is a warning to the caller of what calls this."""
    stats = stats_from(account)
    warning = stats.warning()
    if warning is not None:
        warnings.warn(warning, CaptureWarning, stacklevel=3)
    return stats


def checked(config: Config | None) -> Config:
    """The configuration that was given, or the default one."""
    if config is None:
        return Config()
    if not isinstance(config, Config):
        raise TypeError(f"config: found {type(config).__name__}, expected conntrack_py.Config")
    return config


def observer(progress: bool | Progress, stack: ExitStack) -> Progress | None:
    """What is told how far a run has come, if anything is."""
    if callable(progress):
        return progress
    if not progress:
        return None
    from conntrack_py.progress import Bar

    return stack.enter_context(Bar())


def inputs(source: Any) -> list[tuple[str, SupportsRead | None]]:
    """Every source by name, with a file object where it is not Rust that opens it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        raise TypeError("source: found bytes; wrap them in io.BytesIO")
    several = not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read")
    if several and not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(f"source: found {kind}, expected a path, a binary file object or a list of them")
    found = [one for some in (source if several else [source]) for one in _found(some)]
    if not found:
        raise ValueError("source: the list of captures is empty")
    return found


def _found(source: Any) -> list[tuple[str, SupportsRead | None]]:
    if hasattr(source, "read"):
        if isinstance(source, io.TextIOBase):
            raise TypeError(f"source: {_name(source)} is open as text; open it in binary mode, 'rb'")
        return [(_name(source), source)]
    if source == "-":
        return [("-", None)]
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: found {type(source).__name__}, expected a path or a binary file object")
    path = os.fsdecode(source)
    if not isinstance(source, str) or os.path.lexists(path) or not glob.has_magic(path):
        # Its absence is Python's own error.
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return [(path, None)]
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if not os.path.isdir(match)]
    if not matches:
        raise FileNotFoundError(errno.ENOENT, "no file matches this pattern", path)
    return [(match, None) for match in matches]


def _name(file: Any) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"<{type(file).__name__}>"
