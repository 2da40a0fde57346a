"""Checks of what the order of a firewall's rules decides, of wrong lines, and of what readers leave out."""

from __future__ import annotations

import datetime
import os
import shutil
import time

import pytest

from conntrack_py.policy import Policy, rulesets
from conntrack_py.policy.lint import Problem, lint, lint_firewall
from conntrack_py.policy.lint.reach import services
from support import corpus

STATE = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
HEAD = (":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]")


def found(*rules: str, head: tuple[str, ...] = HEAD) -> list[Problem]:
    """The problems of a save; with three lines of chains the first rule is on line 5."""
    lines = ["*filter", *head, *(f"-A {rule}" for rule in rules), "COMMIT", ""]
    return lint_firewall(rulesets.from_iptables_save("\n".join(lines)))


def told(*rules: str, head: tuple[str, ...] = HEAD) -> set[tuple[str, str, int | None]]:
    return {(one.check, one.severity, one.line) for one in found(*rules, head=head)}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("INPUT -p tcp --dport 443 -j ACCEPT", "INPUT -j DROP", "INPUT -p udp -j DROP"), {("D15", "warning", 7)}),
        (("INPUT -s 10.0.0.0/8 -j DROP", "INPUT -s 10.1.0.0/16 -p tcp --dport 443 -j ACCEPT"), {("D15", "warning", 6)}),
        (("INPUT -p tcp --dport 80:90 -j ACCEPT", "INPUT -p tcp --dport 85 -j ACCEPT"), {("D15", "note", 6)}),
        (("INPUT -s 10.1.0.0/16 -j DROP", "INPUT -s 10.0.0.0/8 -p tcp --dport 443 -j ACCEPT"), set()),
        (("INPUT -i eth0 -j DROP", "INPUT -p tcp --dport 443 -j ACCEPT"), set()),
        (("INPUT -m limit --limit 1/s -j DROP", "INPUT -p tcp --dport 443 -j ACCEPT"), set()),
        (("INPUT -m mark --mark 1 -j DROP", "INPUT -p tcp --dport 443 -j ACCEPT"), set()),
        (("INPUT -p icmp --icmp-type 8 -j DROP", "INPUT -p icmp -j ACCEPT"), set()),
        (("INPUT -p icmp -j DROP", "INPUT -p icmp --icmp-type 8 -j ACCEPT"), {("D15", "warning", 6)}),
        (("INPUT -p tcp --syn -j DROP", "INPUT -p tcp --dport 443 -j ACCEPT"), set()),
        (("INPUT -m conntrack --ctstate INVALID -j DROP", "INPUT -p tcp --dport 443 -j ACCEPT"), set()),
    ],
)
def test_d15_rules_that_are_never_asked(rules: tuple[str, ...], expected: set[tuple[str, str, int]]) -> None:
    assert told(*rules) == expected


def test_d15_a_chain_that_several_rules_jump_to() -> None:
    head = (*HEAD, ":WEB - [0:0]")
    shared = ("INPUT -i eth0 -p tcp -j WEB", "INPUT -p tcp --dport 443 -j DROP", "INPUT -p tcp -j WEB")
    assert told(*shared, "WEB -p tcp --dport 443 -j ACCEPT", head=head) == set(), "the first jump leads to it"
    assert told(*shared[1:], "WEB -p tcp --dport 443 -j ACCEPT", head=head) == {("D15", "warning", 8)}


def test_d15_takes_little_time() -> None:
    many = [f"INPUT -s 10.{n // 250}.{n % 250}.0/24 -p tcp --dport {1 + n} -j ACCEPT" for n in range(9_000)]
    begin = time.monotonic()
    assert {check for check, *_ in told(*many)} <= {"D18"}
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("INPUT -j ACCEPT",), {("D16", "error", 5)}),
        (("FORWARD -m conntrack --ctstate NEW -j ACCEPT",), {("D16", "error", 5)}),
        (("OUTPUT -j ACCEPT",), {("D16", "warning", 5)}),
        (("INPUT -i eth0 -j ACCEPT",), set()),
        (("INPUT -s 10.0.0.0/8 -j ACCEPT",), set()),
        (("INPUT -p icmp -j ACCEPT",), set()),
    ],
)
def test_d16_everything_is_accepted(rules: tuple[str, ...], expected: set[tuple[str, str, int]]) -> None:
    assert told(*rules) == expected


def test_d16_says_nothing_where_the_policy_accepts_anyway() -> None:
    head = (":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]")
    assert told("OUTPUT -j ACCEPT", head=head) == set()
    assert ("D16", "warning", 5) in told("OUTPUT -j ACCEPT", "OUTPUT -d 192.0.2.1 -j DROP", head=head)


def test_d17_nothing_is_dropped() -> None:
    head = (":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]")
    assert told("INPUT -p tcp --dport 443 -j ACCEPT", head=head) == {("D17", "warning", 2)}
    assert told("INPUT -s 192.0.2.1 -j DROP", head=head) == set()
    nat = rulesets.from_iptables_save("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n")
    assert [(one.check, one.severity) for one in lint_firewall(nat)] == [("D17", "note")]


@pytest.mark.parametrize(
    ("rule", "service"),
    [
        ("INPUT -p tcp --dport 22 -j ACCEPT", "SSH (tcp 22)"),
        ("FORWARD -d 10.0.0.5 -p tcp --dport 3389 -j ACCEPT", "RDP (tcp 3389)"),
        ("INPUT -p tcp -m multiport --dports 443,5432 -j ACCEPT", "PostgreSQL (tcp 5432)"),
        ("INPUT -p udp --dport 161 -j ACCEPT", "SNMP (udp 161)"),
        ("INPUT -s 10.0.0.0/8 -p tcp --dport 22 -j ACCEPT", None),
        ("INPUT -i eth1 -p tcp --dport 22 -j ACCEPT", None),
        ("OUTPUT -p tcp --dport 22 -j ACCEPT", None),
        ("INPUT -p tcp --dport 22 -m conntrack --ctstate ESTABLISHED -j ACCEPT", None),
        ("INPUT -p tcp --dport 443 -j ACCEPT", None),
    ],
)
def test_d18_administration_is_open(rule: str, service: str | None) -> None:
    said = [one.message for one in found(rule) if one.check == "D18"]
    assert said == ([] if service is None else [f"Everybody may reach {service}."])


def test_d18_knows_protocols_and_ranges() -> None:
    assert services(frozenset(("udp",)), ((22, 22),)) == []
    assert services(frozenset(("tcp",)), ((20, 23),)) == ["FTP (tcp 21)", "SSH (tcp 22)", "Telnet (tcp 23)"]
    assert services(frozenset(("tcp",)), ((1024, 65535),)) == [], "D4 speaks of the ports of clients"
    assert len(services(frozenset(("tcp",)), ((0, 65535),))) > 20


def test_d1_and_d7_without_ports() -> None:
    pair = ("FORWARD -s 10.0.0.0/8 -o eth5 -j ACCEPT", "FORWARD -d 10.0.0.0/8 -i eth5 -j ACCEPT")
    assert told(*pair) == {("D1", "error", 6), ("D7", "error", 3)}
    assert told(f"FORWARD {STATE}", *pair) == {("D1", "note", 7)}
    assert told(pair[0], "FORWARD -d 10.0.0.0/8 -i eth4 -j ACCEPT") == set()
    assert told("FORWARD -i br0 -o br0 -j ACCEPT", "FORWARD -i br0 -o br0 -j ACCEPT") == {("D15", "note", 6)}
    udp = ("FORWARD -p udp -s 10.0.0.0/8 -j ACCEPT", "FORWARD -p tcp -d 10.0.0.0/8 -j ACCEPT")
    assert told(*udp) == set()


def test_d6_of_an_interface() -> None:
    assert told("OUTPUT -o eth0 -m state --state NEW,RELATED,ESTABLISHED -j ACCEPT") == {("D6", "warning", 5)}
    assert told("INPUT ! -i eth0 -m state --state NEW,RELATED,ESTABLISHED -j ACCEPT") == {("D6", "warning", 5)}


@pytest.mark.parametrize(
    ("rule", "offers"),
    [
        ("-p udp --sport 67 --dport 68 -j ACCEPT", False),
        ("-p udp --dport 68 -j ACCEPT", False),
        ("-p udp --dport 67:68 -j ACCEPT", False),
        ("-p udp --dport 546 -j ACCEPT", False),
        ("-p udp --dport 67 -j ACCEPT", True),
        ("-p udp --dport 53 -j ACCEPT", True),
    ],
)
def test_d8_a_dhcp_client_is_no_server(rule: str, offers: bool) -> None:
    head = (":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]")
    assert ("D8" in {check for check, *_ in told(f"INPUT {rule}", head=head)}) is offers


def test_d8_and_a_drop_before_the_end() -> None:
    head = (":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]")
    rules = ("INPUT -p tcp --dport 443 -j ACCEPT", "INPUT -j REJECT", "INPUT -p tcp --dport 25 -j DROP")
    assert told(*rules, head=head) == {("D8", "warning", 4), ("D15", "warning", 7)}


def test_saves_without_lines_of_chains() -> None:
    text = "*filter\n-A INPUT -p udp -m udp --sport 53 -j ACCEPT\n-A INPUT -p tcp -j WEB\n-A WEB -j ACCEPT\n"
    problems = lint_firewall(rulesets.from_iptables_save(text + "-A INPUT -j DROP\nCOMMIT\n"))
    assert {(one.check, one.severity, one.line) for one in problems} == {
        ("D5", "error", 2),
        ("D7", "error", None),
        ("D19", "note", None),
    }
    assert "no line for the chain INPUT" in next(one.message for one in problems if one.check == "D19")
    listed = (
        "-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT DROP\n-N WEB\n-A INPUT -j WEB\n-A WEB -p udp --sport 53 -j ACCEPT\n"
    )
    firewall = rulesets.from_iptables_save(listed)
    assert [(chain.name, chain.policy) for chain in firewall.chains] == [
        ("INPUT", "drop"),
        ("FORWARD", "drop"),
        ("OUTPUT", "drop"),
    ]
    assert {(one.check, one.line) for one in lint_firewall(firewall)} == {("D5", 6), ("D7", 1)}


@pytest.mark.parametrize(
    "line",
    [
        "-A INPUT -p tcp -m tcp --dport 60000:29 -j ACCEPT",
        "-A INPUT -s 10.0.0.300 -j ACCEPT",
        "-A INPUT -p tcp --dport",
        '-A INPUT -m comment --comment "x',
        "-X INPUT",
        ":BROKEN",
    ],
)
def test_d19_one_wrong_line_is_named(line: str) -> None:
    text = f"*filter\n:INPUT DROP [0:0]\n{line}\n-A INPUT -p udp -m udp --sport 53 -j ACCEPT\nCOMMIT\n"
    problems = lint_firewall(rulesets.from_iptables_save(text))
    assert {(one.check, one.severity, one.line) for one in problems} >= {("D19", "error", 3), ("D5", "error", 4)}
    assert next(one.rule for one in problems if one.check == "D19") == line


def test_d19_what_readers_leave_out() -> None:
    document = {"groups": {"web": {"members": ["10.0.1.0/24"]}}}
    policy = Policy._of(Policy.from_dict(document), warnings=("x.yaml:7: groups.web: named ports are left out",))
    (problem,) = policy.lint()
    assert (problem.check, problem.severity, problem.line, problem.place) == ("D19", "warning", 7, "groups.web")
    assert problem.message == "The file says more than lint judges: named ports are left out."


def test_interfaces_that_are_not_here() -> None:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"):
        corpus.missing("reading nftables text needs root, nft and unshare")
    text = """
define wan = { enp9s0f7, "ppp7" }
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    iif { eth77, wlan5 } tcp dport 443 accept
    iif != eth78 udp sport 53 accept
    iif $wan tcp dport 22 accept
  }
}
"""
    firewall = rulesets.from_nft_text(text)
    assert [rule.match.iif for rule in firewall.chains[0].rules] == ["?", "!eth78", "?"]
    assert "D5" in {one.check for one in lint_firewall(firewall)}


def test_d20_waits_for_its_day() -> None:
    policy = Policy.from_dict({"groups": {"web": {"members": ["10.0.1.0/24"]}}})
    assert lint(policy, today=datetime.date(2026, 1, 1)) == []
