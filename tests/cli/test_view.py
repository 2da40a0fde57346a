"""Conditions, order, number and columns of what commands write, and names beside addresses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import conntrack_py as ct
from support.packets import evenly, pcap_bytes, tcp, udp
from support.program import run, terminal

WHERE = "direction == egress and resp_port in [53, 8443]"


def rows(*args: str | Path, stdin: bytes = b"") -> list[dict[str, str]]:
    done = run("track", *args, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout.decode())))


def key(row: dict[str, str]) -> tuple[str, ...]:
    return row["orig_addr"], row["orig_port"], row["resp_addr"], row["resp_port"]


def test_streams_filter_as_tables_do(demo_pcap: Path) -> None:
    """The same rows with the whole table, and batch by batch; a growing file and a pipe are streams."""
    whole = rows("--where", WHERE, demo_pcap)
    assert len(whole) == 6
    assert all(row["direction"] == "egress" for row in whole)
    streams = (
        rows("--stream", "--where", WHERE, demo_pcap),
        rows("--where", WHERE, "-", stdin=demo_pcap.read_bytes()),
    )
    for stream in streams:
        assert sorted(map(key, stream)) == sorted(map(key, whole))


def test_json_lines(demo_pcap: Path) -> None:
    done = run("track", "-f", "jsonl", "--where", WHERE, "--columns", "resp_port,start", demo_pcap)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["resp_port"] for line in lines} == {53, 8443}
    assert all(list(line) == ["resp_port", "start"] for line in lines)


def test_parquet(demo_pcap: Path, tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "a.parquet"
    options = ("--where", WHERE, "--sort", "-orig_port", "--columns", "orig_port,orig_zone")
    assert run("track", "-o", path, *options, demo_pcap).returncode == 0
    frame = pl.read_parquet(path)
    assert frame.columns == ["orig_port", "orig_zone"]
    assert frame["orig_port"].is_sorted(descending=True)
    assert len(frame) == 6


@pytest.mark.parametrize(
    "name", ["orig_addr", "direction", "resp_port", "duration", "bytes", "packets", "vlan", "start"]
)
def test_order(demo_pcap: Path, name: str) -> None:
    """Both ways, against Python's own sort; equal rows stay in their order."""
    import ipaddress

    table = ct.track(demo_pcap).connections

    def value(row: ct.Connection) -> object:
        if name == "orig_addr":
            return int(ipaddress.ip_address(row.orig_addr))
        derived = {
            "duration": (row.end or 0) - (row.start or 0),
            "bytes": row.orig_ip_bytes + row.resp_ip_bytes,
            "packets": row.orig_pkts + row.resp_pkts,
            "vlan": 0,
        }
        return derived[name] if name in derived else getattr(row, name)

    for sign in ("", "-"):
        expected = sorted(table, key=value, reverse=bool(sign))  # type: ignore[arg-type]
        found = rows("-f", "csv", "--sort", f"{sign}{name}", demo_pcap)
        assert [row["community_id"] for row in found] == [row.community_id for row in expected]
        few = rows("-f", "csv", "--sort", f"{sign}{name}", "--top", "3", demo_pcap)
        assert few == found[:3]


def test_missing_values_come_last() -> None:
    tagged = udp("10.0.0.2", 1, "10.0.0.9", 53)
    frames = [udp("10.0.0.1", 1, "10.0.0.9", 53), tagged[:12] + b"\x81\x00\x00\x07" + tagged[12:]]
    capture = pcap_bytes(evenly(frames))
    for sort in ("vlan", "-vlan"):
        found = rows("--no-stream", "-f", "csv", "--sort", sort, "-", stdin=capture)
        assert [row["vlan"] for row in found] == ["7", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "direction == egres"], "--where: at character 14: found 'egres'"),
        (["--where", "orig_zone == dmz"], "no zones are configured"),
        (["--sort", "size"], "--sort: found 'size', expected a column"),
        (["--sort", "-addr"], "--sort: found 'addr'"),
        (["--columns", "orig_adr"], "did you mean orig_addr?"),
        (["--columns", "start,bytes"], "expected columns of the table"),
        (["--columns", "start,start"], "expected each column once"),
        (["--columns", "start", "-f", "zeek"], "zeek has columns of its own"),
        (["--stream", "--sort", "bytes"], "--sort and --top take all connections"),
        (["--stream", "--top", "3"], "--sort and --top take all connections"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(options: list[str], message: str) -> None:
    done = run("track", *options, "none.pcap")
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert done.stdout == b""


def test_the_place_of_a_mistake_is_below_it() -> None:
    head, shown, caret = run("track", "--where", "resp_port = 5", "none.pcap").stderr.decode().splitlines()
    assert head.startswith("conntrack-py: --where: at character 11")
    assert shown == "  resp_port = 5"
    assert caret == "            ^"
    (line,) = run("track", "--json-log", "--where", "resp_port = 5", "none.pcap").stderr.splitlines()
    assert json.loads(line)["message"] == head.removeprefix("conntrack-py: ")


def test_a_table_of_some_columns(demo_pcap: Path) -> None:
    shown = terminal("track", "-f", "table", "--columns", "resp_addr,resp_bytes", "--sort", "-resp_bytes", demo_pcap)
    lines = shown.splitlines()
    assert lines[0].split() == ["resp_addr", "resp_bytes"]
    assert lines[1].split() == ["203.0.113.80", "3000000"]


def request(client: str, port: int, server: str, host: str) -> list[bytes]:
    """A connection with an HTTP request."""
    asked = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    return [
        tcp(client, port, server, 80, 2, seq=1),
        tcp(server, 80, client, port, 18, seq=9, ack=2),
        tcp(client, port, server, 80, 24, seq=2, ack=10, payload=asked),
        tcp(server, 80, client, port, 24, seq=10, ack=2 + len(asked), payload=b"y" * 400),
    ]


@pytest.fixture
def named_pcap(tmp_path: Path) -> Path:
    """A host with five names, one with a number for a name, one whose name has an escape sequence."""
    frames = [frame for n in range(5) for frame in request("10.0.0.5", 1000 + n, "192.0.2.7", f"www{n}.example")]
    frames += request("10.0.0.5", 2000, "192.0.2.8", "198.51.100.1")
    frames += request("10.0.0.5", 2001, "192.0.2.9", "\x1b[31mred.example")
    frames += request("10.0.0.5", 2002, "192.0.2.10", f"{'a' * 60}.{'b' * 60}.example.com:80")
    path = tmp_path / "named.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    return path


def test_names_in_the_library(named_pcap: Path) -> None:
    result = ct.track(named_pcap, names=True, labels=True)
    assert result.names is not None
    assert list(result.names) == ["192.0.2.10", "192.0.2.7"]
    assert [one.name for one in result.names["192.0.2.7"]] == [f"www{n}.example" for n in range(4)]
    assert result.names["192.0.2.7"][0] == ct.HostName("www0.example", ("http",))
    plain = ct.track(named_pcap, labels=True)
    assert plain.names is None
    assert (plain.labels == result.labels).all()
    assert list(plain.connections) == list(result.connections)


def test_dns_names(demo_pcap: Path) -> None:
    for threads in (1, 4):
        names = ct.track(demo_pcap, names=True, threads=threads).names
        assert names == {"203.0.113.80": (ct.HostName("video.example", ("dns",)),)}


@pytest.mark.parametrize("columns", [80, 120])
def test_names_beside_addresses(named_pcap: Path, columns: int) -> None:
    printed = terminal("summary", named_pcap, columns=columns)
    assert "192.0.2.7 www0.example +3 " in printed
    # Of a long name the end is shown.
    tail = f"{'a' * 60}.{'b' * 60}.example.com"[-37:]
    assert f"192.0.2.10 ...{tail} " in printed or (columns == 80 and f"...{tail}" in "".join(printed.split()))
    assert "red.example" not in printed
    assert "198.51.100.1" not in printed
    assert max(map(len, printed.splitlines())) <= columns
    assert "www0.example" not in terminal("summary", "--no-names", named_pcap, columns=columns)
    wide = terminal("track", "-f", "table", named_pcap, columns=columns)
    assert ("www0.example" in wide) == (columns == 120)
    assert "www0.example" not in terminal("track", "-f", "table", "--no-names", named_pcap, columns=columns)


def test_names_in_json_have_their_source(named_pcap: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.7 web\n10.0.0.5 laptop\n192.0.2.99 elsewhere\n")
    names = json.loads(run("summary", "--json", "--inventory", hosts, named_pcap).stdout)["names"]
    assert names["10.0.0.5"] == {"laptop": ["inventory"]}
    assert names["192.0.2.7"] == {"web": ["inventory"], **{f"www{n}.example": ["http"] for n in range(4)}}
    assert "192.0.2.99" not in names
    names = json.loads(run("summary", "--json", "--inventory", hosts, "--no-names", named_pcap).stdout)["names"]
    assert names == {"10.0.0.5": {"laptop": ["inventory"]}, "192.0.2.7": {"web": ["inventory"]}}
    assert "192.0.2.7 web +4" in terminal("summary", "--inventory", hosts, named_pcap, columns=120)


def test_an_inventory_is_inert(named_pcap: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.5 [red]bold[/red]\x1b[31m\n")
    assert r"10.0.0.5 [red]bold[/red]\x1b[31m" in terminal("summary", "--inventory", hosts, named_pcap, columns=120)


def test_anonymised_summaries_have_no_names(named_pcap: Path, tmp_path: Path) -> None:
    """The condition is about the true addresses, which nothing shows."""
    options = ("--anonymise", "a long secret", "--where", "resp_addr == 192.0.2.7")
    for more in ((), ("--json",)):
        done = run("summary", *options, *more, named_pcap)
        assert done.returncode == 0, done.stderr
        assert b"www0" not in done.stdout
        assert b"192.0.2.7" not in done.stdout
    assert json.loads(done.stdout)["totals"]["connections"] == 5
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.7 web\n")
    assert run("summary", *options, "--inventory", hosts, named_pcap).returncode == 2
    found = rows("-f", "csv", *options, named_pcap)
    assert len(found) == 5
    assert {row["resp_addr"] for row in found}.isdisjoint({"192.0.2.7"})
