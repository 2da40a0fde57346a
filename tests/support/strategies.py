"""Captures of many kinds of traffic, drawn by hypothesis."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import dpkt
from hypothesis import strategies as st

from support.packets import ACK, FIN, PSH, RST, SYN, Packet, arp, download, echo, packed, tcp, udp

CLIENTS = ("10.0.0.5", "10.0.0.6", "192.168.1.9")
SERVERS = ("203.0.113.80", "10.0.0.53", "198.51.100.7")
#: MSS, SACK permitted, window scale 7.
OPTIONS = bytes([2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 0, 0])


def tagged(frame: bytes, *vids: int) -> bytes:
    """The frame with VLAN tags."""
    tags = b"".join(struct.pack(">HH", 0x8100, vid) for vid in vids)
    return frame[:12] + tags + frame[12:]


def to_ipv6(frame: bytes) -> bytes:
    """An IPv4 frame as IPv6: the same above the header, and addresses that hold the old ones."""
    src, dst = (b"\x20\x01\x0d\xb8" + bytes(8) + part for part in (frame[26:30], frame[30:34]))
    above = frame[34:]
    proto = 58 if frame[23] == 1 else frame[23]
    if proto == 58:
        above = bytes([{8: 128, 0: 129}.get(above[0], 1)]) + above[1:]
    return frame[:12] + struct.pack(">HIHBB", 0x86DD, 0x60000000, len(above), proto, 64) + src + dst + above


def error_about(frame: bytes, router: str) -> bytes:
    """Port unreachable, quoting the frame's packet."""
    quote = frame[14 : 14 + 20 + 8]
    message = struct.pack(">BBHI", 3, 3, 0, 0) + quote
    ip = dpkt.ip.IP(src=packed(router), dst=frame[26:30], p=1, ttl=64, data=message)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=0x0800))


def fragments(frame: bytes, size: int, ident: int) -> list[bytes]:
    """The frame's packet in fragments of `size` bytes, a multiple of 8."""
    above = frame[34:]
    pieces = []
    for at in range(0, len(above), size):
        more = 0x2000 if at + size < len(above) else 0
        piece = above[at : at + size]
        header = frame[14:16] + struct.pack(">HHH", 20 + len(piece), ident, more | at // 8) + frame[22:34]
        pieces.append(frame[:14] + header + piece)
    return pieces


def vxlan(frame: bytes, src: str, dst: str) -> bytes:
    """The frame in a VXLAN tunnel."""
    return udp(src, 50000, dst, 4789, struct.pack(">II", 0x08000000, 7 << 8) + frame)


def _tcp(client: str, port: int, server: str) -> list[bytes]:
    """A connection with options, scaled windows, a segment that is sent again, and an RST beside the window."""
    ends = (client, port, server, 443), (server, 443, client, port)
    wide = {"options": OPTIONS, "window": 500}
    return [
        tcp(*ends[0], SYN, 100, **wide),
        tcp(*ends[1], SYN | ACK, 900, 101, **wide),
        tcp(*ends[0], ACK, 101, 901, window=500),
        tcp(*ends[0], PSH | ACK, 101, 901, b"\x16\x03\x01" + b"h" * 200, window=500),
        tcp(*ends[1], ACK, 901, 304, b"s" * 1400, window=500),
        tcp(*ends[1], ACK, 901, 304, b"s" * 1400, window=500),
        tcp(*ends[1], ACK, 5000, 304, b"s" * 1400, window=500),
        tcp(*ends[0], ACK, 304, 2301, window=0),
        tcp(*ends[0], RST, 77_000_000, window=0),
        tcp(*ends[1], RST, 2301, window=0),
    ]


@st.composite
def flows(draw: st.DrawFn) -> list[bytes]:
    """The frames of one conversation."""
    client, server = draw(st.sampled_from(CLIENTS)), draw(st.sampled_from(SERVERS))
    port = draw(st.integers(40000, 40003))
    kind = draw(st.sampled_from(["download", "tcp", "dns", "ping", "error", "vxlan", "fragments", "arp", "announce"]))
    question = udp(client, port, server, 53, b"\x00\x01\x01\x00\x00\x01" + bytes(6) + b"\x01a\x00\x00\x01\x00\x01")
    match kind:
        case "download":
            frames = download(client, port, server, draw(st.sampled_from([21, 443, 50123])), 3000)
        case "tcp":
            frames = _tcp(client, port, server)
        case "dns":
            frames = [question, udp(server, 53, client, port, b"!" * 90)]
        case "ping":
            frames = [echo(client, server, 8), echo(server, client, 0)]
        case "error":
            frames = [question, error_about(question, draw(st.sampled_from([server, "192.0.2.254"])))]
        case "vxlan":
            frames = [vxlan(frame, client, server) for frame in _tcp("10.9.0.1", port, "10.9.0.2")]
        case "fragments":
            frames = fragments(udp(client, port, server, 5000, b"f" * 1000), 400, draw(st.integers(1, 3)))
        case "announce":
            frames = [b"\xff" * 6 + udp(client, port, "10.0.0.255", 137, b"who")[6:]]
        case _:
            frames = [arp()]
    # Captured from somewhere in the middle on.
    frames = frames[draw(st.integers(0, max(0, len(frames) - 1))) :] if draw(st.booleans()) else frames
    there = draw(st.sampled_from([(), (), (7,), (7, 9)]))
    back = draw(st.sampled_from([there, there, (), (8,)]))
    tags = [there if frame[26:30] == packed(client) else back for frame in frames]
    if kind in ("download", "tcp", "dns", "ping") and draw(st.booleans()):
        frames = [to_ipv6(frame) for frame in frames]
    return [tagged(frame, *vids) for frame, vids in zip(frames, tags, strict=True)]


@st.composite
def stories(draw: st.DrawFn) -> list[Packet]:
    """Conversations that take turns, and sometimes a long silence."""
    waiting = draw(st.lists(flows(), min_size=1, max_size=6))
    told: list[Packet] = []
    at = 0.0
    while waiting := [flow for flow in waiting if flow]:
        flow = waiting[draw(st.integers(0, len(waiting) - 1))]
        take = draw(st.integers(1, len(flow)))
        for frame in flow[:take]:
            told.append((at, frame))
            at += 0.001
        del flow[:take]
        at += draw(st.sampled_from([0.0, 0.0, 0.0, 40.0, 700.0]))
    return told


def cut(count: int, places: Sequence[int]) -> list[slice]:
    """Batches that end at these places."""
    ends = sorted(place % (count + 1) for place in places)
    return [slice(a, b) for a, b in zip([0, *ends], [*ends, count], strict=True)]


__all__ = ["FIN", "cut", "error_about", "flows", "fragments", "stories", "tagged", "to_ipv6", "vxlan"]
