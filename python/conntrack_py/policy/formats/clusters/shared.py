"""Parts that the network plugins of Kubernetes have in common: labels, names and peers by kind."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from conntrack_py.policy.formats.common import HEAD, UNVERIFIED, Written, by_side, complaint, label, overlaps, unique
from conntrack_py.policy.formats.kubernetes import (
    LABEL,
    MEMBERS,
    NAME,
    host_names,
    label_value,
    selector_warnings,
)
from conntrack_py.policy.model import ANY, Numbered, Ruleset, merged

#: Annotation of a rule.
NOTE = "conntrack-py/note"


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Peers of a rule by kind.

    Attributes:
        everybody: Whether they are all.
        groups: Labels of groups.
        networks: Networks by version, without the hosts that have names.
        names: Host names, in place of hosts.
        hosts: These hosts.
    """

    everybody: bool
    groups: tuple[str, ...]
    networks: dict[int, tuple[str, ...]]
    names: tuple[str, ...]
    hosts: tuple[str, ...]


class _Dumper(yaml.SafeDumper):
    """Without aliases: people read and edit what is written."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full."""
        return True


class Cluster:
    """Names and labels of the groups of a policy, and warnings."""

    def __init__(self, ruleset: Ruleset, product: str) -> None:
        self.ruleset = ruleset
        self.product = product
        self.labels = unique(ruleset.groups, label_value, 63, "-")
        self.names = unique(ruleset.groups, label, 50, "-")
        self.rules = by_side(ruleset)
        self.warnings: list[str] = []
        if ruleset.groups:
            self.warnings.append(
                f"{product} knows no members: they are annotations, and giving pods the label {LABEL} is up to you"
            )
        self.warnings += overlaps(ruleset, f"{product} allows what either policy allows")
        self.warnings += selector_warnings(ruleset)

    def metadata(self, name: str, end: str = "") -> dict[str, Any]:
        """The metadata of the policy of a group."""
        annotations = {NAME: name, MEMBERS: ",".join(self.ruleset.groups[name].members)}
        annotations |= host_names((*self.rules[name, "ingress"], *self.rules[name, "egress"]))
        return {"name": self.names[name] + end, "annotations": annotations}

    def selector(self, name: str) -> dict[str, Any]:
        """The selector of the pods of a group."""
        return {"matchLabels": {LABEL: self.labels[name]}}

    def peers(self, numbered: Numbered, *, names: bool = True) -> Peers:
        """The peers of a rule. Its host names stand for its hosts, where it may have names."""
        rule = numbered.rule
        everybody = ANY in rule.peers
        known = rule.names if names and numbered.side == "egress" and not everybody else ()
        if rule.names and not known and not everybody:
            self.warn(numbered, "the names are an annotation, as this rule cannot have them here")
        found: dict[int, list[str]] = {4: [], 6: []}
        hosts = []
        for network in map(ipaddress.ip_network, (p for p in rule.peers if p != ANY and p not in self.labels)):
            if known and network.prefixlen == network.max_prefixlen:
                hosts.append(str(network))
            elif {4: "icmp6", 6: "icmp"}[network.version] != rule.proto:
                found[network.version].append(str(network))
        return Peers(
            everybody=everybody,
            groups=() if everybody else tuple(peer for peer in rule.peers if peer in self.labels),
            networks={version: () if everybody else tuple(some) for version, some in found.items()},
            names=known,
            hosts=tuple(hosts),
        )

    def warn(self, numbered: Numbered, why: str) -> None:
        """Add a warning about a rule."""
        self.warnings.append(complaint(numbered, why))

    def written(self, documents: list[dict[str, Any]]) -> Written:
        """The text of some documents."""
        head = f"# {HEAD}\n# {UNVERIFIED}\n"
        warnings = [*self.warnings, f"{self.product}: {UNVERIFIED}"]
        if not documents:
            return Written(head, warnings)
        text = yaml.dump_all(
            documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, explicit_start=True
        )
        return Written(head + text, warnings)


def ranges(numbered: Numbered) -> list[tuple[int, int]]:
    """Ports of a rule, in order; none of all. Port 0 is left out: a pod has none."""
    found = merged(numbered.rule.ports)
    if found == ((0, 65535),):
        return []
    return [(max(first, 1), last) for first, last in found if last]


def chunks(values: list[Any], most: int) -> Iterator[list[Any]]:
    """Values in parts of at most so many."""
    for at in range(0, len(values), most):
        yield values[at : at + most]
