"""JSON documents: a version, times as text, no number that a float rounds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py import schema
from support.program import run

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
COMMANDS = {
    "summary": ("summary", "--json", "CAPTURE"),
    "suggest": ("policy", "suggest", "--json", "CAPTURE"),
    "check": ("policy", "check", "--json", "POLICY", "CAPTURE"),
    "explain": ("policy", "explain", "--json", "POLICY", "CAPTURE"),
    "diff": ("policy", "diff", "--json", "POLICY", "POLICY"),
    "merge": ("policy", "merge", "--json", "POLICY", "CAPTURE"),
    "lint": ("policy", "lint", "--json", "POLICY"),
}


@pytest.fixture(scope="module")
def policy(demo_pcap: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    ct.Policy.suggest(demo_pcap).write(path)
    return path


def values(document: Any) -> Iterator[Any]:
    if isinstance(document, dict | list):
        for one in document.values() if isinstance(document, dict) else document:
            yield from values(one)
    else:
        yield document


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_documents(demo_pcap: Path, policy: Path, name: str) -> None:
    known = {"CAPTURE": demo_pcap, "POLICY": policy}
    done = run(*(known.get(word, word) for word in COMMANDS[name]))
    assert done.returncode in (0, 1), done.stderr
    document = json.loads(done.stdout)
    found = document if isinstance(document, list) else [document]
    assert {one["schema"] for one in found} <= {schema.SCHEMA_VERSION}
    assert all(next(iter(one)) == "schema" for one in found)
    for value in values(document):
        assert not isinstance(value, int) or abs(value) <= 2**53
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
            assert re.fullmatch(TIME, value), value


def test_log_lines_have_no_such_number(demo_pcap: Path) -> None:
    done = run("--json-log", "track", demo_pcap)
    for line in done.stderr.splitlines():
        found = json.loads(line)
        assert all(not isinstance(value, int) or abs(value) <= 2**53 for value in values(found))
        if found["event"] == "read":
            assert re.fullmatch(TIME, found["first_timestamp"])


def test_moments() -> None:
    assert schema.moment(0) == "1970-01-01T00:00:00.000000000Z"
    assert schema.moment(-1) == "1969-12-31T23:59:59.999999999Z"
    assert schema.moment(1_767_225_600_000_000_001) == "2026-01-01T00:00:00.000000001Z"
    assert (schema.moment((1 << 63) - 1), schema.moment(-(1 << 63)))[0] == "2262-04-11T23:47:16.854775807Z"
    assert schema.moment_or_none(None) is None


def test_numbers() -> None:
    facts = {"a": [2**53, 2**53 + 1, -(2**53), -(2**53) - 1], "b": (True, 1.5, None, "x"), "c": {"d": 2**64}}
    large = {"a": [2**53, "9007199254740993", -(2**53), "-9007199254740993"], "c": {"d": "18446744073709551616"}}
    assert json.loads(schema.dumps(facts)) == {"schema": 1, **large, "b": [True, 1.5, None, "x"]}


def test_times_of_a_policy_in_json_keep_their_nanoseconds(policy: Path) -> None:
    """A time of TOML is read to the microsecond."""
    first = policy.with_name("first.json")
    ct.Policy.load(policy).write(first)
    assert len(re.findall(TIME, first.read_text())) > 2
    shifted = re.sub(r"(\.\d{6})000Z", r"\g<1>789Z", first.read_text())
    assert shifted != first.read_text()
    other, again = policy.with_name("other.json"), policy.with_name("again.json")
    other.write_text(shifted)
    ct.Policy.load(other).write(again)
    assert again.read_text() == shifted


def test_labels_are_typed_as_present(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed; the extra `dev` has it")
    code = tmp_path / "labels.py"
    code.write_text(
        "import conntrack_py as ct\n"
        "labelled = ct.track('a', labels=True)\n"
        "labelled.labels['reply']\n"
        "plain = ct.track('a')\n"
        "reveal_type(plain.labels)\n"
        "table = plain.connections\n"
        "reveal_type(table[1:2])\n"
        "reveal_type(table[0])\n"
        "reveal_type(table['start'])\n"
        "reveal_type(table[['start']])\n"
        "reveal_type(table[table['start'] > table['end']])\n"
        "def either(labels: bool) -> None:\n"
        "    reveal_type(ct.track('a', labels=labels))\n"
    )
    root = Path(ct.__file__).parents[2]
    command = (sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "pyproject.toml"), str(code))
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    types = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert "error" not in done.stdout, done.stdout
    assert ("None" in types[0], types[1].rpartition(".")[2]) == (True, "ConnectionTable")
    assert [one.rpartition(".")[2] for one in types[4:]] == ["ConnectionTable", "ConnectionTable", "TrackResult"]
    assert ("Connection" in types[2], "ndarray" in types[3]) == (True, True)
