"""Differences of policies by connectivity, beside a reference that judges connections one by one."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy
from conntrack_py.policy.connectivity import diff
from conntrack_py.policy.connectivity.diff import Difference
from support.packets import echo, evenly, pcap_bytes, tcp, udp
from support.policies import random_policy
from support.program import run

HOSTS = [*(f"10.0.{net}.{host}" for net in (0, 1) for host in (1, 2, 130)), "203.0.113.9"]
PORTS = (22, 443, 999, 1000, 1001)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    """A connection for each pair of hosts and service, of several protocols."""
    frames = []
    for at, (src, dst) in enumerate(itertools.permutations(HOSTS, 2)):
        frames += [tcp(src, 40000 + at, dst, port, 0x02, seq=1) for port in PORTS]
        frames += [udp(src, 40000 + at, dst, port, b"x" * 9) for port in (443, 53)]
        frames.append(echo(src, dst, 8, at))
    path = tmp_path_factory.mktemp("diff") / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    return ct.track(path, config=ct.Config(local=["10.0.0.0/8"])).connections


def passes(policy: Policy, table: ct.ConnectionTable) -> list[bool]:
    return [bool(verdict == ct.Verdict.ALLOWED) for verdict in policy.evaluate(table)["verdict"]]


def has_service(words: Iterable[str], proto: str, service: int) -> bool:
    """True if a service is among some in words."""
    for word in words:
        if word == "any protocol":
            return True
        if word == "other protocols":
            continue
        name, _, ports = word.removeprefix("protocol ").replace(" type", "").partition(" ")
        ranges = [one.split("-") for one in ports.split(", ")] if ports else [["0", "65535"]]
        if name == proto and any(int(one[0]) <= service <= int(one[-1]) for one in ranges):
            return True
    return False


def covers(one: Difference, orig: str, resp: str, proto: str, service: int, others: bool) -> bool:
    def within(networks: Iterable[str], address: str) -> bool:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)

    of = has_service(one.services, proto, service) or (others and "other protocols" in one.services)
    return of and within(one.originator_networks, orig) and within(one.responder_networks, resp)


@pytest.mark.parametrize("seed", range(60))
def test_differences_are_those_of_single_connections(seed: int, table: ct.ConnectionTable) -> None:
    first, second = random_policy(seed, table), random_policy(seed + 1000, table)
    if seed % 3 == 0:
        second = dataclasses.replace(second, combine="any")
    if seed % 4 == 0:  # two policies that have most in common
        second = dataclasses.replace(first, groups={**first.groups, "b": second.groups["b"]})
    found = first.diff(second)
    named = {n.rule.proto for ruleset in (first, second) for n in ruleset.numbered()}
    one, other = passes(first, table), passes(second, table)
    assert found.same == (not found.differences)
    different = 0
    for at, row in enumerate(table):
        proto, service = str(row.proto), int(row.orig_port if row.proto == "icmp" else row.resp_port)
        for allowed_by, expected in (("first", one[at] and not other[at]), ("second", other[at] and not one[at])):
            covered = [
                covers(each, str(row.orig_addr), str(row.resp_addr), proto, service, proto not in named)
                for each in found.differences
                if each.allowed_by == allowed_by
            ]
            assert any(covered) == expected, (row, allowed_by)
            different += expected
    assert not found.same or not different


def test_some_random_policies_differ_in_connections(table: ct.ConnectionTable) -> None:
    """The test above compares something."""
    pairs = [(random_policy(seed, table), random_policy(seed + 1000, table)) for seed in range(20)]
    assert sum(passes(one, table) != passes(other, table) for one, other in pairs) > 10


@pytest.mark.parametrize("seed", range(10))
def test_what_says_the_same_in_another_way_is_no_difference(seed: int, table: ct.ConnectionTable) -> None:
    """Rules split by port and peer, in another order, with notes; groups of another name."""
    choose = random.Random(seed)
    policy = random_policy(seed, table)
    groups = {}
    for name, group in policy.groups.items():
        rules = {}
        for side in ("ingress", "egress"):
            split = [
                dataclasses.replace(rule, peers=(peer,), ports=ports, note="x")
                for rule in group.rules(side)  # type: ignore[arg-type]
                for peer in rule.peers
                for ports in (
                    [((low, low),) for low in range(rule.ports[0][0], rule.ports[0][1] + 1)]
                    if rule.ports and rule.ports[0][1] - rule.ports[0][0] < 300
                    else [rule.ports]
                )
            ]
            choose.shuffle(split)
            rules[side] = tuple(split)
        groups[name] = dataclasses.replace(group, **rules)
    other = dataclasses.replace(policy, groups=dict(sorted(groups.items(), reverse=True)))
    assert policy.diff(other).same
    assert policy.diff(policy).same


def site(*ports: int, clients: str = "10.0.2.0/24") -> Policy:
    return Policy.from_dict(
        {
            "groups": {
                "web": {
                    "members": ["10.0.1.0/24"],
                    "ingress": [{"from": "clients", "proto": "tcp", "ports": [*ports]}],
                },
                "clients": {"members": [clients], "default": "allow"},
            }
        }
    )


def test_a_port_more() -> None:
    found = site(443).diff(site(443, 8443))
    assert [(one.allowed_by, one.originators, one.responders, one.services) for one in found.differences] == [
        ("second", ("clients",), ("web",), ("tcp 8443",))
    ]
    assert found.differences[0].originator_networks == ("10.0.2.0/24",)
    assert site(443, 8443).diff(site(443)).differences[0].allowed_by == "first"


def test_more_clients_of_the_same_name() -> None:
    found = site(443).diff(site(443, clients="10.0.2.0/23"))
    assert [(one.allowed_by, one.originators, one.responders) for one in found.differences] == [
        ("second", ("10.0.3.0/24",), ("web",))
    ]


def test_the_rest_of_the_world_in_few_words() -> None:
    closed = {"members": ["10.0.1.7"], "ingress": [{"from": "10.0.2.1", "proto": "tcp", "ports": [22]}]}
    open_ = {"members": ["10.0.1.7"], "ingress": [{"from": "any", "proto": "tcp", "ports": [22]}]}
    one, other = (Policy.from_dict({"groups": {"box": group}}) for group in (closed, open_))
    found = one.diff(other)
    # The egress of the host itself is limited.
    assert [one.originators for one in found.differences] == [("any IPv4 but box and 10.0.2.1",)]
    assert len(found.differences[0].originator_networks) > 30


def test_both_versions_of_ip_are_one_difference() -> None:
    groups = {"box": {"members": ["10.0.1.7", "2001:db8::7"], "ingress": []}}
    one = Policy.from_dict({"groups": groups})
    other = Policy.from_dict({"groups": {"box": {**groups["box"], "default": {"ingress": "allow"}}}})
    found = one.diff(other)
    assert [(each.originators, each.responders, each.services) for each in found.differences] == [
        (("any but box",), ("box",), ("any protocol",))
    ]


def test_groups_without_members_are_compared_by_name() -> None:
    def policy(port: int) -> Policy:
        rule = {"from": "clients", "proto": "tcp", "ports": [port]}
        return Policy.from_dict({"groups": {"web": {"ingress": [rule]}, "clients": {"default": "allow"}}})

    found = policy(443).diff(policy(80))
    assert [(one.allowed_by, one.originators, one.responders, one.services) for one in found.differences] == [
        ("first", ("clients (members unknown)",), ("web (members unknown)",), ("tcp 443",)),
        ("second", ("clients (members unknown)",), ("web (members unknown)",), ("tcp 80",)),
    ]
    assert any("groups.web: has no members" in warning for warning in found.warnings)
    assert policy(443).diff(policy(443)).same


def test_members_that_one_policy_does_not_know() -> None:
    bare = Policy.from_dict(
        {
            "groups": {
                "web": {"ingress": [{"from": "any", "proto": "tcp", "ports": [443]}]},
                "clients": {"default": "allow"},
            }
        }
    )
    found = bare.diff(site(443))
    assert any("groups.web: has members in one policy only" in warning for warning in found.warnings)
    assert {one.responders for one in found.differences} == {("web",)}


def test_too_many_kinds_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "_MOST_PAIRS", 5)
    with pytest.raises(PolicyError, match="kinds of originators"):
        site(443).diff(site(80))


def test_policies_of_two_formats(tmp_path: Path) -> None:
    """A difference is what is lost on the way, and nothing else."""
    policy = Policy.from_dict(
        {
            "combine": "any",
            "groups": {
                "web": {
                    "members": ["10.0.1.0/24"],
                    "ingress": [
                        {"from": "any", "proto": "tcp", "ports": [443]},
                        {"from": "any", "proto": "icmp", "types": [8]},
                    ],
                }
            },
        }
    )
    for format, lost in (("kubernetes", [("icmp type 8",)]), ("aws", [])):
        path = tmp_path / format
        policy.write(path, format)
        found = policy.diff(Policy.load(path))
        assert [one.services for one in found.differences] == lost
        assert {one.allowed_by for one in found.differences} <= {"first"}


def test_the_command(tmp_path: Path) -> None:
    """Exit status 1 where policies differ; names of files in Markdown are no markup."""
    one, other = tmp_path / "a_*b*.toml", tmp_path / "b.json"
    site(443).write(one)
    site(443, 8443).write(other)
    done = run("policy", "diff", one, other)
    assert done.returncode == 1
    assert re.search(rb"Allowed only by .*b\.json\nfrom +to +service *\nclients +web +tcp 8443", done.stdout)
    found = json.loads(run("policy", "diff", "--json", one, other).stdout)
    assert found["same"] is False
    assert found["differences"][0]["responder_networks"] == ["10.0.1.0/24"]
    text = run("policy", "diff", "--markdown", other, one).stdout.decode()
    assert "b.json" in text
    assert "| clients | web | tcp 8443 |" in text
    same = run("policy", "diff", one, one)
    assert (same.returncode, same.stdout) == (0, b"both allow the same connections\n")
    assert run("policy", "diff", one, tmp_path / "none.toml").returncode == 2
    assert run("policy", "diff", "--json", "--markdown", one, other).returncode == 2


def test_markdown_of_file_names(tmp_path: Path) -> None:
    one, other = tmp_path / "a_*b*.toml", tmp_path / "b.json"
    site(443, 80).write(one)
    site(443).write(other)
    assert r"a\_\*b\*.toml" in run("policy", "diff", "--markdown", one, other).stdout.decode()
