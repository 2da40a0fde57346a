"""A naive decoder and five-tuple counter, written from the RFCs with `struct` alone, to judge the real one.

It is slow and knows no connections: it only says which IP packets a frame holds and sums them per five-tuple. It
shares no code with the library. `packets()` gives the stack of one frame, outermost first.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from support.corpus import Endpoint, Record

ICMP, IPIP, TCP, UDP, SIXINFOUR, GRE, ICMP6, SCTP = 1, 4, 6, 17, 41, 47, 58, 132

#: Tunnels that are IP protocols of their own: Zeek logs no connection for their outer packets.
IP_TUNNELS = frozenset({IPIP, SIXINFOUR, GRE})

#: EtherTypes of tags, and how many bytes further the next EtherType is: VLAN, VN-Tag, HSR, MACsec.
_TAGS = {0x8100: 2, 0x88A8: 2, 0x9100: 2, 0x8926: 4, 0x892F: 4, 0x88E5: 6}
_ICMP_PAIRS = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 10: 9, 9: 10}
_ICMP6_PAIRS = {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 139: 140, 140: 139}
_ICMP_REQUESTS = {ICMP: frozenset({8, 10, 13, 15, 17}), ICMP6: frozenset({128, 130, 133, 135, 139})}
_IP6_EXTENSIONS = frozenset({0, 43, 60, 135})

Key = tuple[int, Endpoint, Endpoint]


@dataclass(frozen=True)
class Packet:
    """One IP datagram or fragment as it travelled."""

    proto: int
    src: Endpoint
    dst: Endpoint
    packets: int  #: 1; 0 for a later fragment
    ip_bytes: int  #: total length; a later fragment adds its payload only
    payload: int  #: bytes above the transport header, by the headers' lengths
    start: str  #: "syn", "syn_ack", "icmp_request" or "other": what the packet says about who starts
    fragment: str = "whole"  #: "whole", "first" or "later"
    checksum: bool = True  #: False: a checksum is wrong
    header: bytes = b""  #: the TCP header without options, as far as captured


@dataclass
class Side:
    """Counters of one endpoint of a five-tuple."""

    packets: int = 0
    ip_bytes: int = 0
    payload: int = 0
    records: list[int] = field(default_factory=list)  #: numbers of its records, the first of the capture is 0


@dataclass
class Flow:
    """All packets of one five-tuple in a capture."""

    originators: set[Endpoint] = field(default_factory=set)  #: empty where the naive tracker cannot know
    sides: dict[Endpoint, Side] = field(default_factory=dict)

    def side(self, endpoint: Endpoint) -> Side:
        """The sums of one endpoint."""
        return self.sides.setdefault(endpoint, Side())


Flows = dict[Key, Flow]


def ones_sum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of some bytes; 0 where it verifies."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Decoder:
    """Frames to packets; remembers first fragments, nothing else."""

    def __init__(self) -> None:
        self._fragments: dict[tuple[bytes, bytes, int, int], tuple[int, Endpoint, Endpoint]] = {}

    def packets(self, record: Record) -> list[Packet]:
        """The IP packets in a frame, outermost first; empty where it holds none that can be read."""
        try:
            return list(self._link(record.linktype, record.data))
        except (struct.error, IndexError):
            return []

    def _link(self, linktype: int, frame: bytes) -> Iterator[Packet]:
        if linktype == 1:
            yield from self._ethernet(frame)
        elif linktype == 9:  # PPP, or Cisco HDLC by its address
            yield from (
                self._ethertype(struct.unpack_from("!H", frame, 2)[0], frame[4:])
                if frame[0]
                in (
                    0x0F,
                    0x8F,
                )
                else self._ppp(frame)
            )
        elif linktype == 113:  # Linux cooked
            yield from self._ethertype(struct.unpack_from("!H", frame, 14)[0], frame[16:])
        elif linktype == 127:  # radiotap
            yield from self._wlan(frame[struct.unpack_from("<H", frame, 2)[0] :], frame)
        elif linktype in (12, 14, 101, 228, 229):  # raw IP
            yield from self._ip(frame)
        elif linktype == 0:  # BSD loopback
            yield from self._ip(frame[4:])
        elif linktype == 239:  # NFLOG: attributes; number 9 is the packet
            at = 4
            while at + 4 <= len(frame):
                size, kind = struct.unpack_from("<HH", frame, at)
                if kind & 0x7FFF == 9:
                    yield from self._ip(frame[at + 4 : at + size])
                if size < 4:
                    return
                at += (size + 3) & ~3

    def _ethernet(self, frame: bytes) -> Iterator[Packet]:
        yield from self._ethertype(struct.unpack_from("!H", frame, 12)[0], frame[14:])

    def _ethertype(self, kind: int, data: bytes) -> Iterator[Packet]:
        while kind in _TAGS:
            at = _TAGS[kind]
            if kind == 0x88E5:  # MACsec: unencrypted, unchanged, with or without a channel identifier
                if data[0] & 0x0C:
                    return
                at = 14 if data[0] & 0x20 else 6
            kind, data = struct.unpack_from("!H", data, at)[0], data[at + 2 :]
        if kind == 0x8903:  # FabricPath: a tree, and the customer's frame
            yield from self._ethernet(data[2:])
        elif kind == 0x8864:  # PPPoE session
            if struct.unpack_from("!H", data, 6)[0] in (0x0021, 0x0057):
                yield from self._ip(data[8:])
        elif kind in (0x8847, 0x8848):  # MPLS: to the bottom of the stack, then IP by its version
            at = 0
            while not data[at + 2] & 1:
                at += 4
            if data[at + 4] >> 4 in (4, 6):
                yield from self._ip(data[at + 4 :])
            else:  # Ethernet, behind a control word where its first nibble is 0
                yield from self._ethernet(data[at + 4 + (4 if data[at + 4] >> 4 == 0 else 0) :])
        elif kind in (0x0800, 0x86DD):
            yield from self._ip(data, kind)
        elif kind <= 1500 and data[:3] == b"\xaa\xaa\x03":  # LLC and SNAP
            yield from self._ethertype(struct.unpack_from("!H", data, 6)[0], data[8:])

    def _wlan(self, data: bytes, frame: bytes) -> Iterator[Packet]:
        control, flags = data[0], data[1]
        if control >> 2 & 3 != 2 or control & 0x40 or flags & 0x40:  # not data, no payload, or encrypted
            return
        at = 24 + (6 if flags & 3 == 3 else 0) + (2 if control & 0x80 else 0)
        if struct.unpack_from("<I", frame, 4)[0] & 2 and self._radiotap_flags(frame) & 0x20:
            at = (at + 3) & ~3  # the card padded the header
        if control & 0x80 and data[24 + (6 if flags & 3 == 3 else 0)] & 0x80:  # A-MSDU: a header for each frame
            at += 14
        yield from self._ethertype(0, data[at:])

    @staticmethod
    def _radiotap_flags(frame: bytes) -> int:
        present, at = struct.unpack_from("<I", frame, 4)[0], 8
        while struct.unpack_from("<I", frame, at - 4)[0] & 1 << 31:
            at += 4
        if present & 1:
            at = ((at + 7) & ~7) + 8
        return frame[at]

    def _ip(self, data: bytes, ethertype: int = 0) -> Iterator[Packet]:
        version = data[0] >> 4
        if ethertype and version != {0x0800: 4, 0x86DD: 6}[ethertype]:
            return
        if version == 4:
            yield from self._ip4(data)
        elif version == 6:
            yield from self._ip6(data)

    def _ip4(self, data: bytes) -> Iterator[Packet]:
        header, total = (data[0] & 15) * 4, struct.unpack_from("!H", data, 2)[0]
        ident, offset = struct.unpack_from("!HH", data, 4)
        total = total or len(data)  # segmentation offload: a length of 0 means the whole capture
        if header < 20 or total < header or len(data) < header:
            return
        good = ones_sum(data[:header]) == 0
        yield from self._transport(
            data[9], data[12:16], data[16:20], data[header:total], header, total, good,
            ((offset & 0x1FFF) * 8, bool(offset & 0x2000), ident),
        )  # fmt: skip

    def _ip6(self, data: bytes) -> Iterator[Packet]:
        size, proto = struct.unpack_from("!HB", data, 4)
        at, total = 40, 40 + size
        fragment = (0, False, 0)
        while True:
            if proto in _IP6_EXTENSIONS:
                proto, at = data[at], at + 8 + data[at + 1] * 8
            elif proto == 51:  # authentication header
                proto, at = data[at], at + 8 + data[at + 1] * 4
            elif proto == 44:
                following, offset, ident = struct.unpack_from("!BxHI", data, at)
                fragment = (offset & 0xFFF8, bool(offset & 1), ident)
                proto, at = following, at + 8
                if fragment[0]:
                    break
            else:
                break
        if total < at or proto == 59:  # 59: nothing follows
            return
        yield from self._transport(proto, data[8:24], data[24:40], data[at:total], at, total, True, fragment)

    def _transport(
        self, proto: int, src: bytes, dst: bytes, body: bytes, header: int, total: int, good: bool,
        fragment: tuple[int, bool, int],
    ) -> Iterator[Packet]:  # fmt: skip
        """One datagram: `body` is what was captured of it, `total` what its header says, `header` its IP headers."""
        source, target = str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst))
        offset, more, ident = fragment
        size = total - header
        if offset:
            known = self._fragments.get((src, dst, ident, proto))
            if known:
                yield Packet(known[0], known[1], known[2], 0, size, size, "other", "later", good)
            return
        place = "first" if more else "whole"
        sport = dport = 0
        payload, start = size, "other"
        if proto == TCP:
            sport, dport = struct.unpack_from("!HH", body)
            length = (body[12] >> 4) * 4 if len(body) > 12 else 20
            payload = max(size - length, 0)
            sound = 20 <= length <= size and len(body) > 13
            start = {0x02: "syn", 0x12: "syn_ack"}.get(body[13] & 0x17, "other") if sound else "other"
        elif proto in (UDP, 136):
            sport, dport = struct.unpack_from("!HH", body)
            if size < 8:
                return
            payload = size - 8
        elif proto == SCTP:
            sport, dport = struct.unpack_from("!HH", body)
            if size < 12:
                return
            payload = size - 12
        elif proto == (ICMP if len(src) == 4 else ICMP6):
            sport, dport = self.icmp_ports(proto, body[0], body[1])
            payload = max(size - 8, 0)
            start = "icmp_request" if body[0] in _ICMP_REQUESTS[proto] else "other"
        good = good and (place != "whole" or len(body) < size or self._verify(proto, src, dst, body))
        ends = (source, sport), (target, dport)
        if more:
            self._fragments[src, dst, ident, proto] = (proto, *ends)
        yield Packet(proto, *ends, 1, total, payload, start, place, good, body[:20] if proto == TCP else b"")
        yield from self._tunnel(proto, sport, dport, body)

    @staticmethod
    def icmp_ports(proto: int, kind: int, code: int) -> tuple[int, int]:
        """ICMP's ports as Zeek has them: the type, and the counterpart's type or, where there is none, the code."""
        return kind, (_ICMP_PAIRS if proto == ICMP else _ICMP6_PAIRS).get(kind, code)

    @staticmethod
    def _verify(proto: int, src: bytes, dst: bytes, body: bytes) -> bool:
        if proto == ICMP:
            return ones_sum(body) == 0 or len(src) != 4
        if proto in (TCP, UDP, ICMP6):
            if proto == UDP and body[6:8] == b"\0\0":
                return True
            return ones_sum(src + dst + struct.pack("!II", len(body), proto) + body) == 0
        return True

    def _tunnel(self, proto: int, sport: int, dport: int, body: bytes) -> Iterator[Packet]:
        """Inner packets of a tunnelled datagram; none where the payload cannot be read."""
        try:
            if proto in (IPIP, SIXINFOUR):
                yield from self._ip(body)
            elif proto == GRE:
                yield from self._gre(body)
            elif proto == UDP:
                yield from self._udp_tunnel(sport, dport, body[8:])
        except (struct.error, IndexError):
            return

    def _ppp(self, data: bytes) -> Iterator[Packet]:
        """PPP, its address field perhaps, and a protocol field of one or two bytes."""
        data = data[2:] if data[:2] == b"\xff\x03" else data
        ppp, size = (data[0], 1) if data[0] & 1 else (data[0] << 8 | data[1], 2)
        if ppp in (0x21, 0x57):
            yield from self._ip(data[size:])

    def _gre(self, data: bytes) -> Iterator[Packet]:
        flags, kind = struct.unpack_from("!HH", data)
        at = 4 + 4 * bool(flags & 0xC000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
        if flags & 7 == 1:  # PPTP: the key is always there, an acknowledgement perhaps
            at = 8 + 4 * bool(flags & 0x1000) + 4 * bool(flags & 0x80)
        rest = data[at:]
        if kind == 0x880B:
            yield from self._ppp(rest)
        elif 0x8200 <= kind <= 0x8370 and kind & 15 == 0:  # Aruba: 802.11
            yield from self._wlan(rest, bytes(8))
        elif kind == 0x88BE:  # ERSPAN: type I has no sequence number and no header
            yield from self._ethernet(rest[8:] if flags & 0x1000 else rest)
        elif kind == 0x22EB:
            yield from self._ethernet(rest[12 + 8 * (rest[11] & 1) :])
        elif kind == 0x6558:
            yield from self._ethernet(rest)
        else:
            yield from self._ethertype(kind, rest)

    def _udp_tunnel(self, sport: int, dport: int, data: bytes) -> Iterator[Packet]:
        if dport == 4789:
            if data[0] & 8:
                yield from self._ethernet(data[8:])
        elif dport == 5072 and data[2] & 15 == 1 and data[3] in (IPIP, SIXINFOUR):  # AYIYA
            yield from self._ip(data[8 + (1 << (data[0] >> 4)) + (data[1] >> 4) * 4 :])
        elif dport == 4341:  # LISP
            yield from self._ip(data[8:])
        elif dport == 4754:
            yield from self._gre(data)
        elif dport == 6635:
            yield from self._ethertype(0x8847, data)
        elif 1701 in (sport, dport):
            if data[0] & 0x80 or data[1] & 15 != 2:  # version 2, data
                return
            at = 6 + (2 if data[0] & 0x40 else 0) + (4 if data[0] & 8 else 0)
            at += 2 + struct.unpack_from("!H", data, at)[0] if data[0] & 2 else 0
            yield from self._ppp(data[at:])
        elif dport == 6081:
            inner = data[8 + (data[0] & 63) * 4 :]
            kind = struct.unpack_from("!H", data, 2)[0]
            yield from self._ethernet(inner) if kind == 0x6558 else self._ethertype(kind, inner)
        elif 2152 in (sport, dport):
            if data[0] >> 4 != 3 or data[1] != 0xFF:  # version 1, GTP; G-PDU
                return
            at = 12 if data[0] & 7 else 8
            following = data[11] if data[0] & 4 else 0
            while following:
                size = data[at] * 4
                if not size:
                    return
                following, at = data[at + size - 1], at + size
            yield from self._ip(data[at:])
        else:
            yield from self._teredo(data, 3544 in (sport, dport))

    def _teredo(self, data: bytes, server: bool) -> Iterator[Packet]:
        """RFC 4380; relays and peers use any port, so there one of the addresses has to be a Teredo address."""
        if data[:2] == b"\0\1":  # authentication
            data = data[13 + data[2] + data[3] :]
        if data[:2] == b"\0\0":  # origin
            data = data[8:]
        teredo = b"\x20\x01\0\0" in (data[8:12], data[24:28])
        if data[0] >> 4 == 6 and 40 + struct.unpack_from("!H", data, 4)[0] == len(data) and (server or teredo):
            yield from self._ip6(data)


def key(proto: int, one: Endpoint, other: Endpoint) -> Key:
    """The five-tuple without its direction."""
    return (proto, one, other) if one <= other else (proto, other, one)


def stacks(records: Iterable[Record], checksum: bool = False) -> Iterator[list[Packet]]:
    """The IP packets of every record, outermost first; `checksum`: without those whose checksum is wrong."""
    decoder = Decoder()
    for record in records:
        stack = decoder.packets(record)
        wrong = [i for i, packet in enumerate(stack) if not packet.checksum]
        yield stack[: wrong[0]] if checksum and wrong else stack


def flows(records: Iterable[Record], tunnels: str = "inner", checksum: bool = False) -> Flows:
    """Sums per five-tuple, `tunnels` as in `ct.Config`. A record belongs to its innermost packet that counts."""
    found: Flows = {}
    for number, stack in enumerate(stacks(records, checksum)):
        chosen = {"inner": stack[-1:], "outer": stack[:1], "both": stack}[tunnels]
        for packet in chosen:
            name = key(packet.proto, packet.src, packet.dst)
            if name not in found:
                starter = {"syn": packet.src, "icmp_request": packet.src, "syn_ack": packet.dst}.get(packet.start)
                found[name] = Flow({starter} if starter else set())
            side = found[name].side(packet.src)
            side.packets += packet.packets
            side.ip_bytes += packet.ip_bytes
            side.payload += packet.payload
            if packet is chosen[-1]:
                side.records.append(number)
    return found
