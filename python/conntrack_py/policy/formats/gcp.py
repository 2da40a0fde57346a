"""Google Cloud VPC firewall rules, as `gcloud compute firewall-rules list --format=json` has them.

The instances of a group are those with its network tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from conntrack_py.policy.formats.common import (
    EVERYWHERE,
    HEAD,
    Written,
    all_types,
    by_side,
    collapsed,
    complaint,
    described,
    everyone,
    label,
    number_of,
    open_sides,
    overlaps,
    peer_groups,
    peer_networks,
    plain,
    unique,
    versions,
)
from conntrack_py.policy.model import (
    ANY,
    SIDES,
    WITH_TYPES,
    Network,
    Numbered,
    Rule,
    Ruleset,
    effective_members,
    merged,
    port_text,
)

#: Of a rule that allows, and of one that denies the rest: just before the rules that Google implies.
_ALLOW, _DENY = 1000, 65534
#: Characters of a note; a description has 2048 with what else is in it.
_NOTE = 1500
#: Of one rule.
_MOST_TAGS, _MOST_RANGES = 30, 256
_RANGES = {"ingress": "sourceRanges", "egress": "destinationRanges"}
_WORDS = {"tcp", "udp", "icmp", "esp", "ah", "sctp", "ipip"}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the rules of all groups, and those that deny the rest."""
    writer = _Writer(ruleset)
    rules = [rule for name in described(ruleset) for rule in writer.rules_of(name)]
    return Written(json.dumps(rules, indent=2, ensure_ascii=False) + "\n", writer.warnings)


class _Writer:
    """Rules with the names and tags of their groups."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.ruleset = ruleset
        self.members = effective_members(ruleset)
        self.tags = unique(ruleset.groups, label, 40, "-")
        self.rules = by_side(ruleset)
        self.warnings: list[str] = []
        if ruleset.groups:
            self.warnings.append("Google knows no members: giving instances the tag of their group is up to you")
        by_tag = [n for n in ruleset.numbered() if n.side == "ingress" and peer_groups(ruleset, n.rule)]
        if by_tag:
            places = ", ".join(numbered.place for numbered in by_tag)
            self.warnings.append(f"source tags hold within the VPC network and for internal addresses only: {places}")
        self.warnings += overlaps(ruleset, "Google allows what the rules of either tag allow")

    def rules_of(self, name: str) -> Iterator[dict[str, Any]]:
        """The rules of a group."""
        for side in SIDES:
            for numbered in self.rules[name, side]:
                yield from self.allowed(numbered)
            # Google implies that ingress is denied and egress allowed, and default networks have rules besides.
            action, priority = ("allowed", _ALLOW) if side in open_sides(self.ruleset, name) else ("denied", _DENY)
            for version, cidr in EVERYWHERE.items():
                made = self.rule(name, side, f"{action}-{version}", priority, f"{side} that no rule allows")
                yield made | {action: [{"IPProtocol": "all"}], _RANGES[side]: [cidr]}

    def rule(self, name: str, side: str, end: str, priority: int, description: str) -> dict[str, Any]:
        """Keys that all rules have."""
        return {
            "name": f"{self.tags[name]}-{side}-{end}",
            "network": "global/networks/default",
            "direction": side.upper(),
            "priority": priority,
            "description": f"{plain(description)} ({HEAD})",
            "disabled": False,
            "targetTags": [self.tags[name]],
        }

    def allowed(self, numbered: Numbered) -> Iterator[dict[str, Any]]:
        """The rules that a rule becomes: one for tags, and one for each version of IP."""
        rule, side = numbered.rule, numbered.side
        allowed = self.service(numbered)
        description = f"{numbered.place}: {rule.note[:_NOTE]}" if rule.note else numbered.place
        if len(rule.note) > _NOTE:
            self.warnings.append(complaint(numbered, f"the note was cut to {_NOTE} characters"))
        count = 0
        # Addresses of a group are looked up for ingress by its tag, and written out for egress, which has no tags.
        tags = [self.tags[peer] for peer in peer_groups(self.ruleset, rule)] if side == "ingress" else []
        if tags and ANY not in rule.peers:
            for end, part in _parts(tags, _MOST_TAGS):
                count += 1
                made = self.rule(numbered.group, side, f"{numbered.index}-tags{end}", _ALLOW, description)
                yield made | {"allowed": allowed, "sourceTags": part}
        for version in versions(rule.proto):
            ranges = self.ranges(rule, side, version)
            for end, part in _parts(ranges, _MOST_RANGES):
                count += 1
                made = self.rule(numbered.group, side, f"{numbered.index}-{version}{end}", _ALLOW, description)
                yield made | {"allowed": allowed, _RANGES[side]: part}
        if not count:
            self.warnings.append(complaint(numbered, "has no peer with an address, so it allows nothing: left out"))

    def ranges(self, rule: Rule, side: str, version: int) -> list[str]:
        """The networks of a rule."""
        found: list[Network] | None
        if side == "ingress" and ANY not in rule.peers:
            found = peer_networks(self.ruleset, rule, version)
        else:
            found = everyone(self.ruleset, self.members, rule, version)
        return [EVERYWHERE[version]] if found is None else [str(network) for network in collapsed(found, version)]

    def service(self, numbered: Numbered) -> list[dict[str, Any]]:
        """Protocol and ports as Google has them."""
        rule = numbered.rule
        if rule.proto == ANY:
            return [{"IPProtocol": "all"}]
        made: dict[str, Any] = {"IPProtocol": rule.proto if rule.proto in _WORDS else str(number_of(rule.proto))}
        if rule.proto in ("tcp", "udp", "sctp") and rule.ports:
            made["ports"] = [port_text(ports) for ports in merged(rule.ports)]
        elif rule.proto in WITH_TYPES and not all_types(rule):
            self.warnings.append(complaint(numbered, f"Google knows no types: widened to all of {rule.proto}"))
        elif rule.ports and not all_types(rule):
            self.warnings.append(complaint(numbered, f"Google knows no ports of {rule.proto}: widened to all of them"))
        return [made]


def _parts(values: list[str], most: int) -> Iterator[tuple[str, list[str]]]:
    """Values in parts that a rule has room for, with the end of its name."""
    for at in range(0, len(values), most):
        yield f"-part{at // most + 1}" if at else "", values[at : at + most]
