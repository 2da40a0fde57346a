"""README is true: its commands print the output shown, its Python runs, and its numbers were measured."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from support import page_examples
from support.program import ROOT, terminal

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block.text for block in page_examples.blocks(README, language)]


def test_commands_print_what_is_shown(here: Path) -> None:
    (block,) = blocks("console")
    shown = [
        (command, output) for command, output in page_examples.commands(block) if command.startswith("conntrack-py")
    ]
    assert len(shown) == 3
    for command, output in shown:
        printed = terminal(*shlex.split(command)[1:], cwd=here)
        assert page_examples.is_shown(output, printed), printed


def test_shell(here: Path) -> None:
    (block,) = blocks("sh")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block], env=os.environ | {"PATH": path}, capture_output=True, text=True, cwd=here
    )
    # Of this machine: the bound that the stream begins with.
    told = [line for line in done.stderr.splitlines() if not line.startswith(("live connections: at most", "wrote "))]
    assert (done.returncode, told) == (0, [])
    assert len(done.stdout.splitlines()) == 3
    made = {
        "connections.csv",
        "connections.parquet",
        "closed.csv",
        "conn.log",
        "summary.json",
        "labelled.pcapng",
        "report.html",
    }
    assert made <= {path.name for path in here.iterdir() if path.stat().st_size}


def test_policy_commands(here: Path) -> None:
    (block,) = blocks("bash")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in block.splitlines():
        done = subprocess.run(
            ["bash", "-c", command], env=os.environ | {"PATH": path}, capture_output=True, text=True, cwd=here
        )
        # The servers' egress waits for a decision: the check refuses it.
        refuses = "policy check" in command
        assert done.returncode == int(refuses), (command, done.stderr)
    made = {"policy.toml", "policy.yaml"}
    assert made <= {path.name for path in here.iterdir() if path.stat().st_size}


def test_python(here: Path) -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0


def test_numbers_are_measured() -> None:
    """Each pair of the speed table is in a row of benches/README.md: CPU seconds, and the ratio to conntrack_py."""
    measured = (ROOT / "benches" / "README.md").read_text()
    ((head, table),) = re.findall(r"^(\| CPU seconds.*)\n\|[-|]*\n((?:\|.*\n)+)", README, re.MULTILINE)
    captures = [cell.strip() for cell in head.split("|")[2:-1]]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
    assert len(rows) == 6
    for program, *cells in rows:
        for capture, cell in zip(captures, cells, strict=True):
            found = re.fullmatch(r"(\S+), \*\*(\S+)\*\*", cell)
            row = rf"^\| {capture} \| {re.escape(program)} \| {found[1]} \(.*\) \| {found[2]} \|" if found else ""
            assert cell == "–" or re.search(row, measured, re.MULTILINE), (capture, program, cell)
