"""Seconds, bytes and peak memory of writing a capture's connections, format by format, each in a process of its own.

    python benches/write_formats.py C.pcap [REPEATS [FORMAT]]

The table is tracked once in each process and then written REPEATS times, one behind another (default 1): the peak must
not depend on it. Files go to the temporary directory and are removed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import conntrack_py as ct

FORMATS = ("csv", "jsonl", "arrow", "parquet", "conntrack", "zeek", "ipfix")


def peak() -> float:
    """The most memory this process had so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(capture: str, repeats: int, format: str) -> None:
    """Track, write, and print a line of the table."""
    table = ct.track(capture).connections
    # Linux forgets the peak of tracking: what is resident now is the least that the peak can be.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "out"
        start, busy = time.perf_counter(), time.process_time()
        with ct.ConnectionWriter(path, format) as writer:
            for _ in range(repeats):
                writer.write(table)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        size = os.path.getsize(path)
    rows = len(table) * repeats
    print(
        f"| {format} | {rows:,} | {seconds:.1f} | {busy:.1f} | {size / 1e6:,.0f} | {size / rows:.0f} "
        f"| {before:,.0f} | {peak():,.0f} |",
        flush=True,
    )


def main() -> None:
    """A process for each format."""
    capture, repeats, *formats = sys.argv[1:] if len(sys.argv) > 2 else [sys.argv[1], "1"]
    if formats:
        one(capture, int(repeats), formats[0])
        return
    head = ["format", "rows", "s", "CPU s", "MB", "bytes a row", "resident before, MiB", "peak while writing, MiB"]
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n", flush=True)
    for format in FORMATS:
        subprocess.run([sys.executable, __file__, capture, str(repeats), format], check=True)


if __name__ == "__main__":
    main()
