"""Verdicts by the rules of clouds are those of a naive evaluator that follows the vendors' pages, for random rules."""

from __future__ import annotations

import ipaddress
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.policy import rulesets
from conntrack_py.policy.deployed import check_ruleset
from support import corpus
from support.packets import download, evenly, pcap_bytes, udp

INSIDE = ("10.0.1.10", "10.0.1.11", "10.0.2.20")
OUTSIDE = ("198.51.100.7", "203.0.113.9")
PORTS = (53, 443, 8080)
NETWORKS = ("0.0.0.0/0", "10.0.0.0/16", "10.0.1.0/24", "10.0.1.10/32", "10.0.2.0/24", "198.51.0.0/16", "203.0.113.9/32")
SEEDS = range(24)
#: Verdicts that were compared.
SEEN: Counter[str] = Counter()

Rule = dict[str, Any]
Connection = tuple[str, str, str, int, int]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    frames = []
    port = itertools.count(40_000)
    for src, dst in itertools.permutations((*INSIDE, *OUTSIDE), 2):
        if src in OUTSIDE and dst in OUTSIDE:
            continue
        for service in PORTS:
            frames += download(src, next(port), dst, service, 100)
        frames += [udp(src, 41_000, dst, 53, b"question"), udp(dst, 53, src, 41_000, b"answer")]
    path = tmp_path_factory.mktemp("clouds") / "x.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    return ct.track(path, local=["10.0.0.0/16"]).connections


def connections(table: ct.ConnectionTable) -> list[Connection]:
    return [(row.orig_addr, row.resp_addr, row.proto, row.orig_port, row.resp_port) for row in table]


def holds(networks: Iterable[str], address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)


def random_rules(seed: int, names: tuple[str, ...] = ()) -> list[Rule]:
    """Rules of a direction, a protocol and ports, peers and own addresses; two in ten have a name for a peer."""
    chance = random.Random(seed)
    return [
        {
            "out": chance.random() < 0.5,
            "allow": chance.random() < 0.6,
            "priority": chance.choice(range(100, 112)),
            "proto": chance.choice(("all", "tcp", "tcp", "udp")),
            "ports": sorted(chance.sample(PORTS, chance.choice((0, 1, 2)))),
            "peers": [chance.choice(NETWORKS)] if not names or chance.random() < 0.8 else [],
            "names": [chance.choice(names)] if names else [],
            "own": chance.choice(("0.0.0.0/0", "0.0.0.0/0", "10.0.1.0/24", "10.0.2.20/32")),
            "number": number,
        }
        for number in range(chance.choice((0, 3, 8, 12)))
    ]


def fits(rule: Rule, own: str, peer: str, proto: str, port: int, named: dict[str, set[str]]) -> bool:
    if rule["proto"] not in ("all", proto):
        return False
    if rule["ports"] and port not in rule["ports"]:
        return False
    is_peer = holds(rule["peers"], peer) or any(peer in named[name] for name in rule["names"])
    return holds([rule["own"]], own) and is_peer


def first(rules: list[Rule], order: Callable[[Rule], Any], default: bool, **packet: Any) -> bool:
    """The verdict of the first rule that matches, in an order."""
    for rule in sorted(rules, key=order):
        if fits(rule, **packet):
            return bool(rule["allow"])
    return default


def compare(text: str, format: str, table: ct.ConnectionTable, expected: list[bool], **more: Any) -> None:
    result = check_ruleset(rulesets.read(text, format, "x.json"), table, **more)
    words = ["allowed" if one else "refused" for one in expected]
    SEEN.update(result.verdicts)
    wrong = [one for one in zip(connections(table), result.verdicts, words, strict=True) if one[1] != one[2]]
    assert wrong == []


def azure_text(rules: list[Rule]) -> str:
    listed = []
    for rule in rules:
        peers = {"AddressPrefixes": [*rule["peers"], *rule["names"]]}
        own = {"AddressPrefix": "*" if rule["own"] == "0.0.0.0/0" else rule["own"]}
        source, destination = (own, peers) if rule["out"] else (peers, own)
        listed.append(
            {
                "name": f"r{rule['number']}",
                "priority": rule["priority"],
                "direction": "Outbound" if rule["out"] else "Inbound",
                "access": "Allow" if rule["allow"] else "Deny",
                "protocol": "*" if rule["proto"] == "all" else rule["proto"].capitalize(),
                "sourcePortRange": "*",
                "destinationPortRanges": [str(port) for port in rule["ports"]] or ["*"],
                **{f"source{key}": value for key, value in source.items()},
                **{f"destination{key}": value for key, value in destination.items()},
            }
        )
    return json.dumps({"name": "nsg", "securityRules": listed})


def unique(rules: list[Rule]) -> list[Rule]:
    """Rules of which no two of a direction have one priority: Azure and network ACLs have no others."""
    return list({(rule["out"], rule["priority"]): rule for rule in rules}.values())


def azure(rules: list[Rule], one: Connection, members: list[str], named: dict[str, set[str]]) -> bool:
    orig, resp, proto, _, port = one
    verdict = True
    for is_out, own, peer in ((True, orig, resp), (False, resp, orig)):
        if holds(members, own):
            default = holds(["10.0.0.0/16"], peer) or (is_out and peer in OUTSIDE)
            mine = [rule for rule in rules if rule["out"] == is_out]
            packet = {"own": own, "peer": peer, "proto": proto, "port": port, "named": named}
            verdict &= first(mine, lambda rule: rule["priority"], default, **packet)
    return verdict


@pytest.mark.parametrize("seed", SEEDS)
def test_azure(seed: int, table: ct.ConnectionTable) -> None:
    rules = unique(random_rules(seed))
    members = [["10.0.1.0/24"], ["10.0.0.0/16"]][seed % 2]
    expected = [azure(rules, one, members, {}) for one in connections(table)]
    given = {"nsg": members, "VirtualNetwork": ["10.0.0.0/16"]}
    compare(azure_text(rules), "azure", table, expected, members=given)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tag_that_nobody_tells(seed: int, table: ct.ConnectionTable) -> None:
    """A known verdict is that of every set of addresses that a tag may have."""
    rules = unique(random_rules(seed, ("Sql", "Storage")))
    members = {"nsg": ["10.0.0.0/16"], "VirtualNetwork": ["10.0.0.0/16"]}
    result = check_ruleset(rulesets.read(azure_text(rules), "azure", "x.json"), table, members=members)
    everybody = (*INSIDE, *OUTSIDE)
    chance = random.Random(seed)
    for _ in range(12):
        named = {name: {one for one in everybody if chance.random() < 0.5} for name in ("Sql", "Storage")}
        for one, verdict in zip(connections(table), result.verdicts, strict=True):
            if verdict != "unknown":
                assert (verdict == "allowed") == azure(rules, one, members["nsg"], named), (one, named)
    SEEN.update(result.verdicts)


def gcp_text(rules: list[Rule]) -> str:
    listed = []
    for rule in rules:
        service: dict[str, Any] = {"IPProtocol": rule["proto"]}
        if rule["ports"] and rule["proto"] != "all":
            service["ports"] = [str(port) for port in rule["ports"]]
        listed.append(
            {
                "name": f"r{rule['number']}",
                "network": "default",
                "priority": rule["priority"],
                "direction": "EGRESS" if rule["out"] else "INGRESS",
                "allowed" if rule["allow"] else "denied": [service],
                "destinationRanges" if rule["out"] else "sourceRanges": rule["peers"],
                **({} if rule["own"] == "0.0.0.0/0" else {"targetTags": [rule["own"]]}),
            }
        )
    return json.dumps(listed)


@pytest.mark.parametrize("seed", SEEDS)
def test_google(seed: int, table: ct.ConnectionTable) -> None:
    rules = [rule | {"ports": [] if rule["proto"] == "all" else rule["ports"]} for rule in random_rules(seed)]
    expected = []
    for orig, resp, proto, _, port in connections(table):
        verdict = True
        for is_out, own, peer in ((True, orig, resp), (False, resp, orig)):
            if holds(["10.0.0.0/16"], own):
                mine = [rule for rule in rules if rule["out"] == is_out]
                packet = {"own": own, "peer": peer, "proto": proto, "port": port, "named": {}}
                # A deny comes before an allow of the same priority.
                verdict &= first(mine, lambda rule: (rule["priority"], rule["allow"]), is_out, **packet)
        expected.append(verdict)
    tags = {rule["own"]: [rule["own"]] for rule in rules if rule["own"] != "0.0.0.0/0"}
    members = tags | ({"default": ["10.0.0.0/16"]} if rules else {})
    if rules:
        compare(gcp_text(rules), "gcp", table, expected, members=members)


@pytest.mark.parametrize("seed", SEEDS)
def test_security_groups(seed: int, table: ct.ConnectionTable) -> None:
    """Groups only allow, and those of an address add up."""
    groups = {"sg-1": ["10.0.1.0/24"], "sg-2": ["10.0.1.10/32", "10.0.2.20/32"]}
    rules = {name: random_rules(seed * 2 + at) for at, name in enumerate(groups)}
    described = []
    for name, own in rules.items():
        listed: dict[bool, list[Rule]] = {True: [], False: []}
        for rule in own:
            proto = "tcp" if rule["ports"] and rule["proto"] == "all" else rule["proto"]
            rule["proto"], rule["own"] = proto, "0.0.0.0/0"
            listed[rule["out"]] += [
                {
                    "IpProtocol": "-1" if proto == "all" else proto,
                    **({"FromPort": port, "ToPort": port} if port is not None else {}),
                    "IpRanges": [{"CidrIp": peer} for peer in rule["peers"]],
                }
                for port in rule["ports"] or [None]
            ]
        described.append({"GroupId": name, "IpPermissions": listed[False], "IpPermissionsEgress": listed[True]})
    expected, undecided = [], []
    for orig, resp, proto, _, port in connections(table):
        verdict = True
        for is_out, own, peer in ((True, orig, resp), (False, resp, orig)):
            mine = [name for name, members in groups.items() if holds(members, own)]
            packet = {"own": own, "peer": peer, "proto": proto, "port": port, "named": {}}
            allowed = any(fits(rule, **packet) for name in mine for rule in rules[name] if rule["out"] == is_out)
            verdict &= allowed or not mine
        expected.append(verdict)
        # The server for DNS of a VPC is not filtered, and may have any private address.
        undecided.append(port == 53 and holds(["10.0.0.0/16"], orig) and holds(["10.0.0.0/16"], resp))
    text = json.dumps({"SecurityGroups": described})
    found = check_ruleset(rulesets.read(text, "security-groups", "x.json"), table, members=groups).verdicts
    for one, verdict, known, perhaps in zip(connections(table), found, expected, undecided, strict=True):
        assert verdict == ("allowed" if known else "refused") or (perhaps and verdict == "unknown"), one
    SEEN.update(found)


@pytest.mark.parametrize("seed", SEEDS)
def test_network_acls(seed: int, table: ct.ConnectionTable) -> None:
    """Answers need entries of their own, and nothing within a subnet is looked at."""
    rules = unique(random_rules(seed))
    entries = []
    for rule in rules:
        # An entry has one range: the first port, and for half of them those of clients.
        rule["own"], rule["ports"] = "0.0.0.0/0", rule["ports"][:1]
        wide = bool(rule["number"] % 2) and rule["proto"] != "all"
        rule["range"] = (1024, 65535) if wide else tuple(rule["ports"] * 2) if rule["proto"] != "all" else ()
        rule["ports"] = []
        entries.append(
            {
                "Egress": rule["out"],
                "RuleNumber": rule["priority"],
                "RuleAction": "allow" if rule["allow"] else "deny",
                "Protocol": {"all": "-1", "tcp": "6", "udp": "17"}[rule["proto"]],
                "CidrBlock": rule["peers"][0],
                **({"PortRange": dict(zip(("From", "To"), rule["range"], strict=True))} if rule["range"] else {}),
            }
        )
    subnets = ["10.0.1.0/24", "10.0.2.0/24"]

    def passes(source: str, destination: str, proto: str, port: int) -> bool:
        verdict = True
        for is_out, own, peer in ((True, source, destination), (False, destination, source)):
            home = [subnet for subnet in subnets if holds([subnet], own)]
            if home and not holds(home, peer):
                mine = [
                    rule
                    for rule in rules
                    if rule["out"] == is_out and (not rule["range"] or rule["range"][0] <= port <= rule["range"][1])
                ]
                packet = {"own": own, "peer": peer, "proto": proto, "port": port, "named": {}}
                verdict &= first(mine, lambda rule: rule["priority"], False, **packet)
        return verdict

    acl = json.dumps({"NetworkAcls": [{"NetworkAclId": "acl-1", "Entries": entries}]})
    found = check_ruleset(rulesets.read(acl, "nacl", "x.json"), table, members={"acl-1": subnets}).verdicts
    for (orig, resp, proto, sport, dport), verdict in zip(connections(table), found, strict=True):
        known = passes(orig, resp, proto, dport) and passes(resp, orig, proto, sport)
        perhaps = dport == 53 and holds(["10.0.0.0/16"], orig) and holds(["10.0.0.0/16"], resp)
        assert verdict == ("allowed" if known else "refused") or (perhaps and verdict == "unknown")
    SEEN.update(found)


def test_all_words_were_heard() -> None:
    """Nothing would be proved if hardly anything was known, or all of it passed."""
    assert min(SEEN["allowed"], SEEN["refused"]) > 1_000
    assert SEEN["unknown"] < 0.25 * SEEN.total()
    corpus.SUMMARY.append(
        f"rules of clouds, with a naive evaluator: {SEEN['allowed']:,} connections allowed, {SEEN['refused']:,} "
        f"refused, as said; {SEEN['unknown']:,} unknown"
    )
