"""The comparison with other programs runs with those that are there, and says why others are not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from make_trace import write_trace

SCRIPT = ROOT / "benches" / "peers.py"
HEAD = ["| capture | program | CPU s: median (min to max of 1) | times conntrack_py | MiB |", "|---|---|---|---|---|"]
ROW = re.compile(
    r"\| tiny \| [^|]+ \| (\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\) \| \d+\.\d\d \| \d+|failed 1 of 1 times \| \|) \|"
)
OURS = ["", ", labels", ", threads=1", ", threads=2", ", inside the process", ", read and decode only"]
#: What gives each program.
PACKAGES = {
    "tcpdump -w /dev/null": "Debian: tcpdump",
    "softflowd": "Debian: softflowd",
    "nfpcapd": "Debian: nfdump",
    "argus": "Debian: argus-server",
    "nfstream": "PyPI: nfstream",
    "a dpkt loop": "PyPI: dpkt",
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "tiny.pcap"
    write_trace(path, 2_000, 100)
    return path


def compare(*arguments: object, path: str) -> tuple[list[str], list[str]]:
    """The reasons to skip, and the table."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments), "--rounds", "1"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    return [line for line in lines if line.startswith("skipped ")], [line for line in lines if line.startswith("|")]


def programs(table: list[str]) -> set[str]:
    return {line.split(" | ")[1] for line in table[2:]}


def test_every_program_is_measured_or_skipped(capture: Path, tmp_path: Path) -> None:
    output = tmp_path / "peers.md"
    skipped, table = compare(f"tiny={capture}", "--output", output, path=os.environ["PATH"])
    assert table[:2] == HEAD
    assert [line for line in table[2:] if not ROW.fullmatch(line)] == []
    assert output.read_text().splitlines() == table
    assert {f"conntrack_py{which}" for which in OURS} <= programs(table)
    assert not any("failed" in line for line in table if "conntrack_py" in line)
    named = {line.removeprefix("skipped ").split(":")[0] for line in skipped}
    assert programs(table) | named == {f"conntrack_py{which}" for which in OURS} | set(PACKAGES)


def test_what_is_absent_is_skipped_with_a_reason(capture: Path, tmp_path: Path) -> None:
    skipped, table = compare(f"tiny={capture}", "--python", tmp_path / "python", path=str(tmp_path))
    assert {line.split(":")[0].removeprefix("skipped "): line.split("; ")[1] for line in skipped} == PACKAGES
    assert all("is not there" in line for line in skipped)
    assert programs(table) == {f"conntrack_py{which}" for which in OURS}


def test_slow_ones_read_the_first_capture_alone(capture: Path) -> None:
    pytest.importorskip("dpkt")
    _, table = compare(f"tiny={capture}", f"again={capture}", path="")
    assert [line.split(" | ")[0] for line in table if "dpkt" in line] == ["| tiny"]
    assert sum(line.startswith("| again") for line in table) == len(OURS)
