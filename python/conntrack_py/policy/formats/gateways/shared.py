"""A policy as one ordered list of rules, the first of which that matches decides.

Egress of the originator and ingress of the responder have both to allow. In a list this takes four steps: what a rule
of each end allows between groups that are limited; a denial of the rest between these; the egress and the ingress rules
as they are, whose other end is then no limited group; a denial of the rest of each limited group. Traffic of other
addresses is none of the list.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from conntrack_py.policy.formats.common import (
    HEAD,
    UNVERIFIED,
    collapsed,
    complaint,
    open_sides,
    overlaps,
    plain,
    unique,
    versions,
)
from conntrack_py.policy.model import ANY, Network, Numbered, Rule, Ruleset, Side, effective_members, merged

#: Ports up to which each is looked up.
_FEW = 64
#: The first comment of a text.
TOP = f"{HEAD}, for a gateway between the groups"


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A rule of the list.

    Attributes:
        allows: What it does.
        sources: Names of groups, and networks; None: everybody.
        targets: The same of the responders.
        proto: The protocol, or `any`.
        ports: The responder's ports or the ICMP types; none: all.
        helper: The helper of its service, or "".
        names: Host names in place of the targets that are hosts.
        note: For people.
        of: The rule of the policy that it is for; None: a denial.
    """

    allows: bool
    sources: tuple[str, ...] | None
    targets: tuple[str, ...] | None
    proto: str = ANY
    ports: tuple[tuple[int, int], ...] = ()
    helper: str = ""
    names: tuple[str, ...] = ()
    note: str = ""
    of: Numbered | None = None


class Gateway:
    """The groups of a policy, the names of their objects, and warnings."""

    def __init__(self, ruleset: Ruleset, product: str, clean: Callable[[str], str], most: int) -> None:
        """Take the policy.

        Args:
            ruleset: The policy.
            product: The name of the firewall.
            clean: Makes a name of an object valid, but for its length.
            most: The most characters of a name.
        """
        self.ruleset = ruleset
        self.product = product
        self.members = effective_members(ruleset)
        self.names = unique(ruleset.groups, clean, most)
        self.warnings = overlaps(ruleset, f"{product} allows what either allows")
        for name in ruleset.groups:
            if not self.members[name]:
                self.warnings.append(f"groups.{name}: has no members, so nothing is checked for it")

    def warn(self, flow: Flow, why: str) -> None:
        """Add a warning about a rule."""
        if flow.of is not None:
            self.warnings.append(complaint(flow.of, why))

    def ending(self) -> list[str]:
        """All warnings, with the one that nobody has checked the text."""
        return [*dict.fromkeys(self.warnings), f"{self.product}: {UNVERIFIED}"]

    def flows(self) -> Iterator[Flow]:
        """The list."""
        limited: dict[Side, list[str]] = {"egress": [], "ingress": []}
        for name in self.ruleset.groups:
            opened = open_sides(self.ruleset, name)
            for side, names in limited.items():
                if self.members[name] and side not in opened:
                    names.append(name)
        numbered = self.ruleset.numbered()
        rules = {side: [one for one in numbered if one.side == side and one.group in limited[side]] for side in limited}
        yield from self._between(rules["egress"], rules["ingress"])
        if limited["egress"] and limited["ingress"]:
            note = "what a rule of either end lacks"
            yield Flow(allows=False, sources=(*limited["egress"],), targets=(*limited["ingress"],), note=note)
        for one in (*rules["egress"], *rules["ingress"]):
            yield from self._plain(one, limited["ingress" if one.side == "egress" else "egress"])
        if limited["egress"]:
            yield Flow(allows=False, sources=(*limited["egress"],), targets=None, note="egress that no rule allows")
        if limited["ingress"]:
            yield Flow(allows=False, sources=None, targets=(*limited["ingress"],), note="ingress that no rule allows")

    def _between(self, egress: list[Numbered], ingress: list[Numbered]) -> Iterator[Flow]:
        by_group: dict[str, list[Numbered]] = {}
        for numbered in ingress:
            by_group.setdefault(numbered.group, []).append(numbered)
        indexed = {name: _Index(listed) for name, listed in by_group.items()}
        sources: dict[tuple[int, str], tuple[str, ...]] = {}
        for out in egress:
            for target, index in indexed.items():
                targets = self._part(out.rule, target)
                for into in index.about(out.rule) if targets else ():
                    service = _both(out.rule, into.rule)
                    key = into.number, out.group
                    if key not in sources:
                        sources[key] = self._part(into.rule, out.group)
                    if service is not None and sources[key]:
                        yield Flow(
                            allows=True,
                            sources=sources[key],
                            targets=targets,
                            proto=service[0],
                            ports=service[1],
                            helper=out.rule.helper or into.rule.helper,
                            note=out.rule.note or into.rule.note or f"{out.place}, {into.place}",
                            of=out,
                        )

    def _plain(self, numbered: Numbered, decided: list[str]) -> Iterator[Flow]:
        """A rule as it is, without the groups about which the rules before have decided."""
        rule = numbered.rule
        peers = None if ANY in rule.peers else tuple(peer for peer in rule.peers if self._there(peer, rule.proto))
        if peers == ():
            self.warnings.append(complaint(numbered, "has no peer with an address, so it allows nothing"))
            return
        if peers is not None:
            peers = tuple(peer for peer in peers if peer not in decided)
            if not peers:
                return
        own = (numbered.group,)
        outwards = numbered.side == "egress"
        yield Flow(
            allows=True,
            sources=own if outwards else peers,
            targets=peers if outwards else own,
            proto=rule.proto,
            ports=merged(rule.ports),
            helper=rule.helper,
            names=rule.names if outwards and peers is not None else (),
            note=rule.note or numbered.place,
            of=numbered,
        )

    def _there(self, peer: str, proto: str) -> bool:
        found = self.members[peer] if peer in self.members else [ipaddress.ip_network(peer)]
        return any(network.version in versions(proto) for network in found)

    def _part(self, rule: Rule, group: str) -> tuple[str, ...]:
        """The part of a group that is a peer of a rule: its name, or networks."""
        if ANY in rule.peers or group in rule.peers:
            return (group,)
        peers = [ipaddress.ip_network(peer) for peer in rule.peers if peer not in self.members]
        found = [
            member if member.prefixlen >= peer.prefixlen else peer
            for peer in peers
            for member in self.members[group]
            if member.version == peer.version and member.overlaps(peer)
        ]
        return tuple(str(network) for version in (4, 6) for network in collapsed(found, version))


class _Index:
    """Rules by protocol and port, so that those with a service in common are found without a look at all."""

    def __init__(self, rules: list[Numbered]) -> None:
        self._rules = rules
        self._wide: list[Numbered] = []
        self._by_port: dict[tuple[str, int], list[Numbered]] = {}
        for numbered in rules:
            ports = _few(numbered.rule)
            if ports is None:
                self._wide.append(numbered)
            for port in ports or ():
                self._by_port.setdefault((numbered.rule.proto, port), []).append(numbered)

    def about(self, rule: Rule) -> list[Numbered]:
        """The rules that may have a service in common with one, in order."""
        ports = _few(rule)
        if ports is None:
            return self._rules
        found = {one.number: one for port in ports for one in self._by_port.get((rule.proto, port), ())}
        found.update((one.number, one) for one in self._wide)
        return [found[number] for number in sorted(found)]


def _few(rule: Rule) -> list[int] | None:
    """The ports of a rule that has a few; None: it has many, or all."""
    if not rule.ports or sum(last - first + 1 for first, last in rule.ports) > _FEW:
        return None
    return [port for first, last in rule.ports for port in range(first, last + 1)]


def _both(one: Rule, other: Rule) -> tuple[str, tuple[tuple[int, int], ...]] | None:
    """The services that two rules have in common; None: there are none."""
    if ANY in (one.proto, other.proto):
        rule = other if one.proto == ANY else one
        return rule.proto, merged(rule.ports)
    if one.proto != other.proto:
        return None
    if not one.ports or not other.ports:
        return one.proto, merged(one.ports or other.ports)
    common = [
        (max(a[0], b[0]), min(a[1], b[1]))
        for a in merged(one.ports)
        for b in merged(other.ports)
        if max(a[0], b[0]) <= min(a[1], b[1])
    ]
    return (one.proto, tuple(common)) if common else None


def text(note: str, most: int) -> str:
    """A note in one line that needs no escape within double quotes."""
    return plain(note).replace('"', "'").replace("\\", "/")[:most]


def hosts_apart(ends: Iterable[str], groups: Iterable[str]) -> tuple[list[str], list[str]]:
    """Networks that are single hosts, and the other ends."""
    known = set(groups)
    hosts: list[str] = []
    rest: list[str] = []
    for end in ends:
        network = None if end in known else ipaddress.ip_network(end)
        (hosts if network is not None and network.prefixlen == network.max_prefixlen else rest).append(end)
    return hosts, rest


def name_objects(ruleset: Ruleset, most: int) -> dict[str, str]:
    """Names for the objects of host names, of at most so many characters."""
    named = dict.fromkeys(name for numbered in ruleset.numbered() for name in numbered.rule.names)
    return unique(named, lambda name: f"fqdn-{name.removeprefix('fqdn-').replace('*', 'any')}", most)


def object_name(network: Network) -> str:
    """A name for a network, with letters, digits, dots and hyphens."""
    return f"net-{str(network.network_address).replace(':', '-')}-{network.prefixlen}"
