"""Checks of the rules of firewalls, and reports as SARIF."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import document, rulesets, sarif
from conntrack_py.policy.lint import CHECKS, Problem, lint, lint_firewall
from support import corpus
from support.packets import download, evenly, pcap_bytes

STATE = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


def iptables(*rules: str, policy: str = "DROP", output: str = "DROP") -> rulesets.Firewall:
    """A host's firewall; the first rule is on line 5."""
    head = ["*filter", f":INPUT {policy} [0:0]", ":FORWARD DROP [0:0]", f":OUTPUT {output} [0:0]"]
    return rulesets.from_iptables_save("\n".join([*head, *(f"-A {rule}" for rule in rules), "COMMIT", ""]))


def only(problems: list[Problem], check: str) -> Problem:
    (found,) = [problem for problem in problems if problem.check == check]
    assert found.name == CHECKS[check].name
    assert found.message.endswith(".")
    assert found.fix.endswith(".")
    return found


def checks(problems: list[Problem]) -> set[str]:
    return {problem.check for problem in problems}


SERVER = (
    "INPUT -i lo -j ACCEPT",
    f"INPUT {STATE}",
    "INPUT -p tcp -m tcp --dport 443 -m conntrack --ctstate NEW -j ACCEPT",
    "OUTPUT -o lo -j ACCEPT",
    f"OUTPUT {STATE}",
    "OUTPUT -d 10.0.0.53/32 -p udp -m udp --dport 53 -j ACCEPT",
)


def test_a_right_server_has_no_problems() -> None:
    assert lint_firewall(iptables(*SERVER)) == []


def test_d1_mirrored() -> None:
    found = only(lint_firewall(iptables(*SERVER, "OUTPUT -p tcp -m tcp --dport 443 -j ACCEPT")), "D1")
    assert (found.severity, found.place, found.line) == ("error", "OUTPUT", 11)
    assert found.rule == "-A OUTPUT -p tcp -m tcp --dport 443 -j ACCEPT"
    assert "tcp 443 is accepted in both directions: also by line 7 (`-A INPUT" in found.message
    assert "Keep the input rule if this host offers the service" in found.fix


@pytest.mark.parametrize(
    "rule",
    [
        "OUTPUT -p udp -m udp --dport 443 -j ACCEPT",
        "OUTPUT -p tcp -m tcp --dport 443 -j DROP",
        "OUTPUT -p tcp -m tcp --dport 443 -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "OUTPUT -p tcp -m tcp --dport 443 -m owner --uid-owner 33 -j ACCEPT",
        "OUTPUT -o lo -p tcp -m tcp --dport 443 -j ACCEPT",
    ],
)
def test_no_d1(rule: str) -> None:
    assert checks(lint_firewall(iptables(*SERVER, rule))) <= {"D15"}


def test_d1_looks_at_interfaces_and_addresses() -> None:
    inside = "INPUT -i eth0 -p tcp -m tcp --dport 80 -j ACCEPT"
    assert "D1" in checks(lint_firewall(iptables(inside, "OUTPUT -o eth0 -p tcp -m tcp --dport 80 -j ACCEPT")))
    assert "D1" not in checks(lint_firewall(iptables(inside, "OUTPUT -o eth1 -p tcp -m tcp --dport 80 -j ACCEPT")))
    near = "INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 80 -j ACCEPT"
    assert "D1" not in checks(lint_firewall(iptables(near, "OUTPUT -d 192.0.2.1 -p tcp -m tcp --dport 80 -j ACCEPT")))


def test_d1_in_the_forward_chain() -> None:
    there = "FORWARD -s 10.0.0.0/8 -d 192.0.2.1/32 -p tcp -m tcp --dport 443 -j ACCEPT"
    back = "FORWARD -s 192.0.2.1/32 -d 10.0.0.0/8 -p tcp -m tcp --dport 443 -j ACCEPT"
    found = only(lint_firewall(iptables(there, back)), "D1")
    assert (found.line, "also by line 5" in found.message) == (6, True)
    assert lint_firewall(iptables(there, "FORWARD -p tcp -m tcp --dport 443 -j ACCEPT")) == []


def test_d1_names_the_rule_that_the_capture_does_not_need(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap_bytes(evenly(download("198.51.100.1", 40000, "10.0.0.5", 443))))
    came_in = ct.track(path, local=["10.0.0.0/8"]).connections
    firewall = iptables(*SERVER, "OUTPUT -p tcp -m tcp --dport 443 -j ACCEPT")
    found = only(lint_firewall(firewall, came_in), "D1")
    assert (found.line, found.fix) == (
        11,
        "1 such connection came in and none went out: remove this rule, replies need none.",
    )
    went_out = ct.track(path, local=["198.51.100.0/24"]).connections
    assert only(lint_firewall(firewall, went_out), "D1").line == 7


def test_d4_clients_ports() -> None:
    found = only(lint_firewall(iptables(*SERVER, "INPUT -p tcp -m tcp --dport 32768:60999 -j ACCEPT")), "D4")
    assert (found.severity, found.line) == ("warning", 11)
    assert "Ports 32768-60999 are those of clients" in found.message
    assert "--ctstate ESTABLISHED,RELATED" in found.fix
    assert lint_firewall(iptables(*SERVER, "INPUT -p udp -m udp --dport 33434:33523 -j ACCEPT")) == []


@pytest.mark.parametrize(
    "rule",
    [
        "INPUT -p udp -m udp --sport 53 -j ACCEPT",
        "INPUT -p tcp -m tcp --sport 443 --dport 1024:65535 -j ACCEPT",
        "OUTPUT -p tcp -m multiport --sports 80,443 -j ACCEPT",
    ],
)
def test_d5_source_ports(rule: str) -> None:
    problems = lint_firewall(iptables(*SERVER, rule))
    found = only(problems, "D5")
    assert checks(problems) == {"D5"}
    assert (found.severity, found.line, found.rule) == ("error", 11, f"-A {rule}")
    assert found.fix == "Replace it by `-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`."


@pytest.mark.parametrize(
    "rule",
    [
        "INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT",
        "INPUT -p tcp -m tcp --sport 1024:65535 --dport 22 -j ACCEPT",
        "INPUT -p tcp -m tcp --sport 443 -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "INPUT -p udp -m udp --sport 53 -j DROP",
    ],
)
def test_no_d5(rule: str) -> None:
    assert checks(lint_firewall(iptables(*SERVER, rule))) <= {"D15", "D18"}


def test_d6_a_policy_that_drops_nothing() -> None:
    found = only(lint_firewall(iptables("OUTPUT -m state --state NEW,ESTABLISHED,RELATED -j ACCEPT")), "D6")
    assert (found.severity, found.place, found.line) == ("error", "OUTPUT", 5)
    assert "the policy drop drops nothing" in found.message
    assert found.fix.startswith("Take new out of it")
    found = only(lint_firewall(iptables("OUTPUT -p tcp -m state --state NEW,ESTABLISHED -j ACCEPT")), "D6")
    assert (found.severity, "every new tcp connection" in found.message) == ("warning", True)


@pytest.mark.parametrize(
    "rule",
    [
        "INPUT -p tcp -m tcp --dport 22 -m state --state NEW,ESTABLISHED -j ACCEPT",
        "INPUT -i lo -m state --state NEW,ESTABLISHED -j ACCEPT",
        "INPUT -m mark --mark 1 -m state --state NEW,ESTABLISHED -j ACCEPT",
        f"INPUT {STATE}",
    ],
)
def test_no_d6(rule: str) -> None:
    assert checks(lint_firewall(iptables(rule))) <= {"D18"}


def test_d7_mirrored_ports_instead_of_state() -> None:
    rules = ("INPUT -p tcp -m tcp --dport 443 -j ACCEPT", "OUTPUT -p tcp -m tcp --sport 443 -j ACCEPT")
    problems = lint_firewall(iptables(*rules))
    found = only(problems, "D7")
    assert checks(problems) == {"D5", "D7"}
    assert (found.severity, found.place, found.line) == ("error", "OUTPUT", 4)
    assert "No rule of OUTPUT accepts established connections" in found.message
    assert found.fix.startswith("Begin the chain with `-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`")
    assert "D7" not in checks(lint_firewall(iptables(*rules, f"OUTPUT {STATE}")))
    assert "D7" not in checks(
        lint_firewall(iptables(*rules, "OUTPUT -m conntrack --ctstate ESTABLISHED -m mark --mark 1 -j ACCEPT"))
    )
    assert "D7" not in checks(lint_firewall(iptables(*rules, output="ACCEPT")))


def test_d8_output_is_open() -> None:
    found = only(lint_firewall(iptables(*SERVER[:3], output="ACCEPT")), "D8")
    assert (found.severity, found.place, found.line) == ("warning", "OUTPUT", 4)
    assert "the policy of its output is accept" in found.message
    assert found.fix.startswith("Give output the policy drop")
    assert lint_firewall(iptables(*SERVER[:3], "OUTPUT -j REJECT", output="ACCEPT")) == []
    assert lint_firewall(iptables(*SERVER[:2], output="ACCEPT")) == []  # it offers nothing
    assert lint_firewall(iptables(*SERVER[:3], policy="ACCEPT", output="ACCEPT")) == []


NFT = """
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iif lo accept
    tcp dport { 80, 443 } ct state new accept
    tcp sport 443 tcp dport 1024-65535 accept
    tcp dport 1024-65535 accept
    meta skuid 33 tcp sport 25 accept
  }
  chain output {
    type filter hook output priority 0; policy drop;
    ct state new,established,related accept
    tcp dport 443 accept
  }
}
"""


def test_what_nft_says() -> None:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"):
        corpus.missing("reading nftables text needs root, nft and unshare")
    problems = lint_firewall(rulesets.from_nft_text(NFT))
    assert [(problem.check, problem.severity, problem.rule) for problem in problems] == [
        ("D1", "error", "tcp dport 443 accept"),
        ("D5", "error", "tcp sport 443 tcp dport 1024-65535 accept"),
        ("D6", "error", "ct state established,related,new accept"),
        ("D4", "warning", "tcp dport 1024-65535 accept"),
    ]
    assert problems[1].place == "inet filter input"
    assert problems[1].line is not None
    assert NFT.splitlines()[problems[1].line - 1].strip() == "tcp sport 443 tcp dport 1024-65535 accept"
    assert problems[1].fix == "Replace it by `ct state established,related accept`."
    without_output = rulesets.from_nft_text(NFT.split("  chain output")[0] + "}")
    found = only(lint_firewall(without_output), "D8")
    assert (found.place, "there is no chain for output" in found.message) == ("inet filter input", True)


def entry(number: int, egress: bool, first: int, last: int, peer: str = "0.0.0.0/0") -> dict[str, Any]:
    return {
        "RuleNumber": number,
        "Protocol": "6",
        "Egress": egress,
        "CidrBlock": peer,
        "RuleAction": "allow",
        "PortRange": {"From": first, "To": last},
    }


def test_a_network_acl_needs_return_paths() -> None:
    acl = {"NetworkAclId": "acl-1", "Entries": [entry(100, False, 443, 443), entry(100, True, 1024, 65535)]}
    problems = lint_firewall(rulesets.from_nacl_json(json.dumps({"NetworkAcls": [acl]})))
    assert checks(problems) == {"D4"}
    assert (problems[0].severity, problems[0].place) == ("note", "acl-1 egress rule 100")
    assert "it knows no connections" in problems[0].message


def test_d1_in_a_network_acl_is_a_note_and_stays_within_it() -> None:
    both = {"NetworkAclId": "acl-1", "Entries": [entry(100, False, 443, 443), entry(100, True, 443, 443)]}
    found = only(lint_firewall(rulesets.from_nacl_json(json.dumps({"NetworkAcls": [both]}))), "D1")
    assert (found.severity, found.place) == ("note", "acl-1 egress rule 100")
    apart = [{"NetworkAclId": f"acl-{n}", "Entries": [entry(100, bool(n), 443, 443)]} for n in range(2)]
    assert lint_firewall(rulesets.from_nacl_json(json.dumps({"NetworkAcls": apart}))) == []


NFT_WORDS = [
    "rule",
    "chain",
    "set",
    "expr",
    "match",
    "left",
    "right",
    "op",
    "payload",
    "vmap",
    "family",
    "table",
    "name",
]
JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NFT_WORDS), inner, max_size=4),
    max_leaves=20,
)


@given(JUNK)
def test_no_json_ends_in_a_traceback(value: Any) -> None:
    rule = {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"match": value}, value, {"vmap": value}]}}
    documents = [value, {"nftables": [value]}, {"nftables": [rule]}, {"NetworkAcls": [{"Entries": [value]}]}]
    for made in documents:
        for reader in (rulesets.from_nft_json, rulesets.from_nacl_json):
            with contextlib.suppress(PolicyError):
                lint_firewall(reader(json.dumps(made)))


@given(st.text(alphabet="-Apsdj !:,\"'/19.INPUT", max_size=60))
def test_no_line_of_iptables_ends_in_a_traceback(line: str) -> None:
    with contextlib.suppress(PolicyError):
        lint_firewall(rulesets.from_iptables_save(f"*filter\n:INPUT DROP [0:0]\n-A INPUT {line}\n"))


#: The part of the schema of SARIF 2.1.0 that these reports use, written down from the standard.
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
KIND = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "shortDescription": TEXT,
        "fullDescription": TEXT,
        "help": TEXT,
        "defaultConfiguration": {"type": "object", "properties": {"level": LEVEL}},
    },
}
LOCATION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "artifactLocation": {"type": "object", "properties": {"uri": {"type": "string", "format": "uri-reference"}}},
        "region": {"type": "object", "properties": {"startLine": {"type": "integer", "minimum": 1}}},
    },
}
RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": -1},
        "level": LEVEL,
        "message": TEXT,
        "locations": {"type": "array", "items": {"type": "object", "properties": {"physicalLocation": LOCATION}}},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
RUN = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tool"],
    "properties": {
        "tool": {
            "type": "object",
            "required": ["driver"],
            "properties": {
                "driver": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "version": {"type": "string"},
                        "rules": {"type": "array", "uniqueItems": True, "items": KIND},
                    },
                }
            },
        },
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": RESULT},
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": RUN},
    },
}

MIRRORED = """\
[groups.web]
members = ["10.0.1.0/24"]
ingress = [{ from = "any", proto = "tcp", ports = [443] }]
egress = [
  { to = "any", proto = "tcp", ports = [443] },
  { to = "192.0.2.0/24", proto = "tcp", ports = ["32768-60999"] },
]
"""


def report(text: str, artifact: str = "policies/my web.toml") -> Any:
    problems = lint(document.loads(text, "toml"))
    found = sarif.sarif(problems, tool_version="1.2.3", artifact=artifact)
    jsonschema.validate(found, SCHEMA)
    return json.loads(json.dumps(found))["runs"][0]


def test_sarif() -> None:
    run = report(MIRRORED)
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("conntrack_py", "1.2.3")
    assert [(rule["id"], rule["name"]) for rule in driver["rules"]] == [
        ("D1", "MirroredService"),
        ("D4", "EphemeralReturnPath"),
    ]
    assert driver["rules"][0]["help"]["text"] == CHECKS["D1"].sentence
    first, second = run["results"]
    assert (first["ruleId"], first["ruleIndex"], first["level"]) == ("D1", 0, "error")
    assert (second["ruleId"], second["ruleIndex"], second["level"]) == ("D4", 1, "warning")
    assert first["message"]["text"].startswith("groups.web.egress[0]: tcp 443 is allowed in both directions")
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "policies/my%20web.toml"},
        "region": {"startLine": 5},
    }


def test_fingerprints_are_stable() -> None:
    def prints(text: str) -> list[Any]:
        return [result["partialFingerprints"] for result in report(text)["results"]]

    moved = MIRRORED.replace("egress = [", "egress = [\n  { to = '10.0.0.53', proto = 'udp', ports = [53] },")
    assert prints("# a comment\n" + moved) == prints(MIRRORED)
    twice = MIRRORED.replace("egress = [", "egress = [\n  { to = 'any', proto = 'tcp', ports = [443] },")
    found = [tuple(one.values()) for one in prints(twice)]
    assert len(set(found)) == len(found) > 2
    other = report(MIRRORED, "other.toml")["results"][0]["partialFingerprints"]
    assert other != prints(MIRRORED)[0]


def test_sarif_of_nothing_and_of_other_results() -> None:
    empty = sarif.sarif([], tool_version="1", artifact="x.toml")
    jsonschema.validate(empty, SCHEMA)
    assert empty["runs"][0]["results"] == []
    refusal = sarif.Result(
        rule_id="refused",
        name="refused-connection",
        level="error",
        message="web may not reach db",
        help="The policy refuses it.",
        uri="/etc/policy.toml",
        line=3,
    )
    found = sarif.sarif([refusal, refusal], tool_version="1", artifact="x.toml")
    jsonschema.validate(found, SCHEMA)
    one, two = found["runs"][0]["results"]
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///etc/policy.toml"
    assert one["partialFingerprints"] != two["partialFingerprints"]
    # Reports of other versions are compared with this one.
    assert one["partialFingerprints"] == {"conntrackPy/v1": "53bc46c5479b1977ded781791a5427af:1"}
