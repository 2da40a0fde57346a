"""Captures of both sides of a gateway that translates addresses, made by seed, with the truth.

The gateway translates as Linux does: sources by masquerade with random or kept ports, destinations by forwarded ports,
both for what comes back from inside (hairpin), IPv6 to IPv4 (NAT64), and many hosts behind few addresses
(carrier-grade).
"""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from conntrack_py import Correlation

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
WORDS = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMP6: "icmp6"}
#: 2026-01-01 00:00:00 UTC
START = 1_767_225_600.0
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16

#: A packet above IP, from its ports; of IPv6 or not.
_Body = Callable[[int, int, bool], bytes]
#: Protocol, addresses and ports, from the originator to the responder.
Tuple = tuple[str, str, int, str, int]


@dataclass(frozen=True)
class World:
    """Captures of both sides, in numbers."""

    seed: int
    connections: int = 600
    #: Seconds in which connections begin.
    seconds: float = 60.0
    hosts: int = 2
    gateways: int = 1
    #: Source ports: `random`, or kept where they are free.
    ports: str = "random"
    #: Clients choose their ports from so many, which makes them collide.
    client_ports: int = 28_000
    #: Shares of connections.
    forwarded: float = 0.0
    hairpin: float = 0.0
    nat64: float = 0.0
    #: Shares of the others: TCP, DNS, ICMP; of UDP payloads that all hosts have alike.
    tcp: float = 0.45
    dns: float = 0.3
    icmp: float = 0.1
    alike: float = 0.25
    names: int = 200
    #: Clock of the outside less that of the inside, seconds, and its drift.
    skew: float = 0.0
    drift: float = 0.0
    #: Share of packets that each capture misses.
    loss: float = 0.0
    #: Neither SYN nor SYN+ACK was captured.
    midstream: bool = False
    #: IPv4 identifications are set.
    ids: bool = True
    #: Local connections that never pass the gateway, as a share.
    local: float = 0.05
    #: Added to the addresses outside: another site.
    site: int = 0


@dataclass
class Made:
    """Frames of both sides, and the truth."""

    inside: list[tuple[float, bytes]] = field(default_factory=list)
    outside: list[tuple[float, bytes]] = field(default_factory=list)
    #: Tuple inside → tuples outside (of a hairpin: of the second leg inside), with the time of the begin.
    truth: dict[Tuple, list[tuple[float, Tuple]]] = field(default_factory=dict)

    def write(self, directory: Path, stem: str = "") -> tuple[Path, Path]:
        """The captures as files."""
        paths = directory / f"{stem}inside.pcap", directory / f"{stem}outside.pcap"
        for path, frames in zip(paths, (self.inside, self.outside), strict=True):
            frames.sort(key=lambda one: one[0])
            with path.open("wb") as file:
                file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 16, 1))
                for ts, frame in frames:
                    whole = int(ts)
                    head = struct.pack("<IIII", whole, int((ts - whole) * 1e9), len(frame), len(frame))
                    file.write(head + frame)
        return paths


def make(world: World) -> Made:
    """Make the captures of a world."""
    return _Maker(world).made()


def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


class _Maker:
    def __init__(self, world: World) -> None:
        self.world, self.random, self.out = world, random.Random(world.seed), Made()
        self.taken: dict[tuple[int, str, int, str, int], float] = {}
        self.counters: dict[str, int] = {}
        self.packed: dict[str, bytes] = {}

    def made(self) -> Made:
        for at in sorted(self.random.uniform(0, self.world.seconds) for _ in range(self.world.connections)):
            self._connection(at)
        return self.out

    def _connection(self, at: float) -> None:
        world, rng = self.world, self.random
        kind = rng.random()
        proto = TCP if kind < world.tcp else ICMP if kind > 1 - world.icmp else UDP
        is_dns = world.tcp <= kind < world.tcp + world.dns
        number = rng.randrange(world.hosts)
        host = f"10.{number >> 16 & 63}.{number >> 8 & 255}.{number & 255 or 254}"
        server = f"203.{world.site}.{rng.randrange(3)}.{rng.randrange(1, 40)}"
        port = {TCP: rng.choice((443, 443, 80, 22)), UDP: 53 if is_dns else 7000, ICMP: 0}[proto]
        own = 32768 + rng.randrange(world.client_ports) if proto != ICMP else rng.randrange(1, 4000)
        # A host has one connection of a tuple at a time.
        while proto != ICMP and self.taken.get((proto, host, own, "", 0), -1e9) > at - 120:
            own = 1024 + rng.randrange(64_000)
        self.taken[proto, host, own, "", 0] = at
        gateway = f"198.51.{world.site}.{1 + rng.randrange(world.gateways)}"
        share = rng.random()
        if share < world.local:
            inner = (host, own, "10.255.0.9", port)
            self._play(proto, inner, None, at, is_dns)
        elif share < world.local + world.forwarded and proto != ICMP:
            client = (server, own)
            target = (f"10.200.0.{1 + rng.randrange(3)}", port)
            self._play(proto, (*client, *target), (*client, gateway, port + 8000), at, is_dns, inbound=True)
        elif share < world.local + world.forwarded + world.hairpin and proto != ICMP:
            first = (host, own, gateway, port + 8000)
            second = ("10.255.0.1", self._port(proto, "10.255.0.1", own, "10.200.0.1", port, at), "10.200.0.1", port)
            self._play(proto, first, second, at, is_dns, hairpin=True)
        elif 0 < share - world.local - world.forwarded - world.hairpin < world.nat64:
            inner = (f"2001:db8:1::{number + 1:x}", own, "64:ff9b::" + server, port)
            outer = (gateway, self._port(proto, gateway, own, server, port, at), server, port)
            self._play(proto, inner, outer, at, is_dns)
        else:
            outer = (gateway, self._port(proto, gateway, own, server, port, at), server, port)
            self._play(proto, (host, own, server, port), outer, at, is_dns)

    def _port(self, proto: int, gateway: str, own: int, server: str, port: int, at: float) -> int:
        """The port, or the ICMP identifier, that the gateway gives to a connection."""
        chosen = own if self.world.ports == "keep" else self.random.randrange(1024, 65536)
        while self.taken.get((proto, gateway, chosen, server, port), -1e9) > at - 120:
            chosen = self.random.randrange(1024, 65536)
        self.taken[proto, gateway, chosen, server, port] = at
        return chosen

    def _play(
        self,
        proto: int,
        inner: tuple[str, int, str, int],
        outer: tuple[str, int, str, int] | None,
        at: float,
        is_dns: bool,
        inbound: bool = False,
        hairpin: bool = False,
    ) -> None:
        """Add the packets of a connection on both sides, and its truth."""
        steps = self._steps(proto, is_dns)
        ids = {"client": self.random.randrange(65536), "server": self.random.randrange(65536)}
        connected = self.world.ids and (proto != UDP or self.random.random() < 0.6)
        v6 = ":" in inner[0] and outer is not None
        for number, (later, from_client, body) in enumerate(steps):
            if self.world.midstream and proto == TCP and number < 2:
                continue
            who = "client" if from_client else "server"
            ids[who] = (ids[who] + 1) & 0xFFFF
            identification = ids[who] if connected else 0
            delay = self.random.uniform(0.00005, 0.0008)
            first = at + later
            # Who is nearer to the inside is seen there first.
            inside_first = from_client != inbound
            times = (first, first + delay) if inside_first else (first + delay, first)
            self._put(self.out.inside, times[0], inner, from_client, proto, body, identification, v6)
            if outer is not None:
                side = self.out.inside if hairpin else self.out.outside
                self._put(side, times[1], outer, from_client, proto, body, identification, False, outside=not hairpin)
        if outer is not None:
            own = ICMP6 if v6 and proto == ICMP else proto
            self.out.truth.setdefault(turned(_row(own, inner)), []).append((at, turned(_row(proto, outer))))

    def _put(
        self,
        side: list[tuple[float, bytes]],
        at: float,
        ends: tuple[str, int, str, int],
        from_client: bool,
        proto: int,
        body: _Body,
        identification: int,
        v6: bool,
        outside: bool = False,
    ) -> None:
        world = self.world
        if world.loss and self.random.random() < world.loss:
            return
        if outside:
            at += world.skew + world.drift * at
        src, sport, dst, dport = ends if from_client else (ends[2], ends[3], ends[0], ends[1])
        segment = body(sport, dport, v6)
        if proto == ICMP:
            segment = segment[:4] + struct.pack(">H", ends[1]) + segment[6:]
        side.append((START + at, _frame(self._pack(src), self._pack(dst), proto, identification, segment)))

    def _pack(self, address: str) -> bytes:
        if address not in self.packed:
            self.packed[address] = _address(address)
        return self.packed[address]

    def _steps(self, proto: int, is_dns: bool) -> list[tuple[float, bool, _Body]]:
        rng = self.random
        rtt = rng.uniform(0.002, 0.08)
        if proto == ICMP:
            made = [(0.0, True, 8), (rtt, False, 0)]
            content = struct.pack("<Q", rng.randrange(10**6)) + bytes(range(16, 48))
            seq = rng.randrange(1, 4)
            return [(later, client, _echo(kind, seq, content)) for later, client, kind in made]
        if proto == UDP:
            if is_dns:
                name = f"host{min(int(rng.paretovariate(0.8)), self.world.names)}".encode()
                question = bytes([len(name)]) + name + b"\7example\3com\0\0\1\0\1"
                identifier = rng.randrange(65536)
                ask = struct.pack(">HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + question
                answer = struct.pack(">HHHHHH", identifier, 0x8180, 1, 1, 0, 0) + question
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xcb\0\x71\5"
                return [(0.0, True, _datagram(ask)), (rtt, False, _datagram(answer))]
            if rng.random() < self.world.alike:
                return [(0.0, True, _datagram(b"ping")), (rtt, False, _datagram(b"ping"))]
            asked, answered = rng.randbytes(rng.randrange(12, 300)), rng.randbytes(rng.randrange(12, 300))
            return [(0.0, True, _datagram(asked)), (rtt, False, _datagram(answered))]
        return _conversation(rng, rtt)


def _conversation(rng: random.Random, rtt: float) -> list[tuple[float, bool, _Body]]:
    numbers = {True: rng.randrange(1 << 32), False: rng.randrange(1 << 32)}
    clocks = {True: rng.randrange(1 << 32), False: rng.randrange(1 << 32)}
    sizes = [(True, rng.randrange(40, 500)), (False, rng.randrange(100, 1300)), (False, rng.randrange(1, 1300))]
    steps: list[tuple[float, bool, _Body]] = []
    acked = {True: 0, False: 0}
    now = 0.0

    def add(client: bool, flags: int, payload: bytes = b"") -> None:
        acknowledgement = acked[client] if flags & _ACK else 0
        value = (clocks[client] + int(now * 1000)) & 0xFFFFFFFF
        echo = (clocks[not client] + int(now * 1000)) & 0xFFFFFFFF if flags & _ACK else 0
        steps.append((now, client, _segment(numbers[client], acknowledgement, flags, value, echo, payload)))
        numbers[client] = (numbers[client] + len(payload) + bool(flags & (_SYN | _FIN))) & 0xFFFFFFFF
        acked[not client] = numbers[client]

    add(True, _SYN)
    now += rtt
    add(False, _SYN | _ACK)
    now += 0.0001
    add(True, _ACK)
    for client, size in sizes:
        now += rtt / 2
        add(client, _PSH | _ACK, rng.randbytes(size))
    for client in (True, False):
        now += rtt / 2
        add(client, _FIN | _ACK)
    now += rtt / 2
    add(True, _ACK)
    return steps


def _segment(seq: int, ack: int, flags: int, value: int, echo: int, payload: bytes) -> _Body:
    rest = struct.pack(">IIBBHHHBBBBII", seq, ack, 8 << 4, flags, 512, 0, 0, 1, 1, 8, 10, value, echo) + payload
    return lambda sport, dport, _: struct.pack(">HH", sport, dport) + rest


def _datagram(payload: bytes) -> _Body:
    return lambda sport, dport, _: struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


def _echo(kind: int, seq: int, content: bytes) -> _Body:
    six = {8: 128, 0: 129}[kind]
    return lambda _sport, _dport, v6: struct.pack(">BBHHH", six if v6 else kind, 0, 0, 0, seq) + content


def _frame(src: bytes, dst: bytes, proto: int, identification: int, segment: bytes) -> bytes:
    if len(src) == 16:
        proto = ICMP6 if proto == ICMP else proto
        head = struct.pack(">IHBB", 0x60000000, len(segment), proto, 63)
        return b"\2\0\0\0\0\2\2\0\0\0\0\1\x86\xdd" + head + src + dst + segment
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), identification, 0x4000, 63, proto, 0)
    return b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0" + head + src + dst + segment


def _row(proto: int, ends: tuple[str, int, str, int]) -> Tuple:
    """The tuple as a table has it: ICMP has types as ports."""
    src, sport, dst, dport = str(ipaddress.ip_address(ends[0])), ends[1], str(ipaddress.ip_address(ends[2])), ends[3]
    if proto in (ICMP, ICMP6):
        sport, dport = (8, 0) if proto == ICMP else (128, 129)
    return WORDS[proto], src, sport, dst, dport


@dataclass(frozen=True)
class Judged:
    """Pairs against the truth."""

    pairs: int
    right: int
    #: Connections inside that crossed the gateway, captured on the other side or not.
    crossed: int

    @property
    def precision(self) -> float:
        return self.right / self.pairs if self.pairs else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.crossed if self.crossed else 1.0


def turned(one: Tuple) -> Tuple:
    """The tuple of the same connection whose smaller end is first: a lost packet may exchange the roles."""
    proto, src, sport, dst, dport = one
    return min(one, (proto, dst, dport, src, sport))


#: The columns of ends; those of the other side have `nat_` before them.
ENDS = ("orig_addr", "orig_port", "resp_addr", "resp_port")


def judge(made: Made, found: Correlation) -> Judged:
    """Compare the connections of a correlation with the truth."""
    table = found.connections
    protos, starts = table["proto"].tolist(), (table["start"].astype("i8") / 1e9 - START).tolist()
    here = zip(*(table[name].tolist() for name in ENDS), strict=True)
    there = zip(*(table[f"nat_{name}"].tolist() for name in ENDS), strict=True)
    pairs = right = crossed = 0
    for proto, start, own, other in zip(protos, starts, here, there, strict=True):
        truth = [ends for at, ends in made.truth.get(turned((proto, *own)), ()) if abs(at - start) < 10]
        crossed += bool(truth)
        if other[0]:
            pairs += 1
            # NAT64 changes the protocol of ICMP, and its types, which stand for ports.
            is_icmp = proto in ("icmp", "icmp6")
            own_tuple, other_tuple = _comparable((proto, *own)), _comparable((proto, *other))
            # Where only replies of a hairpin were captured, its legs are in the order of the replies.
            is_back = not is_icmp and any(
                _comparable(ends) == own_tuple for _, ends in made.truth.get(turned((proto, *other)), ())
            )
            right += other_tuple in map(_comparable, truth) or is_back
    return Judged(pairs, right, crossed)


def _comparable(one: Tuple) -> Tuple:
    proto, src, _, dst, _ = one
    return turned(("icmp", src, 0, dst, 0) if proto.startswith("icmp") else one)
