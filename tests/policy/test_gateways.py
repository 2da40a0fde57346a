"""Firewalls with one ordered list: the written rules, asked one after another, decide as the policy does."""

from __future__ import annotations

import ipaddress
import itertools
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings

from conntrack_py.policy import Policy, formats
from conntrack_py.policy.formats.common import UNVERIFIED
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import Group, Network, Rule, Ruleset, Side, member_sets
from support.written_policies import PLAIN_NOTES, rulesets

ADDRESSES = ["10.0.1.1", "10.0.1.200", "10.0.2.9", "10.9.9.9", "192.0.2.7", "203.0.113.5", "2001:db8:1::1", "fd00::9"]
SERVICES = [("tcp", 443), ("tcp", 80), ("tcp", 65535), ("udp", 53), ("udp", 1), ("sctp", 7)]
#: Protocols whose rules all of these firewalls can say exactly.
EXACT = ("any", "tcp", "udp", "sctp")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A rule as it was read: None stands for everything."""

    allows: bool
    sources: list[Network] | None
    targets: list[Network] | None
    services: list[tuple[str, int, int]] | None


def panos(text: str) -> Iterator[Line]:
    addresses: dict[str, list[Network]] = {}
    services: dict[str, tuple[str, int, int]] = {}

    def listed(words: list[str]) -> list[str]:
        if words[0] != "[":
            return [words.pop(0)]
        end = words.index("]")
        found, words[: end + 1] = words[1:end], []
        return found

    def ends(words: list[str]) -> list[Network] | None:
        names = listed(words)
        return None if names == ["any"] else [network for name in names for network in addresses[name]]

    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        match words[1:3]:
            case []:
                continue
            case ["address", name]:
                assert name not in addresses
                addresses[name] = [ipaddress.ip_network(words[4])] if words[3] == "ip-netmask" else []
            case ["address-group", name]:
                assert name not in addresses
                members = [network for one in listed(words[4:]) for network in addresses[one]]
                addresses[name] = members
            case ["service", name]:
                first, _, last = words[6].partition("-")
                services[name] = words[4], int(first), int(last or first)
            case _:
                assert words[:4] == ["set", "rulebase", "security", "rules"]
                rest = words[5:]
                assert [rest.pop(0) for _ in range(5)] == ["from", "any", "to", "any", "source"]
                sources = ends(rest)
                assert rest.pop(0) == "destination"
                targets = ends(rest)
                assert [rest.pop(0) for _ in range(3)] == ["application", "any", "service"]
                names = listed(rest)
                assert rest[0] == "action"
                assert rest[2] == "description"
                assert len(rest) == 4
                yield Line(
                    allows={"allow": True, "deny": False}[rest[1]],
                    sources=sources,
                    targets=targets,
                    services=None if names == ["any"] else [services[name] for name in names],
                )


def sections(text: str) -> dict[str, list[tuple[str, dict[str, list[str]]]]]:
    """Settings by section and entry, of the nested commands of FortiOS: config, edit, set, next, end."""
    found: dict[str, list[tuple[str, dict[str, list[str]]]]] = {}
    section, entry = "", None
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        match words[:1]:
            case []:
                continue
            case ["config"]:
                assert not section
                section = " ".join(words[1:])
                assert section not in found
                found[section] = []
            case ["edit"]:
                assert section
                assert entry is None
                entry = {}
                found[section].append((words[1], entry))
            case ["set"]:
                assert entry is not None
                assert words[1] not in entry
                entry[words[1]] = words[2:]
            case ["next"]:
                assert entry is not None
                entry = None
            case ["end"]:
                assert entry is None
                section = ""
            case _:
                raise AssertionError(line)
    assert not section
    return found


def fortios(text: str) -> Iterator[Line]:
    found = sections(text)
    addresses: dict[tuple[str, str], list[Network]] = {}
    for end in ("", "6"):
        for name, sets in found.get(f"firewall address{end}", []):
            words = sets.get("subnet") or sets.get("ip6") or []
            addresses[end, name] = [ipaddress.ip_network("/".join(words))] if words else []
        for name, sets in found.get(f"firewall addrgrp{end}", []):
            assert (end, name) not in addresses
            addresses[end, name] = [network for one in sets["member"] for network in addresses[end, one]]
    services = {
        name: (proto, *map(int, (ports[0].split("-") * 2)[:2]))
        for name, sets in found.get("firewall service custom", [])
        for proto in EXACT[1:]
        if (ports := sets.get(f"{proto}-portrange"))
    }
    for _, sets in found.get("firewall policy", []):
        assert sets["srcintf"] == sets["dstintf"] == ["any"]
        for end, everybody in (("", "0.0.0.0/0"), ("6", "::/0")):
            if f"srcaddr{end}" not in sets:
                continue
            ends = [
                [
                    network
                    for name in sets[f"{side}addr{end}"]
                    for network in ([ipaddress.ip_network(everybody)] if name == "all" else addresses[end, name])
                ]
                for side in ("src", "dst")
            ]
            yield Line(
                allows=sets["action"] == ["accept"],
                sources=ends[0],
                targets=ends[1],
                services=None if sets["service"] == ["ALL"] else [services[name] for name in sets["service"]],  # type: ignore[misc]
            )


def pfsense(text: str) -> Iterator[Line]:
    root = ET.fromstring(text)
    aliases = {one.findtext("name", ""): one.findtext("address", "").split() for one in root.iter("alias")}
    assert len(aliases) == len(list(root.iter("alias")))
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,30}", name) for name in aliases)

    def ends(side: ET.Element | None) -> list[Network] | None:
        assert side is not None
        if side.find("any") is not None:
            return None
        return [ipaddress.ip_network(one) for one in resolved(side.findtext("address", ""))]

    def resolved(name: str) -> list[str]:
        return [inner for one in aliases[name] for inner in resolved(one)] if name in aliases else [name]

    for rule in root.iter("rule"):
        assert (rule.findtext("floating"), rule.findtext("quick")) == ("yes", "yes")
        proto, port = rule.findtext("protocol"), rule.findtext("destination/port")
        services = None
        if proto is not None:
            ports = aliases.get(port, [port]) if port else ["0-65535"]
            services = [(proto, *map(int, (re.split("[:-]", one) * 2)[:2])) for one in ports]
        yield Line(
            allows=rule.findtext("type") == "pass",
            sources=ends(rule.find("source")),
            targets=ends(rule.find("destination")),
            services=services,  # type: ignore[arg-type]
        )


READERS: dict[str, Callable[[str], Iterator[Line]]] = {"panos": panos, "fortios": fortios, "pfsense": pfsense}


def holds(networks: Iterable[Network] | None, address: str) -> bool:
    found = ipaddress.ip_address(address)
    return networks is None or any(found in network for network in networks)


def decides(lines: list[Line], orig: str, resp: str, proto: str, port: int) -> bool | None:
    """The verdict of the first rule that matches; None: of none."""
    for line in lines:
        service = line.services is None or any(p == proto and a <= port <= b for p, a, b in line.services)
        if service and holds(line.sources, orig) and holds(line.targets, resp):
            return line.allows
    return None


def allowed(ruleset: Ruleset, orig: str, resp: str, proto: str, port: int) -> bool:
    """The model, one rule after another."""
    membership = Membership(ruleset)

    def allows(name: str, side: Side, peer: str) -> bool:
        if ruleset.is_open(name, side):
            return True
        return any(
            rule.proto in ("any", proto)
            and (not rule.ports or any(first <= port <= last for first, last in rule.ports))
            and (
                "any" in rule.peers
                or any(group in rule.peers for group in membership.of(peer))
                or holds(ruleset.networks(rule.peers), peer)
            )
            for rule in ruleset.groups[name].rules(side)
        )

    ends: tuple[tuple[str, Side, str], ...] = ((orig, "egress", resp), (resp, "ingress", orig))
    return all(allows(name, side, peer) for own, side, peer in ends for name in membership.of(own))


@pytest.mark.parametrize("format", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ruleset=rulesets(EXACT, PLAIN_NOTES))
def test_the_list_decides_as_the_policy(format: str, ruleset: Ruleset) -> None:
    written = formats.write(ruleset, format)
    lines = list(READERS[format](written.text))
    assert UNVERIFIED in written.text
    assert any(UNVERIFIED in line for line in written.warnings)
    if any(len(names) > 1 for names in member_sets(ruleset)):
        assert any("allows what either allows" in line for line in written.warnings)
        return
    for orig, resp in itertools.permutations(ADDRESSES, 2):
        if (":" in orig) != (":" in resp):
            continue
        for proto, port in SERVICES:
            verdict = decides(lines, orig, resp, proto, port)
            expected = allowed(ruleset, orig, resp, proto, port)
            assert verdict in (None, True) if expected else verdict is False, (orig, resp, proto, port)
            # Addresses of no group are none of the list.
            assert expected or verdict is not None


@pytest.mark.parametrize("format", READERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ruleset=rulesets())
def test_any_policy_can_be_written(format: str, ruleset: Ruleset) -> None:
    """Any protocol and any note: the text keeps its form, which the reader of XML or of commands takes."""
    text = formats.write(ruleset, format).text
    if format == "pfsense":
        ET.fromstring(text)
    elif format == "fortios":
        sections(text)
    else:
        assert all(len(shlex.split(line, comments=True)) != 1 for line in text.splitlines())


NAMED = Policy.from_dict(
    {
        "groups": {
            "lan": {
                "members": ["10.0.5.0/24"],
                "ingress": [],
                "egress": [
                    {
                        "to": ["192.0.2.7", "198.51.100.0/24"],
                        "to_name": "api.example.com",
                        "proto": "tcp",
                        "ports": [443],
                        "note": "the API",
                    }
                ],
            }
        }
    }
)


@pytest.mark.parametrize(
    ("format", "object_", "rule"),
    [
        (
            "panos",
            "set address fqdn-api.example.com fqdn api.example.com",
            "destination [ fqdn-api.example.com net-198.51.100.0-24 ]",
        ),
        ("fortios", 'set fqdn "api.example.com"', 'set dstaddr "net-198.51.100.0-24" "fqdn-api.example.com"'),
        ("pfsense", "<address>api.example.com 198.51.100.0/24</address>", "<address>list_1</address>"),
    ],
)
def test_names_are_objects_in_place_of_the_hosts(format: str, object_: str, rule: str) -> None:
    text = NAMED.convert(format).text
    assert object_ in text
    assert rule in text
    assert "the API (api.example.com: 192.0.2.7/32)" in text
    assert "net-192.0.2.7" not in text


@pytest.mark.parametrize("format", ["panos", "pfsense"])
def test_a_name_that_is_no_object_leaves_the_addresses(format: str) -> None:
    table = NAMED.to_dict()
    table["groups"]["lan"]["egress"][0]["to_name"] = "*.example.com"
    written = Policy.from_dict(table).convert(format)
    assert "192.0.2.7" in written.text
    assert any("the addresses stand for the names" in line for line in written.warnings)
    assert 'fqdn "*.example.com"' in Policy.from_dict(table).convert("fortios").text


@pytest.mark.parametrize(
    ("format", "rule", "expected"),
    [
        ("panos", Rule(peers=("any",), proto="icmp", ports=((8, 8),)), "application ping service application-default"),
        ("panos", Rule(peers=("any",), proto="icmp", ports=((13, 13),)), "PAN-OS has no types of ICMP"),
        ("panos", Rule(peers=("any",), proto="ospf"), "PAN-OS has no service of ospf"),
        ("fortios", Rule(peers=("any",), proto="icmp", ports=((8, 8),)), "set icmptype 8"),
        ("fortios", Rule(peers=("any",), proto="gre"), "set protocol-number 47"),
        ("fortios", Rule(peers=("any",), proto="dccp", ports=((1, 1),)), "FortiOS knows no ports of dccp"),
        ("pfsense", Rule(peers=("any",), proto="icmp", ports=((8, 8),)), "<icmptype>echoreq</icmptype>"),
        ("pfsense", Rule(peers=("any",), proto="icmp", ports=((200, 200),)), "pfSense has no words for some"),
        ("pfsense", Rule(peers=("any",), proto="253"), "pfSense has no 253"),
    ],
)
def test_other_protocols(format: str, rule: Rule, expected: str) -> None:
    group = Group(members=("10.0.0.0/8",), ingress=(rule,), egress_default="allow")
    written = formats.write(Ruleset(groups={"a": group}), format)
    assert expected in "\n".join((written.text, *written.warnings))
    allows = any(word in written.text for word in ("action allow", "action accept", "<type>pass"))
    assert allows != any(word in expected for word in ("no service of", "no ports of", "no words for", "has no 253"))
