"""Flows of the library for a capture, in the terms of the naive tracker."""

from __future__ import annotations

import io
import socket
import warnings
from dataclasses import dataclass, field
from typing import Any

from support import naive
from support.corpus import address, library
from support.naive import ICMP, ICMP6, SCTP, TCP, UDP, Flow, Flows, Key

#: Evidence that is in the packets, not guessed.
_SEEN = {"syn", "syn_ack", "icmp_request"}
_NAMES = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmp6": ICMP6, "sctp": SCTP}


@dataclass
class Tracked:
    """A tracked capture."""

    flows: Flows
    keys: list[Key | None]  #: the five-tuple of every record; None: not tracked
    skipped: int  #: records that `stats` says were skipped
    errors: list[int] = field(default_factory=list)  #: ICMP errors that are related to another connection


def proto_number(text: str) -> int:
    """An IP protocol from its name or its number as text."""
    if text in _NAMES:
        return _NAMES[text]
    return int(text) if text.isdigit() else socket.getprotobyname(text)


def track(source: str | bytes, **config: object) -> Tracked:
    """Track a file, or the bytes of one, and sum its connections per five-tuple; warnings are let go."""
    ct = library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        result = ct.track(opened, config=ct.Config(**config), labels=True)
    return summed(result)


def summed(result: Any) -> Tracked:
    """Sums over the connections of each five-tuple of a `TrackResult`, records by its labels."""
    table, labels = result.connections, result.labels
    columns = [
        table[name].tolist()
        for side in ("orig", "resp")
        for name in (f"{side}_addr", f"{side}_port", f"{side}_pkts", f"{side}_ip_bytes", f"{side}_bytes")
    ]
    flows: Flows = {}
    rows = []  # of each connection: its five-tuple, originator's and responder's side
    guesses: dict[Key, set[naive.Endpoint]] = {}
    for text, evidence, *cells in zip(table["proto"].tolist(), table["evidence"].tolist(), *columns, strict=True):
        orig, resp = (address(cells[0]), cells[1]), (address(cells[5]), cells[6])
        key = naive.key(proto_number(text), orig, resp)
        flow = flows.setdefault(key, Flow())
        if evidence in _SEEN:
            flow.originators.add(orig)
        guesses.setdefault(key, set()).add(orig)
        for end, (packets, ip_bytes, payload) in ((orig, cells[2:5]), (resp, cells[7:10])):
            side = flow.side(end)
            side.packets += packets
            side.ip_bytes += ip_bytes
            side.payload += payload
        rows.append((key, flow.side(orig), flow.side(resp)))
    for key, flow in flows.items():
        # Later connections of a five-tuple may begin with an echo of the first, which says nothing.
        flow.originators = flow.originators or guesses[key]
    keys: list[Key | None] = []
    related = labels["ctstate"] == library().CtState.RELATED
    for number, (row, reply) in enumerate(zip(labels["connection"].tolist(), labels["reply"].tolist(), strict=True)):
        keys.append(rows[row][0] if row >= 0 else None)
        # The label of an ICMP error speaks of the connection that it quotes.
        if row >= 0 and not related[number]:
            rows[row][2 if reply else 1].records.append(number)
    errors = [int(number) for number in related.nonzero()[0]]
    return Tracked(flows, keys, sum(dict(result.stats.skipped).values()), errors)
