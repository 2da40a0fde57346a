"""True ends by a gateway's own table: tuples that several entries had, times, listings without times."""

from __future__ import annotations

from pathlib import Path

import pytest

import conntrack_py as ct
from support.packets import START, Packet, download, pcap_bytes

GATEWAY, SERVER = "198.51.100.1", "203.0.113.5"


def entry(client: str, port: int, at: float | None, translated: int) -> str:
    begin = f"[{START + at:.6f}]\t    [NEW] " if at is not None else ""
    return (
        f"{begin}ipv4     2 tcp      6 120 SYN_SENT src={client} dst={SERVER} sport={port} dport=443 [UNREPLIED] "
        f"src={SERVER} dst={GATEWAY} sport=443 dport={translated}\n"
    )


def capture(directory: Path, connections: list[tuple[float, int]]) -> Path:
    """The outside: connections of the gateway at some times, from some ports."""
    frames: list[Packet] = []
    for at, port in connections:
        found = download(GATEWAY, port, SERVER, 443, down=2000)
        frames += [(at + number / 1000, frame) for number, frame in enumerate(found)]
    path = directory / "outside.pcap"
    path.write_bytes(pcap_bytes(sorted(frames, key=lambda one: one[0])))
    return path


def clients(path: Path, log: str, directory: Path) -> list[str]:
    (directory / "log").write_text(log)
    return ct.reveal(ct.track(path).connections, directory / "log")["orig_addr"].tolist()


#: Connections whose tuples have one entry each, by which the clock is known.
SURE = [(float(number), 50_000 + number) for number in range(5)]


def sure(clock: float) -> str:
    return "".join(entry("10.0.0.9", 40_000, at + clock, port) for at, port in SURE)


@pytest.mark.parametrize("clock", [0.0, 0.5, -3600.0])
def test_the_last_entry_that_began_before_is_the_one(clock: float, tmp_path: Path) -> None:
    path = capture(tmp_path, [*SURE, (100, 61_000), (400, 61_000)])
    log = sure(clock) + entry("10.0.0.1", 1111, 100 + clock, 61_000) + entry("10.0.0.2", 2222, 400 + clock, 61_000)
    assert clients(path, log, tmp_path) == ["10.0.0.9"] * 5 + ["10.0.0.1", "10.0.0.2"]


def test_entries_near_in_time_are_not_told_apart(tmp_path: Path) -> None:
    path = capture(tmp_path, [*SURE, (100, 61_000)])
    log = sure(0) + entry("10.0.0.1", 1111, 99.5, 61_000) + entry("10.0.0.2", 2222, 100.2, 61_000)
    assert clients(path, log, tmp_path) == ["10.0.0.9"] * 5 + [GATEWAY]


def test_a_listing_without_times_tells_what_only_one_entry_had(tmp_path: Path) -> None:
    path = capture(tmp_path, [(0, 61_000), (1, 61_001), (2, 61_002)])
    log = entry("10.0.0.1", 1111, None, 61_000)
    log += entry("10.0.0.2", 2222, None, 61_001) + entry("10.0.0.3", 3333, None, 61_001)
    assert clients(path, log, tmp_path) == ["10.0.0.1", GATEWAY, GATEWAY]
