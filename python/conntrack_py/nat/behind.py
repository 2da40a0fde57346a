"""The hosts behind the address of a gateway, and the servers that it publishes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from conntrack_py import text
from conntrack_py.table import ConnectionTable

_Key = TypeVar("_Key", str, tuple[str, str])
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Share:
    """A host behind an address.

    Attributes:
        host: Address of the host, as the inside sees it.
        connections: Connections that it initiated through the address.
        bytes: IP bytes of both directions.
        services: Services that it asked for, the most used first, with the number of connections.
    """

    host: str
    connections: int
    bytes: int
    services: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """An address that initiates for others.

    Attributes:
        address: Address that the outside sees.
        connections: Connections of all hosts behind it.
        hosts: The hosts, those with the most connections first.
    """

    address: str
    connections: int
    hosts: tuple[Share, ...]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A service that answers under another address.

    Attributes:
        address: Address and port that clients ask.
        service: The service by the port of the server.
        servers: Addresses and ports of the servers that answer, with the number of connections.
        clients: Number of clients.
    """

    address: str
    service: str
    servers: dict[str, int]
    clients: int


@dataclass(frozen=True, kw_only=True)
class Translations:
    """Hosts and servers behind a gateway.

    Attributes:
        connections: Connections of the table.
        translated: Connections with another address or port on the other side.
        untranslated: Connections that are the same on both sides.
        unknown: Connections without a pair.
        masked: Addresses that initiate for others, those with the most connections first.
        published: Services that answer under other addresses, in the same order.
    """

    connections: int
    translated: int
    untranslated: int
    unknown: int
    masked: tuple[Masked, ...]
    published: tuple[Published, ...]


_COLUMNS = (
    *("proto", "orig_addr", "orig_port", "resp_addr", "resp_port", "orig_ip_bytes", "resp_ip_bytes"),
    *("nat_orig_addr", "nat_orig_port", "nat_resp_addr", "nat_resp_port"),
)


def facts(table: ConnectionTable) -> Translations:
    """Find what is behind a gateway, in connections with translations as the inside sees them.

    Raises:
        KeyError: The table has no columns of translations.
    """
    hosts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    uses: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    servers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    clients: dict[tuple[str, str], set[str]] = defaultdict(set)
    same = unknown = 0
    for proto, orig, orig_port, resp, port, sent, received, nat_orig, nat_port, nat_resp, nat_resp_port in _rows(table):
        if not nat_orig:
            unknown += 1
            continue
        is_icmp = text.is_icmp(proto)
        moved = nat_resp != resp or (nat_resp_port != port and not is_icmp)
        if nat_orig == orig and not moved and (nat_port == orig_port or is_icmp):
            same += 1
        if nat_orig != orig:
            share = hosts[nat_orig][orig]
            share[0] += 1
            share[1] += sent + received
            uses[nat_orig, orig][text.service(proto, port)] += 1
        # Of NAT64 the address inside is the other family's form of the one outside.
        if moved and (":" in nat_resp) == (":" in resp):
            asked, answers = _published(nat_orig != orig, resp, port, nat_resp, nat_resp_port)
            service = text.service(proto, nat_resp_port if nat_orig != orig else port)
            servers[asked, service][answers] += 1
            clients[asked, service].add(orig)
    return Translations(
        connections=len(table),
        translated=len(table) - same - unknown,
        untranslated=same,
        unknown=unknown,
        masked=tuple(_masked(address, shares, uses) for address, shares in _most(hosts, _connections)),
        published=tuple(
            Published(address=asked, service=service, servers=dict(found.most_common()), clients=len(clients[key]))
            for key, found in _most(servers, lambda found: found.total())
            for asked, service in [key]
        ),
    )


def _rows(table: ConnectionTable) -> Iterable[tuple[str, str, int, str, int, int, int, str, int, str, int]]:
    columns = [table[name].tolist() for name in _COLUMNS]
    return zip(*columns, strict=True) if len(table) else iter(())


def _published(is_hairpin: bool, resp: str, port: int, nat_resp: str, nat_port: int) -> tuple[str, str]:
    """Address that clients ask, and the server: of a hairpin the row is the client's, else the server's."""
    ends = text.endpoint(resp, port, "tcp"), text.endpoint(nat_resp, nat_port, "tcp")
    return ends if is_hairpin else (ends[1], ends[0])


def _connections(shares: dict[str, list[int]]) -> int:
    return sum(share[0] for share in shares.values())


def _most(found: Mapping[_Key, _Value], number: Callable[[_Value], int]) -> list[tuple[_Key, _Value]]:
    """The items with the largest numbers first."""
    return sorted(found.items(), key=lambda item: (-number(item[1]), item[0]))


def _masked(address: str, shares: dict[str, list[int]], uses: dict[tuple[str, str], Counter[str]]) -> Masked:
    hosts = sorted(shares.items(), key=lambda item: (-item[1][0], item[0]))
    found = tuple(
        Share(host=host, connections=number, bytes=size, services=dict(uses[address, host].most_common()))
        for host, (number, size) in hosts
    )
    return Masked(address=address, connections=_connections(shares), hosts=found)
