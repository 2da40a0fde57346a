"""Pictures of block characters, and lines that stay whole."""

from __future__ import annotations

import io
import ipaddress
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import conntrack_py as ct
from conntrack_py.analysis import initiatives
from conntrack_py.cli.render import grid, pictures
from support.packets import download, evenly, pcap_bytes, udp
from support.program import COMMAND, in_terminal, run, terminal

BLOCKS = re.compile("[▁▂▃▄▅▆▇█▏▎▍▌▋▊▉·]")


def test_bars() -> None:
    assert pictures.bar(0, 10) == ""
    assert pictures.bar(10, 10) == "█" * 16
    assert pictures.bar(1, 10**9) == "▏"
    assert pictures.bar(1, 2) == "█" * 8
    assert pictures.bar(33, 64) == "█" * 8 + "▎"


def test_lines() -> None:
    assert pictures.line([0, 1, 4, 8, 1000]) == "·▁▁▁█"
    assert pictures.line([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert pictures.line([0, 0]) == "··"


def test_lines_over_time() -> None:
    """Each connection is in the cell of its time, the last one in the last cell."""
    at = (0.0, 1.0, 10.0, 20.0, 47.9, 48.0)
    packets = [(second, udp("10.0.0.5", 1000 + place, "192.0.2.1", 53)) for place, second in enumerate(at)]
    packets += [(24.0, udp("192.0.2.1", 5000, "10.0.0.5", 53))]
    times = pictures.Times(ct.track(io.BytesIO(pcap_bytes(sorted(packets)))).connections)
    lines = times.lines(48)
    cells = {place: letter for place, letter in enumerate(lines["egress"]) if letter != "·"}
    assert cells == {0: "▄", 1: "▄", 10: "▄", 20: "▄", 47: "█"}
    assert lines["ingress"] == "·" * 24 + "█" + "·" * 23
    head = times.head("over time", 48)
    assert len(head) == 48
    assert head.split() == ["00:00:00", "over", "time", "00:00:48"]


def test_the_strip_of_a_beacon(demo_pcap: Path) -> None:
    result = ct.track(demo_pcap)
    beacon, _ = initiatives(result.connections, ct.summary(result).findings)
    times = pictures.Times(result.connections)
    strip = times.strip(beacon)
    assert (len(strip), strip.count("█"), strip.count("·")) == (32, 5, 27)


@pytest.mark.parametrize("first", [-(2**63) + 1, 0, 2**63 - 1])
def test_times_at_the_edge(first: int) -> None:
    class Table:
        """Connections that begin at the ends of time, and one without a time."""

        def __getitem__(self, name: str) -> object:
            import numpy as np

            return np.array([first, 2**63 - 1, -(2**63)], np.int64).view("M8[ns]")

        def codes(self, name: str) -> tuple[object, list[str]]:
            import numpy as np

            return np.zeros(3, np.int32), ["egress"]

    lines = pictures.Times(Table()).lines(8)  # type: ignore[arg-type]
    assert len(lines["egress"]) == 8
    # Without a span both are in the first cell.
    assert lines["egress"] == ("█·······" if first == 2**63 - 1 else "█······█")


def test_widths_of_pictures(demo_pcap: Path) -> None:
    """A bar and a line from 110 columns on, strips from 125 on; numbers stay where they are."""
    for columns in (80, 109, 110, 124, 125, 160):
        printed = terminal("summary", demo_pcap, columns=columns)
        assert max(map(len, printed.splitlines())) <= columns
        egress = next(line for line in printed.splitlines() if line.startswith("egress"))
        assert egress.split()[:4] == ["egress", "9", "53", "%"]
        assert bool(BLOCKS.search(egress)) == (columns >= 110)
        beacon = next(line for line in printed.splitlines() if "203.0.113.66" in line)
        assert bool(BLOCKS.search(beacon)) == (columns >= 125)


def test_no_pictures_elsewhere(demo_pcap: Path) -> None:
    """Not in a pipe, in JSON, where the encoding has no blocks, or where the terminal shows nothing but text."""
    assert not BLOCKS.search(run("summary", demo_pcap, COLUMNS="160").stdout.decode())
    assert not BLOCKS.search(terminal("summary", "--json", demo_pcap, columns=160))
    for setting in ({"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}):
        command = [*COMMAND, "summary", str(demo_pcap)]
        status, printed = in_terminal(command, columns=160, environment=setting)
        assert status == 0
        assert not BLOCKS.search(printed)


def squeezed(words: str) -> str:
    return re.sub(r"\s+", "", words)


ADDRESSES = st.ip_addresses().map(str) | st.just("2001:db8:1111:2222:3333:4444:5555:6666")
WORDS = st.text("abc.-", min_size=1, max_size=70) | st.just("x" * 253)
ROWS = st.tuples(ADDRESSES, ADDRESSES, WORDS, st.integers(0, 10**9))


@given(st.lists(ROWS, min_size=1, max_size=5), st.integers(44, 160))
@settings(max_examples=200, deadline=None)
def test_tables_lose_nothing_and_break_no_address(rows: list[tuple[str, str, str, int]], width: int) -> None:
    made = grid.Grid(1, "")
    for name, least in (("from", 15), ("to", 15), ("name", 8), ("number", None)):
        made.column(name, least=least, right=least is None)
    for orig, resp, name, number in rows:
        made.row(orig, f"{resp} [dim]{name}[/]", name, f"{number:,}")
    out = io.StringIO()
    made.print(Console(file=out, width=width, emoji=False, highlight=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    words = [word for line in lines for word in line.split()]
    for orig, resp, _, number in rows:
        assert orig in words
        assert resp in words
        assert f"{number:,}" in words
    letters = squeezed("".join(lines))
    assert len(letters) == sum(len(squeezed(f"{a}{b}{c}{c}{d:,}")) for a, b, c, d in rows) + len("fromtonamenumber")


@pytest.mark.parametrize("columns", [80, 120])
def test_real_captures(corpus_dir: Path, columns: int) -> None:
    """No line is too long or ends in blanks, and each address is one of the capture."""
    for path in sorted((corpus_dir / "pcaps").iterdir()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = ct.track(path, config=ct.Config(on_error="skip")).connections
        known = {*table["orig_addr"], *table["resp_addr"]}
        for command in (["summary", "--no-names"], ["track", "-f", "table"]):
            done = run(*command, "--on-error", "skip", path, COLUMNS=str(columns))
            assert done.returncode in (0, 3), done.stderr
            lines = done.stdout.decode().splitlines()
            assert max(map(len, lines), default=0) <= columns, path
            assert [line for line in lines if line != line.rstrip()] == []
            plural = r"(?<![\d,.])1 (packets|pkts|connections|hosts|groups|errors|services|fragments|frames)\b"
            assert not re.search(plural, done.stdout.decode())
            for word in re.findall(r"(?<![\w:.])[0-9a-f:]*:[0-9a-f]*:[0-9a-f:]*(?![\w:])", done.stdout.decode()):
                if re.fullmatch(r"\d\d:\d\d:\d\d", word):
                    continue
                address = str(ipaddress.ip_address(word))
                assert address in known, (path, word)


def test_large_and_vain(tmp_path: Path) -> None:
    """A scan is a caller in vain, and the largest connections are listed with what each end sent."""
    frames = [frame for port in range(8) for frame in download("10.0.0.5", 5000 + port, "192.0.2.7", 443, 9000 * port)]
    frames += [udp("198.51.100.9", 7, f"10.0.0.{host}", 161) for host in range(20, 60)]
    path = tmp_path / "scan.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    printed = terminal("summary", path)
    lines = printed.splitlines()
    at = lines.index("Callers in vain: 1")
    assert lines[at + 2].split()[:5] == ["198.51.100.9", "40", "40", "40", "1"]
    assert "40 connections were not answered, or refused" in lines
    at = lines.index("Largest connections")
    result = ct.track(path)
    top = max(result.connections, key=lambda row: row.resp_ip_bytes)
    assert lines[at + 2].split()[:4] == ["egress", "10.0.0.5", "192.0.2.7", "443/tcp"]
    assert ct.summary(result).largest[0].received == top.resp_ip_bytes
