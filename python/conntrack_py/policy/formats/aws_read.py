"""AWS security groups, read: the JSON of `aws ec2 describe-security-groups`."""

from __future__ import annotations

import re
from dataclasses import replace

from conntrack_py.policy.formats.aws import KEYS, MEMBERS_TAG, NAME_TAG, RANGES, made_id
from conntrack_py.policy.formats.common import (
    EVERYWHERE,
    apart,
    cleaned,
    number_of,
    plain,
    valid_name,
    word_of,
)
from conntrack_py.policy.formats.normal import merged_rules
from conntrack_py.policy.model import ANY, WITH_TYPES, Group, Rule, Ruleset
from conntrack_py.policy.rulesets.parsed import Piece

_COMMAND = "`aws ec2 describe-security-groups`"


def read(text: str, name: str = "") -> tuple[Ruleset, list[str]]:
    """Read security groups as AWS describes them.

    Raises:
        PolicyError: It is no such document.
    """
    document = Piece.of_json(text, name)
    if not isinstance(document.value, dict) or not isinstance(document.value.get("SecurityGroups"), list):
        what = f"a list SecurityGroups, as {_COMMAND} writes it"
        (document.get("SecurityGroups") if isinstance(document.value, dict) else document).expected(what)
    return _Reader(document.get("SecurityGroups").items(), name).ruleset()


class _Reader:
    """Security groups by their id."""

    def __init__(self, described: list[Piece], source: str) -> None:
        self.described = described
        self.source = source
        self.warnings: list[str] = []
        names: dict[str, str] = {}
        for group in described:
            group.table()
            own = group.get("GroupId")
            if not isinstance(own.value, str):
                own.expected("the id of a security group")
            if own.value in names:
                own.refuse("is there twice")
            given = _tags(group).get(NAME_TAG) or group.get("GroupName").value or own.value
            given = Piece(own.source, given, group.get("GroupName").path).word("a name")
            names[own.value] = valid_name(cleaned(given, f"the name of {own.value[:60]}", self.warnings))
        self.names = apart(names)
        self.taken = {*self.names.values()}

    def ruleset(self) -> tuple[Ruleset, list[str]]:
        """The policy, and the warnings."""
        groups = {}
        without = []
        for described in self.described:
            name = self.names[described.get("GroupId").value]
            members = self.members(described)
            if not members:
                without.append(name)
            rules = {side: self.rules(described.get(key), f"{name} {side}") for side, key in KEYS.items()}
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
        return Ruleset(groups=groups, default="deny", combine="any", source=self.source), self.warnings

    def members(self, described: Piece) -> tuple[str, ...]:
        """The members that tags keep."""
        tags = _tags(described)
        kept = described.get("Tags")
        words = [word for key in sorted(tags, key=_tag_order) if _tag_order(key)[0] for word in tags[key].split()]
        return tuple(dict.fromkeys(str(Piece(kept.source, word, kept.path).network()) for word in words))

    def rules(self, permissions: Piece, place: str) -> tuple[Rule, ...]:
        """The rules of a direction, merged."""
        found = []
        for permission in permissions.items("a list of permissions"):
            proto, ports = self.service(permission, place)
            for prefix in permission.get("PrefixListIds").items("a list of prefix lists"):
                named = plain(prefix.get("PrefixListId").word()[:60])
                self.warnings.append(f"{place}: what prefix list {named} holds is not known: left out")
            for ranges, key in RANGES.values():
                for peer in permission.get(ranges).items("a list of peers"):
                    peer.table()
                    note = peer.get("Description")
                    told = "" if note.value is None else cleaned(note.word(), f"{place}: a description", self.warnings)
                    found.append(Rule(peers=(self.peer(key, peer),), proto=proto, ports=ports, note=told))
        return merged_rules(found)

    def service(self, permission: Piece, place: str) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Protocol and ports."""
        permission.table()
        asked = permission.get("IpProtocol")
        word = asked.word("a protocol, such as tcp, or its number").lower()
        proto = {"-1": ANY, "icmpv6": "icmp6"}.get(word, word)
        try:
            if re.fullmatch("[0-9]{1,3}", proto):
                proto = word_of(int(proto))
            elif proto != ANY:
                number_of(proto)
        except ValueError:
            asked.expected("a protocol, such as tcp, or its number")
        first, last = permission.get("FromPort"), permission.get("ToPort")
        if proto in WITH_TYPES and first.value not in (None, -1):
            kind = first.number(0, 255, "an ICMP type from 0 to 255, or -1")
            code = -1 if last.value is None else last.number(-1, 255, "an ICMP code from 0 to 255, or -1")
            if code != -1:
                self.warnings.append(f"{place}: {proto} type {kind} code {code}: widened to all codes of the type")
            return proto, ((kind, kind),)
        if proto in ("tcp", "udp") and first.value not in (None, -1):
            low = first.number(0, 65535, "a port from 0 to 65535, or -1 for all")
            high = last.number(low, 65535, f"a port from {low}, which is FromPort, to 65535")
            return proto, ((low, high),)
        if proto in ("tcp", "udp") and last.value not in (None, -1):
            first.expected("a port, as there is a ToPort")
        return proto, ()

    def peer(self, key: str, found: Piece) -> str:
        """A network, or a group, which may be one of another account."""
        if key != "GroupId":
            return str(found.get(key).network())
        own = found.get(key).word("the id of a security group")
        if own not in self.names:
            # A name is more than an id that was made of it, as only this program writes them.
            name = found.get("GroupName").value
            told = name if isinstance(name, str) and made_id(name) == own else own
            name = valid_name(cleaned(told, f"the id {own[:60]}", self.warnings))
            while name in self.taken:
                name = f"{name} ({plain(own)})"
            self.taken.add(name)
            self.names[own] = name
        return self.names[own]


def _is_first_egress(rule: Rule) -> bool:
    """True for the default egress rule that AWS gives new groups of networks without IPv6."""
    return rule.proto == ANY and EVERYWHERE[4] in rule.peers


def _tags(described: Piece) -> dict[str, str]:
    tags = {}
    for tag in described.get("Tags").items("a list of tags"):
        tag.table()
        tags[tag.get("Key").word()] = tag.get("Value").word()
    return tags


def _tag_order(key: str) -> tuple[bool, int]:
    match = re.fullmatch(rf"{MEMBERS_TAG}(?::([0-9]{{1,4}}))?", key)
    return (False, 0) if match is None else (True, int(match[1] or 1))
