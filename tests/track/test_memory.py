"""Memory depends on what lives in the capture, not on the size of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from make_trace import write_trace

CONNECTIONS = 1000
_MEASURE = """
import resource, sys
import conntrack_py as ct
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = ct.track(sys.argv[1])
assert len(result.connections) == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def growth(path: Path) -> int:
    """KiB by which tracking a file raises the peak of a fresh process."""
    command = [sys.executable, "-c", _MEASURE, str(path), str(CONNECTIONS)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_peak_is_flat(tmp_path: Path) -> None:
    """Ten times the packets of the same connections need no more memory (2 MiB of play: the allocator's)."""
    small, large = tmp_path / "small.pcap", tmp_path / "large.pcap"
    write_trace(small, 60_000, CONNECTIONS)
    write_trace(large, 600_000, CONNECTIONS)
    assert large.stat().st_size > 40_000_000
    assert growth(large) < growth(small) + 2048
