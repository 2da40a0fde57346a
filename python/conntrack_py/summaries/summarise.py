"""Summaries: initiators by direction, service, host and zone, computed with NumPy.

`summary` gives a tree of plain dataclasses; the command line shows it to people, `as_json` to programs.
Bytes are IP bytes throughout: they mean the same for every protocol.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conntrack_py import text
from conntrack_py.config import Config
from conntrack_py.policy.inventory import Inventory
from conntrack_py.policy.traffic.findings import Finding, findings
from conntrack_py.policy.traffic.keys import Bools, Ints, different
from conntrack_py.policy.traffic.pairs import icmp_errors, refusals
from conntrack_py.policy.traffic.roles import UNSPECIFIED
from conntrack_py.schema import moment_or_none
from conntrack_py.stats import Stats, describe_share
from conntrack_py.summaries.model import Capture, Evidence, Host, Hosts, Large, Service, Summary, Totals, ZonePair
from conntrack_py.table import EVIDENCE, Connection, ConnectionTable
from conntrack_py.track import HostName, TrackResult

#: Evidence that the initiator was seen opening, and that nothing says who it was. The rest is inferred.
_SEEN = frozenset(word for word, (_, certainty, _) in EVIDENCE.items() if certainty == "observed")
UNSURE = frozenset(word for word, (_, certainty, _) in EVIDENCE.items() if certainty == "unknown")
_FIRST = "first_packet"


#: Roles in the order in which they matter: who does both deserves the first look.
ROLES = ("both", "initiates", "answers", "silent")
_NO_ROLE = -1
Sort = Literal["connections", "bytes"]
#: Orders of directions, services, hosts and zones.
SORTS: tuple[Sort, ...] = get_args(Sort)


def summarise(
    table: ConnectionTable, stats: Stats, config: Config, *, top: int = 10, baseline: ConnectionTable | None = None
) -> Summary:
    """Summarise connections.

    Args:
        table: The connections.
        stats: The account of the same run.
        config: Its configuration: the local networks, and whether there are zones.
        top: The most services, hosts of each role, and large connections to list.
        baseline: Connections of an earlier time, for what is new in what servers initiate.
    """
    return summary(TrackResult(table, stats, None, config), top=top, baseline=baseline)


def summary(
    result: TrackResult,
    *,
    top: int = 10,
    baseline: TrackResult | ConnectionTable | None = None,
    where: str | Bools = "",
    sort: Sort = "connections",
) -> Summary:
    """Summarise the initiators of a result by direction, service, host and zone.

    Args:
        result: Result of `track`, whose configuration names the local networks and the zones.
        top: The most services, hosts of each role, and large connections to list.
        baseline: Connections of an earlier time, for what is new in what servers initiate.
        where: A condition, or a mask of rows: the connections that are counted. The roles of hosts, which make
            findings, are those of all connections.
        sort: The order of directions, services, hosts and zones: by `connections` or by `bytes`.

    Raises:
        ValueError: `sort` is another word.
        WhereError: `where` is no condition.
    """
    if sort not in SORTS:
        raise ValueError(f"sort: found {sort!r}, expected {' or '.join(SORTS)}")
    whole, stats, config = result.connections, result.stats, result.config
    before = baseline.connections if isinstance(baseline, TrackResult) else baseline
    some = isinstance(where, np.ndarray) or bool(where)
    table = whole[where] if isinstance(where, np.ndarray) else whole.where(where) if where else whole
    data = _Data(table, sort)
    groups = data.sums(data.direction, len(data.directions))
    services, all_services = _services(data, top)
    local, remote = _hosts(data, config, top)
    found = findings(whole, before)
    return Summary(
        capture=_capture(stats),
        totals=data.sums(np.zeros(len(data.direction), np.int64), 1)[0],
        icmp_errors=len(table) - len(data.direction),
        directions={data.directions[code]: groups[code] for code in data.by_size(groups) if groups[code].connections},
        services=services,
        all_services=all_services,
        local_hosts=local,
        remote_hosts=remote,
        zones=_zones(data) if config.zones else [],
        evidence=_evidence(data),
        findings=_among(found, data) if some else found,
        largest=_largest(data, top),
        where=where if isinstance(where, str) else "",
    )


def _capture(stats: Stats) -> Capture:
    return Capture(
        packets=stats.packets,
        bytes=stats.bytes,
        first=stats.first_timestamp,
        last=stats.last_timestamp,
        snapped=stats.snapped,
        skipped=dict(stats.skipped),
        skipped_words=[stats.describe_skipped(reason) for reason in stats.skipped],
        skipped_files=list(stats.skipped_files),
        loss=describe_share(stats.skipped, stats.skipped_bytes, stats.file_bytes),
        not_ip=dict(stats.not_ip),
        quality=stats.quality,
        flaws=stats.quality.describe(),
    )


def named(facts: Summary, shown: Mapping[str, Sequence[HostName]], inventory: Inventory) -> Summary:
    """The summary with the names of its addresses: those of an inventory, then those that a capture showed."""
    hosts = [host for of in (facts.local_hosts, facts.remote_hosts) for some in of.top.values() for host in some]
    addresses = dict.fromkeys(host.address for host in hosts)
    for finding in facts.findings:
        addresses |= {finding.server: None, finding.destination: None}
    for large in facts.largest:
        addresses |= {large.originator: None, large.responder: None}
    names: dict[str, dict[str, list[str]]] = {}
    for address in addresses:
        entry = inventory.hosts.get(address)
        known = {entry.name: ["inventory"]} if entry is not None and entry.name else {}
        for one in shown.get(address, ()):
            known.setdefault(one.name, []).extend(one.shown_by)
        if known:
            names[address] = known
    return dataclasses.replace(facts, names=names)


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary as what `json` takes: its dataclasses as objects, times as ISO 8601 has them."""
    found = dataclasses.asdict(summary)
    for one in (found["capture"], *found["findings"]):
        one |= {name: moment_or_none(one[name]) for name in ("first", "last")}
    for one in found["largest"]:
        one |= {name: moment_or_none(one[name]) for name in ("start", "end")}
    return found


class _Data:
    """The columns that the summary reads, without ICMP errors; addresses and services numbered."""

    def __init__(self, table: ConnectionTable, sort: Sort) -> None:
        self._table = table
        self.by_bytes = sort == "bytes"
        self._counted = ~icmp_errors(table)
        self.direction, self.directions = self.codes("direction")
        self.proto, self.protos = self.codes("proto")
        evidence, words = self.codes("evidence")
        self.unsure: Bools = np.isin(evidence, [words.index(word) for word in UNSURE])
        self.refused: Bools = refusals(table)[self._counted]
        self.orig_packets, self.orig_bytes = self._column("orig_pkts"), self._column("orig_ip_bytes")
        self.resp_packets, self.resp_bytes = self._column("resp_pkts"), self._column("resp_ip_bytes")
        self.orig, self.resp, self.addresses = self._hosts()
        self.service, self.services = self._number_services()
        self.to_host: Bools = np.not_equal(self.direction, self.directions.index("multicast"))
        #: Answered with more than a refusal.
        self.replied: Bools = (self.resp_packets > 0) & ~self.refused
        self.bytes: Ints = (self.orig_bytes + self.resp_bytes).astype(np.int64)

    def by_size(self, groups: Sequence[Totals]) -> list[int]:
        """The places of groups, those with the most connections or bytes first."""
        sizes = [one.orig_bytes + one.resp_bytes if self.by_bytes else one.connections for one in groups]
        return sorted(range(len(groups)), key=lambda place: -sizes[place])

    def rows(self, places: Ints) -> list[Connection]:
        """Rows by their places among those that are counted."""
        rows = np.flatnonzero(self._counted)[places]
        return [self._table[row] for row in rows]

    def codes(self, name: str) -> tuple[NDArray[Any], Sequence[str]]:
        """A column of words as codes, and the words."""
        codes, words = self._table.codes(name)
        return codes[self._counted], words

    def _column(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = self._table[name][self._counted]
        return column

    def _hosts(self) -> tuple[Ints, Ints, list[str]]:
        """Numbers of originators and responders of the rows that are counted, and their addresses."""
        return (self._table if self._counted.all() else self._table[self._counted]).hosts()

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
            total(self.to_host & ~self.replied),
            strict=True,
        )
        names = [field.name for field in dataclasses.fields(Totals)]
        return [Totals(**dict(zip(names, values, strict=True))) for values in columns]


def _services(data: _Data, top: int) -> tuple[list[Service], int]:
    """The services with the most connections, by direction."""
    directions = len(data.directions)
    keys, groups = np.unique(data.service * directions + data.direction, return_inverse=True)
    totals = data.sums(groups, len(keys))
    originators, responders = (different(groups, hosts, len(keys)) for hosts in (data.orig, data.resp))
    services = [
        Service(
            direction=data.directions[keys[place] % directions],
            service=data.services[keys[place] // directions],
            totals=totals[place],
            originators=int(originators[place]),
            responders=int(responders[place]),
        )
        for place in data.by_size(totals)[:top]
    ]
    return services, len(keys)


def _hosts(data: _Data, config: Config, top: int) -> tuple[Hosts, Hosts]:
    """Local and remote hosts by role. Groups that are sent to (multicast, broadcast) and "no address" are no hosts."""
    number = len(data.addresses)
    code = {word: place for place, word in enumerate(data.directions)}
    to_host, replied = data.to_host, data.replied

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

    def carried(hosts: Ints, values: NDArray[Any]) -> Ints:
        return np.bincount(hosts, weights=values, minlength=number).astype(np.int64)

    own_sent, own_received = carried(data.orig, data.orig_bytes), carried(data.orig, data.resp_bytes)
    sent = own_sent + carried(data.resp, data.resp_bytes)
    received = own_received + carried(data.resp, data.orig_bytes)
    local = _local(data, code, config)
    # The order of each role, by what is printed of it.
    printed = {
        "both": (egress, initiated, answered),
        "initiates": (initiated, egress),
        "answers": (answered, unanswered),
        "silent": (unanswered,),
    }
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
            initiated_sent=int(own_sent[place]),
            initiated_received=int(own_received[place]),
            offers=offers.of(place),
            uses=uses.of(place),
        )

    def hosts(which: Bools) -> Hosts:
        counts, tops = {}, {}
        for role, name in enumerate(ROLES):
            found = np.flatnonzero(which & (roles == role))
            counts[name] = len(found)
            columns = (sent + received, *printed[name]) if data.by_bytes else printed[name]
            order = np.lexsort([-column[found] for column in reversed(columns)])
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
    return [pairs[place] for place in data.by_size([pair.totals for pair in pairs])]


def _largest(data: _Data, top: int) -> list[Large]:
    """The connections with the most bytes; of equal ones the earliest."""
    places = np.argsort(-data.bytes, kind="stable")[:top]
    services = data.service[places].tolist()
    return [
        Large(
            originator=row.orig_addr,
            responder=row.resp_addr,
            direction=row.direction,
            service=data.services[service],
            start=row.start,
            end=row.end,
            sent=row.orig_ip_bytes,
            received=row.resp_ip_bytes,
            unsure=row.evidence in UNSURE,
        )
        for row, service in zip(data.rows(places), services, strict=True)
    ]


def _among(found: list[Finding], data: _Data) -> list[Finding]:
    """The findings of which connections are counted. In doubt a row names the ends the other way round."""
    seen = {(data.addresses[orig], data.addresses[resp]) for orig, resp in zip(data.orig, data.resp, strict=True)}
    asked = {
        (data.addresses[orig], data.addresses[resp], data.services[service])
        for orig, resp, service in zip(data.orig, data.resp, data.service, strict=True)
    }
    return [
        one
        for one in found
        if (one.server, one.destination, one.service) in asked
        or ("unsure" in one.marks and (one.destination, one.server) in seen)
    ]


def _evidence(data: _Data) -> Evidence:
    codes, words = data.codes("evidence")
    counts = np.bincount(codes, minlength=len(words)).tolist()
    by_word = {word: count for word, count in zip(words, counts, strict=True) if count}
    seen = sum(count for word, count in by_word.items() if word in _SEEN)
    unsure = int(data.unsure.sum())
    first = by_word.get(_FIRST, 0)
    deduced = len(codes) - seen - first - unsure
    return Evidence(by_word=by_word, seen=seen, deduced=deduced, first_packet=first, unsure=unsure)
