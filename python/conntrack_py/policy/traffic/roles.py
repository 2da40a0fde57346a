"""Roles of hosts (answer, initiate, both), and groups of hosts that behave alike.

A host that answers on a service is a server, however much it initiates: counts are what a beacon can raise. An answer
is more than a reset; `services.makes_server` says which ports count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from conntrack_py import _native
from conntrack_py.policy.model import Group
from conntrack_py.policy.traffic.keys import Bools, Ints, distinct
from conntrack_py.policy.traffic.pairs import Pair, Traffic
from conntrack_py.policy.traffic.services import Service, group_name, kind, makes_server

#: Source addresses of hosts without an address (DHCP, duplicate address detection); they count as no host.
UNSPECIFIED = ("0.0.0.0", "::")
#: Groups of servers, beyond which what sets them apart is only what kind of service they offer.
_MOST = 50
#: The group of hosts of which nothing is certain.
UNCERTAIN = "uncertain"


@dataclass(kw_only=True)
class Host:
    """A local host and what it did, as far as it can be believed.

    Attributes:
        address: Its address.
        initiated: Connections it initiated.
        answered: Connections that others initiated and it answered.
        offers: Services that it answered on, with whether anybody outside the local networks used them. Ports at which
            every host answers are none.
        uses: Services that it initiated to.
        uncertain: It sent something, and of no connection of it the initiator is certain.
    """

    address: str
    initiated: int = 0
    answered: int = 0
    offers: dict[Service, bool] = field(default_factory=dict)
    uses: set[Service] = field(default_factory=set)
    uncertain: bool = False

    @property
    def role(self) -> str:
        """`answers`, `initiates`, `both`, or `silent` where nothing of it can be believed."""
        if self.answered:
            return "both" if self.initiated else "answers"
        return "initiates" if self.initiated else "silent"

    @property
    def is_server(self) -> bool:
        """True if the host answers on a service. Pings, and ports at which every host answers, make no server."""
        return bool(self.offers)


def local_hosts(traffic: Traffic) -> dict[str, Host]:
    """The local hosts that sent anything, by address in the order in which they turn up, and what they did."""
    initiators = traffic.orig[traffic.orig_local & ~traffic.orig_group]
    answerers = traffic.resp[traffic.resp_local & ~traffic.resp_group & traffic.answered]
    numbers = distinct(np.concatenate((initiators, answerers)))
    hosts = {
        number: Host(address=traffic.addresses[number])
        for number in numbers.tolist()
        if traffic.addresses[number] not in UNSPECIFIED
    }
    believed = traffic.kept | traffic.because("probe", "administration")
    initiated = np.bincount(traffic.orig[believed], minlength=len(traffic.addresses))
    answered = np.bincount(traffic.resp[believed], minlength=len(traffic.addresses))
    certain = _certain(traffic)
    for number, host in hosts.items():
        host.initiated, host.answered = int(initiated[number]), int(answered[number])
        host.uncertain = not certain[number]
    for number, code in _different(traffic.orig, traffic.services, believed):
        if number in hosts:
            hosts[number].uses.add(traffic.service_of(code))
    asks = _asks_from(traffic, believed)
    outside = set(_different(traffic.resp, traffic.services, believed & ~traffic.orig_local))
    for number, code in _different(traffic.resp, traffic.services, believed):
        if number in hosts and makes_server(*traffic.service_of(code), (number, code) in asks):
            hosts[number].offers[traffic.service_of(code)] = (number, code) in outside
    return {host.address: host for host in hosts.values()}


def _different(hosts: Ints, services: Ints, which: Bools) -> list[tuple[int, int]]:
    """The different pairs of host and service of some connections, in order."""
    keys = distinct(hosts[which] << 32 | services[which])
    return list(zip((keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist(), strict=True))


def _asks_from(traffic: Traffic, which: Bools) -> set[tuple[int, int]]:
    """Hosts and the protocols and ports from which they initiate UDP to other hosts' ports."""
    rows = which & traffic.is_proto(("udp",)) & traffic.orig_local
    ports = traffic.proto.astype(np.int64) << 16 | traffic.table["orig_port"].astype(np.int64)
    return set(_different(traffic.orig, ports, rows))


def _certain(traffic: Traffic) -> Bools:
    """Mask of the addresses of which something is certain, or that nothing is doubtful of."""
    number = len(traffic.addresses)
    doubtful = traffic.because("nobody", "low_confidence")
    passing = traffic.because("icmp_error", "untracked", "opens_nothing")
    sure = ~doubtful & ~passing
    spoke = traffic.answered | traffic.because("refused")
    found = np.bincount(traffic.orig[sure], minlength=number)
    found += np.bincount(traffic.resp[sure & spoke], minlength=number)
    doubts = np.bincount(traffic.orig[doubtful], minlength=number)
    doubts += np.bincount(traffic.resp[doubtful & spoke], minlength=number)
    certain: Bools = (found > 0) | (doubts == 0)
    return certain


class _Names:
    """Groups, each under a free name."""

    def __init__(self, taken: Callable[[str], bool]) -> None:
        self.groups: dict[str, Group] = {}
        self._taken = taken
        self._next: dict[str, int] = {}

    def add(self, name: str, members: Iterable[Host]) -> None:
        """Add a group of hosts under this name, or under it and the next number."""
        free = name
        while free in self.groups or self._taken(free):
            number = self._next.get(name, 2)
            free, self._next[name] = f"{name}-{number}", number + 1
        self.groups[free] = Group(members=tuple(_native.aggregate([host.address for host in members])))


def alike(
    hosts: Iterable[Host], pairs: Iterable[Pair], taken: Callable[[str], bool] = lambda name: False
) -> dict[str, Group]:
    """Groups of hosts of which rules would be the same: the same peers, protocols and services in each direction.

    Rules of such a group allow no pair that was not seen.

    Args:
        hosts: The hosts.
        pairs: What rules are made of.
        taken: Names that are not free.
    """
    made_of: dict[str, set[tuple[bool, str, str, int]]] = {host.address: set() for host in hosts}
    for pair in pairs:
        if (own := made_of.get(pair.orig)) is not None:
            own.add((True, pair.resp, pair.proto, pair.service))
        if (own := made_of.get(pair.resp)) is not None:
            own.add((False, pair.orig, pair.proto, pair.service))
    kinds: dict[str, dict[frozenset[tuple[bool, str, str, int]], list[Host]]] = {}
    for host in hosts:
        same = kinds.setdefault(_base(host), {})
        same.setdefault(frozenset(made_of[host.address]), []).append(host)
    # Servers come first, then who only initiates, then the rest.
    last = ("clients", "hosts", UNCERTAIN)
    names = _Names(taken)
    for base in sorted(kinds, key=lambda base: last.index(base) + 1 if base in last else 0):
        for members in kinds[base].values():
            names.add(base, members)
    return names.groups


def _base(host: Host) -> str:
    if host.uncertain:
        return UNCERTAIN
    if host.is_server:
        return group_name(host.offers)
    return "clients" if host.initiated else "hosts"


def propose(hosts: Iterable[Host], taken: Callable[[str], bool] = lambda name: False) -> dict[str, Group]:
    """Groups of hosts in like roles, for rules that may be wider than seen.

    Servers that offer the same services to the same kind of peers (inside only, or outside too) are in one; those that
    only initiate in another, and the rest in one more. Where that gives too many groups, as of servers that answer on
    ports of the moment, the kind of service (`web`, `dns`, ...) is what counts.

    Args:
        hosts: The hosts.
        taken: Names that are not free.
    """
    servers: dict[frozenset[tuple[Service, bool]], list[Host]] = {}
    others: dict[str, list[Host]] = {"clients": [], "hosts": [], UNCERTAIN: []}
    for host in hosts:
        if host.is_server and not host.uncertain:
            servers.setdefault(frozenset(host.offers.items()), []).append(host)
        else:
            others[_base(host)].append(host)
    names = _Names(taken)
    if len(servers) <= _MOST:
        for offers, members in servers.items():
            names.add(group_name(service for service, _ in offers), members)
    else:
        kinds: dict[str, list[Host]] = {}
        for host in chain.from_iterable(servers.values()):
            kinds.setdefault(kind(host.offers) or "servers", []).append(host)
        for name, members in kinds.items():
            names.add(name, members)
    for name, members in others.items():
        if members:
            names.add(name, members)
    return names.groups


def of_services(hosts: Mapping[str, Host]) -> dict[str, dict[Service, bool]]:
    """Servers and what they offer."""
    return {address: host.offers for address, host in hosts.items() if host.is_server}


__all__ = ("UNCERTAIN", "UNSPECIFIED", "Host", "alike", "local_hosts", "of_services", "propose")
