"""Rows of a `ConnectionTable`, and their cells for people."""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache
from typing import Any, NamedTuple, cast

from conntrack_py import _native, text

#: Evidence from the weakest to the strongest → confidence, certainty, and a phrase for lists of inferred originators.
EVIDENCE = _native.EVIDENCE
#: The columns of a whole table, in order.
ALL_COLUMNS: list[str] = _native.Connections.all_names()


class Connection(NamedTuple):
    """A row of a `ConnectionTable`. A missing value is None."""

    start: int | None
    """Capture time of the first packet, nanoseconds since 1970 UTC; None where the capture has none for the packet."""
    end: int | None
    """Capture time of the last packet, in the same way."""
    proto: str
    """`tcp`, `udp`, `icmp`, `icmp6`, `sctp`, ... or the protocol's number."""
    orig_addr: str
    """Address of the originator: who initiated."""
    orig_port: int
    """Its port; for ICMP the type."""
    resp_addr: str
    """Address of the responder."""
    resp_port: int
    """Its port; for ICMP the type of the answer, or the code."""
    direction: str
    """`egress`, `ingress`, `internal`, `transit` or `multicast`, from the initiator alone."""
    state: str
    """State after the last packet, in the words of nf_conntrack."""
    conn_state: str
    """Zeek's `conn_state`."""
    history: str
    """Zeek's `history`."""
    assured: bool
    """A Linux gateway would keep its entry when its table is full."""
    seen_reply: bool
    """A Linux gateway saw both directions."""
    evidence: str
    """Why we say who initiated. Observed: `syn`, `icmp_request`, `init`. From its packets: `syn_ack`, `icmp_reply`,
    `init_ack`, `refused`, `payload`, `after_silence`, `window`. From the rest of the capture: `related`,
    `seen_before`, `listener`, `many_peers`,
    `role`. From addresses and ports: `multicast`, `service_port`, `ephemeral_port`, `push`. Hardly
    anything: `first_packet`, `answered`, `unknown`; and `scan` and `backscatter`, which nobody initiated in earnest.
    From flow logs: `gateway`, `flow_state`, `logged`, `syn_order`."""
    confidence: float
    """Certainty of the originator, 0 to 1."""
    flipped: bool
    """The first packet seen was sent by the responder."""
    orig_pkts: int
    """Packets that the originator sent."""
    orig_ip_bytes: int
    """Their bytes from the IP header on."""
    orig_bytes: int
    """Their bytes above the transport header."""
    resp_pkts: int
    """Packets that the responder sent."""
    resp_ip_bytes: int
    """Their bytes from the IP header on."""
    resp_bytes: int
    """Their bytes above the transport header."""
    orig_zone: str | None
    """The configured zone of the originator."""
    resp_zone: str | None
    """The configured zone of the responder."""
    vlan: int | None
    """VLAN id of the first packet, the outer one of two."""
    tunnel: str | None
    """Carrier of the connection: `gre`, `vxlan`, ..."""
    related_to: int | None
    """Row of the connection that an ICMP error speaks of, or that carries the tunnel."""
    end_reason: str
    """`closed`, `reset`, `timeout`, `evicted`, `end_of_capture` or `reused`."""
    community_id: str
    """Community ID, version 1."""
    vlan_reply: int | None
    """VLAN id of the other direction's first packet, where it differs from `vlan`; 0: untagged."""


@lru_cache(maxsize=64)
def row_class(columns: tuple[str, ...]) -> type[Connection]:
    """Rows of some of the columns."""
    made = namedtuple("Connection", columns)  # type: ignore[misc]

    def reduce(row: Any) -> tuple[Any, ...]:
        return _narrow_row, (row._fields, tuple(row))

    made.__reduce__ = reduce  # type: ignore[method-assign,assignment]
    return cast("type[Connection]", made)


def _narrow_row(columns: tuple[str, ...], values: tuple[Any, ...]) -> Connection:
    """A row of a pickle."""
    return row_class(columns)._make(values)


#: Heads of the cells that `repr` shows of a row of all columns.
HEAD = ("start (UTC)", "direction", "proto", "originator", "responder", "state", "sent", "received", "evidence")


def shown_row(row: Connection) -> tuple[str, ...]:
    """The cells of a row under `HEAD`."""
    return (
        text.moment(row.start),
        row.direction,
        row.proto,
        text.endpoint(row.orig_addr, row.orig_port or 0, row.proto),
        text.endpoint(row.resp_addr, row.resp_port or 0, row.proto),
        row.state or "-",
        text.size(row.orig_ip_bytes or 0),
        text.size(row.resp_ip_bytes or 0),
        row.evidence,
    )


def shown_values(row: Connection) -> tuple[str, ...]:
    """The values of a row of some columns."""
    values: dict[str, Any] = row._asdict()
    times: dict[str, str] = {name: text.moment(values[name]) for name in ("start", "end") if name in values}
    return tuple(times.get(name, "-" if value is None else str(value)) for name, value in values.items())
