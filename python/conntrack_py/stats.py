"""Counts of a run: records read, records skipped by reason, and the quality of the capture."""

from __future__ import annotations

import dataclasses
import os
import shlex
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    "subframe": (
        "subframe of a wireless aggregate (A-MSDU) beside the one read",
        "subframes of wireless aggregates (A-MSDU) beside the one read",
    ),
    "bad_record_header": ("damaged record header", "damaged record headers"),
    "bad_block_length": ("damaged block", "damaged blocks"),
    "bad_section_header": ("damaged section header", "damaged section headers"),
    "unknown_interface": ("packet of an unknown interface", "packets of unknown interfaces"),
    "too_many_interfaces": (
        "interface beyond the 65,536 of its section",
        "interfaces beyond the 65,536 of their section",
    ),
    "packet_longer_than_block": ("packet longer than its block", "packets longer than their blocks"),
    "time_out_of_range": ("time out of range", "times out of range"),
    "truncated_file": ("file that ends inside a record", "files that end inside a record"),
    "damaged_compression": ("damaged compressed stream", "damaged compressed streams"),
    "no_next_header": ("IPv6 packet without a next header", "IPv6 packets without a next header"),
    "table_full": (
        "packet that began no connection in a full table (the places looked at held assured connections only)",
        "packets that began no connection in a full table (the places looked at held assured connections only)",
    ),
    "kernel_drops": ("packet that the kernel dropped", "packets that the kernel dropped"),
    "too_deep": ("packet with too many headers inside headers", "packets with too many headers inside headers"),
}


#: From these shares on, and of so many, what is wrong with a capture is worth a warning.
_MANY_ONE_SIDED = 0.5
_MANY_DUPLICATES, _LEAST_DUPLICATES = 0.05, 20
_MANY_CUT_HEADERS = 0.01
_MUCH_LOST = 0.01
_MANY_UNKNOWN, _LEAST_CONNECTIONS = 0.25, 10
_MANY_WITHOUT_IP = 0.5
#: Files out of order that a warning names.
_MOST_UNSORTED = 8
#: Endings of file names that a sorted copy does not keep.
_COMPRESSED = frozenset({".gz", ".zst", ".lz4", ".xz", ".bz2"})
_CAPTURES = frozenset({".pcap", ".pcapng", ".cap", ".dmp", ".ntar"})


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
            found.append(f"of {text.counted(self.one_sided, 'TCP connection')} ({share}), only one end was captured")
        if self.tags_by_direction:
            found.append(f"the tags of {_connections(self.tags_by_direction)} differ by direction")
        if self.tags_crowded:
            many = _connections(self.tags_crowded)
            found.append(f"{many} with tags could not be joined, for too many have an equal five-tuple")
        if self.duplicates:
            share = text.share(self.duplicates, self.compared)
            copies = "is a second copy" if self.duplicates == 1 else "are second copies"
            found.append(f"{text.counted(self.duplicates, 'packet')} ({share}) {copies}")
        if self.cut_headers:
            were = "was cut within its" if self.cut_headers == 1 else "were cut within their"
            found.append(f"{text.counted(self.cut_headers, 'packet')} {were} headers")
        if self.fragments_without_ports:
            one = self.fragments_without_ports == 1
            has = "has no ports, for the" if one else "have no ports, for their"
            found.append(f"{text.counted(self.fragments_without_ports, 'fragment')} {has} first one is missing")
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
class SkippedFile:
    """A file that was not read to its end, with `Config(on_error="skip")`.

    Attributes:
        file: The file as it was named. `os.fsencode` gives the bytes of a name that is no text.
        reason: Why, without the name.
        offset: The byte of the uncompressed file up to which it was read; None where it could not be opened.
        packets: Packets before that, which are counted and used.
    """

    file: str
    reason: str
    offset: int | None
    packets: int

    def __str__(self) -> str:
        """One line, with no more than printable characters."""
        used = f" (its {self.packets:,} packet{'s' * (self.packets != 1)} before that are used)" if self.packets else ""
        return text.printable(f"{_shown(self.file)}: {self.reason}{used}")


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Counts of a run, and of records it could not use.

    Attributes:
        packets: Records read from the captures.
        bytes: Their length on the wire, in bytes, whether captured in full or not.
        connections: Connections found.
        skipped: Reason → how often: packets that are in no connection (`not_ip`, `truncated`, `encrypted`,
            `bad_ip_header`, `fragment_without_first`, `no_next_header`, `link_type`, `too_deep`, `subframe`) and
            places of damage in the files (`truncated_file`, `bad_record_header`, `damaged_compression`, ...);
            of interfaces also `kernel_drops`, packets that found the kernel's buffer full.
        skipped_at: Reason → (file, offset) of the first of them: the file as it was named, the byte in the
            uncompressed file. A name that is no text has surrogates for such bytes, as `os.fsdecode` does. Reasons
            that have no single place are not in it.
        skipped_files: Files that were not read to their end, with the reason of each.
        not_ip: Protocol → frames of `skipped["not_ip"]`: EtherTypes and the like, by name or number. At most 16
            protocols; the frames of further ones are counted under `other`.
        skipped_bytes: Reason → bytes that damage cost, of the uncompressed files. Of a damaged compressed stream, the
            unread compressed bytes are counted.
        file_bytes: Bytes of the uncompressed files read, and of what `skipped_bytes` counts of compressed ones.
        parts: Captures read: files, those one behind the other in a file (`cat`), and pcapng sections.
        after_close: Packets of connections after their report: a stream reports a connection at its close. Their bytes
            are in no row.
        merged_parts: Those of files whose captures overlap in time. They were merged by time, as files are.
        early_parts: Captures that begin before the end of earlier ones of their file and were read as stored: of a
            pipe, which cannot be read again, and beyond the limits.
        unsorted: File → largest step back in time between two packets of a capture, nanoseconds, where the step is
            over `reorder_window`. Packets of a capture are tracked in stored order.
        evicted: Connections dropped because the table was full.
        evicted_by: Bound → how many it evicted: connections for `max_connections`, `memory_limit` and `icmp_errors`
            (the bound on connections of ICMP errors), and `datagrams` (fragmented datagrams forgotten for newer ones).
        first_timestamp: Capture time of the earliest packet, nanoseconds since 1970 UTC; None where there is none.
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
    skipped_files: tuple[SkippedFile, ...]
    not_ip: Mapping[str, int]
    skipped_bytes: Mapping[str, int]
    file_bytes: int
    parts: int
    after_close: int
    merged_parts: int
    early_parts: int
    unsorted: Mapping[str, int]
    evicted: int
    evicted_by: Mapping[str, int]
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
        lost = self.skipped_bytes.get(reason)
        return _in_words(reason, self.skipped[reason]) + (f" ({_of(lost, self.file_bytes)})" if lost else "")

    def warning(self) -> str | None:
        """One warning about losses and flaws of the capture; None if there are none."""
        parts = (
            self.describe_skipped_files(),
            self.describe_loss(),
            self.describe_evicted(),
            self.describe_not_ip(),
            *self.describe_order(),
            *self.quality.warnings(self.packets),
        )
        return "; ".join(part for part in parts if part) or None

    def describe_skipped_files(self) -> str | None:
        """Describe the files that were skipped, each with its reason, in one line; None if there are none."""
        return describe_skipped_files(self.skipped_files)

    def describe_evicted(self) -> str | None:
        """Describe the connections that a bound evicted, in one line; None if there are none."""
        by = {name: count for name, count in self.evicted_by.items() if name != "datagrams"}
        if not by:
            return None
        bounds = ", ".join(f"{count:,} by {name}" for name, count in by.items())
        return f"{_connections(self.evicted)} evicted from a full table ({bounds}): results depend on the bounds"

    def describe_not_ip(self) -> str | None:
        """Describe what the frames without IP are; None where most frames have IP."""
        count = self.skipped.get("not_ip", 0)
        if count <= _MANY_WITHOUT_IP * self.packets:
            return None
        ranked = sorted(self.not_ip.items(), key=lambda item: (item[0] == "other", -item[1], item[0]))
        kinds = ", ".join(f"{number:,} {name}" for name, number in ranked)
        return f"{count:,} of {self.packets:,} frames ({text.share(count, self.packets)}) have no IP: {kinds}"

    def describe_order(self) -> list[str]:
        """Describe captures and packets tracked out of order, each with its remedy; empty if there are none."""
        found = []
        if self.early_parts:
            one = self.early_parts == 1
            found.append(
                f"{self.early_parts:,} of {self.parts:,} captures within a file or pipe {'begins' if one else 'begin'}"
                f" before the end of earlier ones, and {'was' if one else 'were'} tracked as stored: save a pipe to a"
                " file, whose captures are merged by time, or give each capture a file of its own"
            )
        unsorted = self._unsorted()
        for file, step in unsorted[:_MOST_UNSORTED]:
            name = _shown(file) if file else "one of the files"
            found.append(f"packets of {name} step back in time by up to {text.span(step)}: {_sorting(file)}")
        more = len(unsorted) - _MOST_UNSORTED
        if more > 0:
            found.append(f"packets of {more:,} more files step back in time (stats.unsorted)")
        return found

    def _unsorted(self) -> list[tuple[str, int]]:
        """`unsorted` without the only step of a clock, which sorting does not undo."""
        clock = -self.quality.largest_clock_step if self.quality.clock_steps == 1 else None
        return [(file, step) for file, step in self.unsorted.items() if step != clock]

    def describe_loss(self) -> str | None:
        """Describe the losses in one line, with count and first place; None if there are none."""
        return describe_loss(self.skipped, self.skipped_at, self.skipped_bytes, self.file_bytes)


def describe_skipped_files(files: Sequence[SkippedFile]) -> str | None:
    """Describe skipped files, each with its reason, in one line; None if there are none."""
    if not files:
        return None
    count = "1 file was skipped" if len(files) == 1 else f"{len(files):,} files were skipped"
    return f"{count}: {'; '.join(map(str, files))}"


def skipped_as_json(stats: Stats | None) -> list[dict[str, object]]:
    """The skipped files of a run as what `json` takes."""
    return [] if stats is None else [dataclasses.asdict(one) for one in stats.skipped_files]


def describe_loss(
    skipped: Mapping[str, int],
    skipped_at: Mapping[str, tuple[str, int]],
    skipped_bytes: Mapping[str, int],
    file_bytes: int,
) -> str | None:
    """Describe the losses in one line, with count, bytes and first place; None if there are none."""
    losses = []
    for reason, count in skipped.items():
        if reason in _HARMLESS:
            continue
        file, offset = skipped_at.get(reason, (None, None))
        place = f", first in {_shown(file)} at byte {offset:,}" if file else ""
        lost = skipped_bytes.get(reason, 0)
        losses.append(_in_words(reason, count) + (f" ({_of(lost, file_bytes)})" if lost else "") + place)
    part = describe_share(skipped, skipped_bytes, file_bytes) or "part"
    return f"{part} of the capture was not used: {'; '.join(losses)}" if losses else None


def describe_share(skipped: Collection[str], skipped_bytes: Mapping[str, int], file_bytes: int) -> str | None:
    """Describe the share of the bytes that were lost for these reasons; None up to one percent."""
    lost = sum(skipped_bytes.get(reason, 0) for reason in skipped)
    return f"{text.share(lost, file_bytes)} ({_of(lost, file_bytes)})" if lost > _MUCH_LOST * file_bytes else None


def _shown(file: str) -> str:
    return text.printable(file) if file != "-" else "standard input"


def _sorting(file: str) -> str:
    """The command that sorts a file by time."""
    if not os.path.isfile(file):
        return "save them to a file, and sort it by time (reordercap IN OUT)"
    base = file
    for endings in (_COMPRESSED, _CAPTURES):
        root, ending = os.path.splitext(base)
        base = root if root and ending.lower() in endings else base
    command = f"reordercap {shlex.quote(file)} {shlex.quote(base + '.sorted.pcapng')}"
    return f"sort the file by time ({text.printable(command)})"


def _of(lost: int, all_bytes: int) -> str:
    return f"{lost:,} of {all_bytes:,} bytes"


def _connections(count: int) -> str:
    return f"{count:,} connection{'s' * (count != 1)}"


def _in_words(reason: str, count: int) -> str:
    return f"{count:,} {_WORDS[reason][count != 1]}"


def parted(skipped: Mapping[str, tuple[int, str, int]]) -> tuple[dict[str, int], dict[str, tuple[str, int]]]:
    """Split the extension module's dictionary into `Stats.skipped` and `Stats.skipped_at`."""
    places = {reason: (file, offset) for reason, (_, file, offset) in skipped.items() if file}
    return {reason: count for reason, (count, _, _) in skipped.items()}, places


def skipped_files_from(native: Iterable[tuple[str, str, int | None, int]]) -> Iterator[SkippedFile]:
    """Make `SkippedFile`s of what the extension module lists."""
    for file, reason, offset, packets in native:
        yield SkippedFile(file=file, reason=text.printable(reason), offset=offset, packets=packets)


def stats_from(account: _Account) -> Stats:
    """Make `Stats` of the extension module's counts."""
    skipped, skipped_at = parted(account["skipped"])
    return Stats(
        packets=account["packets"],
        bytes=account["bytes"],
        connections=account["connections"],
        skipped=skipped,
        skipped_at=skipped_at,
        skipped_files=tuple(skipped_files_from(account["skipped_files"])),
        not_ip=dict(account["not_ip"]),
        skipped_bytes=account["skipped_bytes"],
        file_bytes=account["file_bytes"],
        parts=account["parts"],
        after_close=account["after_close"],
        merged_parts=account["merged_parts"],
        early_parts=account["early_parts"],
        unsorted=account["unsorted"],
        evicted=account["evicted"],
        evicted_by=account["evicted_by"],
        first_timestamp=account["first"],
        last_timestamp=account["last"],
        peak_connections=account["peak_connections"],
        snapped=account["snapped"],
        quality=Quality(**account["quality"]),
    )


#: The quality of what is no capture.
NO_FLAWS = Quality(**{one.name: 0 for one in dataclasses.fields(Quality)})


def no_stats(**known: object) -> Stats:
    """The account of connections that are not from a capture, with what is known of it."""
    nothing: dict[str, object] = {one.name: 0 for one in dataclasses.fields(Stats)}
    mappings = ("skipped", "skipped_at", "not_ip", "skipped_bytes", "unsorted", "evicted_by")
    nothing |= {name: {} for name in mappings}
    nothing |= {"skipped_files": (), "first_timestamp": None, "last_timestamp": None, "quality": NO_FLAWS}
    return Stats(**(nothing | known))  # type: ignore[arg-type]


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
