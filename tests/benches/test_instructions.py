"""The gate of instruction counts fails when counts rise and says what to do; stages add up to the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import instructions
from support.program import ROOT

SCRIPT = ROOT / "benches" / "instructions.py"
#: Instructions of a process before its first packet.
START = 1_000
#: In place of valgrind: counts as the capture says, the next one with every run, and prints what the program prints.
VALGRIND = """\
#!{python}
import json, os
name = os.path.realpath("trace.pcap")
text = open(name, "rb").read()
plan = {{"packets": 0, "totals": [0]}} if text.startswith(bytes.fromhex("d4c3b2a1")) else json.loads(text)
runs = open(name + ".runs", "a+")
runs.write(".")
total = {start} + plan["totals"][(runs.tell() - 1) % len(plan["totals"])]
open("profile", "w").write(f"fn=(1) main\\n1 {{total}}\\ntotals: {{total}}\\n")
print(plan["packets"], "packets, 7 rows")
"""
Gate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Runs the script on captures with these packets and instructions: `gate(A=(100, 5_000))`."""
    stub = tmp_path / "bin" / "valgrind"
    stub.parent.mkdir()
    stub.write_text(VALGRIND.format(python=sys.executable, start=START))
    stub.chmod(0o755)

    def run(
        *options: str, path: str = str(stub.parent), ci: bool = False, **counts: tuple[int, ...]
    ) -> subprocess.CompletedProcess[str]:
        captures = []
        for name, (packets, *totals) in counts.items():
            capture = tmp_path / f"{name}.json"
            capture.write_text(json.dumps({"packets": packets, "totals": totals}))
            captures.append(f"{name}={capture}")
        command = [sys.executable, str(SCRIPT), *captures, *options, "--program", sys.executable]
        environment = {**os.environ, "PATH": path, "CI": "true" if ci else ""}
        accepted = ["--accepted", str(tmp_path / "accepted.toml")]
        return subprocess.run([*command, *accepted], env=environment, capture_output=True, text=True, check=False)

    return run


def test_counts_are_of_packets_without_the_start_of_the_process(gate: Gate, tmp_path: Path) -> None:
    assert gate("--update", A=(100, 5_000)).returncode == 0
    assert instructions.read_accepted(tmp_path / "accepted.toml") == {"A": instructions.Count(100, 50.0)}


def test_more_instructions_fail_with_what_to_do(gate: Gate) -> None:
    gate("--update", A=(100, 5_000), mix=(100, 9_000))
    assert gate(A=(100, 5_000), mix=(100, 9_000)).returncode == 0
    # At most 5 % more, and any number less.
    assert gate(A=(100, 5_250), mix=(100, 9_000)).returncode == 0
    less = gate(A=(100, 5_000), mix=(100, 1_000))
    assert less.returncode == 0
    assert less.stderr.startswith("mix: fewer than accepted")
    more = gate(A=(100, 5_000), mix=(100, 9_460))
    assert more.returncode == 1
    found = "mix: found 94.6 instructions a packet (5.1% more than the accepted 90.0), expected 94.5 at most"
    assert more.stderr.startswith(found)
    assert "make bench-instructions UPDATE=1" in more.stderr
    assert "A:" not in more.stderr
    assert "| mix | 100 | 94.6 | 90.0 | +5.1% |" in more.stdout


def test_accepting_rewrites_the_counts_that_were_made(gate: Gate, tmp_path: Path) -> None:
    gate("--update", A=(100, 5_000), mix=(100, 9_000))
    assert gate("--update", mix=(100, 20_000)).returncode == 0
    assert gate(A=(100, 5_000), mix=(100, 20_000)).returncode == 0
    accepted = instructions.read_accepted(tmp_path / "accepted.toml")
    assert {name: one.instructions for name, one in accepted.items()} == {"A": 50.0, "mix": 200.0}


@pytest.mark.parametrize(
    ("accepted", "found", "words"),
    [
        ({}, (100, 5_000), "A: found 50.0 instructions a packet, expected an accepted count"),
        ({"A": (100, 5_000)}, (99, 4_950), "A: found 99 packets, expected 100: the capture is another one"),
        ({"A": (100, 5_000)}, (100, 5_000, 5_001), "A: found 6,000 and then 6,001 instructions, expected equal counts"),
    ],
    ids=["not accepted", "another capture", "two runs"],
)
def test_a_count_that_cannot_be_compared_fails(
    gate: Gate, accepted: dict[str, tuple[int, ...]], found: tuple[int, ...], words: str
) -> None:
    if accepted:
        gate("--update", **accepted)
    done = gate(A=found)
    assert (done.returncode, done.stderr[: len(words)]) == (1, words)


def test_what_is_absent_is_skipped_with_a_reason_and_fails_ci(gate: Gate, tmp_path: Path) -> None:
    gate("--update", A=(100, 5_000))
    nowhere = str(tmp_path / "nowhere")
    done = gate(path=nowhere, A=(100, 5_000))
    assert (done.returncode, done.stdout) == (
        0,
        "skipped counts of instructions: valgrind is not there; Debian: valgrind\n",
    )
    assert gate(path=nowhere, ci=True, A=(100, 5_000)).returncode == 1
    done = gate(f"mix={nowhere}", A=(100, 5_000))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"skipped mix: {nowhere} is not there")
    assert gate(f"mix={nowhere}", ci=True, A=(100, 5_000)).returncode == 1
    assert gate(ci=True, A=(100, 5_000)).returncode == 0


def test_the_gate_of_ci_has_its_accepted_counts() -> None:
    assert set(instructions.read_accepted(instructions.ACCEPTED)) == {"A", "mix", "retransmission"}


#: Calls: main → read, step, end; step → find, slow; read, find and slow → copy; sort → sort, in turn.
PROFILE = """\
# callgrind format
events: Ir

fl=(1) ???
fn=(1) main
0 5
cfn=(2) core::read
calls=1 0
0 130
cfn=(3) core::step
calls=2 0
* 480
cfn=(4) core::end
calls=1 0
+3 60

fn=(2)
10 100
cfi=(2) memory.c
cfn=(5) copy
calls=3 0
11 30

fn=(3)
1 200
fi=(3) inlined.rs
+2 20
cfn=(6) core::find
calls=2 0
-1 150
cfn=(7) core::slow
calls=1 0
0 110

fn=(6)
0 120
cfn=(5)
calls=1 0
0 30

fn=(7)
0 80
cfn=(5)
calls=2 0
0 30

fn=(5)
0 90

fn=(4)
0 20
cfn=(8) sort
calls=1 0
0 40

fn=(8)
0 10
cfn=(9) sort'2
calls=1 0
0 30

fn=(9)
0 30
cfn=(9)
calls=2 0
0 25

totals: 675
"""
STAGES = [
    ("read", ["core::read"]),
    ("index", ["*::find"]),
    ("slow path", ["*::slow"]),
    ("steps", ["core::st*"]),
    ("end", ["core::end"]),
    ("absent", ["core::nothing"]),
]


def test_stages_are_without_the_stages_that_they_call() -> None:
    profile = instructions.parse(iter(PROFILE.splitlines(keepends=True)))
    assert profile.total == sum(profile.own.values()) == 675
    assert profile.own["core::step"] == 220
    assert profile.calls["main", "core::step"] == 480
    found = instructions.by_stage(profile, STAGES)
    # A third of `copy` is each caller's; `sort` has nobody but the end.
    expected = {"read": 130, "index": 150, "slow path": 110, "steps": 220, "end": 60, "absent": 0, instructions.REST: 5}
    assert {stage: round(cost, 2) for stage, cost in found.items()} == expected
    assert instructions.unmatched(profile, STAGES) == ["absent"]


def test_levels_of_a_recursion_are_one_function() -> None:
    assert instructions.stage_of("sort'2", [("sorting", ["sort"])]) == "sorting"
    assert instructions.stage_of("sort", [("others", ["x*"]), ("sorting", ["s*t"]), ("later", ["*"])]) == "sorting"
    assert instructions.stage_of("sort", [("others", ["x*"])]) is None


def test_stages_are_printed_for_each_capture(gate: Gate) -> None:
    done = gate("--stages", A=(100, 5_000), mix=(100, 9_000))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "| instructions a packet | A | mix |"
    assert lines[2 : 2 + len(instructions.STAGES)] == [f"| {stage} | 0 | 0 |" for stage, _ in instructions.STAGES]
    assert lines[2 + len(instructions.STAGES) :][:2] == [f"| {instructions.REST} | 50 | 90 |", "| all | 50 | 90 |"]
    assert lines[-1].startswith("Stages without a function of their own")
