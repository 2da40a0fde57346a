"""Frames and captures made by hand."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

import dpkt

#: 2026-01-01 00:00:00 UTC
START = 1_767_225_600
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

#: Seconds after START, and a frame.
Packet = tuple[float, bytes]


def packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def ethernet(src: str, dst: str, proto: int, payload: bytes | dpkt.Packet) -> bytes:
    """An Ethernet frame with an IP packet."""
    if ":" in src:
        ends = (ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed)
        ip6 = dpkt.ip6.IP6(src=ends[0], dst=ends[1], nxt=proto, hlim=64, data=payload, plen=len(payload))
        return bytes(dpkt.ethernet.Ethernet(data=ip6, type=dpkt.ethernet.ETH_TYPE_IP6))
    ip = dpkt.ip.IP(src=packed(src), dst=packed(dst), p=proto, ttl=64, data=payload)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP))


def udp(src: str, sport: int, dst: str, dport: int, payload: bytes = b"") -> bytes:
    return ethernet(src, dst, 17, dpkt.udp.UDP(sport=sport, dport=dport, ulen=8 + len(payload), data=payload))


def tcp(
    src: str,
    sport: int,
    dst: str,
    dport: int,
    flags: int,
    seq: int = 0,
    ack: int = 0,
    payload: bytes = b"",
    *,
    window: int = 65535,
    options: bytes = b"",
) -> bytes:
    segment = dpkt.tcp.TCP(
        sport=sport,
        dport=dport,
        seq=seq,
        ack=ack,
        off=5 + len(options) // 4,
        flags=flags,
        win=window,
        opts=options,
        data=payload,
    )
    return ethernet(src, dst, 6, segment)


def echo(src: str, dst: str, kind: int, sequence: int = 1) -> bytes:
    message = dpkt.icmp.ICMP(type=kind, data=dpkt.icmp.ICMP.Echo(id=7, seq=sequence, data=b"." * 32))
    return ethernet(src, dst, 1, message)


def arp() -> bytes:
    return bytes(dpkt.ethernet.Ethernet(data=dpkt.arp.ARP(), type=dpkt.ethernet.ETH_TYPE_ARP))


def download(client: str, sport: int, server: str, dport: int, down: int = 20_000) -> list[bytes]:
    """A TCP connection from SYN to the last ACK in which the server sends nearly everything."""
    seqs = {client: 100, server: 900}

    def segment(src: str, flags: int, payload: bytes = b"") -> bytes:
        dst = server if src == client else client
        ports = (sport, dport) if src == client else (dport, sport)
        frame = tcp(src, ports[0], dst, ports[1], flags, seqs[src], seqs[dst] if flags & ACK else 0, payload)
        seqs[src] += len(payload) + (flags & (SYN | FIN) != 0)
        return frame

    frames = [
        segment(client, SYN),
        segment(server, SYN | ACK),
        segment(client, ACK),
        segment(client, PSH | ACK, b"GET"),
    ]
    for _ in range(0, down, 1000):
        frames += [segment(server, PSH | ACK, b"x" * 1000), segment(client, ACK)]
    return [*frames, segment(client, FIN | ACK), segment(server, FIN | ACK), segment(client, ACK)]


def evenly(frames: Iterable[bytes], start: float = 0.0, step: float = 0.001) -> list[Packet]:
    """The frames, one after another."""
    return [(start + step * number, frame) for number, frame in enumerate(frames)]


def pcap_bytes(packets: Iterable[Packet], linktype: int = 1, snaplen: int = 65535) -> bytes:
    """A little-endian pcap with microseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype)]
    for at, frame in packets:
        seconds, micros = divmod(round(at * 1e6), 1_000_000)
        cut = frame[:snaplen]
        parts.append(struct.pack("<IIII", START + seconds, micros, len(cut), len(frame)) + cut)
    return b"".join(parts)


def flood(sources: int) -> list[bytes]:
    """A SYN from each of so many addresses."""
    return [tcp(f"198.51.{number >> 8}.{number & 255}", 1024, "10.0.0.2", 80, SYN) for number in range(sources)]
