"""Chains of a cloud's rules for lint: for each security group, or network tag, the rules that its members meet.

An address of a name is not known, so a number stands for it. The world is what `Internet` means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from conntrack_py.policy.rulesets.clouds.model import HOOKS, SIDES, Cloud, CloudRule, Ends, Scope
from conntrack_py.policy.rulesets.clouds.tags import INTERNET, PUBLIC
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import Chain, Firewall, FirewallRule, Note
from conntrack_py.policy.rulesets.spans import EVERYBODY, Spans, of_unknown, union


def views(scope: Scope) -> Iterator[tuple[str, tuple[CloudRule, ...]]]:
    """The groups of a scope, each with the rules that an address of it alone meets, in order."""
    targets = dict.fromkeys(name for rule in scope.rules for name in rule.own.names)
    if not scope.adds_up:
        yield scope.name, scope.rules
        return
    if scope.vendor == "gcp":
        yield scope.name, tuple(rule for rule in scope.rules if not rule.own.names)
    for target in dict.fromkeys((*(scope.members.names if scope.vendor == "aws" else ()), *targets)):
        mine = (rule for rule in scope.rules if not rule.own.names or target in rule.own.names)
        yield target, tuple(mine)


def of_cloud(cloud: Cloud) -> Iterator[Chain]:
    """The chains of all groups."""
    numbers: dict[str, int] = {}

    def places(ends: Ends) -> Spans:
        if INTERNET in ends.names:
            return EVERYBODY
        return union(ends.networks, *(of_unknown(numbers.setdefault(name, len(numbers))) for name in ends.names))

    for scope in cloud.scopes:
        for name, rules in views(scope):
            for side in SIDES:
                mine = [rule for rule in rules if rule.side == side]
                given = [rule for rule in mine if not rule.implied and rule.action != "unknown"]
                found = []
                for rule in given:
                    own = EVERYBODY if rule.own.names else rule.own.networks
                    source, destination = (places(rule.peers), own) if side == "ingress" else (own, places(rule.peers))
                    verdict: Literal["accept", "drop"] = "accept" if rule.action == "accept" else "drop"
                    for service in rule.services:
                        if not (source and destination):
                            continue
                        match = replace(service, saddr=source, daddr=destination, partial=bool(rule.partial))
                        found.append(
                            FirewallRule(
                                chain=plain(f"{name} {side} {rule.name}"),
                                direction=side,
                                match=match,
                                verdict=verdict,
                                text=rule.words(service),
                                line=rule.line,
                            )
                        )
                yield Chain(
                    name=plain(f"{name} {side}"),
                    hook=HOOKS[side],
                    policy="accept" if _is_open(mine) else "drop",
                    rules=tuple(found),
                    scope=plain(f"{scope.name} {name}"),
                    line=scope.line,
                )


def _is_open(rules: list[CloudRule]) -> bool:
    """True if the vendor's last rules accept what no other rule took, to everybody or the Internet."""
    for rule in rules:
        world = rule.peers.networks in (EVERYBODY, PUBLIC)
        if rule.implied and world and rule.services[0].protos is None and not rule.partial:
            return rule.action == "accept"
    return True


def firewall_of(cloud: Cloud, family: str, notes: Iterable[Note] = ()) -> Firewall:
    """The firewall that lint, check and convert take."""
    return Firewall(
        name=cloud.name,
        family=family,
        chains=tuple(of_cloud(cloud)),
        tracks=True,
        notes=tuple(notes),
        scopes=cloud,
    )
