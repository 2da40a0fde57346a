"""Servers that initiate: judged by who initiated, never by volume."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy.suggest import comments
from conntrack_py.policy.traffic.findings import Finding, findings
from support.packets import ACK, PSH, SYN, Packet, download, evenly, tcp, udp

SERVER, INSIDE = "10.0.1.10", "10.0.2.20"


def customers(number: int, start: float = 0.0) -> list[Packet]:
    """Connections to the server from outside."""
    frames = [download(f"198.51.100.{last}", 40000 + last, SERVER, 443, 3000) for last in range(1, number + 1)]
    return [packet for last, one in enumerate(frames) for packet in evenly(one, start + last, 0.001)]


def calls(times: Iterable[float], to: str, port: int = 8443) -> list[Packet]:
    """Connections that the server initiates."""
    found = []
    for number, at in enumerate(times):
        found += evenly(download(SERVER, 50000 + number, to, port, 1000), at, 0.001)
    return found


@pytest.fixture
def found(pcap: Callable[..., Path]) -> Callable[[list[Packet]], list[Finding]]:
    def find(packets: list[Packet]) -> list[Finding]:
        return findings(ct.track(pcap(sorted(packets, key=lambda packet: packet[0]))).connections)

    return find


def test_a_server_that_only_answers_is_none(found: Callable[[list[Packet]], list[Finding]]) -> None:
    assert found(customers(12)) == []


def test_clients_are_none(found: Callable[[list[Packet]], list[Finding]]) -> None:
    choose = random.Random(5)
    assert found(calls((choose.uniform(0, 400) for _ in range(10)), "203.0.113.9")) == []


def test_beacons_are_even(found: Callable[[list[Packet]], list[Finding]]) -> None:
    choose = random.Random(4)
    even = [20.0 * number + choose.uniform(-1, 1) for number in range(1, 21)]
    uneven = [choose.uniform(0, 400) for _ in range(20)]
    one, other = found(customers(3) + calls(even, "203.0.113.9") + calls(uneven, "203.0.113.10", 443))
    assert (one.destination, one.service, one.marks) == ("203.0.113.9", "8443/tcp", ("beacon", "egress"))
    assert one.period == pytest.approx(20, abs=1)
    assert one.score is not None
    assert 0.9 < one.score < 1
    assert (other.destination, other.period, other.score) == ("203.0.113.10", None, None)


def test_a_burst_is_no_beacon(found: Callable[[list[Packet]], list[Finding]]) -> None:
    (one,) = found(customers(3) + calls([5 + 0.05 * number for number in range(20)], "203.0.113.9"))
    assert one.marks == ("egress",)


def test_two_connections_at_each_call_are_a_beacon(found: Callable[[list[Packet]], list[Finding]]) -> None:
    times = [60.0 * number + late for number in range(1, 11) for late in (0, 0.2)]
    (one,) = found(customers(3) + calls(times, "203.0.113.9"))
    assert (one.marks, one.period, one.connections) == (("beacon", "egress"), pytest.approx(60), 20)


def test_the_first_own_initiative(found: Callable[[list[Packet]], list[Finding]]) -> None:
    (one,) = found(customers(12) + calls([30.0], "203.0.113.9"))
    assert one.marks == ("first", "egress")
    (one,) = found(customers(3) + calls([30.0], "203.0.113.9"))
    assert one.marks == ("egress",)


def test_new_destinations(found: Callable[[list[Packet]], list[Finding]], pcap: Callable[..., Path]) -> None:
    packets = customers(3) + calls([5.0], "203.0.113.9") + calls([50.0, 60.0], INSIDE, 5432)
    new, old = found(packets)
    assert (new.destination, new.marks) == (INSIDE, ("new_destination",))
    assert (old.destination, old.marks) == ("203.0.113.9", ("egress",))
    table = ct.track(pcap(sorted(packets, key=lambda packet: packet[0]))).connections
    marks = {one.destination: one.marks for one in findings(table, baseline=table)}
    assert marks == {INSIDE: (), "203.0.113.9": ("egress",)}
    empty = ct.track(pcap([], name="empty.pcap")).connections
    assert {one.marks for one in findings(table, baseline=empty)} == {
        ("new_destination",),
        ("new_destination", "egress"),
    }


def test_what_nobody_answers(found: Callable[[list[Packet]], list[Finding]]) -> None:
    syns = [(10.0 + number, tcp(SERVER, 50000, "203.0.113.9", 4444, SYN, 7)) for number in range(3)]
    (one,) = found(customers(3) + syns)
    assert (one.connections, one.marks) == (1, ("unanswered", "egress"))


def test_beaconing_makes_no_client_of_a_server(found: Callable[[list[Packet]], list[Finding]]) -> None:
    """It calls one place a hundred times, and three customers call it."""
    (one,) = found(customers(3) + calls([5.0 * number for number in range(1, 101)], "203.0.113.9"))
    assert (one.connections, one.marks, one.offers) == (100, ("beacon", "egress"), ("443/tcp",))


def test_volume_says_nothing(found: Callable[[list[Packet]], list[Finding]]) -> None:
    """A server that sends ten times as much to who calls it is no finding."""
    assert found(evenly(download("198.51.100.1", 40001, SERVER, 443, 500_000))) == []


@pytest.mark.parametrize("peer", [7444, 40444], ids=["ports tell", "nothing tells"])
def test_a_call_that_was_open_when_the_capture_began(peer: int, pcap: Callable[..., Path]) -> None:
    """A server's call-out without its SYN is a finding and a decision, whichever end the row names."""
    call = [
        tcp("203.0.113.66", peer, SERVER, 50555, PSH | ACK, 1, 1, b"x" * 500),
        tcp(SERVER, 50555, "203.0.113.66", peer, ACK, 1, 501),
    ]
    result = ct.track(pcap([*evenly(call), *customers(3, 1.0)]))
    (finding,) = findings(result.connections)
    assert (finding.server, finding.destination, finding.service) == (SERVER, "203.0.113.66", f"{peer}/tcp")
    assert finding.marks == ("egress", "unsure")
    suggestion = ct.policy.Policy.suggest(result)
    (decision,) = [one for one in suggestion.report.decisions if one.unsure]
    assert (decision.servers, decision.rule.ports, decision.kept) == ((SERVER,), ((peer, peer),), False)
    assert "does not show who initiated" in str(comments(suggestion.report))


WORKSTATION = "10.0.5.23"


def even(to: str, port: int, size: int = 100, period: float = 60.0) -> list[Packet]:
    """Ten calls of a workstation, one every minute."""
    return [
        packet
        for number in range(10)
        for packet in evenly(download(WORKSTATION, 50000 + number, to, port, size), 5 + period * number, 0.001)
    ]


def test_a_workstations_beacon_stands_above_its_polls(found: Callable[[list[Packet]], list[Finding]]) -> None:
    one, other, third = found(
        even(INSIDE, 8080, 100) + even("10.0.2.21", 8081, 100_000) + even("203.0.113.9", 443, 1000)
    )
    assert (one.destination, one.role, one.marks) == ("203.0.113.9", "client", ("beacon", "egress"))
    assert {(two.destination, two.marks) for two in (other, third)} == {
        (INSIDE, ("health_check",)),
        ("10.0.2.21", ("poll",)),
    }


@pytest.mark.parametrize(("size", "mark"), [(48, "clock"), (68, "clock"), (47, "beacon"), (200, "beacon")])
def test_ntp_is_told_by_its_messages_and_not_by_its_port(
    size: int, mark: str, found: Callable[[list[Packet]], list[Finding]]
) -> None:
    packets = [
        packet
        for number in range(10)
        for packet in evenly(
            [
                udp(WORKSTATION, 40000 + number, "203.0.113.9", 123, b"." * size),
                udp("203.0.113.9", 123, WORKSTATION, 40000 + number, b"." * 48),
            ],
            64.0 * number,
        )
    ]
    (one,) = found(packets)
    assert mark in one.marks


def test_loopback_is_none(found: Callable[[list[Packet]], list[Finding]]) -> None:
    own = [
        packet
        for number in range(10)
        for packet in evenly(download("127.0.0.1", 50000 + number, "127.0.0.2", 8080, 100), 60.0 * number)
    ]
    assert found(own) == []
