"""The three sentences that this project was made for, each with a capture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.traffic.findings import findings
from support.packets import SYN, download, evenly, tcp

PHONE, SERVER, CLOUD = "10.0.5.23", "10.0.1.10", "203.0.113.80"


def test_a_download_is_egress_of_the_phone_and_needs_no_egress_of_the_server(pcap: Callable[..., Path]) -> None:
    """100 GB at one to 100,000: the server sends nearly all of the bytes, and initiates nothing."""
    path = pcap(evenly(download(PHONE, 51514, SERVER, 443, 1_000_000)))
    (row,) = ct.track(path, local=["10.0.5.0/24"]).connections
    assert (row.direction, row.orig_addr) == ("egress", PHONE)
    assert row.resp_bytes > 100 * row.orig_bytes
    # Seen from the server's side it is ingress, and the policy that it proves has no egress.
    policy = Policy.suggest(path, local=["10.0.1.0/24"])
    assert [str(one) for one in policy.numbered()] == [f"web ingress from {PHONE}/32 tcp 443"]
    assert policy.groups["web"].egress == ()
    check = policy.check(path, local=["10.0.1.0/24"])
    assert check.ok
    assert check.packets is not None
    # All 2,000 and more packets pass: replies need no rule.
    assert (check.packets.refused, check.packets.invalid) == (0, 0)
    assert check.packets.accepted > 2000


def test_443_in_both_directions_is_wrong_and_the_right_rule_is_said(pcap: Callable[..., Path], tmp_path: Path) -> None:
    path = pcap(evenly(download(PHONE, 51514, SERVER, 443)))
    both = tmp_path / "both.toml"
    both.write_text(
        '[groups.web]\nmembers = ["10.0.1.0/24"]\n'
        'ingress = [{ from = "any", proto = "tcp", ports = [443] }]\n'
        'egress = [{ to = "any", proto = "tcp", ports = [443] }]\n'
    )
    policy = Policy.load(both)
    found = {problem.check: problem for problem in policy.lint()}
    assert found["D1"].severity == "error"
    assert found["D1"].line in (3, 4)
    with_traffic = {problem.check: problem for problem in policy.lint(ct.track(path).connections)}
    # The capture shows who initiates: the rule in the other direction goes.
    assert with_traffic["D1"].place == "groups.web.egress[0]"
    assert "Keep groups.web.ingress[0]" in with_traffic["D1"].fix
    right = tmp_path / "right.toml"
    right.write_text(both.read_text().rsplit("egress = ", 1)[0] + "egress = []\n")
    repaired = Policy.load(right)
    assert repaired.check(path).ok
    assert not [problem for problem in repaired.lint(ct.track(path).connections) if problem.severity == "error"]


def test_a_server_without_egress_still_serves_and_its_update_is_a_finding(pcap: Callable[..., Path]) -> None:
    frames = download(PHONE, 51514, SERVER, 443)
    frames += [tcp(SERVER, 50000, CLOUD, 443, SYN, 10)] * 2
    frames += download(PHONE, 51515, SERVER, 443)
    path = pcap(evenly(frames))
    policy = Policy.from_dict(
        {
            "groups": {
                "web": {
                    "members": ["10.0.1.0/24"],
                    "ingress": [{"from": "any", "proto": "tcp", "ports": [443]}],
                    "egress": [],
                }
            }
        }
    )
    check = policy.check(path, fates=True)
    assert (check.connections, check.allowed, check.refused) == (3, 2, 1)
    (refusal,) = check.refusals
    assert (refusal.group, refusal.side, refusal.named) == ("web", "egress", "443/tcp")
    assert refusal.packets == 2
    assert check.fates is not None
    assert check.fates.tolist().count(ct.Fate.REFUSED) == 2
    (finding,) = findings(ct.track(path).connections)
    assert (finding.server, finding.destination, finding.service) == (SERVER, CLOUD, "443/tcp")
    assert {"egress", "unanswered"} <= set(finding.marks)
