"""`conntrack-py nat`, and `--translations` of other commands."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

import pytest

import conntrack_py as ct
from conntrack_py.cli.gateway.nat import spread
from support.program import run as run_program
from support.translated import World, make

LOG = """\
[1767225600.100000]\t    [NEW] ipv4     2 tcp      6 120 SYN_SENT src=10.0.0.1 dst=203.0.113.5 sport=40000 dport=443 \
[UNREPLIED] src=203.0.113.5 dst=198.51.100.1 sport=443 dport=61000 id=1
[1767225600.200000]\t    [NEW] ipv4     2 tcp      6 120 SYN_SENT src=192.0.2.9 dst=198.51.100.1 sport=5000 dport=8080 \
[UNREPLIED] src=10.0.0.80 dst=192.0.2.9 sport=80 dport=5000 id=2
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, stdin: str = "", fails: bool = False) -> Done:
    done = run_program(*arguments, stdin=stdin.encode())
    assert fails or done.returncode == 0, done.stderr.decode()
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = make(World(3, connections=300, skew=0.5, forwarded=0.1, hairpin=0.05))
    return made.write(tmp_path_factory.mktemp("sides"))


def test_files_of_an_option_end_at_the_next_one() -> None:
    assert spread(["--inside", "a", "b", "-f", "csv", "--outside", "c", "-", "--limit", "3"]) == [
        *("--inside", "a", "--inside", "b", "-f", "csv"),
        *("--outside", "c", "--outside", "-", "--limit", "3"),
    ]


def test_csv_in_a_pipe(sides: tuple[Path, Path]) -> None:
    done = run("nat", "--inside", str(sides[0]), "--outside", str(sides[1]))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    found = ct.correlate(sides[0], sides[1])
    assert len(rows) == len(found.connections)
    assert sum(row["nat_orig_addr"] != "" for row in rows) == found.pairing.paired + found.pairing.hairpins


def test_tables(sides: tuple[Path, Path]) -> None:
    done = run("nat", "--inside", str(sides[0]), "--outside", str(sides[1]), "-f", "table", "--limit", "3")
    assert "198.51.0.1 hides 2 hosts" in done.stdout
    assert "Answered under another address" in done.stdout
    assert "The clock outside is 0.500" in done.stdout
    assert "--limit 0 shows all" in done.stdout


def test_json(sides: tuple[Path, Path]) -> None:
    done = run("nat", "--inside", str(sides[0]), "--outside", str(sides[1]), "-f", "json")
    found = json.loads(done.stdout)
    assert found["schema"] == 1
    assert {one["host"] for one in found["masked"][0]["hosts"]} == {"10.0.0.254", "10.0.0.1"}
    assert found["pairing"]["paired"] > 200
    assert {one["address"] for one in found["published"]} >= {"198.51.0.1:8443"}


def test_the_other_side(sides: tuple[Path, Path]) -> None:
    done = run(
        "nat", "--inside", str(sides[0]), "--outside", str(sides[1]), "--side", "outside", "--where", "proto == 'tcp'"
    )
    rows = [row for row in csv.DictReader(io.StringIO(done.stdout)) if row["nat_orig_addr"]]
    assert {row["proto"] for row in rows} == {"tcp"}
    masked = [row for row in rows if row["orig_addr"] == "198.51.0.1"]
    assert {row["nat_orig_addr"] for row in masked} == {"10.0.0.254", "10.0.0.1"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--inside", "a.pcap"], "neither --outside nor --memory"),
        (["--outside", "a.pcap"], "--inside"),
        (["--inside", "a.pcap", "--memory", "b", "--side", "outside"], "--side outside"),
    ],
)
def test_wrong_use(arguments: list[str], says: str) -> None:
    done = run("nat", *arguments, fails=True)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.fixture
def outside(tmp_path: Path) -> tuple[Path, Path]:
    """A capture outside of a gateway, and its log."""
    from support.packets import download, evenly, pcap_bytes

    frames = download("198.51.100.1", 61000, "203.0.113.5", 443) + download("192.0.2.9", 5000, "198.51.100.1", 8080)
    capture, log = tmp_path / "outside.pcap", tmp_path / "conntrack.log"
    capture.write_bytes(pcap_bytes(evenly(frames)))
    log.write_text(LOG)
    return capture, log


def test_summary_names_the_true_client(outside: tuple[Path, Path]) -> None:
    capture, log = map(str, outside)
    plain, known = run("summary", capture, "--no-names"), run("summary", capture, "--no-names", "--translations", log)
    assert "10.0.0.1" not in plain.stdout
    assert "10.0.0.1" in known.stdout
    assert "10.0.0.80" in known.stdout
    assert "198.51.100.1 hides 1 host" in known.stdout
    assert "Answered under another address" in known.stdout
    found = json.loads(run("summary", capture, "--json", "--translations", log).stdout)
    assert found["translations"]["masked"][0]["hosts"][0]["host"] == "10.0.0.1"
    assert {one["address"] for one in found["local_hosts"]["top"]["initiates"]} == {"10.0.0.1"}


def test_the_report_shows_what_the_gateway_hides(outside: tuple[Path, Path]) -> None:
    capture, log = map(str, outside)
    plain, known = run("report", capture, "-o", "-"), run("report", capture, "--translations", log, "-o", "-")
    assert "Behind the gateway" not in plain.stdout
    assert "Behind the gateway" in known.stdout
    assert "10.0.0.80:80" in known.stdout


def test_policies_are_about_the_true_client(outside: tuple[Path, Path]) -> None:
    capture, log = map(str, outside)
    made = run("policy", "suggest", capture, "--translations", log, "--to", "toml").stdout
    assert "10.0.0.80" in made
    assert "198.51.100.1" not in made
    done = run("policy", "check", "-", capture, "--translations", log, stdin=made, fails=True)
    assert done.returncode in (0, 1)


def test_revealed_rows(outside: tuple[Path, Path]) -> None:
    table = ct.reveal(ct.track(outside[0]).connections, outside[1])
    ends = [(row.orig_addr, row.orig_port, row.resp_addr, row.resp_port, row.direction) for row in table]
    assert ends == [
        ("10.0.0.1", 40000, "203.0.113.5", 443, "egress"),
        ("192.0.2.9", 5000, "10.0.0.80", 80, "ingress"),
    ]
    shown = [(row._asdict()["nat_orig_addr"], row._asdict()["nat_resp_addr"]) for row in table]
    assert shown == [("198.51.100.1", "203.0.113.5"), ("192.0.2.9", "198.51.100.1")]
    with pytest.raises(ct.ConntrackError, match="without translations"):
        ct.reveal(table, ct.track(outside[0]).connections)


def test_names_in_place_of_addresses_hide_the_other_side(outside: tuple[Path, Path]) -> None:
    table = ct.Anonymiser("a long secret").table(ct.reveal(ct.track(outside[0]).connections, outside[1]))
    assert not {"198.51.100.1", "203.0.113.5", "192.0.2.9"} & {*table["nat_orig_addr"], *table["nat_resp_addr"]}
