"""conntrack_py beside other programs: CPU seconds of whole processes, in turn, several rounds, as a Markdown table.

    python benches/peers.py A=A.pcap B=B.pcap [--more clean=clean.pcap mix=mix.pcap] [--output peers.md]

`make bench-peers` makes the captures and calls this. Programs that are not installed are skipped, and a line says why;
so are captures that are not there, and a program on a capture on which it fails. Captures after `--more` are read by
conntrack_py and the programs written in C, and have a table of their own.

Every round runs each program once, so that a machine whose speed drifts drifts for all; a ratio is the median of the
rounds' own ratios. The captures are read once before, so that they are in the page cache if they fit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
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
    #: The package that provides the program, for the message of a skipped peer.
    package: str = ""
    #: A module that the interpreter, `command[0]`, must have.
    module: str = ""
    #: So slow that it runs on the first capture alone.
    slow: bool = False
    #: It prints CPU seconds, which count instead of the process's.
    prints: bool = False
    #: Part of the second table, of the captures after `--more`.
    more: bool = False

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
    """CPU time and peak memory of a process."""

    seconds: float
    mebibytes: float


def peers(python: str) -> list[Peer]:
    """All that are compared; `python` is the interpreter with the packages of PyPI."""

    def ours(name: str, arguments: str = "", **settings: str) -> Peer:
        code = _TRACK.format(arguments=arguments, **({"before": "", "after": ""} | settings))
        more = name in ("", ", threads=1")
        return Peer(f"{OURS}{name}", [sys.executable, "-c", code, "{}"], prints=bool(settings), more=more)

    def other(name: str, package: str, *command: str) -> Peer:
        return Peer(name, command, f"Debian: {package}", more=True)

    return [
        ours(""),
        ours(", labels", "labels=True"),
        ours(", threads=1", "threads=1"),
        ours(", threads=2", "threads=2"),
        ours(", inside the process", **_TIMED),
        Peer(f"{OURS}, read and decode only", [sys.executable, "-c", _WALK, "{}"]),
        other("tcpdump -w /dev/null", "tcpdump", "tcpdump", "-r", "{}", "-w", "/dev/null"),
        other(
            *("softflowd", "softflowd"),
            *("softflowd", "-d", "-6", "-r", "{}", "-m", _ROOM, "-p", "{scratch}/pid", "-c", "none"),
        ),
        other("nfpcapd", "nfdump", "nfpcapd", "-r", "{}", "-w", "{scratch}"),
        other("argus", "argus-server", "argus", "-X", "-r", "{}", "-w", "/dev/null"),
        Peer("nfstream", [python, "-c", _NFSTREAM, "{}"], "PyPI: nfstream", module="nfstream", slow=True),
        Peer("a dpkt loop", [python, str(HERE / "peer_dpkt.py"), "{}"], "PyPI: dpkt", module="dpkt", slow=True),
    ]


def run(peer: Peer, capture: Path) -> Run | str:
    """User and system seconds of a process and its children, and its memory; or how the process failed."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as printed:
        command = [part.replace("{scratch}", scratch) for part in peer.command]
        command = [str(capture) if part == "{}" else part for part in command]
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.DEVNULL)
        limit = threading.Timer(LONGEST, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        limit.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode < 0:
            late = time.monotonic() - started >= LONGEST
            number = -process.returncode
            return f"took {LONGEST:.0f} s" if late else f"ended by signal {number} ({signal.strsignal(number)})"
        if process.returncode:
            return f"exit status {process.returncode}"
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


#: Capture → program → measurements, or how the program failed.
Results = dict[str, dict[str, Measured | str]]


def compare(name: str, capture: Path, chosen: Sequence[Peer], rounds: int) -> dict[str, Measured | str]:
    """Run every program in turn; one that failed does not run again."""
    read_once(capture)
    failed: dict[str, str] = {}
    done: list[dict[str, Run]] = []
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
        done.append({})
        for peer in chosen:
            one = failed.get(peer.name) or run(peer, capture)
            if isinstance(one, str):
                failed[peer.name] = one
            else:
                done[-1][peer.name] = one
    if OURS in failed:
        return {peer.name: failed.get(peer.name, f"{OURS} failed") for peer in chosen}
    return {peer.name: failed.get(peer.name) or measured(peer.name, done) for peer in chosen}


def measured(program: str, rounds: Sequence[Mapping[str, Run]]) -> Measured:
    """All rounds of a program."""
    runs = [one[program] for one in rounds]
    ratio = statistics.median(one[program].seconds / one[OURS].seconds for one in rounds)
    return Measured([one.seconds for one in runs], ratio, max(one.mebibytes for one in runs))


def cell(one: Measured | str | None) -> str:
    """Seconds, and how many times as many as ours."""
    if one is None:
        return "–"
    return "failed" if isinstance(one, str) else f"{one.median:.2f}, **{one.ratio:.2f}**"


def overview(results: Results) -> list[str]:
    """A row for each program."""
    lines = [f"| CPU seconds, times {OURS} | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for program in next(iter(results.values())):
        cells = [cell(found.get(program)) for found in results.values()]
        lines.append(f"| {program} | {' | '.join(cells)} |")
    return lines


def overview_of_more(results: Results) -> list[str]:
    """A row for each capture, since there are more of them than programs."""
    programs = list(next(iter(results.values())))
    lines = [f"| CPU seconds, times {OURS} | {' | '.join(programs)} |", "|---" * (len(programs) + 1) + "|"]
    for capture, found in results.items():
        lines.append(f"| {capture} | {' | '.join(cell(found[program]) for program in programs)} |")
    return lines


def detail(results: Results, rounds: int) -> list[str]:
    """A row for each program and capture, with ranges and memory."""
    lines = [
        f"| capture | program | CPU s: median (min to max of {rounds}) | times {OURS} | MiB |",
        "|---|---|---|---|---|",
    ]
    for capture, found in results.items():
        for program, one in found.items():
            if isinstance(one, str):
                lines.append(f"| {capture} | {program} | failed | | |")
                continue
            span = f"{one.median:.2f} ({min(one.seconds):.2f} to {max(one.seconds):.2f})"
            lines.append(f"| {capture} | {program} | {span} | {one.ratio:.2f} | {one.mebibytes:.0f} |")
    return lines


def tables(results: Results, more: Collection[str], rounds: int) -> str:
    """The tables that have captures, and a line for each failure; `more`: the captures of the second table."""
    first = {name: found for name, found in results.items() if name not in more}
    others = {name: found for name, found in results.items() if name in more}
    failures = [
        f"skipped {program} on {capture}: {one}"
        for capture, found in results.items()
        for program, one in found.items()
        if isinstance(one, str)
    ]
    parts = [
        overview(first) if first else [],
        overview_of_more(others) if others else [],
        detail(results, rounds),
        failures,
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def captures_of(given: Sequence[str]) -> dict[str, Path]:
    """Captures by name; one that is not there is skipped with a reason, or an error with `CI=true`."""
    captures = {}
    for one in given:
        name, _, path = one.rpartition("=")
        if Path(path).exists():
            captures[name or Path(path).stem] = Path(path)
        elif os.environ.get("CI") == "true":
            raise SystemExit(f"{name}: {path} is not there")
        else:
            print(f"skipped {name}: {path} is not there")
    return captures


def read_once(capture: Path) -> None:
    """Into the page cache."""
    with capture.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", metavar="NAME=FILE")
    parser.add_argument(
        "--more", nargs="+", action="extend", default=[], metavar="NAME=FILE", help="captures for the second table"
    )
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
    first, more = captures_of(given.captures), captures_of(given.more)
    results: Results = {}
    text = "no capture"
    for place, (name, capture) in enumerate((first | more).items()):
        all_of_them = name in first and (given.slow or place == 0)
        chosen = [peer for peer in here if peer.more or all_of_them or (name in first and not peer.slow)]
        results[name] = compare(name, capture, chosen, given.rounds)
        text = tables(results, more, given.rounds)
        if given.output:
            given.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
