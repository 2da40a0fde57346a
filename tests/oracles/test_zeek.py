"""`profile="zeek"` and `format="zeek"` against the conn.logs of Zeek's own tests, connection by connection.

Each test of Zeek's is tracked with its settings and written as a conn.log, which is read as `zeek-cut` reads it. What
is not equal is a row of `docs/differences.md` (oracle `zeek-profile`), or a failure.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

import dpkt  # type: ignore[import-untyped]
import pytest

import conntrack_py as ct
from support.corpus import SUMMARY, Capture, Expectation, address, captures, more_captures, require
from support.known_differences import Difference, end_text, listed, settle
from support.packets import ACK, SYN, download, echo, ethernet, evenly, packed, pcap_bytes, tcp, udp

ORACLE = "zeek-profile"
#: Tests whose Zeek told connections apart by another key.
_OTHER = ("vlan-in-key", "custom-conn-key")
#: Columns of the log and what the corpus calls them.
_COLUMNS = {
    "conn_state": "conn_state",
    "history": "history",
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_ip_bytes": "orig_ip_bytes",
    "resp_ip_bytes": "resp_ip_bytes",
    "orig_bytes": "orig_payload_bytes",
    "resp_bytes": "resp_payload_bytes",
    "duration": "duration",
    "missed_bytes": "missed_bytes",
    "local_orig": "local_orig",
    "local_resp": "local_resp",
}
#: The trust that an expectation needs for each column to count.
_TRUST = {
    "conn_state": "conn_state",
    "history": "history",
    "duration": "duration",
    "orig_pkts": "packets",
    "resp_pkts": "packets",
    "orig_ip_bytes": "ip_bytes",
    "resp_ip_bytes": "ip_bytes",
    "orig_bytes": "bytes",
    "resp_bytes": "bytes",
    "missed_bytes": "bytes",
    "local_orig": "local",
    "local_resp": "local",
}
#: Columns that Zeek leaves unset on purpose.
_UNSET = ("history", "duration")
#: Private networks of Zeek 8 (`Site::private_address_space`), which Zeek takes for local.
_PRIVATE = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/24"),
    *("239.0.0.0/8", "240.0.0.0/4", "::/128", "::1/128", "2001::/23", "2001:db8::/32", "fc00::/7", "fe80::/10"),
]
_TRANSPORTS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}


def cut(log: str) -> list[dict[str, str]]:
    """The rows of a log by column, as `zeek-cut` finds them: by the header lines alone."""
    head = {line.split(None, 1)[0]: line for line in log.splitlines() if line.startswith("#")}
    separator = head["#separator"].split(" ", 1)[1].encode().decode("unicode_escape")
    names = head["#fields"].split(separator)[1:]
    assert len(head["#types"].split(separator)) == len(names) + 1
    rows = [line.split(separator) for line in log.splitlines() if not line.startswith("#")]
    return [dict(zip(names, row, strict=True)) for row in rows]


def conn_log(source: str | bytes, **config: Any) -> list[dict[str, str]]:
    """Track a file, or the bytes of one, and read back its log."""
    log = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        ct.track(opened, config=ct.Config(**config)).connections.write(log, format="zeek")
    return cut(log.getvalue().decode())


def shown(value: Any) -> str:
    """A value of the corpus as the log writes it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "T" if value else "F"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def ends(row: dict[str, str]) -> tuple[tuple[str, int], tuple[str, int]]:
    return (
        (address(row["id.orig_h"]), int(row["id.orig_p"])),
        (address(row["id.resp_h"]), int(row["id.resp_p"])),
    )


def differences(capture: Capture, expectation: Expectation, numbers: Counter[str]) -> Iterable[Difference]:
    """Every connection of the expectation beside the nearest of ours with the same ends."""
    config: dict[str, Any] = {"profile": "zeek", "tunnels": "both", "checksum": expectation.checksum}
    if expectation.bare:
        config["likely_server_ports"] = expectation.likely_server_ports
    config["local"] = [*_PRIVATE, *re.findall(r"[0-9.]+/[0-9]+", expectation.local_nets or "")]
    left = conn_log(str(capture.path), **config)
    for expected in expectation.connections:
        wanted = {
            column: shown(expected.fields.get(name))
            for column, name in _COLUMNS.items()
            if _TRUST[column] in expectation.trusted and (expected.fields.get(name) is not None or column in _UNSET)
        }
        pair = {expected.orig, expected.resp}
        kind = _TRANSPORTS.get(expected.proto or 0, "unknown_transport")
        same = [row for row in left if set(ends(row)) == pair and (expected.proto is None or row["proto"] == kind)]
        name = f"{expected.proto or 'any'} {end_text(expected.orig)} {end_text(expected.resp)}"

        def equal(row: dict[str, str], wanted: dict[str, str] = wanted, orig: Any = expected.orig) -> int:
            return sum(row[column] == value for column, value in wanted.items()) + (ends(row)[0] == orig)

        if not same:
            yield (capture.name, ORACLE, name, "connection", "absent", "present")
            continue
        ours = max(same, key=equal)
        left.remove(ours)
        numbers["connections"] += 1
        numbers["originators"] += ends(ours)[0] == expected.orig
        if ends(ours)[0] != expected.orig:
            yield (capture.name, ORACLE, name, "originator", end_text(ends(ours)[0]), end_text(expected.orig))
        for column, value in wanted.items():
            kind = column if column in ("conn_state", "history", "duration") else "sums"
            numbers[kind] += 1
            numbers[f"{kind} equal"] += ours[column] == value
            if ours[column] != value:
                yield (capture.name, ORACLE, name, column, ours[column], value)
    if expectation.complete:
        for row in left:
            orig, resp = ends(row)
            name = f"{row['proto']} {end_text(orig)} {end_text(resp)}"
            yield (capture.name, ORACLE, name, "connection", "present", "absent")


def test_zeeks_own_tests() -> None:
    """As Zeek has it, but for what docs/differences.md explains."""
    require()
    numbers: Counter[str] = Counter()
    found: set[Difference] = set()
    for capture in (*captures(), *more_captures()):
        for expectation in capture.expectations:
            if expectation.log == "conn.log" and not any(c.startswith(_OTHER) for c in expectation.caveats):
                numbers["tests"] += 1
                found.update(differences(capture, expectation, numbers))
    kinds = ("conn_state", "history", "duration", "sums")
    equal = ", ".join(f"{kind} {numbers[f'{kind} equal']} of {numbers[kind]}" for kind in kinds)
    SUMMARY.append(
        f"profile zeek: {numbers['tests']} tests of Zeek's, originators {numbers['originators']} of "
        f"{numbers['connections']}, {equal}"
    )
    assert numbers["originators"] == numbers["connections"]
    settle(found, {row for row in listed() if row[1] == ORACLE})


def zeek(packets: Iterable[tuple[float, bytes]], **config: Any) -> list[dict[str, str]]:
    return conn_log(pcap_bytes(packets), profile="zeek", **config)


A, B = "10.0.0.5", "203.0.113.80"
#: Ports, length and checksum of a datagram with 32 bytes of payload.
UDP_HEADER = struct.pack("!HHHH", 40000, 9999, 40, 0)


def test_attempts_are_given_up_after_five_seconds() -> None:
    syn = tcp(A, 40000, B, 443, SYN, 1)
    assert [row["orig_pkts"] for row in zeek([(0, syn), (1, syn), (3, syn), (7, syn)])] == ["3", "1"]
    assert [row["conn_state"] for row in zeek([(0, syn), (7, syn)])] == ["S0", "S0"]


def test_a_closed_connection_is_kept_for_five_seconds() -> None:
    whole = evenly(download(A, 40000, B, 443, down=1000))
    straggler = tcp(B, 443, A, 40000, ACK, 5000, 200)
    assert [row["resp_pkts"] for row in zeek([*whole, (4, straggler)])] == ["4"]
    apart = zeek([*whole, (6, straggler)])
    assert [(row["history"], row["conn_state"]) for row in apart] == [("ShADdFf", "SF"), ("^a", "OTH")]


def test_idle_connections_end_as_zeeks_do() -> None:
    first = evenly(download(A, 40000, B, 443, down=1000)[:6])
    more = tcp(A, 40000, B, 443, ACK, 103, 1901)
    assert len(zeek([*first, (299, more)])) == 1
    assert len(zeek([*first, (301, more)])) == 2
    query = udp(A, 40000, B, 9999)
    assert len(zeek([(0, query), (59, query)])) == 1
    assert len(zeek([(0, query), (61, query)])) == 2
    assert len(zeek([(0, query), (61, query)], timeouts={"nf_conntrack_udp_timeout": 120})) == 1


def test_a_syn_of_another_number_begins_anew() -> None:
    first = download(A, 40000, B, 443, down=1000)[:6]
    again = evenly([*first, tcp(A, 40000, B, 443, SYN, 777_777)])
    assert [row["history"] for row in zeek(again)] == ["ShADd", "S"]
    assert [row["history"] for row in zeek(evenly([*first, first[0]]))] == ["ShADd"]


def test_the_originator_is_zeeks() -> None:
    middle = [tcp(B, 443, A, 40000, ACK, 5, 9, b"x"), tcp(A, 40000, B, 443, ACK, 9, 6)]
    (row,) = zeek(evenly(middle))
    assert (row["id.orig_h"], row["history"]) == (A, "^dA")
    (row,) = zeek(evenly(middle), likely_server_ports=[])
    assert (row["id.orig_h"], row["history"]) == (B, "Da")
    # A SYN+ACK may be a scan, until somebody follows.
    answer = tcp(B, 7777, A, 40000, SYN | ACK, 1, 2)
    assert [row["history"] for row in zeek(evenly([answer]))] == ["H"]
    assert [row["history"] for row in zeek(evenly([answer, tcp(A, 40000, B, 7777, ACK, 2, 2)]))] == ["^hA"]


def test_what_tells_no_connections_apart() -> None:
    """VLANs and ICMP identifiers do for us, and not for Zeek."""
    tagged = [echo(A, B, 8)[:12] + b"\x81\x00\x00" + bytes([vlan]) + echo(A, B, 8)[12:] for vlan in (1, 2)]
    assert len(zeek(evenly(tagged))) == 1
    assert len(conn_log(pcap_bytes(evenly(tagged)))) == 2


def ipv6(proto: int, payload: bytes) -> bytes:
    """A frame from 2001:db8::1 to 2001:db8::2."""
    ends = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002")
    return bytes(12) + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + ends + payload


def sums(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    names = ("proto", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "duration")
    return [tuple(row[name] for name in names) for row in rows]


def test_extension_headers_that_zeek_ends_at() -> None:
    """ESP and mobility over IPv6 are no connections, over IPv4 and with other protocols they are (`IP.cc`)."""
    for proto, seen in ((50, False), (135, False), (103, True)):
        assert bool(zeek(evenly([ipv6(proto, bytes(16))]))) is seen, proto
        assert conn_log(pcap_bytes(evenly([ipv6(proto, bytes(16))])))
    assert zeek(evenly([ethernet(A, B, 50, bytes(16))]))


def test_padding_behind_ipv6_is_no_payload() -> None:
    assert sums(zeek(evenly([ipv6(99, b"") + bytes(6)]))) == [("unknown_transport", "1", "40", "0", "0", "-")]


def test_fragments_count_when_the_last_has_come() -> None:
    """A datagram has the time of the fragment that completes it, and the size of the whole (`Frag.cc`)."""
    first, last = (
        bytes(dpkt.ethernet.Ethernet(type=0x0800, data=ip))
        for ip in (
            dpkt.ip.IP(src=packed(A), dst=packed(B), p=17, id=7, mf=1, len=44, data=UDP_HEADER + bytes(16)),
            dpkt.ip.IP(src=packed(A), dst=packed(B), p=17, id=7, offset=3, len=36, data=bytes(16)),
        )
    )
    later = udp(A, 40000, B, 9999, bytes(32))
    assert sums(zeek([(0, first), (2, last), (5, later)])) == [("udp", "2", "120", "0", "0", "3.000000")]
    assert zeek([(0, first)]) == []


def test_tunnels_over_udp_are_connections_and_those_over_ip_are_not() -> None:
    """Outer sums are those of the outer packets, inner sums those of the inner ones (`IPTunnel.cc`)."""
    inner = udp(A, 40000, B, 9999, b"abc")[14:]
    frame = udp(A, 40000, B, 9999, b"abc")
    gre = struct.pack("!HH", 0, 0x0800)
    for carrier in (
        ethernet("192.0.2.1", "192.0.2.2", 4, inner),
        ethernet("192.0.2.1", "192.0.2.2", 47, gre + inner),
        ethernet("192.0.2.1", "192.0.2.2", 47, struct.pack("!HH", 0, 0x6558) + frame),
        ethernet("192.0.2.1", "192.0.2.2", 47, struct.pack("!HHI", 0x1000, 0x88BE, 1) + b"\x10" + bytes(7) + frame),
    ):
        assert sums(zeek([(0, carrier), (1, carrier)], tunnels="both")) == [("udp", "2", "62", "0", "0", "1.000000")]
    gtp = struct.pack("!BBHI", 0x30, 255, len(inner), 1) + inner
    for port, payload in (
        (4789, b"\x08" + bytes(7) + frame),
        (6081, struct.pack("!HHI", 0, 0x6558, 256) + frame),
        (2152, gtp),
        (4754, gre + inner),
    ):
        carrier = udp("192.0.2.1", 50_000, "192.0.2.2", port, payload)
        outer = ("udp", "2", str(2 * (28 + len(payload))), "0", "0", "1.000000")
        found = sums(zeek([(0, carrier), (1, carrier)], tunnels="both"))
        assert found == [outer, ("udp", "2", "62", "0", "0", "1.000000")], port
        # A wrong checksum of the outer packet hides the inner one.
        wrong = carrier[:40] + b"\xba\xd0" + carrier[42:]
        rows = zeek([(0, wrong), (1, wrong)], tunnels="both", checksum=True)
        assert [(row["history"], row["orig_pkts"], row["orig_ip_bytes"]) for row in rows] == [("C", "0", "0")], port


def test_layers_of_a_frame_do_not_count() -> None:
    """The sums begin at the IP header behind any layer of a frame."""
    macs, packet = bytes(12), udp(A, 40000, B, 9999, b"abc")[14:]
    plain = macs + b"\x08\x00" + packet
    for layers in (
        "8100 0005 0800",
        "88a8 0005 8100 0006 0800",
        "8100 0005 8926 00000001 0800",
        "8926 00000001 8100 0005 0800",
        "8847 000101ff",
        "8100 0005 8847 000100ff 000201ff",
        "8864 1100 0001 0021 0021",
        "0023 aaaa03 000000 0800",
    ):
        frame = macs + bytes.fromhex(layers) + packet
        assert sums(zeek([(0, frame), (1, frame)])) == sums(zeek([(0, plain), (1, plain)])), layers
    fabric = macs + bytes.fromhex("8903 0001") + plain
    backbone = macs + bytes.fromhex("88e7 00000001") + plain
    for frame in (fabric, backbone):
        assert sums(zeek([(0, frame)])) == [("udp", "1", "31", "0", "0", "-")]


def test_the_log_of_any_profile() -> None:
    """Every value is the table's; times are the capture's; a set of parents; the same twice."""
    packets = evenly([*download(A, 40000, B, 443), udp(A, 5353, "224.0.0.251", 5353)])
    result = ct.track(io.BytesIO(pcap_bytes(packets)))
    logs = [io.BytesIO(), io.BytesIO()]
    for log in logs:
        result.connections.write(log, format="zeek")
    text = logs[0].getvalue().decode()
    assert text == logs[1].getvalue().decode()
    lines = text.splitlines()
    assert lines[:6] == [
        *("#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", "#path\tconn"),
        "#open\t2026-01-01-00-00-00",
    ]
    assert lines[-1] == "#close\t2026-01-01-00-00-00"
    rows = cut(text)
    assert len({row["uid"] for row in rows}) == len(rows) == len(result.connections)
    for row, connection in zip(rows, result.connections, strict=True):
        assert re.fullmatch(r"C[0-9A-Za-z]{14,17}", row["uid"])
        assert (row["id.orig_h"], int(row["id.orig_p"])) == (connection.orig_addr, connection.orig_port)
        assert (row["conn_state"], row["history"]) == (connection.conn_state, connection.history)
        assert (int(row["orig_pkts"]), int(row["resp_ip_bytes"])) == (connection.orig_pkts, connection.resp_ip_bytes)
        assert row["community_id"] == connection.community_id
        assert float(row["ts"]) == pytest.approx(connection.start / 1e9, abs=1e-6)
    assert [(row["local_orig"], row["local_resp"]) for row in rows] == [("T", "F"), ("T", "F")]
    # What lasted no time has no size, as Zeek has it.
    assert (rows[1]["duration"], rows[1]["orig_bytes"]) == ("-", "-")
    assert rows[0]["duration"] != "-"


def test_a_tunnel_names_its_parent() -> None:
    require()
    (vxlan,) = (capture for capture in captures() if capture.name == "zeek__tunnels__vxlan.pcap")
    rows = conn_log(str(vxlan.path), profile="zeek", tunnels="both")
    uids = {row["uid"] for row in rows if row["id.resp_p"] == "4789"}
    (inner,) = (row for row in rows if row["proto"] == "icmp")
    assert inner["tunnel_parents"] in uids
    assert {row["tunnel_parents"] for row in rows if row is not inner} == {"-"}
