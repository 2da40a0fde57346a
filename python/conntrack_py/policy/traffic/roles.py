"""Roles of hosts (answer, initiate, both), and groups of hosts that behave alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from conntrack_py import _native
from conntrack_py.policy.model import WITH_TYPES, Group
from conntrack_py.policy.traffic.pairs import Ints, Pair, Traffic
from conntrack_py.policy.traffic.services import Service, group_name, kind

#: Source addresses of hosts without an address (DHCP, duplicate address detection); they count as no host.
UNSPECIFIED = ("0.0.0.0", "::")
#: Groups of servers, beyond which what sets them apart is only what kind of service they offer.
_MOST = 50


@dataclass(kw_only=True)
class Host:
    """A local host and what it did, as far as it can be believed.

    Attributes:
        address: Its address.
        initiated: Connections it initiated.
        answered: Connections that others initiated and it answered.
        destinations: Those it initiated to.
        clients: Those that initiated to it.
        offers: Services that it answered on, with whether anybody outside the local networks used them.
        uses: Services that it initiated to.
    """

    address: str
    initiated: int = 0
    answered: int = 0
    destinations: set[str] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    offers: dict[Service, bool] = field(default_factory=dict)
    uses: set[Service] = field(default_factory=set)

    @property
    def role(self) -> str:
        """`answers`, `initiates`, `both`, or `silent` where nothing of it can be believed."""
        if self.answered:
            return "both" if self.initiated else "answers"
        return "initiates" if self.initiated else "silent"

    @property
    def is_server(self) -> bool:
        """True if the host mostly answers: more connections than it initiates, or more peers. Pings make no server.

        Others are counted as well as connections, since a server that calls one place again and again must not become a
        client by that.
        """
        return is_server([self])


def is_server(hosts: Iterable[Host]) -> bool:
    """True if hosts, taken together, mostly answer."""
    hosts = list(hosts)
    if not any(host.offers for host in hosts):
        return False
    answered, initiated = sum(host.answered for host in hosts), sum(host.initiated for host in hosts)
    clients = set().union(*(host.clients for host in hosts))
    destinations = set().union(*(host.destinations for host in hosts))
    return answered >= initiated or len(clients) >= len(destinations)


def local_hosts(traffic: Traffic, pairs: Iterable[Pair]) -> dict[str, Host]:
    """The local hosts that sent anything, by address in the order in which they turn up, and what they did in pairs."""
    initiators = traffic.orig[traffic.orig_local & ~traffic.orig_group]
    return _hosts(traffic, np.concatenate((initiators, _answerers(traffic))), pairs)


def servers(traffic: Traffic, pairs: Iterable[Pair]) -> dict[str, Host]:
    """The local hosts that mostly answer, and their activity in pairs."""
    found = _hosts(traffic, _answerers(traffic), pairs)
    return {address: host for address, host in found.items() if host.is_server}


def _answerers(traffic: Traffic) -> Ints:
    return traffic.resp[traffic.resp_local & ~traffic.resp_group & traffic.answered]


def _hosts(traffic: Traffic, numbers: Ints, pairs: Iterable[Pair]) -> dict[str, Host]:
    speaking = (traffic.addresses[number] for number in np.unique(numbers).tolist())
    hosts = {address: Host(address=address) for address in speaking if address not in UNSPECIFIED}
    for pair in pairs:
        service = (pair.proto, pair.service)
        if (host := hosts.get(pair.orig)) is not None:
            host.initiated += pair.connections
            host.destinations.add(pair.resp)
            host.uses.add(service)
        if (host := hosts.get(pair.resp)) is not None:
            host.answered += pair.connections
            if pair.proto not in WITH_TYPES:
                host.clients.add(pair.orig)
                host.offers[service] = host.offers.get(service, False) or pair.orig not in hosts
    return hosts


def propose(hosts: Iterable[Host], taken: Callable[[str], bool] = lambda name: False) -> dict[str, Group]:
    """Groups of hosts that behave alike.

    Servers that offer the same services to the same kind of peers (inside only, or outside too) are in one; those that
    mostly initiate in another, and the rest in one more. Where that gives too many groups, as of servers that answer on
    ports of the moment, the kind of service (`web`, `dns`, ...) is what counts.

    Args:
        hosts: The hosts.
        taken: Names that are not free.
    """
    servers: dict[frozenset[tuple[Service, bool]], list[Host]] = {}
    others: dict[str, list[Host]] = {"clients": [], "hosts": []}
    for host in hosts:
        if host.is_server:
            servers.setdefault(frozenset(host.offers.items()), []).append(host)
        else:
            others["clients" if host.initiated else "hosts"].append(host)
    groups: dict[str, Group] = {}

    def add(name: str, members: list[Host]) -> None:
        free, number = name, 2
        while free in groups or taken(free):
            free, number = f"{name}-{number}", number + 1
        groups[free] = Group(members=tuple(_native.aggregate([host.address for host in members])))

    if len(servers) <= _MOST:
        for offers, members in servers.items():
            add(group_name(service for service, _ in offers), members)
    else:
        kinds: dict[str, list[Host]] = {}
        for host in chain.from_iterable(servers.values()):
            kinds.setdefault(kind(host.offers) or "servers", []).append(host)
        for name, members in kinds.items():
            add(name, members)
    for name, members in others.items():
        if members:
            add(name, members)
    return groups
