"""NetworkPolicies judged as the reference of their API says (networking.k8s.io/v1), one connection after another.

Pods are tables with namespace, name, labels, address and ports: `{"ns": "x", "pod": "a", "labels": {}, "address":
"10.0.0.1", "ports": [{"name": "http", "containerPort": 80}]}`. An end that is no pod has an address only.
"""

from __future__ import annotations

import ipaddress
import json
import random
from collections.abc import Mapping
from typing import Any

from support.packets import ethernet, tcp, udp

Table = dict[str, Any]
#: Services that are tried: number and protocol.
SERVICES = ((80, "TCP"), (81, "TCP"), (80, "UDP"), (81, "UDP"), (80, "SCTP"))
_INIT = bytes.fromhex("010000140000000100010000000a000a00000001")


def meets(selector: Table | None, labels: Mapping[str, str]) -> bool:
    """True if labels meet a selector; an empty one is met by all."""
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions") or ():
        has, values = labels.get(one["key"]), one.get("values") or ()
        met = {
            "In": has is not None and has in values,
            "NotIn": has is None or has not in values,
            "Exists": has is not None,
            "DoesNotExist": has is None,
        }
        if not met[one["operator"]]:
            return False
    return True


def is_peer(peer: Table, end: Table, namespace: str, spaces: Mapping[str, Table]) -> bool:
    """True if an end of a connection is a peer of a rule of a policy in a namespace."""
    if "ipBlock" in peer:
        address, block = ipaddress.ip_address(end["address"]), peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"], strict=False)
        return inside and not any(address in ipaddress.ip_network(one, strict=False) for one in block.get("except", ()))
    if "ns" not in end:
        return False
    if "namespaceSelector" in peer:
        if not meets(peer["namespaceSelector"], spaces[end["ns"]]):
            return False
    elif end["ns"] != namespace:
        return False
    return meets(peer.get("podSelector"), end["labels"])


def is_port(entry: Table, resp: Table, port: int, proto: str) -> bool:
    """True if the service is one of an entry of ports; a name is looked up in the pod that is connected to."""
    if entry.get("protocol", "TCP") != proto:
        return False
    wanted = entry.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return any(
            one.get("name") == wanted and one["containerPort"] == port and one.get("protocol", "TCP") == proto
            for one in resp.get("ports", ())
        )
    return bool(wanted <= port <= entry.get("endPort", wanted))


def allows(policies: list[Table], spaces: Mapping[str, Table], orig: Table, resp: Table, port: int, proto: str) -> bool:
    """True if all that isolates either end has a rule for the connection."""
    for side, key, own, other in (("egress", "to", orig, resp), ("ingress", "from", resp, orig)):
        isolated = allowed = False
        for policy in policies:
            spec, namespace = policy["spec"], policy["metadata"]["namespace"]
            types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
            if side.capitalize() not in types or own.get("ns") != namespace:
                continue
            if not meets(spec["podSelector"], own["labels"]):
                continue
            isolated = True
            for rule in spec.get(side) or ():
                peers, ports = rule.get(key), rule.get("ports")
                named = not peers or any(is_peer(peer, other, namespace, spaces) for peer in peers)
                allowed |= named and (not ports or any(is_port(one, resp, port, proto) for one in ports))
        if isolated and not allowed:
            return False
    return True


def attempt(src: str, dst: str, port: int, proto: str, sport: int) -> bytes:
    """The first packet of a connection."""
    if proto == "TCP":
        return tcp(src, sport, dst, port, 0x02, seq=1)
    if proto == "UDP":
        return udp(src, sport, dst, port, b"?")
    header = sport.to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(8)
    return ethernet(src, dst, 132, header + _INIT)


def cluster(pods: list[Table], spaces: Mapping[str, Table]) -> str:
    """The pods and namespaces as `kubectl get pods,namespaces -A -o json` prints them."""
    items: list[Table] = [
        {"kind": "Namespace", "metadata": {"name": name, "labels": labels}} for name, labels in spaces.items()
    ]
    items += [
        {
            "kind": "Pod",
            "metadata": {"name": one["pod"], "namespace": one["ns"], "labels": one["labels"]},
            "spec": {"containers": [{"name": "c", "ports": one.get("ports", [])}]},
            "status": {"phase": "Running", "podIPs": [{"ip": one["address"]}]},
        }
        for one in pods
    ]
    return json.dumps({"kind": "List", "items": items})


def _selector(choose: random.Random, keys: Mapping[str, list[str]]) -> Table:
    made: Table = {}
    if choose.random() < 0.5:
        key = choose.choice(list(keys))
        made["matchLabels"] = {key: choose.choice(keys[key])}
    if choose.random() < 0.4:
        made["matchExpressions"] = []
        for _ in range(choose.choice((1, 1, 2))):
            key, operator = choose.choice(list(keys)), choose.choice(("In", "NotIn", "Exists", "DoesNotExist"))
            one: Table = {"key": key, "operator": operator}
            if operator.endswith("In"):
                one["values"] = choose.sample(keys[key], choose.randint(1, min(2, len(keys[key]))))
            made["matchExpressions"].append(one)
    return made


def _port(choose: random.Random) -> Table:
    made: Table = {"protocol": choose.choice(("TCP", "UDP", "SCTP"))} if choose.random() < 0.6 else {}
    kind = choose.random()
    if kind < 0.3:
        made["port"] = choose.choice((80, 81))
    elif kind < 0.5:
        made |= {"port": choose.choice((79, 80, 81)), "endPort": choose.choice((81, 90))}
    elif kind < 0.8:
        made["port"] = choose.choice(("web", "alt", "none"))
    return made


def random_policies(seed: int, pod_keys: Mapping[str, list[str]], space_keys: Mapping[str, list[str]]) -> list[Table]:
    """Some policies that use all there is in the API."""
    choose = random.Random(seed)

    def peer() -> Table:
        kind = choose.random()
        if kind < 0.2:
            block: Table = {"cidr": choose.choice(("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "203.0.113.0/24"))}
            if choose.random() < 0.5 and block["cidr"] != "203.0.113.0/24":
                block["except"] = choose.choice((["10.1.0.2/32"], ["10.1.0.0/30"], ["10.1.0.1/32", "10.1.0.3/32"]))
            return {"ipBlock": block}
        made: Table = {}
        if kind < 0.75:
            made["podSelector"] = _selector(choose, pod_keys)
        if kind > 0.5:
            made["namespaceSelector"] = _selector(choose, space_keys)
        return made

    def rule(key: str) -> Table:
        made: Table = {}
        if choose.random() < 0.8:
            made[key] = [peer() for _ in range(choose.choice((0, 1, 1, 2)))]
        if choose.random() < 0.6:
            made["ports"] = [_port(choose) for _ in range(choose.choice((0, 1, 1, 2)))]
        return made

    found = []
    for number in range(choose.randint(1, 5)):
        spec: Table = {"podSelector": _selector(choose, pod_keys)}
        if choose.random() < 0.7:
            spec["policyTypes"] = choose.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"], []))
        for side, key in (("ingress", "from"), ("egress", "to")):
            if choose.random() < 0.6:
                spec[side] = [rule(key) for _ in range(choose.choice((0, 1, 1, 2)))]
        metadata = {"name": f"p{number}", "namespace": choose.choice("xyz")}
        found.append({"kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    return found
