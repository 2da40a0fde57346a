"""Connections that others announce: FTP data, TFTP, media of calls. Their ports are of the moment, and no rules.

A gateway lets them pass as `related` where a helper reads the messages that announce them (`nf_conntrack_ftp` and the
like). Where the messages are encrypted, or no helper can be had, the server's passive range is a rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack_py import text
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import HELPERS as IN_LINUX
from conntrack_py.policy.model import Side
from conntrack_py.policy.traffic.pairs import Traffic
from conntrack_py.policy.traffic.services import HELPERS

#: Services whose messages are encrypted from the first on (RFC 4217): no helper reads them.
_ENCRYPTED = {("tcp", 990)}


@dataclass(frozen=True, kw_only=True)
class Helper:
    """A service of a group, or one that a group uses, whose connections announce others.

    Attributes:
        name: The helper's name in Linux: `ftp`, `tftp`, `sip`, ...; "": there is none, or the service is unknown.
        group: The group of the hosts.
        side: `ingress`: its members offer the service; `egress`: they use it.
        service: The protocol and port of the service.
        connections: Announced connections.
        ports: The lowest and highest port that they went to.
    """

    name: str
    group: str
    side: Side
    service: tuple[str, int]
    connections: int
    ports: tuple[int, int]

    @property
    def words(self) -> str:
        """The advice, as a note of the service's rule."""
        first, last = self.ports
        seen = f"announces connections ({self.connections:,} seen, ports {first}-{last})"
        if self.service in _ENCRYPTED:
            return f"{seen} in encrypted messages: no helper reads them, allow the server's passive range"
        if self.name not in IN_LINUX:
            return f"{seen}; Linux has no helper for it: allow the range of its ports"
        ways = f"nftables: ct helper, iptables: -j CT --helper {self.name}"
        passive = ", or allow the server's passive range" if self.name == "ftp" else ""
        return f"{seen}: needs the helper {self.name} ({ways}){passive}"


def helpers(traffic: Traffic, membership: Membership) -> list[Helper]:
    """The services whose connections announced others, by group and direction."""
    found: dict[tuple[str, Side, tuple[str, int]], list[int]] = {}
    for row, parent in _parents(traffic).items():
        service = traffic.service_of(int(traffic.services[parent]))
        if traffic.resp_group[parent]:
            continue
        for side, number in (("ingress", traffic.resp[parent]), ("egress", traffic.orig[parent])):
            for name in membership.of(traffic.addresses[number]):
                found.setdefault((name, side, service), []).append(row)  # type: ignore[arg-type]
    return [
        Helper(
            name=HELPERS.get(service, ""),
            group=name,
            side=side,
            service=service,
            connections=len(rows),
            ports=(int(traffic.service[rows].min()), int(traffic.service[rows].max())),
        )
        for (name, side, service), rows in sorted(found.items())
    ]


def _parents(traffic: Traffic) -> dict[int, int]:
    """Announced connections → the one that announced each: as the table has it, or between the same two hosts."""
    rows = np.flatnonzero(traffic.because("announced"))
    parents = traffic.table.parents()
    controls: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(traffic.is_service(HELPERS) & traffic.answered).tolist():
        ends = int(traffic.orig[row]), int(traffic.resp[row])
        controls.setdefault(ends, row)
        controls.setdefault(ends[::-1], row)
    found = {}
    for row in rows.tolist():
        parent: int | None = int(parents[row])
        if parents[row] < 0:
            parent = controls.get((int(traffic.orig[row]), int(traffic.resp[row])))
        if parent is not None:
            found[row] = parent
    return found


def notes(found: list[Helper]) -> dict[tuple[str, Side, str, int], str]:
    """The advice by the group, direction and service of a rule."""
    return {(one.group, one.side, *one.service): one.words for one in found}


def of_rules(found: list[Helper]) -> dict[tuple[str, Side, str, int], str]:
    """The helpers of rules by their group, direction and service; none of what no helper reads."""
    return {
        (one.group, one.side, *one.service): one.name
        for one in found
        if one.service not in _ENCRYPTED and one.service[0] in IN_LINUX.get(one.name, ())
    }


def as_json(one: Helper) -> dict[str, object]:
    """A helper as what `json` takes."""
    return {
        "helper": one.name,
        "group": one.group,
        "side": one.side,
        "service": text.service(*one.service),
        "connections": one.connections,
        "ports": list(one.ports),
        "advice": one.words,
    }
