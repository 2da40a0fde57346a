"""Random policies about the hosts of a capture."""

from __future__ import annotations

import ipaddress
import random

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.model import Group, Rule


def random_policy(seed: int, table: ct.ConnectionTable) -> Policy:
    """Groups that nest and share addresses, and any rules, about the hosts and ports of a capture."""
    choose = random.Random(seed)
    addresses = sorted({*table["orig_addr"], *table["resp_addr"]})
    ports = sorted({int(port) for port in table["resp_port"]} | {int(port) for port in table["orig_port"]})

    def network() -> str:
        address = ipaddress.ip_address(choose.choice(addresses))
        length = choose.choice([address.max_prefixlen, address.max_prefixlen, address.max_prefixlen - 1, 24, 0])
        return str(ipaddress.ip_network(f"{address}/{length}", strict=False))

    def rule() -> Rule:
        proto = choose.choice(["any", "tcp", "tcp", "udp", "icmp", "icmp6", "sctp"])
        low = choose.choice(ports)
        some = [(low, low), (min(low, 1000), max(low, 1000))]
        types = [(8, 8), (128, 129), (0, 255)]
        listed = {"any": [], "icmp": types, "icmp6": types}.get(proto, some)
        return Rule(
            peers=tuple(
                {choose.choice(["any", "a", "b", "c", network(), network()]) for _ in range(choose.choice([1, 2]))}
            ),
            proto=proto,
            ports=(choose.choice(listed),) if listed and choose.random() < 0.7 else (),
        )

    def rules() -> tuple[Rule, ...]:
        return tuple(rule() for _ in range(choose.choice([0, 1, 3])))

    shared = network()
    groups = {
        name: Group(
            members=tuple({network(), *([shared] if choose.random() < 0.5 else [])}),
            ingress=rules(),
            egress=rules(),
            egress_default=choose.choice([None, "allow"]),
        )
        for name in ("a", "b", "c")
    }
    return Policy(groups=groups, default=choose.choice(["deny", "allow"]))
