"""Calico's GlobalNetworkPolicies, written: one for each group, which selects endpoints by a label.

Host names are in a GlobalNetworkSet beside the addresses that were seen. Open-source Calico has no names, and drops
them from a set without a word; in a rule it would drop the whole restriction to the peer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conntrack_py.policy.formats.clusters.shared import NOTE, Cluster, ranges
from conntrack_py.policy.formats.common import Written, all_types, described, number_of, open_sides, plain
from conntrack_py.policy.formats.kubernetes import LABEL, NAMES
from conntrack_py.policy.model import ANY, SIDES, WITH_TYPES, Numbered, Ruleset, Side, merged, port_text

_VERSION = "projectcalico.org/v3"
_PROTOS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP", "icmp6": "ICMPv6", "udplite": "UDPLite"}
_WITH_PORTS = ("tcp", "udp", "sctp")
_PEER: dict[Side, str] = {"ingress": "source", "egress": "destination"}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write a policy for each group, and the sets of names."""
    cluster = Cluster(ruleset, "Calico")
    documents: list[dict[str, Any]] = []
    for name in described(ruleset):
        sets: list[dict[str, Any]] = []
        limited = [side for side in SIDES if side not in open_sides(ruleset, name)]
        if not limited:
            continue
        spec: dict[str, Any] = {
            "selector": f"{LABEL} == '{cluster.labels[name]}'",
            "types": [side.capitalize() for side in limited],
        }
        for side in limited:
            spec[side] = [one for n in cluster.rules[name, side] for one in _rules(cluster, n, sets)]
        documents += [*sets, _document("GlobalNetworkPolicy", cluster.metadata(name), spec)]
    if any(one["kind"] == "GlobalNetworkSet" for one in documents):
        cluster.warnings.append("allowedEgressDomains are for Calico Enterprise and Cloud: others drop them")
    return cluster.written(documents)


def _document(kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _rules(cluster: Cluster, numbered: Numbered, sets: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rules that a rule becomes: one for each kind of peer and version of IP, which Calico does not mix."""
    rule = numbered.rule
    if rule.ports and rule.proto not in (*_WITH_PORTS, *WITH_TYPES):
        cluster.warn(numbered, f"Calico knows no ports of {rule.proto}: left out")
        return
    if rule.proto not in (ANY, *_PROTOS) and not number_of(rule.proto):
        cluster.warn(numbered, "Calico has no protocol 0: left out")
        return
    peers = cluster.peers(numbered)
    ends: list[dict[str, Any]] = [{}] if peers.everybody else []
    if peers.groups:
        labels = ", ".join(f"'{cluster.labels[peer]}'" for peer in peers.groups)
        ends.append({"selector": f"{LABEL} in {{ {labels} }}"})
    ends += [{"nets": list(networks)} for networks in peers.networks.values() if networks]
    if peers.names:
        own = f"{cluster.names[numbered.group]}-{numbered.side}-{numbered.index}"
        metadata = {"name": own, "labels": {NAMES: own}}
        domains = {"nets": list(peers.hosts), "allowedEgressDomains": list(peers.names)}
        sets.append(_document("GlobalNetworkSet", metadata, domains))
        ends.append({"selector": f"{NAMES} == '{own}'", "namespaceSelector": "global()"})
    if not ends:
        cluster.warn(numbered, "has no peer of its version of IP: left out")
    for end in ends:
        for service, ports in _services(cluster, numbered):
            yield _rule(numbered, end, service, ports)


def _rule(numbered: Numbered, end: dict[str, Any], service: dict[str, Any], ports: list[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"action": "Allow"}
    if numbered.rule.note:
        made["metadata"] = {"annotations": {NOTE: plain(numbered.rule.note)}}
    made |= service
    peer = _PEER[numbered.side]
    ends = {"source": {}, "destination": {"ports": ports} if ports else {}}
    ends[peer] = {**end, **ends[peer]}
    return made | {key: value for key, value in ends.items() if value}


def _services(cluster: Cluster, numbered: Numbered) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Protocol and ports of a rule; several of ICMP types, as a rule takes one."""
    rule = numbered.rule
    if rule.proto == ANY:
        yield {}, []
        return
    proto: dict[str, Any] = {"protocol": _PROTOS.get(rule.proto) or number_of(rule.proto)}
    if rule.proto in WITH_TYPES and not all_types(rule):
        for first, last in merged(rule.ports):
            # The kernel takes type 255 of a rule for all types.
            yield from ((proto | {"icmp": {"type": one}}, []) for one in range(first, min(last, 254) + 1))
        return
    own = ranges(numbered) if rule.proto in _WITH_PORTS else []
    if rule.ports and rule.proto in _WITH_PORTS and not own and merged(rule.ports) != ((0, 65535),):
        cluster.warn(numbered, "Calico has no port 0: left out")
        return
    yield proto, [first if first == last else port_text((first, last)).replace("-", ":") for first, last in own]
