"""The summary against an obvious one, connection by connection, on real captures and at size."""

from __future__ import annotations

import io
import ipaddress
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import conntrack_py as ct
from conftest import Packet, evenly, pcap_bytes, tcp, udp
from conntrack_py import text
from conntrack_py.summary import ROLES, Summary, summarise

CONFIG = ct.Config()


def summed(table: ct.ConnectionTable, stats: ct.Stats, top: int = 10**6) -> Summary:
    return summarise(table, stats, CONFIG, top=top)


def service(row: ct.Connection) -> str:
    return text.service(row.proto, row.orig_port if text.is_icmp(row.proto) else row.resp_port)


def is_local(address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in CONFIG.local)


def check(table: ct.ConnectionTable, facts: Summary) -> None:
    """Every number of a summary, counted in the plainest way."""
    rows = list(table)
    unsure = [row.proto == "tcp" and row.evidence == "first_packet" for row in rows]
    assert facts.totals.connections == len(rows)
    assert facts.totals.unsure == facts.evidence.unsure == sum(unsure)
    assert facts.totals.orig_bytes == sum(row.orig_ip_bytes for row in rows)
    assert facts.totals.resp_packets == sum(row.resp_pkts for row in rows)
    assert {word: sums.connections for word, sums in facts.directions.items()} == Counter(r.direction for r in rows)
    assert facts.evidence.by_word == Counter(row.evidence for row in rows)
    evidence = facts.evidence
    assert evidence.seen + evidence.deduced + evidence.first_packet + evidence.unsure == len(rows)

    by_service = defaultdict(list)
    for row in rows:
        by_service[row.direction, service(row)].append(row)
    assert facts.all_services == len(facts.services) == len(by_service)
    for one in facts.services:
        its = by_service[one.direction, one.service]
        assert one.totals.connections == len(its)
        assert one.totals.resp_bytes == sum(row.resp_ip_bytes for row in its)
        assert one.originators == len({row.orig_addr for row in its})
        assert one.responders == len({row.resp_addr for row in its})

    listed = {
        host.address: host
        for hosts in (facts.local_hosts, facts.remote_hosts)
        for role in ROLES
        for host in hosts.top[role]
    }
    counts = Counter({role: facts.local_hosts.counts[role] + facts.remote_hosts.counts[role] for role in ROLES})
    assert +counts == Counter(host.role for host in listed.values())
    assert set(listed) == {r.orig_addr for r in rows} | {r.resp_addr for r in rows if r.direction != "multicast"}
    for address, host in listed.items():
        initiated = [row for row in rows if row.orig_addr == address]
        asked = [row for row in rows if row.resp_addr == address and row.direction != "multicast"]
        answered = [row for row in asked if row.resp_pkts]
        assert host.local == is_local(address)
        assert (host.initiated, host.answered, host.unanswered) == (
            len(initiated),
            len(answered),
            len(asked) - len(answered),
        )
        assert host.egress == sum(row.direction == "egress" for row in initiated)
        assert host.uses == Counter(map(service, initiated))
        assert host.offers == Counter(map(service, answered))
        assert list(host.uses.values()) == sorted(host.uses.values(), reverse=True)
        expected = (
            "both" if initiated and answered else "initiates" if initiated else "answers" if answered else "silent"
        )
        assert host.role == expected


@pytest.mark.parametrize("name", ["ndpi__1kxun.pcap", "zeek__tunnels__Teredo.pcap", "ndpi__netbios.pcap"])
def test_real_captures(corpus_dir: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        result = ct.track(corpus_dir / "pcaps" / name)
    check(result.connections, summed(result.connections, result.stats))


def test_demo(demo_pcap: Path) -> None:
    result = ct.track(demo_pcap)
    check(result.connections, summed(result.connections, result.stats))


def test_top_keeps_the_busiest(demo_pcap: Path) -> None:
    result = ct.track(demo_pcap)
    facts = summed(result.connections, result.stats, top=1)
    assert [one.service for one in facts.services] in (["443/tcp"], ["8443/tcp"])
    assert facts.all_services == 9
    (host,) = facts.local_hosts.top["both"]
    assert (host.address, facts.local_hosts.counts["both"]) == ("10.0.20.10", 2)


def test_a_role_that_rests_on_guesses_is_unsure() -> None:
    """A mid-stream TCP packet makes its sender an initiator, but only perhaps."""
    frames = [
        tcp("10.0.0.80", 80, "198.51.100.7", 40000, 16, 500, 100, b"x"),
        udp("198.51.100.8", 5000, "10.0.0.80", 53),
        udp("10.0.0.80", 53, "198.51.100.8", 5000),
    ]
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))))
    facts = summed(result.connections, result.stats)
    (host,) = facts.local_hosts.top["both"]
    assert (host.address, host.unsure) == ("10.0.0.80", True)
    (sure,) = facts.remote_hosts.top["initiates"]
    assert (sure.address, sure.unsure) == ("198.51.100.8", False)


def test_speed() -> None:
    """A million connections take less than two seconds; here a tenth of that, with room for a busy machine."""
    packets: list[Packet] = [
        (number * 1e-5, udp(f"10.{number % 200}.{number // 200 % 200}.1", 1000 + number // 40_000, "192.0.2.1", 53))
        for number in range(100_000)
    ]
    result = ct.track(io.BytesIO(pcap_bytes(packets)))
    assert len(result.connections) == 100_000
    at = time.perf_counter()
    summarise(result.connections, result.stats, CONFIG)
    assert time.perf_counter() - at < 0.6
