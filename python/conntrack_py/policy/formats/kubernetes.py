"""Kubernetes NetworkPolicies, written: one for each group, which selects pods by a label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from conntrack_py.policy.formats.common import (
    HEAD,
    Written,
    by_side,
    complaint,
    described,
    label,
    open_sides,
    overlaps,
    unique,
)
from conntrack_py.policy.model import ANY, SIDES, Group, Numbered, Rule, Ruleset, Side, merged

#: The label of the pods of a group.
LABEL = "conntrack-py/group"
#: Annotations: the name of the group as it is here, and its members.
NAME, MEMBERS = "conntrack-py/group", "conntrack-py/members"
#: Annotation: the host names of rules, and the addresses that they were seen for.
NAMES = "conntrack-py/names"
#: Names that come from selectors.
_SELECTOR = re.compile(r"^[a-z0-9.-]+/\S|\S=|^all pods\b| (In|NotIn) \(| (Exists|DoesNotExist)\b")
_PROTOS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
_TYPES: dict[Side, str] = {"ingress": "Ingress", "egress": "Egress"}
_PEERS: dict[Side, str] = {"ingress": "from", "egress": "to"}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write a policy for each group."""
    warnings = []
    if ruleset.groups:
        warnings.append(
            f"Kubernetes knows no members: they are annotations, and giving pods the label {LABEL} is up to you"
        )
    warnings += overlaps(ruleset, "Kubernetes allows what either policy allows")
    warnings += selector_warnings(ruleset)
    labels = unique(ruleset.groups, label_value, 63, "-")
    names = unique(ruleset.groups, label, 63, "-")
    rules = by_side(ruleset)
    documents = []
    for name in described(ruleset):
        own = ruleset.groups[name]
        written = {side: [made for n in rules[name, side] for made in _rule(n, labels, warnings)] for side in SIDES}
        made = _policy(own, name, names[name], labels[name], written, open_sides(ruleset, name))
        made["metadata"]["annotations"] |= host_names((*rules[name, "ingress"], *rules[name, "egress"]))
        documents.append(made)
    if not documents:
        return Written(f"# {HEAD}\n", warnings)
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120, explicit_start=True)
    return Written(f"# {HEAD}\n{text}", warnings)


def host_names(rules: Iterable[Numbered]) -> dict[str, str]:
    """The annotation with the host names of rules, if there are some."""
    seen = []
    for numbered in rules:
        hosts = [peer for peer in numbered.rule.peers if peer.endswith(("/32", "/128"))]
        if numbered.rule.names:
            of = f" (seen: {', '.join(hosts)})" if hosts else ""
            seen.append(f"{numbered.side}[{numbered.index}]: {', '.join(numbered.rule.names)}{of}")
    return {NAMES: "; ".join(seen)} if seen else {}


def selector_warnings(ruleset: Ruleset) -> list[str]:
    """Warnings about groups that are called as a selector."""
    return [
        f"groups.{name}: is called as a selector; written is the label {LABEL} INSTEAD, WITHOUT a namespace: "
        "give its pods that label, or put selector and namespace back"
        for name in filter(_SELECTOR.search, ruleset.groups)
    ]


def label_value(name: str) -> str:
    """A name that is valid as the value of a label."""
    made = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", made) or "g"


def _policy(
    group: Group, name: str, own: str, value: str, rules: dict[Side, list[dict[str, Any]]], unlimited: list[Side]
) -> dict[str, Any]:
    """The document of a group.

    Always with its types: without them Kubernetes takes no egress rules for no limit, and an empty list for none given.
    """
    limited = [side for side in SIDES if side not in unlimited]
    if not limited:
        limited, rules = ["ingress"], {"ingress": [{}], "egress": []}
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": {LABEL: value}},
        "policyTypes": [_TYPES[side] for side in limited],
    }
    spec |= {side: rules[side] for side in limited}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": own, "annotations": {NAME: name, MEMBERS: ",".join(group.members)}},
        "spec": spec,
    }


def _rule(numbered: Numbered, labels: dict[str, str], warnings: list[str]) -> Iterator[dict[str, Any]]:
    rule = numbered.rule
    if rule.proto != ANY and rule.proto not in _PROTOS:
        warnings.append(complaint(numbered, f"Kubernetes says nothing about {rule.proto}: left out"))
        return
    if rule.note:
        warnings.append(complaint(numbered, "Kubernetes has no place for the note: left out"))
    made: dict[str, Any] = {}
    if ANY not in rule.peers:
        made[_PEERS[numbered.side]] = [
            {"podSelector": {"matchLabels": {LABEL: labels[peer]}}} if peer in labels else {"ipBlock": {"cidr": peer}}
            for peer in rule.peers
        ]
    if rule.proto != ANY:
        made["ports"] = _ports(rule)
        if any(first == 0 for first, _ in rule.ports) and not _all_ports(rule):
            warnings.append(complaint(numbered, "Kubernetes has no port 0: left out"))
        if not made["ports"]:
            return
    yield made


def _all_ports(rule: Rule) -> bool:
    return not rule.ports or merged(rule.ports) == ((0, 65535),)


def _ports(rule: Rule) -> list[dict[str, Any]]:
    proto = _PROTOS[rule.proto]
    if _all_ports(rule):
        return [{"protocol": proto}]
    found: list[dict[str, Any]] = []
    for first, last in merged(rule.ports):
        if last == 0:
            continue
        entry: dict[str, Any] = {"protocol": proto, "port": max(first, 1)}
        found.append(entry if last <= entry["port"] else entry | {"endPort": last})
    return found
