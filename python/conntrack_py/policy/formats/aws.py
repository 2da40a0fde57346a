"""AWS security groups: the JSON of `aws ec2 describe-security-groups`, written and read.

A security group has no addresses: it holds for what it is attached to. The members of a group are kept as tags.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.formats.common import (
    EVERYWHERE,
    Written,
    all_types,
    by_side,
    complaint,
    number_of,
    open_sides,
    overlaps,
    unique,
    valid_name,
    versions,
    word_of,
)
from conntrack_py.policy.formats.normal import merged_rules
from conntrack_py.policy.model import ANY, SIDES, WITH_TYPES, Group, Numbered, Rule, Ruleset, Side, merged

#: The tag with the name of a group, which AWS may not allow as the name of a security group.
NAME_TAG = "conntrack-py:group"
#: The tag with the members; more of them have numbers behind it.
MEMBERS_TAG = "conntrack-py:members"
_TAG, _TAGS = 256, 50
_NOT_IN_TEXT = re.compile(r"[^a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]")
_TEXT = 255
_KEYS: dict[Side, str] = {"ingress": "IpPermissions", "egress": "IpPermissionsEgress"}
_RANGES = {"ipv4": ("IpRanges", "CidrIp"), "ipv6": ("Ipv6Ranges", "CidrIpv6"), "group": ("UserIdGroupPairs", "GroupId")}
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
    for name in ruleset.groups:
        for side in SIDES:
            for numbered in rules[name, side]:
                _add(found, ruleset, numbered, warnings)
            if side in open_sides(ruleset, name):
                for version, cidr in EVERYWHERE.items():
                    found[Permission(name, side, "-1", None, f"ipv{version}", cidr, "")] = ""
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


def _id(name: str) -> str:
    return "sg-" + hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:17]


def write(ruleset: Ruleset, group: str | None = None) -> Written:
    """Write the security groups as AWS describes them."""
    warnings = general_warnings(ruleset)
    allowed: dict[tuple[str, Side], list[Permission]] = {}
    for permission in permissions(ruleset, warnings):
        allowed.setdefault((permission.group, permission.side), []).append(permission)
    names = group_names(ruleset)
    described = []
    for name in ruleset.groups:
        tags = tags_of(ruleset, name, warnings)
        described.append(
            {
                "Description": "generated by conntrack-py policy",
                "GroupName": names[name],
                "GroupId": _id(name),
                **{key: _described(allowed.get((name, side), [])) for side, key in _KEYS.items()},
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        )
    return Written(json.dumps({"SecurityGroups": described}, indent=2, ensure_ascii=False) + "\n", warnings)


def _described(allowed: list[Permission]) -> list[dict[str, Any]]:
    """Permissions of one direction, with the peers of the same protocol and ports together, as AWS has them."""
    found: dict[tuple[str, tuple[int, int] | None], dict[str, Any]] = {}
    for permission in allowed:
        ports = {} if permission.ports is None else dict(zip(("FromPort", "ToPort"), permission.ports, strict=True))
        empty: dict[str, Any] = {"IpProtocol": permission.proto, **ports}
        empty |= {"IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": []}
        entry = found.setdefault((permission.proto, permission.ports), empty)
        ranges, key = _RANGES[permission.kind]
        peer = {key: _id(permission.peer) if permission.kind == "group" else permission.peer}
        entry[ranges].append(peer | ({"Description": permission.note} if permission.note else {}))
    return list(found.values())


def read(text: str, name: str = "") -> tuple[Ruleset, list[str]]:
    """Read security groups as AWS describes them.

    Raises:
        PolicyError: It is no such document.
    """
    where = f"{name}: " if name else ""
    try:
        described = json.loads(text)["SecurityGroups"]
        return _Reader(described, name).ruleset()
    except json.JSONDecodeError as error:
        raise PolicyError(f"{name}:{error.lineno}: not JSON: {error}" if name else f"not JSON: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise PolicyError(f"{where}not what `aws ec2 describe-security-groups` gives: {why}") from error


class _Reader:
    """Security groups by their id."""

    def __init__(self, described: list[dict[str, Any]], source: str) -> None:
        self.described = described
        self.source = source
        self.warnings: list[str] = []
        self.names: dict[str, str] = {}
        for group in described:
            tags = _tags(group)
            name = valid_name(str(tags.get(NAME_TAG) or group.get("GroupName") or group["GroupId"]))
            if name in self.names.values():
                name = f"{name} ({group['GroupId']})"
            self.names[group["GroupId"]] = name

    def ruleset(self) -> tuple[Ruleset, list[str]]:
        """The policy, and the warnings."""
        groups = {}
        without = []
        for described in self.described:
            name = self.names[described["GroupId"]]
            members = self.members(described)
            if not members:
                without.append(name)
            rules = {side: self.rules(described.get(key) or [], f"{name} {side}") for side, key in _KEYS.items()}
            if NAME_TAG not in _tags(described) and any(_is_first_egress(rule) for rule in rules["egress"]):
                self.warnings.append(f"{name} egress: AWS's rule that allows all of IPv4 is read as one `to any`")
                own = (replace(rule, peers=(ANY,)) if _is_first_egress(rule) else rule for rule in rules["egress"])
                rules["egress"] = merged_rules(own)
            groups[name] = Group(members=members, ingress=rules["ingress"], egress=rules["egress"])
        if without:
            self.warnings.append(f"AWS knows no members: add those of {', '.join(without)}")
        for name in self.names.values():
            if name not in groups:
                self.warnings.append(f"{name} is a peer and not described: kept as a group without members or limits")
                groups[name] = Group(ingress_default="allow", egress_default="allow")
        return Ruleset(groups=groups, default="deny", source=self.source), self.warnings

    def members(self, described: dict[str, Any]) -> tuple[str, ...]:
        """The members that tags keep."""
        tags = _tags(described)
        words = [word for key in sorted(tags, key=_tag_order) if _tag_order(key)[0] for word in tags[key].split()]
        return tuple(dict.fromkeys(str(ipaddress.ip_network(word, strict=False)) for word in words))

    def rules(self, permissions: list[dict[str, Any]], place: str) -> tuple[Rule, ...]:
        """The rules of a direction, merged."""
        found = []
        for permission in permissions:
            proto, ports = self.service(permission, place)
            for prefix in permission.get("PrefixListIds") or []:
                self.warnings.append(f"{place}: what prefix list {prefix['PrefixListId']} holds is not known: left out")
            for ranges, key in _RANGES.values():
                found += [
                    Rule(peers=(self.peer(key, peer),), proto=proto, ports=ports, note=peer.get("Description") or "")
                    for peer in permission.get(ranges) or []
                ]
        return merged_rules(found)

    def service(self, permission: dict[str, Any], place: str) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Protocol and ports."""
        word = str(permission["IpProtocol"]).lower()
        first, last = int(permission.get("FromPort", -1)), int(permission.get("ToPort", -1))
        proto = {"-1": ANY, "icmpv6": "icmp6"}.get(word) or (word_of(int(word)) if word.isdecimal() else word)
        if proto != ANY:
            number_of(proto)  # raises for a word that is none
        if proto in WITH_TYPES and first != -1:
            if last != -1:
                self.warnings.append(f"{place}: {proto} type {first} code {last}: widened to all codes of the type")
            return proto, ((first, first),)
        if proto in ("tcp", "udp") and first != -1:
            if not 0 <= first <= last <= 65535:
                raise ValueError(f"ports from {first} to {last}")
            return proto, ((first, last),)
        return proto, ()

    def peer(self, key: str, found: dict[str, Any]) -> str:
        """A network, or a group, which may be one of another account."""
        if key != "GroupId":
            return str(ipaddress.ip_network(found[key], strict=False))
        return self.names.setdefault(found[key], valid_name(found[key]))


def _is_first_egress(rule: Rule) -> bool:
    """Whether it is the rule that AWS gives every new group of a network without IPv6."""
    return rule.proto == ANY and EVERYWHERE[4] in rule.peers


def _tags(described: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags") or []}


def _tag_order(key: str) -> tuple[bool, int]:
    match = re.fullmatch(rf"{MEMBERS_TAG}(?::(\d+))?", key)
    return (False, 0) if match is None else (True, int(match[1] or 1))
