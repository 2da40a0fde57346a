"""`profile="zeek"` and `format="zeek"` against the conn.logs of Zeek's own tests, connection by connection.

Each test of Zeek's is tracked with its settings and written as a conn.log, which is read as `zeek-cut` reads it. What is
not equal is a row of `docs/differences.md` (oracle `zeek-profile`), or a failure.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

import conntrack_py as ct
from conftest import ACK, SYN, download, evenly, pcap_bytes, tcp, udp
from corpus import SUMMARY, Capture, Expectation, address, captures, require
from differences import Difference, end_text, listed, settle

ORACLE = "zeek-profile"
#: Tests whose Zeek told connections apart by another key.
_OTHER = ("vlan-in-key", "custom-conn-key")
#: Columns of the log and what the corpus calls them.
_COLUMNS = {
    "conn_state": "conn_state",
    "history": "history",
    "orig_pkts": "orig_pkts",
    "resp_pkts": "resp_pkts",
    "orig_ip_bytes": "orig_ip_bytes",
    "resp_ip_bytes": "resp_ip_bytes",
    "orig_bytes": "orig_payload_bytes",
    "resp_bytes": "resp_payload_bytes",
    "duration": "duration",
    "missed_bytes": "missed_bytes",
    "local_orig": "local_orig",
    "local_resp": "local_resp",
}
#: What an expectation must be trusted for, for a column to count.
_TRUST = {
    **{"conn_state": "conn_state", "history": "history", "duration": "duration", "missed_bytes": "bytes"},
    **{"orig_pkts": "packets", "resp_pkts": "packets", "orig_ip_bytes": "ip_bytes", "resp_ip_bytes": "ip_bytes"},
    **{"orig_bytes": "bytes", "resp_bytes": "bytes", "local_orig": "local", "local_resp": "local"},
}
#: Columns that Zeek leaves unset on purpose.
_UNSET = ("history", "duration")
#: What Zeek 8 takes for private (`Site::private_address_space`), and therefore for local.
_PRIVATE = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/24"),
    *("239.0.0.0/8", "240.0.0.0/4", "::/128", "::1/128", "2001::/23", "2001:db8::/32", "fc00::/7", "fe80::/10"),
]
_TRANSPORTS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}


def cut(log: str) -> list[dict[str, str]]:
    """The rows of a log by column, as `zeek-cut` finds them: by the header lines alone."""
    head = {line.split(None, 1)[0]: line for line in log.splitlines() if line.startswith("#")}
    separator = head["#separator"].split(" ", 1)[1].encode().decode("unicode_escape")
    names = head["#fields"].split(separator)[1:]
    assert len(head["#types"].split(separator)) == len(names) + 1
    rows = [line.split(separator) for line in log.splitlines() if not line.startswith("#")]
    return [dict(zip(names, row, strict=True)) for row in rows]


def conn_log(source: str | bytes, **config: Any) -> list[dict[str, str]]:
    """Track a file, or the bytes of one, and read back its log."""
    log = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        ct.track(opened, config=ct.Config(**config)).connections.write(log, format="zeek")
    return cut(log.getvalue().decode())


def shown(value: Any) -> str:
    """A value of the corpus as the log writes it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "T" if value else "F"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def ends(row: dict[str, str]) -> tuple[tuple[str, int], tuple[str, int]]:
    return (
        (address(row["id.orig_h"]), int(row["id.orig_p"])),
        (address(row["id.resp_h"]), int(row["id.resp_p"])),
    )


def differences(capture: Capture, expectation: Expectation, numbers: Counter[str]) -> Iterable[Difference]:
    """Every connection of the expectation beside the nearest of ours with the same ends."""
    config: dict[str, Any] = {"profile": "zeek", "tunnels": "both", "checksum": expectation.checksum}
    if expectation.bare:
        config["likely_server_ports"] = expectation.likely_server_ports
    config["local"] = [*_PRIVATE, *re.findall(r"[0-9.]+/[0-9]+", expectation.local_nets or "")]
    left = conn_log(str(capture.path), **config)
    for expected in expectation.connections:
        wanted = {
            column: shown(expected.fields.get(name))
            for column, name in _COLUMNS.items()
            if _TRUST[column] in expectation.trusted and (expected.fields.get(name) is not None or column in _UNSET)
        }
        pair = {expected.orig, expected.resp}
        kind = _TRANSPORTS.get(expected.proto or 0, "unknown_transport")
        same = [row for row in left if set(ends(row)) == pair and (expected.proto is None or row["proto"] == kind)]
        name = f"{expected.proto or 'any'} {end_text(expected.orig)} {end_text(expected.resp)}"

        def equal(row: dict[str, str], wanted: dict[str, str] = wanted, orig: Any = expected.orig) -> int:
            return sum(row[column] == value for column, value in wanted.items()) + (ends(row)[0] == orig)

        if not same:
            yield (capture.name, ORACLE, name, "connection", "absent", "present")
            continue
        ours = max(same, key=equal)
        left.remove(ours)
        numbers["connections"] += 1
        numbers["originators"] += ends(ours)[0] == expected.orig
        if ends(ours)[0] != expected.orig:
            yield (capture.name, ORACLE, name, "originator", end_text(ends(ours)[0]), end_text(expected.orig))
        for column, value in wanted.items():
            kind = column if column in ("conn_state", "history", "duration") else "sums"
            numbers[kind] += 1
            numbers[f"{kind} equal"] += ours[column] == value
            if ours[column] != value:
                yield (capture.name, ORACLE, name, column, ours[column], value)
    if expectation.complete:
        for row in left:
            orig, resp = ends(row)
            yield (capture.name, ORACLE, f"{row['proto']} {end_text(orig)} {end_text(resp)}", "connection", "present", "absent")


def test_zeeks_own_tests() -> None:
    """As Zeek has it, but for what docs/differences.md explains."""
    require()
    numbers: Counter[str] = Counter()
    found: set[Difference] = set()
    for capture in captures():
        for expectation in capture.expectations:
            if expectation.log == "conn.log" and not any(c.startswith(_OTHER) for c in expectation.caveats):
                numbers["tests"] += 1
                found.update(differences(capture, expectation, numbers))
    kinds = ("conn_state", "history", "duration", "sums")
    equal = ", ".join(f"{kind} {numbers[f'{kind} equal']} of {numbers[kind]}" for kind in kinds)
    SUMMARY.append(
        f"profile zeek: {numbers['tests']} tests of Zeek's, originators {numbers['originators']} of "
        f"{numbers['connections']}, {equal}"
    )
    assert numbers["originators"] == numbers["connections"]
    settle(found, {row for row in listed() if row[1] == ORACLE})
