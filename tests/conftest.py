"""Shared by all Python tests: the corpus, and small captures made by hand."""

from __future__ import annotations

import os
import pty
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import dpkt
import pytest

import corpus

ROOT = Path(__file__).resolve().parents[1]

#: The program, as `conntrack-py`.
COMMAND = [sys.executable, "-m", "conntrack_py"]
#: 2026-01-01 00:00:00 UTC
START = 1_767_225_600
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

#: Seconds after START, and a frame.
Packet = tuple[float, bytes]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the numbers that the tests gathered."""
    for line in corpus.SUMMARY:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """The real captures beside the project."""
    if not corpus.CORPUS.is_dir():
        corpus.missing(f"the corpus of real captures is not there: {corpus.CORPUS}")
    return corpus.CORPUS


@pytest.fixture(scope="session")
def demo_pcap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture that README and `make demo` use."""
    path = tmp_path_factory.mktemp("demo") / "demo.pcap"
    subprocess.run([sys.executable, str(ROOT / "docs" / "demo.py"), str(path)], check=True)
    return path


def in_terminal(
    command: list[str], *, columns: int = 80, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The exit status of a command in a terminal of that width, and what it prints there."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        command, stdout=follower, stderr=follower, env={**os.environ, **size, **(environment or {})}, cwd=cwd
    ) as process:
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # how Linux says that nobody has the other end any more
                break
            if not piece:
                break
            output += piece
        status = process.wait(30)
    os.close(leader)
    return status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()).replace("\r\n", "\n")


def terminal(*args: str | Path, columns: int = 80, cwd: Path | None = None) -> str:
    """What the program prints to a terminal of that width."""
    status, printed = in_terminal([*COMMAND, *map(str, args)], columns=columns, cwd=cwd)
    assert status == 0, printed
    return printed


@pytest.fixture
def here(demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the demo capture, to run examples in."""
    shutil.copy(demo_pcap, tmp_path / "demo.pcap")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def ethernet(src: str, dst: str, proto: int, payload: bytes | dpkt.Packet) -> bytes:
    """An Ethernet frame with an IPv4 packet."""
    ip = dpkt.ip.IP(src=packed(src), dst=packed(dst), p=proto, ttl=64, data=payload)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP))


def udp(src: str, sport: int, dst: str, dport: int, payload: bytes = b"") -> bytes:
    return ethernet(src, dst, 17, dpkt.udp.UDP(sport=sport, dport=dport, ulen=8 + len(payload), data=payload))


def tcp(
    src: str,
    sport: int,
    dst: str,
    dport: int,
    flags: int,
    seq: int = 0,
    ack: int = 0,
    payload: bytes = b"",
    *,
    window: int = 65535,
    options: bytes = b"",
) -> bytes:
    segment = dpkt.tcp.TCP(
        sport=sport,
        dport=dport,
        seq=seq,
        ack=ack,
        off=5 + len(options) // 4,
        flags=flags,
        win=window,
        opts=options,
        data=payload,
    )
    return ethernet(src, dst, 6, segment)


def echo(src: str, dst: str, kind: int, sequence: int = 1) -> bytes:
    message = dpkt.icmp.ICMP(type=kind, data=dpkt.icmp.ICMP.Echo(id=7, seq=sequence, data=b"." * 32))
    return ethernet(src, dst, 1, message)


def arp() -> bytes:
    return bytes(dpkt.ethernet.Ethernet(data=dpkt.arp.ARP(), type=dpkt.ethernet.ETH_TYPE_ARP))


def download(client: str, sport: int, server: str, dport: int, down: int = 20_000) -> list[bytes]:
    """A TCP connection from SYN to the last ACK in which the server sends nearly everything."""
    seqs = {client: 100, server: 900}

    def segment(src: str, flags: int, payload: bytes = b"") -> bytes:
        dst = server if src == client else client
        ports = (sport, dport) if src == client else (dport, sport)
        frame = tcp(src, ports[0], dst, ports[1], flags, seqs[src], seqs[dst] if flags & ACK else 0, payload)
        seqs[src] += len(payload) + (flags & (SYN | FIN) != 0)
        return frame

    frames = [
        segment(client, SYN),
        segment(server, SYN | ACK),
        segment(client, ACK),
        segment(client, PSH | ACK, b"GET"),
    ]
    for _ in range(0, down, 1000):
        frames += [segment(server, PSH | ACK, b"x" * 1000), segment(client, ACK)]
    return [*frames, segment(client, FIN | ACK), segment(server, FIN | ACK), segment(client, ACK)]


def evenly(frames: Iterable[bytes], start: float = 0.0, step: float = 0.001) -> list[Packet]:
    """The frames, one after another."""
    return [(start + step * number, frame) for number, frame in enumerate(frames)]


def pcap_bytes(packets: Iterable[Packet], linktype: int = 1, snaplen: int = 65535) -> bytes:
    """A little-endian pcap with microseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype)]
    for at, frame in packets:
        seconds, micros = divmod(round(at * 1e6), 1_000_000)
        cut = frame[:snaplen]
        parts.append(struct.pack("<IIII", START + seconds, micros, len(cut), len(frame)) + cut)
    return b"".join(parts)


@pytest.fixture
def pcap(tmp_path: Path) -> Callable[..., Path]:
    """Writes packets to a file: `pcap(packets, name="x.pcap")`."""

    def write(packets: Iterable[Packet], name: str = "capture.pcap", **options: int) -> Path:
        path = tmp_path / name
        path.write_bytes(pcap_bytes(packets, **options))
        return path

    return write


@pytest.fixture(scope="session")
def mixed() -> list[Packet]:
    """Four connections and an ARP frame: a download, a ping, a DNS query, and a server reached from outside."""
    frames = [
        *download("10.0.0.5", 51514, "203.0.113.80", 443),
        echo("10.0.0.5", "192.0.2.1", 8),
        echo("192.0.2.1", "10.0.0.5", 0),
        udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?" * 30),
        udp("10.0.0.53", 53, "10.0.0.5", 5353, b"!" * 90),
        *download("198.51.100.7", 40000, "10.0.0.80", 80),
        arp(),
    ]
    return evenly(frames)
