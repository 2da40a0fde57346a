"""conntrack_py beside other programs on one capture: CPU seconds of whole processes, in turn, several rounds.

    python benches/peers.py CAPTURE [--rounds 5]

Programs that are not installed are left out. Every round runs each of them once, so that a machine whose speed drifts
drifts for all; the ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

OURS = "conntrack_py"
_TRACK = "import sys, conntrack_py as ct; ct.track(sys.argv[1])"
_LABEL = "import sys, conntrack_py as ct; ct.track(sys.argv[1], labels=True)"
_WALK = """
import sys
from conntrack_py import Config, _native
_native.walk([sys.argv[1]], Config()._native(), "decode")
"""
#: What people write: the sender of the first packet, counters, nothing else.
_DPKT = """
import sys, dpkt
flows = {}
for ts, frame in dpkt.pcap.Reader(open(sys.argv[1], "rb")):
    ip = dpkt.ethernet.Ethernet(frame).data
    if not isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)):
        continue
    segment = ip.data
    ports = (getattr(segment, "sport", 0), getattr(segment, "dport", 0))
    key = (ip.src, ip.dst, *ports)
    flow = flows.get(key) or flows.get((ip.dst, ip.src, ports[1], ports[0])) or flows.setdefault(key, [0, 0])
    flow[0] += 1
    flow[1] += len(frame)
"""


def commands(capture: str) -> dict[str, list[str]]:
    """Name → command, for the programs that are there."""
    python = [sys.executable, "-c"]
    found = {
        OURS: [*python, _TRACK, capture],
        "conntrack_py, labels": [*python, _LABEL, capture],
        "conntrack_py, read and decode only": [*python, _WALK, capture],
        "an import of conntrack_py": [*python, "import conntrack_py"],
        "a dpkt loop": [*python, _DPKT, capture],
    }
    if tcpdump := shutil.which("tcpdump"):
        found["tcpdump -w /dev/null"] = [tcpdump, "-r", capture, "-w", "/dev/null"]
    return found


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of a process and its children."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    todo = commands(str(given.capture))
    for command in todo.values():
        cpu_seconds(command)  # page cache
    rounds = [{name: cpu_seconds(command) for name, command in todo.items()} for _ in range(given.rounds)]
    print(f"| program | CPU s: median (min to max of {given.rounds}) | times conntrack_py |\n|---|---|---|")
    for name in todo:
        seconds = [one[name] for one in rounds]
        ratio = statistics.median(one[name] / one[OURS] for one in rounds)
        print(f"| {name} | {statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
