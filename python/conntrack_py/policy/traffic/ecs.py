"""Findings as documents of the Elastic Common Schema (ECS 8), as `rust/output/src/ecs.rs` has connections."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from conntrack_py.policy.traffic.findings import Finding
from conntrack_py.schema import exact, moment

VERSION = "8.11.0"
#: `network.transport` of services that have another name there.
_TRANSPORTS = {"icmp6": "ipv6-icmp"}


def document(finding: Finding) -> dict[str, Any]:
    """A finding: the source is the host that initiates. Facts that ECS has no names for are below `conntrack_py`."""
    port, _, proto = finding.service.partition("/")
    transport = proto or finding.service.split()[0]
    destination: dict[str, Any] = {"address": finding.destination, "ip": finding.destination}
    if proto and port.isdecimal():
        destination["port"] = int(port)
    calls = "connection" if finding.connections == 1 else "connections"
    what = f"{finding.server} initiates to {finding.destination}, {finding.service}"
    return {
        "@timestamp": moment(finding.first),
        "ecs": {"version": VERSION},
        "message": f"{what}: {finding.connections:,} {calls}",
        "tags": list(finding.marks),
        "event": {
            "kind": "alert",
            "category": ["network"],
            "type": ["info"],
            "action": f"{finding.role}_initiates",
            "module": "conntrack_py",
            "dataset": "conntrack_py.finding",
            "start": moment(finding.first),
            "end": moment(finding.last),
        },
        "source": {"address": finding.server, "ip": finding.server},
        "destination": destination,
        "network": {
            "transport": _TRANSPORTS.get(transport, transport),
            "type": f"ipv{ipaddress.ip_address(finding.server).version}",
        },
        "related": {"ip": [finding.server, finding.destination]},
        "conntrack_py": {
            "role": finding.role,
            "service": finding.service,
            "connections": finding.connections,
            "period": finding.period,
            "score": finding.score,
            "offers": list(finding.offers),
            "breaks": finding.breaks,
        },
    }


def lines(findings: Iterable[Finding]) -> str:
    """A document a line."""
    return "".join(json.dumps(exact(document(one)), separators=(",", ":")) + "\n" for one in findings)
