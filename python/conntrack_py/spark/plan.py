"""Work of a run: which file, or range of a file, is read by which task."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from conntrack_py.config import Config
from conntrack_py.io.source import inputs
from conntrack_py.ranges import Range, Run, size_of, split_by

#: Bytes of small files, or of small ranges, that one task reads together.
TASK_BYTES = 128 << 20


class Piece(NamedTuple):
    """A file, or a range of it.

    Attributes:
        file: Number of the file, by sorted names.
        path: Path or URL.
        part: None for the whole file.
    """

    file: int
    path: str
    part: Range | None


def pieces(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], config: Config) -> list[Piece]:
    """The files that paths, patterns and URLs name, each once, numbered by their sorted names.

    Raises:
        FileNotFoundError: There is no such file, or none matches.
        ValueError: A source is no name, or there is none.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    for one in given:
        if one == "-" or not isinstance(one, (str, os.PathLike)):
            raise ValueError(f"paths: found {one!r}, expected paths and URLs that each worker can open")
    names = {name if "://" in name else os.path.abspath(name) for name, _ in inputs(given, config)}
    return [Piece(number, name, None) for number, name in enumerate(sorted(names))]


def split(found: list[Piece], most: int, run: Run) -> list[Piece]:
    """Ranges of at most about `most` bytes in place of larger files."""
    every: list[Piece] = []
    for piece in found:
        size = _size(piece.path)
        wished = -(-size // most) if size else 1
        ranges = split_by(piece.path, wished, run) if wished > 1 else []
        every += [piece._replace(part=part) for part in ranges] if len(ranges) > 1 else [piece]
    return every


def tasks(found: list[Piece]) -> Iterator[list[Piece]]:
    """Pieces by task: small ones together."""
    task: list[Piece] = []
    held = 0
    for piece in found:
        size = _bytes(piece)
        if task and held + size > TASK_BYTES:
            yield task
            task, held = [], 0
        task.append(piece)
        held += size
    if task:
        yield task


def _bytes(piece: Piece) -> int:
    part = piece.part
    if part is not None and part.end is not None:
        return part.end - part.start
    return max((_size(piece.path) or 0) - (part.start if part else 0), 0)


def _size(path: str) -> int | None:
    """Size in bytes; None where it is not known, or the reading will tell why the file cannot be had."""
    try:
        return size_of(path)
    except (OSError, ValueError):
        return None
