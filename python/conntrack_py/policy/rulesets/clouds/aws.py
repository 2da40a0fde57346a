"""AWS security groups as rules at the ends: what `aws ec2 describe-security-groups` prints, and Terraform's resources.

Groups have rules that allow, the groups of an address add up, and packets of open connections pass. Source:
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html, which also lists what groups do not filter:
the DNS server of the VPC, DHCP, metadata of instances and tasks, Windows licences, and the Time Sync service.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from conntrack_py.policy.rulesets.clouds.chains import firewall_of
from conntrack_py.policy.rulesets.clouds.model import ANYBODY, SIDES, Cloud, CloudRule, Ends, Scope, Service, Side
from conntrack_py.policy.rulesets.foreign import plain
from conntrack_py.policy.rulesets.model import Firewall, Match, protocol
from conntrack_py.policy.rulesets.parsed import Piece
from conntrack_py.policy.rulesets.spans import Spans, of_networks, union

#: The scope of all groups, which add up.
SCOPE = "security groups"
_COMMAND = "`aws ec2 describe-security-groups`"
_KEYS: dict[Side, str] = {"ingress": "IpPermissions", "egress": "IpPermissionsEgress"}
#: Addresses of services that no group filters: metadata, DNS, time, Windows licences, tasks.
_SERVICES = of_networks(
    ipaddress.ip_network(word)
    for word in (
        "169.254.169.254",
        "169.254.169.253",
        "169.254.169.123",
        "169.254.169.250",
        "169.254.169.251",
        "169.254.170.2",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::123",
        "fd00:ec2::250",
        "fd00:ec2::251",
    )
)
_UDP, _BOTH = frozenset(("udp",)), frozenset(("tcp", "udp"))
_DHCP = (Match(protos=_UDP, dports=((67, 68), (546, 547))),)
#: Addresses that a VPC may have (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html); its server for
#: DNS has the second one of them.
_PRIVATE = of_networks(
    map(ipaddress.ip_network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16"))
)
_DNS = (Match(protos=_BOTH, dports=((53, 53),)),)


def unfiltered(side: Side) -> Iterator[CloudRule]:
    """The rules for packets that AWS lets pass before all others."""

    def one(name: str, networks: Spans | None, services: tuple[Service, ...], partial: str = "") -> CloudRule:
        return CloudRule(
            name=name,
            side=side,
            action="accept",
            order=(-2,),
            peers=ANYBODY if networks is None else Ends(networks=networks),
            services=services,
            partial=partial,
            implied=True,
        )

    yield one("services of AWS", _SERVICES, (Match(),))
    yield one("DHCP", None, _DHCP)
    if side == "egress":
        yield one("DNS server of the VPC", _PRIVATE, _DNS, "its address is not told")


@dataclass(frozen=True, kw_only=True)
class Permission:
    """A permission of a security group.

    Attributes:
        group: The name of the group.
        side: Its direction.
        peers: The other end.
        service: Protocol and ports.
        partial: A condition that is not expressed, or "".
        name: The id of the rule, or the place in its list.
        line: Its line.
    """

    group: str
    side: Side
    peers: Ends
    service: Service
    partial: str = ""
    name: str
    line: int | None = None


def scope_of(groups: Mapping[str, int | None], permissions: Iterable[Permission]) -> Scope:
    """All groups, which are names with lines, and their permissions."""
    rules: list[CloudRule] = []
    for side in SIDES:
        rules += unfiltered(side)
    for permission in permissions:
        is_in = permission.side == "ingress"
        rules.append(
            CloudRule(
                name=f"{permission.group} {permission.name}",
                side=permission.side,
                action="accept",
                order=(0,),
                own=Ends(names=(permission.group,)),
                peers=permission.peers,
                services=(permission.service,),
                partial=permission.partial,
                text=f"{'from' if is_in else 'to'} {ends_text(permission.peers)}",
                line=permission.line,
            )
        )
    for side in SIDES:
        rules.append(
            CloudRule(name=f"no rule of {side}", side=side, action="drop", order=(1,), text="the rest", implied=True)
        )
    first = next(iter(groups.values()), None)
    members = Ends(names=tuple(groups))
    return Scope(name=SCOPE, vendor="aws", rules=tuple(rules), members=members, adds_up=True, line=first)


def ends_text(ends: Ends) -> str:
    """An end, in words."""
    from conntrack_py.policy.rulesets.spans import address_text

    words = [address_text(ends.networks)] if ends.networks else []
    return ", ".join([*words, *ends.names[:4]]) or "nobody"


def from_groups_json(text: str, name: str = "") -> Firewall:
    """Read security groups.

    Raises:
        PolicyError: It is no such document.
    """
    document = Piece.of_json(text, name)
    listed = document.get("SecurityGroups") if isinstance(document.value, dict) else document
    if not isinstance(listed.value, list):
        listed.expected(f"a list SecurityGroups, as {_COMMAND} writes it")
    groups: dict[str, int | None] = {}
    aliases: dict[str, str] = {}
    permissions: list[Permission] = []
    for group in listed.items():
        group.table()
        own = plain(group.get("GroupId").word("the id of a security group"))
        groups[own] = group.line
        given = group.get("GroupName").value
        if isinstance(given, str) and given not in aliases:
            aliases[plain(given)] = own
        for side, key in _KEYS.items():
            for at, permission in enumerate(group.get(key).items("a list of permissions")):
                permissions.append(_permission(own, side, at, permission))
    cloud = Cloud(name=name, scopes=(scope_of(groups, permissions),), aliases=aliases)
    return firewall_of(cloud, "security-groups")


def _permission(group: str, side: Side, at: int, found: Piece) -> Permission:
    found.table()
    networks = [
        one.get(key).network()
        for ranges, key in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"))
        for one in found.get(ranges).items("a list of networks")
    ]
    names = [
        plain(one.get(key).word("an id"))
        for ranges, key in (("UserIdGroupPairs", "GroupId"), ("PrefixListIds", "PrefixListId"))
        for one in found.get(ranges).items("a list of peers")
    ]
    service, partial = service_of(found.get("IpProtocol"), found.get("FromPort"), found.get("ToPort"))
    return Permission(
        group=group,
        side=side,
        peers=Ends(networks=of_networks(networks), names=tuple(dict.fromkeys(names))),
        service=service,
        partial=partial,
        name=f"{side}[{at}]",
        line=found.line,
    )


def service_of(proto: Piece, first: Piece, last: Piece) -> tuple[Service, str]:
    """Protocol and ports of a permission, and what of it is not expressed.

    Raises:
        PolicyError: They are none.
    """
    word = protocol(proto.word("a protocol, such as tcp, its number, or -1"))
    if word in ("-1", "all"):
        return Match(), ""
    if not re.fullmatch(r"[a-z0-9-]{1,20}", word):
        proto.expected("a protocol, such as tcp, its number, or -1")
    protos = frozenset((word,))
    if word in ("icmp", "icmp6"):
        if first.value in (None, -1):
            return Match(protos=protos), ""
        kind = first.number(0, 255, "an ICMP type from 0 to 255, or -1")
        code = -1 if last.value is None else last.number(-1, 255, "an ICMP code from 0 to 255, or -1")
        return Match(protos=protos, types=((kind, kind),)), "" if code in (-1, 0) and kind in _NO_CODES else (
            "" if code == -1 else f"of code {code}"
        )
    if word not in ("tcp", "udp") or first.value in (None, -1):
        return Match(protos=protos), ""
    low = first.number(0, 65535, "a port from 0 to 65535, or -1 for all")
    high = last.number(low, 65535, f"a port from {low} to 65535")
    return Match(protos=protos, dports=union(((low, high),))), ""


#: Types of ICMP whose only code is 0 (RFC 792).
_NO_CODES = (0, 8, 13, 14)
