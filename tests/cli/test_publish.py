"""Files of a stream: published once they are over, and left whole by a killed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.ipfix_reader import messages
from support.packets import pcap_bytes
from support.program import COMMAND, without_bounds
from support.publishing import STEP, connections, rows, run_killed

#: Connections of an hour.
HOUR = int(3600 / STEP)


@contextmanager
def piped(*arguments: str | Path) -> Iterator[Callable[[bytes], None]]:
    """A stream from a pipe, which is killed at the end."""
    command = [*COMMAND, "track", "--stream", "--no-live", *map(str, arguments), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None

        def send(data: bytes) -> None:
            assert process.stdin is not None
            process.stdin.write(data)
            process.stdin.flush()

        yield send
        process.kill()


def until(is_true: Callable[[], bool], within: float = 20.0) -> None:
    end = time.monotonic() + within
    while not is_true():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)


def finished(data: bytes, *arguments: str | Path) -> str:
    """Standard error of a stream from a pipe."""
    command = [*COMMAND, "track", "--stream", "--no-live", *map(str, arguments), "-"]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return without_bounds(done.stderr).decode()


def names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_an_hour_that_is_over_is_published(tmp_path: Path) -> None:
    packets = connections(2 * HOUR + 60)
    with piped("-f", "parquet", "-o", tmp_path / "day", "--by", "hour") as send:
        first = tmp_path / "day" / "hour=2026-01-01T00"
        begin = [packet for packet in packets if packet[0] < 3700]
        send(pcap_bytes(begin))
        until(lambda: (first / "part-0.parquet").exists())
        send(pcap_bytes(packets[len(begin) :])[24:])
        second = tmp_path / "day" / "hour=2026-01-01T01"
        until(lambda: (second / "part-0.parquet").exists())
        # Connections of the first hour that closed in the second are in a further file.
        assert names(first) == ["part-0.parquet", "part-1.parquet"]
    assert sum(pq.read_table(path).num_rows for path in first.iterdir()) == HOUR
    assert names(tmp_path / "day" / "hour=2026-01-01T02") == ["part-0.parquet.part"]
    # A restart keeps what cannot be completed, says so, and overwrites nothing.
    before = {name: (tmp_path / "day" / name).read_bytes() for name in names(tmp_path / "day") if name.endswith("t")}
    told = finished(pcap_bytes(packets), "-f", "parquet", "-o", tmp_path / "day", "--by", "hour")
    assert "hour=2026-01-01T02/part-0.parquet.part was left by a run that did not end" in told
    assert all((tmp_path / "day" / name).read_bytes() == data for name, data in before.items() if "T02" not in name)
    assert "hour=2026-01-01T00/part-2.parquet" in names(tmp_path / "day")
    assert not [name for name in names(tmp_path / "day") if name.endswith(".part")]


def test_a_wrong_time_ends_no_hour(tmp_path: Path) -> None:
    packets = connections(30)
    later = [(at + 1e8, frame) for at, frame in connections(1)[:1]]
    with piped("-f", "csv", "-o", tmp_path / "day", "--by", "hour") as send:
        send(pcap_bytes(packets[:100]))
        for one in (later, packets[100:101], later, packets[101:]):
            send(pcap_bytes(one)[24:])
            time.sleep(0.3)
        until(lambda: names(tmp_path / "day") != [])
        time.sleep(0.5)
        assert names(tmp_path / "day") == ["hour=2026-01-01T00/part-0.csv.part"]


@pytest.mark.parametrize("format", ["csv", "jsonl", "zeek", "conntrack", "ipfix"])
def test_lines_and_messages_of_a_killed_run_are_completed(tmp_path: Path, format: str) -> None:
    with piped("-f", format, "-o", tmp_path / "day", "--by", "direction", "--rotate", "1d", "--report", "gone") as send:
        send(pcap_bytes(connections(200)))
        part = tmp_path / "day" / "direction=egress"
        if format != "conntrack":
            until(lambda: part.exists() and any(path.stat().st_size > 3000 for path in part.iterdir()))
    if format == "conntrack":
        return
    [left] = part.iterdir()
    os.truncate(left, left.stat().st_size - 5)
    told = finished(pcap_bytes([]), "-f", format, "-o", tmp_path / "day", "--by", "direction")
    assert f"{left} was left by a run that did not end: completed: all whole rows are in it" in told
    [whole] = part.iterdir()
    assert whole.name == left.name.removesuffix(".part")
    if format == "ipfix":
        assert sum(len(one.records) for one in messages(whole.read_bytes())) > 10
    else:
        assert whole.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(("bound", "count"), [("100", 6), ("50,1h", 12), ("30kB", 2)])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_series_of_files(tmp_path: Path, bound: str, count: int, format: str) -> None:
    source = tmp_path / "a.pcap"
    source.write_bytes(pcap_bytes(connections(600)))
    out = tmp_path / "out"
    out.mkdir()
    words = ["--report", "closed", "-f", format]
    subprocess.run([*COMMAND, "track", *words, "--rotate", bound, "-o", out / f"day.{format}", source], check=True)
    subprocess.run([*COMMAND, "track", *words, "--stream", "-o", tmp_path / f"whole.{format}", source], check=True)
    files = sorted(out.iterdir())
    assert [path.name for path in files] == [f"day.{number:06}.{format}" for number in range(len(files))]
    assert [row for path in files for row in rows(path)] == rows(tmp_path / f"whole.{format}")
    if format == "csv" or bound != "30kB":
        assert len(files) >= count
    if bound == "100":
        assert [len(rows(path)) for path in files] == [100] * 6


def test_a_file_of_lines_grows_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "closed.csv"
    path.write_text("of an earlier run\n")
    path.chmod(0o640)
    packets = pcap_bytes(connections(300))
    with piped("-o", path) as send:
        send(packets[: len(packets) // 2])
        until(lambda: path.stat().st_size > 10_000)
        before = len(rows(path))
        send(packets[len(packets) // 2 :])
        until(lambda: len(rows(path)) > before)
        assert names(tmp_path) == ["closed.1.csv", "closed.csv"]
    assert (tmp_path / "closed.1.csv").read_text() == "of an earlier run\n"
    assert path.stat().st_mode & 0o777 == 0o640
    told = finished(packets, "-o", path)
    assert told == f"warning: {path} was there, of an earlier run: it is {tmp_path / 'closed.2.csv'} now\n"
    assert len(rows(path)) == 300


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "closed.csv"
    with piped("-o", path) as send:
        send(pcap_bytes(connections(10)))
        until(lambda: path.exists() and path.stat().st_size > 1000)
        command = [*COMMAND, "track", "--stream", "-o", path, "-"]
        done = subprocess.run(command, input=pcap_bytes([]), capture_output=True, check=False)
    assert done.returncode == 2
    assert without_bounds(done.stderr) == b"conntrack-py: %s: another process writes to it\n" % bytes(path)
    assert len(rows(path)) > 0


def test_follow_begins_anew_in_another_file(tmp_path: Path) -> None:
    """The output of the state is gone, or another: the rows go on in a new one."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "a.pcap").write_bytes(pcap_bytes(connections(100)[:350]))
    out, state = tmp_path / "out.csv", tmp_path / "state"
    command = [*COMMAND, "track", "--follow", tmp_path / "spool", "--state", state, "-o", out]

    def run() -> str:
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            time.sleep(2.5)
            process.send_signal(signal.SIGTERM)
            return without_bounds(process.communicate(timeout=30)[1]).decode()

    assert run() == ""
    first = rows(out)
    assert len(first) > 30
    out.unlink()
    (tmp_path / "spool" / "b.pcap").write_bytes(pcap_bytes(connections(100)[350:]))
    assert run() == f"warning: {out}: found another file than the state has: its connections go on in a new one\n"
    assert not set(rows(out)) & set(first)
    assert len(rows(out)) + len(first) == 100


@pytest.mark.parametrize(
    ("output", "format"),
    [([], "csv"), (["--by", "hour"], "jsonl"), (["--rotate", "100"], "parquet")],
    ids=["growing", "hours", "series"],
)
def test_a_killed_run_neither_loses_nor_repeats(tmp_path: Path, output: list[str], format: str) -> None:
    """The short form of `make soak`."""
    outcome = run_killed(tmp_path / "run", 10, output, format, 22)
    assert (outcome.missing, outcome.twice) == (0, 0), outcome
    assert outcome.rows > 500


def test_a_month(tmp_path: Path) -> None:
    """Files are published hour by hour; descriptors and memory stay as they were after a day."""
    packets = connections(60)
    with piped("-f", "csv", "-o", tmp_path / "month", "--by", "hour") as send:
        pid = None
        sizes: dict[int, tuple[int, int]] = {}
        for hour in range(31 * 24):
            shifted = [(at + 3600.0 * hour, frame) for at, frame in packets]
            send(pcap_bytes(shifted)[24 if hour else 0 :])
            if hour in (48, 31 * 24 - 1):
                done = (
                    tmp_path / "month" / f"hour=2026-01-{1 + (hour - 1) // 24:02}T{(hour - 1) % 24:02}" / "part-0.csv"
                )
                until(done.exists, within=60)
                pid = pid or int(
                    subprocess.check_output(["pgrep", "-P", str(os.getpid()), "-f", str(tmp_path)]).split()[0]
                )
                status = Path(f"/proc/{pid}/status").read_text()
                memory = int(status.split("VmRSS:")[1].split()[0])
                sizes[hour] = len(list(Path(f"/proc/{pid}/fd").iterdir())), memory
    first, last = sizes.values()
    assert last[0] <= first[0] + 2, "descriptors"
    assert last[1] < 1.1 * first[1] + 4096, "memory in kB"
    assert len(list((tmp_path / "month").iterdir())) == 31 * 24
    counted = Counter(row for path in (tmp_path / "month").rglob("*.csv") for row in rows(path))
    assert max(counted.values()) == 1
