"""Reads network ACLs as `aws ec2 describe-network-acls` lists them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NoReturn

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.model import WITH_TYPES
from conntrack_py.policy.rulesets.clouds import acl as acl_rules
from conntrack_py.policy.rulesets.clouds.acl import Entry
from conntrack_py.policy.rulesets.clouds.model import Cloud, Ends, Scope
from conntrack_py.policy.rulesets.foreign import load_json, plain, shown
from conntrack_py.policy.rulesets.model import ALL_TYPES, Chain, Direction, Firewall, FirewallRule, Match, protocol
from conntrack_py.policy.rulesets.spans import ALL_PORTS, Spans, of_networks

_SIDES: tuple[tuple[bool, Direction, str], ...] = ((False, "ingress", "input"), (True, "egress", "output"))
#: Protocols whose entries may name ports.
_WITH_PORTS = ("tcp", "udp")


class _EntryError(Exception):
    """A key and what is wrong with it."""


def from_nacl_json(text: str, name: str = "") -> Firewall:
    """Read the JSON of `aws ec2 describe-network-acls`.

    Raises:
        PolicyError: It is no such JSON; the message has the key.
    """
    document = load_json(text, name)
    from conntrack_py.policy import yaml_places

    lines = yaml_places.lines(text) if "\n" in text.strip() else {}
    try:
        listed = _list(document, "NetworkAcls", "")
        chains = [chain for number, acl in enumerate(listed) for chain in _chains(acl, number, lines)]
        scopes = tuple(_scope(acl, number, lines) for number, acl in enumerate(listed))
    except _EntryError as fault:
        key, why = fault.args
        line = lines.get(key)
        where = f"{name or 'line'}:{line}: " if line and name else f"{name}: " if name else ""
        raise PolicyError(f"{where}{key}: {why}") from None
    return Firewall(
        name=name, family="nacl", chains=tuple(chains), stateless=True, scopes=Cloud(name=name, scopes=scopes)
    )


def _refuse(key: str, found: object, expected: str) -> NoReturn:
    raise _EntryError(key, f"found {shown(found)}, expected {expected}")


def _list(holder: Any, name: str, under: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    key = f"{under}.{name}" if under else name
    if not isinstance(found, list):
        _refuse(key, found, "a list, as `aws ec2 describe-network-acls` writes it")
    return found


def _chains(acl: Any, number: int, lines: dict[str, int]) -> Iterator[Chain]:
    key = f"NetworkAcls[{number}]"
    entries = [_entry(entry, f"{key}.Entries[{n}]") for n, entry in enumerate(_list(acl, "Entries", key))]
    ordered = sorted(enumerate(entries), key=lambda one: one[1][1])
    named = acl.get("NetworkAclId", key)
    if not isinstance(named, str):
        _refuse(f"{key}.NetworkAclId", named, "the id of a network ACL")
    scope = plain(named)
    for egress, direction, hook in _SIDES:
        name = f"{scope} {direction}"
        rules = [
            FirewallRule(
                chain=f"{name} rule {order}",
                direction=direction,
                match=match,
                verdict=verdict,
                text=text,
                line=lines.get(f"{key}.Entries[{n}]"),
            )
            for n, (out, order, verdict, match, text) in ordered
            if out == egress
        ]
        yield Chain(name=name, hook=hook, policy="drop", rules=tuple(rules), scope=scope, line=lines.get(key))


def _scope(acl: Any, number: int, lines: dict[str, int]) -> Scope:
    key = f"NetworkAcls[{number}]"
    listed = []
    for n, entry in enumerate(acl["Entries"]):
        out, order, verdict, match, text = _entry(entry, f"{key}.Entries[{n}]")
        words = text.split()
        listed.append(
            Entry(
                side="egress" if out else "ingress",
                number=order,
                action=verdict,
                peers=Ends(networks=match.daddr if out else match.saddr),
                service=Match(protos=match.protos, dports=match.dports, types=match.types),
                partial="of some codes" if match.partial else "",
                text=" ".join(words[-2:]),
                line=lines.get(f"{key}.Entries[{n}]"),
            )
        )
    return acl_rules.scope_of(plain(str(acl.get("NetworkAclId", key))), listed, (), lines.get(key))


_Entry = tuple[bool, int, Literal["accept", "drop"], Match, str]


def _entry(entry: Any, key: str) -> _Entry:
    if not isinstance(entry, dict):
        _refuse(key, entry, "an entry with RuleNumber, Protocol, Egress, RuleAction")
    egress, order, action = entry.get("Egress"), entry.get("RuleNumber"), entry.get("RuleAction")
    if not isinstance(egress, bool):
        _refuse(f"{key}.Egress", egress, "true or false")
    if not isinstance(order, int):
        _refuse(f"{key}.RuleNumber", order, "a number")
    if action not in ("allow", "deny"):
        _refuse(f"{key}.RuleAction", action, "allow or deny")
    if not isinstance(entry.get("Protocol"), str | int):
        _refuse(f"{key}.Protocol", entry.get("Protocol"), "a protocol or its number")
    proto = plain(protocol(entry["Protocol"]))
    cidr = entry.get("CidrBlock", entry.get("Ipv6CidrBlock"))
    try:
        peers = of_networks([ipaddress.ip_network(cidr if isinstance(cidr, str) else "", strict=False)])
    except ValueError:
        _refuse(f"{key}.CidrBlock", cidr, "a network")
    ports = _ports(entry, key) if proto in _WITH_PORTS else ALL_PORTS
    protos = None if proto == "-1" else frozenset((proto,))
    types, partial = _types(entry, key) if proto in WITH_TYPES else (ALL_TYPES, False)
    given = Match(protos=protos, dports=ports, types=types, partial=partial)
    match = replace(given, daddr=peers) if egress else replace(given, saddr=peers)
    words = [str(order), action, "all" if protos is None else proto]
    if ports != ALL_PORTS:
        words.append("-".join(map(str, dict.fromkeys(ports[0]))))
    words += ["to" if egress else "from", str(cidr)]
    return egress, order, "accept" if action == "allow" else "drop", match, " ".join(words)


def _ports(entry: dict[str, Any], key: str) -> Spans:
    found = entry.get("PortRange")
    if found is None:
        return ALL_PORTS
    first, last = (found.get("From"), found.get("To")) if isinstance(found, dict) else (None, None)
    if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last <= 65535):
        _refuse(f"{key}.PortRange", found, "From and To, ports from 0 to 65535")
    return ((first, last),)


def _types(entry: dict[str, Any], key: str) -> tuple[Spans, bool]:
    """The types of ICMP, and whether some codes only are meant."""
    found = entry.get("IcmpTypeCode")
    if found is None:
        return ALL_TYPES, False
    kind, code = (found.get("Type"), found.get("Code")) if isinstance(found, dict) else (None, None)
    if not (isinstance(kind, int) and -1 <= kind <= 255 and isinstance(code, int) and -1 <= code <= 255):
        _refuse(f"{key}.IcmpTypeCode", found, "Type and Code, numbers from 0 to 255, or -1")
    return ALL_TYPES if kind == -1 else ((kind, kind),), code != -1
