"""Groups of one address that add up, as in Kubernetes and AWS, and the same policy for filters that ask all of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.document import loads, to_json, to_toml
from conntrack_py.policy.separate import separated
from support.packets import evenly, pcap_bytes, tcp
from support.policies import random_policy


def connections(tmp_path: Path) -> ct.ConnectionTable:
    hosts = [*(f"10.0.{net}.{host}" for net in (0, 1) for host in (1, 2, 130)), "203.0.113.9"]
    frames = [
        tcp(src, 40000 + at, dst, port, 0x02, seq=1)
        for at, src in enumerate(hosts)
        for dst in hosts
        for port in (22, 443)
        if src != dst
    ]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    return ct.track(path, config=ct.Config(local=["10.0.0.0/8"])).connections


def passes(policy: Policy, table: ct.ConnectionTable) -> list[bool]:
    return [bool(verdict == ct.Verdict.ALLOWED) for verdict in policy.evaluate(table)["verdict"]]


WEB = {"members": ["10.0.0.1/32"], "ingress": [{"from": "any", "proto": "tcp", "ports": [443]}]}
ADMIN = {"members": ["10.0.0.1/32"], "ingress": [{"from": "any", "proto": "tcp", "ports": [22]}]}


@pytest.mark.parametrize(
    ("combine", "other", "allowed"),
    [
        ("any", ADMIN, {22, 443}),
        ("all", ADMIN, set()),
        ("any", {**ADMIN, "ingress": []}, {443}),
        ("any", {**ADMIN, "ingress": [], "default": "allow"}, {443}),
        ("all", {**ADMIN, "ingress": [], "default": "allow"}, {443}),
    ],
    ids=["added up", "all asked", "nothing to add", "open in one is restricted by the other", "open says nothing"],
)
def test_two_groups_of_a_host(tmp_path: Path, combine: str, other: dict[str, object], allowed: set[int]) -> None:
    policy = Policy.from_dict({"combine": combine, "groups": {"web": WEB, "other": other}})
    table = connections(tmp_path)
    to_host = [row == "10.0.0.1" for row in table["resp_addr"]]
    found = {
        int(port)
        for port, is_to, passed in zip(table["resp_port"], to_host, passes(policy, table), strict=True)
        if is_to and passed
    }
    assert found == allowed


def test_the_word_is_kept() -> None:
    policy = Policy.from_dict({"combine": "any", "groups": {"web": WEB}})
    assert loads(to_toml(policy), "toml").combine == "any"
    assert loads(to_json(policy), "json").combine == "any"
    assert "combine" not in to_toml(Policy.from_dict({"groups": {"web": WEB}}))
    with pytest.raises(ct.PolicyError, match='combine: found \'some\', expected "all" or "any"'):
        Policy.from_dict({"combine": "some", "groups": {}})


@pytest.mark.parametrize("seed", range(150))
def test_separated_groups_say_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    table = cached(tmp_path_factory)
    policy = dataclasses.replace(random_policy(seed, table), combine="any")
    made = separated(policy)
    assert made.combine == "all"
    members = [member for group in made.groups.values() for member in group.members]
    assert len(members) == len(set(members)), "no address is in two groups"
    assert passes(Policy(groups=made.groups, default=made.default), table) == passes(policy, table)


_TABLES: list[ct.ConnectionTable] = []


def cached(factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    if not _TABLES:
        _TABLES.append(connections(factory.mktemp("combine")))
    return _TABLES[0]


def test_security_groups_and_policies_add_up() -> None:
    groups = [
        {
            "GroupId": f"sg-{port}",
            "GroupName": name,
            "Tags": [{"Key": "conntrack-py:members", "Value": "10.0.0.1/32"}],
            "IpPermissions": [
                {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            ],
        }
        for name, port in (("web", 443), ("admin", 22))
    ]
    policy = Policy._read(json.dumps({"SecurityGroups": groups}), "a.json", "aws")
    assert policy.combine == "any"
    assert not [problem for problem in policy.lint() if problem.check == "D14"], "they contradict nobody"
    text = policy.convert("nftables").text
    assert "web_admin" in text.replace("___", "_"), "a chain of its own for hosts that have both"
    assert not [warning for warning in policy.convert("kubernetes").warnings if "both" in warning]


def test_security_groups_that_refer_to_groups_add_up(tmp_path: Path) -> None:
    """Of two groups of a host one lets a group in, the other a network; a prefix list is named and allows nothing."""

    def described(name: str, members: str, *permissions: dict[str, object]) -> dict[str, object]:
        tags = [{"Key": "conntrack-py:members", "Value": members}]
        made = {"GroupId": f"sg-{name}", "GroupName": name, "Tags": tags, "IpPermissions": list(permissions)}
        everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        return {**made, "IpPermissionsEgress": [everything]}

    def port(number: int, **peers: object) -> dict[str, object]:
        return {"IpProtocol": "tcp", "FromPort": number, "ToPort": number, **peers}

    groups = [
        described("clients", "10.0.0.2/32"),
        described("web", "10.0.0.1/32", port(443, UserIdGroupPairs=[{"GroupId": "sg-clients"}])),
        described(
            "admin",
            "10.0.0.1/32",
            port(22, IpRanges=[{"CidrIp": "10.0.1.0/24"}]),
            port(443, PrefixListIds=[{"PrefixListId": "pl-7"}]),
        ),
    ]
    policy = Policy._read(json.dumps({"SecurityGroups": groups}), "a.json", "aws")
    assert [warning for warning in policy.warnings if "pl-7" in warning]
    table = connections(tmp_path)
    allowed = {
        (str(row.orig_addr), row.resp_port)
        for row, passed in zip(table, passes(policy, table), strict=True)
        if str(row.resp_addr) == "10.0.0.1" and passed
    }
    assert allowed == {("10.0.0.2", 443), *((f"10.0.1.{host}", 22) for host in (1, 2, 130))}
