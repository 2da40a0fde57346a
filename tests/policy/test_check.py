"""Refusals of a policy: for people, for programs, for CI systems; verdicts by a naive reference."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import conntrack_py as ct
from conntrack_py.cli import cli
from conntrack_py.policy import Policy, Rule
from conntrack_py.policy.model import WITH_TYPES
from support import corpus
from support.packets import ACK, SYN, download, evenly, pcap_bytes, tcp
from support.policies import random_policy
from support.program import COMMAND

WEB = '[groups.web]\nmembers = ["10.0.20.10/32"]\ningress = [{ from = "any", proto = "tcp", ports = [443] }]\n'


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["policy", *map(str, args)])


def checked(policy: str, frames: list[bytes], tmp_path: Path) -> Any:
    """The check of a capture with a frame each second."""
    path = tmp_path / "made.pcap"
    path.write_bytes(pcap_bytes(evenly(frames, start=1.0, step=1.0)))
    return Policy.from_dict(tomllib.loads(policy)).check(path)


def test_a_use_has_the_times_of_its_first_and_last_connection(tmp_path: Path) -> None:
    more = "[443] }, { from = 'any', proto = 'tcp', ports = [80] }, { from = 'any', proto = 'udp'"
    policy = WEB.replace("[443]", more)
    syns = [tcp("198.51.100.9", 40000 + port, "10.0.20.10", port, SYN, 5) for port in (443, 80, 443)]
    syns[2] = tcp("198.51.100.9", 50000, "10.0.20.10", 443, SYN, 5)
    found = checked(policy, syns, tmp_path)
    second, third = found.first + 10**9, found.first + 2 * 10**9
    uses = [(use.connections, use.first, use.last) for use in found.rules]
    assert uses == [(2, found.first, third), (1, second, second), (0, None, None)]


def test_refusals_that_are_sure_come_first(tmp_path: Path) -> None:
    """One that was seen to open, before two whose originator is a guess."""
    middle = [tcp("198.51.100.9", 50000 + port, "10.0.20.10", 50100, ACK, 5, 6, b"x") for port in (1, 2)]
    frames = [*middle, *download("198.51.100.9", 40000, "10.0.20.10", 22, 1000)]
    found = checked(WEB, frames, tmp_path).refusals
    assert [(one.service, one.connections, one.doubtful) for one in found] == [(22, 1, 0), (50100, 2, 2)]


@pytest.fixture
def web(tmp_path: Path) -> Path:
    path = tmp_path / "web.toml"
    path.write_text(WEB)
    return path


def naive(policy: Policy, row: ct.Connection) -> int:
    """The model's words, one rule after another."""
    orig, resp = ipaddress.ip_address(row.orig_addr), ipaddress.ip_address(row.resp_addr)
    service = row.orig_port if row.proto in WITH_TYPES else row.resp_port

    def groups(address: Any) -> list[str]:
        held = {
            name: [ipaddress.ip_network(member) for member in group.members if address in ipaddress.ip_network(member)]
            for name, group in policy.groups.items()
        }
        longest = max((member.prefixlen for members in held.values() for member in members), default=None)
        return [name for name, members in held.items() if any(member.prefixlen == longest for member in members)]

    def matches(rule: Rule, peer: Any) -> bool:
        named = any(
            one == "any" or one in groups(peer) or (one not in policy.groups and peer in ipaddress.ip_network(one))
            for one in rule.peers
        )
        served = not rule.ports or any(first <= service <= last for first, last in rule.ports)
        return named and rule.proto in ("any", row.proto) and served

    def refuses(own: Any, peer: Any, side: Any) -> bool:
        for name in groups(own):
            rules = policy.groups[name].rules(side)
            if not rules and policy.default_of(name, side) == "allow":
                continue
            if not any(matches(rule, peer) for rule in rules):
                return True
        return False

    return int(refuses(orig, resp, "egress")) + 2 * int(refuses(resp, orig, "ingress"))


@pytest.mark.parametrize("capture", corpus.captures()[::4], ids=lambda capture: capture.name)
def test_verdicts_are_those_of_a_scan(capture: corpus.Capture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        table = ct.track(capture.path).connections
    for seed in range(3) if len(table) else ():
        policy = random_policy(seed, table)
        verdicts = policy.evaluate(table)
        assert verdicts.shape == (len(table),)
        for row, verdict in list(zip(table, verdicts["verdict"].tolist(), strict=True))[:60]:
            if verdict < ct.Verdict.RELATED:
                assert verdict == naive(policy, row), row


def test_a_check_for_people(web: Path, demo_pcap: Path) -> None:
    done = run("check", web, demo_pcap)
    assert done.exit_code == 1
    assert "17 connections, 2026-01-01 00:00:00 UTC, 49 s: 12 allowed, 5 refused" in done.stdout
    assert "205 refused" in done.stdout
    assert "Rules: 1 used, 0 never" in done.stdout


def test_a_check_for_programs(web: Path, demo_pcap: Path) -> None:
    facts = json.loads(run("check", "--json", web, demo_pcap).stdout)
    assert facts["connections"] == {"all": 17, "allowed": 12, "refused": 5, "doubtful": 0, "unrestricted": 6}
    (refusal,) = facts["refusals"]
    assert refusal["missing_rule"] == '{ to = "203.0.113.66", proto = "tcp", ports = [8443] }'
    assert (refusal["first"], refusal["packets"]) == ("2026-01-01T00:00:09.502000000Z", 205)
    assert [use["connections"] for use in facts["rules"]] == [6]
    assert facts["packets"]["refused"] == 205


def test_a_check_for_ci(web: Path, demo_pcap: Path, tmp_path: Path) -> None:
    out = tmp_path / "check.sarif"
    done = run("check", "--sarif", "-o", out, "--fail-on", "sure", web, demo_pcap)
    assert (done.exit_code, done.stdout) == (1, "")
    (log,) = json.loads(out.read_text())["runs"]
    (result,) = log["results"]
    assert (result["ruleId"], result["level"]) == ("refused-egress", "error")
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == 1
    assert run("check", "--fail-on", "never", web, demo_pcap).exit_code == 0
    assert run("check", "--json", "--sarif", web, demo_pcap).exit_code == 2


def test_a_policy_that_fits(demo_pcap: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    done = run("suggest", "--server-egress", "allow", "-o", path, demo_pcap)
    assert (done.exit_code, done.stdout) == (0, "")
    assert run("check", path, demo_pcap).exit_code == 0
    assert run("check", path, demo_pcap).stdout.count("nothing refused") == 1


def test_never_used_rules_are_said(web: Path, demo_pcap: Path) -> None:
    web.write_text(WEB.removesuffix("]\n") + ', { from = "any", proto = "tcp", ports = [22], note = "old" }]\n')
    result = Policy.load(web).check(demo_pcap)
    assert [use.place for use in result.unused] == ["groups.web.ingress[1]"]
    assert [use.connections for use in result.rules] == [6, 0]


def test_icmp_errors_follow_their_connection(corpus_dir: Path) -> None:
    for path in (corpus_dir / "scenarios").glob("icmp_err*.pcap"):
        table = ct.track(path).connections
        verdicts = Policy.from_dict({"groups": {"all": {"members": ["0.0.0.0/0", "::/0"]}}}).evaluate(table)["verdict"]
        errors = np.isin(table["proto"], ["icmp", "icmp6"]) & (table["related_to"] >= 0)
        assert (verdicts[errors] == ct.Verdict.RELATED).all()
        assert not np.isin(verdicts[~errors], [ct.Verdict.RELATED, ct.Verdict.ALLOWED]).any()


def test_a_policy_that_can_refuse_nothing(demo_pcap: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("[groups.web]\nmembers = []")
    done = run("check", path, demo_pcap)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "found no group with members, so that nothing is restricted" in done.stderr


def test_a_policy_from_standard_input(demo_pcap: Path) -> None:
    both = WEB + 'egress = [{ to = "any", proto = "tcp", ports = [443] }]\n'
    done = CliRunner().invoke(cli, ["policy", "lint", "--from", "toml", "-"], input=both)
    assert done.exit_code == 1
    assert "D1" in done.stdout
    done = CliRunner().invoke(cli, ["policy", "check", "-", str(demo_pcap)], input=WEB)
    assert done.exit_code == 1


def test_an_empty_capture(web: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap_bytes([]))
    result = Policy.load(web).check(path)
    assert (result.ok, result.connections, result.first) == (True, 0, None)
    assert run("check", web, path).exit_code == 0
    assert run("suggest", path).exit_code == 0


def test_a_capture_from_a_pipe(web: Path, demo_pcap: Path) -> None:
    command = [*COMMAND, "policy", "check", "--json", str(web), "-"]
    done = subprocess.run(command, input=demo_pcap.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["connections"]["all"] == 17


def test_too_many_rules_are_refused_in_words() -> None:
    rules = [{"from": f"10.{n >> 8}.{n & 255}.1", "proto": "tcp"} for n in range(20_001)]
    policy = Policy.from_dict({"groups": {"a": {"members": ["10.0.0.0/8"], "ingress": rules}}})
    with pytest.raises(ct.PolicyError, match="20001 rules, expected at most 20000: fold it"):
        policy.evaluate(ct.Tracker().finish())
