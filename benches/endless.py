"""Resident memory of `track -` on an endless stream of packets.

    .venv/bin/python benches/endless.py [PACKETS]

A capture is made once and sent to a pipe over and over, each time later and from other addresses. So every round has
new connections. Resident memory is sampled twice a second; warm-up is the first tenth.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from make_trace import _RECORD, write_trace

#: Packets and connections of a round, and how long it takes by its own clock.
ROUND, CONNECTIONS, PER_SECOND = 1_000_000, 50_000, 50_000
ROUNDS_OF_ADDRESSES = 200


def resident(process: int) -> float:
    """MiB of a process that are in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main(packets: int = 100_000_000) -> None:
    """Measure, and print what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round.pcap"
        write_trace(path, ROUND, CONNECTIONS, PER_SECOND)
        raw = path.read_bytes()
    head, records = raw[:24], np.frombuffer(raw[24:], _RECORD).copy()
    clients = [records[end] >> 24 == 10 for end in ("src", "dst")]
    command = [str(Path(sys.executable).with_name("conntrack-py")), "track", "-", "-f", "csv"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [0]

        def count(stream: object = process.stdout) -> None:
            while piece := stream.read(1 << 20):  # type: ignore[attr-defined]
                lines[0] += piece.count(b"\n")

        reader = threading.Thread(target=count)
        reader.start()
        seen: list[tuple[int, float]] = []
        sent, looked, began = 0, 0.0, time.monotonic()
        process.stdin.write(head)
        for number in range(packets // ROUND):
            for end, are_clients in zip(("src", "dst"), clients, strict=True):
                network = 10 + number % ROUNDS_OF_ADDRESSES
                records[end][are_clients] = records[end][are_clients] & 0xFFFFFF | network << 24
            for part in np.array_split(records, 50):
                process.stdin.write(part.tobytes())
                sent += len(part)
                if time.monotonic() - looked > 0.5:
                    looked = time.monotonic()
                    seen.append((sent, resident(process.pid)))
            records["sec"] += ROUND // PER_SECOND
        process.stdin.close()
        reader.join()
    seconds = time.monotonic() - began
    warm = [size for at, size in seen if at > packets // 10]
    print(f"{sent:,} packets in {seconds:.0f} s, {lines[0] - 1:,} connections; exit status {process.returncode}")
    print(
        f"resident after the first tenth: {warm[0]:.1f} MiB; then {min(warm):.1f} to {max(warm):.1f} MiB, "
        f"at the end {warm[-1]:.1f} MiB, in {len(warm)} looks; largest over smallest {max(warm) / min(warm) - 1:.1%}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
