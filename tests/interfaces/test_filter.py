"""Filters in words: what they let pass on a machine of our own, and what tcpdump's compiler makes of the same words."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from conntrack_py.interfaces import filter as filters
from conntrack_py.interfaces.filter import compile_filter, maker, read_compiled
from support import corpus
from support.bpf import run
from support.packets import SYN, arp, echo, tcp, udp

A, B = "10.0.0.5", "203.0.113.80"
A6, B6 = "2001:db8::5", "2001:db8:1::80"
SNAPLEN = 262_144


def v6(proto: int, payload: bytes, extensions: bytes = b"", first: int | None = None) -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(extensions + payload), proto if first is None else first, 64)
    return (
        b"\2" * 12
        + b"\x86\xdd"
        + head
        + socket.inet_pton(socket.AF_INET6, A6)
        + socket.inet_pton(socket.AF_INET6, B6)
        + extensions
        + payload
    )


def tagged(frame: bytes, *kinds: int) -> bytes:
    for kind in kinds:
        frame = frame[:12] + struct.pack(">HH", kind, 7) + frame[12:]
    return frame


def fragment(frame: bytes, offset: int) -> bytes:
    return frame[:20] + struct.pack(">H", 0x2000 | offset) + frame[22:]


PORTS = struct.pack(">HHHH", 4000, 443, 8, 0)
WITH_OPTIONS = udp(A, 1, B, 53)[:14] + b"\x46" + udp(A, 1, B, 53)[15:34] + b"\1\1\1\1" + udp(A, 1, B, 53)[34:]
FRAMES = {
    "https": tcp(A, 40000, B, 443, SYN),
    "answer": tcp(B, 443, A, 40000, SYN),
    "dns": udp(A, 40000, B, 53, b"question"),
    "options": WITH_OPTIONS,
    "first fragment": fragment(udp(A, 40000, B, 53, bytes(16)), 0),
    "later fragment": fragment(udp(A, 40000, B, 53, bytes(16)), 3),
    "ping": echo(A, B, 8),
    "other host": udp("10.1.0.9", 53, "192.0.2.1", 6005),
    "udp6": v6(17, PORTS),
    "tcp6": v6(6, PORTS + bytes(12)),
    "icmp6": v6(58, bytes(8)),
    "fragment6": v6(17, PORTS, struct.pack(">BBHI", 17, 0, 1, 9), first=44),
    "later6": v6(17, PORTS, struct.pack(">BBHI", 17, 0, 0x41, 9), first=44),
    "tagged": tagged(tcp(A, 40000, B, 443, SYN), 0x8100),
    "twice": tagged(tcp(A, 40000, B, 443, SYN), 0x8100, 0x88A8),
    "arp": arp(),
    "short": tcp(A, 40000, B, 443, SYN)[:30],
}
#: Headers of hop-by-hop and destination options: tcpdump does not look behind these.
OPTIONS = v6(17, PORTS, bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((17, 1)) + bytes(14), first=0)


def passes(text: str, *, plain: bool = True) -> set[str]:
    program = compile_filter(text, is_cooked=False, snaplen=SNAPLEN)
    return {
        name for name, frame in FRAMES.items() if run(program, frame) and not (plain and name in ("tagged", "twice"))
    }


V4 = {"https", "answer", "dns", "options", "first fragment", "later fragment", "ping", "other host"}
V6 = {"udp6", "tcp6", "icmp6", "fragment6", "later6"}
WORDS: list[tuple[str, set[str]]] = [
    ("host 203.0.113.80", V4 - {"other host"}),
    ("src host 203.0.113.80", {"answer"}),
    ("dst host 203.0.113.80 and tcp", {"https"}),
    ("net 10.0.0.0/15", V4),
    ("net 10.0.0.0/16", V4 - {"other host"}),
    ("src net 192.0.2.0/24 or dst net 192.0.2.0/24", {"other host"}),
    ("net 0.0.0.0/0", V4),
    ("host 2001:db8::5", V6),
    ("net 2001:db8:1::/48", V6),
    ("dst net 2001:db8:2::/48", set()),
    ("port 443", {"https", "answer", "udp6", "tcp6", "fragment6"}),
    ("tcp port 443", {"https", "answer", "tcp6"}),
    ("tcp dst port 443", {"https", "tcp6"}),
    ("udp src port 53", {"other host"}),
    (
        "portrange 53-443",
        {"https", "answer", "dns", "options", "first fragment", "other host", "udp6", "tcp6", "fragment6"},
    ),
    ("dst portrange 6000-6008", {"other host"}),
    ("udp", {"dns", "options", "first fragment", "later fragment", "other host", "udp6", "fragment6", "later6"}),
    ("icmp or icmp6", {"ping", "icmp6"}),
    ("proto 17 and ip6", {"udp6", "fragment6", "later6"}),
    ("ip and not (tcp or udp)", {"ping"}),
    ("not ip and ! ip6", {"arp"}),
    ("tcp && port 443 || icmp", {"https", "answer", "tcp6", "ping"}),
    ("icmp or tcp and dst port 443", {"https", "tcp6"}),
    ("icmp or (tcp and dst port 443)", {"ping", "https", "tcp6"}),
    ("tcp and port 443 or icmp and src host 10.0.0.5", {"https", "ping"}),
]


@pytest.mark.parametrize(("text", "expected"), WORDS, ids=[text for text, _ in WORDS])
def test_words(text: str, expected: set[str]) -> None:
    assert passes(text) - {"short"} == expected


@pytest.mark.parametrize("text", [text for text, _ in WORDS if text != "net 0.0.0.0/0"])
def test_tcpdump_means_the_same(text: str, tmp_path: Path) -> None:
    """But for ARP, tags (tcpdump has words for them), and what lies behind fragments of IPv6."""
    if shutil.which("tcpdump") is None:
        corpus.missing("tcpdump is not installed")
    made = subprocess.run(["tcpdump", "-ddd", "-y", "EN10MB", text], capture_output=True, check=True)
    compiled = tmp_path / "filter"
    compiled.write_bytes(made.stdout)
    program = read_compiled(compiled)
    found = {name for name, frame in FRAMES.items() if run(program, frame) and name not in ("tagged", "twice")}
    differ = {"fragment6"} if "port" in text else set()
    if text == "not ip and ! ip6":
        found.discard("short")
    assert found - differ == passes(text) - differ


def test_tags_are_looked_behind() -> None:
    assert passes("tcp port 443 and host 10.0.0.5", plain=False) >= {"tagged", "twice", "https"}
    assert not passes("udp", plain=False) & {"tagged", "twice"}


def test_extension_headers_are_looked_behind() -> None:
    program = compile_filter("udp port 443", is_cooked=False, snaplen=SNAPLEN)
    assert run(program, OPTIONS) == SNAPLEN
    assert run(compile_filter("udp port 444", is_cooked=False, snaplen=SNAPLEN), OPTIONS) == 0


@pytest.mark.parametrize("text", [text for text, _ in WORDS])
def test_cooked_packets(text: str) -> None:
    """Without an Ethernet header; a tag that is still there leaves its own half and the EtherType."""
    plain = compile_filter(text, is_cooked=False, snaplen=SNAPLEN)
    cooked = compile_filter(text, is_cooked=True, snaplen=SNAPLEN)
    for name, frame in FRAMES.items():
        protocol = int.from_bytes(frame[12:14], "big")
        assert run(cooked, frame[14:], protocol) == run(plain, frame), name


def test_long_filters_jump_far(tmp_path: Path) -> None:
    text = " or ".join(f"port {port}" for port in range(1, 200)) + " or host 203.0.113.80"
    program = compile_filter(text, is_cooked=False, snaplen=100)
    assert len(program) < filters.MOST_INSTRUCTIONS
    assert run(program, FRAMES["ping"]) == 100
    assert run(program, FRAMES["other host"]) == 100
    assert run(program, FRAMES["arp"]) == 0
    with pytest.raises(ValueError, match=r"expected at most 4,096"):
        compile_filter(" or ".join(["port 1"] * 3000), is_cooked=False, snaplen=100)


REFUSED = [
    ("", "found the end"),
    ("port", "found the end, expected a port"),
    ("port 65536", "found 65536"),
    ("port https", "found https"),
    ("portrange 9-3", "expected the lower port first"),
    ("portrange 9", "found the end"),
    ("host example.org", "found example.org, expected an address"),
    ("host 10.0.0.0/8", "net takes a network"),
    ("net 10.0.0.1/8", "has host bits set"),
    ("tcp and", "found the end"),
    ("(tcp", "found the end, expected )"),
    ("tcp)", "found )"),
    ("tcp udp", "found udp, expected and, or"),
    ("ether host 2", "found ether"),
    ("proto 256", "found 256"),
    ("tcp or udp and " * 60 + "tcp", "more than 100 changes"),
    ("(" * 200 + "tcp" + ")" * 200, "more than 100 levels"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:20] for text, _ in REFUSED])
def test_refused_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^filter ") as caught:
        compile_filter(text, is_cooked=False, snaplen=SNAPLEN)
    assert message in str(caught.value)


def test_any_bytes_are_a_filter_or_refused() -> None:
    words = ["tcp", "(", ")", "not", "and", "or", "port", "host", "10.0.0.1", "1", "src", "!", "proto", "&", "\x00"]
    for some in itertools.product(words, repeat=3):
        program = None
        with contextlib.suppress(ValueError):
            program = compile_filter(" ".join(some), is_cooked=False, snaplen=SNAPLEN)
        assert program is None or run(program, FRAMES["https"]) in (0, SNAPLEN)


def test_compiled_filters(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    path.write_text("2\n40 0 0 12\n6 0 0 262144\n")
    assert maker(f"@{path}", 500)(True) == [(40, 0, 0, 12), (6, 0, 0, 500)]
    for text in (
        "",
        "1\n",
        "2\n6 0 0 1\n",
        "1\n6 0 0\n",
        "1\n6 0 0 x\n",
        "1\n6 0 0 4294967296\n",
        "1\n6 256 0 1\n",
        "tcp",
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match="filter: found"):
            maker(f"@{path}", 500)
    with pytest.raises(FileNotFoundError):
        maker("@none", 500)


def test_no_filter_cuts() -> None:
    assert maker(None, 96)(False) == [(6, 0, 0, 96)]
