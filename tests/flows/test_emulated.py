"""Flow logs made of captures: who initiated against packets, the order of lines, policies, hostile input."""

from __future__ import annotations

import dataclasses
import gzip
import io
import random
import warnings
from functools import cache
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from support import corpus, flow_logs, program

#: Captures with more packets are left out: the test has seconds.
_MOST_PACKETS = 3_000


def read(data: str | bytes, kind: str | None = None) -> ct.ConnectionTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.FlowWarning)
        return ct.read_flows(io.BytesIO(data if isinstance(data, bytes) else data.encode()), kind)


def zeek(name: str) -> bytes:
    """A conn.log with Zeek's own choice of the originator."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct.track(corpus.CORPUS / "pcaps" / name, config=ct.Config(profile="zeek")).connections.write(out, "zeek")
    return out.getvalue()


@cache
def captures() -> list[tuple[str, list[flow_logs.Packet], flow_logs.Known]]:
    found = []
    for path in sorted((corpus.CORPUS / "pcaps").iterdir()):
        try:
            packets = flow_logs.packets(path)
        except ct.ConntrackError:
            continue
        if 0 < len(packets) <= _MOST_PACKETS:
            found.append((path.name, packets, flow_logs.truth(path)))
    return found


LOGS = ["aws 60", "aws 600", "aws 60 one-sided", "aws 60 without flags", "netflow 60", "zeek 0"]


@pytest.mark.parametrize("log", LOGS)
def test_who_initiated(log: str) -> None:
    kind, seconds, *how = log.split()
    score = flow_logs.Score()
    if not (corpus.CORPUS / "pcaps").is_dir():
        corpus.missing("the corpus is not beside the checkout")
    for name, packets, known in captures():
        some = list(flow_logs.one_sided(packets, 1)) if "one-sided" in how else packets
        if kind == "aws":
            table = read(flow_logs.aws(some, int(seconds), flags="without" not in how), "aws")
        elif kind == "netflow":
            table = read(flow_logs.netflow_5(some, int(seconds)), "netflow")
        else:
            table = read(zeek(name), "zeek")
        flow_logs.compare(name, table, known, score)
    assert score.sure >= 100
    assert len(score.sure_and_wrong) <= 0.002 * score.sure, score.sure_and_wrong
    assert not score.wrong.get("tcp syn")
    assert not score.wrong.get("tcp syn_ack")


def test_neither_the_order_of_lines_nor_of_files_matters(tmp_path: Path, demo_pcap: Path) -> None:
    packets = flow_logs.packets(demo_pcap)
    texts = [flow_logs.aws(packets, 10, seed=seed, interface="eni-1") for seed in (1, 2)]
    one, other = map(read, texts)
    assert one == other
    head, *lines = texts[0].splitlines()
    folder = tmp_path / "2026" / "01"
    folder.mkdir(parents=True)
    for number in range(3):
        part = "\n".join([head, *lines[2 - number :: 3]]) + "\n"
        (folder / f"{number}.log.gz").write_bytes(gzip.compress(part.encode()))
    (folder / ".hidden").write_text("nothing")
    assert ct.read_flows(tmp_path) == one
    assert ct.read_flows(str(folder / "*.gz")) == one


def test_a_url_is_read_with_all_files_below(demo_pcap: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    text = flow_logs.aws(flow_logs.packets(demo_pcap))
    head, *lines = text.splitlines()
    for number in range(2):
        part = "\n".join([head, *lines[number::2]])
        fsspec.filesystem("memory").pipe(f"/logs/2026/{number}.log.gz", gzip.compress(part.encode()))
    assert ct.read_flows("memory://logs/") == read(text)
    assert ct.read_flows("memory://logs/2026/*.gz") == read(text)
    with pytest.raises(FileNotFoundError):
        ct.read_flows("memory://logs/*.zst")


def test_the_policy_of_flow_logs_is_that_of_packets_but_for_what_flags_cannot_tell(demo_pcap: Path) -> None:
    def rules(policy: Policy) -> set[str]:
        found = set()
        for rule in policy.numbered():
            plain = dataclasses.replace(rule.rule, evidence=None, names=())
            found.add(f"{rule.group} {rule.side} {plain}")
        return found

    packets = flow_logs.packets(demo_pcap)
    ours, theirs = (
        rules(Policy.suggest(table)) for table in (read(flow_logs.aws(packets)), ct.track(demo_pcap).connections)
    )
    assert ours < theirs
    # No flags: the echo, of which AWS has no type, and NTP between equal ports within a second.
    missing = sorted(theirs - ours)
    assert len(theirs) == 8
    assert len(missing) == 2
    assert {"proto='udp', ports=((123, 123),)", "proto='icmp'"} == {
        word for word in ("proto='udp', ports=((123, 123),)", "proto='icmp'") for one in missing if word in one
    }


def test_a_policy_sees_what_was_refused(demo_pcap: Path) -> None:
    accepted = flow_logs.aws(flow_logs.packets(demo_pcap))
    refused = accepted.replace(" ACCEPT ", " REJECT ")
    table = read(refused)
    assert set(table["refused"]) <= {"resp", "orig"}
    assert Policy.suggest(table).report.left_out["refused"] > 0
    assert Policy.suggest(table).report.kept == 0


def test_ipfix_of_our_own_writer_comes_back(tmp_path: Path, demo_pcap: Path) -> None:
    table = ct.track(demo_pcap).connections
    table.write(tmp_path / "demo.ipfix")
    back = ct.read_flows(tmp_path / "demo.ipfix")
    names = [
        "proto",
        "orig_addr",
        "orig_port",
        "resp_addr",
        "resp_port",
        "orig_pkts",
        "resp_pkts",
        "orig_ip_bytes",
        "resp_bytes",
    ]
    assert sorted(map(tuple, back[names])) == sorted(map(tuple, table[names]))
    assert set(back["evidence"]) <= {"logged", "icmp_request"}
    assert back["start"].astype("datetime64[ms]").tolist() == table["start"].astype("datetime64[ms]").tolist()


@pytest.mark.parametrize("seed", range(3))
def test_damaged_logs_are_counted_or_refused_and_nothing_else(seed: int, demo_pcap: Path) -> None:
    chance = random.Random(seed)
    packets = flow_logs.packets(demo_pcap)
    table = ct.track(demo_pcap).connections
    zeek, ipfix = io.BytesIO(), io.BytesIO()
    table.write(zeek, "zeek")
    table.write(ipfix, "ipfix")
    eve = b'{"event_type":"flow","src_ip":"1.2.3.4","dest_ip":"5.6.7.8","proto":"TCP","flow":{"start":"2026"}}\n' * 9
    azure = b'{"records":[{"flowRecords":{"flows":[{"flowGroups":[{"flowTuples":["1,2,3,4,5,6,7,8"]}]}]}}]}'
    logs = {
        "aws": flow_logs.aws(packets).encode(),
        "netflow": flow_logs.netflow_5(packets),
        "zeek": zeek.getvalue(),
        "suricata": eve,
        "azure": azure,
        "conntrack": b"tcp 6 9 CLOSE src=1.2.3.4 dst=5.6.7.8 sport=1 dport=2 src=5.6.7.8 dst=1.2.3.4 sport=2 dport=1\n"
        * 5,
    }
    for kind, data in [*logs.items(), ("netflow", ipfix.getvalue())]:
        for _ in range(40):
            bad = bytearray(data)
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(bad))
                bad[at : at + chance.choice((0, 1, 9))] = chance.randbytes(chance.choice((0, 1, 4)))
            try:
                read(bytes(bad[: chance.randrange(len(bad))]), kind)
            except ct.FlowError:
                continue


def test_the_command_line(tmp_path: Path, demo_pcap: Path) -> None:
    path, out = tmp_path / "flow.log", tmp_path / "out.parquet"
    path.write_text(flow_logs.aws(flow_logs.packets(demo_pcap)))
    run = program.run("flows", path, "-f", "jsonl", "--where", 'evidence == "syn" and records >= 2')
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(b'"evidence":"syn"') == run.stdout.count(b"\n") > 5
    assert program.run("flows", "--kind", "aws", path, "-o", out).returncode == 0
    assert out.stat().st_size > 1_000
    for command in (["summary"], ["policy", "suggest"]):
        for flows in (["--flows", "aws", path], ["--flows", path], [path, "--flows"]):
            run = program.run(*command, *flows)
            assert run.returncode == 0, run.stderr
    policy = tmp_path / "policy.toml"
    assert program.run("policy", "suggest", "--flows", path, "-o", policy).returncode == 0
    check = program.run("policy", "check", policy, "--flows", "aws", path, "--fail-on", "never")
    assert b"flow logs have no packets" in check.stderr
    assert check.returncode == 0, check.stderr
    assert program.run("policy", "lint", policy, "--flows", path, "--fail-on", "never").returncode == 0
    assert program.run("report", "--flows", path, "-o", tmp_path / "report.html").returncode == 0
    assert program.run("flows", tmp_path / "none.log").returncode == 2
    gateway = tmp_path / "conntrack.txt"
    gateway.write_text("udp 17 9 src=10.0.0.5 dst=8.8.8.8 sport=9 dport=53 src=8.8.8.8 dst=10.0.0.5 sport=53 dport=9\n")
    run = program.run("summary", "--flows", "conntrack", gateway, "--json")
    assert (run.returncode, b'"unanswered": 0' in run.stdout) == (0, True), run.stderr
    assert program.run("report", "--flows", gateway, "-o", tmp_path / "report.html").returncode == 0
    bare = tmp_path / "bare.log"
    bare.write_text("\n".join(path.read_text().splitlines()[1:]))
    names = path.read_text().splitlines()[0]
    assert program.run("flows", bare).returncode == 2
    assert program.run("flows", bare, "--fields", names).returncode == 0
    assert program.run("flows", bare, path, "--on-error", "skip").returncode == 3
