"""The model of a policy: groups of addresses, and rules about initiators.

There are no rules for replies: a connection that was allowed answers by itself, as do ICMP errors about it. A new
connection passes if every group of the originator allows it as egress and every group of the responder allows it as
ingress. A group without a rule for a direction follows the default. An address in no group is outside and unrestricted.
An address belongs to the groups that name the longest of all members that hold it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Side = Literal["ingress", "egress"]
Default = Literal["allow", "deny"]

#: The directions of rules, in the order in which they are numbered.
SIDES: tuple[Side, ...] = ("ingress", "egress")
#: A peer that is everybody.
ANY = "any"
#: Protocols whose connections have ports, and those that have message types instead.
WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
WITH_TYPES = ("icmp", "icmp6")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The connections of a capture that a rule was made of.

    Attributes:
        connections: How many.
        peers: How many different peers they have.
        first: When the first of them began, in nanoseconds since 1970 UTC.
        last: When the last of them began.
    """

    connections: int
    peers: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: peers, protocol and ports that may be initiated towards a group or from it.

    Attributes:
        peers: The other end, any of these: `any`, names of groups, networks.
        proto: A word of the `proto` column (`tcp`, `udp`, `icmp`, `icmp6`, ... or a number), or `any`.
        ports: The responder's ports, as first and last of ranges; none: all. For ICMP the types of the message that
            asks.
        note: For people.
        evidence: What it was made of.
        line: Where it begins in its file, counted from 1.
    """

    peers: tuple[str, ...]
    proto: str = ANY
    ports: tuple[tuple[int, int], ...] = ()
    note: str = ""
    evidence: Evidence | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Addresses to which the same rules apply.

    Attributes:
        members: Networks.
        ingress: Who may initiate towards them.
        egress: Whom they may initiate towards.
        ingress_default: What holds for ingress where there is no rule for it; None: the default of the policy.
        egress_default: The same for egress.
        line: Where it begins in its file, counted from 1.
    """

    members: tuple[str, ...] = ()
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    ingress_default: Default | None = None
    egress_default: Default | None = None
    line: int | None = field(default=None, compare=False)

    def rules(self, side: Side) -> tuple[Rule, ...]:
        """The rules of a direction."""
        return self.ingress if side == "ingress" else self.egress

    def default(self, side: Side) -> Default | None:
        """The group's own default for a direction without a rule, or None."""
        return self.ingress_default if side == "ingress" else self.egress_default


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A rule and its place: its number in the whole policy, and where it stands."""

    number: int
    group: str
    side: Side
    index: int
    rule: Rule

    @property
    def place(self) -> str:
        """The key of the rule in a native file: `groups.web.ingress[0]`."""
        return f"groups.{self.group}.{self.side}[{self.index}]"

    def __str__(self) -> str:
        """The rule in a line: `web ingress from any tcp 443`."""
        return f"{self.group} {self.side} {describe(self.rule, self.side)}"


@dataclass(frozen=True, kw_only=True)
class Ruleset:
    """Groups and their rules.

    Attributes:
        groups: Groups by name, in order.
        default: What holds for a direction of a group without a rule for it.
        source: The file it was read from, or "".
    """

    groups: Mapping[str, Group] = field(default_factory=dict)
    default: Default = "deny"
    source: str = field(default="", compare=False)

    def numbered(self) -> list[Numbered]:
        """All rules in the order of their numbers: group by group, ingress before egress."""
        found: list[Numbered] = []
        for name, group in self.groups.items():
            for side in SIDES:
                for index, rule in enumerate(group.rules(side)):
                    found.append(Numbered(number=len(found), group=name, side=side, index=index, rule=rule))
        return found

    def default_of(self, name: str, side: Side) -> Default:
        """The default for a direction of a group without a rule."""
        return self.groups[name].default(side) or self.default

    def networks(self, peers: tuple[str, ...]) -> list[Network]:
        """The networks of peers that are no groups; not those of `any`."""
        return [ipaddress.ip_network(peer) for peer in peers if peer != ANY and peer not in self.groups]


def describe(rule: Rule, side: Side) -> str:
    """A rule in words: `from any tcp 443`, `to dns udp 53`."""
    words = ["from" if side == "ingress" else "to", ", ".join(rule.peers)]
    if rule.proto == ANY:
        words.append("any protocol")
    else:
        words.append(rule.proto if not rule.proto.isdigit() else f"protocol {rule.proto}")
    if rule.ports:
        words += ["type"] if rule.proto in WITH_TYPES else []
        words.append(", ".join(port_text(ports) for ports in rule.ports))
    return " ".join(words)


def port_text(ports: tuple[int, int]) -> str:
    """A port or a range of them: `443`, `8000-8100`."""
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def merged(ports: Iterator[tuple[int, int]] | tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Ranges in order, with those that touch or overlap made one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ports):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def effective_members(ruleset: Ruleset) -> dict[str, list[Network]]:
    """The addresses of each group as networks that do not overlap.

    They are those of its members, without what a longer member of another group takes away.
    """
    owners: dict[Network, list[str]] = {}
    for name, group in ruleset.groups.items():
        for member in group.members:
            named = owners.setdefault(ipaddress.ip_network(member), [])
            if name not in named:
                named.append(name)
    found: dict[str, list[Network]] = {name: [] for name in ruleset.groups}
    for version in (4, 6):
        for first, last, network in _pieces([network for network in owners if network.version == version]):
            address = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
            for name in owners[network]:
                found[name] += ipaddress.summarize_address_range(address(first), address(last))
    return {name: [*_collapsed(networks)] for name, networks in found.items()}


def _collapsed(networks: list[Network]) -> Iterator[Network]:
    yield from ipaddress.collapse_addresses([n for n in networks if isinstance(n, ipaddress.IPv4Network)])
    yield from ipaddress.collapse_addresses([n for n in networks if isinstance(n, ipaddress.IPv6Network)])


def _pieces(networks: list[Network]) -> Iterator[tuple[int, int, Network]]:
    """Ranges of addresses, each with the longest network that holds it. Networks are nested or apart."""
    ordered = sorted(networks, key=lambda network: (int(network.network_address), network.prefixlen))
    around: list[Network] = []  # those that hold the current address, the longest last
    at = 0  # everything before it has been told

    def leave(until: int) -> Iterator[tuple[int, int, Network]]:
        nonlocal at
        while around and int(around[-1].broadcast_address) < until:
            inner = around.pop()
            if at <= int(inner.broadcast_address):
                yield at, int(inner.broadcast_address), inner
                at = int(inner.broadcast_address) + 1

    for network in ordered:
        start = int(network.network_address)
        yield from leave(start)
        if around and at < start:
            yield at, start - 1, around[-1]
        at = start
        around.append(network)
    yield from leave(1 << 129)
