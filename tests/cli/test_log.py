"""`--json-log`: what is said to people in words is said to programs as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py.cli.log import Steps
from support.program import interrupted, run


def said(*args: str | Path, status: int = 0, stdin: bytes = b"") -> list[dict[str, Any]]:
    """The objects on standard error of a run that ends so."""
    done = run(*args, stdin=stdin)
    assert done.returncode == status, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture
def damaged(demo_pcap: Path, tmp_path: Path) -> Path:
    """The demo capture, cut inside its last record."""
    path = tmp_path / "damaged.pcap"
    path.write_bytes(demo_pcap.read_bytes()[:-7])
    return path


@pytest.mark.parametrize("command", ["track", "track --stream", "summary", "label -o out.pcapng", "split -o parts"])
def test_the_account(command: str, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(damaged.parent)
    warning, account, *wrote = said(*command.split(), "--json-log", damaged)
    assert [one["event"] for one in wrote] == (["wrote"] if " -o " in command else [])
    assert (warning["level"], warning["event"]) == ("warning", "warning")
    assert "1 file that ends inside a record" in warning["message"]
    assert (account["level"], account["event"], account["packets"]) == ("info", "read", 4949)
    assert account["skipped"]["truncated_file"] == 1
    place = account["skipped_at"]["truncated_file"]
    assert place["file"] == str(damaged)
    assert 0 < place["offset"] < damaged.stat().st_size
    assert ("quality" in account) == ("--stream" not in command)


def test_the_account_is_that_of_the_library(demo_pcap: Path) -> None:
    (account,) = said("--json-log", "track", demo_pcap)
    stats = ct.track(demo_pcap).stats
    for name in ("packets", "bytes", "connections", "evicted", "peak_connections"):
        assert account[name] == getattr(stats, name), name
    for name in ("first_timestamp", "last_timestamp"):
        assert np.datetime64(account[name].removesuffix("Z"), "ns").view("i8") == getattr(stats, name), name


def test_errors_have_their_place(demo_pcap: Path, damaged: Path, tmp_path: Path) -> None:
    def error(*args: str | Path, stdin: bytes = b"") -> dict[str, Any]:
        *before, found = said(*args, status=2, stdin=stdin)
        # A stream without an end begins with its bound.
        assert [one["event"] for one in before] == (["bounds"] if "-" in args else [])
        assert (found["level"], found["event"], found["status"]) == ("error", "error", 2)
        return found

    strict = error("track", "--strict", "--json-log", damaged)
    assert (strict["kind"], strict["file"]) == ("CaptureError", str(damaged))
    assert strict["offset"] > 0
    assert strict["message"].startswith(str(damaged))
    missing = error("--json-log", "track", tmp_path / "none.pcap")
    assert (missing["kind"], missing["file"]) == ("FileNotFoundError", str(tmp_path / "none.pcap"))
    assert error("--json-log", "track", "-", stdin=b"no capture at all, but long enough")["file"] == "-"
    for wrong in (["track", "--json-log", "--no-such"], ["--json-log", "no-such"], ["track", "--json-log"]):
        assert "See 'conntrack-py" in error(*wrong)["message"]
    assert error("track", "--json-log", "--profile", "x", demo_pcap)["kind"] == "ConfigError"
    assert error("config", "--show", "--json-log", "--profile", "x")["kind"] == "ConfigError"


def test_a_file_may_be_called_so(demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("--json-log").write_bytes(demo_pcap.read_bytes())
    assert said("track", "--", "--json-log") == []


def test_progress_is_said_at_once_and_then_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    for done in range(1000):
        steps(done, None, done)
    first, *others = capsys.readouterr().err.splitlines()
    assert json.loads(first) == {"level": "info", "event": "progress", "bytes": 0, "total": None, "packets": 0}
    assert len(others) < 3


def test_policies(demo_pcap: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    account, report = said("policy", "suggest", "--json-log", "-o", policy, demo_pcap)
    assert (report["level"], report["event"]) == ("info", "report")
    assert isinstance(report["report"], dict)
    assert (account["event"], account["packets"]) == ("read", 4950)
    assert all(
        one["event"] == "warning" for one in said("policy", "convert", "--json-log", policy, "--to", "kubernetes")
    )
    assert said("policy", "--json-log", "check", policy, demo_pcap, status=1) == [account]


def test_progress_of_a_stream(demo_pcap: Path) -> None:
    progress, account = said("track", "--stream", "--progress", "--json-log", demo_pcap)
    assert (progress["event"], progress["total"], account["packets"]) == ("progress", None, 4950)
    assert 0 < progress["packets"] <= 4950


def test_ctrl_c(demo_pcap: Path) -> None:
    """It is an event, not the end of a line; the pipe is read into a table, which is no stream."""
    errors = interrupted("--json-log", "track", "--no-stream", "-", stdin=demo_pcap.read_bytes())
    found = json.loads(errors)
    assert (found["level"], found["event"], found["status"], found["total"]) == ("error", "interrupted", 130, None)
    assert found["bytes"] == demo_pcap.stat().st_size
    assert 0 < found["packets"] <= 4950
