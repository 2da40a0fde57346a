"""Packets of every link type and every kind of encapsulation that the decoder knows, for its seeds."""

from __future__ import annotations

import struct
from collections.abc import Iterator

ETHERNET, RAW = 1, 101
#: Numbers of IP protocols, and EtherTypes.
ICMP, IPIP, TCP, UDP, IPV6, IPV6_FRAGMENT = 1, 4, 6, 17, 41, 44
GRE, ESP, AH, ICMP6, SCTP, UDPLITE = 47, 50, 51, 58, 132, 136
ETHERIP, L2TP, MPLS_IN_IP = 97, 115, 137
V4, V6, MPLS, VLAN, QINQ, PPPOE = 0x0800, 0x86DD, 0x8847, 0x8100, 0x88A8, 0x8864
STATIONS = bytes.fromhex("020000000002020000000001")


def words(*values: int) -> bytes:
    """16-bit words in network byte order."""
    return struct.pack(f">{len(values)}H", *values)


def ipv4(proto: int, payload: bytes, fragment: int = 0) -> bytes:
    """An IPv4 packet; `fragment` is the field of flags and offset."""
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, proto, 0)
        + bytes([10, 0, 0, 1, 10, 0, 0, 2])
        + payload
    )


def ipv6(following: int, payload: bytes) -> bytes:
    """An IPv6 packet; `following` may be the number of an extension header."""
    host = bytes.fromhex("20010db8") + bytes(11)
    return struct.pack(">IHBB", 6 << 28, len(payload), following, 64) + host + b"\1" + host + b"\2" + payload


def tcp(flags: int, options: bytes = b"", payload: bytes = b"") -> bytes:
    """A TCP segment."""
    return words(1000, 80, 0, 100, 0, 200, (5 + len(options) // 4) << 12 | flags, 1024, 0, 0) + options + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    """A UDP datagram."""
    return words(sport, dport, 8 + len(payload), 0) + payload


INNER = ipv4(TCP, tcp(0x18, payload=b"inner"))
FRAME = STATIONS + words(V4) + INNER
SNAP = b"\xaa\xaa\3\0\0\0" + words(V4) + INNER
#: Options of a SYN: maximum segment size, SACK permitted, timestamps, window scale; and a SACK block.
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a0000000100000000 01 030307")
SACK = bytes.fromhex("0101 050a 00000001 00000010")


def tunnels() -> Iterator[bytes]:
    """IP packets that carry others."""
    yield ipv4(IPIP, INNER)
    yield ipv4(IPV6, ipv6(TCP, tcp(2)))
    yield ipv6(IPIP, INNER)
    yield ipv4(GRE, words(0, V4) + INNER)
    yield ipv4(GRE, words(0xB000, 0x6558) + bytes(12) + FRAME)
    yield ipv4(GRE, words(0x3001, 0x880B, len(INNER) + 4, 9, 0, 1) + words(0xFF03, 0x0021) + INNER)
    yield ipv4(GRE, words(0, 0x88BE) + FRAME)
    yield ipv4(GRE, words(0x1000, 0x88BE, 0, 1, 0x1000, 0, 0, 0) + FRAME)
    yield ipv4(GRE, words(0x1000, 0x22EB, 0, 1, 0x2000, 0, 0, 0, 0, 0) + FRAME)
    yield ipv4(UDP, udp(5000, 4789, b"\x08\0\0\0\0\0\7\0" + FRAME))
    yield ipv4(UDP, udp(5000, 4790, b"\x0c\0\0\1\0\0\7\0" + INNER))
    yield ipv4(UDP, udp(5000, 6081, words(0x0100, 0x6558, 0, 0x700) + bytes(4) + FRAME))
    yield ipv4(UDP, udp(5000, 2152, b"\x30\xff" + words(len(INNER), 0, 7) + INNER))
    yield ipv4(UDP, udp(5000, 2152, b"\x34\xff" + words(len(INNER) + 8, 0, 7, 0, 0x85) + b"\1\0\0\0" + INNER))
    yield ipv4(UDP, udp(3544, 3544, ipv6(TCP, tcp(2))))
    yield ipv4(UDP, udp(3544, 3544, words(1, 0) + bytes(9) + words(0, 1, 2, 3) + ipv6(TCP, tcp(2))))
    yield from rarer_tunnels()
    yield ipv4(AH, bytes([TCP, 4]) + bytes(22) + tcp(2))
    yield ipv4(ESP, bytes(8) + tcp(2))


def rarer_tunnels() -> Iterator[bytes]:
    """Tunnels of the same kind that fewer networks have."""
    yield ipv4(GRE, words(0, 0x883E, 0, 1) + INNER)
    yield ipv4(GRE, words(0x2001, 0x6400, len(FRAME), 1) + FRAME)
    yield ipv4(
        GRE, words(0, 0x8200) + b"\x88\2\0\0" + STATIONS + bytes(8) + b"\x80\0" + STATIONS + words(len(SNAP)) + SNAP
    )
    yield ipv4(UDP, udp(5000, 4754, words(0x2000, 0x6558, 0, 7) + FRAME))
    yield ipv4(UDP, udp(5000, 4341, b"\x88\0\0\1\0\0\7\1" + INNER))
    yield ipv4(UDP, udp(5000, 5072, words(0x4052, 0x1129, 0, 1) + bytes(36) + ipv6(TCP, tcp(2))))
    yield ipv4(UDP, udp(5000, 6635, b"\0\1\1\x40" + INNER))
    yield ipv4(UDP, udp(5000, 4789, b"\x0c\0\0\4\0\0\7\0" + words(2, 0x0204, 1, 0) + words(2, 0x0201, 1, 0) + INNER))
    yield ipv4(UDP, udp(1701, 1701, words(0x4B02, len(INNER) + 15, 1, 2, 3, 4, 2, 0) + b"\x21" + INNER))
    yield ipv4(UDP, udp(1701, 1701, words(3, 0, 0, 7, 1, 2, 3, 4) + FRAME))
    yield ipv4(L2TP, words(0, 7, 1, 2, 3, 4, 0x4000, 1) + FRAME)
    yield ipv4(MPLS_IN_IP, b"\0\1\1\x40" + INNER)
    yield ipv4(ETHERIP, words(0x3000) + FRAME)
    yield ipv6(43, bytes([143, 2, 4, 0, 0, 0, 0, 0]) + bytes(16) + FRAME)


def transports() -> Iterator[bytes]:
    """IP packets with each transport header, extension header and fragment."""
    for flags, options in ((2, SYN_OPTIONS), (0x12, SYN_OPTIONS), (0x10, SACK), (0x18, b""), (4, b""), (0, b"")):
        yield ipv4(TCP, tcp(flags, options, b"x"))
        yield ipv6(TCP, tcp(flags, options, b"x"))
    chunks = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 0)
    for number, outer in ((UDP, udp(1000, 53, b"query")), (UDPLITE, words(1000, 53, 8, 0) + b"x")):
        yield ipv4(number, outer)
        yield ipv6(number, outer)
    for chunk in chunks:
        yield ipv4(SCTP, words(1000, 80, 0, 7, 0, 0) + bytes([chunk, 0, 0, 20]) + bytes(16))
    for kind in (0, 3, 8, 11, 13):
        yield ipv4(ICMP, bytes([kind, 0, 0, 0, 0, 5, 0, 1]) + INNER)
    for kind in (1, 2, 128, 129, 135, 143):
        yield ipv6(ICMP6, bytes([kind, 0, 0, 0, 0, 5, 0, 1]) + ipv6(TCP, tcp(2)))
    for fragment, part in ((0x2000, udp(1000, 53, bytes(16))), (0x2003, bytes(8)), (2, bytes(8)), (4, bytes(8))):
        yield ipv4(UDP, part, fragment)
        yield ipv6(IPV6_FRAGMENT, bytes([UDP, 0]) + words(fragment << 3 & 0xFFF8 | fragment >> 13, 0, 7) + part)
    extensions = b""
    for following in (TCP, 43, 60):
        extensions = bytes([following, 0]) + bytes(6) + extensions
    yield ipv6(0, extensions + tcp(2))
    yield ipv6(AH, bytes([TCP, 4]) + bytes(22) + tcp(2))


def frames() -> Iterator[bytes]:
    """Ethernet frames of each kind."""
    yield STATIONS + words(VLAN, 100, V4) + INNER
    yield STATIONS + words(QINQ, 5, VLAN, 100, V6) + ipv6(TCP, tcp(2))
    yield STATIONS + words(MPLS) + b"\0\1\0\x40\0\1\1\x40" + INNER
    yield STATIONS + words(MPLS) + b"\0\1\1\x40" + bytes(4) + FRAME
    yield STATIONS + words(PPPOE, 0x1100, 1, len(INNER) + 2, 0x21) + INNER
    yield STATIONS + words(8 + len(INNER)) + b"\xaa\xaa\3\0\0\0" + words(V4) + INNER
    yield STATIONS + words(0x0806, 1, V4, 0x0604, 1) + bytes(20)
    yield b"\xff" * 6 + STATIONS[6:] + words(V4) + INNER
    yield STATIONS + words(0x88E7) + bytes(4) + FRAME
    yield STATIONS + words(0x8903, 0x20) + FRAME
    yield STATIONS + words(0x22F3, 0x83, 1, 2) + bytes(8) + FRAME
    yield from (STATIONS + words(tag, 0x60, 1, V4) + INNER for tag in (0x892F, 0xF1C1, 0x8926))
    yield from (STATIONS + words(tag, 0, 0xC001, 0, V4) + INNER for tag in (0x893F, 0xDADA))
    yield STATIONS + words(0x88E5, 0x2000, 0, 1, 0, 0, 0, 1, VLAN, 5, V4) + INNER
    yield from (STATIONS + words(0x8899, *tag, V4) + INNER for tag in ((0xA001,), (0x0400, 0, 1)))
    yield from (
        STATIONS + words(0xD28B, 1, version, *time, V4) + INNER
        for version, time in ((0x10, (0,) * 4), (0x120, (0,) * 3))
    )
    yield STATIONS + words(0x894F, 2, 0x0204, 0, 1, 2, 0x0203, 0, 1) + FRAME
    yield STATIONS + words(60) + b"\xaa\xaa\3\0\x80\xc2\0\7\0\0" + FRAME
    yield STATIONS + words(60) + b"\xfe\xfe\3\xcc" + INNER


def link_layers() -> Iterator[tuple[int, bytes]]:
    """A packet behind the header of each link type."""
    yield from rare_link_layers()
    ppp = words(0x21) + INNER
    station = b"\x08\1\0\0" + STATIONS + bytes(6) + bytes(2) + SNAP
    with_qos = b"\x88\1\0\0" + STATIONS + bytes(6) + bytes(4) + SNAP
    yield from ((0, order + INNER) for order in (b"\2\0\0\0", b"\0\0\0\2"))
    yield from ((ETHERNET, frame) for frame in frames())
    yield 6, b"\x10\x40" + STATIONS + SNAP
    yield 8, bytes(16) + INNER
    yield from ((9, head + ppp) for head in (b"", b"\xff\3"))
    yield 10, b"\x50" + STATIONS + SNAP
    yield from ((50, head) for head in (b"\xff\3" + ppp, b"\x0f\0" + words(V4) + INNER))
    yield 51, words(0x1100, 1, len(ppp)) + ppp
    yield from ((kind, INNER) for kind in (101, 228))
    yield 104, b"\x0f\0" + words(V4) + INNER
    yield from ((105, frame) for frame in (station, with_qos))
    yield from ((107, head + INNER) for head in (b"\x18\x41\3\xcc", b"\x18\x41" + words(V4)))
    yield 108, b"\0\0\0\2" + INNER
    yield 109, b"\2\0\0\0" + bytes(8) + INNER
    yield 113, words(0, 1, 6) + bytes(8) + words(V4) + INNER
    yield 117, b"\x3d\2\0\0" + bytes(60) + INNER
    yield 119, struct.pack("<II", 0x44, 144) + bytes(136) + station
    yield from ((127, head + station) for head in (b"\0\0\x08\0\0\0\0\0", b"\0\0\x09\0\2\0\0\0\x10"))
    yield 163, struct.pack(">II", 0x80211001, 64) + bytes(56) + station
    yield 166, b"\1\3" + ppp
    yield 192, struct.pack("<BBHI", 0, 0, 8, 105) + station
    yield 192, struct.pack("<BBHI", 0, 0, 8, 1) + FRAME
    yield 204, b"\1\xff\3" + ppp
    yield 205, b"\1\x0f\0" + words(V4) + INNER
    yield 206, b"\1\x18\x41\3\xcc" + INNER
    yield 219, b"\0\1\1\x40" + INNER
    yield 229, ipv6(TCP, tcp(2))
    yield 239, b"\2\0\0\0" + struct.pack("<HH", 4 + len(INNER), 9) + INNER
    yield 258, struct.pack("<III", 108, 1, ETHERNET) + bytes(96) + FRAME
    yield 276, words(V4, 0, 0, 1, 1, 6) + bytes(8) + INNER


def rare_link_layers() -> Iterator[tuple[int, bytes]]:
    """The same for headers of capturing devices and switches, and for rarer networks."""
    juniper, ppp = b"MGC\x81" + words(6) + bytes(6), b"\xff\3" + words(0x21) + INNER
    yield from ((7, b"\1\2" + kind + INNER) for kind in (b"\xd4\0\0\1", b"\xf0", b"\xd4\xff\xff\xff\xd4\0\0\1"))
    yield 99, bytes(6) + words(V4) + bytes(36) + INNER
    yield from ((100, start) for start in (SNAP, INNER, b"\xfe\xfe\3\xcc" + INNER, ppp))
    yield 106, SNAP
    yield 110, b"\0\1" + FRAME
    yield 122, bytes(16) + SNAP
    yield 123, b"\2\0\0\x64" + SNAP
    yield 123, b"\1\0\0\x64\0\1" + FRAME
    yield from ((129, b"\1\2\0\0" + kind + INNER) for kind in (b"\xd4\0\0\1", b"\xf0"))
    yield 130, juniper + b"\x47" + bytes(7) + INNER
    yield 130, juniper + b"\x80\1" + words(0x21) + INNER
    yield 131, juniper + b"\x54\0\0\0\3\xcc" + INNER
    yield 133, juniper + b"\2\0\0\0" + INNER
    yield 134, juniper + b"\x54\0\0\0\3\xcc" + INNER
    yield 135, juniper + bytes(8) + SNAP
    yield 137, juniper + bytes(4) + ppp
    yield 138, bytes(16) + words(V4) + INNER
    yield 167, juniper + FRAME
    yield 168, juniper + words(PPPOE, 0x1100, 1, len(INNER) + 2, 0x21) + INNER
    yield 178, b"MGC\0" + FRAME
    yield 178, b"MGC\3\2\0\0\0" + INNER
    yield 179, juniper + ppp
    yield 180, juniper + b"\x18\x41\3\xcc" + INNER
    yield 181, juniper + b"\x0f\0" + words(V4) + INNER
    yield 182, b"\xc0\1\x18\x41\3\xcc" + INNER
    for kind, payload in ((1, ppp), (0x82, bytes(10) + FRAME), (5, bytes(4) + ppp), (4, bytes(4) + SNAP), (22, INNER)):
        yield 197, bytes(8) + bytes([kind, 4]) + words(16 + len(payload), 0, len(payload)) + payload
    yield 226, b"\1\2" + bytes(2) + words(0, len(INNER)) + bytes(16) + INNER
    yield 240, b"\0\x04\x3b\0" + FRAME
    yield 241, b"\0\x04\x43\0" + b"\x55" * 7 + b"\xd5" + FRAME
    yield from ((242, routing + words(V4, 0) + INNER) for routing in (b"", bytes(40)))
    yield 274, b"\x55" * 7 + b"\xd5" + FRAME
    yield 281, STATIONS + words(0, 1, V4) + INNER
    yield 282, bytes(4) + FRAME
    yield 284, STATIONS + words(0xE008, 5, V4) + INNER
    yield 285, STATIONS + words(0xDADA, 0, 0xC008, 0, V4) + INNER
