"""The account of a run: what was read, what was not and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conntrack_py._native import _Account

#: Reasons to skip that lose nothing: such packets belong to no connection.
_HARMLESS = frozenset({"not_ip", "no_next_header"})
#: What one and several packets skipped for a reason are called.
_WORDS = {
    "truncated": ("packet cut off before its addresses and ports", "packets cut off before their addresses and ports"),
    "link_type": ("packet of a link type that is not supported", "packets of a link type that is not supported"),
    "encrypted": ("encrypted wireless frame", "encrypted wireless frames"),
    "bad_ip_header": (
        "packet whose IP header contradicts itself",
        "packets whose IP headers contradict themselves",
    ),
    "fragment_without_first": (
        "IP fragment whose first fragment is missing",
        "IP fragments whose first fragments are missing",
    ),
    "bad_record_header": ("damaged record header", "damaged record headers"),
    "bad_block_length": ("damaged block", "damaged blocks"),
    "bad_section_header": ("damaged section header", "damaged section headers"),
    "unknown_interface": ("packet of an unknown interface", "packets of unknown interfaces"),
    "too_many_interfaces": ("section with too many interfaces", "sections with too many interfaces"),
    "packet_longer_than_block": ("packet longer than its block", "packets longer than their blocks"),
    "time_out_of_range": ("time out of range", "times out of range"),
    "truncated_file": ("file that ends inside a record", "files that end inside a record"),
    "damaged_compression": ("damaged compressed stream", "damaged compressed streams"),
    "no_next_header": ("IPv6 packet without a next header", "IPv6 packets without a next header"),
    "too_deep": ("packet with too many headers inside headers", "packets with too many headers inside headers"),
}


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a run read, and what it could not use.

    Attributes:
        packets: Records read from the captures.
        bytes: Their length on the wire, in bytes, whether captured in full or not.
        connections: Connections found.
        skipped: Reason → how often: packets that are in no connection (`not_ip`, `truncated`, `encrypted`,
            `bad_ip_header`, `fragment_without_first`, `no_next_header`, `link_type`, `too_deep`) and places of damage
            in the files (`truncated_file`, `bad_record_header`, `damaged_compression`, ...).
        skipped_at: Reason → (file, offset) of the first of them: the file as it was named, the byte in the
            uncompressed file. Reasons that have no single place are not in it.
        evicted: Connections dropped because the table was full.
        first_timestamp: Capture time of the first packet, nanoseconds since 1970 UTC; None where there is none.
        last_timestamp: The latest capture time, in the same way.
        peak_connections: The most connections that were alive at once.
        snapped: Packets shorter in the capture than on the wire. Their lengths are counted as the headers say.
    """

    packets: int
    bytes: int
    connections: int
    skipped: Mapping[str, int]
    skipped_at: Mapping[str, tuple[str, int]]
    evicted: int
    first_timestamp: int | None
    last_timestamp: int | None
    peak_connections: int
    snapped: int

    @property
    def first_time(self) -> np.datetime64:
        """`first_timestamp` as `datetime64[ns]`, UTC; NaT where there is none."""
        return _moment(self.first_timestamp)

    @property
    def last_time(self) -> np.datetime64:
        """`last_timestamp` as `datetime64[ns]`, UTC; NaT where there is none."""
        return _moment(self.last_timestamp)

    def describe_skipped(self, reason: str) -> str:
        """A reason of `skipped` in plain words, with its number: `3 encrypted wireless frames`."""
        count = self.skipped[reason]
        if reason == "not_ip":
            return f"{count:,} {'frame' if count == 1 else 'frames'} without IP (ARP and the like)"
        if reason in _WORDS:
            return f"{count:,} {_WORDS[reason][count != 1]}"
        return f"{reason.replace('_', ' ')} ({count:,} {'place' if count == 1 else 'places'})"

    def describe_loss(self) -> str | None:
        """What was lost, how often and where first, in one line; None where nothing was."""
        losses = []
        for reason in self.skipped:
            if reason in _HARMLESS:
                continue
            file, offset = self.skipped_at.get(reason, (None, None))
            place = f", first in {file if file != '-' else 'standard input'} at byte {offset:,}" if file else ""
            losses.append(self.describe_skipped(reason) + place)
        return f"part of the capture was not used: {'; '.join(losses)}" if losses else None


def stats_from(account: _Account) -> Stats:
    """The account of the extension module as `Stats`."""
    skipped = account["skipped"]
    return Stats(
        packets=account["packets"],
        bytes=account["bytes"],
        connections=account["connections"],
        skipped={reason: count for reason, (count, _, _) in skipped.items()},
        skipped_at={reason: (file, offset) for reason, (_, file, offset) in skipped.items() if file},
        evicted=account["evicted"],
        first_timestamp=account["first"],
        last_timestamp=account["last"],
        peak_connections=account["peak_connections"],
        snapped=account["snapped"],
    )


def _moment(timestamp: int | None) -> np.datetime64:
    return np.datetime64("NaT", "ns") if timestamp is None else np.datetime64(timestamp, "ns")
