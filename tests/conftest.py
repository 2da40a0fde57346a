"""Fixtures of all tests: the corpus, the demo capture, and small captures made by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

from support import corpus  # noqa: E402 - after what rewrites its assertions
from support.packets import Packet, arp, download, echo, evenly, pcap_bytes, udp  # noqa: E402
from support.program import ROOT  # noqa: E402


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


@pytest.fixture
def here(demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the demo capture, to run examples in."""
    shutil.copy(demo_pcap, tmp_path / "demo.pcap")
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
