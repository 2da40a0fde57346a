"""Antrea's ClusterNetworkPolicies, written: for each group one that allows, and in a later tier one that drops.

Policies of a tier are asked in order, and the first rule that matches decides: only a drop in a later tier lets the
policies of a pod add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conntrack_py.policy.formats.clusters.shared import Cluster, ranges
from conntrack_py.policy.formats.common import Written, all_types, described, open_sides
from conntrack_py.policy.model import ANY, SIDES, Numbered, Ruleset, Side, merged

_PROTOS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
_PEERS: dict[Side, str] = {"ingress": "from", "egress": "to"}


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the policies of each group."""
    cluster = Cluster(ruleset, "Antrea")
    documents = []
    for name in described(ruleset):
        limited = [side for side in SIDES if side not in open_sides(ruleset, name)]
        if not limited:
            continue
        rules = {side: [one for n in cluster.rules[name, side] for one in _rules(cluster, n)] for side in limited}
        drops: dict[Side, list[dict[str, Any]]]
        drops = {side: [{"name": f"{side}-rest", "action": "Drop"}] for side in limited}
        if any(rules.values()):
            documents.append(_document(cluster, name, "", "application", rules))
        documents.append(_document(cluster, name, "-rest", "baseline", drops))
    return cluster.written(documents)


def _document(
    cluster: Cluster, name: str, end: str, tier: str, rules: dict[Side, list[dict[str, Any]]]
) -> dict[str, Any]:
    return {
        "apiVersion": "crd.antrea.io/v1beta1",
        "kind": "ClusterNetworkPolicy",
        "metadata": cluster.metadata(name, end),
        "spec": {
            "priority": 5,
            "tier": tier,
            "appliedTo": [{"podSelector": cluster.selector(name)}],
            **{side: rules[side] for side in SIDES if rules.get(side)},
        },
    }


def _rules(cluster: Cluster, numbered: Numbered) -> Iterator[dict[str, Any]]:
    rule = numbered.rule
    service = _service(cluster, numbered)
    if service is None:
        return
    if rule.note:
        cluster.warn(numbered, "Antrea has no place for the note: left out")
    peers = cluster.peers(numbered)
    ends: list[dict[str, Any]] = [{"podSelector": cluster.selector(peer)} for peer in peers.groups]
    ends += [{"ipBlock": {"cidr": net}} for networks in peers.networks.values() for net in networks]
    name = f"{numbered.side}-{numbered.index}"
    if peers.everybody or ends:
        made = {} if peers.everybody else {_PEERS[numbered.side]: ends}
        yield {"name": name, "action": "Allow", **made, **service}
    if peers.names:
        yield {"name": f"{name}-names", "action": "Allow", "to": [{"fqdn": one} for one in peers.names], **service}
    if not (peers.everybody or ends or peers.names):
        cluster.warn(numbered, "has no peer of its version of IP: left out")


def _service(cluster: Cluster, numbered: Numbered) -> dict[str, Any] | None:
    """Protocol and ports of a rule; None: Antrea cannot express them."""
    rule = numbered.rule
    if rule.proto == ANY:
        return {}
    if rule.proto == "icmp":
        if all_types(rule):
            return {"protocols": [{"icmp": {}}]}
        types = [one for first, last in merged(rule.ports) for one in range(first, last + 1)]
        return {"protocols": [{"icmp": {"icmpType": one}} for one in types]}
    if rule.proto not in _PROTOS:
        cluster.warn(numbered, f"Antrea says nothing about {rule.proto}: left out")
        return None
    own = ranges(numbered)
    if rule.ports and not own and merged(rule.ports) != ((0, 65535),):
        cluster.warn(numbered, "Antrea has no port 0: left out")
        return None
    proto = {"protocol": _PROTOS[rule.proto]}
    ports = [proto | {"port": first} | ({"endPort": last} if last > first else {}) for first, last in own]
    return {"ports": ports or [proto]}
