"""Lines of rules in texts of nftables, and rulesets from standard input."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from conntrack_py.cli import cli
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import rulesets
from conntrack_py.policy.rulesets import nft_lines
from support import corpus
from support.packets import SYN, evenly, pcap_bytes, tcp

TEXT = """#!/usr/sbin/nft -f
flush ruleset
define lan = { 10.0.0.0/8,
  192.168.0.0/16 }
table inet filter {
  set s { type ipv4_addr; flags interval
     elements = { 10.0.0.0/8,
       192.168.0.0/16 } }
  ct helper ftp-in { type "ftp" protocol tcp; l3proto ip; }
  # no rule
  chain input {
    type filter hook input priority 0; policy drop;
    comment "a; b { c"
    ct state established,related accept
    iif lo accept; tcp dport 22 accept
    tcp dport {
      80,
      443
    } counter accept comment "sites # and more"
    ip saddr $lan \\
       udp dport 53 accept
    tcp dport vmap { 21 : jump other,
      25 : drop }
  }
  chain other { tcp dport 99 drop; }
}
add rule inet filter other tcp dport 98 drop
add table ip nat
add chain ip nat post { type nat hook postrouting priority 100; }
add rule nat post masquerade
"""


def test_lines_of_a_text() -> None:
    found = nft_lines.lines(TEXT)
    assert found.rules == {
        "inet filter input": [14, 15, 15, 16, 20, 22],
        "inet filter other": [25, 27],
        "ip nat post": [30],
    }
    assert found.chains == {"inet filter input": 11, "inet filter other": 25, "ip nat post": 29}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('include "other.nft"\n' + TEXT, {}),
        ("add rule ip f c accept\ninsert rule ip f c drop\n", {"ip f c": None}),
        ("add rule ip f c accept\nadd rule ip f c index 0 drop\n", {"ip f c": None}),
        ("add rule ip f c accept\ndelete rule ip f c handle 3\n", {"ip f c": None}),
        ("add rule ip f c accept\nflush chain ip f c\nadd rule ip f c drop\n", {"ip f c": [3]}),
        ("add rule ip f c accept\ndelete table ip f\n", {}),
        ("add rule ip f c accept\nflush ruleset\nadd rule ip f d drop", {"ip f d": [3]}),
        ("table ip f { chain c { accept", {"ip f c": [1]}),
        ("table ip f {{{{ chain }", {}),
        ('"', {}),
    ],
)
def test_texts_whose_order_is_not_told(text: str, expected: object) -> None:
    assert nft_lines.lines(text).rules == expected


def test_long_texts_take_no_time() -> None:
    text = "table ip f { chain c {\n" + "tcp dport { 1, 2 } accept\n" * 10_000 + "{" * 10_000
    assert len(nft_lines.lines(text).rules["ip f c"] or ()) >= 10_000


def require_nft() -> None:
    if shutil.which("nft") is None or os.geteuid() != 0:
        corpus.missing("nft, or root")


def test_findings_have_lines() -> None:
    require_nft()
    firewall = rulesets.from_nft_text(TEXT, "x.nft")
    assert firewall.program is not None
    steps = firewall.program.steps["inet filter input"]
    assert [step.line for step in steps] == [14, 15, 15, 16, 20, 22, 22]
    assert {step.handle for step in steps} == {None}
    assert [chain.line for chain in firewall.chains] == [11]


def test_without_root_a_namespace_of_a_user_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    require_nft()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    try:
        assert rulesets.from_nft_text(TEXT, "x.nft").chains
    except PolicyError as error:
        assert "needs root, or user namespaces; save the output of `nft -j list ruleset`" in str(error)  # noqa: PT017


def test_a_ruleset_from_standard_input(tmp_path: Path) -> None:
    capture = tmp_path / "x.pcap"
    capture.write_bytes(pcap_bytes(evenly([tcp("10.0.5.7", 40_000, "10.0.1.10", 22, SYN, 1)])))
    text = "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 22 -j DROP\nCOMMIT\n"
    run = CliRunner()
    command = ["policy", "check", "--json", "--host", "10.0.1.10", "-", str(capture)]
    done = run.invoke(cli, command, input=text)
    assert json.loads(done.stdout)["refusals"][0]["line"] == 4
    done = run.invoke(cli, ["policy", "check", "--sarif", *command[3:]], input=text)
    report = json.loads(done.stdout)["runs"][0]
    (result,) = report["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (result["ruleId"], result["level"], place["region"]) == ("refused-by-ruleset", "warning", {"startLine": 4})
    assert place["artifactLocation"]["uri"] == "standard%20input"
    done = run.invoke(cli, ["policy", "convert", "--to", "toml", "-"], input=text)
    assert "[groups.host]" in done.stdout
