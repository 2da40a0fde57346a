"""`track`: sources, labels, the account, warnings, interruption."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard

import conntrack_py as ct
from support.packets import ACK, PSH, SYN, Packet, arp, download, echo, evenly, pcap_bytes, tcp, udp

Write = Callable[..., Path]
#: Says "ready" when the library is imported, then tracks its argument.
#: Tracks a capture. SIGINT is taken also where a shell started the tests in the background, which ignores it.
TRACK = (
    "import signal, sys, conntrack_py as ct; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "print('ready', flush=True); print(len(ct.track(sys.argv[1]).connections))"
)


def test_path_and_str(pcap: Write, mixed: list[Packet]) -> None:
    path = pcap(mixed)
    assert list(ct.track(path).connections) == list(ct.track(str(path)).connections)
    assert len(ct.track(path).connections) == 4


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, lz4.frame.compress, zstandard.ZstdCompressor().compress],
    ids=["gz", "bz2", "xz", "lz4", "zst"],
)
def test_compressed(tmp_path: Path, mixed: list[Packet], compress: Callable[[bytes], bytes]) -> None:
    # The content tells, not the name.
    path = tmp_path / "capture.pcap"
    path.write_bytes(compress(pcap_bytes(mixed)))
    assert len(ct.track(path).connections) == 4


def test_file_objects(pcap: Write, mixed: list[Packet]) -> None:
    assert len(ct.track(io.BytesIO(pcap_bytes(mixed))).connections) == 4
    with open(pcap(mixed), "rb") as file:
        assert len(ct.track(file).connections) == 4
    with open(pcap(mixed), "rb", buffering=0) as raw:
        assert len(ct.track(raw).connections) == 4


def test_several_are_merged_by_time(pcap: Write, mixed: list[Packet]) -> None:
    whole = ct.track(pcap(mixed))
    odd, even = pcap(mixed[1::2], name="odd.pcap"), io.BytesIO(pcap_bytes(mixed[::2]))
    parts = ct.track([odd, even], labels=True)
    assert list(parts.connections) == list(whole.connections)
    assert parts.stats.packets == len(mixed)
    assert parts.labels is not None
    assert parts.labels["connection"][0] == 0


def test_glob(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    pcap(mixed[:20], name="day-2.pcap")
    pcap(mixed[20:], name="day-1.pcap")
    (tmp_path / "day-3.pcap").mkdir()
    assert ct.track(f"{tmp_path}/day-*.pcap").stats.packets == len(mixed)


def test_an_empty_file_among_others(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    """A capturing program has just begun it; alone, and with strict=True, it is an error."""
    pcap(mixed, name="day-1.pcap")
    (tmp_path / "day-2.pcap").touch()
    with pytest.warns(ct.CaptureWarning, match=r"1 file that ends inside a record, first in .*day-2\.pcap at byte 0"):
        result = ct.track(f"{tmp_path}/day-*.pcap")
    assert result.stats.packets == len(mixed)
    with pytest.raises(ct.CaptureError, match=r"day-2\.pcap"):
        ct.track(f"{tmp_path}/day-*.pcap", config=ct.Config(strict=True))
    with pytest.raises(ct.CaptureError, match=r"day-2\.pcap"):
        ct.track(tmp_path / "day-2.pcap")


def test_a_name_goes_before_a_pattern(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    pcap(mixed, name="day[1].pcap")
    pcap([], name="day1.pcap")
    assert ct.track(f"{tmp_path}/day[1].pcap").stats.packets == len(mixed)


def test_a_path_is_not_a_pattern(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    pcap(mixed, name="day1.pcap")
    with pytest.raises(FileNotFoundError):
        ct.track(tmp_path / "day*.pcap")


def test_standard_input(mixed: list[Packet]) -> None:
    run = subprocess.run([sys.executable, "-c", TRACK, "-"], input=pcap_bytes(mixed), capture_output=True, check=True)
    assert run.stdout.split() == [b"ready", b"4"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("none.pcap", FileNotFoundError, r"none\.pcap"),
        ("none-*.pcap", FileNotFoundError, r"no file matches this pattern: 'none-\*\.pcap'"),
        (".", IsADirectoryError, r"'\.'"),
        ([], ValueError, "the list of captures is empty"),
        (b"\xd4\xc3", TypeError, "found bytes; wrap them in io.BytesIO"),
        (3, TypeError, "found int, expected a path, a binary file object or a list"),
        ([3], TypeError, "found int, expected a path or a binary file object"),
        (io.StringIO(), TypeError, "is open as text; open it in binary mode"),
    ],
)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, error: type, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        ct.track(source)


def test_a_name_that_is_not_unicode(tmp_path: Path, mixed: list[Packet]) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.pcap"
    with open(path, "wb") as file:
        file.write(pcap_bytes(mixed))
    assert len(ct.track(os.fsdecode(path)).connections) == 4


def test_not_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and not a capture")
    with pytest.raises(ct.CaptureError, match=r"notes\.txt: offset 0: found .*, expected a capture") as caught:
        ct.track(path)
    assert (caught.value.path, caught.value.offset) == (str(path), 0)


def test_unknown_link_type() -> None:
    with pytest.raises(ct.CaptureError, match="link type 147"):
        ct.track(io.BytesIO(pcap_bytes(evenly([b"?" * 60]), linktype=147)))


def test_an_exception_of_a_file_object_comes_out() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("the cable is out")

    with pytest.raises(RuntimeError, match="the cable is out"):
        ct.track(Broken())


# ---- who initiated ----


def only(frames: list[bytes], **options: Any) -> tuple[ct.Connection, Any]:
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))), labels=True, **options)
    assert len(result.connections) == 1
    return result.connections[0], result.labels


def test_a_download_is_egress_whatever_the_byte_counts() -> None:
    frames = download("10.0.0.5", 51514, "203.0.113.80", 443, down=500_000)
    row, labels = only(frames)
    assert (row.orig_addr, row.direction, row.evidence, row.confidence) == ("10.0.0.5", "egress", "syn", 1.0)
    assert row.resp_bytes == 500_000 > 100 * row.orig_bytes
    assert labels.dtype.names == ("connection", "ctstate", "ctdir", "reply", "direction", "state")
    assert [labels.dtype[name] for name in labels.dtype.names] == [
        np.dtype(kind) for kind in ("i8", "u1", "u1", "?", "u1", "u1")
    ]
    assert len(labels) == len(frames)
    assert set(labels["connection"]) == {0}
    assert set(labels["direction"]) == {ct.Direction.EGRESS}
    assert labels["reply"][:5].tolist() == [False, True, False, False, True]
    assert np.array_equal(labels["ctdir"] == ct.CtDir.REPLY, labels["reply"])
    assert labels["ctstate"][0] == ct.CtState.NEW
    assert set(labels["ctstate"][1:]) == {ct.CtState.ESTABLISHED}
    states = [ct.State(state).name for state in labels["state"]]
    assert states[:3] == ["SYN_SENT", "SYN_RECV", "ESTABLISHED"]
    assert states[-3:] == ["FIN_WAIT", "LAST_ACK", "TIME_WAIT"]


def test_an_upload_from_outside_is_ingress() -> None:
    row, labels = only(download("198.51.100.7", 40000, "10.0.0.80", 80))
    assert (row.orig_addr, row.direction) == ("198.51.100.7", "ingress")
    assert set(labels["direction"]) == {ct.Direction.INGRESS}


def test_a_syn_ack_first_still_tells_who_initiated() -> None:
    row, labels = only(download("10.0.0.5", 51514, "203.0.113.80", 443)[1:])
    assert (row.orig_addr, row.direction) == ("10.0.0.5", "egress")
    assert (row.evidence, row.flipped) == ("syn_ack", True)
    assert labels["reply"][:2].tolist() == [True, False]


def test_ping() -> None:
    frames = [echo(*way, kind) for way, kind in ((("10.0.0.5", "192.0.2.1"), 8), (("192.0.2.1", "10.0.0.5"), 0))]
    row, labels = only(frames)
    assert (row.proto, row.orig_addr, row.orig_port, row.resp_port) == ("icmp", "10.0.0.5", 8, 0)
    assert (row.direction, row.evidence) == ("egress", "icmp_request")
    assert labels["reply"].tolist() == [False, True]
    row, labels = only(frames[1:])
    assert (row.orig_addr, row.evidence, row.flipped) == ("10.0.0.5", "icmp_reply", True)
    assert labels["ctstate"].tolist() == [ct.CtState.INVALID]


def test_udp() -> None:
    row, labels = only([udp("10.0.0.5", 5000, "10.0.0.53", 53), udp("10.0.0.53", 53, "10.0.0.5", 5000)])
    assert (row.direction, row.state, row.evidence) == ("internal", "REPLIED", "service_port")
    assert labels["ctstate"].tolist() == [ct.CtState.NEW, ct.CtState.ESTABLISHED]


def test_the_perspective_is_given() -> None:
    frames = download("198.51.100.7", 40000, "203.0.113.80", 80)
    for local, direction in (
        (None, "transit"),
        (["198.51.100.0/24"], "egress"),
        ("203.0.113.80", "ingress"),
        (["198.51.100.0/24", "203.0.113.0/24"], "internal"),
    ):
        assert only(frames, local=local)[0].direction == direction
    config = ct.Config(local=["198.51.100.0/24"])
    assert only(frames, config=config)[0].direction == "egress"
    assert only(frames, config=config, local="203.0.113.0/24")[0].direction == "ingress"


def test_frames_outside_connections() -> None:
    result = ct.track(io.BytesIO(pcap_bytes(evenly([arp(), udp("10.0.0.5", 1, "10.0.0.6", 2)]))), labels=True)
    assert result.labels is not None
    label = result.labels[0]
    assert (label["connection"], label["ctstate"], label["ctdir"]) == (-1, ct.CtState.UNTRACKED, ct.CtDir.NONE)
    assert (label["reply"], label["direction"], label["state"]) == (False, ct.Direction.NONE, ct.State.NONE)
    assert result.labels["connection"].tolist() == [-1, 0]


def test_timeouts_cut_connections() -> None:
    packets = [(float(at), udp("10.0.0.5", 5000, "10.0.0.53", 53)) for at in (0, 20, 40)]
    source = pcap_bytes(packets)
    assert len(ct.track(io.BytesIO(source)).connections) == 1
    config = ct.Config(timeouts={"nf_conntrack_udp_timeout": 10})
    assert ct.track(io.BytesIO(source), config=config).connections["end_reason"].tolist() == [
        "timeout",
        "timeout",
        "end_of_capture",
    ]


# ---- the account ----


def test_stats(mixed: list[Packet]) -> None:
    result = ct.track(io.BytesIO(pcap_bytes(mixed)))
    stats = result.stats
    assert result.labels is None
    assert (stats.packets, stats.connections, stats.evicted, stats.snapped) == (len(mixed), 4, 0, 0)
    assert stats.bytes == sum(len(frame) for _, frame in mixed)
    assert stats.skipped == {"not_ip": 1}
    assert stats.first_timestamp == 1_767_225_600_000_000_000
    assert stats.last_timestamp == stats.first_timestamp + (len(mixed) - 1) * 1_000_000
    assert stats.first_time == np.datetime64("2026-01-01T00:00:00", "ns")
    assert stats.last_time - stats.first_time == np.timedelta64(len(mixed) - 1, "ms")
    assert 1 <= stats.peak_connections <= 4
    assert repr(result) == (
        f"<TrackResult: 4 connections (egress 2, internal 1, ingress 1), {len(mixed)} packets, 0.10 s, 1 skipped>"
    )


def test_stats_of_nothing() -> None:
    result = ct.track(io.BytesIO(pcap_bytes([])), labels=True)
    assert (result.stats.packets, result.stats.first_timestamp) == (0, None)
    assert np.isnat(result.stats.first_time)
    assert result.labels is not None
    assert len(result.labels) == 0
    assert repr(result) == "<TrackResult: 0 connections, 0 packets, with labels>"


def test_a_snapped_capture_counts_in_full(mixed: list[Packet]) -> None:
    result = ct.track(io.BytesIO(pcap_bytes(mixed, snaplen=96)))
    assert result.stats.snapped > 0
    assert result.connections["resp_bytes"][0] == 20_000


def test_not_ip_is_no_loss(mixed: list[Packet]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ct.track(io.BytesIO(pcap_bytes(mixed)))


def test_damage_is_a_warning(pcap: Write, mixed: list[Packet]) -> None:
    path = pcap(mixed)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(
        ct.CaptureWarning, match=r"part of the capture was not used: 1 file that ends inside a record, .* at byte"
    ) as caught:
        result = ct.track(path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert str(path) in str(caught[0].message)
    (place,) = result.stats.skipped_at.values()
    assert place == (str(path), len(pcap_bytes(mixed[:-1])))
    assert len(result.connections) == 4


def test_strict_raises_instead(pcap: Write, mixed: list[Packet]) -> None:
    path = pcap(mixed)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ct.CaptureError) as caught:
        ct.track(path, config=ct.Config(strict=True))
    assert (caught.value.path, caught.value.offset) == (str(path), len(pcap_bytes(mixed[:-1])))


def test_undecoded_packets_are_a_warning() -> None:
    bad = bytearray(udp("10.0.0.5", 1, "10.0.0.6", 2))
    bad[14] = 0x41  # an IP header of 4 bytes
    source = io.BytesIO(pcap_bytes(evenly([bytes(bad), bytes(bad), udp("10.0.0.5", 1, "10.0.0.6", 2)])))
    message = r"2 packets whose IP headers contradict themselves, first in <BytesIO> at byte 24"
    with pytest.warns(ct.CaptureWarning, match=message):
        assert ct.track(source).stats.skipped == {"bad_ip_header": 2}


# ---- progress, threads, interruption ----


@pytest.mark.filterwarnings("ignore:.* second copies")  # the same file, many times
def test_progress_is_told(demo_pcap: Path) -> None:
    seen: list[tuple[int, int | None, int]] = []
    config = ct.Config(threads=2)
    ct.track([demo_pcap] * 20, config=config, progress=lambda *now: seen.append(now))
    for done, total, packets in seen:
        assert total == 20 * demo_pcap.stat().st_size
        assert 0 < done <= total
        assert packets > 0
    assert seen == sorted(seen)


def test_an_exception_in_progress_ends_the_run(tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        ct.track(Endless(), progress=stop)


def test_a_bar(capfd: pytest.CaptureFixture[str], demo_pcap: Path) -> None:
    ct.track(demo_pcap, progress=True)
    assert capfd.readouterr().out == ""


def test_threads_are_checked(mixed: list[Packet]) -> None:
    with pytest.raises(ct.ConfigError, match="threads: found 0"):
        ct.track(io.BytesIO(pcap_bytes(mixed)), threads=0)
    with pytest.raises(TypeError, match="config: found dict, expected"):
        ct.track(io.BytesIO(pcap_bytes(mixed)), config={})  # type: ignore[arg-type]


class Endless(io.RawIOBase):
    """A capture that never ends."""

    def __init__(self) -> None:
        packets = evenly([tcp("10.0.0.5", 5, "10.0.0.6", 80, SYN), tcp("10.0.0.6", 80, "10.0.0.5", 5, ACK | PSH)] * 500)
        whole = pcap_bytes(packets)
        self._next, self._rest = whole, whole[24:]

    def read(self, size: int = -1) -> bytes:
        if not self._next:
            self._next = self._rest
        given, self._next = self._next[:size], self._next[size:]
        return given


def test_other_threads_go_on(demo_pcap: Path) -> None:
    """The GIL is released: a Python thread gets most of the time that it would get alone."""
    done = threading.Event()

    def work() -> None:
        try:
            ct.track([demo_pcap] * 40)
        finally:
            done.set()

    worker = threading.Thread(target=work)
    worker.start()
    gaps, last = [], time.perf_counter()
    while not done.is_set():
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    worker.join()
    assert len(gaps) > 1000
    # A run that held the GIL would be one long gap.
    assert max(gaps) < 0.5 * sum(gaps)


@pytest.fixture
def interrupted() -> Callable[..., float]:
    """Starts a run, sends SIGINT while it works, and gives the seconds until it ended by KeyboardInterrupt."""

    def run(path: Path) -> float:
        process = subprocess.Popen(
            [sys.executable, "-c", TRACK, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        at = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
        return time.monotonic() - at

    return run


def test_interrupt_a_fifo_without_a_writer(tmp_path: Path, interrupted: Callable[..., float]) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert interrupted(tmp_path / "fifo") < 1


def test_interrupt_a_stalled_fifo(tmp_path: Path, interrupted: Callable[..., float], mixed: list[Packet]) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    # Opened for both, so that it waits for nobody.
    writer = os.open(path, os.O_RDWR)
    try:
        os.write(writer, pcap_bytes(mixed[:10]))
        assert interrupted(path) < 1
    finally:
        os.close(writer)


def test_interrupt_a_big_file(tmp_path: Path, interrupted: Callable[..., float], mixed: list[Packet]) -> None:
    path = tmp_path / "big.pcap.gz"
    # Compressed, gigabytes of it are a small file.
    body = gzip.compress(pcap_bytes(mixed)[24:] * 500)
    path.write_bytes(gzip.compress(pcap_bytes([])) + body * 300)
    assert interrupted(path) < 1


def test_interrupt_standard_input(mixed: list[Packet]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TRACK, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pcap_bytes(mixed))
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        at = time.monotonic()
        assert process.wait(20) != 0
        assert time.monotonic() - at < 1


def test_a_signal_that_wakes_nobody(tmp_path: Path) -> None:
    """It comes when no read waits that it could end: here another thread takes it."""
    code = (
        "import os, signal, sys, threading, time, conntrack_py as ct\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGUSR1, stop)\n"
        "def later(): time.sleep(0.3); os.kill(os.getpid(), signal.SIGUSR1)\n"
        "threading.Thread(target=later).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "try: list(ct.open_capture(sys.argv[2])) if sys.argv[1] == 'open' else ct.track(sys.argv[2])\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    os.mkfifo(tmp_path / "fifo")
    for how in ("open", "track"):
        for source in (str(tmp_path / "fifo"), "-"):
            command = [sys.executable, "-c", code, how, source]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                assert process.wait(20) == 0
                assert process.stdout is not None
                assert process.stdout.read() == b"stopped\n"
