"""Merging: a person's edits survive a new capture, what it adds is named, and what it lacks is stale since a time."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import Group, Rule, Ruleset
from conntrack_py.policy.model import merged as merged_ranges
from conntrack_py.policy.suggestion import merge as merging
from conntrack_py.policy.suggestion import said
from conntrack_py.policy.suggestion.said import Said
from support import program
from support.packets import ACK, PSH, SYN, Packet, download, evenly, tcp

WEB, CLIENT, OTHER = "10.0.1.10", "10.0.2.20", "10.0.2.21"
Pcap = Callable[..., Path]


def visits(client: str, port: int, start: float) -> list[Packet]:
    return [p for n in range(3) for p in evenly(download(client, 40000 + n, WEB, port, 3000), start + n, 0.001)]


@pytest.fixture
def weeks(pcap: Pcap) -> tuple[Path, Path]:
    """Week one has 443 and 8080; week two has 443 and 9000."""
    one = pcap(sorted(visits(CLIENT, 443, 0) + visits(CLIENT, 8080, 10), key=lambda p: p[0]), name="one.pcap")
    two = pcap(sorted(visits(CLIENT, 443, 1000) + visits(CLIENT, 9000, 1010), key=lambda p: p[0]), name="two.pcap")
    return one, two


def ports(rules: tuple[Rule, ...]) -> dict[int, Rule]:
    return {first: rule for rule in rules for first, last in rule.ports for _ in range(first, last + 1)}


def server(policy: ct.Policy) -> str:
    return next(name for name, group in policy.groups.items() if f"{WEB}/32" in group.members)


def test_merge_adds_and_marks(weeks: tuple[Path, Path]) -> None:
    first = Policy.suggest(weeks[0])
    merged = first.merge(weeks[1])
    name = server(first)
    before, after = ports(first.groups[name].ingress), ports(merged.ruleset.groups[name].ingress)
    assert set(before) == {443, 8080}
    assert set(after) == {443, 8080, 9000}
    assert {one.rule.ports for one in merged.added} == {((9000, 9000),)}
    assert before[8080] == after[8080] or before[8080].ports == after[8080].ports
    # One rule for both ports is used as a whole.
    if before[443] is not before[8080]:
        assert after[8080].stale_since == before[8080].evidence.last
        assert {one.rule.ports for one in merged.stale} >= {((8080, 8080),)}
    assert after[443].stale_since is None
    assert not Policy.from_dict(ct.Policy.to_dict(merged.ruleset)).check(weeks[1]).refused


def test_stale_since_stands_and_ends(weeks: tuple[Path, Path]) -> None:
    rule = {"from": f"{CLIENT}/32", "proto": "tcp", "ports": [8080]}
    old = Policy.from_dict(
        {
            "groups": {
                "web": {"members": [WEB], "ingress": [rule | {"stale_since": "2020-01-01T00:00:00Z"}], "egress": []}
            }
        }
    )
    unused = old.merge(weeks[1]).ruleset.groups["web"].ingress[0]
    assert unused.stale_since == 1_577_836_800_000_000_000
    used = old.merge(weeks[0]).ruleset.groups["web"].ingress[0]
    assert used.stale_since is None


def test_no_rule_is_added_that_a_wider_one_says(weeks: tuple[Path, Path]) -> None:
    wide = {"from": "10.0.0.0/8", "proto": "tcp", "ports": ["1-9999"]}
    old = Policy.from_dict({"groups": {"web": {"members": [WEB], "ingress": [wide], "egress": []}}})
    merged = old.merge(weeks[1])
    assert [one for one in merged.added if one.group == "web"] == []
    assert merged.stale == ()


def test_suggest_with_groups_keeps_edits(weeks: tuple[Path, Path]) -> None:
    def group(**more: str) -> Policy:
        rule = {"from": "192.0.2.0/24", "proto": "tcp", "ports": [22]} | more
        return Policy.from_dict({"groups": {"web": {"members": [WEB], "ingress": [rule], "egress": []}}})

    for more in ({"note": "jump host"}, {"owner": "ops"}, {"ticket": "NET-1"}, {"expires": "2001-01-01"}):
        kept = Policy.suggest(weeks[1], groups=group(**more)).groups["web"].ingress
        assert 22 in ports(kept), more
        assert 9000 in ports(kept)
    # Neither a person's nor ever seen: nothing speaks for it.
    assert 22 not in ports(Policy.suggest(weeks[1], groups=group()).groups["web"].ingress)


def test_suggest_with_groups_keeps_last_weeks_rules(weeks: tuple[Path, Path]) -> None:
    first = Policy.suggest(weeks[0])
    name = server(first)
    apart = [
        dataclasses.replace(first.groups[name].ingress[0], ports=((port, port),), evidence=rule.evidence)
        for port, rule in ports(first.groups[name].ingress).items()
    ]
    first = dataclasses.replace(
        first, groups={**first.groups, name: dataclasses.replace(first.groups[name], ingress=tuple(apart))}
    )
    found = ports(Policy.suggest(weeks[1], groups=first).groups[name].ingress)
    assert set(found) == {443, 8080, 9000}
    evidence = first.groups[name].ingress[0].evidence
    assert evidence is not None
    assert found[8080].stale_since == evidence.last
    assert found[443].stale_since is None
    assert found[9000].stale_since is None


def test_the_program(weeks: tuple[Path, Path], tmp_path: Path) -> None:
    old, out = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(
        f'[groups.web]\nmembers = ["{WEB}"]\n'
        'ingress = [{ from = "192.0.2.1", proto = "tcp", ports = [22], note = "x" }]\negress = []\n'
    )
    run = program.run("policy", "merge", old, weeks[1], "-o", out)
    assert run.returncode == 0, run.stderr
    assert b"stale: last use not known groups.web.ingress[0]" in run.stderr
    assert b"+ groups.web.ingress[1]" in run.stderr
    assert b"new group, limited to its rules: clients" in run.stderr
    assert b"Groups, by what their hosts do" in run.stderr
    assert {22, 443, 9000} <= set(ports(Policy.load(out).groups["web"].ingress))
    answer = json.loads(program.run("policy", "merge", "--json", old, weeks[1]).stdout)
    assert [one["place"] for one in answer["stale"]] == ["groups.web.ingress[0]"]
    assert answer["groups"] == {"clients": [f"{CLIENT}/32"]}
    assert answer["report"]["connections"] == 6
    assert answer["report"]["servers_initiate"] == []
    assert Policy.from_dict(answer["policy"]) == Policy.load(out)


@pytest.fixture
def beacon(pcap: Pcap) -> Path:
    """The web server answers, and calls out; a laptop without a group turns up."""
    packets = visits(CLIENT, 443, 0) + visits(OTHER, 443, 5)
    for number in range(4):
        packets += evenly(download(WEB, 50000 + number, "203.0.113.66", 8443, 100), 20 + number, 0.001)
    return pcap(sorted(packets, key=lambda packet: packet[0]), name="beacon.pcap")


def open_policy(**more: object) -> Policy:
    web = {"members": [WEB], "ingress": [{"from": "any", "proto": "tcp", "ports": [443]}], "egress": [], **more}
    return Policy.from_dict({"default": "allow", "groups": {"web": web}})


def test_a_servers_new_egress_is_a_decision_of_the_merger(beacon: Path) -> None:
    merged = open_policy(default="deny").merge(beacon)
    assert merged.report is not None
    (decision,) = merged.report.decisions
    assert (decision.group, decision.kept, decision.connections) == ("web", False, 4)
    assert merged.report.left_out == {"server_egress": 4}
    assert isinstance(merged.ruleset, Policy)
    text = merged.ruleset.convert("toml").text
    assert '#     { to = "203.0.113.66/32", proto = "tcp", ports = [8443] },' in text
    assert "203.0.113.66" not in str(merged.ruleset.to_dict())
    # A rule of the person, or a direction that is open, has taken the decision.
    rule = {"to": "203.0.113.0/24", "proto": "any"}
    for taken in (open_policy(default="deny", egress=[rule]), open_policy()):
        report = taken.merge(beacon).report
        assert report is not None
        assert [one.kept for one in report.decisions] == [True]
    assert "203.0.113.66/32" in str(open_policy(default="deny").merge(beacon, server_egress=True).ruleset.to_dict())


def test_the_program_asks_about_a_servers_egress(beacon: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.toml"
    open_policy(default="deny").write(old)
    run = program.run("policy", "merge", old, beacon)
    assert run.returncode == 0, run.stderr
    assert b"203.0.113.66/32" in run.stdout  # as a comment
    assert b"These servers initiate, and the policy does not allow it" in run.stderr
    assert b"servers that initiate outwards: for a person to decide" in run.stderr
    allowed = program.run("policy", "merge", "--server-egress", "allow", "--json", old, beacon)
    assert next(one["place"] for one in json.loads(allowed.stdout)["added"]) == "groups.web.egress[0]"


def test_a_new_group_is_named_and_limited_whatever_the_default(beacon: Path, pcap: Pcap) -> None:
    merged = open_policy().merge(beacon)
    (name,) = merged.groups
    assert merged.groups[name] == (f"{CLIENT}/31",)
    assert not merged.ruleset.is_open(name, "ingress")
    assert not merged.ruleset.is_open(name, "egress")
    assert merged.ruleset.is_open("web", "egress")
    elsewhere = pcap(evenly(download(CLIENT, 40000, "198.51.100.9", 22, 100)), name="elsewhere.pcap")
    assert merged.ruleset.check(elsewhere).refused == 1  # type: ignore[attr-defined]


def test_a_merger_has_the_names_of_the_peers(pcap: Pcap) -> None:
    request = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
    frames = [
        tcp(CLIENT, 40000, "192.0.2.7", 80, SYN, 5),
        tcp("192.0.2.7", 80, CLIENT, 40000, SYN | ACK, 90, 6),
        tcp(CLIENT, 40000, "192.0.2.7", 80, ACK | PSH, 6, 91, request),
        tcp("192.0.2.7", 80, CLIENT, 40000, ACK | PSH, 91, 6 + len(request), b"HTTP/1.1 200 OK\r\n\r\n"),
    ]
    old = Policy.from_dict({"groups": {"lan": {"members": ["10.0.2.0/24"], "ingress": [], "egress": []}}})
    merged = old.merge(pcap(evenly(frames)))
    assert [one.rule.names for one in merged.added] == [("api.example.com",)]


def test_rules_of_20000_are_compared_by_key(pcap: Pcap) -> None:
    """Each rule is looked up: the time grows with the rules, not with their square."""
    hosts = [f"10.{n >> 8 & 255}.{n & 255}.1" for n in range(20_000)]
    rules = tuple(Rule(peers=(f"{host}/32",), proto="tcp", ports=((443, 443),)) for host in hosts)
    new = tuple(dataclasses.replace(rule, ports=((80, 80), (443, 443))) for rule in rules)
    groups = {"web": Group(members=(f"{WEB}/32",), ingress=rules)}
    at = time.process_time()
    merged = merging.merge(
        Ruleset(groups=groups),
        Ruleset(groups={"web": Group(members=(f"{WEB}/32",), ingress=new)}),
        [n % 2 for n in range(20_000)],
    )
    took = time.process_time() - at
    assert (len(merged.added), len(merged.stale), merged.kept) == (20_000, 10_000, 10_000)
    assert all(one.rule.ports == ((80, 80),) for one in merged.added)
    assert took < 20, took  # 400 million comparisons would take minutes


PEERS = st.sampled_from(["any", "a", "b", "10.0.0.0/24", "10.0.0.7/32", "10.0.1.0/24", "192.0.2.0/24", "192.0.2.9/32"])
RANGES = st.tuples(st.integers(0, 6), st.integers(0, 3)).map(lambda it: (it[0], it[0] + it[1]))
RULES = st.builds(
    Rule,
    peers=st.lists(PEERS, min_size=1, max_size=3, unique=True).map(tuple),
    proto=st.sampled_from(["any", "tcp", "udp"]),
    ports=st.lists(RANGES, max_size=2).map(lambda some: merged_ranges(tuple(some))),
).map(lambda rule: dataclasses.replace(rule, ports=()) if rule.proto == "any" else rule)


@settings(deadline=None, max_examples=300)
@given(standing=st.lists(RULES, max_size=5).map(tuple), new=RULES)
def test_what_is_missing_is_told_for_every_address_and_port(standing: tuple[Rule, ...], new: Rule) -> None:
    """The naive way: every address and port one by one, by the model."""
    groups = {"a": Group(members=("10.0.0.0/24",)), "b": Group(members=("192.0.2.8/29", "10.0.1.0/24"))}
    members = Membership(Ruleset(groups=groups))

    def allowed(rules: Iterable[Rule]) -> set[tuple[str, str, int]]:
        return {
            (address, proto, port)
            for address in ("10.0.0.7", "10.0.0.9", "10.0.1.3", "192.0.2.9", "192.0.2.1", "198.51.100.1")
            for proto in ("tcp", "udp")
            for port in (*range(11), 65535)
            for rule in rules
            if rule.proto in ("any", proto)
            and (not rule.ports or any(first <= port <= last for first, last in rule.ports))
            and any(
                peer == "any"
                or peer in members.of(address)
                or (peer not in groups and ipaddress.ip_address(address) in ipaddress.ip_network(peer))
                for peer in rule.peers
            )
        }

    missing = Said(standing, groups, said.members(groups)).missing(new)
    assert allowed([*standing, *missing]) == allowed([*standing, new])
    assert allowed(missing) <= allowed([new])
    assert Said(standing, groups, said.members(groups)).says(new) == (missing == [])
    if not missing:
        assert allowed([new]) <= allowed(standing)
