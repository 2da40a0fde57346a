"""conntrack_py beside other programs: CPU seconds of whole processes, in turn, several rounds, as a Markdown table.

    python benches/peers.py A=A.pcap B=B.pcap [--rounds 3] [--python .venv-bench/bin/python] [--output peers.md]

`make bench-peers` makes the captures and calls this. What is not installed is skipped, and a line says why. Every round
runs each program once, so that a machine whose speed drifts drifts for all; a ratio is the median of the rounds' own
ratios. The captures are read once before, so that they are in the page cache if they fit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
OURS = "conntrack_py"
_TRACK = """
import sys, conntrack_py as ct
{before}
connections = ct.track(sys.argv[1], {arguments}).connections
{after}
"""
_TIMED = {"before": "import time; start = time.process_time()", "after": "print(time.process_time() - start)"}
_WALK = """
import sys
from conntrack_py import Config, _native
_native.walk([sys.argv[1]], Config()._native(), "decode")
"""
_NFSTREAM = """
import sys
from nfstream import NFStreamer
if __name__ == "__main__":
    print(sum(1 for _ in NFStreamer(sys.argv[1], n_dissections=0, statistical_analysis=False)))
"""
# Seconds until a program is ended, and has failed.
LONGEST = 1800.0
# Live flows that softflowd may keep; by default it keeps 8192 and pushes others out.
_ROOM = "10000000"


@dataclass(frozen=True)
class Peer:
    """A program; in `command`, `{}` is the capture's path, and `{scratch}` an empty directory."""

    name: str
    command: Sequence[str]
    #: Who has it, for the line that says why it is skipped.
    package: str = ""
    #: A module that the interpreter, `command[0]`, must have.
    module: str = ""
    #: So slow that it runs on the first capture alone.
    slow: bool = False
    #: It prints CPU seconds, which count instead of the process's.
    prints: bool = False

    def absent(self) -> str:
        """Why it cannot be run; empty if it can."""
        if shutil.which(self.command[0]) is None:
            return f"{self.command[0]} is not there; {self.package}"
        if (
            self.module
            and subprocess.run(
                [self.command[0], "-c", f"import {self.module}"], capture_output=True, check=False
            ).returncode
        ):
            return f"{self.command[0]} has no module {self.module}; {self.package}"
        return ""


class Run(NamedTuple):
    """What a process took."""

    seconds: float
    mebibytes: float


def peers(python: str) -> list[Peer]:
    """All that are compared; `python` is the interpreter with the packages of PyPI."""

    def ours(name: str, arguments: str = "", **settings: str) -> Peer:
        code = _TRACK.format(arguments=arguments, **({"before": "", "after": ""} | settings))
        return Peer(f"{OURS}{name}", [sys.executable, "-c", code, "{}"], prints=bool(settings))

    return [
        ours(""),
        ours(", labels", "labels=True"),
        ours(", threads=1", "threads=1"),
        ours(", threads=2", "threads=2"),
        ours(", inside the process", **_TIMED),
        Peer(f"{OURS}, read and decode only", [sys.executable, "-c", _WALK, "{}"]),
        Peer("tcpdump -w /dev/null", ["tcpdump", "-r", "{}", "-w", "/dev/null"], "Debian: tcpdump"),
        Peer(
            "softflowd",
            ["softflowd", "-d", "-6", "-r", "{}", "-m", _ROOM, "-p", "{scratch}/pid", "-c", "none"],
            "Debian: softflowd",
        ),
        Peer("nfpcapd", ["nfpcapd", "-r", "{}", "-w", "{scratch}"], "Debian: nfdump"),
        Peer("argus", ["argus", "-X", "-r", "{}", "-w", "/dev/null"], "Debian: argus-server"),
        Peer("nfstream", [python, "-c", _NFSTREAM, "{}"], "PyPI: nfstream", module="nfstream", slow=True),
        Peer("a dpkt loop", [python, str(HERE / "peer_dpkt.py"), "{}"], "PyPI: dpkt", module="dpkt", slow=True),
    ]


def run(peer: Peer, capture: Path) -> Run | None:
    """User and system seconds of a process and its children, and its memory. None: it failed."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as printed:
        command = [part.replace("{scratch}", scratch) for part in peer.command]
        command = [str(capture) if part == "{}" else part for part in command]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.DEVNULL)
        limit = threading.Timer(LONGEST, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        limit.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            return None
        printed.seek(0)
        seconds = float(printed.read()) if peer.prints else usage.ru_utime + usage.ru_stime
    return Run(seconds, usage.ru_maxrss / 1024)


class Measured(NamedTuple):
    """All runs of a program on a capture."""

    seconds: list[float]
    #: Median of the rounds' own.
    ratio: float
    mebibytes: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


#: Capture → program → what was measured; None: it failed at least once.
Results = dict[str, dict[str, Measured | None]]


def compare(name: str, capture: Path, chosen: Sequence[Peer], rounds: int) -> dict[str, Measured | None]:
    """Runs them all in turn."""
    read_once(capture)
    done = []
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
        done.append({peer.name: run(peer, capture) for peer in chosen})
    results: dict[str, Measured | None] = {}
    for peer in chosen:
        runs = [(one[peer.name], one[OURS]) for one in done]
        good = [(theirs, ours) for theirs, ours in runs if theirs is not None and ours is not None]
        results[peer.name] = None
        if len(good) == rounds:
            ratio = statistics.median(theirs.seconds / ours.seconds for theirs, ours in good)
            memory = max(theirs.mebibytes for theirs, _ in good)
            results[peer.name] = Measured([theirs.seconds for theirs, _ in good], ratio, memory)
    return results


def overview(results: Results) -> list[str]:
    """A row for each program: seconds, and how many times as many as ours."""
    lines = [f"| CPU seconds, times {OURS} | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for program in next(iter(results.values())):
        cells = []
        for measured in results.values():
            one = measured.get(program)
            words = f"{one.median:.2f}, **{one.ratio:.2f}**" if one else "failed" if program in measured else "–"
            cells.append(words)
        lines.append(f"| {program} | {' | '.join(cells)} |")
    return lines


def detail(results: Results, rounds: int) -> list[str]:
    """A row for each program and capture, with ranges and memory."""
    lines = [
        f"| capture | program | CPU s: median (min to max of {rounds}) | times {OURS} | MiB |",
        "|---|---|---|---|---|",
    ]
    for capture, measured in results.items():
        for program, one in measured.items():
            if one is None:
                lines.append(f"| {capture} | {program} | failed | | |")
                continue
            span = f"{one.median:.2f} ({min(one.seconds):.2f} to {max(one.seconds):.2f})"
            lines.append(f"| {capture} | {program} | {span} | {one.ratio:.2f} | {one.mebibytes:.0f} |")
    return lines


def read_once(capture: Path) -> None:
    """Into the page cache."""
    with capture.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the packages of PyPI")
    parser.add_argument("--slow", action="store_true", help="run the slow ones on every capture, not only the first")
    parser.add_argument("--output", type=Path, help="write the tables there too, after each capture")
    given = parser.parse_args()
    here = []
    for peer in peers(given.python):
        if reason := peer.absent():
            print(f"skipped {peer.name}: {reason}")
        else:
            here.append(peer)
    results: Results = {}
    text = ""
    for place, capture in enumerate(given.captures):
        name, _, path = capture.rpartition("=")
        chosen = [peer for peer in here if given.slow or place == 0 or not peer.slow]
        results[name or Path(path).stem] = compare(name, Path(path), chosen, given.rounds)
        text = "\n".join([*overview(results), "", *detail(results, given.rounds)])
        if given.output:
            given.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
