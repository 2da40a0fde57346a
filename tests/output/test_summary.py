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
from conntrack_py import text
from conntrack_py.cli.render import grid
from conntrack_py.cli.render import summary as render_summary
from conntrack_py.summaries import ROLES, Summary, as_json, summarise
from support.packets import Packet, download, ethernet, evenly, pcap_bytes, tcp, udp

CONFIG = ct.Config()


def summed(table: ct.ConnectionTable, stats: ct.Stats, top: int = 10**6) -> Summary:
    return summarise(table, stats, CONFIG, top=top)


def service(row: ct.Connection) -> str:
    return text.service(row.proto, row.orig_port if text.is_icmp(row.proto) else row.resp_port)


def is_icmp_error(row: ct.Connection) -> bool:
    if row.proto == "icmp":
        return row.orig_port in (3, 4, 5, 11, 12)
    return row.proto == "icmp6" and row.orig_port < 128


def is_refused(row: ct.Connection) -> bool:
    return row.conn_state == "REJ" or row.evidence == "refused"


def is_local(address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in CONFIG.local)


def check(table: ct.ConnectionTable, facts: Summary) -> None:
    """Every number of a summary, counted in the plainest way."""
    rows = [row for row in table if not is_icmp_error(row)]
    assert facts.icmp_errors == len(table) - len(rows)
    unsure = [row.proto == "tcp" and row.evidence == "first_packet" for row in rows]
    assert facts.totals.connections == len(rows)
    assert facts.totals.unsure == facts.evidence.unsure == sum(unsure)
    assert facts.totals.orig_bytes == sum(row.orig_ip_bytes for row in rows)
    assert facts.totals.resp_packets == sum(row.resp_pkts for row in rows)
    assert {word: sums.connections for word, sums in facts.directions.items()} == Counter(r.direction for r in rows)
    unanswered = [r for r in rows if r.direction != "multicast" and (not r.resp_pkts or is_refused(r))]
    assert facts.totals.unanswered == len(unanswered)
    sizes = sorted((row.orig_ip_bytes + row.resp_ip_bytes for row in rows), reverse=True)
    assert [one.sent + one.received for one in facts.largest] == sizes
    assert Counter((one.originator, one.service) for one in facts.largest) == Counter(
        (row.orig_addr, service(row)) for row in rows
    )
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
    asked_of = {row.resp_addr for row in rows if row.direction != "multicast"}
    assert set(listed) == ({row.orig_addr for row in rows} | asked_of) - {"0.0.0.0", "::"}
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
        others = [row for row in rows if row.resp_addr == address]
        assert host.initiated_sent == sum(row.orig_ip_bytes for row in initiated)
        assert host.initiated_received == sum(row.resp_ip_bytes for row in initiated)
        assert host.sent == host.initiated_sent + sum(row.resp_ip_bytes for row in others)
        assert host.received == host.initiated_received + sum(row.orig_ip_bytes for row in others)
        assert host.egress == sum(row.direction == "egress" for row in initiated)
        assert host.uses == Counter(map(service, initiated))
        assert host.offers == Counter(map(service, answered))
        assert list(host.uses.values()) == sorted(host.uses.values(), reverse=True)
        expected = (
            "both" if initiated and answered else "initiates" if initiated else "answers" if answered else "silent"
        )
        assert host.role == expected


@pytest.mark.parametrize(
    "name",
    [
        "ndpi__1kxun.pcap",
        "zeek__tunnels__Teredo.pcap",
        "ndpi__netbios.pcap",
        "arkime__v6-http.pcap",
    ],
)
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


def exchange(src: str, dst: str, port: int) -> list[bytes]:
    """A query and its answer."""
    return [udp(src, port, dst, 53), udp(dst, 53, src, port)]


def test_hosts_are_ordered_by_what_is_printed() -> None:
    """Of hosts that only initiate, the count of what they initiated is printed, and that of calls to them is not."""
    frames = [
        *exchange("10.0.0.9", "192.0.2.1", 1000),
        *(udp("192.0.2.7", port, "10.0.0.9", 161) for port in (1001, 1002, 1003)),
        *exchange("10.0.0.5", "192.0.2.1", 1000),
        *exchange("10.0.0.5", "192.0.2.1", 1001),
    ]
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))))
    hosts = summed(result.connections, result.stats).local_hosts.top["initiates"]
    assert [(host.address, host.initiated, host.unanswered) for host in hosts] == [
        ("10.0.0.5", 2, 0),
        ("10.0.0.9", 1, 3),
    ]


def test_the_order_by_bytes() -> None:
    """One large connection, and two small ones that are elsewhere in all respects."""
    frames = [
        *exchange("10.0.0.9", "10.0.0.53", 1000),
        *exchange("10.0.0.9", "10.0.0.53", 1001),
        *download("10.0.0.5", 40_000, "203.0.113.80", 443, 100_000),
    ]
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))))
    by_number, by_size = (ct.summary(result, sort=sort) for sort in ("connections", "bytes"))
    for facts, first in ((by_number, 0), (by_size, 1)):
        assert list(facts.directions) == [["internal", "egress"], ["egress", "internal"]][first]
        assert facts.services[0].service == ["53/udp", "443/tcp"][first]
        assert facts.local_hosts.top["initiates"][0].address == ["10.0.0.9", "10.0.0.5"][first]
    with pytest.raises(ValueError, match="expected connections or bytes"):
        ct.summary(result, sort="size")  # type: ignore[arg-type]


def test_a_condition_keeps_the_roles(demo_pcap: Path) -> None:
    """A server is one by what it answers, which a condition on egress leaves out."""
    result = ct.track(demo_pcap)
    whole, egress = ct.summary(result), ct.summary(result, where="direction == egress")
    assert (egress.totals.connections, egress.where) == (9, "direction == egress")
    assert egress.findings == whole.findings
    assert len(egress.findings) == 2
    beacon = ct.summary(result, where="resp_port == 8443")
    assert [one.destination for one in beacon.findings] == ["203.0.113.66"]
    assert ct.summary(result, where="direction == ingress").findings == []
    mask = result.connections["resp_port"] == 8443
    assert ct.summary(result, where=mask).totals == beacon.totals


def test_the_order_of_hosts() -> None:
    """Of hosts that only initiate, the busiest first; of servers that initiate too, the one that goes outwards most."""
    frames = [
        # Two clients: one busy inside, one that goes outwards once.
        *(frame for port in (1, 2, 3) for frame in exchange("10.0.0.6", "10.0.0.80", 1000 + port)),
        *exchange("10.0.0.5", "192.0.2.1", 1000),
        # Two servers that initiate: one busy inside, one that goes outwards.
        *(frame for port in (1, 2, 3) for frame in exchange("10.0.0.80", "10.0.0.81", 2000 + port)),
        *exchange("10.0.0.81", "192.0.2.1", 1000),
    ]
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))))
    top = summed(result.connections, result.stats).local_hosts.top
    assert [host.address for host in top["initiates"]] == ["10.0.0.6", "10.0.0.5"]
    assert [host.address for host in top["both"]] == ["10.0.0.81", "10.0.0.80"]


def test_a_role_that_rests_on_guesses_is_unsure() -> None:
    """A mid-stream TCP packet makes its sender an initiator, but only perhaps."""
    frames = [
        tcp("10.0.0.80", 41000, "198.51.100.7", 40000, 16, 500, 100, b"x"),
        udp("198.51.100.8", 5000, "10.0.0.80", 53),
        udp("10.0.0.80", 53, "198.51.100.8", 5000),
    ]
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))))
    facts = summed(result.connections, result.stats)
    (host,) = facts.local_hosts.top["both"]
    assert (host.address, host.unsure) == ("10.0.0.80", True)
    (sure,) = facts.remote_hosts.top["initiates"]
    assert (sure.address, sure.unsure) == ("198.51.100.8", False)


def unreachable(router: str, query: bytes) -> bytes:
    """An ICMP error of a router about an undeliverable packet: port unreachable, with the packet's first bytes."""
    packet = query[14:]
    src = ".".join(map(str, packet[12:16]))
    return ethernet(router, src, 1, b"\x03\x03\0\0\0\0\0\0" + packet[:28])


def unanswered(number: int) -> list[bytes]:
    """So many queries, each answered by an ICMP error of another router."""
    queries = [udp("10.0.0.5", 5000 + at, "192.0.2.53", 53, b"?") for at in range(number)]
    errors = [unreachable(f"203.0.113.{at + 1}", query) for at, query in enumerate(queries)]
    return [frame for pair in zip(queries, errors, strict=True) for frame in pair]


def test_icmp_errors_initiate_nothing() -> None:
    config = ct.Config(zones={"office": ["10.0.0.0/24"], "routers": ["203.0.113.0/24"]})
    result = ct.track(io.BytesIO(pcap_bytes(evenly(unanswered(5)))), config=config)
    assert [row.proto for row in result.connections].count("icmp") == 5
    facts = summarise(result.connections, result.stats, config)
    check(result.connections, summed(result.connections, result.stats))
    assert (facts.icmp_errors, facts.totals.connections, facts.totals.orig_packets) == (5, 5, 5)
    assert {word: sums.connections for word, sums in facts.directions.items()} == {"egress": 5}
    assert [one.service for one in facts.services] == ["53/udp"]
    assert facts.remote_hosts.counts == {"both": 0, "initiates": 0, "answers": 0, "silent": 1}
    assert [(pair.orig_zone, pair.resp_zone) for pair in facts.zones] == [("office", "")]
    assert (facts.evidence.deduced, as_json(facts)["icmp_errors"]) == (5, 5)


@pytest.mark.parametrize(
    ("number", "head"),
    [
        (0, []),
        (1, ["1 ICMP error, which initiates nothing, is not counted below"]),
        (5, ["5 ICMP errors, which initiate nothing, are not counted below"]),
    ],
)
def test_icmp_errors_are_one_line(number: int, head: list[str]) -> None:
    frames = [*unanswered(number), udp("10.0.0.5", 9, "192.0.2.1", 9)]
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))))
    out = io.StringIO()
    render_summary.summary(grid.console(out, 80), summed(result.connections, result.stats))
    lines = out.getvalue().splitlines()
    counts = {0: "1 connection in 1 packet ", 1: "3 connections in 3 packets ", 5: "11 connections in 11 packets "}
    assert lines[0].startswith(counts[number])
    assert lines[1 : 1 + len(head) + 1] == [*head, ""]


def test_nothing_but_icmp_errors() -> None:
    """The capture has the errors' side only."""
    result = ct.track(io.BytesIO(pcap_bytes(evenly(unanswered(2)[1::2]))))
    out = io.StringIO()
    render_summary.summary(grid.console(out, 80), summed(result.connections, result.stats))
    assert out.getvalue().splitlines()[-1] == "Nobody initiated a connection."


def test_which_icmp_is_an_error() -> None:
    assert [kind for kind in range(256) if text.is_icmp_error("icmp", kind)] == [3, 4, 5, 11, 12]
    assert [kind for kind in range(256) if text.is_icmp_error("icmp6", kind)] == list(range(128))
    assert not text.is_icmp_error("udp", 3)


def test_no_address_is_no_host() -> None:
    """A DHCP client that has no address yet is no host that initiates; its query counts."""
    result = ct.track(io.BytesIO(pcap_bytes([(0.0, udp("0.0.0.0", 68, "255.255.255.255", 67))])))
    facts = summed(result.connections, result.stats)
    assert facts.directions["multicast"].connections == 1
    assert {*facts.local_hosts.counts.values(), *facts.remote_hosts.counts.values()} == {0}


def test_speed() -> None:
    """A million connections take less than two seconds; here a tenth of that, in processor time."""
    packets: list[Packet] = [
        (number * 1e-5, udp(f"10.{number % 200}.{number // 200 % 200}.1", 1000 + number // 40_000, "192.0.2.1", 53))
        for number in range(100_000)
    ]
    result = ct.track(io.BytesIO(pcap_bytes(packets)))
    assert len(result.connections) == 100_000
    at = time.process_time()
    summarise(result.connections, result.stats, CONFIG)
    assert time.process_time() - at < 0.6


@pytest.mark.parametrize("told", [False, True])
def test_a_large_loss_is_the_first_line(told: bool) -> None:
    data = bytearray(pcap_bytes(evenly([udp("10.0.0.1", port, "10.0.0.2", 53, bytes(60)) for port in range(1, 41)])))
    # The captured length of the second record is none.
    size = (len(data) - 24) // 40
    data[24 + size + 8 : 24 + size + 12] = b"\xff\xff\xff\x7f"
    kept = data
    if not told:
        kept = data + pcap_bytes(evenly([udp("10.0.0.3", 9, "10.0.0.4", 53, bytes(900))] * 20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = ct.track(io.BytesIO(bytes(kept)))
    out = io.StringIO()
    facts = summed(result.connections, result.stats)
    render_summary.summary(grid.console(out, 120), facts)
    words = f"({size:,} of {len(kept):,} bytes) of the capture was not used"
    assert (words in out.getvalue().splitlines()[0]) == told
    assert (facts.capture.loss is not None) == told
