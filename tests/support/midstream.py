"""Connections whose beginning is cut off: real ones, of which SYN and SYN+ACK say who initiated."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from support import naive
from support.corpus import Capture, Endpoint, Record, captures
from support.packets import ACK, FIN, RST, SYN

_KINDS = FIN | SYN | RST | ACK


@dataclass(frozen=True, eq=False)
class Known:
    """A TCP connection whose initiator is known."""

    capture: Capture
    orig: Endpoint
    resp: Endpoint
    records: tuple[int, ...]  #: numbers of its records
    headers: tuple[bytes, ...]  #: the TCP header in each of them

    def ports_in(self, number: int, frame: bytes) -> int:
        """Offset of the two ports in the frame of the record with a number."""
        return frame.index(self.headers[self.records.index(number)][:12])


@functools.cache
def known_connections() -> tuple[Known, ...]:
    """Every connection of the corpus with a SYN and the SYN+ACK that answers it."""
    return tuple(known for capture in captures() for known in _in_capture(capture))


def _in_capture(capture: Capture) -> Iterator[Known]:
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
        found.headers.append(packet.header)
    for one in followed:
        if one.answered and len(one.records) >= 2:
            yield Known(capture, one.orig, one.resp, tuple(one.records), tuple(one.headers))


class _Followed:
    """A connection that began with a SYN."""

    def __init__(self, orig: Endpoint, resp: Endpoint, isn: int) -> None:
        self.orig, self.resp, self.isn = orig, resp, isn
        self.answered = False
        self.records: list[int] = []
        self.headers: list[bytes] = []


@dataclass(frozen=True)
class Beheaded:
    """The rest of a connection, and its ends as the records have them."""

    records: list[Record]
    orig: Endpoint
    resp: Endpoint


def behead(known: Known, cut: int, *, others: bool, ports: random.Random | None) -> Beheaded:
    """The capture without the connection's first packets.

    Args:
        known: The connection.
        cut: How many of its packets are dropped.
        others: With the other connections of its capture.
        ports: Gives both of its ends another port, by this generator.
    """
    dropped, left = set(known.records[:cut]), set(known.records[cut:])
    hidden = (known.orig[1], known.resp[1])
    if ports:
        hidden = (ports.randrange(1024, 65536), ports.randrange(1024, 65536))
    names = dict(zip((known.orig[1], known.resp[1]), hidden, strict=True))
    records = []
    for number, record in enumerate(known.capture.records):
        if number in dropped or (number not in left and not others):
            continue
        if number in left and ports:
            record = _renamed(known, number, record, names)
        records.append(record)
    return Beheaded(records, (known.orig[0], hidden[0]), (known.resp[0], hidden[1]))


def _renamed(known: Known, number: int, record: Record, names: dict[int, int]) -> Record:
    at = known.ports_in(number, record.data)
    ports = struct.unpack_from("!HH", record.data, at)
    data = record.data[:at] + struct.pack("!HH", *(names[port] for port in ports)) + record.data[at + 4 :]
    return Record(record.offset, record.ts, record.linktype, record.wire, data)
