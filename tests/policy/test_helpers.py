"""Helpers: connections that a service announces pass, and no others; the kernel is the judge."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy, formats
from conntrack_py.policy.document import loads
from conntrack_py.policy.formats.common import ANNOUNCED
from conntrack_py.policy.model import HELPERS, Group, Rule, Ruleset
from conntrack_py.policy.policy import read_ruleset
from support import announced, corpus, program
from support.written_policies import CHECKS, refused

FTP = {"proto": "tcp", "ports": [21], "helper": "ftp"}
TFTP = {"proto": "udp", "ports": [69], "helper": "tftp"}


def policy(*rules: dict[str, Any]) -> Policy:
    """A server and clients; each rule at both ends."""
    return Policy.from_dict(
        {
            "groups": {
                "server": {
                    "members": [announced.SERVER],
                    "ingress": [{"from": "clients", **rule} for rule in rules],
                    "egress": [],
                },
                "clients": {
                    "members": ["10.1.0.0/24"],
                    "ingress": [],
                    "egress": [{"to": "server", **rule} for rule in rules],
                },
            }
        }
    )


HELPED = policy(FTP, TFTP)
BARE = policy(*({key: value for key, value in rule.items() if key != "helper"} for rule in (FTP, TFTP)))


def passed(text: str, where: str, tmp_path: Path) -> dict[str, bool]:
    """Connections by kind, and the kernel's verdict on each."""
    rules = tmp_path / "rules"
    rules.write_text(text)
    command = ["unshare", "-n", sys.executable, announced.__file__, str(rules), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = json.loads(done.stdout)
    return found


def require_kernel(format: str) -> None:
    needed = ("unshare", "ip", "nft" if format == "nftables" else "iptables-restore")
    absent = [name for name in needed if shutil.which(name) is None]
    if os.geteuid() != 0 or absent:
        corpus.missing(f"the kernel cannot be asked: needs root and {', '.join(needed)}")
    ask = 'nft "add table inet t; add ct helper inet t h { type \\"ftp\\" protocol tcp; }"'
    if shutil.which("nft") and subprocess.run(["unshare", "-n", "sh", "-c", ask], capture_output=True).returncode:
        corpus.missing("the kernel has no helper for FTP (nf_conntrack_ftp)")


@pytest.mark.parametrize("audit", [False, True])
@pytest.mark.parametrize(
    ("format", "where", "group"),
    [
        ("nftables", "gateway", None),
        ("iptables", "gateway", None),
        ("nftables", "server", "server"),
        ("iptables", "server", "server"),
    ],
)
def test_the_kernel_lets_pass_what_was_announced(
    format: str, where: str, group: str | None, audit: bool, tmp_path: Path
) -> None:
    require_kernel(format)
    found = passed(HELPED.convert(format, group=group, audit=audit).text, where, tmp_path)
    assert found == {"control": True, "passive": True, "active": True, "tftp": True, "not announced": audit}
    # A host's server answers TFTP from another port, which is egress; without a helper nothing of it passes.
    if not audit:
        found = passed(BARE.convert(format, group=group).text, where, tmp_path)
        assert found == dict.fromkeys(("passive", "active", "tftp", "not announced"), False) | {"control": True}


@pytest.mark.parametrize("format", [*CHECKS])
@pytest.mark.parametrize("group", [None, "a"])
def test_every_helper_is_taken(format: str, group: str | None, tmp_path: Path) -> None:
    rules = tuple(
        Rule(peers=("any",), proto=proto, ports=((number + 1, number + 1),), helper=helper)
        for number, (helper, protos) in enumerate(sorted(HELPERS.items()))
        for proto in protos
    )
    ruleset = Ruleset(groups={"a": Group(members=("10.0.0.0/8", "fd00::/8"), ingress=rules, egress=rules)})
    written = formats.write(ruleset, format, group=group)
    name, options = CHECKS[format]
    assert refused(name, options, written.text, tmp_path) == ""
    for helper in HELPERS:
        assert helper in written.text
        assert {helper} <= {by for by, _ in ANNOUNCED[helper]}


def test_a_policy_without_helpers_is_written_as_ever() -> None:
    for format in ("nftables", "iptables", "ip6tables"):
        text = BARE.convert(format).text
        assert "helper" not in text
        assert "*raw" not in text


def test_formats_without_helpers_say_so() -> None:
    for format in formats.WRITERS:
        group = "server" if format in formats.ONLY_FOR_HOSTS else None
        said = [
            line for line in HELPED.convert(format, group=group).warnings if "has no word for the helper ftp" in line
        ]
        expected = 0 if format in formats.WITH_HELPERS else 1 if group else 2
        assert len(said) == expected, format
        assert all("passive range" in line for line in said)


def test_services_of_fortios_have_the_helper() -> None:
    text = HELPED.convert("fortios").text
    assert (
        'edit "tcp-21-ftp"\n        set protocol TCP/UDP/SCTP\n        set tcp-portrange 21\n        set helper ftp'
        in text
    )
    assert 'set service "udp-69-tftp"' in text
    irc = policy({"proto": "tcp", "ports": [6667], "helper": "irc"})
    assert any("FortiOS has no word for the helper irc" in line for line in irc.convert("fortios").warnings)


def test_the_native_forms_have_the_helper() -> None:
    for format in ("toml", "json"):
        text = HELPED.convert(format).text
        assert '"tftp"' in text
        again = loads(text, format)
        assert again.groups == HELPED.groups
        assert {numbered.rule.helper for numbered in again.numbered()} == {"ftp", "tftp"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"helper": "fpt"}, "did you mean ftp?"),
        ({"helper": 7}, "a helper of Linux"),
        ({"proto": "udp"}, "ftp reads the messages of a service: the rule needs proto tcp and ports"),
        ({"ports": []}, "the rule needs proto tcp and ports"),
        ({"proto": "any", "ports": None}, "the rule needs proto tcp and ports"),
    ],
)
def test_a_helper_that_cannot_be_is_refused(rule: dict[str, Any], message: str) -> None:
    made = {key: value for key, value in (FTP | {"from": "any"} | rule).items() if value is not None}
    with pytest.raises(PolicyError, match=message.replace("?", r"\?")):
        Policy.from_dict({"groups": {"a": {"members": ["10.0.0.0/8"], "ingress": [made]}}})


def test_a_deployed_ruleset_gives_its_helpers_back(tmp_path: Path) -> None:
    require_kernel("nftables")
    for format in ("nftables", "iptables"):
        file = tmp_path / ("rules.nft" if format == "nftables" else "rules.v4")
        file.write_text(HELPED.convert(format, group="server").text)
        ruleset = read_ruleset(file)
        assert ruleset is not None
        found = Policy.of_ruleset(ruleset, [announced.SERVER])
        rules = {(rule.proto, rule.ports): rule.helper for rule in found.groups["host"].ingress if rule.ports}
        assert rules[("tcp", ((21, 21),))] == "ftp", format
        assert rules[("udp", ((69, 69),))] == "tftp"
        assert "helper" not in " ".join(found.warnings)


def test_a_helper_of_another_service_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "rules.v4"
    text = HELPED.convert("iptables", group="server").text
    file.write_text(text.replace("--dports 21 -j CT", "--dports 2121 -j CT"))
    ruleset = read_ruleset(file)
    assert ruleset is not None
    helpers = {rule.helper for rule in Policy.of_ruleset(ruleset).groups["host"].ingress}
    assert helpers == {"", "tftp"}


def test_explain_and_diff_show_the_helper(tmp_path: Path) -> None:
    assert str(HELPED.numbered()[0]) == "server ingress from clients tcp 21 helper ftp"
    found = HELPED.diff(BARE)
    assert found.differences == ()
    assert not found.same
    assert {(one.allowed_by, one.helper, one.service) for one in found.helpers} == {
        ("first", "ftp", "tcp 21"),
        ("first", "tftp", "udp 69"),
    }
    assert HELPED.diff(HELPED).same
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    HELPED.write(one)
    BARE.write(other)
    run = program.run("policy", "diff", one, other)
    assert run.returncode == 1
    assert b"has the helper ftp for tcp 21" in run.stdout
    assert b"allow the same" not in run.stdout
    assert b"has the helper tftp" in program.run("policy", "diff", "--markdown", one, other).stdout
    helpers = json.loads(program.run("policy", "diff", "--json", other, one).stdout)["helpers"]
    assert helpers[0] == {"allowed_by": "second", "helper": "ftp", "service": "tcp 21"}


def test_rules_with_and_without_helper_are_not_merged() -> None:
    rules = (Rule(peers=("any",), proto="tcp", ports=((21, 21),), helper="ftp"),)
    rules += (dataclasses.replace(rules[0], ports=((80, 80),), helper=""),)
    found = formats.normalised(Ruleset(groups={"a": Group(members=("10.0.0.0/8",), ingress=rules)}))
    assert {(rule.ports, rule.helper) for rule in found.groups["a"].ingress} == {
        (((21, 21),), "ftp"),
        (((80, 80),), ""),
    }
