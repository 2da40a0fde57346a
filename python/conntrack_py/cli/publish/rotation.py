"""`--rotate`: when a file of a stream is over."""

from __future__ import annotations

import re
from dataclasses import dataclass

import click

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_ROWS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_WORD = re.compile(r"([0-9]{1,12})([A-Za-z]*)")
#: A day and a year, in seconds: bounds of a file's time.
_LONGEST = 366 * 86_400


@dataclass(frozen=True)
class Rotation:
    """Bounds of a file; None: none."""

    #: Seconds of capture time, counted from 1970 UTC.
    seconds: int | None = None
    size: int | None = None
    rows: int | None = None


def rotation(words: tuple[str, ...]) -> Rotation | None:
    """The bounds that words such as `1h`, `1GB` and `1M` name; None without words.

    Raises:
        click.UsageError: A word is none, or names a bound again.
    """
    found: dict[str, int] = {}
    for word in (part for words_of in words for part in words_of.split(",")):
        name, number = _bound(word.strip())
        if name in found:
            raise click.UsageError(f"--rotate {word}: found a second bound of {name}, expected one of each.")
        found[name] = number
    return Rotation(**found) if found else None


def _bound(word: str) -> tuple[str, int]:
    match = _WORD.fullmatch(word)
    if match is not None:
        number, unit = int(match[1]), match[2]
        # 1M is a million rows, 1m a minute.
        for name, units, key in (("seconds", _SECONDS, unit), ("rows", _ROWS, unit), ("size", _BYTES, unit.lower())):
            value = number * units.get(key, 0)
            if value and (name != "seconds" or value <= _LONGEST):
                return name, value
    raise click.UsageError(
        f"--rotate {word}: expected a time (90s, 15m, 1h, 1d), a size (500MB, 1GB) or a number of rows (100k, 1M)."
    )
