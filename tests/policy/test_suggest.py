"""Suggested policies: they allow all that they were made of, no rule can go, and nothing is wider than seen."""

from __future__ import annotations

import dataclasses
import ipaddress
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.members import Membership
from conntrack_py.policy.model import SIDES, WITH_PORTS, Ruleset
from conntrack_py.policy.suggestion import fold
from conntrack_py.policy.traffic.pairs import Traffic
from conntrack_py.summaries import summarise
from support import corpus
from support.packets import ACK, RST, SYN, download, echo, evenly, pcap_bytes, tcp, udp

#: Rules of a policy that are taken away one at a time.
MOST_REMOVED = 150


def tracked(capture: corpus.Capture) -> ct.ConnectionTable:
    """Its connections; where nobody is local, those who answer are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        table = ct.track(capture.path).connections
        if set(table["direction"]) <= {"transit", "multicast"} and len(table):
            table = ct.track(capture.path, local=sorted(set(table["resp_addr"]))).connections
    return table


def kept(table: ct.ConnectionTable, policy: Policy) -> np.ndarray:
    """The connections that a policy was made of."""
    assert policy.report is not None
    traffic = Traffic(table)
    waiting = {
        (server, str(peer), one.rule.proto, one.rule.ports)
        for one in policy.report.decisions
        if not one.kept and one.kind == "initiates" and not one.unsure
        for server in one.servers
        for peer in hosts(one.rule.peers)
    }
    waits = [
        (
            traffic.addresses[orig],
            traffic.addresses[resp],
            traffic.protos[proto],
            ((service, service),) if has_services(traffic, proto) else (),
        )
        in waiting
        for orig, resp, proto, service in zip(
            traffic.orig, traffic.resp, traffic.proto, traffic.service.tolist(), strict=True
        )
    ]
    return traffic.kept & ~np.array(waits, bool)


def hosts(peers: tuple[str, ...]) -> list[str]:
    return [str(host) for peer in peers for host in ipaddress.ip_network(peer)]


def has_services(traffic: Traffic, proto: int) -> bool:
    return traffic.protos[proto] in (*WITH_PORTS, "icmp", "icmp6")


def without(policy: Policy, number: int) -> Policy:
    """The policy without one of its rules."""
    numbered = policy.numbered()[number]
    group = policy.groups[numbered.group]
    rules = [rule for index, rule in enumerate(group.rules(numbered.side)) if index != numbered.index]
    changed = dataclasses.replace(group, **{numbered.side: tuple(rules)})
    return dataclasses.replace(policy, groups={**policy.groups, numbered.group: changed})


def assert_right(table: ct.ConnectionTable, policy: Policy) -> None:
    """It refuses nothing that it was made of, and each of its rules is needed for that."""
    wanted = kept(table, policy)
    assert policy.report is not None
    assert policy.report.kept == wanted.sum()
    assert (policy.evaluate(table)["verdict"][wanted] == ct.Verdict.ALLOWED).all()
    rules = len(policy.numbered())
    for number in range(0, rules, 1 + rules // MOST_REMOVED):
        verdicts = without(policy, number).evaluate(table)["verdict"][wanted]
        assert (verdicts != ct.Verdict.ALLOWED).any(), policy.numbered()[number]


def assert_exact(table: ct.ConnectionTable, policy: Policy) -> None:
    """Every peer and service of every rule was seen together, with some member of the group."""
    traffic = Traffic(table)
    membership = Membership(policy)
    seen = set()
    for pair in traffic.pairs(kept(table, policy)):
        for side, own, peer in (("ingress", pair.resp, pair.orig), ("egress", pair.orig, pair.resp)):
            for group in membership.of(own):
                seen |= {(group, side, pair.proto, name, pair.service) for name in (peer, *membership.of(peer))}
    for one in policy.numbered():
        named = [peer for peer in one.rule.peers if peer in policy.groups]
        hosts = [str(host) for network in Ruleset(groups=policy.groups).networks(one.rule.peers) for host in network]
        ports = [port for first, last in one.rule.ports or ((0, 0),) for port in range(first, last + 1)]
        for peer in (*named, *hosts):
            for port in ports:
                assert (one.group, one.side, one.rule.proto, peer, port) in seen, (one, peer, port)


@pytest.mark.parametrize("capture", corpus.captures(), ids=lambda capture: capture.name)
def test_captures(capture: corpus.Capture) -> None:
    table = tracked(capture)
    for server_egress in (False, True):
        policy = Policy.suggest(table, server_egress=server_egress)
        assert policy.report is not None
        assert_right(table, policy)
        assert_exact(table, policy)
        check = policy.check(table)
        asked = [
            policy.report.left_out.get(reason, 0) for reason in ("server_egress", "server_inside", "administration")
        ]
        assert check.refused - check.doubtful == sum(asked)
        assert policy.report.kept + sum(policy.report.left_out.values()) == len(table)
        again = Policy.from_dict(policy.to_dict())
        assert (again.groups, again.default) == (policy.groups, policy.default)


ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "192.0.2.1", "192.0.2.2", "198.51.100.7", "224.0.0.251"]
PORTS = [22, 53, 80, 443, 8080, 8081]


@st.composite
def stories(draw: st.DrawFn) -> bytes:
    """A capture of a few connections between a few hosts: answered, refused or ignored TCP, UDP, pings."""
    frames: list[bytes] = []
    for number in range(draw(st.integers(1, 14))):
        orig = draw(st.sampled_from(ADDRESSES[:-1]))
        resp = draw(st.sampled_from([address for address in ADDRESSES if address != orig]))
        port, sport = draw(st.sampled_from(PORTS)), 40000 + number
        match draw(st.sampled_from(["tcp", "tcp", "tcp", "syn", "udp", "lone", "stream", "ping"])):
            case "tcp":
                frames += download(orig, sport, resp, port, 1000)
            case "syn":
                frames.append(tcp(orig, sport, resp, port, SYN, 5))
            case "udp":
                frames += [udp(orig, sport, resp, port, b"?"), udp(resp, port, orig, sport, b"!")]
            case "lone":
                frames.append(udp(orig, sport, resp, port, b"?"))
            case "stream":
                frames += [udp(orig, sport, resp, port, b"log")] * 5
            case "ping":
                frames += [echo(orig, resp, 8), echo(resp, orig, 0)]
    return pcap_bytes(evenly(frames))


def table_of(tmp_path: Path, capture: bytes) -> ct.ConnectionTable:
    path = tmp_path / "story.pcap"
    path.write_bytes(capture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        return ct.track(path).connections


@settings(deadline=None, max_examples=60)
@given(capture=stories(), server_egress=st.booleans(), confidence=st.sampled_from([0.5, 0.9]))
def test_stories(
    tmp_path_factory: pytest.TempPathFactory, capture: bytes, server_egress: bool, confidence: float
) -> None:
    table = table_of(tmp_path_factory.mktemp("story"), capture)
    if confidence == 0.9:
        policy = Policy.suggest(table, server_egress=server_egress)
        assert_right(table, policy)
        assert_exact(table, policy)
    policy = Policy.suggest(table, server_egress=True, min_confidence=confidence)
    check = policy.check(table, min_confidence=confidence)
    assert policy.report is not None
    assert check.refused - check.doubtful == policy.report.left_out.get("administration", 0)
    assert check.unused == ()


@settings(deadline=None, max_examples=60)
@given(
    capture=stories(),
    budget=st.fixed_dictionaries(
        {},
        optional={
            "max_rules": st.integers(1, 8),
            "fold_ports": st.integers(1, 3),
            "fold_peers": st.integers(1, 3),
        },
    ),
)
def test_budgets_refuse_nothing_more(
    tmp_path_factory: pytest.TempPathFactory, capture: bytes, budget: dict[str, int]
) -> None:
    table = table_of(tmp_path_factory.mktemp("story"), capture)
    bare, folded = Policy.suggest(table), Policy.suggest(table, **budget)
    wanted = kept(table, bare)
    assert (folded.evaluate(table)["verdict"][wanted] == ct.Verdict.ALLOWED).all()
    kinds = {(one.group, one.side, one.rule.proto) for one in bare.numbered()}
    if "max_rules" in budget:
        assert len(folded.numbered()) <= max(budget["max_rules"], len(kinds))
    for one in folded.numbered():
        if "fold_ports" in budget and one.rule.proto in WITH_PORTS:
            assert len(one.rule.ports) <= budget["fold_ports"]
    wider = folded.to_dict() != bare.to_dict()
    assert folded.report is not None
    assert wider or not folded.report.folds


def test_peers_are_folded_by_density(tmp_path: Path) -> None:
    clients = [f"198.51.100.{last}" for last in range(16, 32)]
    frames = [frame for client in clients for frame in download(client, 40000, "10.0.0.80", 443, 1000)]
    table = table_of(tmp_path, pcap_bytes(evenly(frames)))
    half = Policy.suggest(table, fold_peers=1)
    assert half.groups["web"].ingress[0].peers == ("198.51.100.0/27",) or half.groups["web"].ingress[0].peers == (
        "198.51.100.16/28",
    )
    scattered = [f"{first}.7.7.7" for first in range(20, 40)]
    frames = [frame for client in scattered for frame in download(client, 40000, "10.0.0.80", 443, 1000)]
    table = table_of(tmp_path, pcap_bytes(evenly(frames)))
    assert len(Policy.suggest(table).groups["web"].ingress[0].peers) == 20
    policy = Policy.suggest(table, fold_peers=8)
    assert policy.groups["web"].ingress[0].peers == ("any",)
    assert policy.report is not None
    assert "made any" in str(policy.report.folds)


def test_groups_are_proposed_renamed_and_fed_back(tmp_path: Path) -> None:
    frames = [
        frame
        for server in ("10.0.0.80", "10.0.0.81")
        for client in ("10.0.1.1", "198.51.100.7")
        for frame in download(client, 40000, server, 443, 1000)
    ]
    frames += download("10.0.1.1", 40001, "10.0.0.22", 22, 1000)
    table = table_of(tmp_path, pcap_bytes(evenly(frames)))
    policy = Policy.suggest(table)
    assert {name: group.members for name, group in policy.groups.items()} == {
        "web": ("10.0.0.80/31",),
        "ssh": ("10.0.0.22/32",),
        "clients": ("10.0.1.1/32",),
    }
    assert policy.groups["clients"].egress[0].peers in {("web",), ("ssh",)}
    renamed = {
        "default": "deny",
        "groups": {"front": {"members": ["10.0.0.80/28"]}, "laptops": {"members": ["10.0.1.0/24"]}},
    }
    again = Policy.suggest(table, groups=Policy.from_dict(renamed))
    assert list(again.groups) == ["front", "laptops", "ssh"]
    assert again.groups["front"].members == ("10.0.0.80/28",)
    # Two of sixteen addresses were seen: the name of the group would be wider.
    assert {rule.peers for rule in again.groups["laptops"].egress} == {("10.0.0.80/31",), ("ssh",)}
    assert_right(table, again)
    assert_exact(table, again)
    folded = Policy.suggest(table, groups=Policy.from_dict(renamed), fold_peers=1)
    assert {rule.peers for rule in folded.groups["laptops"].egress} == {("front",), ("ssh",)}
    assert folded.report is not None
    assert "the group front" in str(folded.report.folds)


def test_zones_are_groups(tmp_path: Path) -> None:
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap_bytes(evenly(download("10.0.1.1", 40000, "10.0.0.80", 443, 1000))))
    policy = Policy.suggest(path, config=ct.Config(zones={"office": ["10.0.1.0/24"]}))
    assert policy.groups["office"].members == ("10.0.1.0/24",)
    assert policy.groups["web"].ingress[0].peers == ("10.0.1.1/32",)
    with pytest.raises(ct.PolicyError, match="zones as groups: found 'any'"):
        Policy.suggest(path, config=ct.Config(zones={"any": ["10.0.1.0/24"]}))


@pytest.mark.parametrize("budget", [{"max_rules": 0}, {"fold_peers": -1}, {"min_confidence": float("nan")}])
def test_budgets_are_checked(tmp_path: Path, budget: dict[str, float]) -> None:
    table = table_of(tmp_path, pcap_bytes(evenly(download("10.0.1.1", 40000, "10.0.0.80", 443, 1000))))
    with pytest.raises(ValueError, match="expected a number from"):
        Policy.suggest(table, **budget)  # type: ignore[arg-type]


def test_names_say_what_servers_ask_for(tmp_path: Path) -> None:
    request = b"GET /debian HTTP/1.1\r\nHost: deb.example\r\n\r\n"
    frames = download("198.51.100.7", 40000, "10.0.0.80", 443, 1000)
    frames += [
        tcp("10.0.0.80", 50000, "203.0.113.9", 80, SYN, 10),
        tcp("203.0.113.9", 80, "10.0.0.80", 50000, SYN | ACK, 90, 11),
        tcp("10.0.0.80", 50000, "203.0.113.9", 80, ACK, 11, 91),
        tcp("10.0.0.80", 50000, "203.0.113.9", 80, ACK, 11, 91, request),
        tcp("203.0.113.9", 80, "10.0.0.80", 50000, ACK, 91, 11 + len(request), b"HTTP/1.1 200 OK\r\n\r\n"),
    ]
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    policy = Policy.suggest(path)
    assert policy.report is not None
    (decision,) = policy.report.decisions
    assert (decision.names, decision.kept, decision.group) == (("deb.example",), False, "web")
    assert "package mirrors" in decision.breaks
    text = policy.convert("toml").text
    assert "asked for as deb.example" in text
    assert Policy.from_dict(policy.to_dict()).groups["web"].egress == ()


def test_rules_for_the_most_connections_come_first(tmp_path: Path) -> None:
    frames = [
        frame
        for port, clients in ((25, 1), (443, 3), (8080, 2))
        for client in range(clients)
        for frame in download(f"198.51.100.{len(str(port))}{port % 10}", 40000 + client, "10.0.0.80", port, 1000)
    ]
    policy = Policy.suggest(table_of(tmp_path, pcap_bytes(evenly(frames))))
    (group,) = policy.groups.values()
    assert [rule.ports for rule in group.ingress] == [((443, 443),), ((8080, 8080),), ((25, 25),)]


def test_confidence_and_reasons(tmp_path: Path) -> None:
    frames = [
        *download("198.51.100.7", 40000, "10.0.0.80", 443, 1000),
        tcp("198.51.100.9", 40000, "10.0.0.80", 23, SYN, 5),
        tcp("10.0.0.80", 23, "198.51.100.9", 40000, ACK | 4, 0, 6),
        tcp("198.51.100.9", 40001, "10.0.0.80", 25, SYN, 5),
        udp("198.51.100.9", 40002, "10.0.0.80", 9999, b"?"),
    ]
    table = table_of(tmp_path, pcap_bytes(evenly(frames)))
    policy = Policy.suggest(table)
    assert policy.report is not None
    assert policy.report.left_out == {"low_confidence": 1, "refused": 1, "unanswered": 1}
    assert [str(one) for one in policy.numbered()] == ["web ingress from 198.51.100.7/32 tcp 443"]
    evidence = policy.groups["web"].ingress[0].evidence
    assert evidence is not None
    assert (evidence.connections, evidence.peers) == (1, 1)


def test_nobody_local(tmp_path: Path) -> None:
    table = table_of(tmp_path, pcap_bytes(evenly(download("198.51.100.7", 40000, "192.0.2.1", 443, 1000))))
    policy = Policy.suggest(table)
    assert policy.groups == {}
    assert policy.check(table).ok
    assert all(side in ("ingress", "egress") for side in SIDES)


def test_a_refusal_alone_makes_no_rule_and_offers_nothing(pcap: Callable[..., Path]) -> None:
    """One RST+ACK, or twenty of a host that was scanned before the capture began."""
    frames = [tcp("10.0.1.9", port, "10.0.5.66", 40000, RST | ACK, 0, 6) for port in range(443, 463)]
    for some in (frames[:1], frames):
        result = ct.track(pcap(evenly(some)))
        assert {row.evidence for row in result.connections} == {"refused"}
        policy = Policy.suggest(result)
        assert all(not group.ingress and not group.egress for group in policy.groups.values())
        facts = summarise(result.connections, result.stats, ct.Config())
        assert all(not host.offers for hosts in facts.local_hosts.top.values() for host in hosts)


def test_many_rules_are_folded_in_little_memory() -> None:
    """All pairs of 6,000 rules would be 18 million."""
    drafts = [
        fold.Draft(
            group="servers",
            side="egress",
            proto="tcp",
            peers=frozenset({f"198.51.{number % 250}.{number // 250}", f"203.0.113.{number % 7}"}),
            services=frozenset({number % 997, number % 31}),
            pairs=[],
        )
        for number in range(6_000)
    ]
    folded = fold.fold_rules(drafts, 5_000)
    assert len(folded) == 5_000
    for kind in ("peers", "services"):
        before, after = (frozenset().union(*(getattr(one, kind) for one in some)) for some in (drafts, folded))
        assert before == after
