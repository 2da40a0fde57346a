"""Helpers of the sections: plain values, already in words, that the template shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from conntrack_py import text
from conntrack_py.analysis.servers import Initiative
from conntrack_py.reporting.facts import short
from conntrack_py.reporting.words import hosts

Section = dict[str, Any]


def breakable(address: str) -> Markup:
    """An address that breaks after colons, as one of IPv6 may; one of IPv4 never does."""
    return Markup("<wbr>").join(Markup("{}").format(part) for part in _parts(address))


def _parts(address: str) -> list[str]:
    pieces = address.split(":")
    return [f"{piece}:" for piece in pieces[:-1]] + [pieces[-1]]


def to_words(one: Initiative) -> str:
    """Destinations by address, or their number."""
    if one.destinations <= 2:
        return ", ".join(one.named)
    return hosts(one.destinations)


def first_of(words: Iterable[str], most: int) -> str:
    """The first of some words, and the number of the rest."""
    listed = list(words)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(map(short, listed[:most])) + more


def more_of(number: int, noun: str) -> str:
    """A line about rows that a list leaves out; "" where there are none."""
    return f"and {text.counted(number, noun)} more" if number > 0 else ""
