"""Summaries: initiators by direction, service, host and zone, computed with NumPy.

`summarise` gives a tree of plain dataclasses; `conntrack_py.render` shows it to people, `as_json` to programs.
Bytes are IP bytes throughout: they mean the same for every protocol.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.config import Config
from conntrack_py.policy.traffic.findings import Finding, findings
from conntrack_py.policy.traffic.numbering import Numbering
from conntrack_py.policy.traffic.pairs import refusals
from conntrack_py.policy.traffic.roles import UNSPECIFIED
from conntrack_py.stats import Quality, Stats
from conntrack_py.table import EVIDENCE, ConnectionTable

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Evidence that the initiator was seen opening, and that nothing says who it was. The rest is inferred.
_SEEN = frozenset(word for word, (_, certainty, _) in EVIDENCE.items() if certainty == "observed")
UNSURE = frozenset(word for word, (_, certainty, _) in EVIDENCE.items() if certainty == "unknown")
_FIRST = "first_packet"


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
    """

    connections: int
    unsure: int
    orig_packets: int
    orig_bytes: int
    resp_packets: int
    resp_bytes: int


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
    offers: dict[str, int]
    uses: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The hosts of one kind (local or not) by role: how many there are, and the busiest of them."""

    counts: dict[str, int]
    top: dict[str, list[Host]]


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


#: Roles in the order in which they matter: who does both deserves the first look.
ROLES = ("both", "initiates", "answers", "silent")
_NO_ROLE = -1


def summarise(
    table: ConnectionTable, stats: Stats, config: Config, *, top: int = 10, baseline: ConnectionTable | None = None
) -> Summary:
    """Summarise connections.

    Args:
        table: The connections.
        stats: The account of the same run.
        config: Its configuration: the local networks, and whether there are zones.
        top: The most services, and hosts of each role, to list.
        baseline: Connections of an earlier time, for what is new in what servers initiate.
    """
    data = _Data(table)
    groups = data.sums(data.direction, len(data.directions))
    order = np.argsort([-sums.connections for sums in groups], kind="stable").tolist()
    services, all_services = _services(data, top)
    local, remote = _hosts(data, config, top)
    return Summary(
        capture=Capture(
            packets=stats.packets,
            bytes=stats.bytes,
            first=stats.first_timestamp,
            last=stats.last_timestamp,
            snapped=stats.snapped,
            skipped=dict(stats.skipped),
            skipped_words=[stats.describe_skipped(reason) for reason in stats.skipped],
            quality=stats.quality,
            flaws=stats.quality.describe(),
        ),
        totals=data.sums(np.zeros(len(data.direction), np.int64), 1)[0],
        icmp_errors=len(table) - len(data.direction),
        directions={data.directions[code]: groups[code] for code in order if groups[code].connections},
        services=services,
        all_services=all_services,
        local_hosts=local,
        remote_hosts=remote,
        zones=_zones(data) if config.zones else [],
        evidence=_evidence(data),
        findings=findings(table, baseline),
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as what `json` takes: its dataclasses as objects."""
    return dataclasses.asdict(summary)


class _Data:
    """The columns that the summary reads, without ICMP errors; addresses and services numbered."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._counted = ~_icmp_errors(table)
        self.direction, self.directions = self.codes("direction")
        self.proto, self.protos = self.codes("proto")
        evidence, words = self.codes("evidence")
        self.unsure: Bools = np.isin(evidence, [words.index(word) for word in UNSURE])
        self.refused: Bools = refusals(table)[self._counted]
        self.orig_packets, self.orig_bytes = self._column("orig_pkts"), self._column("orig_ip_bytes")
        self.resp_packets, self.resp_bytes = self._column("resp_pkts"), self._column("resp_ip_bytes")
        addresses = Numbering()
        self.orig = addresses.numbers(self._column("orig_addr"))
        self.resp = addresses.numbers(self._column("resp_addr"))
        self.addresses = list(addresses.known)
        self.service, self.services = self._number_services()

    def codes(self, name: str) -> tuple[NDArray[Any], Sequence[str]]:
        """A column of words as codes, and the words."""
        codes, words = self._table.codes(name)
        return codes[self._counted], words

    def _column(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self._table[name][self._counted]
        return column

    def _number_services(self) -> tuple[Ints, list[str]]:
        # The "port" of an ICMP service is the type of the message that asks, which is the originator's.
        icmp = np.isin(self.proto, [code for code, word in enumerate(self.protos) if text.is_icmp(word)])
        ports = np.isin(self.proto, [code for code, word in enumerate(self.protos) if text.has_ports(word)])
        port = np.where(icmp, self._column("orig_port"), np.where(ports, self._column("resp_port"), 0)).astype(np.int64)
        keys, codes = np.unique(self.proto.astype(np.int64) << 16 | port, return_inverse=True)
        names = [text.service(self.protos[key >> 16], key & 0xFFFF) for key in keys.tolist()]
        return codes.astype(np.int64), names

    def sums(self, groups: NDArray[Any], number: int) -> list[Totals]:
        """The totals of each group."""

        def total(values: NDArray[Any]) -> list[int]:
            # Doubles are exact up to 2^53; sums of bytes beyond 9 PB may be off by one.
            sums: list[int] = np.bincount(groups, weights=values, minlength=number).astype(np.int64).tolist()
            return sums

        columns = zip(
            np.bincount(groups, minlength=number).tolist(),
            total(self.unsure),
            total(self.orig_packets),
            total(self.orig_bytes),
            total(self.resp_packets),
            total(self.resp_bytes),
            strict=True,
        )
        names = [field.name for field in dataclasses.fields(Totals)]
        return [Totals(**dict(zip(names, values, strict=True))) for values in columns]


def _icmp_errors(table: ConnectionTable) -> Bools:
    """Mask of the rows that are ICMP errors; the originator's "port" is the type."""
    proto, protos = table.codes("proto")
    errors = np.zeros(len(table), bool)
    for code, word in enumerate(protos):
        if text.is_icmp(word):
            kinds = [kind for kind in range(256) if text.is_icmp_error(word, kind)]
            errors |= (proto == code) & np.isin(table["orig_port"], kinds)
    return errors


def _services(data: _Data, top: int) -> tuple[list[Service], int]:
    """The services with the most connections, by direction."""
    directions = len(data.directions)
    keys, groups, counts = np.unique(
        data.service * directions + data.direction, return_inverse=True, return_counts=True
    )
    totals = data.sums(groups, len(keys))

    def different(hosts: Ints) -> Ints:
        pairs = np.unique(groups * len(data.addresses) + hosts)
        return np.bincount(pairs // max(len(data.addresses), 1), minlength=len(keys))

    originators, responders = different(data.orig), different(data.resp)
    busiest = np.argsort(-counts, kind="stable")[:top].tolist()
    services = [
        Service(
            direction=data.directions[keys[place] % directions],
            service=data.services[keys[place] // directions],
            totals=totals[place],
            originators=int(originators[place]),
            responders=int(responders[place]),
        )
        for place in busiest
    ]
    return services, len(keys)


def _hosts(data: _Data, config: Config, top: int) -> tuple[Hosts, Hosts]:
    """Local and remote hosts by role. Groups that are sent to (multicast, broadcast) and "no address" are no hosts."""
    number = len(data.addresses)
    code = {word: place for place, word in enumerate(data.directions)}
    to_host = data.direction != code["multicast"]
    replied = (data.resp_packets > 0) & ~data.refused

    def count(hosts: Ints, which: Bools) -> Ints:
        return np.bincount(hosts[which], minlength=number)

    initiated = np.bincount(data.orig, minlength=number)
    answered, unanswered = count(data.resp, to_host & replied), count(data.resp, to_host & ~replied)
    roles = _roles(initiated, answered, unanswered)
    sure = ~data.unsure
    sure_roles = _roles(
        count(data.orig, sure), count(data.resp, to_host & replied & sure), count(data.resp, to_host & ~replied & sure)
    )
    roles[[place for place, address in enumerate(data.addresses) if address in UNSPECIFIED]] = _NO_ROLE
    egress = count(data.orig, data.direction == code["egress"])

    def carried(sent: NDArray[Any], received: NDArray[Any]) -> Ints:
        sums = np.bincount(data.orig, weights=sent, minlength=number)
        sums += np.bincount(data.resp, weights=received, minlength=number)
        return sums.astype(np.int64)

    sent = carried(data.orig_bytes, data.resp_bytes)
    received = carried(data.resp_bytes, data.orig_bytes)
    local = _local(data, code, config)
    busy = initiated + answered + unanswered
    # Packets that nothing but an RST answers offer nothing, whatever their ports.
    offers = _Pairs(data, data.resp, to_host & replied & ~data.unsure)
    uses = _Pairs(data, data.orig, np.ones_like(to_host))

    def host(place: int) -> Host:
        return Host(
            address=data.addresses[place],
            local=bool(local[place]),
            role=ROLES[roles[place]],
            unsure=bool(roles[place] != sure_roles[place]),
            initiated=int(initiated[place]),
            egress=int(egress[place]),
            answered=int(answered[place]),
            unanswered=int(unanswered[place]),
            sent=int(sent[place]),
            received=int(received[place]),
            offers=offers.of(place),
            uses=uses.of(place),
        )

    def hosts(which: Bools) -> Hosts:
        counts, tops = {}, {}
        for role, name in enumerate(ROLES):
            found = np.flatnonzero(which & (roles == role))
            counts[name] = len(found)
            # Of servers that also initiate, those that initiate outwards first; else the busiest.
            first = egress if name == "both" else busy
            order = np.lexsort((-busy[found], -first[found]))
            tops[name] = [host(place) for place in found[order[:top]].tolist()]
        return Hosts(counts=counts, top=tops)

    return hosts(local), hosts(~local)


def _roles(initiated: Ints, answered: Ints, unanswered: Ints) -> Ints:
    """Index in `ROLES` of each host, or `_NO_ROLE` where it is none (a group address)."""
    both = (initiated > 0) & (answered > 0)
    return np.select([both, initiated > 0, answered > 0, unanswered > 0], [0, 1, 2, 3], default=_NO_ROLE)


def _local(data: _Data, code: dict[str, int], config: Config) -> Bools:
    """Mask of local addresses, from directions; senders to groups only are looked up in `config.local`."""
    number = len(data.addresses)
    local, known = np.zeros(number, bool), np.zeros(number, bool)
    for hosts, inside in ((data.orig, ("egress", "internal")), (data.resp, ("ingress", "internal"))):
        to_host = data.direction != code["multicast"]
        known[hosts[to_host]] = True
        local[hosts[np.isin(data.direction, [code[word] for word in inside])]] = True
    networks = [ipaddress.ip_network(network, strict=False) for network in config.local]
    senders = np.zeros(number, bool)
    senders[data.orig] = True
    for place in np.flatnonzero(senders & ~known).tolist():
        local[place] = _inside(data.addresses[place], networks)
    return local


def _inside(address: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


class _Pairs:
    """Counts of connections by host and service, looked up for a few hosts."""

    def __init__(self, data: _Data, hosts: Ints, which: Bools) -> None:
        self._names = data.services
        number = max(len(data.services), 1)
        keys, self._counts = np.unique(hosts[which] * number + data.service[which], return_counts=True)
        self._hosts, self._services = keys // number, keys % number

    def of(self, host: int) -> dict[str, int]:
        """Service → connections, the most first."""
        start, stop = np.searchsorted(self._hosts, [host, host + 1]).tolist()
        counts = self._counts[start:stop]
        order = np.argsort(-counts, kind="stable").tolist()
        services = self._services[start:stop].tolist()
        return {self._names[services[place]]: int(counts[place]) for place in order}


def _zones(data: _Data) -> list[ZonePair]:
    orig, words = data.codes("orig_zone")
    resp, _ = data.codes("resp_zone")
    # -1, in no zone, becomes the number behind the last zone.
    names = [*words, ""]
    number = len(names)
    totals = data.sums(orig.astype(np.int64) % number * number + resp % number, number * number)
    pairs = [
        ZonePair(orig_zone=names[place // number], resp_zone=names[place % number], totals=sums)
        for place, sums in enumerate(totals)
        if sums.connections
    ]
    return sorted(pairs, key=lambda pair: -pair.totals.connections)


def _evidence(data: _Data) -> Evidence:
    codes, words = data.codes("evidence")
    counts = np.bincount(codes, minlength=len(words)).tolist()
    by_word = {word: count for word, count in zip(words, counts, strict=True) if count}
    seen = sum(count for word, count in by_word.items() if word in _SEEN)
    unsure = int(data.unsure.sum())
    first = by_word.get(_FIRST, 0)
    deduced = len(codes) - seen - first - unsure
    return Evidence(by_word=by_word, seen=seen, deduced=deduced, first_packet=first, unsure=unsure)
