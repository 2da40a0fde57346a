"""Policies whose groups add up, as policies whose groups have no address in common.

Packet filters ask one chain after another, so that all of them have to allow. Where any of several groups may allow,
each set of groups that an address has becomes a group of its own, with the rules of all.
"""

from __future__ import annotations

import dataclasses
import itertools

from conntrack_py.policy.model import Default, Group, Rule, Ruleset, Side, member_sets


def separated(ruleset: Ruleset) -> Ruleset:
    """The same policy with groups that have no address in common, if its groups add up; else the policy itself.

    Addresses of several groups are in a group named after them (`a + b`). Rules that name a group name all its parts.
    """
    if ruleset.combine == "all":
        return ruleset
    sets: dict[tuple[str, ...], list[str]] = {(name,): [] for name in ruleset.groups}
    for names, networks in member_sets(ruleset).items():
        sets.setdefault(names, []).extend(map(str, networks))
    called = _names(sets)
    parts = {name: [called[names] for names in sets if name in names] for name in ruleset.groups}

    def rules(names: tuple[str, ...], side: Side) -> tuple[Rule, ...]:
        return tuple(
            dataclasses.replace(rule, peers=tuple(itertools.chain.from_iterable(parts.get(p, [p]) for p in rule.peers)))
            for name in names
            for rule in ruleset.groups[name].rules(side)
        )

    def default(names: tuple[str, ...], side: Side) -> Default:
        return "allow" if all(ruleset.is_open(name, side) for name in names) else "deny"

    groups = {
        called[names]: Group(
            members=tuple(members),
            ingress=rules(names, "ingress"),
            egress=rules(names, "egress"),
            ingress_default=default(names, "ingress"),
            egress_default=default(names, "egress"),
            line=ruleset.groups[names[0]].line,
        )
        for names, members in sets.items()
    }
    return Ruleset(groups=groups, default=ruleset.default, source=ruleset.source)


def _names(sets: dict[tuple[str, ...], list[str]]) -> dict[tuple[str, ...], str]:
    """A name for each set of groups, no two alike; single groups keep theirs."""
    found: dict[tuple[str, ...], str] = {names: names[0] for names in sets if len(names) == 1}
    taken = set(found.values())
    for names in sets:
        if len(names) > 1:
            base = " + ".join(names)
            counted = (base if count == 1 else f"{base} {count}" for count in itertools.count(1))
            made = next(name for name in counted if name not in taken)
            found[names] = made
            taken.add(made)
    return found
