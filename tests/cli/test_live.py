"""`conntrack-py live` in network namespaces with real sockets (root; elsewhere these tests are skipped)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from support.network import HERE, THERE, Network, exchange, ip, network
from support.packets import SYN, tcp
from support.program import COMMAND, run


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as found:
        yield found


class Line:
    """The program at work."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def row(self, within: float = 10) -> dict[str, Any] | None:
        """The next row, or None if none comes within so many seconds."""
        assert self.process.stdout is not None
        until = time.monotonic() + within
        while b"\n" not in self._rest:
            if not select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            assert more, self.process.stderr and self.process.stderr.read()
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """SIGTERM; the rows that are left, and the account."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        rows = [json.loads(line) for line in (self._rest + out).splitlines()]
        return rows, next(event for event in map(json.loads, err.splitlines()) if event["event"] == "read")


@contextmanager
def running(*options: str) -> Iterator[Line]:
    """The program, once it captures."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"\0conntrack-test-{os.getpid()}-{time.monotonic_ns()}"
        manager.bind(name)
        manager.settimeout(30)
        command = [*COMMAND, "live", "--json-log", "-f", "jsonl", *options]
        environment = {**os.environ, "NOTIFY_SOCKET": "@" + name[1:]}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            try:
                assert manager.recv(100) == b"READY=1"
                yield Line(process)
            finally:
                process.kill()


@pytest.mark.parametrize("interfaces", [("here0",), ("here0", "lo")])
def test_a_close_is_a_line_within_a_second(net: Network, interfaces: tuple[str, ...]) -> None:
    with net.server() as server, running(*interfaces, "--filter", "tcp") as line:
        waits = []
        for number in range(40):
            port = exchange(server, reset=number % 2 == 1)
            begun = time.monotonic()
            row = line.row()
            waits.append(time.monotonic() - begun)
            assert row is not None
            assert (row["orig_port"], row["end_reason"]) == (port, ("closed", "reset")[number % 2])
        assert sorted(waits)[-2] < 1


def test_time_passes_while_nothing_comes(net: Network, tmp_path: Path) -> None:
    config = tmp_path / "conntrack.toml"
    config.write_text("[timeouts]\nnf_conntrack_udp_timeout = 1\n")
    with running("here0", "--config", str(config), "--filter", "udp") as line:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (THERE, 7))
        row = line.row(20)
    assert row is not None
    assert (row["resp_port"], row["end_reason"]) == (7, "timeout")


def test_a_signal_loses_nothing_that_was_in_the_socket(net: Network) -> None:
    """The program is stopped, so that all packets wait in the kernel's buffer when the signal comes."""
    with net.sender() as sender, running("here0", "--filter", "tcp port 6") as line:
        line.process.send_signal(signal.SIGSTOP)
        for number in range(20_000):
            sender.send(tcp(f"10.7.{number >> 8}.{number & 255}", 5, HERE, 6, SYN))
        line.process.send_signal(signal.SIGTERM)
        line.process.send_signal(signal.SIGCONT)
        out, err = line.process.communicate(timeout=60)
    assert line.process.returncode == 0, err
    assert len({json.loads(row)["orig_addr"] for row in out.splitlines()}) == 20_000


def test_drops_are_in_the_account(net: Network) -> None:
    with net.sender() as sender, running("here0", "--filter", "tcp port 6", "--buffer-size", "4K") as line:
        line.process.send_signal(signal.SIGSTOP)
        for number in range(1000):
            sender.send(tcp(f"10.7.{number >> 8}.{number & 255}", 5, HERE, 6, SYN))
        line.process.send_signal(signal.SIGCONT)
        rows, account = line.end()
    assert account["skipped"]["kernel_drops"] > 0
    assert account["packets"] + account["skipped"]["kernel_drops"] == 1000
    assert len(rows) == account["packets"]


def test_state_and_files(net: Network, tmp_path: Path) -> None:
    state, first, second = tmp_path / "state", tmp_path / "first.csv", tmp_path / "second.parquet"
    with net.server() as server, socket.socket() as client:
        with running("here0", "--filter", "tcp", "--state", str(state), "-f", "csv", "-o", str(first)) as line:
            client.connect((THERE, 443))
            port = client.getsockname()[1]
            served, _ = server.accept()
            line.end()
        assert len(first.read_text().splitlines()) == 1, "open connections are in the state"
        more = ("--state", str(state), "--last", "-f", "parquet", "-o", str(second))
        with running("here0", "--filter", "tcp", *more) as line:
            client.close()
            served.close()
            line.end()
    import polars

    row = polars.read_parquet(second).row(0, named=True)
    assert (row["orig_port"], row["evidence"], row["end_reason"]) == (port, "syn", "closed")
    assert not state.exists()


def test_an_interface_that_goes_away_ends_the_program_with_its_rows(net: Network) -> None:
    with running("here0", "--filter", "udp") as line:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (THERE, 7))
        time.sleep(0.5)
        ip("link", "del", "here0")
        out, err = line.process.communicate(timeout=60)
    events = [json.loads(event) for event in err.splitlines()]
    assert [json.loads(row)["resp_port"] for row in out.splitlines()] == [7]
    assert line.process.returncode == 2
    assert "here0 is gone" in [event.get("message") for event in events]
    assert (events[-1]["message"], events[-1]["file"]) == ("here0: no interface is left", "here0")


def test_wrong_use(net: Network) -> None:
    none = run("live", "eth99")
    assert none.returncode == 2
    assert none.stderr == b"conntrack-py: eth99: no such interface; there are: lo, here0, any\n"
    for options, message in [
        (("here0", "--filter", "port x"), b"filter 'port x': found x, expected a port from 0 to 65535"),
        (("here0", "--snaplen", "9X"), b"found '9X', expected bytes such as 65536, 64K, 32M or 1G"),
        (("here0", "--buffer-size", "8G"), b"buffer_size: found 8,589,934,592"),
        (("here0", "--last"), b"give --state, too"),
        (("here0", "here0"), b"found one twice"),
    ]:
        wrong = run("live", *options)
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert wrong.stderr.count(b"\n") == 1, wrong.stderr


def test_without_the_right_the_error_offers_tcpdump(net: Network) -> None:
    try:
        command = ["capsh", "--drop=cap_net_raw", "--", "-c", 'exec "$@"', "-", *COMMAND, "live", "here0"]
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs capsh (libcap)")
    assert done.returncode == 2
    assert done.stderr.startswith(b"conntrack-py: here0: capturing needs CAP_NET_RAW: run as root (sudo)")
    assert done.stderr.endswith(b"tcpdump -U -w - -i here0 | conntrack-py track -\n")


def test_the_same_as_a_capture_of_tcpdump(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "there.pcap"
    # In immediate mode each packet takes the room of the longest: 2 MiB are 8 packets.
    command = ["tcpdump", "-U", "-i", "here0", "--immediate-mode", "-s", "2000", "-B", "32768", "-w", str(path), "tcp"]
    try:
        capture = subprocess.Popen(command, stderr=subprocess.PIPE)
    except FileNotFoundError:
        pytest.skip("needs tcpdump")
    with capture, net.server() as server, running("here0", "--filter", "tcp") as line:
        assert capture.stderr is not None
        capture.stderr.readline()
        time.sleep(0.5)
        for number in range(20):
            exchange(server, reset=number % 3 == 0)
        time.sleep(0.5)
        capture.terminate()
        capture.wait(30)
        rows, _ = line.end()
    names = (
        "proto",
        "orig_port",
        "resp_port",
        "state",
        "history",
        "orig_pkts",
        "resp_pkts",
        "orig_bytes",
        "end_reason",
    )
    expected = ct.track(path).connections
    found = sorted(tuple(row[name] for name in names) for row in rows)
    assert found == sorted(tuple(getattr(row, name) for name in names) for row in expected)
    assert len(found) == 20
