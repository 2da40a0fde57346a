"""Policies made of a deployed ruleset: its accept rules, where a policy can say them; the rest is listed.

A policy has no order and no drop rules. So a chain is converted as far as it is a list of accept rules before a final
drop, behind a rule for established connections; a rule behind one that drops, or with a condition of its own, is left
out and named.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.deployed import clouds
from conntrack_py.policy.model import ANY, HELPERS, WITH_PORTS, WITH_TYPES, Group, Rule, Ruleset
from conntrack_py.policy.rulesets import spans
from conntrack_py.policy.rulesets.clouds.model import Cloud
from conntrack_py.policy.rulesets.model import ALL_TYPES, Chain, Firewall, FirewallRule, Match
from conntrack_py.policy.rulesets.spans import ALL_PORTS, Spans

#: Networks of a rule, more of which are no rule that a person reads.
_MOST_NETWORKS = 1_000


def to_policy(
    firewall: Firewall,
    hosts: Iterable[str] = (),
    members: Mapping[str, Iterable[str]] | None = None,
    name: str = "host",
) -> tuple[Ruleset, list[str]]:
    """The policy of what a ruleset protects, and what of the ruleset is not in it.

    Args:
        firewall: The ruleset.
        hosts: Addresses of the host, which are the members of its group; in a cloud, of groups without `members`.
        members: Networks of names in a cloud's rules.
        name: The name of the group of a host.

    Raises:
        PolicyError: No chain is one of accept rules before a drop, or a name is not in the file.
    """
    warnings = [f"line {note.line}: {note.message}" if note.line else note.message for note in firewall.notes]
    if isinstance(firewall.scopes, Cloud):
        told = {word: [networks(word, [one]) for one in own] for word, own in (members or {}).items()}
        return clouds.to_policy(firewall.scopes, warnings, told, networks("host", hosts))
    rules: dict[str, list[Rule]] = {"ingress": [], "egress": []}
    versions = firewall.program.versions if firewall.program is not None else frozenset((4, 6))
    # A file about one version of IP says nothing about the other.
    seen = {frozenset((4,)): spans.V4, frozenset((6,)): spans.V6}.get(versions, spans.EVERYBODY)
    limited = {"ingress": False, "egress": False}
    for chain in firewall.chains:
        if chain.hook not in ("input", "output"):
            if chain.rules:
                warnings.append(
                    f"{chain.name}: the chain {chain.hook} is that of a gateway, which is not in the policy"
                )
            continue
        side = "ingress" if chain.hook == "input" else "egress"
        if not chain.drops:
            warnings.append(f"{chain.name}: nothing is dropped at its end: {side} is not limited")
            continue
        limited[side] = True
        rules[side] += [_helped(rule, firewall) for rule in _of_chain(chain, side, seen, warnings)]
    if not any(limited.values()):
        raise PolicyError(
            f"{firewall.name or 'ruleset'}: found no chain of input or output that drops what no rule accepts, "
            "expected one; a policy is a list of what is allowed"
        )
    group = Group(
        members=tuple(str(ipaddress.ip_network(host, strict=False)) for host in hosts),
        ingress=tuple(dict.fromkeys(rules["ingress"])),
        egress=tuple(dict.fromkeys(rules["egress"])),
        ingress_default="deny" if limited["ingress"] else "allow",
        egress_default="deny" if limited["egress"] else "allow",
    )
    if not group.members:
        warnings.append(f"groups.{name}: has no members, which a ruleset does not tell: add the addresses of the host")
    return Ruleset(groups={name: group}, default="allow", source=firewall.name), warnings


def _of_chain(chain: Chain, side: str, seen: Spans, warnings: list[str]) -> list[Rule]:
    found: list[Rule] = []
    has_state = False
    dropped: list[Match] = []
    for rule in chain.rules:
        if rule.is_catch_all:
            break
        match = rule.match
        has_state = has_state or rule.is_state_rule
        if rule.verdict == "accept" and "new" not in match.states:
            continue
        if match.loopback or match.states <= {"invalid"}:
            continue
        where = f"line {rule.line}" if rule.line else rule.place
        if rule.verdict == "drop":
            dropped.append(match)
            warnings.append(f"{where}: `{rule.text}`: a policy has no rules that drop: it is left out")
            continue
        taken = any(match.meet(other) is not None for other in dropped)
        why = "an earlier rule drops, and may take of it" if taken else _unsaid(match, side)
        if why:
            warnings.append(f"{where}: `{rule.text}`: {why}: it is left out")
            continue
        found += _rules(rule, side, seen)
    if not has_state:
        warnings.append(f"{chain.name}: no rule accepts established connections, which a policy takes for granted")
    return found


def _helped(rule: Rule, firewall: Firewall) -> Rule:
    """A rule with the helper that the ruleset sets for its service."""
    for match, helper in firewall.helpers:
        protos = match.protos or frozenset()
        service = rule.proto in protos and rule.proto in HELPERS.get(helper, ())
        if service and rule.ports and not match.partial and spans.within(rule.ports, match.dports):
            return dataclasses.replace(rule, helper=helper)
    return rule


def _unsaid(match: Match, side: str) -> str:
    """The reason why a policy cannot say a match, or ""."""
    own = match.daddr if side == "ingress" else match.saddr
    peers = match.saddr if side == "ingress" else match.daddr
    protos = match.protos or frozenset()
    reasons = (
        (match.partial, "it has a condition that is not expressed"),
        (match.limited, "it has a limit"),
        (bool(match.iif or match.oif), "it is about an interface"),
        (match.has_source_ports and not spans.is_ephemeral(match.sports), "it is about source ports"),
        (not spans.is_everybody(own), "it is about some addresses of the host"),
        (match.has_ports and not protos <= set(WITH_PORTS), "it has ports without a protocol"),
        (match.types != ALL_TYPES and not protos <= set(WITH_TYPES), "it has types without a protocol"),
        (len(spans.networks(peers)) > _MOST_NETWORKS, "it names too many networks"),
    )
    return next((why for holds, why in reasons if holds), "")


def _rules(rule: FirewallRule, side: str, seen: Spans) -> list[Rule]:
    match = rule.match
    peers = spans.both(match.saddr if side == "ingress" else match.daddr, seen)
    named = (ANY,) if spans.within(spans.EVERYBODY, peers) else tuple(map(str, spans.networks(peers)))
    found = []
    for proto in sorted(match.protos) if match.protos is not None else [ANY]:
        ports: Spans = ()
        if proto in WITH_PORTS and match.dports != ALL_PORTS:
            ports = match.dports
        elif proto in WITH_TYPES and match.types != ALL_TYPES:
            ports = match.types
        found.append(Rule(peers=named, proto=proto, ports=ports, line=rule.line))
    return found


def networks(name: str, words: Iterable[str]) -> Spans:
    """The addresses of networks that a person gave.

    Raises:
        PolicyError: One is none; the message has `name`.
    """
    found = []
    for word in words:
        try:
            found.append(ipaddress.ip_network(word, strict=False))
        except ValueError:
            raise PolicyError(f"{name}: found {word[:60]!r}, expected an address or a network") from None
    return spans.of_networks(found)
