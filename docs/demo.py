"""Writes the demo capture: a minute at the edge of a small office network, as its gateway would capture it.

    python docs/demo.py demo.pcap

Who is who (all outside addresses are those reserved for documentation):

    10.0.5.23     a phone: looks a name up, downloads 3 MB over TLS, keeps its clock right
    10.0.5.40     a laptop: pings a host outside, opens the company's web site, announces itself by mDNS
    10.0.20.10    the company's web server: customers come in from outside. And every ten seconds it calls
                  203.0.113.66:8443 and sends more than it gets. A server that answers and *initiates*: worth a question
    10.0.20.53    the name server: answers the office, asks outside

One more customer is half a second too early for the capture: the server's SYN+ACK is the first packet of it. It still
says who initiated.

Nothing is random: the capture is the same at every run. Only the standard library is needed.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

START = 1_767_225_600  # 2026-01-01 00:00:00 UTC
FIN, SYN, PSH, ACK = 1, 2, 8, 16

Packet = tuple[float, bytes]


def checksum(data: bytes) -> int:
    """The checksum of IP, TCP, UDP and ICMP (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(proto: int, src: str, dst: str, header: bytes, place: int, payload: bytes = b"") -> bytes:
    """An Ethernet frame with an IPv4 packet; the checksum of `header` goes to byte `place` of it."""
    source, target = IPv4Address(src).packed, IPv4Address(dst).packed
    segment = header + payload
    # ICMP alone has no pseudo header.
    pseudo = b"" if proto == 1 else source + target + struct.pack("!BBH", 0, proto, len(segment))
    sum_ = struct.pack("!H", checksum(pseudo + segment))
    segment = segment[:place] + sum_ + segment[place + 2 :]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, proto, 0, source, target)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return b"\x02\0\0\0\0" + target[3:] + b"\x02\0\0\0\0" + source[3:] + b"\x08\0" + ip + segment


def udp(src: str, sport: int, dst: str, dport: int, payload: bytes) -> bytes:
    """A UDP datagram."""
    return frame(17, src, dst, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0), 6, payload)


def ask(
    at: float, client: str, sport: int, server: str, dport: int, question: bytes, answer: bytes
) -> Iterator[Packet]:
    """A question over UDP and its answer."""
    yield at, udp(client, sport, server, dport, question)
    yield at + 0.012, udp(server, dport, client, sport, answer)


def dns(name: str, addr: str = "") -> bytes:
    """A DNS question for an address or, with one, the answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question = labels + struct.pack("!HH", 1, 1)
    if not addr:
        return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question
    record = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 300, 4, IPv4Address(addr).packed)
    return struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + question + record


def ping(at: float, client: str, server: str, times: int) -> Iterator[Packet]:
    """Echo requests, a second apart, and their replies."""
    for number in range(times):
        for kind, src, dst, later in ((8, client, server, 0), (0, server, client, 0.02)):
            yield at + number + later, frame(1, src, dst, struct.pack("!BBHHH", kind, 0, 0, 99, number), 2, b"." * 56)


def tcp(at: float, client: str, sport: int, server: str, dport: int, up: int, down: int) -> Iterator[Packet]:
    """A TCP connection from handshake to close: `up` bytes sent by the client, then `down` by the server."""
    sequence = {client: 1000, server: 5000}

    def segment(src: str, flags: int, payload: bytes = b"") -> Packet:
        nonlocal at
        at += 0.002
        dst = server if src == client else client
        ports = (sport, dport) if src == client else (dport, sport)
        acknowledged = sequence[dst] if flags & ACK else 0
        header = struct.pack("!HHIIBBHHH", *ports, sequence[src], acknowledged, 0x50, flags, 65535, 0, 0)
        sequence[src] += len(payload) + (flags & (SYN | FIN) != 0)
        return at, frame(6, src, dst, header, 16, payload)

    yield segment(client, SYN)
    yield segment(server, SYN | ACK)
    yield segment(client, ACK)
    for sender, receiver, size in ((client, server, up), (server, client, down)):
        for start in range(0, size, 1400):
            yield segment(sender, PSH | ACK, b"x" * min(1400, size - start))
            yield segment(receiver, ACK)
    yield segment(client, FIN | ACK)
    yield segment(server, FIN | ACK)
    yield segment(client, ACK)


def minute() -> Iterator[Packet]:
    """The packets, story by story."""
    phone, laptop, web, names = "10.0.5.23", "10.0.5.40", "10.0.20.10", "10.0.20.53"
    # The phone: a name, and 3 MB down for 2 kB up. It initiated, so this is egress.
    yield from ask(1.0, phone, 50123, names, 53, dns("video.example"), dns("video.example", "203.0.113.80"))
    yield from ask(1.002, names, 40053, "192.0.2.53", 53, dns("video.example"), dns("video.example", "203.0.113.80"))
    yield from tcp(1.1, phone, 51514, "203.0.113.80", 443, up=2_000, down=3_000_000)
    yield from ask(20.0, phone, 123, "192.0.2.123", 123, b"\x23" + bytes(47), b"\x24" + bytes(47))
    # Customers of the web server; of the first one the SYN came before the capture began.
    yield from list(tcp(0.1, "198.51.100.4", 40004, web, 443, up=700, down=60_000))[1:]
    for number in range(5, 9):
        yield from tcp(5.0 * number, f"198.51.100.{number}", 40000 + number, web, 443, up=900, down=45_000)
    # The web server calls out.
    for number in range(5):
        yield from tcp(9.5 + 10 * number, web, 47000 + number, "203.0.113.66", 8443, up=24_000, down=300)
    # The laptop.
    yield from ping(3.0, laptop, "192.0.2.1", times=4)
    yield from tcp(12.0, laptop, 52100, web, 443, up=500, down=15_000)
    yield 2.5, udp(laptop, 5353, "224.0.0.251", 5353, dns("laptop.local"))


def main(path: str) -> None:
    """Write them as a pcap, by time."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    with Path(path).open("wb") as file:
        file.write(header)
        for at, data in sorted(minute(), key=lambda packet: packet[0]):
            seconds, micros = divmod(round(at * 1e6), 1_000_000)
            file.write(struct.pack("<IIII", START + seconds, micros, len(data), len(data)) + data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: demo.py OUT.pcap")
    main(sys.argv[1])
