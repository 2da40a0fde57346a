"""Endless input: growing files, directories of rotated files, and a checkpoint from one run to the next."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.cli import stream
from make_trace import write_trace
from support.packets import Packet, download, evenly, pcap_bytes, udp
from support.program import COMMAND, without_bounds

#: Ends 100 seconds of capture time after the others, so that they are over.
TICK = [(200.0 + i, udp("10.9.9.9", 9, "10.9.9.8", 8)) for i in range(3)]


def closing(number: int) -> list[Packet]:
    return evenly(download(f"10.0.0.{number}", 5000, "203.0.113.80", 443)[:4], start=float(number))


@contextmanager
def streamed(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "track", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


def ended(process: subprocess.Popen[bytes], *told: bytes) -> list[str]:
    """The originators, once it was asked to end."""
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, without_bounds(errors) in (b"", *told)) == (0, True), errors
    return [row["orig_addr"] for row in csv.DictReader(io.StringIO(out.decode()))]


def test_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "growing.pcap"
    whole = pcap_bytes([*closing(1), *closing(2)])
    with streamed("--follow", path) as process:
        for begin, end in itertools.pairwise((0, 10, 60, 300, len(whole))):
            with path.open("ab") as growing:
                growing.write(whole[begin:end])
            time.sleep(0.4)
        # It is moved away, and written to once more, before the next one has its name.
        path.rename(tmp_path / "old.pcap")
        with (tmp_path / "old.pcap").open("ab") as old:
            old.write(pcap_bytes(closing(3))[24:])
        time.sleep(0.4)
        path.write_bytes(pcap_bytes(closing(4)))
        time.sleep(1.0)
        # The next one is shorter than what was read.
        path.write_bytes(pcap_bytes([]) + pcap_bytes(closing(5))[24:-60])
        time.sleep(1.0)
        told = b"warning: %s: no such file yet: waiting for it\n" % bytes(path)
        assert ended(process, told) == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]


def test_a_directory_of_rotated_files(tmp_path: Path) -> None:
    """Names say nothing of the order, and some are no captures."""
    (tmp_path / "b.pcap").write_bytes(pcap_bytes(closing(1)))
    (tmp_path / "a.pcap").write_bytes(pcap_bytes(closing(2)))
    (tmp_path / "notes.txt").write_text("not a capture")
    (tmp_path / "c.pcap").write_bytes(pcap_bytes([]))
    (tmp_path / "sub").mkdir()
    with streamed("--follow", tmp_path) as process:
        time.sleep(1.5)
        with (tmp_path / "a.pcap").open("ab") as growing:
            growing.write(pcap_bytes(closing(3))[24:])
        (tmp_path / "c.pcap").write_bytes(pcap_bytes(closing(4)))
        time.sleep(1.0)
        # A ring of files: the oldest is written over.
        (tmp_path / "b.pcap").write_bytes(pcap_bytes(closing(5)[:2]))
        time.sleep(1.0)
        assert ended(process) == [f"10.0.0.{number}" for number in (1, 2, 3, 4, 5)]


def test_follow_is_a_generator(tmp_path: Path) -> None:
    path = tmp_path / "growing.pcap"
    path.write_bytes(pcap_bytes(closing(1)))
    batches = ct.follow(path)
    capture, batch = next(batches)
    assert len(batch) == 4
    with path.open("ab") as growing:
        growing.write(pcap_bytes(closing(2))[24:])
    assert len(next(batches)[1]) == 4
    tracker = ct.Tracker()
    tracker.process(batch)
    assert tracker.stats(capture).packets == 4
    batches.close()  # type: ignore[attr-defined]
    path.write_bytes(b"not a capture at all, but text")
    with pytest.raises(ct.CaptureError, match="growing"):
        next(ct.follow(path))


def test_signals_while_it_writes(demo_pcap: Path) -> None:
    """A signal at any moment leaves whole lines, and none out once all is read: however slow the machine is."""
    moments = [0.01 * number for number in range(7)] + [1.5 * 2**number for number in range(5)]
    for number, moment in enumerate(moments):
        with streamed("--follow", demo_pcap) as process:
            assert process.stdout is not None
            header = process.stdout.readline()
            time.sleep(moment)
            process.send_signal(signal.SIGINT if number % 2 else signal.SIGTERM)
            out, errors = process.communicate(timeout=20)
            assert (process.returncode, without_bounds(errors)) == (0, b"")
            rows = list(csv.DictReader(io.StringIO((header + out).decode())))
            assert all(row["community_id"] for row in rows)
            assert len(rows) <= 17
        if number >= 7 and len(rows) == 17:
            break
    else:
        pytest.fail(f"{len(rows)} of 17 rows after {moments[-1]} seconds")


def test_a_state_from_file_to_file(tmp_path: Path, demo_pcap: Path) -> None:
    packets = [*closing(1), *closing(2), *TICK]
    files = [tmp_path / f"{number}.pcap" for number in range(3)]
    for path, some in zip(files, (packets[:3], packets[3:6], packets[6:]), strict=True):
        path.write_bytes(pcap_bytes(some))
    state = tmp_path / "state"
    said = []
    for path in files:
        done = subprocess.run([*COMMAND, "track", "--state", state, path], capture_output=True, check=True)
        assert done.stderr == b""
        said += list(csv.DictReader(io.StringIO(done.stdout.decode())))
    rows = [*said, *ct.Tracker.load(state).finish()]
    assert len(rows) == 3
    whole = tmp_path / "whole.pcap"
    whole.write_bytes(pcap_bytes(packets))
    alone = subprocess.run([*COMMAND, "track", "--stream", whole], capture_output=True, check=True)
    assert said == list(csv.DictReader(io.StringIO(alone.stdout.decode())))[: len(said)]
    for arguments, message in [
        (["--state", state, "--local", "192.0.2.0/24", files[0]], b"state: found the state of a run with another"),
        (["--state", tmp_path / "no" / "state", files[0]], b"no is no directory that can be written to"),
        (["--state", os.devnull, files[0]], b"found a device, pipe or directory, expected a file"),
        (["--last", files[0]], b"--last ends what --state has begun"),
        (["--state", files[0], files[1]], b"0.pcap: found the bytes d4 c3 b2 a1"),
        (["--follow", tmp_path / "no" / "a.pcap"], b"no: No such directory for the file to follow"),
        (["--rotate", "1h", files[0]], b"--rotate writes several files: give -o FILE"),
        (["--rotate", "1x", "-o", tmp_path / "a.csv", files[0]], b"--rotate 1x: expected a time (90s, 15m, 1h, 1d)"),
        (["--rotate", "1h,2h", "-o", tmp_path / "a.csv", files[0]], b"found a second bound of seconds"),
        (["--follow", "-"], b"--follow takes one file or directory"),
        (["--follow", "--no-stream", files[0]], b"leave --no-stream out"),
        (["--follow", "--limit", "3", files[0]], b"--stream writes no table and has no --limit"),
    ]:
        done = subprocess.run([*COMMAND, "track", *arguments], capture_output=True, check=False)
        assert done.returncode == 2
        assert message in done.stderr, done.stderr


def track(*arguments: str | Path, status: int = 0) -> list[dict[str, str]]:
    done = subprocess.run([*COMMAND, "track", *arguments], capture_output=True, check=False)
    assert done.returncode == status, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout.decode())))


def test_the_last_of_a_chain(tmp_path: Path) -> None:
    packets = [*closing(1), *closing(2), *TICK]
    for number, some in enumerate((packets[:3], packets[3:6], packets[6:])):
        (tmp_path / f"{number}.pcap").write_bytes(pcap_bytes(some))
    (tmp_path / "whole.pcap").write_bytes(pcap_bytes(packets))
    state = tmp_path / "state"
    # Results do not depend on threads and on strictness.
    said = track("--state", state, tmp_path / "0.pcap") + track("--state", state, "--threads", "1", tmp_path / "1.pcap")
    said += track("--state", state, "--strict", "--last", tmp_path / "2.pcap")
    assert said == track("--stream", tmp_path / "whole.pcap")
    assert not state.exists()


def test_what_closed_is_written_before_it_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "a.pcap").write_bytes(pcap_bytes([*closing(1), *TICK]))
    for name in ("csv", "parquet"):
        done = subprocess.run(
            [*COMMAND, "track", "--state", tmp_path / "state", "-f", name, "-o", "/dev/full", tmp_path / "a.pcap"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr == b"conntrack-py: /dev/full: No space left on device\n"
        assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("with_state", [False, True])
def test_a_signal_in_the_middle_of_a_file(tmp_path: Path, with_state: bool) -> None:
    write_trace(path := tmp_path / "a.pcap", 3_000_000, 100_000)
    state = ["--state", tmp_path / "state"] if with_state else ["--stream"]
    with streamed(*state, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"start,")
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=20)[1].decode()
    if with_state:
        assert process.returncode == 2
        assert "stopped before the end, after" in errors
        assert f"{tmp_path / 'state'} is as it was: throw away what was printed, and run it again" in errors
        assert not (tmp_path / "state").exists()
    else:
        assert process.returncode == 130
        assert errors.startswith("warning: stopped before the end, after")


def test_a_directory_in_motion(tmp_path: Path) -> None:
    """Files come and go, some are compressed once they were read, and one is damaged."""
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "a.pcap").write_bytes(pcap_bytes([*closing(1), (1.9, bytes(60))])[:-5])
    (tmp_path / "b.pcap").write_bytes(pcap_bytes(closing(2)))
    with streamed("--json-log", "--follow", tmp_path) as process:
        time.sleep(1.5)
        packed = tmp_path / "a.pcap.gz"
        packed.write_bytes(gzip.compress((tmp_path / "a.pcap").read_bytes()))
        (tmp_path / "a.pcap").unlink()
        for number in range(20):
            passing = tmp_path / f"passing{number}"
            passing.write_bytes(b"not a capture")
            time.sleep(0.02)
            passing.unlink()
        (tmp_path / "c.pcap").write_bytes(pcap_bytes(closing(3)))
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    said = [row["orig_addr"] for row in csv.DictReader(io.StringIO(out.decode()))]
    assert said == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    _, warning, account = map(json.loads, errors.splitlines())
    assert "1 file that ends inside a record" in warning["message"]
    assert account["skipped"]["truncated_file"] == 1
    assert account["skipped_at"]["truncated_file"]["file"] == str(tmp_path / "a.pcap")
    assert process.returncode == 0


@pytest.mark.parametrize("by_name", [True, False])
def test_a_ring_that_overtakes_its_reader(tmp_path: Path, by_name: bool) -> None:
    """Another capture is written over the one that is read, and is longer at once: it is read once, from its begin."""
    path = tmp_path / "ring.pcap"
    path.write_bytes(pcap_bytes(closing(1)))
    with streamed("--follow", path if by_name else tmp_path) as process:
        time.sleep(1.5)
        path.write_bytes(pcap_bytes([*closing(2), *closing(3), *closing(4)]))
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    assert without_bounds(errors) == b""
    said = [row["orig_addr"] for row in csv.DictReader(io.StringIO(out.decode()))]
    assert said == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_a_stream_says_what_it_lost(tmp_path: Path) -> None:
    whole = pcap_bytes([*closing(1), (5.0, bytes(60))])
    path = tmp_path / "cut.pcap"
    path.write_bytes(whole[:-10])
    done = subprocess.run([*COMMAND, "track", "--stream", path], capture_output=True, check=True)
    assert b"1 file that ends inside a record" in done.stderr
    assert os.fsencode(path) in done.stderr
    path.write_bytes(pcap_bytes(closing(1), linktype=147))
    done = subprocess.run([*COMMAND, "track", "--stream", path], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"link type 147" in done.stderr
    stats = ct.Tracker().stats()
    assert (stats.packets, stats.skipped) == (0, {})


def test_the_state_of_a_pipe_is_saved_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 60 seconds after the last time, and at the end; the file is that of `--state`."""
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(closing(1)))
    clock, saved = SimpleNamespace(now=1000.0), []

    def batches(
        name: str, config: ct.Config, idle: bool, position: str | None
    ) -> Generator[tuple[ct.Capture, ct.PacketBatch], None, None]:
        for clock.now in (1059.0, 1060.0, 1060.5, 1120.5, 1121.0, 1122.0):
            with ct.open_capture(name, config=config) as capture:
                yield capture, next(capture)

    class Follow:
        """Batches with a position."""

        position = "here"

        def __init__(self, *args: Any, **options: Any) -> None:
            self.batches = batches(*args, **options)

        def __next__(self) -> Any:
            return next(self.batches)

        def close(self) -> None:
            self.batches.close()

    monkeypatch.setattr(stream, "follow", Follow)
    monkeypatch.setattr(stream, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(ct.Tracker, "save", lambda tracker, to, note: saved.append((clock.now, to, note)))
    state, out = str(tmp_path / "state"), io.BytesIO()
    options = stream.StreamOptions(
        files=(str(path),),
        target=out,
        format="csv",
        by=None,
        rotation=None,
        state=state,
        last=False,
        follow=True,
        report="closed",
        live=False,
        progress=False,
    )
    assert stream.run(options, ct.Config()) == 0
    note = '{"position": "here", "output": null}'
    assert saved == [(now, state, note) for now in (1060.5, 1121.0, 1122.0)]
