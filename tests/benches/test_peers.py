"""The comparison with other programs runs with those that are there, and says why others are left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from make_trace import write_trace
from support.program import ROOT

SCRIPT = ROOT / "benches" / "peers.py"
HEAD = ["| capture | program | CPU s: median (min to max of 1) | times conntrack_py | MiB |", "|---|---|---|---|---|"]
ROW = re.compile(r"\| tiny \| [^|]+ \| (\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\) \| \d+\.\d\d \| \d+|failed \| \|) \|")
OVERVIEW = ["| CPU seconds, times conntrack_py | tiny |", "|---|---|"]
OVERVIEW_ROW = re.compile(r"\| [^|]+ \| (\d+\.\d\d, \*\*\d+\.\d\d\*\*|failed) \|")
OURS = ["", ", labels", ", threads=1", ", threads=2", ", inside the process", ", read and decode only"]
#: The package that provides each program.
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


class Printed(NamedTuple):
    """Lines of what was printed."""

    skipped: list[str]
    overview: list[str]
    detail: list[str]
    #: The overview of the captures after `--more`.
    more: list[str]
    failures: list[str]

    def programs(self, capture: str = "") -> set[str]:
        return {line.split(" | ")[1] for line in self.detail[2:] if line.startswith(f"| {capture}")}


def compare(*arguments: object, path: str) -> Printed:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments), "--rounds", "1"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    overview, *blocks = (block.splitlines() for block in done.stdout.split("\n\n"))
    skipped = [line for line in overview if line.startswith("skipped ")]
    detail = next(block for block in blocks if block[0] == HEAD[0])
    place = blocks.index(detail)
    more, failures = ([line for block in part for line in block] for part in (blocks[:place], blocks[place + 1 :]))
    overview = [line for line in overview if line not in skipped]
    return Printed(skipped, overview, detail, more, failures)


def test_every_program_is_measured_or_skipped(capture: Path, tmp_path: Path) -> None:
    output = tmp_path / "peers.md"
    printed = compare(f"tiny={capture}", "--output", output, path=os.environ["PATH"])
    assert (printed.overview[:2], printed.detail[:2]) == (OVERVIEW, HEAD)
    assert [line for line in printed.overview[2:] if not OVERVIEW_ROW.fullmatch(line)] == []
    assert [line for line in printed.detail[2:] if not ROW.fullmatch(line)] == []
    assert output.read_text().splitlines() == [*printed.overview, "", *printed.detail]
    ours = {f"conntrack_py{which}" for which in OURS}
    assert not any("failed" in line for line in printed.detail if "conntrack_py" in line)
    named = {line.removeprefix("skipped ").split(":")[0] for line in printed.skipped}
    assert ours <= printed.programs()
    assert printed.programs() | named == ours | set(PACKAGES)


def test_what_is_absent_is_skipped_with_a_reason(capture: Path, tmp_path: Path) -> None:
    printed = compare(f"tiny={capture}", "--python", tmp_path / "python", path=str(tmp_path))
    assert {line.split(":")[0].removeprefix("skipped "): line.split("; ")[1] for line in printed.skipped} == PACKAGES
    assert all("is not there" in line for line in printed.skipped)
    assert printed.programs() == {f"conntrack_py{which}" for which in OURS}


def test_slow_ones_read_the_first_capture_alone(capture: Path) -> None:
    pytest.importorskip("dpkt")
    printed = compare(f"tiny={capture}", f"again={capture}", path="")
    assert [line.split(" | ")[0] for line in printed.detail if "dpkt" in line] == ["| tiny"]
    assert [line.split(" | ")[2] for line in printed.overview if "dpkt" in line] == ["– |"]
    assert sum(line.startswith("| again") for line in printed.detail) == len(OURS)


def test_more_captures_have_a_table_of_their_own(capture: Path) -> None:
    printed = compare(f"tiny={capture}", "--more", f"clean={capture}", f"mix={capture}", path=os.environ["PATH"])
    assert printed.overview[0] == OVERVIEW[0]
    assert [line.split(" | ")[0] for line in printed.more[2:]] == ["| clean", "| mix"]
    named = printed.more[0].removeprefix("| CPU seconds, times conntrack_py | ").removesuffix(" |").split(" | ")
    absent = {line.removeprefix("skipped ").split(":")[0] for line in printed.skipped}
    written_in_c = {name for name, package in PACKAGES.items() if package.startswith("Debian")}
    assert set(named) == {"conntrack_py", "conntrack_py, threads=1"} | (written_in_c - absent)
    assert printed.programs("clean") == printed.programs("mix") == set(named)


def test_a_program_that_fails_on_a_capture_is_skipped_with_a_reason(capture: Path, tmp_path: Path) -> None:
    for name, command in {"softflowd": "kill -SEGV $$", "argus": "exit 3", "tcpdump": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    output = tmp_path / "peers.md"
    printed = compare(f"tiny={capture}", "--more", f"mix={capture}", "--output", output, path=str(tmp_path))
    reasons = {"softflowd": "ended by signal 11 (Segmentation fault)", "argus": "exit status 3"}
    assert printed.failures == [
        f"skipped {program} on {where}: {why}" for where in ("tiny", "mix") for program, why in reasons.items()
    ]
    assert [line for line in printed.overview if "failed" in line] == ["| softflowd | failed |", "| argus | failed |"]
    assert printed.more[2].count(" failed ") == 2
    assert "| mix | argus | failed | | |" in printed.detail
    assert output.read_text().splitlines()[-4:] == printed.failures


def test_a_capture_that_is_absent_is_skipped_and_fails_ci(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "")
    nowhere = tmp_path / "mix.pcap"
    printed = compare(f"tiny={capture}", "--more", f"mix={nowhere}", path="")
    assert printed.skipped[-1] == f"skipped mix: {nowhere} is not there"
    assert printed.more == []
    monkeypatch.setenv("CI", "true")
    with pytest.raises(subprocess.CalledProcessError):
        compare(f"tiny={capture}", "--more", f"mix={nowhere}", path="")
