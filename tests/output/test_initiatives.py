"""Findings folded by server and service."""

from __future__ import annotations

import functools
import operator

import conntrack_py as ct
from conntrack_py import analysis
from support.packets import ACK, SYN, tcp

SECOND = 10**9
#: Nearly as far from 1970 as a capture may be: two such ends are more than 63 bits apart.
FAR = 7_900_000_000_000_000_000


def session(begin: int, client: str, port: int, server: str, service: int) -> list[tuple[int, bytes]]:
    """A handshake, and a byte each way."""
    frames = (
        tcp(client, port, server, service, SYN),
        tcp(server, service, client, port, SYN | ACK, ack=1),
        tcp(client, port, server, service, ACK, seq=1, ack=1, payload=b"x"),
        tcp(server, service, client, port, ACK, seq=1, ack=2, payload=b"y"),
    )
    return [(begin + place, frame) for place, frame in enumerate(frames)]


def test_a_histogram_over_the_longest_span() -> None:
    """More calls than are told one by one, in a capture whose ends are 500 years apart."""
    late = FAR - 10**18
    calls = [session(late + call * 100 * SECOND, "10.0.0.9", 1000 + call, "192.0.2.66", 8443) for call in range(310)]
    packets = [(-FAR, tcp("10.0.0.9", 1, "10.0.0.8", 2, SYN)), *functools.reduce(operator.iadd, calls, [])]
    packets += session(late + 40_000 * SECOND, "192.0.2.7", 5, "10.0.0.9", 443)
    tracker = ct.Tracker()
    tracker.process(ct.PacketBatch.from_pairs(sorted((at / SECOND, frame) for at, frame in packets)))
    table = tracker.finish()
    found = analysis.initiatives(table, ct.summary(ct.TrackResult(table, tracker.stats())).findings)
    (one,) = [one for one in found if one.service == "8443/tcp"]
    assert (one.connections, sum(one.histogram), one.times) == (310, 310, ())
    # Of 150 bins over the span, the calls are in one.
    assert sorted(one.histogram)[-1] == 310
