"""Counts of a run: records read, records skipped by reason, and the quality of the capture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conntrack_py import text
from conntrack_py.exceptions import CaptureWarning

if TYPE_CHECKING:
    import numpy as np

    from conntrack_py._native import _Account

#: Reasons to skip that lose nothing: such packets belong to no connection.
_HARMLESS = frozenset({"not_ip", "no_next_header"})
#: Singular and plural of each reason of `Stats.skipped`.
_WORDS = {
    "not_ip": ("frame without IP (ARP and the like)", "frames without IP (ARP and the like)"),
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
    "table_full": (
        "packet that found the table full of assured connections",
        "packets that found the table full of assured connections",
    ),
    "too_deep": ("packet with too many headers inside headers", "packets with too many headers inside headers"),
}


#: From these shares on, and of so many, what is wrong with a capture is worth a warning.
_MANY_ONE_SIDED = 0.5
_MANY_DUPLICATES, _LEAST_DUPLICATES = 0.05, 20
_MANY_CUT_HEADERS = 0.01
_MANY_UNKNOWN, _LEAST_CONNECTIONS = 0.25, 10


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of a capture: how far its results can be trusted.

    Attributes:
        observed: Connections whose opening packet was captured. ICMP errors, which initiate nothing, are not counted.
        inferred: Connections whose initiator other packets, addresses or ports tell; `evidence` says how.
        unknown: Connections about whose initiator nothing is known, scans and backscatter.
        tcp_connections: TCP connections that tell whether both ends were captured.
        one_sided: TCP connections of which one end was captured: its acknowledgements cover data not in the capture.
        tags_by_direction: Connections whose tags (VLAN, or network of VXLAN or GENEVE) differ by direction; the column
            `vlan_reply` has the other VLAN.
        tags_crowded: Connections with tags that no packet with other tags could join, for their five-tuple has too
            many: where their tags differ by direction, each half is a connection.
        compared: Packets that were compared with those before (IPv4 by identification, of IPv6 TCP data).
        duplicates: Compared packets that are a second copy within ten milliseconds, as of a mirror port that copies
            both inbound and outbound packets. Duplicates are counted like all others.
        cut_headers: Packets that the capture's snaplen cut within the transport header, so that no flags are known.
        fragments_without_ports: IP fragments whose first one, and with it the ports, was not captured.
        reordered: TCP handshakes whose SYN+ACK was stored before the SYN that it acknowledges, and that were put right.
        reordered_outside: Such handshakes whose SYN+ACK came from outside the local networks.
        reordered_inside: Such handshakes whose SYN+ACK went out of the local networks.
        reordered_lead: The median time in nanoseconds by which such SYN+ACKs were stamped before their SYNs; negative
            where the times are right, and only the stored order is not.
        clock_steps: How often the capture's clock stepped back by more than a second, or was set.
        largest_clock_step: The largest of these steps in nanoseconds, negative where it went back; 0 without one.
    """

    observed: int
    inferred: int
    unknown: int
    tcp_connections: int
    one_sided: int
    tags_by_direction: int
    tags_crowded: int
    compared: int
    duplicates: int
    cut_headers: int
    fragments_without_ports: int
    reordered: int
    reordered_outside: int
    reordered_inside: int
    reordered_lead: int
    clock_steps: int
    largest_clock_step: int

    def describe(self) -> list[str]:
        """Describe the flaws of the capture in plain words; empty if there are none."""
        found = []
        if self.one_sided:
            share = text.share(self.one_sided, self.tcp_connections)
            found.append(f"of {self.one_sided:,} TCP connections ({share}), only one end was captured")
        if self.tags_by_direction:
            found.append(f"the tags of {_connections(self.tags_by_direction)} differ by direction")
        if self.tags_crowded:
            many = _connections(self.tags_crowded)
            found.append(f"{many} with tags could not be joined, for too many have an equal five-tuple")
        if self.duplicates:
            share = text.share(self.duplicates, self.compared)
            found.append(f"{self.duplicates:,} packets ({share}) are second copies")
        if self.cut_headers:
            found.append(f"{self.cut_headers:,} packets were cut within their headers")
        if self.fragments_without_ports:
            found.append(f"{self.fragments_without_ports:,} fragments have no ports, for their first one is missing")
        if self.reordered:
            found.append(self._describe_reordered())
        if self.clock_steps:
            way = "back" if self.largest_clock_step < 0 else "ahead"
            often = "once" if self.clock_steps == 1 else f"{self.clock_steps:,} times"
            found.append(f"the clock stepped {often}, at most {text.span(abs(self.largest_clock_step))} {way}")
        return found

    def _describe_reordered(self) -> str:
        lead = self.reordered_lead / 1e6
        if lead > 0:
            early = f"stamped early, {lead:,.3g} ms before the SYN (the median)"
        else:
            early = f"stored early, though {-lead:,.3g} ms after the SYN by its time (the median)"
        sides = {"outside": self.reordered_outside, "the local networks": self.reordered_inside}
        named = [f"{number:,} from {side}" for side, number in sides.items() if number]
        count = f"{self.reordered:,} TCP handshake{'s' * (self.reordered != 1)}"
        return f"{count} had the SYN+ACK {early}" + (f": {' and '.join(named)}" if named else "")

    def warnings(self, packets: int) -> list[str]:
        """Warnings about the capture, each with its remedy.

        Args:
            packets: Packets of the capture.
        """
        found = []
        connections = self.observed + self.inferred + self.unknown
        if self.one_sided and self.one_sided >= _MANY_ONE_SIDED * self.tcp_connections:
            share = text.share(self.one_sided, self.tcp_connections)
            found.append(
                f"only one end of {share} of the TCP connections was captured, so that the other's packets are missing"
                " from every count: capture both directions"
            )
        if self.duplicates >= _LEAST_DUPLICATES and self.duplicates >= _MANY_DUPLICATES * self.compared:
            found.append(
                f"{text.share(self.duplicates, self.compared)} of the packets are second copies of others, and are"
                " counted with them: mirror each packet once, or remove the copies (editcap -d)"
            )
        if self.cut_headers and self.cut_headers >= _MANY_CUT_HEADERS * packets:
            found.append(
                f"{text.share(self.cut_headers, packets)} of the packets were cut within their headers, so that their"
                " flags are not known: capture with a larger snaplen"
            )
        if self.reordered:
            remedy = (
                "synchronise the clocks of the taps, or shift the early capture (editcap -t)"
                if self.reordered_lead > 0
                else "sort the capture by time (reordercap)"
            )
            found.append(f"{self._describe_reordered()}; no other packets were put in order: {remedy}")
        if self.clock_steps:
            found.append(f"{self.describe()[-1]}: durations and timeouts around that are wrong")
        if connections >= _LEAST_CONNECTIONS and self.unknown >= _MANY_UNKNOWN * connections:
            share = text.share(self.unknown, connections)
            found.append(f"nothing says who initiated {share} of the connections: do not build rules on those")
        return found


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Counts of a run, and of records it could not use.

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
        quality: Quality of the capture: certainty of the initiators, and flaws.
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
    quality: Quality

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
        return _in_words(reason, self.skipped[reason])

    def warning(self) -> str | None:
        """One warning about losses and flaws of the capture; None if there are none."""
        parts = [part for part in (self.describe_loss(), *self.quality.warnings(self.packets)) if part]
        return "; ".join(parts) or None

    def describe_loss(self) -> str | None:
        """Describe the losses in one line, with count and first place; None if there are none."""
        return describe_loss(self.skipped, self.skipped_at)


def describe_loss(skipped: Mapping[str, int], skipped_at: Mapping[str, tuple[str, int]]) -> str | None:
    """Describe the losses in one line, with count and first place; None if there are none."""
    losses = []
    for reason, count in skipped.items():
        if reason in _HARMLESS:
            continue
        file, offset = skipped_at.get(reason, (None, None))
        place = f", first in {file if file != '-' else 'standard input'} at byte {offset:,}" if file else ""
        losses.append(_in_words(reason, count) + place)
    return f"part of the capture was not used: {'; '.join(losses)}" if losses else None


def _connections(count: int) -> str:
    return f"{count:,} connection{'s' * (count != 1)}"


def _in_words(reason: str, count: int) -> str:
    return f"{count:,} {_WORDS[reason][count != 1]}"


def parted(skipped: Mapping[str, tuple[int, str, int]]) -> tuple[dict[str, int], dict[str, tuple[str, int]]]:
    """Split the extension module's dictionary into `Stats.skipped` and `Stats.skipped_at`."""
    places = {reason: (file, offset) for reason, (_, file, offset) in skipped.items() if file}
    return {reason: count for reason, (count, _, _) in skipped.items()}, places


def stats_from(account: _Account) -> Stats:
    """Make `Stats` of the extension module's counts."""
    skipped, skipped_at = parted(account["skipped"])
    return Stats(
        packets=account["packets"],
        bytes=account["bytes"],
        connections=account["connections"],
        skipped=skipped,
        skipped_at=skipped_at,
        evicted=account["evicted"],
        first_timestamp=account["first"],
        last_timestamp=account["last"],
        peak_connections=account["peak_connections"],
        snapped=account["snapped"],
        quality=Quality(**account["quality"]),
    )


def stats_with_warning(account: _Account) -> Stats:
    """Make `Stats`, and warn the caller's caller of losses and flaws."""
    stats = stats_from(account)
    warning = stats.warning()
    if warning is not None:
        warnings.warn(warning, CaptureWarning, stacklevel=3)
    return stats


def _moment(timestamp: int | None) -> np.datetime64:
    import numpy as np

    return np.datetime64("NaT", "ns") if timestamp is None else np.datetime64(timestamp, "ns")
