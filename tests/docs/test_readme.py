"""README says what is true: its commands print what it shows, its Python does what it says, its tables are whole."""

from __future__ import annotations

import dataclasses
import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import conntrack_py as ct
from support import page_examples
from support.program import ROOT, terminal

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block.text for block in page_examples.blocks(README, language)]


def first_cells(heading: str) -> list[str]:
    """The code words of the first cells of the table under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return [word for cell in cells for word in re.findall(r"`(\w+)`", cell)]


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
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3 + 2
    made = {
        "connections.csv",
        "connections.parquet",
        "connections.jsonl",
        "conn.log",
        "summary.json",
        "labelled.pcapng",
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
    made = {"policy.toml", "rules.nft", "check.sarif", "policy.yaml", "web.nft"}
    assert made <= {path.name for path in here.iterdir() if path.stat().st_size}


def test_policy_example(here: Path) -> None:
    block = next(block for block in blocks("text") if "[groups.web]" in block)
    (here / "example.toml").write_text(block)
    assert list(ct.Policy.load("example.toml").groups) == ["web", "office"]


def test_python(here: Path) -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0


def test_toml(here: Path) -> None:
    (block,) = blocks("toml")
    (here / "c.toml").write_text(block)
    config = ct.Config.load("c.toml")
    assert set(config.zones) == set(tomllib.loads(block)["zones"])


def test_columns_are_all_described() -> None:
    assert first_cells("Columns") == list(ct.Connection._fields)


def test_keys_are_all_described() -> None:
    assert first_cells("Configuration") == [field.name for field in dataclasses.fields(ct.Config)]


def test_completion_is_described() -> None:
    assert "_CONNTRACK_PY_COMPLETE=bash_source" in README
