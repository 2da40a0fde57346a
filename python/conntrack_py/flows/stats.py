"""The account of flow logs: records read, bad ones by reason, and what the logs leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conntrack_py import text

#: Reasons of bad records that a warning names.
_MOST_REASONS = 5
#: From this share on, TCP connections without flags are worth a warning.
_MANY_WITHOUT_FLAGS = 0.5


@dataclass(frozen=True, kw_only=True)
class BadRecords:
    """Records that were not read for one reason.

    Attributes:
        count: Number of records.
        file: File of the first; `-` is standard input.
        place: Line of the first, from 1; of a binary file the byte offset.
        text: Beginning of the first.
    """

    count: int
    file: str
    place: int
    text: str

    def __str__(self) -> str:
        """Number and first place."""
        shown = f": {text.printable(self.text)}" if self.text else ""
        return f"{self.count:,}, first at {text.printable(self.file)}:{self.place}{shown}"


@dataclass(frozen=True, kw_only=True)
class FlowStats:
    """Counts of a run over flow logs.

    Attributes:
        records: Records, bad ones included. Of Azure, tuples.
        bytes: Bytes of the files, uncompressed.
        kinds: Files with the kind of each.
        skipped: Bad records by reason.
        missing: Records that tell of missing records (AWS `SKIPDATA`); None: there are none.
        no_data: Records that tell of a time without traffic (AWS `NODATA`).
        other: Lines and documents about something else: heads, events, other logs.
        sampled: Records of sampled packets. Short connections may be missing.
        seen_twice: Connections that several observers logged: the larger counts stand, never the sum.
        without_flags: TCP connections without flags in their records. Ports and peers tell the originator.
        one_way: Connections of which one direction was logged.
        refused: Connections that were refused.
        connections: Connections.
        skipped_files: Files that were passed over, with the reason.
    """

    records: int
    bytes: int
    kinds: Mapping[str, str]
    skipped: Mapping[str, BadRecords] = field(default_factory=dict)
    missing: BadRecords | None = None
    no_data: int = 0
    other: int = 0
    sampled: int = 0
    seen_twice: int = 0
    without_flags: int = 0
    one_way: int = 0
    refused: int = 0
    connections: int = 0
    skipped_files: Mapping[str, str] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Describe losses, and what the logs leave out, in plain words; empty if there is nothing."""
        found = [f"{text.printable(file)}: skipped: {reason}" for file, reason in self.skipped_files.items()]
        if self.skipped:
            bad = sum(one.count for one in self.skipped.values())
            ranked = sorted(self.skipped.items(), key=lambda item: (-item[1].count, item[0]))
            shown = "; ".join(f"{reason} ({one})" for reason, one in ranked[:_MOST_REASONS])
            more = f"; {len(ranked) - _MOST_REASONS} more reasons" if len(ranked) > _MOST_REASONS else ""
            found.append(f"{bad:,} of {text.counted(self.records, 'record')} were not read: {shown}{more}")
        if self.missing is not None:
            found.append(f"the log lacks records, as its SKIPDATA lines tell ({self.missing}): counts are too low")
        if self.sampled:
            found.append(f"{text.counted(self.sampled, 'record')} of sampled packets: short connections may be missing")
        if self.without_flags > _MANY_WITHOUT_FLAGS * max(self.connections, 1):
            found.append(
                f"{text.counted(self.without_flags, 'TCP connection')} have no TCP flags in the log, so that ports and "
                "peers tell the originator; AWS: add tcp-flags, pkt-srcaddr and pkt-dstaddr to the format"
            )
        return found


def stats_from(account: Mapping[str, Any]) -> FlowStats:
    """Make `FlowStats` of the extension module's counts."""
    given = dict(account)
    bad = {reason: _bad(one) for reason, one in given.pop("skipped").items()}
    missing = given.pop("missing")
    kinds, files = dict(given.pop("kinds")), dict(given.pop("skipped_files"))
    return FlowStats(
        kinds=kinds, skipped=bad, missing=None if missing is None else _bad(missing), skipped_files=files, **given
    )


def _bad(native: tuple[int, str, int, str]) -> BadRecords:
    count, file, place, shown = native
    return BadRecords(count=count, file=file, place=place, text=shown)
