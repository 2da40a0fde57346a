"""Connections that a service announces to the helper of its rule: judged as allowed, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from support import program
from support.packets import ACK, PSH, SYN, download, evenly, pcap_bytes, tcp

CLIENT, SERVER = "10.0.1.1", "10.0.0.80"
PASSIVE, ACTIVE, LOW, SILENT = 51210, 51220, 900, 51999


def frames() -> list[bytes]:
    """A session of FTP with passive and active data, data to a port of services, and a connection that is not told."""
    said = [(SERVER, b"220 ready\r\n")]
    for port in (PASSIVE, LOW):
        said += [
            (CLIENT, b"PASV\r\n"),
            (SERVER, f"227 Entering Passive Mode (10,0,0,80,{port >> 8},{port & 255})\r\n".encode()),
        ]
    said += [(CLIENT, f"PORT 10,0,1,1,{ACTIVE >> 8},{ACTIVE & 255}\r\n".encode()), (SERVER, b"200 ok\r\n")]
    found = [
        tcp(CLIENT, 40021, SERVER, 21, SYN, 5),
        tcp(SERVER, 21, CLIENT, 40021, SYN | ACK, 90, 6),
        tcp(CLIENT, 40021, SERVER, 21, ACK, 6, 91),
    ]
    places = {CLIENT: 6, SERVER: 91}
    for who, line in said:
        other = SERVER if who == CLIENT else CLIENT
        ports = (40021, 21) if who == CLIENT else (21, 40021)
        found.append(tcp(who, ports[0], other, ports[1], PSH | ACK, places[who], places[other], line))
        places[who] += len(line)
    return [
        *found,
        *download(CLIENT, 45_000, SERVER, PASSIVE, 1000),
        *download(CLIENT, 45_001, SERVER, LOW, 1000),
        *download(SERVER, 20, CLIENT, ACTIVE, 1000),
        *download(CLIENT, 45_002, SERVER, SILENT, 1000),
    ]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("announced") / "x.pcap"
    path.write_bytes(pcap_bytes(evenly(frames())))
    return path


def policy(server: dict[str, Any], client: dict[str, Any]) -> Policy:
    service = {"proto": "tcp", "ports": [21]}
    groups = {
        "server": {"members": [SERVER], "ingress": [{"from": "clients", **service, **server}], "egress": []},
        "clients": {"members": ["10.0.1.0/24"], "ingress": [], "egress": [{"to": "server", **service, **client}]},
    }
    return Policy.from_dict({"groups": groups})


FTP, NONE = {"helper": "ftp"}, dict[str, str]()


@pytest.mark.parametrize(
    ("server", "client", "expected"),
    [
        (FTP, FTP, {PASSIVE, ACTIVE}),
        (FTP, NONE, {PASSIVE, ACTIVE}),
        (NONE, FTP, {PASSIVE, ACTIVE}),
        (NONE, NONE, set()),
        ({"helper": "pptp"}, NONE, set()),  # announces GRE alone
    ],
)
def test_announced_connections_pass(server: Any, client: Any, expected: set[int], capture: Path) -> None:
    result = policy(server, client).check(capture)
    words = {row.resp_port: ct.Verdict(one["verdict"]) for row, one in zip(result.table, result.verdicts, strict=True)}
    assert words[21] == ct.Verdict.ALLOWED
    assert {port for port, verdict in words.items() if verdict == ct.Verdict.RELATED} == expected
    assert result.allowed == 1 + len(expected)
    assert result.refused == 4 - len(expected)
    assert result.packets is not None
    assert bool(result.packets.picked_up) == bool(expected), "the replay has a gateway without helpers"


def test_without_the_session_nothing_is_announced(capture: Path) -> None:
    """A session that is refused announces nothing."""
    denied = Policy.from_dict({"groups": {"server": {"members": [SERVER], "ingress": [], "egress": []}}})
    helped = {
        "groups": {
            "server": {"members": [SERVER], "ingress": [{"from": "10.9.0.0/16", "proto": "tcp", "ports": [21], **FTP}]}
        }
    }
    assert Policy.from_dict(helped).check(capture).allowed == 0
    assert denied.check(capture).allowed == 0


def test_explain_names_what_was_announced(capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "ftp.toml"
    policy(FTP, FTP).write(path)
    done = program.run("policy", "explain", "--json", path, capture)
    found = {one["service"]: one["verdict"] for one in json.loads(done.stdout)}
    assert found[f"{PASSIVE}/tcp"] == "related"
    assert found[f"{SILENT}/tcp"].startswith("refused")
