"""Our decoder against dpkt: random stacks of headers, whole and cut, and the same with bytes changed."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

import dpkt  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import library_flows, naive
from support.corpus import Record, address, read_records, write_pcap
from support.library_flows import Tracked
from support.naive import ICMP, ICMP6, SCTP, TCP, UDP, Key

#: In CI the same examples each time: its word is about the change, not about chance.
SETTINGS = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=os.environ.get("CI") == "true",
)
TAGS = (0x8100, 0x88A8)
OTHER = (2, 46, 89, 103, 253)  #: protocols that carry no ports and no packets
FLAGS = (0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14)  #: what TCP sends: SYN, SYN+ACK, ACK, PSH, FIN, RST


@dataclass(frozen=True)
class Parsed:
    """The fields that dpkt reads in a frame."""

    key: Key
    src: tuple[str, int]
    ip_bytes: int
    payload: int | None  #: None: no transport header


@st.composite
def transports(draw: st.DrawFn, version: int) -> tuple[int, bytes, bytes]:
    """A protocol, its header and some payload."""
    payload = draw(st.binary(max_size=64))
    sport, dport = draw(st.integers(0, 65535)), draw(st.integers(0, 65535))
    kind = draw(st.sampled_from(("tcp", "udp", "icmp", "sctp", "other")))
    if kind == "tcp":
        options = draw(st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)))
        seq, ack = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1))
        offset = (20 + len(options)) << 2
        head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset, draw(st.sampled_from(FLAGS)), 1024, 0, 0)
        return TCP, head + options, payload
    if kind == "udp":
        return UDP, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0), payload
    if kind == "sctp":  # one DATA chunk
        chunk = struct.pack("!BBHIHHI", 0, 3, 16 + len(payload), 1, 0, 0, 0)
        return SCTP, struct.pack("!HHII", sport, dport, 1, 0) + chunk, payload
    if kind == "icmp":
        proto, kinds = (ICMP, (0, 8, 13, 14)) if version == 4 else (ICMP6, (128, 129))
        return proto, struct.pack("!BBHHH", draw(st.sampled_from(kinds)), 0, 0, sport, dport), payload
    return draw(st.sampled_from(OTHER)), b"", payload or b"\0"  # a length of 0 means segmentation offload


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, int]:
    """An Ethernet frame, and how much of it are headers. The source address is left to `capture`."""
    version = draw(st.sampled_from((4, 6)))
    proto, head, payload = draw(transports(version))
    if version == 4:
        options = b"\x01" * 4 * draw(st.integers(0, 10))  # no operation
        size = 20 + len(options) + len(head) + len(payload)
        ip = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, size, 7, 0x4000, 64, proto, 0)
        ip += bytes(4) + draw(st.binary(min_size=4, max_size=4)) + options
    else:
        chain = draw(st.lists(st.sampled_from((60, 43, 51)), max_size=3))
        chain = ([0] if draw(st.booleans()) else []) + chain
        extensions = b""
        for kind, after in zip(chain, [*chain, proto][1:], strict=True):
            more = 8 * draw(st.integers(0, 2))
            if kind == 51:  # authentication header: counts words of 4 bytes
                extensions += bytes([after, 2 + more // 4]) + bytes(14 + more)
            elif kind == 43:  # a routing header without segments left
                extensions += bytes([after, more // 8]) + bytes(6 + more)
            else:  # options: one of padding
                extensions += bytes([after, more // 8, 1, 4 + more]) + bytes(4 + more)
        size = len(extensions) + len(head) + len(payload)
        ip = struct.pack("!IHBB", 6 << 28, size, chain[0] if chain else proto, 64)
        ip += bytes(16) + draw(st.binary(min_size=16, max_size=16)) + extensions
    ethertype = {4: 0x0800, 6: 0x86DD}[version]
    link = bytes(12)
    for tag in draw(st.lists(st.sampled_from(TAGS), max_size=3)):
        link += struct.pack("!HH", tag, draw(st.integers(1, 4094)))
    link += struct.pack("!H", ethertype)
    headers = link + ip + head
    padding = draw(st.binary(max_size=46))
    return headers + payload + padding, len(headers)


def source_offset(frame: bytes) -> int:
    """Offset of the source address in the frame."""
    at = 12
    while struct.unpack_from("!H", frame, at)[0] in TAGS:
        at += 4
    return at + 14 if frame[at + 2] >> 4 == 4 else at + 10


@st.composite
def captures(draw: st.DrawFn) -> list[Record]:
    """Some frames, each with a source address of its own, some cut behind their headers."""
    records = []
    for number, (frame, headers) in enumerate(draw(st.lists(frames(), min_size=1, max_size=8)), start=1):
        at = source_offset(frame)
        frame = frame[:at] + bytes([10, 1, 0, number]) + frame[at + 4 :]
        cut = draw(st.one_of(st.just(len(frame)), st.integers(headers, len(frame))))
        records.append(Record(0, number * 10**9, 1, len(frame), frame[:cut]))
    return records


def parse(record: Record) -> Parsed | None:
    """Parse a record with dpkt; None without IP and transport headers that agree with each other and the wire."""
    data = record.data
    try:
        kind, data = struct.unpack_from("!H", data, 12)[0], data[14:]
        while kind in TAGS or kind == 0x9100:
            kind, data = dpkt.ethernet.VLANtag8021Q(data[:4]).type, data[4:]
        ip = {0x0800: dpkt.ip.IP, 0x86DD: dpkt.ip6.IP6}[kind](data)
    except (dpkt.UnpackError, KeyError, struct.error, IndexError, AttributeError):
        # AttributeError: dpkt's own, for a damaged chain of extension headers.
        return None
    wire = record.wire - (len(record.data) - len(data))
    if kind == 0x0800:
        header, total = ip.hl * 4, ip.len
        sound = ip.v == 4 and ip.offset == 0 and ip.p != 51
    else:
        header = 40 + sum(e.length for e in ip.all_extension_headers)
        total = 40 + ip.plen
        unread = (44, 50, 59, 135, 139, 140, 253, 254)  # fragments, and what dpkt does not take for an extension
        chain = [ip.nxt, *(getattr(e, "nxt", 50) for e in ip.all_extension_headers)]
        first = all(nxt != 0 for nxt in chain[1:])  # hop-by-hop options only there
        sound = ip.v == 6 and ip.plen > 0 and first and not any(n in unread for n in chain if n != 253)
    if not sound or not header <= total <= wire or len(data) < header:
        return None
    return _transport(ip, ip.p, data[header:total], header, total)


def _transport(ip: dpkt.Packet, proto: int, data: bytes, header: int, total: int) -> Parsed | None:
    ends = address(dpkt.utils.inet_to_str(ip.src)), address(dpkt.utils.inet_to_str(ip.dst))
    size = total - header
    ports, payload = (0, 0), None
    try:
        if proto == TCP:
            tcp = dpkt.tcp.TCP(data)
            if not 20 <= tcp.off * 4 <= size:
                return None
            ports, payload = (tcp.sport, tcp.dport), size - tcp.off * 4
        elif proto == UDP:
            udp = dpkt.udp.UDP(data)
            if not 8 <= udp.ulen <= size:
                return None
            ports, payload = (udp.sport, udp.dport), size - 8
        elif proto == SCTP:
            sctp = dpkt.sctp.SCTP(data)
            ports = (sctp.sport, sctp.dport)
        # ICMP of the other version is no ICMP, and has no ports.
        elif proto == (ICMP if ip.v == 4 else ICMP6):
            icmp = (dpkt.icmp.ICMP if proto == ICMP else dpkt.icmp6.ICMP6)(data[:4])
            ports, payload = naive.Decoder.icmp_ports(proto, icmp.type, icmp.code), size - 8
            if size < 8:
                return None
        elif proto == 136:
            return None
    except dpkt.UnpackError:
        return None
    src, dst = (ends[0], ports[0]), (ends[1], ports[1])
    return Parsed(naive.key(proto, src, dst), src, total, payload)


def track_naively(raw: bytes) -> Tracked:
    """The naive tracker, in the library's place."""
    records = read_records(raw)
    stacks = list(naive.stacks(records))
    keys = [naive.key(s[0].proto, s[0].src, s[0].dst) if s else None for s in stacks]
    return Tracked(naive.flows(records, "outer"), keys, keys.count(None))


def track_with_library(raw: bytes) -> Tracked:
    """The library, looking at outer packets as dpkt does."""
    return library_flows.track(raw, tunnels="outer")


TRACKERS = {"naive": track_naively, "conntrack_py": track_with_library}
by_tracker = pytest.mark.parametrize("track", TRACKERS.values(), ids=list(TRACKERS))


@by_tracker
@SETTINGS
@given(records=captures())
def test_well_formed(track: Callable[[bytes], Tracked], records: list[Record]) -> None:
    """Every packet has the five-tuple, the sender and the bytes that dpkt finds."""
    tracked = track(write_pcap(records))
    assert len(tracked.keys) == len(records)
    for number, (record, key) in enumerate(zip(records, tracked.keys, strict=True)):
        parsed = parse(record)
        assert parsed is not None, "the test generates packets that dpkt cannot read"
        assert key == parsed.key
        side = tracked.flows[key].sides[parsed.src]
        assert (side.packets, side.ip_bytes, side.records) == (1, parsed.ip_bytes, [number])
        assert parsed.payload is None or side.payload == parsed.payload
    assert tracked.skipped == 0


@by_tracker
@SETTINGS
@given(records=captures(), data=st.data())
def test_changed_bytes(track: Callable[[bytes], Tracked], records: list[Record], data: st.DataObject) -> None:
    """A frame that dpkt still parses is parsed alike here, or counted as skipped."""
    changed = []
    for record in records:
        frame = bytearray(record.data)
        for _ in range(data.draw(st.integers(0, 4))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        changed.append(Record(0, record.ts, 1, record.wire, bytes(frame)))
    tracked = track(write_pcap(changed))
    unread = 0
    for record, key in zip(changed, tracked.keys, strict=True):
        parsed = parse(record)
        if key is not None and parsed is not None:
            assert key == parsed.key
        # An ICMP error about nothing may be refused without being skipped.
        unread += key is None and not (parsed is not None and parsed.key[0] in (ICMP, ICMP6))
    assert unread <= tracked.skipped
