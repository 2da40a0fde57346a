"""AWS security groups, written: the JSON of `aws ec2 describe-security-groups`.

A security group has no addresses: it holds for what it is attached to. The members of a group are kept as tags.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conntrack_py.policy.formats.common import (
    EVERYWHERE,
    Written,
    all_types,
    by_side,
    complaint,
    described,
    is_undescribed,
    number_of,
    open_sides,
    overlaps,
    unique,
    versions,
)
from conntrack_py.policy.model import ANY, SIDES, WITH_TYPES, Numbered, Rule, Ruleset, Side, merged

#: The tag with the name of a group, which AWS may not allow as the name of a security group.
NAME_TAG = "conntrack-py:group"
#: The tag with the members; more of them have numbers behind it.
MEMBERS_TAG = "conntrack-py:members"
_TAG, _TAGS = 256, 50
_NOT_IN_TEXT = re.compile(r"[^a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]")
_TEXT = 255
#: Rules that a security group can have for a direction, unless the account's quota was raised.
_QUOTA = 60
KEYS: dict[Side, str] = {"ingress": "IpPermissions", "egress": "IpPermissionsEgress"}
RANGES = {"ipv4": ("IpRanges", "CidrIp"), "ipv6": ("Ipv6Ranges", "CidrIpv6"), "group": ("UserIdGroupPairs", "GroupId")}
_WORDS = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmp6": "icmpv6", ANY: "-1"}


@dataclass(frozen=True)
class Permission:
    """The least that AWS allows: one protocol, one range of ports, one peer.

    Attributes:
        group: Name of the group.
        side: Direction.
        proto: AWS's word.
        ports: First and last port, or ICMP type and code (-1: all), where the protocol has them.
        kind: What the peer is: `ipv4`, `ipv6` or `group`.
        peer: Network or name of a group.
        note: For people.
    """

    group: str
    side: Side
    proto: str
    ports: tuple[int, int] | None
    kind: str
    peer: str
    note: str


def group_names(ruleset: Ruleset) -> dict[str, str]:
    """The name of the security group for each group: the same, where AWS allows it."""
    return unique(ruleset.groups, _clean_name, _TEXT)


def _clean_name(name: str) -> str:
    made = text_of(name)
    return f"g-{made}" if not made.strip() or made.lower().startswith("sg-") or made == "default" else made


def text_of(text: str) -> str:
    """A text in the characters that AWS allows."""
    return _NOT_IN_TEXT.sub("_", text)[:_TEXT]


def tags_of(ruleset: Ruleset, name: str, warnings: list[str]) -> dict[str, str]:
    """The tags that keep a group's name and members."""
    tags = {NAME_TAG: name[:_TAG]}
    if tags[NAME_TAG] != name:
        warnings.append(f"groups.{name}: the name is too long for a tag: cut to {_TAG} characters")
    values: list[str] = []
    for member in ruleset.groups[name].members:
        if values and len(values[-1]) + 1 + len(member) <= _TAG:
            values[-1] += f" {member}"
        else:
            values.append(member)
    if len(values) + len(tags) > _TAGS:
        warnings.append(f"groups.{name}: has more members than {_TAGS} tags hold: the last are left out")
        values = values[: _TAGS - len(tags)]
    for index, value in enumerate(values):
        tags[MEMBERS_TAG if index == 0 else f"{MEMBERS_TAG}:{index + 1}"] = value
    return tags


def general_warnings(ruleset: Ruleset) -> list[str]:
    """Warnings about what no security group says."""
    found: list[str] = []
    if any(group.members for group in ruleset.groups.values()):
        found.append("AWS knows no members: they are kept as tags, and attaching each security group is up to you")
    return found + overlaps(ruleset, "AWS allows what either of an interface's groups allows")


def permissions(ruleset: Ruleset, warnings: list[str]) -> list[Permission]:
    """All that a policy allows, in the parts that AWS has."""
    found: dict[Permission, str] = {}
    rules = by_side(ruleset)
    for name in described(ruleset):
        for side in SIDES:
            for numbered in rules[name, side]:
                _add(found, ruleset, numbered, warnings)
            if side in open_sides(ruleset, name):
                for version, cidr in EVERYWHERE.items():
                    found[Permission(name, side, "-1", None, f"ipv{version}", cidr, "")] = ""
    for (name, side), count in Counter((permission.group, permission.side) for permission in found).items():
        if count > _QUOTA:
            why = f"{count} rules, and the quota of an account is {_QUOTA} unless it was raised"
            warnings.append(f"groups.{name}.{side}: {why}")
    return [Permission(p.group, p.side, p.proto, p.ports, p.kind, p.peer, note) for p, note in found.items()]


def _add(found: dict[Permission, str], ruleset: Ruleset, numbered: Numbered, warnings: list[str]) -> None:
    rule = numbered.rule
    note = text_of(rule.note)
    if note != rule.note:
        warnings.append(complaint(numbered, "the note was changed: AWS does not allow its characters or its length"))
    proto = _WORDS.get(rule.proto) or str(number_of(rule.proto))
    if proto not in _WORDS.values() and rule.ports:
        warnings.append(complaint(numbered, f"AWS knows no ports of {rule.proto}: widened to all of {rule.proto}"))
    peers = list(_peers(ruleset, rule))
    if not peers:
        warnings.append(complaint(numbered, f"{rule.proto} does not occur between these addresses: left out"))
    for ports in _ports(rule):
        for kind, peer in peers:
            permission = Permission(numbered.group, numbered.side, proto, ports, kind, peer, "")
            if found.setdefault(permission, note) != note:
                why = f"AWS keeps one note for each peer and range of ports; for {peer} it is {found[permission]!r}"
                warnings.append(complaint(numbered, why))


def _peers(ruleset: Ruleset, rule: Rule) -> Iterator[tuple[str, str]]:
    if ANY in rule.peers:
        yield from ((f"ipv{version}", EVERYWHERE[version]) for version in versions(rule.proto))
        return
    for peer in rule.peers:
        if peer in ruleset.groups:
            yield "group", peer
        else:
            network = ipaddress.ip_network(peer)
            if network.version in versions(rule.proto):
                yield f"ipv{network.version}", str(network)


def _ports(rule: Rule) -> Iterator[tuple[int, int] | None]:
    if rule.proto in WITH_TYPES:
        if all_types(rule):
            yield -1, -1
        else:
            for first, last in merged(rule.ports):
                yield from ((one, -1) for one in range(first, last + 1))
    elif rule.proto in ("tcp", "udp"):
        yield from merged(rule.ports) or [(0, 65535)]
    else:
        yield None


def known_id(ruleset: Ruleset, name: str) -> str | None:
    """The id of a security group that is only known as a peer, if its name is one."""
    return name if is_undescribed(ruleset.groups[name]) and re.fullmatch("sg-[0-9A-Za-z]+", name) else None


def made_id(name: str) -> str:
    """An id for a security group, made of its name."""
    return "sg-" + hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:17]


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the security groups as AWS describes them."""
    warnings = general_warnings(ruleset)
    allowed: dict[tuple[str, Side], list[Permission]] = {}
    for permission in permissions(ruleset, warnings):
        allowed.setdefault((permission.group, permission.side), []).append(permission)
    names = group_names(ruleset)
    listed = []
    for name in described(ruleset):
        tags = tags_of(ruleset, name, warnings)
        listed.append(
            {
                "Description": "generated by conntrack-py policy",
                "GroupName": names[name],
                "GroupId": made_id(name),
                **{key: _described(ruleset, allowed.get((name, side), [])) for side, key in KEYS.items()},
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        )
    return Written(json.dumps({"SecurityGroups": listed}, indent=2, ensure_ascii=False) + "\n", warnings)


def _described(ruleset: Ruleset, allowed: list[Permission]) -> list[dict[str, Any]]:
    """Permissions of one direction, with the peers of the same protocol and ports together, as AWS has them."""
    found: dict[tuple[str, tuple[int, int] | None], dict[str, Any]] = {}
    for permission in allowed:
        ports = {} if permission.ports is None else dict(zip(("FromPort", "ToPort"), permission.ports, strict=True))
        empty: dict[str, Any] = {"IpProtocol": permission.proto, **ports}
        empty |= {"IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": []}
        entry = found.setdefault((permission.proto, permission.ports), empty)
        ranges, key = RANGES[permission.kind]
        peer = {key: permission.peer}
        if permission.kind == "group":
            known = known_id(ruleset, permission.peer)
            peer = {key: known or made_id(permission.peer)}
            if known is None and is_undescribed(ruleset.groups[permission.peer]):
                peer["GroupName"] = permission.peer
        entry[ranges].append(peer | ({"Description": permission.note} if permission.note else {}))
    return list(found.values())
