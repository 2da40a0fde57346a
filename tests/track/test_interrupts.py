"""`track`: progress, threads and signals."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import conntrack_py as ct
from support.interrupts import TRACK
from support.packets import ACK, PSH, SYN, Packet, evenly, pcap_bytes, tcp


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
    """A signal that arrives while no read waits that the signal could end: here another thread takes it."""
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
