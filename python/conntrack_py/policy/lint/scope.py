"""A policy as lint looks at it: which addresses and ports each rule is about."""

from __future__ import annotations

import bisect
import functools
import ipaddress
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conntrack_py.policy.model import (
    ANY,
    WITH_PORTS,
    WITH_TYPES,
    Numbered,
    Rule,
    Ruleset,
    Side,
    effective_members,
    merged,
)
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.spans import ALL_PORTS, EVERYBODY, Spans

_ALL_TYPES: Spans = ((0, 255),)


class Scope:
    """A policy, and what its rules cover."""

    def __init__(self, ruleset: Ruleset) -> None:
        """Work out the addresses of the groups."""
        self.ruleset = ruleset
        self.rules = ruleset.numbered()
        self.names = list(ruleset.groups)
        effective = effective_members(ruleset)
        # A group without members may be one whose addresses the policy does not tell, as in a cloud.
        self.members: dict[str, Spans] = {
            name: spans.of_networks(effective[name]) if group.members else spans.of_unknown(number)
            for number, (name, group) in enumerate(ruleset.groups.items())
        }

    @functools.cached_property
    def sides(self) -> dict[tuple[str, Side], list[Numbered]]:
        """The rules by group and direction."""
        found: dict[tuple[str, Side], list[Numbered]] = {}
        for rule in self.rules:
            found.setdefault((rule.group, rule.side), []).append(rule)
        return found

    @functools.cached_property
    def peers(self) -> list[Spans]:
        """The addresses of the peers of each rule, by its number."""
        known: dict[tuple[str, ...], Spans] = {}
        for numbered in self.rules:
            named = numbered.rule.peers
            if named not in known:
                known[named] = self._peers(named)
        return [known[numbered.rule.peers] for numbered in self.rules]

    def _peers(self, named: tuple[str, ...]) -> Spans:
        if ANY in named:
            return EVERYBODY
        groups = [self.members[peer] for peer in named if peer in self.members]
        return spans.union(spans.of_networks(self.ruleset.networks(named)), *groups)

    @functools.cached_property
    def ports(self) -> list[Spans]:
        """The ports of each rule, by its number; of ICMP the types."""
        return [ports_of(numbered.rule) for numbered in self.rules]

    @functools.cached_property
    def _hulls(self) -> NDArray[np.int64]:
        """For each rule the first and last address and port it is about; addresses by their order."""
        ends = [(peers[0][0], peers[-1][1]) if peers else (0, 0) for peers in self.peers]
        order = {address: rank for rank, address in enumerate(sorted({at for pair in ends for at in pair}))}
        hulls = [
            (order[first], order[last], ports[0][0], ports[-1][1])
            for (first, last), ports in zip(ends, self.ports, strict=True)
        ]
        return np.array(hulls, dtype=np.int64).reshape(len(hulls), 4)

    def around(self, numbered: Numbered, rules: Sequence[Numbered]) -> list[Numbered]:
        """Candidates among some rules that may cover a rule."""
        hulls, (first, last, low, high) = self._of(rules), self._hulls[numbered.number]
        may = (hulls[:, 0] <= first) & (hulls[:, 1] >= last) & (hulls[:, 2] <= low) & (hulls[:, 3] >= high)
        return [rules[place] for place in np.flatnonzero(may).tolist()]

    def near(self, numbered: Numbered, rules: Sequence[Numbered]) -> list[Numbered]:
        """Candidates among some rules that may overlap with a rule."""
        hulls, (first, last, low, high) = self._of(rules), self._hulls[numbered.number]
        may = (hulls[:, 0] <= last) & (hulls[:, 1] >= first) & (hulls[:, 2] <= high) & (hulls[:, 3] >= low)
        return [rules[place] for place in np.flatnonzero(may).tolist()]

    def _of(self, rules: Sequence[Numbered]) -> NDArray[np.int64]:
        return self._hulls[[numbered.number for numbered in rules]]

    def within(self, name: str) -> dict[str, list[str]]:
        """Members of other groups that lie within a group's without being its own, by the name of the other group."""
        own = self.ruleset.groups[name].members
        found: dict[str, list[str]] = {}
        for first, last in spans.of_networks(self.ruleset.networks(own)):
            start = bisect.bisect_left(self._ordered, (first,))
            for _, end, other, member in self._ordered[start : bisect.bisect_right(self._ordered, (last, 1 << 200))]:
                # What the group names as precisely is its own.
                taken = end <= last and other != name and member not in own
                if taken and not spans.both(spans.of_networks([ipaddress.ip_network(member)]), self.members[name]):
                    found.setdefault(other, []).append(member)
        return found

    @functools.cached_property
    def _ordered(self) -> list[tuple[Any, ...]]:
        """All members by their first address: first and last, the group, and the member."""
        return sorted(
            (*spans.of_networks([ipaddress.ip_network(member)])[0], name, member)
            for name, group in self.ruleset.groups.items()
            for member in group.members
        )

    def is_any(self, numbered: Numbered) -> bool:
        """The rule is about everybody."""
        return spans.is_everybody(self.peers[numbered.number])

    def sharing(self) -> dict[str, set[str]]:
        """Groups that have a member in common with others, and these."""
        owners: dict[str, list[str]] = {}
        for name, group in self.ruleset.groups.items():
            for member in dict.fromkeys(group.members):
                owners.setdefault(member, []).append(name)
        found: dict[str, set[str]] = {}
        for names in owners.values():
            for name in names if len(names) > 1 else ():
                found.setdefault(name, set()).update(other for other in names if other != name)
        return found


def ports_of(rule: Rule) -> Spans:
    """The ports of a rule, or its ICMP types; all where it names none."""
    if rule.ports:
        return merged(rule.ports)
    return _ALL_TYPES if rule.proto in WITH_TYPES else ALL_PORTS


def has_ports(rule: Rule) -> bool:
    """The rule is about a protocol with ports."""
    return rule.proto in WITH_PORTS


def is_open(rule: Rule) -> bool:
    """The rule allows all ports, or clients' ports as a whole: it is about no service."""
    return not rule.ports or spans.is_ephemeral(merged(rule.ports))
