"""Connections that another one made expected: answers to a question to a group, and what messages announce."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from support.packets import ACK, PSH, SYN, Packet, evenly, pcap_bytes, tcp, udp
from support.verdicts import segment, track, verdicts

#: An asker, who answers, and a server elsewhere.
A, B, C, FAR = "192.168.0.15", "192.168.0.20", "192.168.0.21", "203.0.113.9"
BROADCAST = "255.255.255.255"


def to_all(frame: bytes) -> bytes:
    """The frame, sent to the broadcast address of the link."""
    return b"\xff" * 6 + frame[6:]


def question(
    port: int = 43213, group: str = BROADCAST, service: int = 30303, payload: bytes = b"who is there"
) -> bytes:
    return to_all(udp(A, port, group, service, payload))


def rows(frames: Sequence[bytes] | list[Packet], **options: object) -> list[ct.Connection]:
    packets = frames if frames and isinstance(frames[0], tuple) else evenly(frames)  # type: ignore[arg-type]
    return list(track(packets, **options).connections)  # type: ignore[arg-type]


def is_answer(row: ct.Connection, parent: int = 0, evidence: str = "related") -> bool:
    return (row.orig_addr, row.evidence, row.flipped, row.related_to) == (A, evidence, True, parent)


@pytest.mark.parametrize(
    ("group", "service", "answers"),
    [
        (BROADCAST, 30303, (30303, 30303)),
        ("192.168.0.255", 47808, (47808, 47808)),  # a subnet's broadcast, known by the link alone
        ("224.0.0.251", 5353, (5353, 40001)),
        ("239.255.255.250", 1900, (50000, 50001)),
    ],
)
def test_each_answer_belongs_to_the_asker(group: str, service: int, answers: tuple[int, int]) -> None:
    frames = [question(43213, group, service)]
    frames += [udp(by, port, A, 43213, b"here") for by, port in zip((B, C), answers, strict=True)]
    result = track(evenly(frames))
    asked, *found = result.connections
    assert (asked.direction, asked.related_to) == ("multicast", None)
    for row in found:
        assert is_answer(row)
        assert (row.direction, row.state, row.history) == ("internal", "UNREPLIED", "^d")
    # The labels are those of a gateway without helpers, in the direction of the asker.
    assert result.labels is not None
    assert result.labels["reply"].tolist() == [False, True, True]
    assert set(result.labels["ctstate"]) == {ct.CtState.NEW}
    assert set(result.labels["ctdir"]) == {ct.CtDir.ORIGINAL}
    assert result.labels["direction"].tolist()[1:] == [ct.Direction.INTERNAL] * 2


def test_a_conversation_that_begins_with_an_answer() -> None:
    talk = [udp(B, 30303, A, 43213, b"here"), udp(A, 43213, B, 30303, b"more"), udp(B, 30303, A, 43213, b"yes")]
    row = rows([question(), *talk])[1]
    assert is_answer(row)
    assert (row.state, row.orig_pkts, row.resp_pkts) == ("REPLIED", 1, 2)


def test_an_answer_that_says_so_keeps_its_evidence() -> None:
    answer = b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n"
    asked = question(50000, "239.255.255.250", 1900, b"M-SEARCH * HTTP/1.1\r\nMX: 1\r\n\r\n")
    assert is_answer(rows([asked, udp(B, 1900, A, 50000, answer)])[1], evidence="payload")
    # Both announce themselves, and the message tells.
    mdns = bytes.fromhex("000084000000000100000000") + b"\1a\0" + bytes.fromhex("00018001000000780004c0a80014")
    both = [question(5353, "224.0.0.251", 5353), to_all(udp(B, 5353, "224.0.0.251", 5353, mdns))]
    assert is_answer(rows([*both, udp(B, 5353, A, 5353, mdns)])[2], evidence="payload")


def test_answers_come_within_half_a_minute_of_the_last_question() -> None:
    answer = udp(B, 30303, A, 43213, b"here")
    for at, expected in ((0.0, True), (29.9, True), (30.1, False)):
        assert is_answer(rows([(0.0, question()), (at + 0.000001, answer)])[1]) == expected
    again = [(0.0, question()), (20.0, question()), (45.0, answer)]
    assert is_answer(rows(again)[1])
    assert not is_answer(rows([(0.0, answer), (1.0, question())])[0])


def test_what_is_no_answer() -> None:
    def first(*frames: bytes) -> tuple[str, int | None]:
        row = rows(list(frames))[-1]
        return row.orig_addr, row.related_to

    # From ports that name no end: another rung would.
    assert first(question(), udp(B, 50303, A, 43214, b"x")) == (B, None)
    assert first(question(), udp(FAR, 50303, A, 43213, b"x")) == (FAR, None)
    # Both only announce themselves.
    other = to_all(udp(B, 17500, BROADCAST, 17500, b"x"))
    assert first(question(17500, service=17500), other, udp(B, 17500, A, 17500, b"x")) == (B, None)
    # A client of a service that announces itself.
    client = [udp(B, 50000, A, 17500, b"?"), udp(A, 17500, B, 50000, b"!")]
    assert first(question(17500, service=17500), *client) == (B, None)
    # TCP answers no question of UDP.
    assert first(question(), tcp(B, 30303, A, 43213, SYN, 1)) == (B, None)


def _policy(folder: Path, text: str) -> Policy:
    (folder / "policy.toml").write_text(text)
    return Policy.load(folder / "policy.toml")


def test_the_asker_is_judged_by_a_policy(tmp_path: Path) -> None:
    frames = [question(), udp(B, 30303, A, 43213, b"here"), udp(C, 30303, A, 43213, b"here")]
    table = track(evenly(frames)).connections
    rule = '{{ {} = "192.168.0.0/16", proto = "udp", ports = [30303] }}'
    group = '[groups.a]\nmembers = ["192.168.0.15/32"]\n'
    everywhere = '{ to = "255.255.255.255/32", proto = "udp", ports = [30303] }'
    allows = _policy(tmp_path, group + f"egress = [{rule.format('to')}, {everywhere}]\n")
    assert allows.check(table).ok
    refuses = _policy(tmp_path, group + f"ingress = [{rule.format('from')}]\negress = [{everywhere}]\n")
    checked = refuses.check(table)
    assert checked.refused == 2
    assert [one.side for one in checked.refusals] == ["egress"]


def read_request(opcode: int = 1) -> bytes:
    return struct.pack("!H", opcode) + b"pxelinux.0\0octet\0"


def test_data_of_tftp_belong_to_the_request() -> None:
    data = [udp(FAR, 50618, A, 3445, b"\0\3\0\1" + bytes(512)), udp(A, 3445, FAR, 50618, b"\0\4\0\1")]
    for opcode in (1, 2):
        asked, found = rows([udp(A, 3445, FAR, 69, read_request(opcode)), *data])
        assert (asked.evidence, asked.related_to) == ("payload", None)
        assert is_answer(found)
        assert (found.direction, found.state) == ("egress", "REPLIED")
    # Not a request, another server, another port of the client.
    for frame in (
        udp(A, 3445, FAR, 69, read_request(3)),
        udp(A, 3445, "203.0.113.10", 69, read_request()),
        udp(A, 3446, FAR, 69, read_request()),
    ):
        assert rows([frame, *data])[1].related_to is None


def ftp(line: bytes) -> bytes:
    return segment(FAR, 21, A, 40000, line + b"\r\n")


def test_data_of_ftp_name_the_control_connection() -> None:
    passive = ftp(b"227 Entering Passive Mode (203,0,113,9,195,81)")
    opened = [tcp(A, 50000, FAR, 50001, SYN, 1), tcp(FAR, 50001, A, 50000, SYN | ACK, 1, 2)]
    row = rows([passive, *opened])[1]
    assert (row.orig_addr, row.evidence, row.flipped, row.related_to) == (A, "syn", False, 0)
    middle = rows([passive, segment(FAR, 50001, A, 50000, b"contents")])[1]
    assert is_answer(middle)
    # Active: the server connects, and stays the originator.
    active = segment(A, 40000, FAR, 21, b"PORT 192,168,0,15,195,80\r\n")
    row = rows([active, tcp(FAR, 20, A, 50000, SYN, 1)])[1]
    assert (row.orig_addr, row.evidence, row.flipped, row.related_to) == (FAR, "syn", False, 0)
    # A connection the other way is not the announced one.
    assert rows([active, tcp(A, 50000, FAR, 20, SYN, 1)])[1].related_to is None


def test_direct_connections_of_irc() -> None:
    own = struct.unpack("!I", bytes([192, 168, 0, 15]))[0]
    offer = segment(A, 40000, FAR, 6667, f"PRIVMSG bob :\1DCC SEND a.txt {own} 5001 900\1\r\n".encode(), PSH | ACK)
    opened = rows([offer, tcp(C, 50000, A, 5001, SYN, 1)])[1]
    assert (opened.orig_addr, opened.evidence, opened.related_to) == (C, "syn", 0)
    middle = rows([offer, segment(A, 5001, C, 5002, b"contents")])[1]
    assert (middle.orig_addr, middle.evidence, middle.flipped, middle.related_to) == (C, "related", True, 0)


def sip(start: str, addr: str, port: int) -> bytes:
    body = f"v=0\r\no=- 1 1 IN IP4 {addr}\r\ns=-\r\nc=IN IP4 {addr}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    head = f"{start}\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def test_media_of_sip_belong_to_the_inviter() -> None:
    invite = udp(A, 5060, FAR, 5060, sip("INVITE sip:bob@example.com SIP/2.0", A, 40000))
    accept = udp(FAR, 5060, A, 5060, sip("SIP/2.0 200 OK", FAR, 50000))
    media = [udp(FAR, 50000 + more, A, 40000 + more, b"\x80\0" + bytes(170)) for more in (0, 1)]
    for signalling in ([invite], [accept], [invite, accept]):
        signals, *found = rows([*signalling, *media])
        assert signals.related_to is None
        assert [(row.orig_addr, row.evidence, row.flipped, row.related_to) for row in found] == [
            (A, "related", True, 0)
        ] * 2
    # From the other end, who was invited.
    called = udp(FAR, 5060, A, 5060, sip("INVITE sip:bob@example.com SIP/2.0", FAR, 50000))
    row = rows([called, udp(A, 40000, FAR, 50000, b"\x80\0" + bytes(170))])[1]
    assert (row.orig_addr, row.flipped, row.related_to) == (FAR, True, 0)
    # An address that is not the signalling's.
    other = udp(A, 5060, FAR, 5060, sip("INVITE sip:bob@example.com SIP/2.0", C, 40000))
    assert rows([other, udp(FAR, 50000, C, 40000, b"\x80\0" + bytes(170))])[1].related_to is None


def story() -> list[Packet]:
    """All kinds, between many other connections."""
    frames = [question(), udp(A, 3445, FAR, 69, read_request()), ftp(b"229 Extended (|||50001|)")]
    frames += [udp(f"192.168.1.{number}", 4000 + number, "192.168.2.2", 53, b"x") for number in range(200)]
    frames += [udp(f"192.168.0.{number}", 30303, A, 43213, b"here") for number in range(20, 60)]
    frames += [udp(FAR, 50618, A, 3445, b"\0\3\0\1"), segment(FAR, 50001, A, 50000, b"contents")]
    return evenly(frames)


def test_rows_and_labels_are_the_same_for_any_number_of_threads() -> None:
    capture = pcap_bytes(story())
    one = ct.track(io.BytesIO(capture), labels=True, threads=1)
    assert (one.connections["related_to"] >= 0).sum() == 42
    for threads in (2, 4):
        more = ct.track(io.BytesIO(capture), labels=True, threads=threads)
        for name in ("orig_addr", "evidence", "flipped", "related_to"):
            np.testing.assert_array_equal(one.connections[name], more.connections[name])
        assert one.labels is not None
        assert more.labels is not None
        np.testing.assert_array_equal(one.labels, more.labels)


def test_a_stream_keeps_the_first_sender() -> None:
    """A tracker does not look back: docs/concepts/initiator.md says so."""
    tracker = ct.Tracker()
    with ct.open_capture(io.BytesIO(pcap_bytes(evenly([question(), udp(B, 30303, A, 43213, b"here")])))) as capture:
        for batch in capture:
            tracker.process(batch)
    row = list(tracker.finish())[1]
    assert (row.orig_addr, row.evidence, row.flipped, row.related_to) == (B, "first_packet", False, None)


def stun(kind: int) -> bytes:
    return struct.pack("!HHI", kind, 0, 0x2112A442) + bytes(12)


def test_requests_of_both_ends_decide_nothing() -> None:
    both = [udp(A, 40000, B, 50000, stun(1)), udp(B, 50000, A, 40000, stun(1))]
    assert verdicts(both)[0][2] != "payload"
    assert verdicts([*both, udp(A, 40000, B, 50000, stun(0x101))])[0][2] != "payload"
    assert verdicts([udp(B, 50000, A, 40000, stun(0x101))]) == [(A, 40000, "payload")]


def test_a_payload_never_outranks_a_handshake() -> None:
    opened = [tcp(A, 40000, B, 50000, SYN, 1), tcp(B, 50000, A, 40000, SYN | ACK, 1, 2)]
    request = tcp(B, 50000, A, 40000, PSH | ACK, 2, 2, b"GET / HTTP/1.1\r\n\r\n")
    assert verdicts([*opened, request]) == [(A, 40000, "syn")]
    assert verdicts([opened[1], request]) == [(A, 40000, "syn_ack")]
