"""Every check of lint finds what it is for, says where and what to do, and leaves right policies alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.policy import document
from conntrack_py.policy.lint import CHECKS, Problem, lint
from conntrack_py.policy.model import ANY, Group, Rule, Ruleset, Side, effective_members
from support.packets import ACK, Packet, download, echo, evenly, pcap_bytes, tcp, udp

VERDICT = [("verdict", "u1"), ("egress_rule", "i4"), ("ingress_rule", "i4"), ("orig_group", "i4"), ("resp_group", "i4")]
WEB = "10.0.1.5"
CLIENTS = [f"198.51.100.{n}" for n in range(1, 6)]


def policy(text: str, source: str = "") -> Ruleset:
    return document.loads(text, "toml", source)


def web(ingress: str = "", egress: str = "", more: str = "") -> Ruleset:
    """A policy whose group web has these rules, ingress on line 4 and egress on line 7."""
    rules = f"ingress = [\n{ingress}\n]\negress = [\n{egress}\n]"
    return policy(f"[groups.web]\nmembers = ['10.0.1.0/24']\n{rules}\n{more}")


def naive_verdicts(ruleset: Ruleset, connections: ct.ConnectionTable) -> Any:
    """Verdicts as the model describes them, one connection at a time."""
    members = effective_members(ruleset)

    def group_of(address: str) -> int:
        held = [
            n
            for n, name in enumerate(ruleset.groups)
            if any(ipaddress.ip_address(address) in net for net in members[name])
        ]
        return held[0] if held else -1

    def allowed(group: int, side: Side, peer: str, proto: str, port: int) -> int:
        if group < 0:
            return -1
        name = list(ruleset.groups)[group]
        for numbered in ruleset.numbered():
            rule = numbered.rule
            if (
                (numbered.group, numbered.side) == (name, side)
                and rule.proto in (ANY, proto)
                and (not rule.ports or any(first <= port <= last for first, last in rule.ports))
                and any(
                    word == ANY
                    or (word in members and any(ipaddress.ip_address(peer) in net for net in members[word]))
                    or (word not in members and ipaddress.ip_address(peer) in ipaddress.ip_network(word))
                    for word in rule.peers
                )
            ):
                return numbered.number
        return -1 if ruleset.default_of(name, side) == "allow" else -2

    found = np.zeros(len(connections), dtype=VERDICT)
    for n, row in enumerate(connections):
        port = row.orig_port if row.proto.startswith("icmp") else row.resp_port
        orig, resp = group_of(row.orig_addr), group_of(row.resp_addr)
        egress = allowed(orig, "egress", row.resp_addr, row.proto, port)
        ingress = allowed(resp, "ingress", row.orig_addr, row.proto, port)
        found[n] = (0, egress, ingress, orig, resp)
    return found


@pytest.fixture
def traffic(tmp_path: Path) -> Callable[[Iterable[bytes]], ct.ConnectionTable]:
    def track(frames: Iterable[bytes]) -> ct.ConnectionTable:
        packets: list[Packet] = evenly(frames)
        path = tmp_path / "capture.pcap"
        path.write_bytes(pcap_bytes(packets))
        return ct.track(path, local=["10.0.0.0/8"]).connections

    return track


Track = Callable[[Iterable[bytes]], ct.ConnectionTable]


def judged(ruleset: Ruleset, connections: ct.ConnectionTable, **options: int) -> list[Problem]:
    return lint(ruleset, connections, naive_verdicts(ruleset, connections), **options)


def only(problems: list[Problem], check: str) -> Problem:
    """The one problem of a check."""
    (found,) = [problem for problem in problems if problem.check == check]
    assert found.name == CHECKS[check].name
    assert found.message.endswith(".")
    assert found.fix.endswith(".")
    return found


def checks(problems: list[Problem]) -> set[str]:
    return {problem.check for problem in problems}


def visits(addresses: Iterable[str] = CLIENTS, port: int = 443) -> list[bytes]:
    """Clients from outside that the web server answers."""
    return [frame for n, address in enumerate(addresses) for frame in download(address, 40000 + n, WEB, port, 2000)]


HTTPS_IN = '{ from = "any", proto = "tcp", ports = [443] }'
HTTPS_OUT = '{ to = "any", proto = "tcp", ports = [443] }'
DNS = '{ to = "10.0.0.53", proto = "udp", ports = [53] }'


def test_a_right_policy_has_no_problems(traffic: Track) -> None:
    right = web(
        HTTPS_IN, DNS, "[groups.dns]\nmembers=['10.0.0.53']\ningress=[{from='web', proto='udp', ports=[53]}]\negress=[]"
    )
    assert lint(right) == []
    query = [udp(WEB, 5000, "10.0.0.53", 53, b"?" * 30), udp("10.0.0.53", 53, WEB, 5000, b"!" * 60)]
    assert judged(right, traffic([*visits(), *query])) == []


def test_d1_both_directions() -> None:
    found = only(lint(web(HTTPS_IN, HTTPS_OUT)), "D1")
    assert (found.severity, found.place, found.line) == ("error", "groups.web.egress[0]", 7)
    assert found.rule == "web egress to any tcp 443"
    assert "groups.web.ingress[0] (web ingress from any tcp 443)" in found.message
    assert "Keep the ingress if its members offer the service" in found.fix
    assert checks(lint(web(HTTPS_IN, HTTPS_OUT))) == {"D1"}


def test_d1_names_the_side_that_initiates(traffic: Track) -> None:
    found = only(judged(web(HTTPS_IN, HTTPS_OUT), traffic(visits())), "D1")
    assert (found.place, found.severity) == ("groups.web.egress[0]", "error")
    assert found.fix == "Keep groups.web.ingress[0] (5 such connections came in, none went out) and remove this rule."
    out = traffic(download(WEB, 5000, "203.0.113.9", 443))
    found = only(judged(web(HTTPS_IN, HTTPS_OUT), out), "D1")
    assert (found.place, found.line) == ("groups.web.ingress[0]", 4)
    assert found.fix.startswith("Keep groups.web.egress[0] (1 such connection went out, none came in)")


def test_d1_is_a_note_where_both_sides_initiate(traffic: Track) -> None:
    both = traffic([*visits(), *download(WEB, 5000, "203.0.113.9", 443)])
    assert only(judged(web(HTTPS_IN, HTTPS_OUT), both), "D1").severity == "note"


def test_d1_is_a_warning_where_one_side_names_its_peers() -> None:
    backend = '{ to = "203.0.113.0/24", proto = "tcp", ports = [443] }'
    assert only(lint(web(HTTPS_IN, backend)), "D1").severity == "warning"


@pytest.mark.parametrize(
    ("ingress", "egress"),
    [
        (HTTPS_IN, '{ to = "10.0.0.53", proto = "tcp", ports = [53] }'),
        (HTTPS_IN, '{ to = "203.0.113.1", proto = "udp", ports = [443] }'),
        (
            '{ from = "198.51.100.0/24", proto = "tcp", ports = [443] }',
            '{ to = "203.0.113.1", proto = "tcp", ports = [443] }',
        ),
        # Members among themselves need both.
        ('{ from = "web", proto = "tcp", ports = [7000] }', '{ to = "web", proto = "tcp", ports = [7000] }'),
        ('{ from = "any", proto = "tcp", ports = [7000] }', '{ to = "10.0.1.0/25", proto = "tcp", ports = [7000] }'),
        # Both may ask the other for an echo.
        (
            '{ from = "10.9.0.0/16", proto = "icmp", types = [8] }',
            '{ to = "10.9.0.0/16", proto = "icmp", types = [8] }',
        ),
    ],
)
def test_no_d1(ingress: str, egress: str) -> None:
    assert lint(web(ingress, egress)) == []


def test_d1_between_groups_without_known_addresses() -> None:
    rules = (Rule(peers=("app",), proto="tcp", ports=((443, 443),)),)
    other = Group(ingress=rules, egress=rules)
    assert only(lint(Ruleset(groups={"app": Group(), "web": other})), "D1").severity == "error"
    own = Group(ingress=(Rule(peers=("web",)),), egress=(Rule(peers=("web",)),))
    assert lint(Ruleset(groups={"web": own})) == []


def test_d1_believes_the_evidence_of_a_suggested_rule() -> None:
    evidence = "evidence = {connections = 7, peers = 2, first = 2026-01-01T00:00:00Z, last = 2026-01-02T00:00:00Z} }"
    found = only(lint(web(HTTPS_IN, HTTPS_OUT.replace(" }", f", {evidence}"))), "D1")
    assert (found.place, found.fix.startswith("Keep groups.web.egress[0] (7 such")) == ("groups.web.ingress[0]", True)


def test_d2_only_replies_could_have_matched(traffic: Track) -> None:
    clients = '{ to = "198.51.100.0/24", proto = "tcp", ports = ["30000-45000"] }'
    found = only(judged(web(HTTPS_IN, clients), traffic(visits())), "D2")
    assert (found.place, found.line, found.severity) == ("groups.web.egress[0]", 7, "warning")
    assert "5 connections from such ports came in" in found.message
    assert found.fix == "Remove this rule."
    ingress = '{ from = "203.0.113.0/24", proto = "tcp", ports = ["4000-6000"] }'
    egress = '{ to = "203.0.113.9", proto = "tcp", ports = [8443] }'
    out = traffic(download(WEB, 5000, "203.0.113.9", 8443))
    assert only(judged(web(ingress, egress), out), "D2").place == "groups.web.ingress[0]"


def test_no_d2_where_the_rule_was_used(traffic: Track) -> None:
    used = [*visits(), *download(WEB, 5000, "198.51.100.9", 30000)]
    clients = '{ to = "198.51.100.0/24", proto = "tcp", ports = ["30000-45000"] }'
    assert "D2" not in checks(judged(web(HTTPS_IN, clients), traffic(used)))


def test_d3_a_server_that_may_go_anywhere(traffic: Track) -> None:
    open_egress = web(HTTPS_IN, '{ to = "any" }')
    found = only(lint(open_egress), "D3")
    assert (found.severity, found.place, found.line) == ("warning", "groups.web.egress[0]", 7)
    assert found.message == "web offers tcp 443, and may also initiate towards everybody."
    found = only(judged(open_egress, traffic(visits())), "D3")
    assert found.severity == "error"
    assert "only ever answered: 5 connections came in, none went out" in found.message
    assert checks(judged(open_egress, traffic(visits()))) == {"D3"}
    initiates = traffic([*visits(), *(f for n in range(5) for f in download(WEB, 5000 + n, f"203.0.113.{n + 1}", 80))])
    assert "D3" not in checks(judged(open_egress, initiates))


@pytest.mark.parametrize("peers", ['"0.0.0.0/0"', '["0.0.0.0/0", "::/0"]', '["0.0.0.0/1", "128.0.0.0/1"]'])
def test_d3_any_in_other_words(peers: str) -> None:
    assert "D3" in checks(lint(web(HTTPS_IN, f"{{ to = {peers}, proto = 'tcp', ports = [80] }}")))


def test_no_d3_for_clients() -> None:
    assert lint(web("", '{ to = "any" }')) == []
    assert (
        lint(web('{ from = "any", proto = "icmp", types = [8] }', '{ to = "any", proto = "tcp", ports = [80] }')) == []
    )


@pytest.mark.parametrize("ports", ["1024-65535", "32768-60999", "49152-65535"])
def test_d4_return_path(ports: str) -> None:
    found = only(lint(web(HTTPS_IN, f"{{ to = '198.51.100.0/24', proto = 'tcp', ports = ['{ports}'] }}")), "D4")
    assert (found.severity, found.place, found.line) == ("warning", "groups.web.egress[0]", 7)
    assert ports in found.message
    assert "replies belong to the connection that an ingress rule allowed" in found.fix


@pytest.mark.parametrize("ports", ["1-65535", "30000-32767", "60000-60999", "1024-49151"])
def test_no_d4(ports: str) -> None:
    assert "D4" not in checks(lint(web(f"{{ from = '198.51.100.0/24', proto = 'tcp', ports = ['{ports}'] }}")))


def test_no_d4_where_such_ports_are_used(traffic: Track) -> None:
    passive = web('{ from = "198.51.100.0/24", proto = "tcp", ports = ["49152-65535"] }')
    assert "D4" not in checks(judged(passive, traffic(visits(port=50000))))


def test_d9_a_side_that_is_left_open() -> None:
    text = "[groups.web]\nmembers=['10.0.1.0/24']\ndefault={{egress='{}'}}\ningress=[{}]"
    found = only(lint(policy(text.format("allow", HTTPS_IN))), "D9")
    assert (found.severity, found.place, found.line) == ("warning", "groups.web.egress", 1)
    assert found.message == "web may initiate towards everybody: its default for egress is allow, and it has no rules."
    found = only(lint(policy(text.format("allow", HTTPS_IN), "web.yaml")), "D9")
    assert "Egress is not among its policyTypes" in found.message
    assert found.fix == "List Egress in policyTypes: with no rules it denies."
    assert lint(policy(text.format("deny", HTTPS_IN))) == []
    # Only a name for addresses.
    assert lint(policy("[groups.web]\nmembers=['10.0.1.0/24']\ndefault='allow'")) == []


def test_d9_names_cannot_be_asked_for(traffic: Track) -> None:
    query = [udp(WEB, 5000, "10.0.0.53", 53, b"?" * 30), udp("10.0.0.53", 53, WEB, 5000, b"!" * 60)]
    found = only(judged(web(HTTPS_IN), traffic([*visits(), *query])), "D9")
    assert "1 DNS connection" in found.message
    assert "udp and tcp 53" in found.fix
    assert "D9" not in checks(judged(web(HTTPS_IN), traffic(visits())))
    assert "D9" not in checks(judged(web(HTTPS_IN, DNS), traffic([*visits(), *query])))


def test_d10_never_used(traffic: Track) -> None:
    found = only(judged(web(HTTPS_IN, DNS), traffic(visits())), "D10")
    assert (found.severity, found.place, found.line) == ("note", "groups.web.egress[0]", 7)
    assert "of traffic (5 connections, 100 % of them seen from the first packet)" in found.message
    assert "D10" not in checks(judged(web(HTTPS_IN, DNS), traffic([])))


def test_d10_says_nothing_about_shared_addresses(traffic: Track) -> None:
    shared = "[groups.all]\nmembers=['10.0.1.0/24']\ningress=[{from='any', proto='tcp', ports=[443]}]\negress=[]"
    assert "D10" not in checks(judged(web(HTTPS_IN, "", shared), traffic(visits())))


def test_d11_too_wide(traffic: Track) -> None:
    wide = web('{ from = "198.51.0.0/16", proto = "tcp", ports = ["400-500"] }')
    found = only(judged(wide, traffic(visits())), "D11")
    assert (found.severity, found.place, found.line) == ("warning", "groups.web.ingress[0]", 4)
    assert found.message == (
        "It allows 65,536 addresses, but only 5 peers used it; and 101 ports, but only 443/tcp was used."
    )
    assert "198.51.100.1, 198.51.100.2, 198.51.100.3, 198.51.100.4 and 1 more; and 443/tcp" in found.fix
    assert "D11" not in checks(judged(wide, traffic(visits()), addresses=100_000, ports=200))
    assert "D11" not in checks(
        judged(web('{ from = "198.51.100.0/24", proto = "tcp", ports = [443, 80] }'), traffic(visits()))
    )


def test_d11_any_is_narrowed_only_where_few_are_near(traffic: Track) -> None:
    near = ["10.0.2.7", "10.0.2.8"]
    found = only(judged(web(HTTPS_IN), traffic(visits(near))), "D11")
    assert "everybody, but only 2 peers used it" in found.message
    assert "10.0.2.7, 10.0.2.8" in found.fix
    assert "D11" not in checks(judged(web(HTTPS_IN), traffic(visits(CLIENTS[:2]))))
    assert "D11" not in checks(judged(web(HTTPS_IN), traffic(visits([f"10.0.2.{n}" for n in range(1, 5)]))))


def test_d12_nobody_knows_who_initiated(traffic: Track) -> None:
    rule = web('{ from = "198.51.100.0/24", proto = "tcp" }', '{ to = "198.51.100.0/24", proto = "tcp" }')
    middle = [tcp("198.51.100.9", 41000, WEB, 42000, ACK, 100 + n, 7, b"x") for n in range(3)]
    connections = traffic(middle)
    assert (connections["confidence"] < 0.9).all()
    found = only(judged(rule, connections), "D12")
    assert found.severity == "warning"
    assert found.place in ("groups.web.ingress[0]", "groups.web.egress[0]")
    assert "Of the 1 connection that used it no initiator is certain" in found.message
    assert "D12" not in checks(judged(rule, traffic([*middle, *visits()])))


def tcp_from(peer: str, *ports: int | str) -> str:
    return f"{{ from = '{peer}', proto = 'tcp', ports = {list(ports)} }}"


@pytest.mark.parametrize(
    ("rules", "place", "by"),
    [
        ([HTTPS_IN, tcp_from("198.51.100.1", 443)], 1, "ingress[0]"),
        ([tcp_from("198.51.100.1", 443), HTTPS_IN], 0, "ingress[1]"),
        ([HTTPS_IN, HTTPS_IN], 1, "ingress[0]"),
        # Two together: they agree in ports, or in peers.
        ([tcp_from("192.0.2.0/25", 80, 81), tcp_from("192.0.2.128/25"), tcp_from("192.0.2.0/24", 80)], 2, "ingress[1]"),
        (
            [tcp_from("any", "80-90"), tcp_from("192.0.2.0/24", 91, 92), tcp_from("192.0.2.0/24", "85-91")],
            2,
            "ingress[1]",
        ),
        # The first is shadowed by the last, which so cannot be shadowed by the first.
        (
            [tcp_from("192.0.2.0/25", 80), tcp_from("192.0.2.128/25", 80, 81), tcp_from("192.0.2.0/24", 80)],
            0,
            "ingress[2]",
        ),
    ],
)
def test_d13_shadowed(rules: list[str], place: int, by: str) -> None:
    found = only(lint(web(", ".join(rules))), "D13")
    assert (found.severity, found.place, found.line) == ("warning", f"groups.web.ingress[{place}]", 4)
    assert f"groups.web.{by}" in found.message


@pytest.mark.parametrize(
    "rules",
    [
        [HTTPS_IN, "{ from = '198.51.100.1', proto = 'udp', ports = [443] }"],
        [HTTPS_IN, tcp_from("198.51.100.1", "443-444")],
        [tcp_from("192.0.2.0/25", 80), tcp_from("192.0.2.128/25", 81), tcp_from("192.0.2.0/24", 82)],
    ],
)
def test_no_d13(rules: list[str]) -> None:
    assert lint(web(", ".join(rules))) == []


def test_no_d13_for_a_rule_about_nobody() -> None:
    groups = {
        "all": Group(members=("10.0.0.0/24",)),
        "half": Group(members=("10.0.0.0/25", "10.0.0.128/25")),
        "web": Group(members=("10.0.1.0/24",), ingress=(Rule(peers=(ANY,)), Rule(peers=("all",), proto="tcp"))),
    }
    assert "D13" not in checks(lint(Ruleset(groups=groups)))


def test_d14_both_groups_have_to_allow() -> None:
    other = f"[groups.base]\nmembers = ['10.0.1.0/24']\ningress = [{tcp_from('any', 22)}]\negress = []"
    problems = [problem for problem in lint(web(HTTPS_IN, "", other)) if problem.check == "D14"]
    assert [(problem.severity, problem.place) for problem in problems] == [
        ("warning", "groups.web.ingress[0]"),
        ("warning", "groups.base.ingress[0]"),
    ]
    assert problems[0].line == 4
    assert "10.0.1.0/24 belongs to base as well, which does not allow this" in problems[0].message
    assert problems[0].fix.startswith("Allow it in groups.base.ingress too")
    same = f"[groups.base]\nmembers = ['10.0.1.0/24']\ningress = [{HTTPS_IN}]\negress = []"
    assert lint(web(HTTPS_IN, "", same)) == []


def test_d14_a_longer_member_takes_addresses_away() -> None:
    other = (
        "[groups.db]\nmembers = ['10.0.1.9']\ningress = [{ from = 'web', proto = 'tcp', ports = [5432] }]\negress = []"
    )
    found = only(lint(web(HTTPS_IN, "", other)), "D14")
    assert (found.severity, found.place, found.line) == ("note", "groups.web", 1)
    assert found.message == (
        "10.0.1.9/32 lies within web but belongs to db, so these rules do not hold for it: ingress from any tcp 443."
    )
    same = f"[groups.db]\nmembers = ['10.0.1.9']\ningress = [{HTTPS_IN}]\negress = []"
    assert lint(web(HTTPS_IN, "", same)) == []


def test_connections_and_verdicts_belong_together(traffic: Track) -> None:
    connections = traffic(visits())
    with pytest.raises(ValueError, match="give both or neither"):
        lint(web(HTTPS_IN), connections)
    with pytest.raises(ValueError, match="5 connections, but 2 verdicts"):
        lint(web(HTTPS_IN), connections, naive_verdicts(web(HTTPS_IN), connections)[:2])


def test_icmp_errors_initiate_nothing(traffic: Track) -> None:
    frames = [*visits(), echo(CLIENTS[0], WEB, 8), echo(WEB, CLIENTS[0], 0)]
    open_egress = web(f'{HTTPS_IN}, {{ from = "any", proto = "icmp", types = [8] }}', '{ to = "any" }')
    assert only(judged(open_egress, traffic(frames)), "D3").severity == "error"


SERVICES = st.sampled_from([("tcp", 22), ("tcp", 443), ("udp", 53), ("tcp", 5432), ("udp", 123)])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 200), SERVICES), st.booleans(), max_size=12))
def test_exact_rules_have_no_errors(seen: dict[tuple[int, int, tuple[str, int]], bool]) -> None:
    """Rules for exactly the traffic, suggested where every service has one side, have no errors."""
    rules: dict[int, dict[Side, list[Rule]]] = {n: {"ingress": [], "egress": []} for n in range(4)}
    for (group, host, (proto, port)), comes_in in seen.items():
        side: Side = "ingress" if comes_in else "egress"
        rules[group][side].append(Rule(peers=(f"192.0.2.{host}/32",), proto=proto, ports=((port, port),)))
    groups = {
        f"g{n}": Group(members=(f"10.0.{n}.0/24",), ingress=tuple(sides["ingress"]), egress=tuple(sides["egress"]))
        for n, sides in rules.items()
    }
    assert lint(Ruleset(groups=groups)) == []
