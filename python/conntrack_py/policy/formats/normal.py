"""One form for policies that say the same, to compare them after a way through another language."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from conntrack_py.policy.formats.common import EVERYWHERE, versions
from conntrack_py.policy.model import ANY, SIDES, WITH_PORTS, WITH_TYPES, Group, Rule, Ruleset, member_sets, merged

Ports = tuple[tuple[int, int], ...]


def normalised(ruleset: Ruleset) -> Ruleset:
    """The policy with its rules merged and sorted, and its defaults as rules.

    Two policies that are equal afterwards allow the same, with the same notes. Of the rules of a group and direction
    with the same protocol, note and helper, each peer gets its ports together, and peers with the same ports get one
    rule. All ports are none named; `any` beside other peers is `any`; 0.0.0.0/0 with ::/0 is `any`, and for ICMP the
    one of its version is. A direction without rules whose default is `allow` gets a rule that allows everything; the
    default of the policy is then `deny`. Groups without a common address combine as `all`. Evidence is left out, and
    so are host names, owners, tickets and days, which decide nothing.
    """
    groups: dict[str, Group] = {}
    for name in sorted(ruleset.groups):
        group = ruleset.groups[name]
        rules = {side: merged_rules(group.rules(side)) for side in SIDES}
        for side in SIDES:
            if not rules[side] and ruleset.default_of(name, side) == "allow":
                rules[side] = (Rule(peers=(ANY,)),)
        members = sorted({ipaddress.ip_network(member) for member in group.members}, key=lambda n: (n.version, n))
        groups[name] = Group(members=tuple(map(str, members)), ingress=rules["ingress"], egress=rules["egress"])
    share = any(len(names) > 1 for names in member_sets(ruleset))
    return Ruleset(groups=groups, combine=ruleset.combine if share else "all")


def merged_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of one direction merged by ports, then by peers, and sorted."""
    ports: dict[tuple[str, str, str], dict[str, list[tuple[int, int]]]] = {}
    for rule in rules:
        of = ports.setdefault((rule.proto, rule.note, rule.helper), {})
        for peer in _expanded(rule):
            of.setdefault(peer, []).extend(rule.ports or [_all(rule.proto)])
    peers: dict[tuple[str, str, str, Ports], list[str]] = {}
    for (proto, note, helper), of in ports.items():
        for peer, ranges in of.items():
            together = merged(tuple(ranges))
            peers.setdefault((proto, note, helper, () if together == (_all(proto),) else together), []).append(peer)
    return tuple(
        Rule(peers=_folded(proto, named), proto=proto, ports=ranges, note=note, helper=helper)
        for (proto, note, helper, ranges), named in sorted(peers.items(), key=lambda item: (item[0], sorted(item[1])))
    )


def _all(proto: str) -> tuple[int, int]:
    if proto in WITH_PORTS:
        return 0, 65535
    return (0, 255) if proto in WITH_TYPES else (0, 0)


def _expanded(rule: Rule) -> list[str]:
    """Peers, with `any` as the networks that it is."""
    if ANY in rule.peers:
        return [EVERYWHERE[version] for version in versions(rule.proto)]
    return [_canonical(peer) for peer in rule.peers]


def _canonical(peer: str) -> str:
    try:
        return str(ipaddress.ip_network(peer))
    except ValueError:
        return peer  # a group


def _folded(proto: str, peers: list[str]) -> tuple[str, ...]:
    if all(EVERYWHERE[version] in peers for version in versions(proto)):
        return (ANY,)
    return tuple(sorted(peers))
