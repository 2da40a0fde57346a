"""A new capture's rules merged into a policy: a person's rules stay, what was not seen is marked, the rest is added.

Rules of both are compared by peer and service, not by line: a rule is stale where no connection of the capture used it.
A group that the capture adds is limited in both directions, whatever the default of the policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conntrack_py.policy.document import rule_dict
from conntrack_py.policy.model import SIDES, Evidence, Group, Numbered, Rule, Ruleset, Side
from conntrack_py.policy.suggestion import report as reports
from conntrack_py.policy.suggestion.decisions import Decision
from conntrack_py.policy.suggestion.report import Report
from conntrack_py.policy.suggestion.said import Networks, Said, members
from conntrack_py.schema import moment

_Key = tuple[tuple[str, ...], str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Merged policy, and the changes.

    Attributes:
        ruleset: The merged policy.
        added: Rules that the capture added.
        stale: Rules that the capture did not use, with `stale_since` where an earlier capture showed a use.
        kept: How many rules stand and were used.
        groups: Groups that the capture added, with the hosts of it.
        report: What `suggest` reports of the capture; None where `merge` was given rules alone.
    """

    ruleset: Ruleset
    added: tuple[Numbered, ...]
    stale: tuple[Numbered, ...]
    kept: int
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    report: Report | None = None


def merge(old: Ruleset, new: Ruleset, hits: Sequence[int]) -> Merged:
    """Merge rules of a capture into a policy.

    Args:
        old: The policy.
        new: What was suggested for the capture, with the groups of the policy.
        hits: How many connections of the capture used each rule of the policy, by number.
    """
    used = {numbered.place: hits[numbered.number] > 0 for numbered in old.numbered()}
    every = {**new.groups, **old.groups}
    holders = members(every)
    groups: dict[str, Group] = {}
    places: dict[str, list[str]] = {"added": [], "stale": []}
    for name, before in old.groups.items():
        now = new.groups.get(name, Group())
        rules: dict[Side, tuple[Rule, ...]] = {}
        for side in SIDES:
            standing = before.rules(side)
            fresh = [] if old.is_open(name, side) else _missing(now.rules(side), standing, every, holders)
            seen = {_key(rule): rule.evidence for rule in now.rules(side)}
            marked = [_seen(rule, seen, used[f"groups.{name}.{side}[{index}]"]) for index, rule in enumerate(standing)]
            rules[side] = (*marked, *fresh)
            listed = [f"groups.{name}.{side}[{index}]" for index in range(len(rules[side]))]
            places["added"] += listed[len(standing) :]
            places["stale"] += [place for place in listed[: len(standing)] if not used[place]]
        groups[name] = dataclasses.replace(before, ingress=rules["ingress"], egress=rules["egress"])
    fresh_groups = {name: group for name, group in new.groups.items() if name not in old.groups}
    for name, group in fresh_groups.items():
        limits = {} if old.default == "deny" else {"ingress_default": "deny", "egress_default": "deny"}
        groups[name] = dataclasses.replace(group, **limits)  # type: ignore[arg-type]
        places["added"] += [
            f"groups.{name}.{side}[{index}]" for side in SIDES for index in range(len(group.rules(side)))
        ]
    made = dataclasses.replace(old, groups=groups)
    by_place = {numbered.place: numbered for numbered in made.numbered()}
    return Merged(
        ruleset=made,
        added=tuple(by_place[place] for place in places["added"]),
        stale=tuple(by_place[place] for place in places["stale"]),
        kept=sum(used.values()),
        groups={name: group.members for name, group in fresh_groups.items()},
    )


def standing(old: Ruleset, hits: Sequence[int]) -> tuple[Ruleset, list[int]]:
    """The rules of a policy that a new suggestion keeps, and their hits: a person's, and those used earlier only.

    A person's are those with a note, an owner, a ticket or a last day. Members stand, defaults do not.
    """
    kept: dict[tuple[str, Side], list[Rule]] = {}
    left = []
    for numbered in old.numbered():
        rule, used = numbered.rule, hits[numbered.number] > 0
        personal = bool(rule.note or rule.owner or rule.ticket or rule.expires)
        if personal or (not used and (rule.evidence is not None or rule.stale_since is not None)):
            kept.setdefault((numbered.group, numbered.side), []).append(rule)
            left.append(hits[numbered.number])
    groups = {
        name: Group(
            members=group.members,
            ingress=tuple(kept.get((name, "ingress"), ())),
            egress=tuple(kept.get((name, "egress"), ())),
            line=group.line,
        )
        for name, group in old.groups.items()
    }
    return Ruleset(groups=groups), left


def _missing(
    rules: Sequence[Rule], standing: Sequence[Rule], groups: Mapping[str, Group], holders: Networks
) -> list[Rule]:
    """The rules without what rules that stand say."""
    said = Said(standing, groups, holders)
    return [one for rule in rules for one in said.missing(rule)]


def _key(rule: Rule) -> _Key:
    return rule.peers, rule.proto, rule.ports


def _seen(rule: Rule, now: Mapping[_Key, Evidence | None], used: bool) -> Rule:
    """A rule that stands, with the evidence of now, or marked as stale since its evidence ends."""
    if not used:
        since = rule.stale_since if rule.stale_since is not None or rule.evidence is None else rule.evidence.last
        return dataclasses.replace(rule, stale_since=since)
    return dataclasses.replace(rule, stale_since=None, evidence=now.get(_key(rule)) or rule.evidence)


def decided(report: Report, ruleset: Ruleset) -> Report:
    """The report with decisions that rules of the policy have taken marked as allowed."""
    holders = members(ruleset.groups)
    known: dict[tuple[str, Side], Said] = {}

    def takes(one: Decision) -> bool:
        if one.group not in ruleset.groups:
            return False
        if ruleset.is_open(one.group, one.side):
            return True
        place = one.group, one.side
        if place not in known:
            known[place] = Said(ruleset.groups[one.group].rules(one.side), ruleset.groups, holders)
        return known[place].says(one.rule)

    decisions = tuple(dataclasses.replace(one, kept=True) if takes(one) else one for one in report.decisions)
    return dataclasses.replace(report, decisions=decisions)


def as_json(merged: Merged) -> Mapping[str, Any]:
    """The changes as what `json` takes."""

    def listed(some: Sequence[Numbered]) -> list[dict[str, Any]]:
        return [
            {
                "group": one.group,
                "side": one.side,
                "place": one.place,
                "rule": rule_dict(one.rule, one.side),
                "stale_since": None if one.rule.stale_since is None else moment(one.rule.stale_since),
            }
            for one in some
        ]

    return {
        "added": listed(merged.added),
        "stale": listed(merged.stale),
        "kept": merged.kept,
        "groups": {name: list(networks) for name, networks in merged.groups.items()},
        "report": None if merged.report is None else reports.as_json(merged.report),
    }
