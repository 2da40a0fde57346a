"""The ladder of evidence, rung by rung, on captures made by hand: who initiated, and why we say so."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable

import pytest

import conntrack_py as ct
from support.packets import ACK, FIN, PSH, RST, SYN, Packet, download, echo, ethernet, evenly, pcap_bytes, tcp, udp
from support.verdicts import ANSWER, QUERY, A, B, C, D, segment, track, verdicts


def test_a_syn_ack_that_was_followed() -> None:
    answer = tcp(B, 50000, A, 40000, SYN | ACK, 1, 2)
    for follower in (tcp(A, 40000, B, 50000, ACK, 2, 2), tcp(B, 50000, A, 40000, PSH | ACK, 2, 2, b"banner")):
        assert verdicts([answer, follower]) == [(A, 40000, "syn_ack")]


def test_scans_and_backscatter_are_a_class_of_their_own() -> None:
    answer = tcp(B, 80, A, 40000, SYN | ACK, 1, 2)
    refusal = tcp(A, 40000, B, 80, RST, 2)
    for frames in ([answer], [answer, answer], [answer, refusal]):
        ((_, _, evidence),) = verdicts(frames)
        assert evidence == "backscatter"
    for flags in (0, FIN, FIN | PSH | 32):
        assert verdicts([tcp(A, 40000, B, 80, flags, 1)]) == [(A, 40000, "scan")]
        assert verdicts([tcp(A, 40000, B, 80, flags, 1), tcp(B, 80, A, 40000, RST | ACK, 0, 2)])[0][2] == "scan"
    for row in track(evenly([answer])).connections:
        assert row.confidence == 0.5


def test_a_refusal_names_who_asked() -> None:
    assert verdicts([tcp(B, 50000, A, 40000, RST | ACK, 0, 2)]) == [(A, 40000, "refused")]
    assert verdicts([tcp(B, 50000, A, 40000, RST | ACK, 77, 2)])[0][2] != "refused"


@pytest.mark.parametrize(
    ("payload", "asks"),
    [
        (b"GET /index.html HTTP/1.1\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", False),
        (bytes([22, 3, 1, 0, 200, 1, 0, 0, 196]) + bytes(50), True),
        (bytes([22, 3, 3, 0, 74, 2, 0, 0, 70]) + bytes(50), False),
        (struct.pack("!IBBI", 44, 6, 30, 32) + bytes(40), True),
        (struct.pack("!IBBI", 260, 6, 31, 51) + bytes(250), False),
        (b"EHLO there\r\n", True),
        (b"220 ready\r\n", False),
    ],
)
def test_the_first_bytes_say_who_speaks(payload: bytes, asks: bool) -> None:
    asker = (A, 40000, "payload") if asks else (B, 50000, "payload")
    assert verdicts([segment(A, 40000, B, 50000, payload)]) == [asker]
    # Also in the middle of a connection, and over the port of a service.
    noise = segment(B, 50000, A, 40000, b"\x17\x03\x03")
    assert verdicts([noise, segment(A, 40000, B, 50000, payload)]) == [asker]
    assert verdicts([segment(A, 443, B, 50000, payload)]) == [(asker[0], 443 if asks else 50000, "payload")]


def test_dns_and_ntp() -> None:
    for client in (53, 40000):
        assert verdicts([udp(B, 53, A, client, ANSWER)]) == [(A, client, "payload")]
        assert verdicts([udp(A, client, B, 53, QUERY)]) == [(A, client, "payload")]
        assert verdicts([udp(B, 123, A, client, b"\x24" + bytes(47))]) == [(A, client, "payload")]
    over_tcp = struct.pack("!H", len(ANSWER)) + ANSWER
    assert verdicts([segment(B, 53, A, 40000, over_tcp)]) == [(A, 40000, "payload")]
    # Multicast DNS announces unasked: the group initiated nothing.
    assert verdicts([udp(A, 5353, "224.0.0.251", 5353, ANSWER)]) == [(A, 5353, "multicast")]


def test_groups_never_initiate() -> None:
    for group in ("224.0.0.251", "255.255.255.255"):
        assert verdicts([udp(A, 40190, group, 7437, b"x")], likely_server_ports=["40190/udp"])[0] == (
            A,
            40190,
            "multicast",
        )


def test_a_listener_is_learned_also_for_those_before() -> None:
    """B:7777 accepts a connection at the end; the one in mid-stream at the beginning went there, too."""
    middle = [segment(B, 7777, A, 6161, b"x"), segment(B, 7777, A, 6161, b"y", PSH | ACK)]
    assert verdicts(middle)[0][2] == "unknown"
    learned = verdicts([*middle, *download(C, 7000, B, 7777, down=1000)])
    assert learned == [(A, 6161, "listener"), (C, 7000, "syn")]


def test_nobody_was_seen_to_connect_but_many_meet_there() -> None:
    meeting = [segment(B, 7777, peer, 6100 + port, b"x") for port, peer in enumerate((A, C, D))]
    assert {verdict[2] for verdict in verdicts(meeting)} == {"many_peers"}
    assert {verdict[0] for verdict in verdicts(meeting)} == {A, C, D}


def test_what_hosts_do_elsewhere() -> None:
    middle = [segment(B, 50007, A, 40007, b"x")]
    between = download(A, 41000, B, 443, down=1000)
    assert verdicts([*middle, *between])[0] == (A, 40007, "role")
    others = [frame for port in range(3) for frame in download(A, 42000 + port, C, 443, down=1000)]
    assert verdicts([*middle, *others])[0] == (A, 40007, "role")
    # A host that does both tells nothing.
    both = download(D, 43000, A, 22, down=1000)
    assert verdicts([*middle, *others, *both])[0][2] == "unknown"


def test_ports() -> None:
    assert verdicts([segment(B, 443, A, 40000, b"x")]) == [(A, 40000, "service_port")]
    assert verdicts([segment(B, 9999, A, 9998, b"x")], likely_server_ports=["9998/tcp"]) == [(B, 9999, "service_port")]
    assert verdicts([segment(B, 443, A, 40000, b"x")], likely_server_ports=[])[0] == (A, 40000, "ephemeral_port")
    # Equal ports never break a tie.
    assert verdicts([segment(B, 179, A, 179, b"x")])[0][2] == "unknown"


def test_ranges_of_client_ports() -> None:
    """Linux's and IANA's, then those of older systems, then what is neither, then system ports."""
    for server, client in ((21477, 1637), (21477, 40000), (1637, 40000), (1000, 40000)):
        found = verdicts([segment(B, server, A, client, b"x")], likely_server_ports=[])
        assert found == [(A, client, "ephemeral_port")], (server, client)
    assert verdicts([segment(B, 40000, A, 50000, b"x")])[0][2] == "unknown"


def test_the_first_window_of_a_connecting_host() -> None:
    stamps = b"\1\1\x08\x0a" + bytes(8)

    def sent(by: str, port: int, to: str, window: int, options: bytes = stamps) -> bytes:
        return tcp(by, port, to, 90000 - port, PSH | ACK, 1, 1, b"x", window=window, options=options)

    for connects, accepts in ((502, 510), (229, 227), (502, 1000), (1000, 510)):
        frames = [sent(B, 50000, A, accepts), sent(A, 40000, B, connects), sent(B, 50000, A, connects)]
        assert verdicts(frames) == [(A, 40000, "window")], (connects, accepts)
    # Both say the same, or have no timestamps to tell them apart.
    assert verdicts([sent(B, 50000, A, 502), sent(A, 40000, B, 502)])[0][2] == "unknown"
    assert verdicts([sent(B, 50000, A, 510, b""), sent(A, 40000, B, 502, b"")])[0][2] == "unknown"


def test_acknowledging_is_not_initiating() -> None:
    """An agent uploads to a collector: the collector acknowledges, and initiated nothing."""
    for port in (5044, 9997, 24224, 4317, 3100, 601, 1514, 7777):
        upload = [segment(A, 50002, B, port, b"x" * 1000, PSH | ACK), segment(B, port, A, 50002)] * 3
        ((orig, own, evidence),) = verdicts(upload)
        assert (orig, own) == (A, 50002), port
        assert evidence in ("service_port", "ephemeral_port")
    agents = [
        frame
        for host in range(20)
        for frame in (
            segment(f"10.0.0.{host}", 6100 + host, B, 7777, b"x" * 100),
            segment(B, 7777, f"10.0.0.{host}", 6100 + host),
        )
    ]
    assert {(orig != B, evidence) for orig, _, evidence in verdicts(agents)} == {(True, "many_peers")}
    # Between two client ports, nobody is named by volume.
    frames = [segment(B, 50000, A, 40000, b"x" * 100), segment(A, 40000, B, 50000)] * 3
    assert verdicts(frames)[0][2] == "unknown"


def test_a_role_is_not_a_reason() -> None:
    """A web server that answers three clients calls out; the call was open when the capture began."""
    clients = [frame for port in range(3) for frame in download(C, 42000 + port, A, 443, down=1000)]
    call_out = [segment(B, 7444, A, 50555, b"x" * 500), segment(A, 50555, B, 7444)]
    assert (A, 50555, "ephemeral_port") in verdicts([*call_out, *clients])
    # Without a port that tells, the role of a server tells nothing either.
    undecided = [segment(B, 40444, A, 50555, b"x" * 500), segment(A, 50555, B, 40444)]
    assert verdicts([*undecided, *clients])[0][2] == "unknown"


def test_a_listed_port_of_a_client() -> None:
    """Clients bind reserved ports, too: against a port that is no client's, they decide nothing."""
    for client, server in ((53, 8080), (514, 20048), (1000, 20048)):
        assert verdicts([segment(A, client, B, server, b"x")])[0][2] == "unknown", (client, server)
    assert verdicts([segment(B, 514, A, 40000, b"x")]) == [(A, 40000, "service_port")]
    assert verdicts([segment(B, 2049, A, 1000, b"x")]) == [(A, 1000, "service_port")]


def silent(frames: list[bytes], seconds: float, **options: object) -> list[tuple[str, int, str]]:
    """Verdicts of frames after so many seconds of other traffic, one packet in ten seconds."""
    others = [
        (at * 10.0, udp("10.0.0.99", 40000 + at, "192.0.2.53", 53, QUERY)) for at in range(int(seconds // 10) + 1)
    ]
    packets = [*others, *((seconds + 1 + at, frame) for at, frame in enumerate(frames))]
    rows = track(packets, **options).connections
    return [(row.orig_addr, row.orig_port, row.evidence) for row in rows if row.orig_addr != "10.0.0.99"]


def test_an_opening_after_silence() -> None:
    for port in (51820, 5060, 161, 514, 1813, 4739, 2055, 6343):
        exchange = [udp(A, port, B, 31234, b"\xff"), udp(B, 31234, A, port, b"\xff")]
        # What the ports say, where it agrees, is surer than silence.
        ((orig, own, evidence),) = silent(exchange, 60)
        assert (orig, own) == (A, port)
        assert evidence in ("ephemeral_port", "after_silence")
        assert silent(exchange, 20)[0][2] != "after_silence", "within the UDP timeout"
    # Both ends of an exchange from one port to the same port.
    assert silent([udp(A, 51820, B, 51820, b"\xff"), udp(B, 51820, A, 51820, b"\xff")], 60)[0][2] == "after_silence"
    # A server of DNS, NTP or QUIC never sends first: its question was not captured.
    assert silent([udp(B, 443, A, 40000, b"\x40"), udp(A, 40000, B, 443, b"\x40")], 60) == [(A, 40000, "service_port")]


def test_listed_ports_that_clients_bind_too() -> None:
    """Of datagrams from such a port nobody is named; a listed port in the range of clients needs a client's port."""
    for port, peer in ((53, 8080), (5060, 5080), (161, 1162), (51820, 31234), (500, 7444), (123, 9000), (514, 20048)):
        answered = [udp(A, port, B, peer, b"\xff"), udp(B, peer, A, port, b"\xff")]
        assert all(confidence <= 0.9 for _, _, confidence in stated(answered)), port
        assert stated(answered)[0][0] == A or stated(answered)[0][2] <= 0.6, port
    for remote in (7444, 1337, 31337, 40000):
        call = [segment(C, remote, A, 44818, b"x" * 500, PSH | ACK), segment(A, 44818, C, remote)]
        assert verdicts(call)[0][0] == A or verdicts(call)[0][2] in ("unknown", "service_port"), remote
    assert verdicts([segment(C, 7444, A, 44818, b"x")])[0][:2] == (A, 44818)
    assert verdicts([segment(C, 4045, A, 514, b"x")])[0][2] == "unknown"


def stated(frames: list[bytes]) -> list[tuple[str, str, float]]:
    return [(row.orig_addr, row.evidence, row.confidence) for row in track(evenly(frames)).connections]


def test_data_of_tftp_without_its_request() -> None:
    """A server answers from a new port; the client's port may be of an old system."""
    block = udp(B, 50618, A, 3445, b"\0\3\0\1" + bytes(512))
    for frames in ([block], [block, udp(A, 3445, B, 50618, b"\0\4\0\1")]):
        assert stated(frames)[0][2] <= 0.6


def test_a_gap_between_files_is_no_silence() -> None:
    first = [(at * 10.0, udp(C, 40000 + at, D, 53, QUERY)) for at in range(7)]
    flow = evenly([udp(B, 50000, A, 40000, b"!"), udp(A, 40000, B, 50000, b"?")])
    for gap, evidence in ((40.0, "answered"), (300.0, "answered")):
        later = [(60.0 + gap + at, frame) for at, frame in flow]
        parts = [io.BytesIO(pcap_bytes(first)), io.BytesIO(pcap_bytes(later))]
        assert [row.evidence for row in ct.track(parts).connections][-1] == evidence
        whole = ct.track(io.BytesIO(pcap_bytes([*first, *later]))).connections
        assert [row.evidence for row in whole][-1] == "after_silence"


def test_an_rst_stored_before_what_it_refuses() -> None:
    early = [tcp(B, 443, A, 40000, RST, 7), segment(A, 40000, B, 443)]
    assert verdicts(early)[0][2] in ("scan", "unknown")


def test_a_pause_of_all_traffic_is_no_silence() -> None:
    packets = [
        (0.0, udp(C, 1, D, 2, b"x")),
        (5000.0, udp(B, 50000, A, 40000, b"!")),
        (5001.0, udp(A, 40000, B, 50000, b"?")),
    ]
    assert [row.evidence for row in track(packets).connections] == ["first_packet", "answered"]


def test_push_protocols() -> None:
    """Syslog, traps and flow export are sent from anywhere, also from the port of the service."""
    for port in (162, 514, 2055, 4739, 6343, 9995):
        assert verdicts([udp(A, port, B, 31234, b"x")] * 2) == [(A, port, "push")]
        assert verdicts([udp(A, 31234, B, port, b"x")] * 2) == [(A, 31234, "service_port")]


def test_scans_and_refusals_are_no_answers() -> None:
    """An RST answers a bare acknowledgement, a FIN+ACK or stray data; or one RST+ACK is all that was captured."""
    reset = tcp(B, 443, A, 40000, RST, 1)
    assert verdicts([segment(A, 40000, B, 443), reset]) == [(A, 40000, "scan")]
    assert verdicts([segment(A, 40000, B, 443, b"", FIN | ACK), reset]) == [(A, 40000, "scan")]
    assert verdicts([segment(A, 40000, B, 443, b"x"), reset]) == [(A, 40000, "unknown")]
    assert verdicts([tcp(B, 443, A, 40000, RST | ACK, 77, 2)])[0][2] == "unknown"
    # An answer with data is one, whatever ends the connection.
    assert verdicts([segment(A, 40000, B, 443, b"x"), segment(B, 443, A, 40000, b"y"), reset])[0][2] == "service_port"


def test_tcp_has_no_groups() -> None:
    for address in ("10.255.255.255", "192.168.255.255", "224.0.0.9"):
        for frames in ([segment(A, 40000, address, 9000, b"x")], [segment(address, 9000, A, 40000, b"x")]):
            assert verdicts(frames)[0][2] != "multicast"
    row = next(iter(track(evenly([tcp(A, 40000, "10.255.255.255", 80, SYN, 1)])).connections))
    assert row.direction == "internal"


def test_udp_that_was_answered() -> None:
    assert verdicts([udp(A, 40000, B, 50000, b"?"), udp(B, 50000, A, 40000, b"!")]) == [(A, 40000, "answered")]
    assert verdicts([udp(A, 40000, B, 50000, b"?")]) == [(A, 40000, "first_packet")]


def ftp(line: bytes, server: bool) -> bytes:
    ends = (B, 21, A, 40000) if server else (A, 40000, B, 21)
    return segment(*ends, line + b"\r\n")


@pytest.mark.parametrize(
    ("line", "server", "orig"),
    [
        (b"PORT 10,0,0,5,195,80", False, (B, 50001)),
        (b"EPRT |1|10.0.0.5|50000|", False, (B, 50001)),
        (b"227 Entering Passive Mode (203,0,113,80,195,81)", True, (A, 50000)),
        (b"229 Entering Extended Passive Mode (|||50001|)", True, (A, 50000)),
    ],
)
def test_ftp_announces_its_data_connections(line: bytes, server: bool, orig: tuple[str, int]) -> None:
    data = segment(B, 50001, A, 50000, b"contents")
    _, found = verdicts([ftp(line, server), data])
    assert found == (*orig, "related")


def test_icmp() -> None:
    assert verdicts([echo(B, A, 0)])[0][0::2] == (A, "icmp_reply")
    query = udp(A, 40000, B, 50000)
    error = ethernet(B, A, 1, b"\x03\x03\0\0\0\0\0\0" + query[14:42])
    assert [evidence for _, _, evidence in verdicts([query, error])] == ["first_packet", "related"]


def later(packets: Iterable[Packet], seconds: float) -> list[Packet]:
    return [(at + seconds, frame) for at, frame in packets]


def test_the_initiator_belongs_to_the_connection() -> None:
    """A timeout cuts a connection in two; its second record begins with the other end, and has the same initiator."""
    first = evenly([udp(A, 40000, B, 50000, b"?"), udp(B, 50000, A, 40000, b"!")])
    second = later(evenly([udp(B, 50000, A, 40000, b"!"), udp(A, 40000, B, 50000, b"?")]), 1000)
    rows = list(track([*first, *second]).connections)
    assert [(row.orig_addr, row.evidence, row.flipped) for row in rows] == [
        (A, "answered", False),
        (A, "seen_before", True),
    ]
    # The better evidence may come later.
    syn = later(evenly(download(A, 40000, B, 50000, down=1000)), 1_000_000)
    middle = evenly([segment(B, 50000, A, 40000, b"x")])
    assert [row.orig_addr for row in track([*middle, *syn]).connections] == [A, A]


def test_the_initiator_is_kept_across_files() -> None:
    packets = [*evenly(download(A, 40000, B, 50000)), *later(evenly([segment(B, 50000, A, 40000, b"x")]), 1_000_000)]
    whole = track(packets).connections
    assert [row.orig_addr for row in whole] == [A, A]
    for cut in (1, 2, 5, len(packets) - 1):
        parts = [io.BytesIO(pcap_bytes(packets[:cut])), io.BytesIO(pcap_bytes(packets[cut:]))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ct.CaptureWarning)
            table = ct.track(parts).connections
        assert list(map(repr, table)) == list(map(repr, whole))


def test_a_flip_reaches_the_labels_of_earlier_packets() -> None:
    """The server's first packets come first; the request that says it all comes last."""
    frames = [segment(B, 50000, A, 40000, b"x"), segment(B, 50000, A, 40000, b"y")]
    result = track(evenly([*frames, segment(A, 40000, B, 50000, b"GET / HTTP/1.1\r\n")]))
    (row,) = result.connections
    assert (row.orig_addr, row.flipped, row.history, row.direction) == (A, True, "^dtD", "egress")
    assert (row.orig_pkts, row.resp_pkts, row.orig_bytes, row.resp_bytes) == (1, 2, 16, 2)
    assert result.labels is not None
    assert result.labels["reply"].tolist() == [True, True, False]
    assert set(result.labels["direction"].tolist()) == {ct.Direction.EGRESS}
