"""Tables on terminals: nothing is lost where room is short."""

from __future__ import annotations

import io
import re
import socket
import struct
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py import text
from conntrack_py.cli.render import connections as render_connections
from conntrack_py.cli.render import grid
from support.packets import Packet, download, evenly, pcap_bytes, udp
from support.program import terminal

NO_TIME = -(2**63)
DAY = 86_400.0
LONG = "2001:db8:1111:2222:3333:4444:5555:{:x}"


def udp6(src: str, sport: int, dst: str, dport: int, payload: bytes) -> bytes:
    packet = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload
    header = struct.pack(">IHBB", 6 << 28, len(packet), 17, 64)
    addresses = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
    return bytes(12) + b"\x86\xdd" + header + addresses + packet


@pytest.fixture
def long_words() -> list[Packet]:
    """Three days, IPv6 addresses of full length, and long IPv4 ones."""
    packets: list[Packet] = []
    for number in range(3):
        there, back = LONG.format(0xAAAA), LONG.format(0xB000 + number)
        frames = [udp6(there, 50_000, back, 53, b"q" * 999), udp6(back, 53, there, 50_000, b"a" * 999)] * 500
        frames += download("192.168.100.101", 50_000 + number, "203.113.200.201", 443, 400_000)
        packets += evenly(frames, number * DAY)
    return packets


def squeezed(output: str) -> str:
    """Without white space: words that were folded are whole again only where their column is alone."""
    return re.sub(r"\s+", "", output)


def test_a_capture_of_days(tmp_path: Path, long_words: list[Packet]) -> None:
    path = tmp_path / "days.pcap"
    path.write_bytes(pcap_bytes(long_words))
    for columns in (80, 100, 120, 140, 160):
        output = terminal("track", "-f", "table", path, columns=columns)
        lines = output.splitlines()
        assert "…" not in output
        assert max(map(len, lines)) <= columns
        assert "sent" in lines[0]
        assert "received" in lines[0]
        for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
            # Once as a line of its own, or in each of its rows.
            assert len(re.findall(day, output)) == (2 if columns == 160 else 1)
        assert output.count(" 524 kB") == 6  # both ways of each UDP connection
    assert len(re.findall(r"^\d\d:\d\d:\d\d ", terminal("track", "-f", "table", path), re.MULTILINE)) == 6


def test_one_day_is_not_named(demo_pcap: Path) -> None:
    assert "2026" not in terminal("track", "-f", "table", demo_pcap)


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_narrow_tables_keep_their_numbers(tmp_path: Path, long_words: list[Packet], columns: int) -> None:
    path = tmp_path / "days.pcap"
    path.write_bytes(pcap_bytes(long_words))
    output = terminal("track", "-f", "table", path, columns=columns)
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= columns
    assert output.count(" 524 kB") == 6
    assert "sent received" in output


def test_a_summary_of_long_words(tmp_path: Path, long_words: list[Packet]) -> None:
    path = tmp_path / "days.pcap"
    path.write_bytes(pcap_bytes(long_words))
    for columns in (80, 100, 160):
        output = terminal("summary", path, columns=columns)
        assert "…" not in output
        assert max(map(len, output.splitlines())) <= columns
        assert "connections" in output
        assert "1.6 MB    1.6 MB" in output
        assert LONG.format(0xAAAA) in output


@pytest.mark.parametrize("name", ["zeek__mixed-vlan-mpls.pcap", "arkime__v6-http.pcap"])
@pytest.mark.parametrize("command", [["track", "-f", "table", "--limit", "0"], ["summary"]])
def test_real_captures_at_80_columns(corpus_dir: Path, name: str, command: list[str]) -> None:
    path = corpus_dir / "pcaps" / name
    output = terminal(*command, path)
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= 80
    if command[0] == "track":
        (head, *_) = output.splitlines()
        assert head.split()[-2:] == ["sent", "received"]
        for row in ct.track(path).connections:
            assert f" {text.size(row.orig_ip_bytes)} " in output
            assert f" {text.size(row.resp_ip_bytes)}\n" in output


def test_long_services_fold() -> None:
    """The columns of numbers stay whole beside a name that does not fit."""
    shown = grid.Grid(1, "")
    shown.column("name", least=5)
    shown.column("left out", spare=1)
    shown.column("number", right=True)
    shown.row("neighbour solicitation", "zzz", "1,234,567")
    out = io.StringIO()
    shown.print(grid.console(out, 16))
    assert squeezed(out.getvalue()) == "namenumberneighb1,234,567oursolicitation"


@pytest.mark.parametrize("width", [80, 120, 160])
@pytest.mark.parametrize("start", [NO_TIME, NO_TIME + 1, 2**63 - 1])
def test_times_at_the_edge(width: int, start: int) -> None:
    """NumPy's "not a time" is printed as a dash."""
    result = ct.track(io.BytesIO(pcap_bytes([(0.0, udp("10.0.0.5", 1, "10.0.0.6", 2))])))
    (row,) = result.connections
    for rows in ([row._replace(start=start)], [row, row._replace(start=start)]):
        out = io.StringIO()
        render_connections.connections(grid.console(out, width), rows, 0)
        assert out.getvalue().count("10.0.0.6") == len(rows)
        if start == NO_TIME:
            assert re.search(r"^- ", out.getvalue(), re.MULTILINE)


def test_no_time_is_a_dash() -> None:
    assert text.moment(NO_TIME) == "-"
    assert text.moment(0, "s") == "1970-01-01 00:00:00"
