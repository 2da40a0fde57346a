"""Connections and findings in the Elastic Common Schema: its names, types and words, and the facts of the table."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from support.program import run

#: Names of generated/ecs/ecs_flat.yml (elastic/ecs, version 8.12) that documents have, and their types.
FIELDS = {
    "@timestamp": "date",
    "ecs.version": "keyword",
    "message": "match_only_text",
    "tags": "keyword[]",
    "event.kind": "keyword",
    "event.category": "keyword[]",
    "event.type": "keyword[]",
    "event.action": "keyword",
    "event.module": "keyword",
    "event.dataset": "keyword",
    "event.start": "date",
    "event.end": "date",
    "event.duration": "long",
    "event.reason": "keyword",
    "network.type": "keyword",
    "network.iana_number": "keyword",
    "network.transport": "keyword",
    "network.direction": "keyword",
    "network.community_id": "keyword",
    "network.bytes": "long",
    "network.packets": "long",
    "network.vlan.id": "keyword",
    "related.ip": "ip[]",
} | {
    f"{end}.{name}": kind
    for end in ("source", "destination")
    for name, kind in (("address", "keyword"), ("ip", "ip"), ("port", "long"), ("bytes", "long"), ("packets", "long"))
}
#: Words that ECS allows there.
WORDS = {
    "event.kind": {"alert", "event"},
    "event.category": {"network"},
    "event.type": {"connection", "end", "info"},
    "network.direction": {"inbound", "outbound", "internal", "external", "unknown"},
    "network.type": {"ipv4", "ipv6"},
}
DIRECTIONS = {"egress": "outbound", "ingress": "inbound", "internal": "internal", "transit": "external"}


def flat(document: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and before + name != "conntrack_py":
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def is_of(kind: str, value: Any) -> bool:
    if kind.endswith("[]"):
        return isinstance(value, list) and all(is_of(kind[:-2], one) for one in value)
    if kind == "long":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "date":
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", value))
    return isinstance(value, str)


def check(document: dict[str, Any]) -> None:
    for name, value in flat(document):
        if name == "conntrack_py":
            continue
        assert is_of(FIELDS[name], value), (name, value)
        if name in WORDS:
            assert {*(value if isinstance(value, list) else [value])} <= WORDS[name], (name, value)


def documents(table: ct.ConnectionTable) -> list[dict[str, Any]]:
    memory = io.BytesIO()
    table.write(memory, "ecs")
    return [json.loads(line) for line in memory.getvalue().splitlines()]


@pytest.fixture(scope="module")
def table(demo_pcap: Path) -> ct.ConnectionTable:
    zones = {'the "office"\\ é\n': ["10.0.0.0/16"]}
    return ct.track(demo_pcap, config=ct.Config(zones=zones)).connections


def test_connections(table: ct.ConnectionTable) -> None:
    found = documents(table)
    assert len(found) == len(table)
    for document, row in zip(found, table, strict=True):
        check(document)
        source, destination, network = document["source"], document["destination"], document["network"]
        assert (source["ip"], destination["ip"]) == (row.orig_addr, row.resp_addr)
        assert (source["bytes"], destination["packets"]) == (row.orig_ip_bytes, row.resp_pkts)
        assert network["bytes"] == row.orig_ip_bytes + row.resp_ip_bytes
        assert network["direction"] == DIRECTIONS.get(row.direction, "unknown")
        assert (network["community_id"], network["iana_number"].isdecimal()) == (row.community_id, True)
        assert ("port" in source) == (row.proto in ("tcp", "udp", "sctp"))
        assert source.get("port", row.orig_port) == row.orig_port
        assert row.start is not None
        assert row.end is not None
        assert document["event"]["duration"] == row.end - row.start
        assert ("end" in document["event"]["type"]) == (row.end_reason not in ("end_of_capture", "evicted"))
        own = document["conntrack_py"]
        for name in ("direction", "state", "conn_state", "history", "evidence", "flipped", "orig_bytes", "assured"):
            assert own[name] == getattr(row, name), name
        assert own["confidence"] == pytest.approx(row.confidence)
        assert (own.get("orig_zone"), own.get("resp_zone")) == (row.orig_zone, row.resp_zone)
    assert any("orig_zone" in document["conntrack_py"] for document in found)


def test_the_program_writes_them(demo_pcap: Path, tmp_path: Path) -> None:
    done = run("track", "-f", "ecs", demo_pcap)
    assert [json.loads(line) for line in done.stdout.splitlines()] == documents(ct.track(demo_pcap).connections)
    streamed = run("track", "--stream", "-f", "ecs", demo_pcap)
    for line in streamed.stdout.splitlines():
        check(json.loads(line))
    ct.track(demo_pcap).connections.write(tmp_path / "by", "ecs", by="direction")
    assert {path.suffix for path in (tmp_path / "by").rglob("part-*")} == {".ndjson"}


def test_findings(demo_pcap: Path) -> None:
    done = run("summary", "--format", "ecs", demo_pcap)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    findings = json.loads(run("summary", "--json", demo_pcap).stdout)["findings"]
    assert len(found) == len(findings) > 0
    for document, finding in zip(found, findings, strict=True):
        check(document)
        assert document["event"]["kind"] == "alert"
        assert (document["source"]["ip"], document["destination"]["ip"]) == (finding["server"], finding["destination"])
        assert (document["tags"], document["event"]["start"]) == (finding["marks"], finding["first"])
    assert run("summary", "--format", "json", demo_pcap).stdout == run("summary", "--json", demo_pcap).stdout
    assert run("summary", "--format", "ecs", "--json", demo_pcap).returncode == 2
