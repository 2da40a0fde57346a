"""The originators and their evidence in captures made by hand."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import conntrack_py as ct
from support.packets import ACK, Packet, evenly, pcap_bytes, tcp

#: A question about `a`, and its answer without one.
QUERY = bytes.fromhex("123401000001000000000000") + b"\1a\0" + bytes.fromhex("00010001")
ANSWER = bytes.fromhex("123481800001000000000000") + b"\1a\0" + bytes.fromhex("00010001")
A, B, C, D = "10.0.0.5", "203.0.113.80", "198.51.100.7", "192.0.2.9"


def track(packets: Iterable[Packet], **options: Any) -> ct.TrackResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        return ct.track(io.BytesIO(pcap_bytes(packets)), labels=True, config=ct.Config(**options))


def verdicts(frames: Sequence[bytes], **options: Any) -> list[tuple[str, int, str]]:
    """Originator, its port and the evidence of every connection."""
    rows = track(evenly(frames), **options).connections
    return [(row.orig_addr, row.orig_port, row.evidence) for row in rows]


def segment(src: str, sport: int, dst: str, dport: int, payload: bytes = b"", flags: int = ACK) -> bytes:
    return tcp(src, sport, dst, dport, flags, 5000, 7000, payload)
