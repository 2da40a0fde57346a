"""Runs that are killed at random moments, and what is complete afterwards."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from support.packets import Packet, download, evenly, pcap_bytes
from support.program import COMMAND

#: Seconds of capture time from one connection to the next: 300 are an hour.
STEP = 12.0
#: Every tenth connection is closed so many seconds after its begin: in a later file, or hour.
LONG = 250.0
#: Packets of a file.
PER_FILE = 420


def client(number: int) -> str:
    """The originator of a connection."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def connections(count: int) -> list[Packet]:
    """Connections in the order of their packets, each closed by its last packet."""
    packets: list[Packet] = []
    for number in range(count):
        some = evenly(download(client(number), 5000, "203.0.113.80", 443, down=0), start=number * STEP)
        packets += [
            (at + LONG, frame) if number % 10 == 0 and place > 3 else (at, frame)
            for place, (at, frame) in enumerate(some)
        ]
    return sorted(packets, key=lambda packet: packet[0])


def rows(path: Path) -> list[str]:
    """The rows of a complete file, but numbers of other rows; a line that is cut is an error."""
    if path.suffix == ".parquet":
        return [row_text(row) for row in pq.read_table(path).to_pylist()]
    text = path.read_text()
    assert not text or text.endswith("\n"), f"{path}: a line is cut"
    if path.suffix == ".jsonl":
        return [row_text(json.loads(line)) for line in text.splitlines()]
    found = list(csv.DictReader(io.StringIO(text)))
    assert all(row["community_id"] for row in found)
    return [row_text(row) for row in found]


def row_text(row: dict[str, Any]) -> str:
    """A row as text; `direction` is in the path of some."""
    return json.dumps({name: str(value) for name, value in row.items() if name != "direction"})


@dataclass
class Outcome:
    """Counts of a series of killed runs."""

    kills: int
    rows: int
    missing: int
    twice: int
    cut: int
    told: str

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.rows} rows: {self.missing} missing, {self.twice} twice or different, "
            f"{self.cut} files cut when killed"
        )


class Killed:
    """A run with `--follow --state` over a directory that grows, killed again and again."""

    def __init__(self, directory: Path, output: list[str], format: str, seed: int, kills: int) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self.spool, self.out = directory / "spool", directory / "out"
        for made in (self.spool, self.out):
            made.mkdir(parents=True)
        target = self.out / "day" if "--by" in output else self.out / f"day.{format}"
        self.state = directory / "open.state"
        self.arguments = [
            *(*COMMAND, "track", "--follow", str(self.spool), "--state", str(self.state)),
            *("-f", format, "-o", str(target), *output),
        ]
        self.format, self.random = format, random.Random(seed)
        self.packets = connections(kills * 100)
        self.written = self.files = self.cut = 0
        self.told = ""

    def grow(self) -> None:
        """Write further captures; each is written in two steps."""
        for _ in range(self.random.randrange(1, 3)):
            data = pcap_bytes(self.packets[self.written : self.written + PER_FILE])
            path = self.spool / f"{self.files:06}.pcap"
            path.write_bytes(data[: (half := self.random.randrange(24, len(data)))])
            with path.open("ab") as file:
                file.write(data[half:])
            self.written, self.files = self.written + PER_FILE, self.files + 1

    def published(self) -> Counter[str]:
        """The rows in all files with a name that says that they are complete."""
        found: Counter[str] = Counter()
        for path in sorted(self.out.rglob(f"*.{self.format}")):
            try:
                found.update(rows(path))
            except AssertionError:
                # A growing file: the restart takes the cut line back.
                assert "--by" not in self.arguments, path
                assert "--rotate" not in self.arguments, path
                self.cut += 1
                found.update(rows(whole_lines(path)))
        return found

    def kill(self, after: float) -> None:
        """Run, kill after so many seconds, and look at what is complete."""
        with subprocess.Popen(self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            time.sleep(after)
            process.kill()
            self.told += process.communicate()[1].decode()
        twice = [one for one, times in self.published().items() if times > 1]
        assert not twice, f"connections that are there twice: {twice[:5]}"

    def finish(self, kills: int) -> Outcome:
        """Run until everything is there, and compare with a run that nobody killed."""
        wanted = self.uninterrupted()
        for _ in range(20):
            self.told += ended(self.arguments, 3)
            found = self.published()
            if sum(found.values()) >= sum(wanted.values()):
                break
        return Outcome(
            kills, sum(wanted.values()), (wanted - found).total(), (found - wanted).total(), self.cut, self.told
        )

    def uninterrupted(self) -> Counter[str]:
        """The rows of one run over all files."""
        out = self.state.with_name("whole") / f"whole.{self.format}"
        out.parent.mkdir()
        state = self.state.with_name("whole.state")
        files = sorted(map(str, self.spool.iterdir()))
        options = ["--report", "closed", "--state", str(state), "-f", self.format, "-o", str(out)]
        subprocess.run([*COMMAND, "track", *options, *files], check=True, capture_output=True)
        return Counter(rows(out))


def ended(arguments: list[str], after: float) -> str:
    """Run, end by a signal after so many seconds, and return what was told."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        time.sleep(after)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0, errors
    return errors


def whole_lines(path: Path) -> Path:
    """A copy of a file, up to its last line's end."""
    data = path.read_bytes()
    copy = path.parent.parent / path.name
    copy.write_bytes(data[: data.rfind(b"\n") + 1])
    return copy


def run_killed(directory: Path, kills: int, output: list[str], format: str, seed: int) -> Outcome:
    """Kill a run so many times at random moments."""
    run = Killed(directory, output, format, seed, kills)
    for _ in range(kills):
        run.grow()
        # The program starts within some 0.5 s.
        run.kill(run.random.uniform(0.3, 1.5))
    return run.finish(kills)
