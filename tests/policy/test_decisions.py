"""Nothing is allowed that was not seen, and of what looks like an attack no rule is made: it is a decision."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.suggest import as_json, comments
from conntrack_py.policy.traffic.pairs import Traffic
from support.packets import ACK, FIN, PSH, RST, SYN, Packet, download, echo, evenly, pcap_bytes, tcp, udp

HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "192.0.2.1", "192.0.2.2"]
PORTS = [25, 53, 80, 443]
SERVER, CLIENT, LAPTOP, OUTSIDE = "10.0.0.80", "10.0.1.1", "10.0.1.2", "203.0.113.66"

Suggest = Callable[..., Policy]


@pytest.fixture
def suggest(pcap: Callable[..., Path]) -> Suggest:
    def make(frames: Iterable[bytes | Packet], **options: object) -> Policy:
        packets = [one if isinstance(one, tuple) else (number / 1000, one) for number, one in enumerate(frames)]
        table = ct.track(pcap(sorted(packets, key=lambda packet: packet[0]))).connections
        return Policy.suggest(table, **options)  # type: ignore[arg-type]

    return make


def rules(policy: Policy) -> list[str]:
    return [str(one) for one in policy.numbered()]


def half_open(orig: str, resp: str, port: int, sport: int = 40000) -> list[bytes]:
    """SYN, SYN+ACK, RST."""
    return [
        tcp(orig, sport, resp, port, SYN, 5),
        tcp(resp, port, orig, sport, SYN | ACK, 90, 6),
        tcp(orig, sport, resp, port, RST, 6),
    ]


def empty(orig: str, resp: str, port: int, sport: int = 40000) -> list[bytes]:
    """A handshake without data, orderly closed."""
    return [
        *half_open(orig, resp, port, sport)[:2],
        tcp(orig, sport, resp, port, ACK, 6, 91),
        tcp(orig, sport, resp, port, FIN | ACK, 6, 91),
        tcp(resp, port, orig, sport, FIN | ACK, 91, 7),
        tcp(orig, sport, resp, port, ACK, 7, 92),
    ]


def every_pair(path: Path) -> ct.ConnectionTable:
    """A connection of each two hosts on each port, over TCP and UDP."""
    frames: list[bytes] = []
    for number, (orig, resp, port) in enumerate(itertools.product(HOSTS, HOSTS, PORTS)):
        if orig != resp:
            frames += [tcp(orig, 20000 + number, resp, port, SYN, 5), udp(orig, 20000 + number, resp, port, b"?")]
    path.write_bytes(pcap_bytes(evenly(frames)))
    return ct.track(path).connections


@settings(deadline=None, max_examples=40)
@given(
    seen=st.lists(
        st.tuples(st.sampled_from(HOSTS), st.sampled_from(HOSTS), st.sampled_from(PORTS), st.booleans()), max_size=12
    )
)
def test_nothing_is_wider_than_seen(
    tmp_path_factory: pytest.TempPathFactory, seen: list[tuple[str, str, int, bool]]
) -> None:
    """Of all hosts, ports and protocols exactly that is allowed of which the rules were made."""
    folder = tmp_path_factory.mktemp("pairs")
    frames: list[bytes] = []
    for number, (orig, resp, port, is_tcp) in enumerate(seen):
        if orig != resp and is_tcp:
            frames += download(orig, 40000 + number, resp, port, 1000)
        elif orig != resp:
            frames += [udp(orig, 40000 + number, resp, port, b"?"), udp(resp, port, orig, 40000 + number, b"!")]
    (folder / "seen.pcap").write_bytes(pcap_bytes(evenly(frames)))
    table = ct.track(folder / "seen.pcap").connections
    policy = Policy.suggest(table)
    assert policy.report is not None
    assert policy.report.unseen == 0
    waiting = {
        (server, str(peer), one.rule.proto, port)
        for one in policy.report.decisions
        if not one.kept
        for server in one.servers
        for network in one.rule.peers
        for peer in ipaddress.ip_network(network)
        for port, _ in one.rule.ports
    }
    traffic = Traffic(table)
    pairs = traffic.pairs(traffic.kept)
    allowed = {(pair.orig, pair.resp, pair.proto, pair.service) for pair in pairs} - waiting
    restricted = {host.address for host in policy.report.hosts}
    every = every_pair(folder / "every.pcap")
    for row, verdict in zip(every, policy.evaluate(every)["verdict"].tolist(), strict=True):
        pair = (row.orig_addr, row.resp_addr, row.proto, row.resp_port)
        if {row.orig_addr, row.resp_addr} & restricted:
            assert (verdict == ct.Verdict.ALLOWED) == (pair in allowed), pair


def test_groups_of_a_budget_count_what_nobody_saw(suggest: Suggest) -> None:
    frames = [
        *download(CLIENT, 40000, "198.51.100.1", 443, 1000),
        *download(LAPTOP, 40000, "198.51.100.2", 8443, 1000),
    ]
    bare, wide = suggest(frames), suggest(frames, max_rules=50)
    assert bare.report is not None
    assert wide.report is not None
    assert (bare.report.unseen, len(bare.groups)) == (0, 2)
    # One group of two clients: each may do what the other one did.
    assert (wide.report.unseen, len(wide.groups)) == (2, 1)


@pytest.mark.parametrize("beacons", [1, 40])
def test_an_application_server_stays_one_however_often_it_calls_out(suggest: Suggest, beacons: int) -> None:
    frames = download(CLIENT, 40000, SERVER, 8080, 1000)
    for number in range(beacons):
        frames += download(SERVER, 41000 + number, OUTSIDE, 8443, 1000)
    for options in ({}, {"max_rules": 50}):
        policy = suggest(frames, **options)
        assert policy.report is not None
        (decision,) = policy.report.decisions
        assert (decision.servers, decision.connections, decision.kept) == ((SERVER,), beacons, False)
        assert OUTSIDE not in str(rules(policy))


NEIGHBOUR = "10.0.0.90"


def calls(orig: str, resp: str, port: int, number: int = 1, sport: int = 41000) -> list[bytes]:
    return [frame for at in range(number) for frame in download(orig, sport + at, resp, port, 1000)]


@pytest.mark.parametrize(
    ("port", "number", "waits"),
    [
        (9001, 1, True),  # a reverse shell
        (1389, 30, True),  # an LDAP server that hands out code, however often
        (445, 5, True),  # a neighbour's shares
        (5432, 1, True),
        (5432, 2, False),
        (53, 1, False),
    ],
)
def test_a_server_that_calls_inside_what_nobody_else_uses_waits(
    suggest: Suggest, port: int, number: int, waits: bool
) -> None:
    policy = suggest([*download(CLIENT, 40000, SERVER, 443, 1000), *calls(SERVER, NEIGHBOUR, port, number)])
    assert policy.report is not None
    (decision,) = policy.report.decisions
    assert (decision.kept, decision.connections) == (not waits, number)
    assert any(rule.endswith(f"tcp {port}") for rule in rules(policy)) == (not waits)
    assert any("443" in rule for rule in rules(policy))
    assert policy.report.left_out == ({"server_inside": number} if waits else {})
    ends = [name for name, group in policy.groups.items() if f"{NEIGHBOUR}/32" in group.members]
    assert list(decision.called) == ends
    if waits:
        # Both ends have to allow it: the rule of each waits where it belongs.
        asked = comments(policy.report)
        assert any(line.startswith("    { to = ") for line in asked[decision.group])
        assert any(line.startswith(f'    {{ from = "{decision.group}"') for line in asked[ends[0]])


@pytest.mark.parametrize(("who", "waits"), [(CLIENT, False), ("10.0.0.81", True)])
def test_a_service_is_served_where_somebody_who_is_no_server_uses_it(suggest: Suggest, who: str, waits: bool) -> None:
    """A second victim is no proof: it calls the intruder as the first one does."""
    frames = [*download(CLIENT, 40000, SERVER, 443, 1000), *download(CLIENT, 40001, "10.0.0.81", 443, 1000)]
    policy = suggest([*frames, *calls(SERVER, NEIGHBOUR, 1389, 3), *calls(who, NEIGHBOUR, 1389, 3)])
    assert policy.report is not None
    assert {one.kept for one in policy.report.decisions} == {not waits}
    assert ("1389" in str(rules(policy))) == (not waits)


@pytest.mark.parametrize(("port", "waits"), [(80, True), (5432, False)])
def test_code_that_an_exploit_fetches_is_asked_about(suggest: Suggest, port: int, waits: bool) -> None:
    """The web of a host that a server calls in an unusual way; a database beside it is one all the same."""
    frames = [*download(CLIENT, 40000, SERVER, 443, 1000), *calls(SERVER, NEIGHBOUR, 1389)]
    frames += calls(SERVER, NEIGHBOUR, port, 3, sport=42000)
    policy = suggest(frames)
    assert policy.report is not None
    assert {one.rule.ports[0][0]: one.kept for one in policy.report.decisions} == {1389: False, port: not waits}
    # A client that uses it proves that it is served.
    policy = suggest([*frames, *calls(CLIENT, NEIGHBOUR, port, sport=43000)])
    assert policy.report is not None
    assert {one.rule.ports[0][0]: one.kept for one in policy.report.decisions} == {1389: False, port: True}


def test_calls_of_loopback_and_pings_are_nothing_unusual(suggest: Suggest) -> None:
    frames = download(CLIENT, 40000, SERVER, 443, 1000)
    for number in range(2):
        frames += [echo(SERVER, NEIGHBOUR, 8), echo(NEIGHBOUR, SERVER, 0)]
        frames += calls("127.0.0.1", "127.0.0.2", 9001, sport=42000 + number)
        frames += calls("127.0.0.2", "127.0.0.1", 9002, sport=42000 + number)
    policy = suggest(frames)
    assert policy.report is not None
    assert policy.report.left_out == {}


def test_server_egress_allows_the_unusual_inside(suggest: Suggest) -> None:
    frames = [*download(CLIENT, 40000, SERVER, 443, 1000), *calls(SERVER, NEIGHBOUR, 9001)]
    assert "9001" in str(rules(suggest(frames, server_egress=True)))
    groups = Policy.from_dict({"groups": {"lan": {"members": ["10.0.0.0/16"]}}})
    assert "9001" not in str(rules(suggest(frames, groups=groups)))


def test_a_server_in_a_persons_group_of_clients_gets_no_egress_of_theirs(suggest: Suggest) -> None:
    frames = download(CLIENT, 40000, SERVER, 8080, 1000)
    for host in (SERVER, CLIENT):
        frames += download(host, 41000, OUTSIDE, 8443, 1000)
    given_groups = Policy.from_dict({"groups": {"lan": {"members": ["10.0.0.0/16"]}}})
    policy = suggest(frames, groups=given_groups)
    assert OUTSIDE not in str(rules(policy))
    assert policy.report is not None
    assert policy.report.left_out == {"server_egress": 2}


def test_answers_at_ports_of_everybody_make_no_server(suggest: Suggest) -> None:
    frames = download(LAPTOP, 40000, OUTSIDE, 443, 1000)
    for port in (5353, 137, 51413):
        frames += [udp(CLIENT, 40001, LAPTOP, port, b"?"), udp(LAPTOP, port, CLIENT, 40001, b"!")]
    policy = suggest(frames)
    assert policy.report is not None
    assert not any(host.is_server for host in policy.report.hosts)
    assert policy.report.decisions == ()


def test_a_half_open_scan_is_one_decision(suggest: Suggest) -> None:
    targets = [f"10.0.0.{last}" for last in range(1, 40)]
    frames = [frame for target in targets for frame in half_open(LAPTOP, target, 22)]
    policy = suggest([*frames, *download(CLIENT, 40000, "10.0.0.7", 22, 1000)])
    assert policy.report is not None
    (decision,) = policy.report.decisions
    assert (decision.kind, decision.side, decision.connections) == ("probe", "ingress", 39)
    assert (decision.rule.peers, decision.rule.ports) == ((f"{LAPTOP}/32",), ((22, 22),))
    assert len(rules(policy)) == 2
    assert policy.report.left_out == {"probe": 39}


def test_a_flood_is_one_decision_of_its_target(suggest: Suggest) -> None:
    frames = [frame for last in range(2000) for frame in half_open(f"198.51.{last >> 8}.{last & 255}", SERVER, 443)[:2]]
    policy = suggest(frames)
    assert policy.report is not None
    (decision,) = policy.report.decisions
    assert (decision.kind, decision.servers, decision.rule.peers) == ("probe", (SERVER,), ("any",))


@pytest.mark.parametrize(("targets", "made"), [(9, 9), (10, 0)])
def test_many_empty_handshakes_are_a_scan(suggest: Suggest, targets: int, made: int) -> None:
    policy = suggest([frame for last in range(targets) for frame in empty(LAPTOP, f"10.0.2.{last}", 80)])
    assert policy.report is not None
    assert (policy.report.kept, bool(rules(policy))) == (made, made > 0)


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_a_reset_before_any_answer_is_a_refusal(suggest: Suggest, data: bytes) -> None:
    frames = [
        *half_open(CLIENT, SERVER, 8080)[:2],
        tcp(CLIENT, 40000, SERVER, 8080, ACK | PSH, 6, 91, data),
        tcp(SERVER, 8080, CLIENT, 40000, RST | ACK, 91, 6 + len(data)),
    ]
    policy = suggest(frames)
    assert policy.report is not None
    assert rules(policy) == []
    assert [one.kind for one in policy.report.decisions] == ["refused"]
    # Beside a real connection of the same two it is nothing.
    policy = suggest([*frames, *download(CLIENT, 40001, SERVER, 8080, 1000)])
    assert policy.report is not None
    assert len(rules(policy)) == 2
    assert policy.report.decisions == ()


@pytest.mark.parametrize(("sessions", "kind"), [(1, "administration"), (9, "administration"), (10, "brute_force")])
def test_administration_from_outside_is_asked_about(suggest: Suggest, sessions: int, kind: str) -> None:
    frames = [
        *download(CLIENT, 40000, SERVER, 3389, 1000),
        *(frame for number in range(sessions) for frame in download(OUTSIDE, 40000 + number, SERVER, 3389, 100)),
    ]
    policy = suggest(frames)
    assert policy.report is not None
    (decision,) = policy.report.decisions
    assert (decision.kind, decision.connections, decision.rule.peers) == (kind, sessions, (f"{OUTSIDE}/32",))
    assert OUTSIDE not in str(rules(policy))
    (lines,) = comments(policy.report).values()
    assert any("from = " in line for line in lines)
    assert as_json(policy.report)["suspicious"][0]["kind"] == kind  # type: ignore[index]


def ftp(client: str, server: str, said: list[tuple[str, bytes]]) -> list[bytes]:
    """A control connection in which each says these lines."""
    frames = [*half_open(client, server, 21, 40021)[:2], tcp(client, 40021, server, 21, ACK, 6, 91)]
    places = {client: 6, server: 91}
    for who, line in said:
        other = server if who == client else client
        ports = (40021, 21) if who == client else (21, 40021)
        frames.append(tcp(who, ports[0], other, ports[1], PSH | ACK, places[who], places[other], line))
        places[who] += len(line)
    return frames


def test_passive_ftp_needs_the_helper_and_makes_no_rules_of_ports(suggest: Suggest) -> None:
    said = [(SERVER, b"220 ready\r\n")]
    frames: list[bytes] = []
    for number, port in enumerate((51210, 51777)):
        said += [(CLIENT, b"PASV\r\n")]
        said += [(SERVER, f"227 Entering Passive Mode (10,0,0,80,{port >> 8},{port & 255})\r\n".encode())]
        frames += download(CLIENT, 45000 + number, SERVER, port, 1000)
    policy = suggest([*ftp(CLIENT, SERVER, said), *frames])
    assert policy.report is not None
    assert policy.report.left_out == {"announced": 2}
    assert {one.rule.ports for one in policy.numbered()} == {((21, 21),)}
    assert {one.rule.helper for one in policy.numbered()} == {"ftp"}
    assert all("CT --helper ftp" in one.rule.note and "passive range" in one.rule.note for one in policy.numbered())
    assert {(one.name, one.ports) for one in policy.report.helpers} == {("ftp", (51210, 51777))}


def test_data_of_encrypted_ftp_is_told_by_the_session(suggest: Suggest) -> None:
    said = [(SERVER, b"220 ready\r\n"), (CLIENT, b"AUTH TLS\r\n"), (SERVER, b"234 go\r\n")]
    frames = [*ftp(CLIENT, SERVER, said), *download(CLIENT, 45000, SERVER, 51210, 1000)]
    service = [frame for number in range(2) for frame in download(CLIENT, 46000 + number, SERVER, 8080, 1000)]
    policy = suggest([*frames, *service])
    found = {(one.rule.ports, one.rule.helper, "helper" in one.rule.note) for one in policy.numbered()}
    assert found == {(((21, 21),), "ftp", True), (((8080, 8080),), "", False)}


def test_active_ftp_is_asked_about(suggest: Suggest) -> None:
    said = [(SERVER, b"220 ready\r\n"), (CLIENT, b"PORT 10,0,1,1,200,10\r\n"), (SERVER, b"200 ok\r\n")]
    policy = suggest([*ftp(CLIENT, SERVER, said), *download(SERVER, 20, CLIENT, 51210, 1000)])
    assert policy.report is not None
    assert {one.rule.ports for one in policy.numbered()} == {((21, 21),)}
    (decision,) = policy.report.decisions
    assert (decision.kind, decision.side, decision.servers) == ("announced", "egress", (SERVER,))
    assert "active FTP" in decision.breaks


def test_hosts_of_which_nothing_is_certain_are_named(suggest: Suggest) -> None:
    """A SYN+ACK out of nothing: backscatter. The server beside it is known by a connection."""
    doubtful = [tcp("10.0.0.9", 4444, f"198.51.100.{last}", 5555, SYN | ACK, 5, 6) for last in range(4)]
    policy = suggest([*doubtful, *download(CLIENT, 40000, SERVER, 443, 1000)])
    assert policy.report is not None
    assert policy.report.uncertain == ("10.0.0.9",)
    assert policy.groups["uncertain"].members == ("10.0.0.9/32",)
    assert "10.0.0.9" in str(comments(policy.report)["uncertain"])
    assert as_json(policy.report)["uncertain"] == ["10.0.0.9"]


def test_the_report_says_whether_the_capture_was_long_enough(suggest: Suggest) -> None:
    frames: list[Packet] = []
    for tenth in range(11):
        frames += evenly(download(CLIENT, 40000 + tenth, SERVER, 443, 100), 10.0 * tenth, 0.001)
    frames += evenly(download(CLIENT, 50000, SERVER, 80, 100), 95, 0.001)
    frames += evenly(download(CLIENT, 50001, SERVER, 25, 100), 42, 0.001)
    policy = suggest(frames)
    assert policy.report is not None
    grown = policy.report.growth
    assert grown is not None
    assert grown.new_pairs == (1, 0, 0, 0, 1, 0, 0, 0, 0, 1)
    # At 90, 95 and 100 s; the one at 95 s is to a port that nothing showed before.
    assert (grown.last, grown.refused, round(grown.share, 2)) == (3, 1, 0.33)
    assert as_json(policy.report)["growth"]["last_tenth"] == {"connections": 3, "refused": 1}  # type: ignore[index]
    nothing = suggest([tcp(CLIENT, 40000, SERVER, 443, SYN, 5)])
    assert nothing.report is not None
    assert nothing.report.growth is None
