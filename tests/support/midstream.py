"""Connections of real captures whose originator is known, and the same without their first packets.

TCP: a SYN that a SYN+ACK answers. UDP: the first sender after the capture had run for 30 seconds, or the sender of a
DNS query. None of this asks the library under test.
"""

from __future__ import annotations

import functools
import ipaddress
import random
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import naive
from support.corpus import Capture, Endpoint, Record, captures, more_captures
from support.packets import ACK, FIN, RST, SYN

_KINDS = FIN | SYN | RST | ACK
#: Silence before a first datagram that makes its sender the originator, and a pause that ends a capture, nanoseconds.
_SILENCE, _PAUSE = 30 * 10**9, 600 * 10**9
#: Flows of one capture that are asked for: one capture must not weigh more than all others together.
_MOST = 40
#: Captures that are random bytes by intention: their DNS messages are no truth.
_FUZZED = "fuzz"


@dataclass(frozen=True, eq=False)
class Known:
    """A connection whose originator is known."""

    capture: Capture
    proto: str
    orig: Endpoint
    resp: Endpoint
    records: tuple[int, ...]  #: numbers of its records
    after_silence: bool = False  #: the capture had run for 30 s


@functools.cache
def reported() -> frozenset[str]:
    """Names of the captures whose cases are reported; rungs are chosen on the others."""
    text = (Path(__file__).parent.parent / "oracles" / "reported_captures.txt").read_text()
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


@functools.cache
def known_connections(proto: str, half: str) -> tuple[Known, ...]:
    """Known connections of one protocol, in the `reported` captures or the `chosen` ones."""
    found = []
    for capture in (*captures(), *more_captures()):
        if (capture.name in reported()) == (half == "reported") and _FUZZED not in capture.name:
            found += list(_segments(capture) if proto == "tcp" else _datagrams(capture))[:_MOST]
    return tuple(found)


def _segments(capture: Capture) -> Iterator[Known]:
    live: dict[naive.Key, _Followed] = {}
    followed = []
    for number, stack in enumerate(naive.stacks(capture.records)):
        if not stack or stack[-1].proto != naive.TCP or len(stack[-1].header) < 20 or stack[-1].packets == 0:
            continue
        packet = stack[-1]
        name = naive.key(packet.proto, packet.src, packet.dst)
        seq, ack = struct.unpack_from("!II", packet.header, 4)
        kind = packet.header[13] & _KINDS
        found = live.get(name)
        if kind == SYN and (found is None or found.isn != seq):
            found = live[name] = _Followed(packet.src, packet.dst, seq)
            followed.append(found)
        if found is None:
            continue
        answers = kind == SYN | ACK and packet.src == found.resp and ack == (found.isn + 1) & 0xFFFFFFFF
        found.answered |= answers
        found.records.append(number)
    for one in followed:
        if one.answered and len(one.records) >= 2:
            yield Known(capture, "tcp", one.orig, one.resp, tuple(one.records))


class _Followed:
    """A connection that began with a SYN."""

    def __init__(self, orig: Endpoint, resp: Endpoint, isn: int) -> None:
        self.orig, self.resp, self.isn = orig, resp, isn
        self.answered = False
        self.records: list[int] = []


def _datagrams(capture: Capture) -> Iterator[Known]:
    flows: dict[naive.Key, list[tuple[int, naive.Packet]]] = defaultdict(list)
    for number, stack in enumerate(naive.stacks(capture.records)):
        if stack and stack[-1].proto == naive.UDP and stack[-1].packets:
            flows[naive.key(naive.UDP, stack[-1].src, stack[-1].dst)].append((number, stack[-1]))
    begins = _begins([record.ts for record in capture.records])
    for found in flows.values():
        number, first = found[0]
        began = max(begin for begin in begins if begin <= capture.records[number].ts)
        silent = capture.records[number].ts - began > _SILENCE
        orig = _dns_asker(capture.records[number].data, first) or (first.src if silent else None)
        if orig is not None and not _is_group(first.dst[0]) and len(found) >= 2:
            resp = first.dst if orig == first.src else first.src
            yield Known(capture, "udp", orig, resp, tuple(number for number, _ in found), silent)


def _begins(times: list[int]) -> list[int]:
    """Times at which traffic began after a pause, the first included."""
    times = sorted(times)
    return [time for at, time in enumerate(times) if at == 0 or time - times[at - 1] > _PAUSE]


def _dns_asker(frame: bytes, packet: naive.Packet) -> Endpoint | None:
    """The sender of a DNS query or the receiver of an answer (RFC 1035 section 4.1.1), to or from port 53 alone."""
    ports = (packet.src[1], packet.dst[1])
    at = frame.find(struct.pack("!HH", *ports))
    message = frame[at + 8 :]
    if (53 in ports) and ports != (53, 53) and at >= 0 and len(message) >= 17 and message[4:6] == b"\0\1":
        is_answer = bool(message[2] & 0x80)
        return packet.dst if is_answer else packet.src
    return None


def _is_group(address: str) -> bool:
    return ipaddress.ip_address(address).is_multicast or address.endswith(".255")


@dataclass(frozen=True)
class Beheaded:
    """The rest of a connection, and its ends."""

    records: list[Record]
    orig: Endpoint
    resp: Endpoint


def behead(known: Known, cut: int, *, others: bool) -> Beheaded:
    """The capture without the connection's first packets.

    Args:
        known: The connection.
        cut: Number of its packets that are dropped.
        others: With the other connections of its capture; for UDP, those after the cut, since silence would tell.
    """
    dropped, left = set(known.records[:cut]), set(known.records[cut:])
    begin = known.records[cut] if known.proto == "udp" else 0
    records = [
        record
        for number, record in enumerate(known.capture.records)
        if number in left or (others and number not in dropped and number >= begin)
    ]
    return Beheaded(records, known.orig, known.resp)


def random_cuts(known: Known, seeds: int) -> list[int]:
    """Random numbers of packets to drop, the same in every run."""
    name = f"{known.capture.name} {known.orig} {known.resp}"
    return [random.Random(f"{name} {seed}").randrange(1, len(known.records)) for seed in range(seeds)]
