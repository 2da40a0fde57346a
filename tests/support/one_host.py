"""Connections of one host: what it serves, what it initiates, and what is tried on it."""

from __future__ import annotations

from support.packets import SYN, download, echo, tcp, udp

HOST, CLIENT, AWAY = "10.0.1.10", "10.0.5.7", "203.0.113.9"
FRAMES = [
    *download(CLIENT, 40_000, HOST, 443, 1000),
    *download(CLIENT, 40_001, HOST, 22, 1000),
    *download(HOST, 40_002, AWAY, 8443, 1000),
    tcp(AWAY, 40_003, HOST, 3306, SYN, 1),
    udp(HOST, 40_004, "10.0.0.53", 53, b"question"),
    udp("10.0.0.53", 53, HOST, 40_004, b"answer"),
    echo(CLIENT, HOST, 8),
    echo(HOST, CLIENT, 0),
]
