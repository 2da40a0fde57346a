"""CPU time of a tracker fed from arrays, against a file with the same packets.

    .venv/bin/python benches/feeding.py [PACKETS [ROUNDS]]

In turn, several rounds, in one process: CPU seconds of `open_capture`, or of `from_arrays` batch by batch, and of
`process` and `drain` behind it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import conntrack_py as ct
from make_trace import write_trace

#: Packets of a batch.
ROWS = 100_000


def tables(path: Path) -> list[dict[str, Any]]:
    """The columns of a capture, in tables of as many packets each."""
    parts: dict[str, list[Any]] = {}
    with ct.open_capture(path) as capture:
        for batch in capture:
            for name, column in batch.to_arrays().items():
                parts.setdefault(name, []).append(column)
    whole: dict[str, Any] = {}
    for name, columns in parts.items():
        if isinstance(columns[0], tuple):
            sizes = np.concatenate([np.diff(offsets) for _, offsets in columns])
            whole[name] = (np.concatenate([data for data, _ in columns]), np.concatenate([[0], np.cumsum(sizes)]))
        else:
            whole[name] = np.concatenate(columns)
    count = len(whole["length"])
    return [{name: sliced(column, at) for name, column in whole.items()} for at in range(0, count, ROWS)]


def sliced(column: Any, at: int) -> Any:
    """The rows of a table that begin there."""
    if not isinstance(column, tuple):
        return column[at : at + ROWS]
    data, offsets = column
    offsets = offsets[at : at + ROWS + 1]
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


def follow(batches: Iterator[ct.PacketBatch]) -> int:
    """The number of connections in the batches."""
    tracker = ct.Tracker()
    count = 0
    for batch in batches:
        tracker.process(batch)
        count += len(tracker.drain())
    return count + len(tracker.finish())


def main(packets: int = 5_000_000, rounds: int = 5) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pcap"
        write_trace(path, packets, packets // 20)
        columns = tables(path)
        without = [{name: column for name, column in table.items() if name != "payload"} for table in columns]
        bare = [{name: column for name, column in table.items() if name not in ("payload", "seq")} for table in columns]
        ways: dict[str, Callable[[], Iterator[ct.PacketBatch]]] = {
            "file": lambda: iter(ct.open_capture(path)),
            "arrays, all columns": lambda: (ct.PacketBatch.from_arrays(**table) for table in columns),
            "arrays without payload": lambda: (ct.PacketBatch.from_arrays(**table) for table in without),
            "arrays without payload and numbers": lambda: (ct.PacketBatch.from_arrays(**table) for table in bare),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, batches in ways.items():
                begin = time.process_time()
                count = follow(batches())
                took[way].append(time.process_time() - begin)
                print(f"{way}: {took[way][-1]:.2f} s, {count:,} connections", file=sys.stderr)
        file = statistics.median(took["file"])
        print("| fed from | CPU s: median (min to max) | million packets a second | speed of the file |")
        print("|---|---|---|---|")
        for way, times in took.items():
            middle = statistics.median(times)
            span = f"{middle:.2f} ({min(times):.2f} to {max(times):.2f})"
            print(f"| {way} | {span} | {packets / middle / 1e6:.2f} | {file / middle:.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
