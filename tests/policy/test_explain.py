"""Explanations of connections: they agree with the verdicts, and name the rule or what is missing."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.connectivity.explain import Explanation
from support.packets import download, echo, evenly, pcap_bytes, tcp, udp
from support.policies import random_policy
from support.program import run

TEXT = """\
[groups.web]
members = ["10.0.1.7"]
ingress = [
    { from = "clients", proto = "tcp", ports = [443] },
]

[groups.clients]
members = ["10.0.2.0/24"]
egress = [{ to = "web", proto = "tcp", ports = [80, 443] }]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(TEXT)
    return Policy.load(path)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    frames = [
        *download("10.0.2.1", 40000, "10.0.1.7", 443),
        *download("10.0.2.1", 40001, "10.0.1.7", 443),
        *download("10.0.2.1", 40002, "10.0.1.7", 80),
        *download("10.0.1.7", 40003, "203.0.113.9", 8443),
        udp("192.0.2.1", 40004, "192.0.2.2", 53, b"x" * 9),
    ]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    return path


def by_service(found: list[Explanation]) -> dict[str, Explanation]:
    assert len({one.named for one in found}) == len(found)
    return {one.named: one for one in found}


def test_the_rule_that_allowed_and_the_missing_one(policy: Policy, capture: Path) -> None:
    found = by_service(policy.explain(capture, local=["10.0.0.0/8"]))
    site = found["443/tcp"]
    assert (site.connections, site.verdict) == (2, "allowed")
    assert [(one.group, one.place, one.line) for one in site.egress] == [("clients", "groups.clients.egress[0]", 9)]
    assert [(one.group, one.place, one.line) for one in site.ingress] == [("web", "groups.web.ingress[0]", 4)]
    assert site.evidence == {"syn": 2}
    assert site.confidence > 0.9
    assert site.unsure == 0

    plain = found["80/tcp"]
    assert plain.verdict == "refused by ingress"
    assert [one.allows for one in plain.egress] == [True]
    assert [(one.allows, one.place, one.rule, one.line) for one in plain.ingress] == [
        (False, "", '{ from = "clients", proto = "tcp", ports = [80] }', 1)
    ]
    out = found["8443/tcp"]
    assert out.verdict == "refused by egress"
    assert [one.rule for one in out.egress] == ['{ to = "203.0.113.9", proto = "tcp", ports = [8443] }']
    assert out.ingress == ()
    outside = found["53/udp"]
    assert (outside.verdict, outside.egress, outside.ingress) == ("allowed", (), ())
    assert [one.verdict == "allowed" for one in policy.explain(capture)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("options", "services"),
    [
        ({"host": "10.0.1.7"}, {"443/tcp", "80/tcp", "8443/tcp"}),
        ({"host": "10.0.1.7", "peer": "10.0.2.1"}, {"443/tcp", "80/tcp"}),
        ({"host": "10.0.2.1", "peer": "10.0.1.7"}, {"443/tcp", "80/tcp"}),
        ({"peer": "203.0.113.9"}, {"8443/tcp"}),
        ({"host": "10.0.1.7", "port": 80}, {"80/tcp"}),
        ({"host": "10.0.2.1", "peer": "203.0.113.9"}, set()),
        ({"host": "198.51.100.77"}, set()),
    ],
)
def test_which_connections(policy: Policy, capture: Path, options: dict[str, object], services: set[str]) -> None:
    assert {one.named for one in policy.explain(capture, **options)} == services  # type: ignore[arg-type]


def test_an_address_that_is_none(policy: Policy, capture: Path) -> None:
    with pytest.raises(ValueError, match="host: found 'web', expected an address"):
        policy.explain(capture, host="web")


def test_an_empty_table(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap_bytes([]))
    assert policy.explain(path) == []
    assert policy.explain(path, host="10.0.0.1") == []


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("combine", ["all", "any"])
def test_answers_agree_with_the_verdict(seed: int, combine: str, tmp_path: Path) -> None:
    hosts = [*(f"10.0.{net}.{host}" for net in (0, 1) for host in (1, 2, 130)), "203.0.113.9"]
    frames = []
    for at, (src, dst) in enumerate(itertools.permutations(hosts, 2)):
        frames += [tcp(src, 40000 + at, dst, port, 0x02, seq=1) for port in (22, 443, 1000)]
        frames += [udp(src, 40000 + at, dst, 53, b"x" * 9), echo(src, dst, 8, at)]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    table = ct.track(path).connections
    policy = dataclasses.replace(random_policy(seed, table), combine=combine)
    verdicts = policy.evaluate(table)
    names, numbered = list(policy.groups), policy.numbered()
    rows = {
        (str(row.orig_addr), str(row.resp_addr), str(row.proto), int(row.resp_port)): at for at, row in enumerate(table)
    }
    found = policy.explain(table)
    assert sum(one.connections for one in found) == len(table)
    combined = all if combine == "all" else any
    for one in found:
        service = 0 if one.proto == "icmp" else one.service
        row = next(
            at
            for key, at in rows.items()
            if key[:3] == (one.originator, one.responder, one.proto) and (one.proto == "icmp" or key[3] == service)
        )
        for answers, side, refused in (
            (one.egress, "egress", (ct.Verdict.REFUSED_EGRESS, ct.Verdict.REFUSED_BOTH)),
            (one.ingress, "ingress", (ct.Verdict.REFUSED_INGRESS, ct.Verdict.REFUSED_BOTH)),
        ):
            allows = not answers or combined(answer.allows for answer in answers)
            assert allows == (verdicts["verdict"][row] not in refused)
            used = int(verdicts[f"{side}_rule"][row])
            if used >= 0:
                assert numbered[used].place in {answer.place for answer in answers}
            group = int(verdicts["orig_group" if side == "egress" else "resp_group"][row])
            assert (group < 0) == (not answers)
            assert group < 0 or names[group] in {answer.group for answer in answers}


def test_the_command(policy: Policy, capture: Path) -> None:
    done = run("policy", "explain", policy.source, capture, "--host", "10.0.1.7", "--peer", "10.0.2.1", "--port", "80")
    assert done.returncode == 0
    assert done.stdout.decode() == (
        "refused by ingress: 10.0.2.1 to 10.0.1.7, 80/tcp, 1 connection\n"
        "    initiated by 10.0.2.1: syn, confidence 1\n"
        "    egress:  clients: to web tcp 80, 443 (line 9)\n"
        '    ingress: web: MISSING { from = "clients", proto = "tcp", ports = [80] } (line 1)\n'
    )
    found = json.loads(run("policy", "explain", policy.source, capture, "--json").stdout)
    assert {one["service"]: one["ingress"][0]["line"] for one in found if one["ingress"]} == {"443/tcp": 4, "80/tcp": 1}
    text = run("policy", "explain", policy.source, capture, "--markdown").stdout.decode()
    assert r"web: MISSING \{ from = " in text
    assert all(line.startswith("| ") and line.endswith(" |") for line in text.splitlines())
    wrong = run("policy", "explain", policy.source, capture, "--host", "web")
    assert (wrong.returncode, b"--host: found 'web'" in wrong.stderr) == (2, True)
    none = run("policy", "explain", policy.source, capture, "--host", "198.51.100.1")
    assert none.stdout == b"no connection matches\n"
