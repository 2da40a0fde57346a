"""The summary as plain dataclasses. Bytes are IP bytes throughout: they mean the same for every protocol."""

from __future__ import annotations

from dataclasses import dataclass, field

from conntrack_py.policy.traffic.findings import Finding
from conntrack_py.stats import Quality, SkippedFile


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over some connections.

    Attributes:
        connections: How many.
        unsure: How many of them have an initiator that is only a guess: nothing in the capture says who it was, or they
            look like a scan or its echo.
        orig_packets: Packets sent by originators.
        orig_bytes: IP bytes of them.
        resp_packets: Packets sent by responders.
        resp_bytes: IP bytes of them.
        unanswered: How many of them nobody answered, or were refused; none of those to groups.
    """

    connections: int
    unsure: int
    orig_packets: int
    orig_bytes: int
    resp_packets: int
    resp_bytes: int
    unanswered: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """Connections of one direction to one service.

    Attributes:
        direction: A word of the `direction` column.
        service: `443/tcp`, `icmp echo`, ...
        totals: Their sums.
        originators: Different addresses that initiated.
        responders: Different addresses that were initiated to.
    """

    direction: str
    service: str
    totals: Totals
    originators: int
    responders: int


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host and its role.

    Attributes:
        address: The address.
        local: It is in a local network.
        role: `both` (it answers and it initiates), `initiates`, `answers`, or `silent` (others initiated to it, it
            never sent a packet back).
        unsure: The role would be another one without connections whose initiator is only a guess.
        initiated: Connections it initiated.
        egress: Those of them that leave the local networks.
        answered: Connections others initiated and it answered.
        unanswered: Connections others initiated and it did not answer.
        sent: IP bytes it sent.
        received: IP bytes sent to it.
        initiated_sent: Of `sent`, those in connections it initiated; the rest is of connections others initiated.
        initiated_received: Of `received`, those in connections it initiated.
        offers: Services it answered on, the most used first, with their connections.
        uses: Services it initiated to, the most used first, with their connections.
    """

    address: str
    local: bool
    role: str
    unsure: bool
    initiated: int
    egress: int
    answered: int
    unanswered: int
    sent: int
    received: int
    initiated_sent: int
    initiated_received: int
    offers: dict[str, int]
    uses: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The hosts of one kind (local or not) by role: how many there are, and the busiest of them."""

    counts: dict[str, int]
    top: dict[str, list[Host]]


@dataclass(frozen=True, kw_only=True)
class Large:
    """One of the connections with the most IP bytes, both ways together.

    Attributes:
        originator: Address of the originator.
        responder: Address of the responder.
        direction: A word of the `direction` column.
        service: `443/tcp`, `icmp echo`, ...
        start: Time of the first packet, nanoseconds since 1970 UTC; None where the capture has none.
        end: Time of the last packet.
        sent: IP bytes of the originator.
        received: IP bytes of the responder.
        unsure: The originator is only a guess.
    """

    originator: str
    responder: str
    direction: str
    service: str
    start: int | None
    end: int | None
    sent: int
    received: int
    unsure: bool


@dataclass(frozen=True, kw_only=True)
class ZonePair:
    """Connections from one zone to another; an empty name is "in no zone"."""

    orig_zone: str
    resp_zone: str
    totals: Totals


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Connections by evidence of the initiator, and by its strength.

    Attributes:
        by_word: Word of the `evidence` column → connections.
        seen: Connections whose opening packet was seen.
        deduced: Connections whose initiator is inferred: from an answer (a SYN+ACK, an echo reply), a payload, a port,
            or what else the capture holds of the two ends.
        first_packet: Connections of protocols without an opening packet: the first sender seen.
        unsure: Connections about whose initiator nothing is known, scans and backscatter.
    """

    by_word: dict[str, int]
    seen: int
    deduced: int
    first_packet: int
    unsure: int


@dataclass(frozen=True, kw_only=True)
class Capture:
    """The facts of the capture; times in nanoseconds since 1970 UTC, `skipped` and `flaws` in plain words too."""

    packets: int
    bytes: int
    first: int | None
    last: int | None
    snapped: int
    skipped: dict[str, int]
    skipped_words: list[str]
    skipped_files: list[SkippedFile]
    loss: str | None
    not_ip: dict[str, int]
    quality: Quality
    flaws: list[str]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Summary of a table of connections.

    Attributes:
        capture: What was read.
        totals: Sums over all connections that somebody initiated: all but the ICMP errors.
        icmp_errors: ICMP errors in rows of their own. They initiate nothing, and are counted nowhere else here.
        directions: Sums by direction, the most connections first.
        services: The services with the most connections.
        all_services: How many services there are in all.
        local_hosts: Hosts in the local networks, by role.
        remote_hosts: The others, by role.
        zones: Sums from zone to zone; empty if no zones are configured.
        evidence: How sure the originators are.
        findings: What local servers initiate, the most telling first.
        largest: The connections with the most bytes.
        where: The condition of the connections that are counted; empty: all are.
        names: Names of the addresses above by what told them, `inventory`, `sni`, `http` or `dns`; empty unless given.
    """

    capture: Capture
    totals: Totals
    icmp_errors: int
    directions: dict[str, Totals]
    services: list[Service]
    all_services: int
    local_hosts: Hosts
    remote_hosts: Hosts
    zones: list[ZonePair]
    evidence: Evidence
    findings: list[Finding]
    largest: list[Large]
    where: str = ""
    names: dict[str, dict[str, list[str]]] = field(default_factory=dict)
