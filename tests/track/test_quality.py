"""Quality of a capture: `stats.quality`, and the warnings made of the counters."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterable

import dpkt
import pytest

import conntrack_py as ct
from support.corpus import captures, require
from support.packets import ACK, RST, SYN, Packet, download, evenly, packed, pcap_bytes, tcp, udp
from support.program import terminal

CLIENT, SERVER = "10.0.0.5", "203.0.113.80"


def track(packets: Iterable[Packet], **options: int) -> tuple[ct.stats.Quality, list[str]]:
    """The quality of a capture, and what was warned of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ct.track(io.BytesIO(pcap_bytes(packets, **options)))
    return result.stats.quality, [str(one.message) for one in caught]


def numbered(frames: Iterable[bytes], first: int = 100) -> list[bytes]:
    """The frames with a new IP identification each, as nearly every host writes them."""
    found = []
    for number, frame in enumerate(frames, first):
        ethernet = dpkt.ethernet.Ethernet(frame)
        ethernet.data.id, ethernet.data.sum = number, 0
        found.append(bytes(ethernet))
    return found


def downloads(number: int = 12) -> list[bytes]:
    return numbered(
        frame for client in range(number) for frame in download(CLIENT, 40000 + client, SERVER, 443, down=4000)
    )


def test_a_clean_capture() -> None:
    quality, warned = track(evenly(downloads()))
    assert (quality.observed, quality.inferred, quality.unknown) == (12, 0, 0)
    assert (quality.tcp_connections, quality.one_sided, quality.duplicates, quality.clock_steps) == (12, 0, 0, 0)
    assert quality.compared == len(downloads())
    assert warned == quality.describe() == []


def test_a_mirror_that_sends_both_sides() -> None:
    """Every packet twice, once with the TTL of the next router; the second copy is counted."""
    packets = []
    for at, frame in evenly(downloads()):
        ethernet = dpkt.ethernet.Ethernet(frame)
        ethernet.data.ttl, ethernet.data.sum = 63, 0
        packets += [(at, frame), (at + 0.0003, bytes(ethernet))]
    quality, warned = track(packets)
    assert quality.duplicates * 2 == quality.compared == len(packets)
    assert [word in warned[0] for word in ("50 % of the packets", "second copies", "editcap -d")] == [True] * 3
    assert len(warned) == 1


def test_what_is_sent_again_is_no_copy() -> None:
    again = [frame for frame in downloads(1) for _ in range(3)]
    assert track(evenly(numbered(again)))[0].duplicates == 0
    # The same datagram many times from one who does not count.
    beacon = udp(CLIENT, 5000, SERVER, 9999, b"tick")
    assert track(evenly([beacon] * 50))[0].duplicates == 0
    assert track(evenly(numbered([beacon] * 50)))[0].duplicates == 0


def test_one_end() -> None:
    frames = downloads()
    server = [frame for frame in frames if dpkt.ethernet.Ethernet(frame).data.src == packed(SERVER)]
    quality, warned = track(evenly(server))
    assert quality.one_sided == quality.tcp_connections == 12
    assert "only one end of 100 % of the TCP connections was captured" in warned[0]
    # Two packets are enough where the second answers what is not there.
    client = [tcp(CLIENT, 40000, SERVER, 443, SYN, 1), tcp(CLIENT, 40000, SERVER, 443, ACK, 2, 901)]
    assert track(evenly(client))[0].one_sided == 1


def test_a_dead_peer_is_no_second_end() -> None:
    """Requests that nobody answers, and a server that sends the same again to a client that is gone."""
    syns = [tcp(CLIENT, port, SERVER, 443, SYN, 1) for port in range(40000, 40040) for _ in range(3)]
    again = [tcp(SERVER, 443, CLIENT, port, ACK, 900, 5, b"x") for port in range(40000, 40020) for _ in range(5)]
    refused = [tcp(SERVER, 443, CLIENT, 40000, RST | ACK, 0, 2)]
    for frames in (syns, again, refused):
        quality, warned = track(evenly(frames))
        assert (quality.one_sided, [line for line in warned if "one end" in line]) == (0, [])


def test_the_clock() -> None:
    frames = downloads(1)
    packets = [(100 - 50 * (number > 5), frame) for number, frame in enumerate(frames)]
    quality, warned = track(packets)
    assert (quality.clock_steps, quality.largest_clock_step) == (1, -50 * 10**9)
    assert len(warned) == 1
    # Sorting undoes no step of the clock.
    assert warned[0] == "the clock stepped once, at most 50 s back: durations and timeouts around that are wrong"
    twice = [(100 - 50 * (number > 5) - 20 * (number > 8), frame) for number, frame in enumerate(frames)]
    assert "packets of <BytesIO> step back in time by up to 50 s" in track(twice)[1][0]
    late = [(0.5 if number == 9 else 1.0, frame) for number, frame in enumerate(frames)]
    assert track(late)[0].clock_steps == 0
    apart = [(10.0**8 * (number > 5), frame) for number, frame in enumerate(frames)]
    assert track(apart)[0].clock_steps == 0, "two captures put together"


def test_snaplen_and_fragments() -> None:
    quality, warned = track(evenly(downloads()), snaplen=42)
    assert quality.cut_headers == len(downloads())
    assert any("cut within their headers" in line for line in warned)
    later = dpkt.ip.IP(src=packed(CLIENT), dst=packed(SERVER), p=17, id=7, offset=64, data=b"x" * 64)
    later.len = len(later)
    frame = bytes(dpkt.ethernet.Ethernet(data=later, type=dpkt.ethernet.ETH_TYPE_IP))
    quality, warned = track(evenly([frame, *downloads(1)]))
    assert quality.fragments_without_ports == 1
    assert len(warned) == 1


def test_nothing_says_it() -> None:
    """Guesses are counted as what they are, and a summary shows what is wrong."""
    frames = [tcp(CLIENT, 40000 + n, SERVER, 50000 + n, ACK, 5, 9, b"x") for n in range(12)]
    quality, warned = track(evenly(numbered(frames)))
    assert (quality.observed, quality.inferred, quality.unknown) == (0, 0, 12)
    assert warned == ["nothing says who initiated 100 % of the connections: do not build rules on those"]


def test_errors_are_not_counted(mixed: list[Packet]) -> None:
    quality, _ = track(mixed)
    assert quality.observed + quality.inferred + quality.unknown == 4


def test_a_summary_shows_it(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "twice.pcap"  # type: ignore[operator]
    path.write_bytes(pcap_bytes((at, frame) for at, frame in evenly(downloads(3)) for _ in range(2)))
    output = terminal("summary", path)
    assert "second copies" in output
    assert max(map(len, output.splitlines())) <= 80


def test_the_same_however_the_files_are_cut() -> None:
    packets = [(at, frame) for at, frame in evenly(downloads()) for _ in range(2)]
    half = len(packets) // 2
    parts = [io.BytesIO(pcap_bytes(packets[:half])), io.BytesIO(pcap_bytes(packets[half:]))]
    with pytest.warns(ct.CaptureWarning, match="second copies"):
        assert ct.track(parts).stats.quality == track(packets)[0]


def test_no_false_alarm_in_real_captures() -> None:
    """Exactly the warnings about the corpus that were judged by hand."""
    require()
    said = {}
    for capture in captures():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ct.CaptureWarning)
            stats = ct.track(str(capture.path)).stats
        if found := stats.quality.warnings(stats.packets):
            said[capture.name] = [line.split(" ", 3)[0:2] for line in found]
    assert said == {
        "ndpi__1kxun.pcap": [["8", "%"]],
        "suricata__bug-2491-02__simple_http_download.onesided.nosyn.pcap": [["only", "one"]],
        "suricata__stream-async__http__stream-async-6063-srv-01__http-request-header-async-srv.pcap": [["only", "one"]],
        "zeek__ssh__ssh.client-side-half-duplex.pcap": [["only", "one"]],
        "arkime__y2038-bgp.pcap": [["only", "one"], ["the", "clock"]],
    }


@pytest.mark.parametrize(
    ("counts", "warned"),
    [
        ({"duplicates": 19, "compared": 100}, ""),
        ({"duplicates": 20, "compared": 100}, "20 % of the packets are second copies"),
        ({"duplicates": 20, "compared": 400}, "5 % of the packets are second copies"),
        ({"duplicates": 20, "compared": 401}, ""),
        ({"one_sided": 1, "tcp_connections": 2}, "only one end of 50 % of the TCP connections"),
        ({"one_sided": 1, "tcp_connections": 3}, ""),
        ({"cut_headers": 10}, "1 % of the packets were cut"),
        ({"cut_headers": 9}, ""),
        ({"unknown": 3, "observed": 4, "inferred": 3}, "nothing says who initiated 30 % of the connections"),
        ({"unknown": 9}, ""),
        ({"unknown": 10}, "nothing says who initiated 100 % of the connections"),
        ({"unknown": 4, "inferred": 12}, "nothing says who initiated 25 %"),
        ({"unknown": 4, "inferred": 13}, ""),
    ],
)
def test_from_where_on_it_is_worth_a_warning(counts: dict[str, int], warned: str) -> None:
    none = dict.fromkeys((field.name for field in dataclasses.fields(ct.Quality)), 0)
    found = ct.Quality(**none | counts).warnings(packets=1000)
    assert len(found) == bool(warned)
    assert all(one.startswith(warned) for one in found)
