"""CiliumNetworkPolicies, written: one for each group, which selects endpoints by a label.

A direction is denied by default where a policy has a rule for it, so that no rule is written as the empty one, which
allows nothing. The audit form allows everything by a policy of its own: a connection that only this one allows is one
that the others would have refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conntrack_py.policy.formats.clusters.shared import Cluster, chunks, ranges
from conntrack_py.policy.formats.common import Written, all_types, described, open_sides
from conntrack_py.policy.model import ANY, SIDES, WITH_TYPES, Numbered, Ruleset, Side, merged

#: Ports or types in a list.
_MOST = 40
_PROTOS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
_WAY: dict[Side, str] = {"ingress": "from", "egress": "to"}
#: The end of the name of a policy that allows everything.
_AUDIT = "-audit"


def write(ruleset: Ruleset, group: str | None = None, audit: bool = False) -> Written:
    """Write a policy for each group; for an audit also one that allows everything."""
    cluster = Cluster(ruleset, "Cilium")
    documents = [one for name in described(ruleset) for one in _policies(cluster, name, audit)]
    if any(n.rule.names and n.side == "egress" for n in ruleset.numbered()):
        cluster.warnings.append(
            "toFQDNs needs a rule that lets the pods ask the DNS through Cilium (toPorts with rules.dns): add it"
        )
    if any(peer != ANY and peer not in ruleset.groups for n in ruleset.numbered() for peer in n.rule.peers):
        cluster.warnings.append("Cilium takes networks for addresses outside the cluster: pods as peers need a group")
    if audit:
        cluster.warnings.append(
            f"an audit refuses NOTHING: flows that a policy ending in {_AUDIT} alone allows would have been refused "
            "(hubble observe: ingress_allowed_by and egress_allowed_by)"
        )
    return cluster.written(documents)


def _policies(cluster: Cluster, name: str, audit: bool) -> Iterator[dict[str, Any]]:
    limited = [side for side in SIDES if side not in open_sides(cluster.ruleset, name)]
    spec: dict[str, Any] = {"endpointSelector": cluster.selector(name)}
    if audit:
        spec["enableDefaultDeny"] = {"ingress": False, "egress": False}
    for side in limited:
        rules = [made for numbered in cluster.rules[name, side] for made in _rules(cluster, numbered)]
        spec[side] = rules or [{}]
    if not limited:
        spec["ingress"] = [{"fromEntities": ["all"]}]
        spec["enableDefaultDeny"] = {"ingress": False, "egress": False}
    yield _document(cluster.metadata(name), spec)
    if audit and limited:
        more = {"endpointSelector": cluster.selector(name), "enableDefaultDeny": spec["enableDefaultDeny"]}
        more |= {side: [{f"{_WAY[side]}Entities": ["all"]}] for side in limited}
        yield _document(cluster.metadata(name, _AUDIT), more)


def _document(metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


def _rules(cluster: Cluster, numbered: Numbered) -> Iterator[dict[str, Any]]:
    """The rules that a rule becomes: one for each kind of peer, as Cilium does not mix them."""
    rule, way = numbered.rule, _WAY[numbered.side]
    if rule.proto not in (ANY, *_PROTOS, *WITH_TYPES):
        cluster.warn(numbered, f"Cilium says nothing about {rule.proto}: left out")
        return
    if rule.note:
        cluster.warn(numbered, "Cilium has no place for the note: left out")
    services = list(_services(cluster, numbered))
    if not services:
        return
    peers = cluster.peers(numbered, names=rule.proto not in WITH_TYPES)
    kinds: list[dict[str, Any]] = []
    if peers.everybody:
        kinds.append({f"{way}Entities": ["all"]})
    if peers.groups:
        kinds.append({f"{way}Endpoints": [cluster.selector(peer) for peer in peers.groups]})
    if peers.networks[4] or peers.networks[6]:
        kinds.append({f"{way}CIDR": [*peers.networks[4], *peers.networks[6]]})
    if peers.names:
        kinds.append({"toFQDNs": [{"matchPattern" if "*" in one else "matchName": one} for one in peers.names]})
    if not kinds:
        cluster.warn(numbered, "has no peer of its version of IP: left out")
    yield from (kind | service for kind in kinds for service in services)


def _services(cluster: Cluster, numbered: Numbered) -> Iterator[dict[str, Any]]:
    """The services of a rule, any of which is enough."""
    rule = numbered.rule
    if rule.proto == ANY:
        yield {}
    elif rule.proto in WITH_TYPES:
        listed = ((0, 255),) if all_types(rule) else merged(rule.ports)
        family = "IPv4" if rule.proto == "icmp" else "IPv6"
        types = [{"family": family, "type": one} for first, last in listed for one in range(first, last + 1)]
        yield {"icmps": [{"fields": part} for part in chunks(types, _MOST)]}
    else:
        own = ranges(numbered)
        if rule.ports and not own and merged(rule.ports) != ((0, 65535),):
            cluster.warn(numbered, "Cilium has no port 0: left out")
            return
        ports = [_port(_PROTOS[rule.proto], first, last) for first, last in own or [(1, 65535)]]
        yield {"toPorts": [{"ports": part} for part in chunks(ports, _MOST)]}


def _port(proto: str, first: int, last: int) -> dict[str, Any]:
    return {"port": str(first), **({"endPort": last} if last > first else {}), "protocol": proto}
