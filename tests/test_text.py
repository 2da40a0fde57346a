"""Addresses, services, sizes and times in words."""

from __future__ import annotations

import dpkt
import numpy as np
import pytest

from conntrack_py import text

SECOND = 1_000_000_000
#: Messages by their numbers at IANA; what opens an ICMP "connection", or is an error.
ICMP = {
    dpkt.icmp.ICMP_UNREACH: "unreachable",
    dpkt.icmp.ICMP_SRCQUENCH: "source quench",
    dpkt.icmp.ICMP_REDIRECT: "redirect",
    dpkt.icmp.ICMP_ECHO: "echo",
    dpkt.icmp.ICMP_RTRADVERT: "router advertisement",
    dpkt.icmp.ICMP_RTRSOLICIT: "router solicitation",
    dpkt.icmp.ICMP_TIMEXCEED: "time exceeded",
    dpkt.icmp.ICMP_PARAMPROB: "parameter problem",
    dpkt.icmp.ICMP_TSTAMP: "timestamp",
    dpkt.icmp.ICMP_MASK: "address mask",
}
ICMP6 = {
    dpkt.icmp6.ICMP6_DST_UNREACH: "unreachable",
    dpkt.icmp6.ICMP6_PACKET_TOO_BIG: "packet too big",
    dpkt.icmp6.ICMP6_TIME_EXCEEDED: "time exceeded",
    dpkt.icmp6.ICMP6_PARAM_PROB: "parameter problem",
    dpkt.icmp6.ICMP6_ECHO_REQUEST: "echo",
    dpkt.icmp6.MLD_LISTENER_QUERY: "listener query",
    dpkt.icmp6.MLD_LISTENER_REPORT: "listener report",
    dpkt.icmp6.MLD_LISTENER_DONE: "listener done",
    dpkt.icmp6.ND_ROUTER_SOLICIT: "router solicitation",
    dpkt.icmp6.ND_ROUTER_ADVERT: "router advertisement",
    dpkt.icmp6.ND_NEIGHBOR_SOLICIT: "neighbour solicitation",
    dpkt.icmp6.ND_NEIGHBOR_ADVERT: "neighbour advertisement",
    dpkt.icmp6.ND_REDIRECT: "redirect",
    143: "listener report",  # RFC 3810
}
ERRORS = {"unreachable", "source quench", "redirect", "time exceeded", "parameter problem", "packet too big"}


@pytest.mark.parametrize(("proto", "messages"), [("icmp", ICMP), ("icmp6", ICMP6)])
def test_messages_of_icmp(proto: str, messages: dict[int, str]) -> None:
    for kind in range(256):
        assert text.service(proto, kind) == f"{proto} {messages.get(kind, f'type {kind}')}"
        # ICMPv6 redirects are no errors (RFC 4443: errors are below 128).
        is_error = messages.get(kind) in ERRORS if proto == "icmp" else kind < 128
        assert text.is_icmp_error(proto, kind) == is_error
    assert text.is_icmp(proto)
    assert not text.has_ports(proto)


@pytest.mark.parametrize("kind", [3, 11, 127])
def test_other_protocols_have_no_errors_of_icmp(kind: int) -> None:
    # Before, between and behind the two in the order of letters.
    for proto in ("gre", "icmp4", "tcp", "udp"):
        assert not text.is_icmp_error(proto, kind)
        assert not text.is_icmp(proto)


@pytest.mark.parametrize("proto", ["tcp", "udp", "sctp", "udplite", "dccp"])
def test_ports(proto: str) -> None:
    assert text.has_ports(proto)
    assert text.service(proto, 443) == f"443/{proto}"
    assert text.endpoint("10.0.0.1", 443, proto) == "10.0.0.1:443"
    assert text.endpoint("2001:db8::1", 443, proto) == "[2001:db8::1]:443"


def test_protocols_without_ports() -> None:
    assert (text.service("gre", 0), text.service("99", 0)) == ("gre", "ip protocol 99")
    assert text.endpoint("2001:db8::1", 0, "gre") == "2001:db8::1"


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0.00 s"),
        (123_000_000, "0.12 s"),
        (9_994_000_000, "9.99 s"),
        (10 * SECOND, "10 s"),
        (59 * SECOND + 499_000_000, "59 s"),
        (59 * SECOND + 500_000_000, "1 min 0 s"),
        (65 * SECOND, "1 min 5 s"),
        (3599 * SECOND, "59 min 59 s"),
        (3600 * SECOND, "1 h 0 min"),
        (86_399 * SECOND, "23 h 59 min"),
        (86_400 * SECOND, "1 d 0 h"),
        ((2 * 86_400 + 5 * 3600 + 3599) * SECOND, "2 d 5 h"),
        ((2 * 86_400 + 5 * 3600) * SECOND, "2 d 5 h"),
        ((3600 + 60) * SECOND, "1 h 1 min"),
    ],
)
def test_spans(ns: int, words: str) -> None:
    assert text.span(ns) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (34_000_000, "34 MB"),
        (5e9, "5.0 GB"),
        (5e12, "5.0 TB"),
        (5e15, "5.0 PB"),
        (1234e15, "1,234.0 PB"),
        (1.5e15, "1.5 PB"),
    ],
)
def test_sizes(count: float, words: str) -> None:
    assert text.size(count) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 9, "0 %"),
        (0, 0, "0 %"),
        (1, 0, "0 %"),
        (1, 101, "<1 %"),
        (1, 100, "1 %"),
        (12, 100, "12 %"),
        (999, 1000, "99 %"),
        (7, 7, "100 %"),
        (2, 3, "67 %"),
        (3, 2, "100 %"),
    ],
)
def test_shares(part: int, whole: int, words: str) -> None:
    assert text.share(part, whole) == words


def test_moments() -> None:
    assert text.moment(1_767_323_045_678_901_234) == "2026-01-02 03:04:05.678"
    assert text.moment(1_767_323_045_678_901_234, "s") == "2026-01-02 03:04:05"
    assert text.moment(int(np.datetime64("NaT").astype("i8"))) == "-"
