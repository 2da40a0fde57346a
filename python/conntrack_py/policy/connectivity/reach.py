"""Connectivity of policies: the services that each pair of addresses may use, for all addresses and services at once.

Addresses that no member and no peer of a rule tells apart are one class, and so are services that no rule tells apart.
A class of services is a bit; what a pair of classes may use is a number.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conntrack_py.policy.model import (
    ANY,
    SIDES,
    WITH_PORTS,
    WITH_TYPES,
    Rule,
    Ruleset,
    Side,
    effective_members,
    member_sets,
    port_text,
)
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.spans import Spans

#: The protocols that no rule names, as one.
OTHERS = "others"
#: A protocol with the first and the last port, or type.
Element = tuple[str, int, int]
#: The version of IP in which a protocol occurs, as `Addresses.versions` has it, for those with one.
_VERSIONS = {"icmp": 1, "icmp6": 2}


class Services:
    """The services that some rules tell apart, each a bit."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        cuts: dict[str, set[int]] = {}
        for rule in rules:
            if rule.proto != ANY:
                own = cuts.setdefault(rule.proto, {0, _last(rule.proto) + 1})
                own.update(edge for first, last in rule.ports for edge in (first, last + 1))
        self.elements: list[Element] = [(OTHERS, 0, 0)]
        for proto in sorted(cuts):
            self.elements += [(proto, first, end - 1) for first, end in itertools.pairwise(sorted(cuts[proto]))]
        self.all = (1 << len(self.elements)) - 1
        self._of: dict[str, list[tuple[int, Element]]] = {}
        for bit, element in enumerate(self.elements):
            self._of.setdefault(element[0], []).append((bit, element))

    def of(self, rule: Rule) -> int:
        """The services of a rule."""
        if rule.proto == ANY:
            return self.all
        found = 0
        for bit, (_, first, last) in self._of[rule.proto]:
            if not rule.ports or any(low <= first and last <= high for low, high in rule.ports):
                found |= 1 << bit
        return found

    def in_versions(self, versions: int) -> int:
        """The services that occur in some versions of IP."""
        bits = (bit for bit, one in enumerate(self.elements) if _VERSIONS.get(one[0], 3) & versions)
        return sum(1 << bit for bit in bits)

    def texts(self, services: int, versions: int) -> list[str]:
        """Some services in words, a protocol each: `tcp 80, 8000-8100`, `icmp type 8`."""
        if services == self.in_versions(versions):
            return ["any protocol"]
        found = []
        for proto, own in self._of.items():
            ranges: list[tuple[int, int]] = []
            for bit, (_, first, last) in own:
                if services >> bit & 1:
                    joins = ranges and ranges[-1][1] + 1 == first
                    ranges[-1:] = [(ranges[-1][0], last)] if joins else [*ranges[-1:], (first, last)]
            if not ranges:
                continue
            name = "other protocols" if proto == OTHERS else f"protocol {proto}" if proto.isdigit() else proto
            if ranges != [(0, _last(proto))]:
                name += " type " if proto in WITH_TYPES else " "
                name += ", ".join(map(port_text, ranges))
            found.append(name)
        return found


def _last(proto: str) -> int:
    if proto in WITH_PORTS:
        return 65535
    return 255 if proto in WITH_TYPES else 0


@dataclass(frozen=True)
class _Asked:
    """Rules of one direction of some groups, of which each or any has to allow.

    Attributes:
        groups: For each group that is asked the bits of its rules among all rules, each with its services.
        bits: The bits of all these rules.
        combine_any: Whether one of the groups is enough.
    """

    groups: tuple[tuple[tuple[int, int], ...], ...]
    bits: int
    combine_any: bool

    def services(self, mask: int, everything: int) -> int:
        """The services that they allow to a peer, by the bits of the rules that name it."""
        if not self.groups:
            return everything
        found = 0 if self.combine_any else everything
        for rules in self.groups:
            own = 0
            for bit, services in rules:
                if mask & bit:
                    own |= services
            found = found | own if self.combine_any else found & own
        return found


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Addresses that nothing tells apart.

    Attributes:
        mask: The bits of the rules that have them as a peer.
        sets: For each policy the number of the set of groups that they are in; -1: in none.
        spans: They.
        versions: 1: IPv4, 2: IPv6, 3: not known, as members of a group that does not tell them.
    """

    mask: int
    sets: tuple[int, ...]
    spans: Spans
    versions: int


class Reach:
    """Some policies with the same classes of addresses and services."""

    def __init__(self, rulesets: Sequence[Ruleset]) -> None:
        self.services = Services(n.rule for ruleset in rulesets for n in ruleset.numbered())
        nameless = [name for ruleset in rulesets for name, group in ruleset.groups.items() if not group.members]
        #: Groups whose addresses are not known, by name; each stands for itself.
        self.unknown = {name: number for number, name in enumerate(dict.fromkeys(nameless))}
        self._bits: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self._asked: list[list[dict[Side, _Asked]]] = []
        self._known: dict[tuple[int, Side, int, int], int] = {}
        self._marks: list[tuple[Spans, int]] = []
        self._sets: list[list[Spans]] = []
        self._rules = 0
        for ruleset in rulesets:
            self._add(ruleset)

    def _add(self, ruleset: Ruleset) -> None:
        """Number the rules and the sets of groups of a policy."""
        members = self.members(ruleset)
        rules: dict[tuple[str, Side], list[tuple[int, int]]] = {}
        for numbered in ruleset.numbered():
            bit = 1 << self._rules
            self._rules += 1
            self._bits[numbered.side] |= bit
            rules.setdefault((numbered.group, numbered.side), []).append((bit, self.services.of(numbered.rule)))
            self._marks.append((self._peers(ruleset, members, numbered.rule), bit))
        sets = {names: spans.of_networks(networks) for names, networks in member_sets(ruleset).items()}
        sets |= {(name,): members[name] for name, group in ruleset.groups.items() if not group.members}
        self._sets.append(list(sets.values()))
        self._asked.append([{side: _asked(ruleset, names, side, rules) for side in SIDES} for names in sets])

    def members(self, ruleset: Ruleset) -> dict[str, Spans]:
        """The addresses of each group."""
        return {
            name: spans.of_networks(networks) if ruleset.groups[name].members else spans.of_unknown(self.unknown[name])
            for name, networks in effective_members(ruleset).items()
        }

    def _peers(self, ruleset: Ruleset, members: Mapping[str, Spans], rule: Rule) -> Spans:
        if ANY in rule.peers:
            return spans.EVERYBODY
        networks = spans.of_networks(ruleset.networks(rule.peers))
        return spans.union(networks, *(members[peer] for peer in rule.peers if peer in members))

    def classes(self) -> list[Addresses]:
        """The classes of addresses, all together everybody."""
        ends: dict[int, int] = {}
        whole = spans.union(spans.V4, spans.V6, *(spans.of_unknown(number) for number in self.unknown.values()))
        marks = [*self._marks, (whole, 1 << self._rules)]
        at = self._rules + 1
        firsts = []
        for sets in self._sets:
            firsts.append(at)
            marks += [(one, 1 << at + number) for number, one in enumerate(sets)]
            at += len(sets)
        for one, bit in marks:
            for first, last in one:
                ends[first] = ends.get(first, 0) ^ bit
                ends[last + 1] = ends.get(last + 1, 0) ^ bit
        # Versions are apart, even if nothing else tells them apart.
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        mask = 0
        for start, end in itertools.pairwise(sorted(ends)):
            mask ^= ends[start]
            if mask >> self._rules & 1:
                found.setdefault((mask, _version(start)), []).append((start, end - 1))
        firsts.append(at)
        return [
            Addresses(
                mask=mask & (1 << self._rules) - 1,
                sets=tuple(
                    (mask >> first & (1 << end - first) - 1).bit_length() - 1
                    for first, end in itertools.pairwise(firsts)
                ),
                spans=spans.union(ranges),
                versions=versions,
            )
            for (mask, versions), ranges in found.items()
        ]

    def ends(self, side: Side) -> dict[tuple[int, tuple[int, ...], int], Spans]:
        """The classes of one end of connections, less those that only the other end tells apart.

        The key is the mask, the sets and the versions. Egress is asked of originators, whom the ingress rules of
        responders name.
        """
        bits = self._bits["ingress" if side == "egress" else "egress"]
        found: dict[tuple[int, tuple[int, ...], int], list[Spans]] = {}
        for one in self.classes():
            found.setdefault((one.mask & bits, one.sets, one.versions), []).append(one.spans)
        return {key: spans.union(*parts) for key, parts in found.items()}

    def allowed(
        self, policy: int, orig: tuple[int, tuple[int, ...], int], resp: tuple[int, tuple[int, ...], int]
    ) -> int:
        """The services that a policy allows between two ends."""
        services = self._one(policy, "egress", orig[1][policy], resp[0])
        return services & self._one(policy, "ingress", resp[1][policy], orig[0]) if services else 0

    def _one(self, policy: int, side: Side, number: int, mask: int) -> int:
        if number < 0:
            return self.services.all
        asked = self._asked[policy][number][side]
        key = policy, side, number, mask & asked.bits
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = asked.services(mask, self.services.all)
        return known


def _asked(
    ruleset: Ruleset, names: tuple[str, ...], side: Side, rules: Mapping[tuple[str, Side], list[tuple[int, int]]]
) -> _Asked:
    limited = [name for name in names if not ruleset.is_open(name, side)]
    groups = tuple(tuple(rules.get((name, side), ())) for name in limited)
    bits = sum(bit for one in groups for bit, _ in one)
    return _Asked(groups, bits, ruleset.combine == "any")


def _version(number: int) -> int:
    if number <= spans.V4[0][1]:
        return 1
    return 2 if number <= spans.V6[0][1] else 3


def address_words(found: Spans, named: Mapping[str, Spans], nameless: Mapping[int, str]) -> list[str]:
    """Addresses in words, the fewest of these: groups and networks, or everybody with exceptions.

    Args:
        found: The addresses.
        named: The addresses of groups by name.
        nameless: The names of groups of unknown addresses by number.
    """
    rest = found
    unknown = [name for number, name in nameless.items() if spans.within(spans.of_unknown(number), found)]
    words = [f"{name} (members unknown)" for name in unknown]
    rest = spans.union(spans.both(rest, spans.V4), spans.both(rest, spans.V6))
    if not rest:
        return words
    universes = [one for one in (spans.V4, spans.V6) if spans.both(rest, one)]
    name = "any" if len(universes) == 2 else "any IPv4" if universes == [spans.V4] else "any IPv6"
    but = spans.without(spans.union(*universes), rest)
    plainly, except_for = _words(rest, named), _words(but, named)
    if len(except_for) + 1 < len(plainly) or not but:
        plainly = [f"{name} but {' and '.join(except_for)}" if except_for else name]
    return [*plainly, *words]


def _words(found: Spans, named: Mapping[str, Spans]) -> list[str]:
    words = []
    for name, members in sorted(named.items(), key=lambda item: (-spans.count(item[1]), item[0])):
        if members and spans.within(members, found):
            words.append(name)
            found = spans.without(found, members)
    networks = spans.networks(found)
    return words + [
        str(net.network_address)
        if net.prefixlen == ipaddress.ip_address(net.network_address).max_prefixlen
        else str(net)
        for net in networks
    ]
