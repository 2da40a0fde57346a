"""The table of connections: columns, rows, Arrow, files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

import conntrack_py as ct
from make_trace import write_trace
from support.packets import Packet, pcap_bytes

COLUMNS = [
    *("start", "end", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port", "direction", "state", "conn_state"),
    *("history", "assured", "seen_reply", "evidence", "confidence", "flipped", "orig_pkts", "orig_ip_bytes"),
    *("orig_bytes", "resp_pkts", "resp_ip_bytes", "resp_bytes", "orig_zone", "resp_zone", "vlan", "tunnel"),
    *("related_to", "end_reason", "community_id", "vlan_reply"),
]
NUMERIC = {"u": ("orig_port", "resp_port", "orig_pkts", "resp_ip_bytes"), "f": ("confidence",), "b": ("assured",)}


@pytest.fixture(scope="module")
def table(mixed: list[Packet]) -> ct.ConnectionTable:
    config = ct.Config(zones={"office": ["10.0.0.0/24"]})
    return ct.track(io.BytesIO(pcap_bytes(mixed)), config=config).connections


@pytest.fixture(scope="module")
def empty() -> ct.ConnectionTable:
    return ct.track(io.BytesIO(pcap_bytes([]))).connections


def test_columns(table: ct.ConnectionTable) -> None:
    assert table.columns == COLUMNS == list(ct.Connection._fields)
    assert len(table) == 4
    for name in COLUMNS:
        column = table[name]
        assert column.shape == (4,), name
        assert not column.flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            column[0] = column[1]


def test_dtypes(table: ct.ConnectionTable) -> None:
    assert table["start"].dtype == table["end"].dtype == np.dtype("datetime64[ns]")
    for kind, names in NUMERIC.items():
        assert {table[name].dtype.kind for name in names} == {kind}
    assert table["vlan"].dtype == np.int32
    assert table["related_to"].dtype == np.int64
    for name in ("proto", "direction", "state", "conn_state", "evidence", "end_reason", "tunnel", "orig_zone"):
        assert table[name].dtype.kind == "U", name
    for name in ("orig_addr", "resp_addr", "history", "community_id"):
        assert table[name].dtype == object
        assert {type(value) for value in table[name]} == {str}


def test_values(table: ct.ConnectionTable) -> None:
    assert table["direction"].tolist() == ["egress", "egress", "internal", "ingress"]
    assert table["orig_addr"].tolist() == ["10.0.0.5", "10.0.0.5", "10.0.0.5", "198.51.100.7"]
    assert table["start"][0] == np.datetime64("2026-01-01T00:00:00", "ns")
    # Missing: numbers are -1, words are empty.
    assert table["vlan"].tolist() == table["related_to"].tolist() == [-1] * 4
    assert table["tunnel"].tolist() == [""] * 4
    assert table["orig_zone"].tolist() == ["office", "office", "office", ""]
    assert table["resp_zone"].tolist() == ["", "", "office", "office"]


@pytest.mark.parametrize("name", ["start", "orig_bytes", "resp_port", "confidence", "flipped", "vlan", "related_to"])
def test_numbers_are_not_copied(table: ct.ConnectionTable, name: str) -> None:
    assert np.shares_memory(table[name], table[name])


def test_a_column_outlives_its_table(mixed: list[Packet]) -> None:
    column = ct.track(io.BytesIO(pcap_bytes(mixed))).connections["orig_pkts"]
    assert column.sum() > 40


def test_unknown_column(table: ct.ConnectionTable) -> None:
    with pytest.raises(KeyError, match=r"no column orig_byte; did you mean orig_bytes\?"):
        table["orig_byte"]
    with pytest.raises(KeyError, match="there are start, end, proto"):
        table["???"]


def test_rows(table: ct.ConnectionTable) -> None:
    rows = list(table)
    assert table[0] == rows[0]
    assert table[-1] == table[np.int64(3)] == rows[3]
    first = rows[0]
    assert first._replace(start=0, end=0, confidence=0, community_id="", history="") == ct.Connection(
        start=0,
        end=0,
        proto="tcp",
        orig_addr="10.0.0.5",
        orig_port=51514,
        resp_addr="203.0.113.80",
        resp_port=443,
        direction="egress",
        state="TIME_WAIT",
        conn_state="SF",
        history="",
        assured=True,
        seen_reply=True,
        evidence="syn",
        confidence=0,
        flipped=False,
        orig_pkts=25,
        orig_ip_bytes=25 * 40 + 3,
        orig_bytes=3,
        resp_pkts=22,
        resp_ip_bytes=22 * 40 + 20_000,
        resp_bytes=20_000,
        orig_zone="office",
        resp_zone=None,
        vlan=None,
        tunnel=None,
        related_to=None,
        end_reason="closed",
        community_id="",
        vlan_reply=None,
    )
    assert first.start == 1_767_225_600_000_000_000
    assert first.confidence == 1.0
    assert first.community_id.startswith("1:")


@pytest.mark.parametrize("row", [4, -5])
def test_no_such_row(table: ct.ConnectionTable, row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of a table of 4 connections"):
        table[row]


def test_iteration_in_chunks(monkeypatch: pytest.MonkeyPatch, table: ct.ConnectionTable) -> None:
    whole = list(table)
    monkeypatch.setattr("conntrack_py.table.connections._CHUNK", 3)
    assert list(table) == whole


# ---- Arrow ----


def as_columns(table: ct.ConnectionTable) -> dict[str, list[Any]]:
    """The rows by column, times in nanoseconds and None where a value is missing."""
    return dict(zip(COLUMNS, map(list, zip(*table, strict=True)), strict=True))


def plain(value: Any) -> Any:
    """A value of any library as Python has it."""
    if isinstance(value, (pd.Timestamp, np.datetime64)):
        return int(
            np.datetime64(value.tz_localize(None) if isinstance(value, pd.Timestamp) else value, "ns").view("i8")
        )
    if value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def test_polars(table: ct.ConnectionTable) -> None:
    frame = pl.DataFrame(table)
    assert frame.equals(table.to_polars())
    assert frame.schema["start"] == pl.Datetime("ns", "UTC")
    columns = frame.with_columns(pl.col("start", "end").cast(pl.Int64)).to_dict(as_series=False)
    assert columns == as_columns(table)


def test_pyarrow(table: ct.ConnectionTable) -> None:
    arrow = pa.table(table)
    assert arrow.schema == pa.schema(table)
    for name in ("start", "end"):
        assert arrow.schema.field(name).type == pa.timestamp("ns", "UTC")
        arrow = arrow.set_column(arrow.schema.get_field_index(name), name, arrow[name].cast(pa.int64()))
    assert arrow.to_pydict() == as_columns(table)


def test_pandas(table: ct.ConnectionTable) -> None:
    frame = table.to_pandas()
    expected = as_columns(table)
    assert list(frame.columns) == COLUMNS
    for name in COLUMNS:
        assert [plain(value) for value in frame[name].tolist()] == expected[name], name
    assert {str(frame[name].dtype) for name in ("vlan", "vlan_reply", "related_to")} == {"Int64"}
    assert frame["vlan"].isna().all()


def test_duckdb(table: ct.ConnectionTable) -> None:
    connections = table  # DuckDB finds it by this name
    rows = duckdb.sql(
        "select orig_addr, resp_port, direction, orig_bytes, vlan, resp_zone, epoch_ns(start) from connections"
    ).fetchall()
    assert rows == [
        (row.orig_addr, row.resp_port, row.direction, row.orig_bytes, row.vlan, row.resp_zone, row.start)
        for row in connections
    ]


def test_a_stream_may_be_taken_twice(table: ct.ConnectionTable) -> None:
    assert pa.table(table).equals(pa.table(table))


@pytest.mark.parametrize(
    ("module", "method"),
    [("polars", "to_polars"), ("pyarrow", "to_pandas"), ("pandas", "to_pandas"), ("pyarrow", "to_arrow")],
)
def test_missing_library(monkeypatch: pytest.MonkeyPatch, table: ct.ConnectionTable, module: str, method: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install"):
        getattr(table, method)()


def test_empty(empty: ct.ConnectionTable) -> None:
    assert len(empty) == 0
    assert list(empty) == []
    assert {len(empty[name]) for name in COLUMNS} == {0}
    assert pl.DataFrame(empty).columns == COLUMNS
    assert repr(empty) == "ConnectionTable: 0 connections"


# ---- files ----


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv(table: ct.ConnectionTable, tmp_path: Path) -> None:
    table.write(tmp_path / "c.csv")
    lines = read_csv(tmp_path / "c.csv")
    assert [list(line) for line in lines] == [COLUMNS] * 4
    for line, row in zip(lines, table, strict=True):
        assert (line["orig_addr"], int(line["orig_port"])) == (row.orig_addr, row.orig_port)
        assert np.datetime64(line["start"].rstrip("Z"), "ns").view("i8") == row.start
        assert (line["vlan"], line["assured"]) == ("", str(row.assured).lower())


def test_csv_of_nothing_has_a_header(empty: ct.ConnectionTable, tmp_path: Path) -> None:
    empty.write(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text().splitlines() == [",".join(COLUMNS)]


@pytest.mark.parametrize("name", ["c.jsonl", "c.ndjson"])
def test_jsonl(table: ct.ConnectionTable, tmp_path: Path, name: str) -> None:
    table.write(tmp_path / name)
    lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    assert [list(line) for line in lines] == [COLUMNS] * 4
    for line, row in zip(lines, table, strict=True):
        expected = row._asdict() | {"start": None, "end": None, "confidence": None}
        assert line | {"start": None, "end": None, "confidence": None} == expected
        assert re.fullmatch(r"2026-01-01T00:00:\d\d\.\d{9}Z", line["start"])
        assert np.datetime64(line["end"].rstrip("Z"), "ns").view("i8") == row.end


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("c.arrow", pyarrow.feather.read_table),
        ("c.feather", pyarrow.feather.read_table),
        ("c.ipc", lambda path: pl.read_ipc(path.read_bytes()).to_arrow()),
        ("c.parquet", pyarrow.parquet.read_table),
        ("c.PARQUET", lambda path: pl.read_parquet(path).to_arrow()),
    ],
)
def test_binary(table: ct.ConnectionTable, tmp_path: Path, name: str, read: Callable[[Path], pa.Table]) -> None:
    table.write(tmp_path / name)
    back = pl.from_arrow(read(tmp_path / name))
    assert isinstance(back, pl.DataFrame)
    back = back.with_columns(pl.col("start", "end").cast(pl.Int64), pl.col(pl.Categorical).cast(pl.String))
    assert back.to_dict(as_series=False) == as_columns(table)


@pytest.mark.parametrize("format", ["csv", "jsonl", "arrow", "parquet"])
def test_write_to_a_file_object(table: ct.ConnectionTable, tmp_path: Path, format: str) -> None:
    memory = io.BytesIO()
    table.write(memory, format)
    table.write(tmp_path / "c", format)
    assert memory.getvalue() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        (
            "c.txt",
            None,
            r"c\.txt: its suffix is \.txt: give a format \(csv, jsonl, arrow, parquet, conntrack, zeek, ipfix, ecs\)",
        ),
        ("c", None, "c: it has no suffix: give a format"),
        ("c.csv", "xml", "unknown format 'xml'; expected one of csv, jsonl, arrow, parquet"),
    ],
)
def test_unknown_format(table: ct.ConnectionTable, tmp_path: Path, name: str, format: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.write(tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []


def test_a_file_object_needs_a_format(table: ct.ConnectionTable) -> None:
    with pytest.raises(ValueError, match="a file object has no suffix"):
        table.write(io.BytesIO())


def test_a_failed_write_leaves_nothing(table: ct.ConnectionTable, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        table.write(tmp_path / "none" / "c.csv")
    assert caught.value.filename == str(tmp_path / "none" / "c.csv")
    assert "os error" not in str(caught.value)
    (tmp_path / "directory.csv").mkdir()
    with pytest.raises(OSError, match="directory"):
        table.write(tmp_path / "directory.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["directory.csv"]


def test_an_exception_of_a_file_object_comes_out(table: ct.ConnectionTable) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        table.write(Full(), "csv")


# ---- for people ----


def test_repr(table: ct.ConnectionTable) -> None:
    lines = repr(table).splitlines()
    assert lines[0] == "ConnectionTable: 4 connections"
    row = "2026-01-01 00:00:00.000 egress tcp 10.0.0.5:51514 203.0.113.80:443 TIME_WAIT 1.0 kB 21 kB syn"
    assert " ".join(lines[2].split()) == row
    assert len(lines) == 6


def test_repr_of_a_long_table(demo_pcap: Path) -> None:
    table = ct.track(demo_pcap).connections
    assert len(table) > 10
    assert len(repr(table).splitlines()) == 13
    assert "..." in repr(table)
    html = table._repr_html_()
    assert html.count("<tr>") == 12
    assert "<td>egress</td>" in html


def test_conntrack_listing(tmp_path: Path) -> None:
    """Live entries only, one a line, in the tool's own words."""
    path = tmp_path / "entries.txt"
    capture = tmp_path / "entries.pcap"
    write_trace(capture, 600, 100)
    ct.track(capture).connections.write(path, "conntrack")
    lines = path.read_text().splitlines()
    assert len(lines) == 100
    assert re.fullmatch(
        r"ipv4     2 tcp      6 \d+ LAST_ACK src=10\.0\.0\.0 dst=93\.184\.0\.0 sport=1024 dport=443 "
        r"packets=4 bytes=260 "
        r"src=93\.184\.0\.0 dst=10\.0\.0\.0 sport=443 dport=1024 packets=2 bytes=80 \[ASSURED\] mark=0 use=1",
        lines[0],
    )


def test_numbers_of_hosts_stand_for_addresses(table: ct.ConnectionTable) -> None:
    for part in (table, table[3:40], table[np.arange(len(table))[::-7]], table[:0]):
        orig, resp, addresses = part.hosts()
        assert [addresses[number] for number in orig] == list(part["orig_addr"])
        assert [addresses[number] for number in resp] == list(part["resp_addr"])
        assert addresses == list(dict.fromkeys([*part["orig_addr"], *part["resp_addr"]]))
    with pytest.raises(KeyError, match="no column resp_addr"):
        table[["orig_addr"]].hosts()
