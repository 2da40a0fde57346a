"""Floods through `track -`: memory that stays flat once the bound is hit, and the cost of a packet by the normal one.

`python benches/floods.py --sources 50000000` writes each flood into the pipe of a bounded run. The sources are all
different. Memory is the resident set as Linux counts it. Cost is the processor time of the run for each packet; the
normal one is that of a run without a bound, which writes its rows at the end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Sources of a chunk of the pipe.
CHUNK = 1 << 15
#: Packets of a second of capture time.
RATE = 1_000_000
#: Growth of memory after the bound is hit, and cost after it against that before.
FLAT, DEAR = 1.05, 2.0
_SYN, _SYN_ACK, _ACK = 0x02, 0x12, 0x10
_LINE = 16 + 14 + 20 + 20
KINDS = ("half-open", "assured", "mixed")


@dataclass(frozen=True)
class Measured:
    """A point of a run: packets written, bytes resident, seconds of processor time."""

    packets: int
    resident: int
    cpu: float


def header() -> bytes:
    """A pcap header: nanoseconds, Ethernet."""
    return np.array([0xA1B23C4D, 0x00040002, 0, 0, 262_144, 1], "<u4").tobytes()


def packets(kind: str, first: int, count: int, at: int) -> NDArray[np.uint8]:
    """The packets of sources from number `first` on, one record each; `at`: packets before them."""
    numbers = np.arange(first, first + count, dtype=np.uint32)
    if kind == "mixed":
        half = count // 2
        return np.concatenate([_handshakes(numbers[:half], at), _segments(numbers[half:], _SYN, True, at + 3 * half)])
    return _handshakes(numbers, at) if kind == "assured" else _segments(numbers, _SYN, True, at)


def _handshakes(numbers: NDArray[np.uint32], at: int) -> NDArray[np.uint8]:
    steps = [(_SYN, True), (_SYN_ACK, False), (_ACK, True)]
    parts = [_segments(numbers, flags, out, at + step * len(numbers)) for step, (flags, out) in enumerate(steps)]
    return np.concatenate(parts)


def _segments(numbers: NDArray[np.uint32], flags: int, out: bool, at: int) -> NDArray[np.uint8]:
    rows = np.zeros((len(numbers), _LINE), np.uint8)
    times = np.arange(at, at + len(numbers), dtype=np.uint64)

    def put(place: int, values: NDArray[np.generic] | int, kind: str) -> None:
        wide = np.broadcast_to(np.asarray(values), len(numbers)).astype(kind)
        rows[:, place : place + wide.itemsize] = wide.view(np.uint8).reshape(len(numbers), wide.itemsize)

    put(0, 1_700_000_000 + times // RATE, "<u4")
    put(4, times % RATE * (1_000_000_000 // RATE), "<u4")
    put(8, _LINE - 16, "<u4")
    put(12, _LINE - 16, "<u4")
    put(28, 0x0800, ">u2")
    put(30, 0x4500, ">u2")
    put(32, 40, ">u2")
    put(38, 0x4006, ">u2")
    # An odd factor: every number is another source, and neighbours are far apart.
    source, server = numbers * np.uint32(2_654_435_761), 0xC0000201
    put(42, source if out else server, ">u4")
    put(46, server if out else source, ">u4")
    put(50, 40_000 if out else 443, ">u2")
    put(52, 443 if out else 40_000, ">u2")
    put(54, 1 if flags & _SYN else 2, ">u4")
    put(58, 0 if flags == _SYN else 2, ">u4")
    put(62, 0x5000 | flags, ">u2")
    put(64, 64_000, ">u2")
    return rows.reshape(-1)


def run(kind: str, sources: int, options: list[str]) -> Iterator[Measured]:
    """Write a flood to `track -`, and yield a point after each chunk, and one of the whole run."""
    command = [sys.executable, "-m", "conntrack_py", "track", "-", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(header())
        written = 0
        for first in range(0, sources, CHUNK):
            chunk = packets(kind, first, min(CHUNK, sources - first), written)
            process.stdin.write(chunk)
            written += len(chunk) // _LINE
            yield _point(process.pid, written)
        process.stdin.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    yield Measured(written, used.ru_maxrss << 10, used.ru_utime + used.ru_stime)


def _point(pid: int, written: int) -> Measured:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        times = file.read().rsplit(")", 1)[1].split()[11:13]
    return Measured(written, resident, sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))


def growth(points: list[Measured], warm: int) -> float:
    """Growth of memory after `warm` packets, while the flood lasts. At its end the live connections become rows."""
    after = [point.resident for point in points[:-1] if point.packets > warm]
    return max(after) / after[0]


def cost(points: list[Measured]) -> float:
    """Seconds of processor time for each packet, with its part of the rows that are written."""
    return points[-1].cpu / points[-1].packets


def main() -> int:
    """Run each flood; the status is 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=50_000_000)
    parser.add_argument("--memory-limit", default="1G")
    parser.add_argument("--normal", type=int, default=4_000_000, help="sources of a run without a bound")
    parser.add_argument("--warm", type=int, default=15_000_000, help="sources after which memory stays as it is")
    parser.add_argument("kinds", nargs="*", default=KINDS)
    given = parser.parse_args()
    failed = False
    for kind in given.kinds:
        points = list(run(kind, given.sources, ["--memory-limit", given.memory_limit]))
        # An assured source is three packets, a mixed pair four.
        each = {"half-open": 1, "assured": 3, "mixed": 2}[kind]
        normal = cost(list(run(kind, given.normal, ["--memory-limit", "none"])))
        grown, dear = growth(points, each * given.warm), cost(points) / normal
        bad = grown > FLAT or dear > DEAR
        failed |= bad
        print(
            f"{kind}: {points[-1].packets:,} packets, {points[-1].resident >> 20} MiB, growth {grown:.3f}, "
            f"{cost(points) * 1e9:.0f} ns a packet, {dear:.2f} times the normal cost{', OUT OF BOUNDS' if bad else ''}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
