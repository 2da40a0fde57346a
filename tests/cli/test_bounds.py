"""Bounds of input without an end: the default, its line, the options, and what is said at the first eviction."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from conntrack_py.cli import bounds
from support.packets import download, evenly, flood, pcap_bytes
from support.program import COMMAND


def piped(capture: bytes, *options: str) -> tuple[str, list[dict[str, object]]]:
    """Rows and log of `track -`."""
    command = [*COMMAND, "track", "-", "--json-log", *options]
    run = subprocess.run(command, input=capture, capture_output=True, check=True)
    return run.stdout.decode(), [json.loads(line) for line in run.stderr.splitlines()]


CAPTURE = pcap_bytes(evenly([*download("10.0.0.5", 40000, "192.0.2.80", 443)[:12], *flood(3000)]))


def test_the_default_is_a_quarter_of_the_memory() -> None:
    """The line comes first, and without an eviction the rows are those of a run without a bound."""
    rows, log = piped(CAPTURE)
    assert (log[0]["event"], log[0]["max_connections"]) == ("bounds", None)
    assert log[0]["memory_limit"] == bounds.memory() // 4
    free, said = piped(CAPTURE, "--memory-limit", "none")
    assert (said[0]["memory_limit"], said[0]["max_connections"]) == (None, None)
    assert rows == free
    assert [one["event"] for one in log] == ["bounds", "read"]


@pytest.mark.parametrize(
    ("options", "bound"),
    [(("--max-connections", "50"), "max_connections"), (("--memory-limit", "1M"), "memory_limit")],
)
def test_the_first_eviction_is_told_at_once(options: tuple[str, str], bound: str) -> None:
    capture = pcap_bytes(evenly([*download("10.0.0.5", 40000, "192.0.2.80", 443)[:12], *flood(12_000)]))
    rows, log = piped(capture, *options)
    assert [one["event"] for one in log] == ["bounds", "warning", "warning", "read"]
    assert f"{bound} is hit" in str(log[1]["message"])
    assert "from here on" in str(log[1]["message"])
    evicted = log[-1]["evicted"]
    assert log[-1]["evicted_by"] == {bound: evicted}
    assert rows.count(",evicted,") == evicted
    assert rows.count("\n") == 1 + 12_001


def test_the_warning_does_not_wait_for_the_end() -> None:
    """While the pipe is open."""
    command = [*COMMAND, "track", "-", "--max-connections", "50"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(CAPTURE)
        process.stdin.flush()
        lines = [process.stderr.readline().decode() for _ in range(2)]
        process.stdin.close()
        process.stderr.read()
    assert lines[0].startswith("live connections: at most 50 connections")
    assert "max_connections is hit: 50 of 50 connections" in lines[1]


def test_the_bound_of_a_state_may_change(tmp_path: Path) -> None:
    """A resumed run has the bounds of its own options; the table shrinks as connections begin."""
    state = str(tmp_path / "state")
    piped(CAPTURE, "--state", state)
    rows, log = piped(CAPTURE, "--state", state, "--max-connections", "100", "--last")
    assert log[0]["max_connections"] == 100
    assert rows.count("\n") > 2_000


def test_files_have_no_bound(tmp_path: Path) -> None:
    """Nothing is said of bounds, with or without a stream."""
    path = tmp_path / "a.pcap"
    path.write_bytes(CAPTURE)
    for options in ((), ("--stream",)):
        run = subprocess.run([*COMMAND, "track", str(path), *options], capture_output=True, check=True)
        assert run.stderr == b""


def test_memory_is_that_of_the_control_group(tmp_path: Path) -> None:
    """The least of the groups on the way to the root, of both versions; `max` and absent files are no limits."""
    for name, text in {
        "memory.max": "max",
        "a/memory.max": "5000000",
        "a/b/memory.max": "max",
        "memory/c/memory.limit_in_bytes": "4000000",
    }.items():
        path = tmp_path / "control" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    groups = tmp_path / "cgroup"
    groups.write_text("4:cpu,memory:/c\n3:cpu:/a\n0::/a/b\n")
    assert sorted(bounds._control_groups(str(groups), str(tmp_path / "control"))) == [4_000_000, 5_000_000]
    assert list(bounds._control_groups(str(tmp_path / "none"), str(tmp_path))) == []
    assert 0 < bounds.memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
