"""Tables written one behind another: any format, any division, a file, a directory, a pipe."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import polars as pl
import pyarrow.dataset
import pyarrow.parquet
import pytest

import conntrack_py as ct
from support.packets import START, Packet, pcap_bytes, udp
from support.program import COMMAND

FORMATS = ["csv", "jsonl", "arrow", "parquet", "conntrack", "zeek", "ipfix", "ecs"]
#: More than two blocks of 32,768 rows, and less than a row group.
MANY = 70_000
HOUR = 3600.0


def questions(count: int, step: float) -> list[Packet]:
    """A connection of one packet each, so far apart that they end in the order in which they began."""
    return [
        (number * step, udp(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1024, "192.0.2.1", 53, b"?"))
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def many() -> tuple[list[bytes], np.ndarray[Any, np.dtype[np.int64]]]:
    """Frames and times of MANY connections, two seconds apart, so that each is swept alone."""
    frame = bytearray(udp("10.0.0.0", 1024, "192.0.2.1", 53, b"?"))
    frames = []
    for number in range(MANY):
        struct.pack_into("!I", frame, 14 + 12, 0x0A000000 | number)
        frames.append(bytes(frame))
    return frames, START * 10**9 + np.arange(MANY, dtype=np.int64) * 2_000_000_000


def drained(frames: list[bytes], times: np.ndarray[Any, Any], size: int) -> Iterator[ct.ConnectionTable]:
    """Drained tables of a tracker that is fed `size` packets at once."""
    tracker = ct.Tracker()
    for start in range(0, len(frames), size):
        tracker.process(ct.PacketBatch.from_frames(frames[start : start + size], times[start : start + size], 1))
        yield tracker.drain()
    yield tracker.finish()


@pytest.fixture
def table(mixed: list[Packet]) -> ct.ConnectionTable:
    return ct.track(io.BytesIO(pcap_bytes(mixed))).connections


# ---- no trace of how rows came ----


@pytest.mark.parametrize("format", FORMATS)
def test_the_division_leaves_no_trace(many: tuple[list[bytes], Any], tmp_path: Path, format: str) -> None:
    """Nine packets at once in the first part of the trace, all of it at once: the same bytes."""
    frames, times = many
    if format in ("csv", "jsonl", "zeek", "ipfix", "conntrack", "ecs"):
        frames, times = frames[:9000], times[:9000]  # these have no blocks
    written = []
    for size in (MANY, 9973, 487):
        path = tmp_path / f"{size}"
        with ct.ConnectionWriter(path, format) as writer:
            for table in drained(frames, times, size):
                writer.write(table)
        written.append(path.read_bytes())
    assert written[0] == written[1] == written[2]
    assert len(written[0]) > 1000


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_is_written_alike(table: ct.ConnectionTable, tmp_path: Path, format: str) -> None:
    table.write(tmp_path / "whole", format)
    memory = io.BytesIO()
    with ct.ConnectionWriter(memory, format) as writer:
        writer.write(table)
    assert memory.getvalue() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_was_written(tmp_path: Path, format: str) -> None:
    """A writer without tables gives what an empty table is."""
    ct.track(io.BytesIO(pcap_bytes([]))).connections.write(tmp_path / "empty", format)
    with ct.ConnectionWriter(tmp_path / "none", format):
        pass
    assert (tmp_path / "none").read_bytes() == (tmp_path / "empty").read_bytes()


# ---- complete, or not there ----


@pytest.mark.parametrize("by", [None, "direction"])
def test_it_has_its_name_once_it_is_complete(
    table: ct.ConnectionTable, tmp_path: Path, by: Literal["direction"] | None
) -> None:
    path = tmp_path / "c.csv"
    writer = ct.ConnectionWriter(path, by=by)
    writer.write(table)
    assert not path.exists()
    assert [entry.suffix for entry in tmp_path.iterdir()] == [".part"]
    writer.close()
    writer.close()
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="this writer is closed"):
        writer.write(table)


@pytest.mark.parametrize("by", [None, "hour"])
def test_an_exception_leaves_nothing(table: ct.ConnectionTable, tmp_path: Path, by: Literal["hour"] | None) -> None:
    def interrupted() -> None:
        with ct.ConnectionWriter(tmp_path / "c.parquet", by=by) as writer:
            writer.write(table)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    ct.ConnectionWriter(tmp_path / "c.parquet", by=by).write(table)  # and is gone
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_until_then(table: ct.ConnectionTable, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("old")
    writer = ct.ConnectionWriter(path)
    writer.write(table)
    writer.discard()
    assert path.read_text() == "old"
    table.write(path)
    assert path.read_text().startswith("start,end,")


_KILLED = """
import io, sys, time
import conntrack_py as ct
from support.packets import pcap_bytes, udp
table = ct.track(io.BytesIO(pcap_bytes([(0, udp("10.0.0.1", 1, "10.0.0.2", 53))]))).connections
writer = ct.ConnectionWriter(sys.argv[1], sys.argv[2], by=sys.argv[3] or None)
writer.write(table)
print("written", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("format", "by"), [("parquet", ""), ("csv", "hour")])
def test_kill(tmp_path: Path, format: str, by: str) -> None:
    """A killed process leaves no file under the final name, and nothing that blocks the next writer."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "out"), format, by]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"out.{process.pid}.part"]
    assert subprocess.run([*COMMAND, "track", tmp_path / "out"], capture_output=True).returncode == 2


def test_the_system_refuses(table: ct.ConnectionTable, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ct.ConnectionWriter(tmp_path / "none" / "c.csv")
    assert caught.value.filename == str(tmp_path / "none" / "c.csv")
    with ct.ConnectionWriter("/dev/full", "csv") as writer, pytest.raises(OSError, match="No space left") as full:
        writer.write(table)
    assert full.value.filename == "/dev/full"


def test_zones_are_the_same(table: ct.ConnectionTable, mixed: list[Packet], tmp_path: Path) -> None:
    other = ct.track(io.BytesIO(pcap_bytes(mixed)), config=ct.Config(zones={"office": ["10.0.0.0/24"]})).connections
    writer = ct.ConnectionWriter(tmp_path / "c.csv")
    writer.write(table)
    with pytest.raises(ValueError, match=r'zones: found \["office"\], expected those of the tables before, \[\]'):
        writer.write(other)
    assert list(tmp_path.iterdir()) == []


# ---- pipes ----


@pytest.mark.parametrize("format", ["csv", "jsonl", "zeek", "conntrack"])
def test_a_reader_sees_lines_after_each_write(table: ct.ConnectionTable, format: str) -> None:
    reading, writing = os.pipe()
    whole = io.BytesIO()
    table.write(whole, format)
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb") as pipe:
        os.set_blocking(reading, False)
        writer = ct.ConnectionWriter(pipe, format)
        writer.write(table)
        first = reader.read()
        expected = whole.getvalue()
        assert first == (expected if format != "zeek" else expected[: expected.index(b"#close")])
        writer.write(table)
        assert reader.read()
        writer.close()


def test_a_named_pipe_is_written_to_as_it_is(table: ct.ConnectionTable, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.arrow"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as cat:
        table.write(fifo)
        assert cat.stdout is not None
        back = pyarrow.ipc.open_file(cat.stdout.read()).read_all()
    assert back.num_rows == len(table)
    assert list(tmp_path.iterdir()) == [fifo]


# ---- directories ----


def ordered(frame: pl.DataFrame, table: ct.ConnectionTable) -> pl.DataFrame:
    """The columns in the table's order, words as text."""
    return frame.select(pl.col(table.columns)).with_columns(pl.col(pl.Categorical).cast(pl.String))


def test_by_direction(table: ct.ConnectionTable, tmp_path: Path) -> None:
    """Three readers see the column that the path tells, as text, and the other columns as in the table."""
    root = tmp_path / "out"
    table.write(root, "parquet", by="direction")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.parquet")) == [
        *("direction=egress/part-0.parquet", "direction=ingress/part-0.parquet", "direction=internal/part-0.parquet"),
    ]
    expected = ordered(table.to_polars(), table).sort("start", "orig_port")
    by_polars = ordered(pl.read_parquet(root, hive_partitioning=True), table)
    assert by_polars.sort("start", "orig_port").equals(expected)
    dataset = pyarrow.dataset.dataset(root, partitioning="hive")
    by_arrow = pl.from_arrow(dataset.to_table())
    assert isinstance(by_arrow, pl.DataFrame)
    assert ordered(by_arrow, table).sort("start", "orig_port").equals(expected)
    rows = duckdb.sql(f"select orig_addr, direction, resp_bytes from '{root}/**/*.parquet' order by start").fetchall()
    assert sorted(rows) == sorted((row.orig_addr, row.direction, row.resp_bytes) for row in table)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_by_hour(tmp_path: Path, format: str) -> None:
    """An hour is text in the order of time, for every reader."""
    table = ct.track(io.BytesIO(pcap_bytes(questions(30, HOUR)))).connections
    root = tmp_path / "out"
    table.write(root, format, by="hour")
    files = sorted(root.rglob(f"*.{format}"))
    assert len(files) == 30
    assert str(files[25].relative_to(root)) == f"hour=2026-01-02T01/part-0.{format}"
    query = f"select hour, orig_addr from read_{format}('{root}/**/*.{format}', hive_partitioning=true)"
    rows = duckdb.sql(f"{query} where hour > '2026-01-02T03' order by all").fetchall()
    assert rows == [("2026-01-02T04", "10.0.0.28"), ("2026-01-02T05", "10.0.0.29")]
    if format == "parquet":
        frame = pl.scan_parquet(root, hive_partitioning=True).filter(pl.col("hour") > "2026-01-02T03").collect()
        assert frame["orig_addr"].to_list() == ["10.0.0.28", "10.0.0.29"]
    dataset = pyarrow.dataset.dataset(root, format=format, partitioning="hive")
    found = dataset.to_table(filter=pyarrow.dataset.field("hour") > "2026-01-02T03")
    assert found["orig_addr"].to_pylist() == ["10.0.0.28", "10.0.0.29"]
    assert found["hour"].to_pylist() == ["2026-01-02T04", "2026-01-02T05"]


def test_late_rows_go_on_in_another_file(tmp_path: Path) -> None:
    """Forty hours, twice: no more than 32 files are open, and no row is lost or out of order."""
    tables = [ct.track(io.BytesIO(pcap_bytes(questions(40, HOUR)))).connections for _ in range(2)]
    most = 0
    with ct.ConnectionWriter(tmp_path / "out", "jsonl", by="hour") as writer:
        for table in tables:
            writer.write(table)
            most = max(
                most, sum("/out." in os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists())
            )
    assert most == 32
    files = sorted((tmp_path / "out").rglob("*.jsonl"))
    assert sorted({path.name for path in files}) == ["part-0.jsonl", "part-1.jsonl"]
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert len(lines) == 80
    hours = [f"hour={line['start'][:13]}" for line in lines]
    places = [path.parent.name for path in files for _ in path.read_text().splitlines()]
    assert hours == places


@pytest.mark.parametrize("size", [10, 1000])
def test_directories_are_alike_too(tmp_path: Path, size: int) -> None:
    packets = questions(100, HOUR / 2)
    frames, times = [frame for _, frame in packets], START * 10**9 + np.arange(100) * 1800 * 10**9
    with ct.ConnectionWriter(tmp_path / "some", "parquet", by="hour") as writer:
        for table in drained(frames, times, size):
            writer.write(table)
    with ct.ConnectionWriter(tmp_path / "one", "parquet", by="hour") as writer:
        for table in drained(frames, times, 1):
            writer.write(table)
    some, one = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.parquet")}
        for name in ("some", "one")
    )
    assert some == one
    assert len(some) == 50


def test_a_directory_with_something_in_it(table: ct.ConnectionTable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    table.write(tmp_path / "empty", "csv", by="direction")
    with pytest.raises(
        FileExistsError, match=r"empty: found files in it, expected no directory or an empty one: remove"
    ):
        table.write(tmp_path / "empty", "csv", by="direction")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        table.write(tmp_path / "file", "csv", by="direction")


def test_by_what(table: ct.ConnectionTable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='by: found "minute", expected direction or hour'):
        table.write(tmp_path / "out", "csv", by="minute")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="by: a file object is no directory"):
        table.write(io.BytesIO(), "csv", by="hour")


def test_command_line(tmp_path: Path, demo_pcap: Path) -> None:
    run: Callable[..., Any] = lambda *args: subprocess.run(  # noqa: E731
        [*COMMAND, "track", demo_pcap, *args], capture_output=True, text=True
    )
    assert run("-o", tmp_path / "out", "-f", "parquet", "--by", "direction").returncode == 0
    assert len(pl.read_parquet(tmp_path / "out")) == len(ct.track(demo_pcap).connections)
    again = run("-o", tmp_path / "out", "-f", "parquet", "--by", "direction")
    assert again.returncode == 2
    assert "found files in it" in again.stderr
    assert run("--by", "hour").returncode == 2
    assert run("-o", tmp_path / "c.ipfix").returncode == 0
    assert (tmp_path / "c.ipfix").read_bytes()[:2] == b"\0\x0a"


# ---- memory ----

_MEASURE = """
import resource, sys
import numpy as np
import conntrack_py as ct
frames, count = [], int(sys.argv[3])
frame = bytearray(bytes.fromhex(sys.argv[4]))
for number in range(20_000):
    frame[26:30] = (0x0A000000 | number).to_bytes(4, "big")
    frames.append(bytes(frame))
tracker, tables = ct.Tracker(), []
times = 1767225600 * 10**9 + np.arange(20_000) * 10**6
tracker.process(ct.PacketBatch.from_frames(frames, times, 1))
table = tracker.finish()
with ct.ConnectionWriter(sys.argv[1], sys.argv[2]) as writer:
    for _ in range(count):
        writer.write(table)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("format", ["arrow", "parquet", "ipfix"])
def test_memory_is_flat(tmp_path: Path, format: str) -> None:
    """400,000 rows need no more than 200,000, whose blocks and row group are full."""
    frame = udp("10.0.0.0", 1024, "192.0.2.1", 53, b"?").hex()
    peaks = []
    for count in (10, 20):
        command = [sys.executable, "-c", _MEASURE, str(tmp_path / "out"), format, str(count), frame]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] < peaks[0] + 4096
