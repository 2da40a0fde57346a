"""Metrics over HTTP, read by the client library's own parser; and what the service manager is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

import conntrack_py as ct
from conntrack_py.cli.service.metrics import STUCK, Metrics, address_of
from conntrack_py.cli.service.notify import Notifier
from support.packets import FIN, SYN, Packet, arp, pcap_bytes, tcp, udp
from support.program import COMMAND, run, without_bounds

prometheus = pytest.importorskip("prometheus_client.parser")

CLIENT, SERVER = "10.0.0.5", "203.0.113.80"
ACK = 16


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scraped(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Value by name and values of labels."""
    return {
        (one.name, *one.labels.values()): one.value
        for family in prometheus.text_string_to_metric_families(text)
        for one in family.samples
    }


PACKETS: list[bytes] = [
    tcp(CLIENT, 40000, SERVER, 443, SYN, seq=100),
    tcp(SERVER, 443, CLIENT, 40000, SYN | ACK, seq=900, ack=101),
    tcp(CLIENT, 40000, SERVER, 443, ACK, seq=101, ack=901),
    tcp(CLIENT, 40000, SERVER, 443, FIN | ACK, seq=101, ack=901),
    tcp(SERVER, 443, CLIENT, 40000, FIN | ACK, seq=901, ack=102),
    tcp(CLIENT, 40000, SERVER, 443, ACK, seq=102, ack=902),
    udp(CLIENT, 5353, SERVER, 53, b"question"),
    arp(),
]


@contextmanager
def piped(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`track -` with packets that pass now, its input still open."""
    now = time.time()
    packets: list[Packet] = [(now - 1_767_225_600 + 0.001 * number, one) for number, one in enumerate(PACKETS)]
    command = [*COMMAND, "track", "-", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(pcap_bytes(packets))
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def test_metrics_of_a_pipe() -> None:
    port = free_port()
    with piped("--metrics", str(port)):
        found: dict[tuple[str, ...], float] = {}
        until = time.monotonic() + 30
        while found.get(("conntrack_py_packets_total",)) != 8 and time.monotonic() < until:
            try:
                text = scraped(port)
                found = samples(text)
            except urllib.error.URLError:
                time.sleep(0.05)
        assert scraped(port, "/healthz") == "ok\n"
    assert found[("conntrack_py_packets_total",)] == 8
    assert found[("conntrack_py_bytes_total",)] == sum(map(len, PACKETS))
    assert found[("conntrack_py_connections",)] == 2
    assert found[("conntrack_py_connections_begun_total", "egress", "syn")] == 1
    assert found[("conntrack_py_connections_begun_total", "egress", "first_packet")] == 1
    assert found[("conntrack_py_connections_ended_total", "egress", "syn", "closed")] == 1
    assert found[("conntrack_py_skipped_total", "not_ip")] == 1
    assert found[("conntrack_py_kernel_drops_total",)] == 0
    assert found[("conntrack_py_evicted_total",)] == 0
    assert 0 <= found[("conntrack_py_seconds_behind",)] < 60
    assert found[("conntrack_py_table_bytes",)] > 0
    assert found[("conntrack_py_resident_memory_bytes",)] > 1 << 20
    assert CLIENT not in text
    assert SERVER not in text


def test_a_port_in_use_is_an_error_with_the_address() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("track", "-", "--metrics", str(port), stdin=pcap_bytes([(0.0, PACKETS[0])]))
    assert done.returncode == 2
    assert without_bounds(done.stderr) == f"conntrack-py: --metrics 127.0.0.1:{port}: Address already in use\n".encode()


def test_addresses() -> None:
    assert address_of("9117") == ("127.0.0.1", 9117)
    assert address_of("0.0.0.0:9117") == ("0.0.0.0", 9117)
    assert address_of("[::1]:9117") == ("::1", 9117)
    for text in ("", "x", ":9117", "host:", "host:0", "host:65536", "9117x", "٩"):
        with pytest.raises(click.UsageError, match="expected HOST:PORT"):
            address_of(text)


def test_no_socket_without_metrics() -> None:
    with piped() as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        sockets = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert not [one for one in sockets if one.startswith("socket:")]


def test_metrics_need_the_library() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; from conntrack_py.cli import main; main()"
    command = [sys.executable, "-c", code, "track", "-", "--metrics", "9117"]
    done = subprocess.run(command, input=b"", capture_output=True)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        b"--metrics needs the package prometheus-client: pip install 'conntrack_py[metrics]'"
    )


def test_metrics_are_of_streams() -> None:
    done = run("track", "-", "--no-stream", "--metrics", "9117")
    assert done.returncode == 2
    assert b"--report, --live and --metrics are for streams" in done.stderr


def batch(number: int) -> ct.PacketBatch:
    frames = [udp("10.0.0.1", 1, f"10.1.{number >> 8 & 255}.{number & 255}", port) for port in range(1, 500)]
    return ct.PacketBatch.from_frames(frames, range(10**18, 10**18 + len(frames)))


def test_a_client_that_does_not_read_stalls_nothing() -> None:
    """Clients that connect and say nothing, and scrapes one after another, while the loop turns."""
    port, tracker = free_port(), ct.Tracker(ct.Config(max_connections=100_000))
    metrics = Metrics(f"127.0.0.1:{port}")
    with metrics.served(tracker, None):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        going = True

        def scrape() -> None:
            while going:
                scraped(port)

        scraper = threading.Thread(target=scrape)
        scraper.start()
        slowest = 0.0
        for number in range(200):
            some = batch(number)
            begun = time.monotonic()
            tracker.process(some)
            metrics.note(some, tracker.drain())
            slowest = max(slowest, time.monotonic() - begun)
        going = False
        scraper.join()
        metrics._due = 0.0
        metrics.note(batch(200), tracker.drain())
        found = samples(scraped(port))
        for one in silent:
            one.close()
    assert slowest < 1
    assert found[("conntrack_py_table_fill_max_connections",)] == len(tracker.snapshot()) / 100_000
    begun_in_all = sum(value for name, value in found.items() if name[0] == "conntrack_py_connections_begun_total")
    assert begun_in_all == tracker.stats().connections


def test_labels_are_few_whatever_comes() -> None:
    port, tracker = free_port(), ct.Tracker()
    metrics = Metrics(str(port))
    with metrics.served(tracker, None):
        for number in range(20):
            tracker.process(batch(number))
        metrics.note(batch(0), tracker.finish())
        text = scraped(port)
    assert len(text.splitlines()) < 100
    assert "10.1." not in text


def test_a_loop_that_does_not_turn_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    port, metrics = free_port(), None
    metrics = Metrics(str(port))
    with metrics.served(ct.Tracker(), None):
        assert scraped(port, "/healthz") == "ok\n"
        metrics._turned -= STUCK + 5
        with pytest.raises(urllib.error.HTTPError, match="503"):
            scraped(port, "/healthz")


@pytest.fixture
def manager() -> Iterator[tuple[str, socket.socket]]:
    """The socket of a service manager, and its address as systemd gives it."""
    name = f"conntrack-manager-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(30)
        yield "@" + name, listening


def test_the_service_manager_is_told(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    os.environ.pop("NOTIFY_SOCKET", None)
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    command = [*COMMAND, "track", "-", "--live"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(pcap_bytes([(0.0, PACKETS[0])]))
        process.stdin.flush()
        assert listening.recv(100) == b"READY=1"
        begun = time.monotonic()
        assert [listening.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
        assert 0.6 < time.monotonic() - begun < 4
        process.send_signal(signal.SIGTERM)
        while (told := listening.recv(100)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_a_socket_file_and_other_watchdogs(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        other = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
        notifier = Notifier.of_environment(other)
        notifier.alive()
        notifier.ready()
        assert listening.recv(100) == b"READY=1", "the watchdog is another process's"
    notifier.ready()
    for nowhere in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        Notifier.of_environment(nowhere).ready()
