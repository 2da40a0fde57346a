"""Flow logs made of captures, as clouds and routers would have written them, to be compared with packets."""

from __future__ import annotations

import ipaddress
import random
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

import conntrack_py as ct

SECOND = 1_000_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
#: Evidence of packets that settles who initiated, without a look at ports or at other connections.
SURE = frozenset({"syn", "syn_ack", "payload", "icmp_request", "icmp_reply", "init", "init_ack"})


class Packet(NamedTuple):
    """A packet as an exporter sees it."""

    ts: int
    src: str
    dst: str
    sport: int
    dport: int
    proto: int
    length: int
    flags: int


def packets(path: Path | str) -> list[Packet]:
    """The packets of a capture, in its order."""
    found: list[Packet] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in map(pa.record_batch, ct.decode_headers(path, 0, 1)):
            names = ("ts", "src", "dst", "sport", "dport", "proto", "length", "frame")
            for *fields, frame in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                flags = _flags(frame, *fields[1:5]) if fields[5] == 6 else 0
                found.append(Packet(*fields, flags))
    return found


def _flags(frame: bytes, src: str, dst: str, sport: int, dport: int) -> int:
    """TCP flags, behind the last place of the frame that has these addresses and then these ports."""
    addresses = b"".join(ipaddress.ip_address(one).packed for one in (src, dst))
    at = frame.rfind(addresses)
    at = frame.find(struct.pack("!HH", sport, dport), at + len(addresses)) if at >= 0 else -1
    return frame[at + 13] if 0 <= at < len(frame) - 13 else 0


@dataclass
class Sums:
    """Sums of one direction within a window."""

    start: int
    end: int
    packets: int = 0
    bytes: int = 0
    aws_flags: int = 0
    all_flags: int = 0


Key = tuple[str, str, int, int, int, int]


def windows(of: Iterable[Packet], seconds: int, *, typed: bool = False) -> dict[Key, Sums]:
    """Sums by direction and window, whose begins are multiples of its length."""
    sums: dict[Key, Sums] = {}
    for one in of:
        # Of ICMP the destination port of NetFlow: type and code.
        icmp = (0, one.sport << 8 | one.dport) if typed else (0, 0)
        ports = icmp if one.proto in (1, 58) else (one.sport, one.dport)
        key = (one.src, one.dst, *ports, one.proto, one.ts // (seconds * SECOND))
        made = sums.setdefault(key, Sums(one.ts, one.ts))
        made.start, made.end = min(made.start, one.ts), max(made.end, one.ts)
        made.packets += 1
        made.bytes += one.length
        made.all_flags |= one.flags
        # An ACK counts with a SYN alone.
        made.aws_flags |= one.flags & (FIN | SYN | RST) | (one.flags & ACK if one.flags & SYN else 0)
    return sums


def aws(of: Iterable[Packet], seconds: int = 60, *, flags: bool = True, seed: int = 0, interface: str = "eni-1") -> str:
    """VPC flow logs of one interface, its lines in any order: a line of fields, then records."""
    names = "version interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
    lines = []
    for (src, dst, sport, dport, proto, _), sums in windows(of, seconds).items():
        times = f"{sums.start // SECOND} {sums.end // SECOND}"
        line = f"3 {interface} {src} {dst} {sport} {dport} {proto} {sums.packets} {sums.bytes} {times} ACCEPT OK"
        lines.append(line + (f" {sums.aws_flags}" if flags else ""))
    random.Random(seed).shuffle(lines)
    return "\n".join([names + (" tcp-flags" if flags else ""), *lines]) + "\n"


def netflow_5(of: Iterable[Packet], seconds: int = 60, *, seed: int = 0) -> bytes:
    """Messages of NetFlow version 5, IPv4 alone, in any order."""
    records = []
    for (src, dst, sport, dport, proto, _), sums in windows(of, seconds, typed=True).items():
        if ":" not in src:
            records.append((src, dst, sport, dport, proto, sums))
    random.Random(seed).shuffle(records)
    out = b""
    for begin in range(0, len(records), 30):
        part = records[begin : begin + 30]
        base = max(sums.end for *_, sums in part)
        uptime = 0x7FFF_FFFF
        out += struct.pack("!HHIIIIBBH", 5, len(part), uptime, base // SECOND, base % SECOND, begin, 0, 0, 0)
        for src, dst, sport, dport, proto, sums in part:
            first, last = (uptime - (base - at) // 1_000_000 for at in (sums.start, sums.end))
            addresses = b"".join(ipaddress.ip_address(one).packed for one in (src, dst))
            out += addresses + struct.pack("!IHH", 0, 0, 0)
            out += struct.pack("!IIII", sums.packets, sums.bytes, first & 0xFFFF_FFFF, last & 0xFFFF_FFFF)
            out += struct.pack("!HHBBBB", sport, dport, 0, sums.all_flags, proto, 0) + bytes(8)
    return out


def one_sided(of: Iterable[Packet], seed: int) -> Iterator[Packet]:
    """The packets of one direction of each five-tuple, chosen by chance."""
    chance = random.Random(seed)
    kept: dict[tuple[object, ...], tuple[object, ...]] = {}
    for one in of:
        ends = ((one.src, one.sport), (one.dst, one.dport))
        key = (*sorted(ends), one.proto)
        if kept.setdefault(key, ends[chance.randrange(2)]) == ends[0]:
            yield one


@dataclass
class Score:
    """Right and wrong originators by evidence."""

    right: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    #: Wrong ones with a confidence of 0.9 or more, for a look.
    sure_and_wrong: list[str] = field(default_factory=list)
    sure: int = 0

    def add(self, name: str, evidence: str, is_right: bool) -> None:
        """Count an answer."""
        counts = self.right if is_right else self.wrong
        counts[evidence] = counts.get(evidence, 0) + 1


def _ends(row: ct.Connection) -> tuple[object, ...]:
    ports = (0, 0) if row.proto.startswith("icmp") else (row.orig_port, row.resp_port)
    return (row.orig_addr, ports[0], row.resp_addr, ports[1], row.proto)


Known = dict[tuple[object, ...], tuple[object, ...]]


def truth(path: Path | str) -> Known:
    """Originators by five-tuple, of those with one connection whose packets settle the originator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = ct.track(path).connections
    seen: dict[tuple[object, ...], list[ct.Connection]] = {}
    for row in table:
        ends = _ends(row)
        seen.setdefault((*sorted((ends[:2], ends[2:4])), ends[4]), []).append(row)
    return {
        key: _ends(rows[0])
        for key, rows in seen.items()
        if all(row.evidence in SURE and row.confidence >= 0.9 for row in rows)
        and len({_ends(row) for row in rows}) == 1
    }


def compare(
    name: str, table: ct.ConnectionTable, known: dict[tuple[object, ...], tuple[object, ...]], score: Score
) -> None:
    """Compare the originators of a flow log's connections with those of packets."""
    for row in table:
        ends = _ends(row._replace(orig_port=row.orig_port or 0, resp_port=row.resp_port or 0))
        expected = known.get((*sorted((ends[:2], ends[2:4])), ends[4]))
        if expected is None or ends[0] == ends[2]:
            continue
        is_right = ends == expected
        score.add(name, f"{row.proto} {row.evidence}", is_right)
        if row.confidence >= 0.9:
            score.sure += 1
            if not is_right:
                score.sure_and_wrong.append(f"{name}: {row.evidence} {ends}")
