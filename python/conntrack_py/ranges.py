"""Ranges of one capture that are read apart, with the records of the whole.

A start is guessed at each wished offset, and each guess is proved: a walk over the record headers before it has to land
on it. A guess inside a payload is walked over, and its range is read with the one before. Walks run side by side. Each
goes past two guesses at most, so that a capture full of false starts costs a bounded number of reads. A walk that lands
on neither is repeated to the end if its own start is proved, which happens once for each byte.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from conntrack_py import _native
from conntrack_py.io import remote
from conntrack_py.io.source import SupportsRead

#: Guesses that a walk may go past before its own start is proved.
_SIDE_BY_SIDE = 2
#: Captures with other headers, one behind the other in a file, that begin a range; behind them is one range.
_MOST_PARTS = 1024


@dataclass(frozen=True, slots=True)
class Range:
    """Records of a capture that `decode_headers` reads apart.

    Attributes:
        start: Byte offset of the first record.
        end: Byte offset at which the next range starts; None: the end of the file.
        head: What a reading needs from the bytes before: the file header, and the record in front of the start.
    """

    start: int
    end: int | None
    head: bytes = field(default=b"", repr=False)


class _Start(NamedTuple):
    offset: int
    head: bytes
    before: int


#: Applies a function to each item, in any place; results in the order of the items.
Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


def split_points(path: str | os.PathLike[str], ranges: int) -> list[Range]:
    """Ranges of about equal size that together have each record of a capture once.

    The result is exact for every file: no guess is used that a walk over the records did not land on. A file that
    cannot be split has one range: a compressed one, snoop, and a pcap whose writer has odd record headers. Where a file
    has captures with other headers one behind the other (`cat`), each begins a range of its own.

    Args:
        path: A path or URL of a file that does not change.
        ranges: How many ranges are wished. Fewer come of a small file, more of a file with other headers inside.

    Raises:
        FileNotFoundError: There is no such file.
        CaptureError: The file cannot be read.
        ValueError: `ranges` is less than 1.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return split_by(os.fspath(path), ranges, lambda work, items: pool.map(work, items))


def split_by(path: str, ranges: int, run: Run) -> list[Range]:
    """As `split_points`, with guesses and walks run elsewhere."""
    count = operator.index(ranges)
    if count < 1:
        raise ValueError(f"ranges: found {count}, expected 1 or more")
    size = size_of(path)
    if size is None or count == 1:
        return [Range(0, None)]
    wished = [size * number // count for number in range(1, count)]
    found: list[Range] = []
    start = _Start(0, b"", 0)
    for _ in range(_MOST_PARTS):
        first = _read(path, start.offset, _native.Walk.FRONT)
        if _native.range_header(first) is None:
            break
        ranges_of_part, part = _part(path, start, first, [at for at in wished if at > start.offset], run)
        found += ranges_of_part
        if part is None:
            return found
        start = _Start(part, b"", 0)
    return [*found, Range(start.offset, None)]


def _part(path: str, start: _Start, first: bytes, wished: list[int], run: Run) -> tuple[list[Range], int | None]:
    """The ranges from a start to the end of the captures with the same header; and the offset of the next capture."""
    guessed = {one.offset: one for one in run(functools.partial(_guess, path, first), wished) if one is not None}
    starts = [start, *(guessed[at] for at in sorted(guessed) if at > start.offset)]
    targets = [(one.offset, one.before) for one in starts]
    last = len(targets) - _SIDE_BY_SIDE
    jobs = [(one, targets[at + 1 : at + 1 + _SIDE_BY_SIDE], at + 1 < last) for at, one in enumerate(starts)]
    walk = functools.partial(_walk, path, first)
    landed = dict(zip((one.offset for one in starts), run(walk, jobs), strict=True))
    found = []
    while True:
        word, at = landed[start.offset]
        if word == "more":
            word, at = walk((start, [target for target in targets if target[0] > start.offset], False))
        found.append(Range(start.offset, None if word == "ended" else at, start.head))
        if word != "landed":
            return found, at if word == "part" else None
        start = guessed[at]


def _guess(path: str, first: bytes, wished: int) -> _Start | None:
    """The first start behind an offset; a guess."""
    found = _native.find_start(first, _read(path, wished, _native.Walk.WINDOW), wished)
    return None if found is None else _Start(*found)


def _walk(path: str, first: bytes, job: tuple[_Start, list[tuple[int, int]], bool]) -> tuple[str, int]:
    """The end of a range: `landed` on a target, `part` at another header, `ended` with the file, or `more` to go."""
    start, targets, is_bounded = job
    header = _native.range_header(first)
    limit = targets[-1][0] if is_bounded else None
    file = opened(path, start.offset)
    walk = _native.Walk(path, file, (start.offset, start.head), targets, first)
    try:
        while True:
            word, at = walk.step()
            if word == "part" and _native.range_header(_read(path, at, _native.Walk.FRONT)) == header:
                continue
            if word != "more" or (limit is not None and at > limit):
                return word, at
    finally:
        if file is not None:
            file.close()


def opened(path: str, offset: int) -> remote.Remote | None:
    """The object of a URL, at an offset; None for a file, which the extension module opens."""
    if not remote.is_url(path):
        return None
    file = remote.Remote(path)
    file.seek(offset)
    return file


def size_of(path: str) -> int | None:
    """Size of a file or object in bytes; None where it is not known."""
    return remote.size_of(path) if remote.is_url(path) else os.stat(path).st_size


def _read(path: str, offset: int, size: int) -> bytes:
    """Bytes from an offset; fewer at the end."""
    file: Any = opened(path, offset)
    if file is None:
        file = open(path, "rb")  # noqa: SIM115
        file.seek(offset)
    try:
        return b"".join(iter(functools.partial(_piece, file, [size]), b""))
    finally:
        file.close()


def _piece(file: SupportsRead, left: list[int]) -> bytes:
    data = file.read(left[0]) if left[0] else b""
    left[0] -= len(data)
    return data
