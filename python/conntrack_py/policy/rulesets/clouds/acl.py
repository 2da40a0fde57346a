"""Network ACLs of AWS as rules at the ends of subnets.

Entries are asked in the order of their number, the first that matches decides, and replies need entries of their own.
Packets within a subnet are not looked at. Source: https://docs.aws.amazon.com/vpc/latest/userguide/vpc-network-acls.html.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from conntrack_py.policy.rulesets.clouds.aws import unfiltered
from conntrack_py.policy.rulesets.clouds.model import SIDES, CloudRule, Ends, Scope, Service, Side
from conntrack_py.policy.rulesets.spans import Spans

_LAST = 32_767


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of an ACL.

    Attributes:
        side: Its direction.
        number: Its place.
        action: Its verdict.
        peers: The other end.
        service: Protocol, ports and types.
        partial: A condition that is not expressed, or "".
        text: The peers in words.
        line: Its line.
    """

    side: Side
    number: int
    action: Literal["accept", "drop", "unknown"]
    peers: Ends
    service: Service
    partial: str = ""
    text: str = ""
    line: int | None = None


def scope_of(name: str, entries: Iterable[Entry], subnets: tuple[Spans, ...], line: int | None) -> Scope:
    """An ACL of subnets, with what AWS adds: what it never filters, and the denial of the rest."""
    rules: list[CloudRule] = []
    for side in SIDES:
        rules += unfiltered(side)
    listed = [
        CloudRule(
            name=f"{name} {entry.number}",
            side=entry.side,
            action=entry.action,
            order=(entry.number,),
            peers=entry.peers,
            services=(entry.service,),
            partial=entry.partial,
            text=entry.text,
            line=entry.line,
        )
        for entry in entries
    ]
    rules += sorted(listed, key=lambda rule: rule.order)
    for side in SIDES:
        rules.append(
            CloudRule(name=f"{name} *", side=side, action="drop", order=(_LAST + 1,), text="the rest", implied=True)
        )
    return Scope(
        name=name,
        vendor="nacl",
        rules=tuple(rules),
        members=Ends(names=(name,)),
        tracks=False,
        subnets=subnets,
        line=line,
    )
