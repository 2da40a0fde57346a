"""Evidence that must not flip a connection: forged, or only similar to evidence."""

from __future__ import annotations

import random
import struct

import pytest

from support.packets import ACK, FIN, PSH, RST, SYN, download, evenly, tcp, udp
from support.verdicts import ANSWER, QUERY, A, B, C, D, segment, track, verdicts

#: A conversation in mid-stream that A initiated, by the port of its service.
MIDDLE = [segment(A, 40000, D, 443, b"x"), segment(D, 443, A, 40000, b"y")]


def originators(frames: list[bytes], *, index: int = 0) -> tuple[str, str]:
    """Originator and evidence of one row."""
    found = verdicts(frames)[index]
    return found[0], found[2]


def test_a_client_port_that_meets_several_servers_is_no_listener() -> None:
    others = [frame for last in (5, 6) for frame in download(A, 40000, f"203.0.113.{last}", 443, down=1000)]
    assert originators([*MIDDLE, *others]) == (A, "service_port")
    # Nor without a service's port: it was seen to initiate.
    unlisted = [segment(A, 40000, D, 21477, b"x"), segment(D, 21477, A, 40000, b"y")]
    assert originators([*unlisted, *others])[0] == A


@pytest.mark.parametrize("flags", [ACK, FIN | ACK])
def test_an_ack_scan_makes_the_scanner_no_listener(flags: int) -> None:
    probes = [segment(C, 44444, f"10.0.0.{host}", 4545, flags=flags) for host in range(10, 15)]
    answers = [tcp(f"10.0.0.{host}", 4545, C, 44444, RST, 7000) for host in range(10, 15)]
    for frames in (probes, probes + answers):
        assert {row.evidence for row in track(evenly(frames)).connections}.isdisjoint({"listener", "many_peers"})


def test_a_refused_syn_makes_no_listener() -> None:
    assert originators([*MIDDLE, *refused_at(40000)]) == (A, "service_port")
    # Nor does it make a host one that only answers.
    unlisted = [segment(A, 40000, D, 50000, b"x")]
    many = [frame for port in (1, 2, 3) for frame in refused_at(port)]
    assert originators([*unlisted, *many])[1] != "role"


def refused_at(port: int) -> list[bytes]:
    return [tcp(C, 5555, A, port, SYN, 1), tcp(A, port, C, 5555, RST | ACK, 0, 2)]


def test_active_ftp_is_initiated_from_port_20() -> None:
    data = [segment(B, 20, client, 50000, b"contents") for client in (A, C, D)]
    assert {(row[0], row[2]) for row in verdicts(data)} == {(B, "service_port")}


def test_an_announcement_is_for_two_hosts_and_a_while() -> None:
    line = b"PORT 10,0,0,5,156,64\r\n"
    # Another host's, and the right one from the wrong end.
    assert originators([segment(C, 1234, D, 21, line), *MIDDLE], index=1) == (A, "service_port")
    assert originators([segment(D, 21, A, 1234, line), *MIDDLE], index=1) == (A, "service_port")
    # Its own, but long ago: the same port now is another story.
    own = [(0.0, segment(A, 1234, D, 21, line)), *((1000.0 + n, frame) for n, frame in enumerate(MIDDLE))]
    assert [(row.orig_addr, row.evidence) for row in track(own).connections][1] == (A, "service_port")
    own = [(0.0, segment(A, 1234, D, 21, line)), *((1.0 + n, frame) for n, frame in enumerate(MIDDLE))]
    assert [(row.orig_addr, row.evidence) for row in track(own).connections][1] == (D, "related")


def test_random_bytes_on_the_port_of_dns_are_no_answers() -> None:
    """OpenVPN over 53: what looks like an answer may not come from the client, and has no name in it."""
    rng = random.Random(53)
    for _ in range(300):
        session = b"\x38" + rng.randbytes(40)
        frames = [udp(A, 40000, B, 53, session), udp(B, 53, A, 40000, b"\x40" + rng.randbytes(40))]
        assert originators(frames)[0] == A


@pytest.mark.parametrize(
    "frames",
    [
        [udp(A, 40000, B, 53, ANSWER)],
        [udp(A, 40000, B, 123, b"\x24" + bytes(47))],
        [segment(A, 40000, B, 53, b"\0\x20\x12\x34\x81\x80\0\1" + bytes(20))],
        [segment(A, 40000, B, 6515, b"154 <14>1 2026-01-01T00:00:00Z host app\r\n")],
        [
            udp(A, 45000, B, 5060, b"\r\n\r\n"),
            udp(B, 5060, A, 45000, b"OPTIONS sip:100@10.0.0.5 SIP/2.0\r\n"),
            udp(A, 45000, B, 5060, b"SIP/2.0 200 OK\r\n"),
        ],
        [
            udp(A, 45000, B, 46000, b"\0\1\0\x08\x21\x12\xa4\x42" + bytes(12) + b"\0\x24\0\4" + bytes(4)),
            udp(B, 46000, A, 45000, b"\1\1\0\x08\x21\x12\xa4\x42" + bytes(12) + b"\0\x08\0\4" + bytes(4)),
            udp(B, 46000, A, 45000, bytes([22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 1, 0, 0]) + bytes(80)),
        ],
    ],
    ids=["answer to DNS", "answer to NTP", "DNS over TCP", "syslog", "SIP", "WebRTC"],
)
def test_messages_that_go_the_wrong_way(frames: list[bytes]) -> None:
    assert originators(frames)[0] == A
    assert originators(frames)[1] != "payload"


def test_messages_that_contradict_each_other() -> None:
    """A file may begin a segment with what looks like a request; a clear majority decides, or nobody does."""
    request = segment(A, 40001, B, 80, b"GET / HTTP/1.1\r\n\r\n")
    answer = segment(B, 80, A, 40001, b"HTTP/1.1 200 OK\r\n\r\n")
    lookalike = segment(B, 80, A, 40001, b"GET /old HTTP/1.1\r\n")
    assert originators([lookalike, request, answer]) == (A, "service_port")
    assert originators([lookalike, *[request, answer] * 3]) == (A, "payload")
    assert originators([segment(B, 80, A, 40001, b"GET /old HTTP/1.1 200 in a log\r\n")]) == (A, "service_port")


def test_a_syn_in_a_conversation_is_a_stray() -> None:
    """A gateway calls it invalid, or ignores it; nobody answers it."""
    talk = [segment(A, 40000, B, 443, b"GET / HTTP/1.1\r\n"), segment(B, 443, A, 40000, b"HTTP/1.1 200 OK\r\n")]
    for stray in (tcp(B, 443, A, 40000, SYN, 999), tcp(A, 40000, B, 443, SYN, 999)):
        result = track(evenly([*talk, stray, segment(A, 40000, B, 443, b"x")]))
        (row,) = result.connections
        assert (row.orig_addr, row.evidence) == (A, "payload")
        assert result.stats.quality.observed == 0
    # A whole handshake is another story.
    opened = [tcp(A, 40000, B, 443, SYN, 999), tcp(B, 443, A, 40000, SYN | ACK, 70, 1000)]
    assert verdicts([*talk, *opened, tcp(A, 40000, B, 443, ACK, 1000, 71)])[-1][2] in {"syn", "syn_ack"}


def test_scans_do_not_speak_for_other_records() -> None:
    talk = [(0.0, segment(B, 443, A, 40000, b"x")), (0.1, segment(A, 40000, B, 443))]
    for late in (tcp(B, 443, A, 40000, FIN, 1), tcp(B, 443, A, 40000, SYN, 1)):
        rows = list(track([*talk, (0.2, segment(A, 40000, B, 443, flags=RST)), (1000.0, late)]).connections)
        assert (rows[0].orig_addr, rows[0].evidence) == (A, "service_port")


def test_who_spoke_first_stays_the_originator_when_the_other_is_answered_later() -> None:
    packets = [
        (0.0, udp(A, 40000, B, 50000, b"?")),
        (60.0, udp(B, 50000, A, 40000, b"!")),
        (60.1, udp(A, 40000, B, 50000, b"?")),
    ]
    assert [(row.orig_addr, row.evidence) for row in track(packets).connections] == [
        (A, "first_packet"),
        (A, "seen_before"),
    ]


def test_a_forged_group_initiates_nothing() -> None:
    row = next(iter(track(evenly([tcp("224.0.0.5", 5, A, 80, SYN, 1)])).connections))
    assert (row.orig_addr, row.evidence) == ("224.0.0.5", "syn"), "TCP has no groups: a forged sender is told as it is"
    row = next(iter(track(evenly([udp("224.0.0.5", 5, A, 80, b"x")])).connections))
    assert (row.orig_addr, row.direction, row.evidence) == (A, "multicast", "multicast")


def test_messages_that_go_the_right_way() -> None:
    """The right way round, the same messages are evidence."""
    assert originators([udp(B, 53, A, 40000, ANSWER)]) == (A, "payload")
    assert originators([udp(B, 50000, A, 53, QUERY)]) == (B, "payload")
    assert originators([segment(A, 40000, B, 50000, b"EHLO there\r\n", PSH | ACK)]) == (A, "payload")


def test_encrypted_ssh_is_no_key_exchange() -> None:
    """Some ciphers leave the length in the clear; what follows is random."""
    rng = random.Random(22)
    for _ in range(100):
        frames = []
        for _ in range(100):
            (src, sport), (dst, dport) = rng.choice([((A, 40000), (B, 22)), ((B, 22), (A, 40000))])
            size = 16 * rng.randrange(1, 17)
            sealed = struct.pack("!I", size) + rng.randbytes(size + 16)
            frames.append(segment(src, sport, dst, dport, sealed, PSH | ACK))
        assert originators(frames) == (A, "service_port")


def test_an_upload_that_looks_like_a_reply() -> None:
    """The files of banks begin with 101; one sent over a data connection of FTP is no reply of a server."""
    control = [
        segment(A, 40001, B, 21, b"PASV\r\n"),
        segment(B, 21, A, 40001, b"227 Entering Passive Mode (203,0,113,80,195,80)\r\n"),
    ]
    upload = segment(A, 40002, B, 50000, b"101 076401251".ljust(94) + b"\r\n", PSH | ACK)
    assert originators([*control, upload, segment(B, 50000, A, 40002)], index=1) == (A, "related")
    assert originators([segment(A, 40002, B, 25, b"250 units shipped.\r\n.\r\n")]) == (A, "service_port")


def test_protocols_whose_tls_client_was_connected_to() -> None:
    hello = bytes([22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]) + bytes(194)
    assert originators([segment(B, 20, A, 50000), segment(A, 50000, B, 20, hello)])[0] == B


def test_rtsp_is_asked_by_both_ends() -> None:
    ask = segment(B, 7236, A, 40000, b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    answer = segment(A, 40000, B, 7236, b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
    assert originators([ask, answer])[1] != "payload"


def test_peers_that_serve_others_are_no_listeners_to_each_other() -> None:
    peers = [udp(A, 123, B, 123, b"\x21" + bytes(47)), udp(B, 123, A, 123, b"\x22" + bytes(47))]
    client = [udp("10.0.0.9", 123, A, 123, b"\x23" + bytes(47)), udp(A, 123, "10.0.0.9", 123, b"\x24" + bytes(47))]
    assert originators([*peers, *client]) == (A, "answered")
    shared = [segment(A, 6881, D, 51000, b"x"), segment(D, 51000, A, 6881, b"x")]
    opened = [frame for last in (1, 2) for frame in download(A, 6881, f"203.0.113.{last}", 51413, down=1000)]
    accepted = download(C, 55555, A, 6881, down=1000)
    assert originators([*shared, *opened, *accepted])[1] != "listener"


def test_a_client_of_nfs_has_a_reserved_port() -> None:
    for port in (873, 993):
        assert originators([segment(A, port, B, 2049, b"x")])[1] != "service_port"


def test_what_was_refused_carries_no_data() -> None:
    answer = tcp(B, 443, A, 40000, PSH | ACK, 2, 2, b"HTTP/1.1 200 OK\r\n")
    assert originators([tcp(A, 40000, B, 443, RST | ACK, 0, 2), answer]) == (A, "service_port")


def test_a_syn_ack_in_a_conversation_is_a_stray() -> None:
    talk = [segment(A, 40000, B, 443, b"GET / HTTP/1.1\r\n"), segment(B, 443, A, 40000, b"HTTP/1.1 200 OK\r\n")]
    strays = [tcp(A, 40000, B, 443, SYN | ACK, 1, 2), tcp(B, 443, A, 40000, SYN, 9)]
    for some in (strays[:1], strays):
        assert originators([*talk, *some, *talk]) == (A, "payload")
    begun = [talk[1], tcp(B, 443, A, 40000, SYN, 999), talk[0]]
    assert originators(begun) == (A, "payload")
    # What is left of an older connection does not hide a whole handshake.
    rest = tcp(B, 443, A, 40000, ACK, 6000, 5000)
    assert originators([rest, *download(A, 40000, B, 443, down=1000)]) == (A, "syn")
