"""The model of a policy: groups of addresses, and rules about initiators.

There are no rules for replies: a connection that was allowed answers by itself, as do ICMP errors about it. A new
connection passes if the groups of the originator allow it as egress and those of the responder as ingress. A group
without a rule for a direction follows the default. An address in no group is outside and unrestricted. An address
belongs to the groups that name the longest of all members that hold it. Several groups of one address combine by the
policy's word: `all` of them have to allow, or `any` of them, as in Kubernetes and AWS, where policies add up. A group
whose direction is open then counts only where that of all its groups is.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Side = Literal["ingress", "egress"]
Default = Literal["allow", "deny"]
Combine = Literal["all", "any"]

#: The directions of rules, in the order in which they are numbered.
SIDES: tuple[Side, ...] = ("ingress", "egress")
#: A peer that is everybody.
ANY = "any"
#: Protocols whose connections have ports, and those that have message types instead.
WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
WITH_TYPES = ("icmp", "icmp6")

#: Helpers of Linux that announce connections, by name, with the protocols of the messages that they read
#: (net/netfilter/nf_conntrack_*.c); those that only widen the answers to a broadcast are none of these.
HELPERS: Mapping[str, tuple[str, ...]] = {
    "amanda": ("udp",),
    "ftp": ("tcp",),
    "irc": ("tcp",),
    "pptp": ("tcp",),
    "Q.931": ("tcp",),
    "RAS": ("udp",),
    "sane": ("tcp",),
    "sip": ("tcp", "udp"),
    "tftp": ("udp",),
}
#: Connections that a helper announces, as the helpers whose messages announce them and the protocols: those of H.323
#: announce further ones. GRE has no ports; of the others the port is one that takes no privilege.
ANNOUNCED: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "amanda": (("amanda", ("tcp",)),),
    "ftp": (("ftp", ("tcp",)),),
    "irc": (("irc", ("tcp",)),),
    "pptp": (("pptp", ("gre",)),),
    "Q.931": (("Q.931", ("tcp",)), ("H.245", ("tcp", "udp"))),
    "RAS": (("RAS", ("tcp",)), ("Q.931", ("tcp",)), ("H.245", ("tcp", "udp"))),
    "sane": (("sane", ("tcp",)),),
    "sip": (("sip", ("tcp", "udp")),),
    "tftp": (("tftp", ("udp",)),),
}
#: The first port that a helper may let pass: below are services.
FIRST_ANNOUNCED = 1024

#: Characters of a host name (RFC 1035 section 2.3.4).
_LONGEST_NAME = 253
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


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
        names: Host names of the peers, for people and for formats that have names. The peers decide.
        helper: The helper (`HELPERS`) that reads the messages of the service: connections that they announce pass, and
            have no rules; "": none.
        owner: A person or team to ask about the rule.
        ticket: The request that the rule goes back to.
        expires: The last day of the rule, in UTC; None: it has none.
        stale_since: The last time at which a capture showed a use, in nanoseconds since 1970 UTC, where the latest
            capture shows none; None: not known to be stale.
        evidence: What it was made of.
        line: Where it begins in its file, counted from 1.
    """

    peers: tuple[str, ...]
    proto: str = ANY
    ports: tuple[tuple[int, int], ...] = ()
    note: str = ""
    names: tuple[str, ...] = ()
    helper: str = ""
    owner: str = ""
    ticket: str = ""
    expires: datetime.date | None = None
    stale_since: int | None = field(default=None, compare=False)
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
        combine: Whether all groups of an address have to allow a connection, or any of them.
        source: The file it was read from, or "".
    """

    groups: Mapping[str, Group] = field(default_factory=dict)
    default: Default = "deny"
    combine: Combine = "all"
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

    def is_open(self, name: str, side: Side) -> bool:
        """True where a group allows everything in a direction, for it has no rule there."""
        return not self.groups[name].rules(side) and self.default_of(name, side) == "allow"

    def networks(self, peers: tuple[str, ...]) -> list[Network]:
        """The networks of peers that are no groups; not those of `any`."""
        return [ipaddress.ip_network(peer) for peer in peers if peer != ANY and peer not in self.groups]


def describe(rule: Rule, side: Side) -> str:
    """A rule in words: `from any tcp 443`, `to dns udp 53`, `to 192.0.2.7/32 (api.example.com) tcp 443`."""
    words = ["from" if side == "ingress" else "to", ", ".join(rule.peers)]
    words += [f"({', '.join(rule.names)})"] if rule.names else []
    if rule.proto == ANY:
        words.append("any protocol")
    else:
        words.append(rule.proto if not rule.proto.isdigit() else f"protocol {rule.proto}")
    if rule.ports:
        words += ["type"] if rule.proto in WITH_TYPES else []
        words.append(", ".join(port_text(ports) for ports in rule.ports))
    words += [f"helper {rule.helper}"] if rule.helper else []
    return " ".join(words)


def port_text(ports: tuple[int, int]) -> str:
    """A port or a range of them: `443`, `8000-8100`."""
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def is_host_name(text: str) -> bool:
    """True for a host name of at least two labels (RFC 1123 section 2.1), of which the first may be `*`."""
    labels = text.removeprefix("*.").split(".")
    # A last label of digits is that of an address.
    good = len(labels) > 1 and len(text) <= _LONGEST_NAME and not labels[-1].isdecimal()
    return good and all(_LABEL.fullmatch(label) for label in labels)


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
    found: dict[str, list[Network]] = {name: [] for name in ruleset.groups}
    for names, networks in member_sets(ruleset).items():
        for name in names:
            found[name] += networks
    return {name: [*_collapsed(networks)] for name, networks in found.items()}


def member_sets(ruleset: Ruleset) -> dict[tuple[str, ...], list[Network]]:
    """The addresses of each set of groups that some address belongs to, as networks that do not overlap."""
    owners: dict[Network, list[str]] = {}
    for name, group in ruleset.groups.items():
        for member in group.members:
            named = owners.setdefault(ipaddress.ip_network(member), [])
            if name not in named:
                named.append(name)
    found: dict[tuple[str, ...], list[Network]] = {}
    for version in (4, 6):
        for first, last, network in _pieces([network for network in owners if network.version == version]):
            address = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
            pieces = ipaddress.summarize_address_range(address(first), address(last))
            found.setdefault(tuple(owners[network]), []).extend(pieces)
    return {names: [*_collapsed(networks)] for names, networks in found.items()}


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
