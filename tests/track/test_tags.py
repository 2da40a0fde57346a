"""Tags that differ by direction: halves are joined, tenants with equal five-tuples stay apart."""

from __future__ import annotations

import io
import random
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from support.packets import ACK, RST, START, SYN, download, echo, evenly, pcap_bytes, tcp, udp
from support.strategies import error_about, fragments, tagged, to_ipv6, vxlan

CLIENT, SERVER = "10.0.0.5", "10.0.1.80"
PORT = 40000

Tag = Callable[[bytes], bytes]


def vlan(*vids: int) -> Tag:
    return lambda frame: tagged(frame, *vids)


def geneve(vni: int) -> Tag:
    return lambda frame: udp("192.0.2.1", 50000, "192.0.2.2", 6081, struct.pack(">HHI", 0, 0x6558, vni << 8) + frame)


def vxlan_of(vni: int) -> Tag:
    def put(frame: bytes) -> bytes:
        outer = vxlan(frame, "192.0.2.1", "192.0.2.2")
        at = outer.index(frame) - 8
        return outer[: at + 4] + struct.pack(">I", vni << 8) + outer[at + 8 :]

    return put


def mpls(label: int) -> Tag:
    return lambda frame: frame[:12] + struct.pack(">HI", 0x8847, label << 12 | 0x1FF) + frame[14:]


def plain(frame: bytes) -> bytes:
    return frame


def by_direction(frames: Sequence[bytes], there: Tag, back: Tag, client: str = CLIENT) -> list[bytes]:
    """The client's frames with one tag, the others with another one."""
    own = bytes(int(part) for part in client.split("."))
    return [(there if frame[26:30] == own else back)(frame) for frame in frames]


def track(frames: Sequence[bytes], step: float = 0.001, **keys: Any) -> ct.TrackResult:
    return ct.track(io.BytesIO(pcap_bytes(evenly(frames, step=step))), config=ct.Config(**keys), labels=True)


def numbers(frames: Sequence[bytes], **keys: Any) -> list[int]:
    """The connection of each packet."""
    labels = track(frames, **keys).labels
    assert labels is not None
    return labels["connection"].tolist()


WHOLE = download(CLIENT, PORT, SERVER, 443, 3000)
#: Tags of both directions, and the columns `vlan` and `vlan_reply`.
PAIRS: dict[str, tuple[Tag, Tag, int | None, int | None]] = {
    "tagged, untagged": (vlan(100), plain, 100, 0),
    "untagged, tagged": (plain, vlan(100), None, 100),
    "two vlans": (vlan(100), vlan(200), 100, 200),
    "another inner tag": (vlan(100, 7), vlan(100, 8), 100, None),
    "another outer tag": (vlan(100, 7), vlan(101, 7), 100, 101),
    "one tag and two": (vlan(100), vlan(200, 100), 100, 200),
    "two vxlans": (vxlan_of(7), vxlan_of(8), None, None),
    "vxlan 0 and another": (vxlan_of(0), vxlan_of(8), None, None),
    "vlan in vxlan": (lambda frame: vxlan_of(7)(tagged(frame, 5)), vxlan_of(7), 5, 0),
    "two geneves": (geneve(7), geneve(8), None, None),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("v6", [False, True])
def test_halves_are_one_connection(pair: str, v6: bool) -> None:
    """Row and labels are those of the connection without tags."""
    there, back, first, reply = PAIRS[pair]
    put = to_ipv6 if v6 else plain
    bare = track([put(frame) for frame in WHOLE])
    joined = track(by_direction(WHOLE, lambda frame: there(put(frame)), lambda frame: back(put(frame))))
    (row,), (expected,) = joined.connections, bare.connections
    assert (row.vlan, row.vlan_reply) == (first, reply)
    assert row._replace(vlan=None, vlan_reply=None, tunnel=None) == expected
    assert joined.labels is not None
    assert bare.labels is not None
    assert joined.labels.tobytes() == bare.labels.tobytes()
    assert joined.stats.quality.describe() == ["the tags of 1 connection differ by direction"]
    assert joined.stats.warning() is None


def test_the_modes() -> None:
    frames = by_direction(WHOLE, vlan(100), vlan(200))
    with pytest.warns(ct.CaptureWarning, match="only one end of 100 %"):
        halves = track(frames, vlan="strict").connections
    assert [(row.vlan, row.vlan_reply, row.orig_pkts * row.resp_pkts) for row in halves] == [
        (100, None, 0),
        (200, None, 0),
    ]
    for mode in ("key", "ignore"):
        (row,) = track(frames, vlan=mode).connections
        assert (row.vlan, row.vlan_reply, row.conn_state) == (100, 200, "SF")
    # Two tenants: tags tell nothing apart only where the configuration says so.
    tenants = [*map(vlan(1), WHOLE), *map(vlan(2), WHOLE)]
    assert [len(track(tenants, vlan=mode).connections) for mode in ("key", "strict")] == [2, 2]
    for one, other in [(vlan(1), vlan(2)), (vxlan_of(1), vxlan_of(2))]:
        turns = [tag(frame) for frame in WHOLE for tag in (one, other)]
        assert [len(track(turns, vlan=mode).connections) for mode in ("key", "ignore")] == [2, 1]
    (row,) = track(frames, profile="zeek").connections
    assert (row.vlan_reply, row.conn_state) == (None, "SF")


@pytest.mark.parametrize("mode", ["inner", "outer"])
def test_ignored_tags_are_reported(mode: Any) -> None:
    """Also where the first packet has no tag, and its record no room for one."""
    config = {"vlan": "ignore"} if mode == "inner" else {"tunnels": "outer"}
    for there, back, columns in [(plain, vlan(9), (None, 9)), (vlan(9), plain, (9, 0)), (vlan(9), vlan(9), (9, None))]:
        for frames in (WHOLE, [udp(CLIENT, PORT, SERVER, 53, b"?"), udp(SERVER, 53, CLIENT, PORT, b"!")] * 9):
            (row,) = track(by_direction(frames, there, back), **config).connections
            assert (row.vlan, row.vlan_reply) == columns


def test_labels_of_mpls_are_no_part_of_a_connection() -> None:
    (row,) = track(by_direction(WHOLE, mpls(16), mpls(17))).connections
    assert (row.conn_state, row.vlan, row.vlan_reply) == ("SF", None, None)


ASK, ANSWER = udp(CLIENT, PORT, SERVER, 9999, b"?"), udp(SERVER, 9999, CLIENT, PORT, b"!")


@pytest.mark.parametrize(
    "frames",
    [
        [ASK, ANSWER],
        [ANSWER, ASK],
        [echo(CLIENT, SERVER, 8), echo(SERVER, CLIENT, 0)],
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7), tcp(SERVER, 80, CLIENT, PORT, RST | ACK, 0, 8)],
        # Stored in the wrong order, or begun in the middle.
        [tcp(SERVER, 80, CLIENT, PORT, SYN | ACK, 70, 8), tcp(CLIENT, PORT, SERVER, 80, SYN, 7)],
        [tcp(CLIENT, PORT, SERVER, 80, ACK, 5000, 90_000, b"x" * 9), tcp(SERVER, 80, CLIENT, PORT, ACK, 90_000, 5009)],
        [tcp(CLIENT, PORT, SERVER, 80, ACK, 5000, 90_000, b"x"), tcp(SERVER, 80, CLIENT, PORT, ACK, 89_000, 5000)],
        [tcp(CLIENT, PORT, SERVER, 80, ACK, 5000, 90_000), tcp(SERVER, 80, CLIENT, PORT, RST, 90_000)],
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7, 0, b"early"), tcp(SERVER, 80, CLIENT, PORT, SYN | ACK, 70, 13)],
        [*fragments(udp(CLIENT, PORT, SERVER, 5000, b"f" * 900), 400, 3), udp(SERVER, 5000, CLIENT, PORT, b"!")],
        [udp(SERVER, 5000, CLIENT, PORT, b"!"), *fragments(udp(CLIENT, PORT, SERVER, 5000, b"f" * 900), 400, 3)],
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:1 TCP handshake had the SYN.ACK stamped early")
def test_what_answers(frames: list[bytes]) -> None:
    for there, back in [(vlan(1), plain), (plain, vlan(1)), (vlan(1), vlan(2))]:
        assert set(numbers(by_direction(frames, there, back))) == {0}


@pytest.mark.filterwarnings("ignore:1 TCP handshake had the SYN.ACK stamped early")
def test_a_handshake_out_of_order_has_the_tags_of_each_direction() -> None:
    """The direction of the SYN is the first one, although the SYN+ACK was stored before it."""
    whole = download(CLIENT, PORT, SERVER, 443, 2000)
    frames = [whole[1], whole[0], *whole[2:]]
    for there, back, tags in [(vlan(7), plain, (7, 0)), (plain, vlan(7), (None, 7)), (vlan(7), vlan(8), (7, 8))]:
        (row,) = track(by_direction(frames, there, back)).connections
        assert (row.orig_addr, row.vlan, row.vlan_reply, row.conn_state) == (CLIENT, *tags, "SF")


@pytest.mark.parametrize(
    "frames",
    [
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7), tcp(SERVER, 80, CLIENT, PORT, SYN | ACK, 70, 9)],
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7), tcp(SERVER, 80, CLIENT, PORT, RST | ACK, 0, 7)],
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7), tcp(SERVER, 80, CLIENT, PORT, SYN, 70)],
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7), tcp(SERVER, 80, CLIENT, PORT, RST, 8)],
        [tcp(SERVER, 80, CLIENT, PORT, SYN | ACK, 70, 8), tcp(CLIENT, PORT, SERVER, 80, SYN, 8)],
        [tcp(CLIENT, PORT, SERVER, 80, ACK, 5000, 90_000), tcp(SERVER, 80, CLIENT, PORT, SYN, 90_000)],
        [tcp(CLIENT, PORT, SERVER, 80, ACK, 5000, 90_000), tcp(SERVER, 80, CLIENT, PORT, ACK, 90_000, 1 << 31)],
        [tcp(CLIENT, PORT, SERVER, 80, ACK, 5000, 90_000), tcp(SERVER, 80, CLIENT, PORT, ACK, 1 << 31, 5000)],
        [echo(CLIENT, SERVER, 8), echo(SERVER, CLIENT, 8)],
        [ASK, udp(SERVER, 9998, CLIENT, PORT, b"!")],
    ],
)
def test_what_answers_nothing(frames: list[bytes]) -> None:
    for there, back in [(vlan(1), plain), (plain, vlan(1)), (vlan(1), vlan(2))]:
        assert numbers(by_direction(frames, there, back)) == [0, 1]


def test_another_kind_of_tunnel_is_another_connection() -> None:
    assert numbers([vxlan_of(7)(ASK), geneve(7)(ANSWER), plain(ANSWER)]) == [0, 1, 2]


def test_tenants_stay_apart() -> None:
    """Equal five-tuples under two tags, whatever the order; each with both directions."""
    a, b = download(CLIENT, PORT, SERVER, 443, 2000), download(CLIENT, PORT, SERVER, 443, 5000)
    b = [tcp_shifted(frame, 1 << 30) for frame in b]
    choose = random.Random(3)
    for _ in range(20):
        waiting = [[(0, vlan(1)(frame)) for frame in a], [(1, vlan(2)(frame)) for frame in b]]
        story: list[tuple[int, bytes]] = []
        while waiting := [frames for frames in waiting if frames]:
            story.append(choose.choice(waiting).pop(0))
        found = numbers([frame for _, frame in story])
        assert found == [number ^ story[0][0] for number, _ in story]
    # The SYN of one, the SYN of the other, and the answers.
    assert numbers([vlan(1)(a[0]), vlan(2)(b[0]), vlan(1)(a[1]), vlan(2)(b[1])]) == [0, 1, 0, 1]
    assert numbers([vlan(1)(a[0]), vlan(2)(b[0]), vlan(3)(b[1]), vlan(4)(a[1])]) == [0, 1, 1, 0]
    assert numbers([vlan(1)(a[0]), vlan(2)(a[0]), vlan(3)(a[1]), vlan(4)(a[1])]) == [0, 1, 0, 1], "two copies"


def tcp_shifted(frame: bytes, by: int) -> bytes:
    """A segment with other sequence numbers, on both sides."""
    seq, ack = struct.unpack_from(">II", frame, 38)
    return frame[:38] + struct.pack(">II", (seq + by) % 2**32, (ack + by) % 2**32) + frame[46:]


def test_of_two_datagrams_none_is_the_answered_one() -> None:
    assert numbers([vlan(1)(ASK), vlan(2)(ASK), vlan(3)(ANSWER)]) == [0, 1, 2]
    assert numbers([vlan(1)(ASK), vlan(1)(ANSWER), vlan(2)(ASK), vlan(3)(ANSWER)]) == [0, 0, 1, 1], "one has its answer"
    assert numbers([vlan(1)(ASK), ASK, ANSWER, vlan(1)(ANSWER)]) == [0, 1, 1, 0]


def test_a_join_holds() -> None:
    """From then on both tags are the connection's, in any direction; a third one is not."""
    assert numbers([vlan(1)(ASK), vlan(2)(ANSWER), vlan(2)(ASK), vlan(1)(ANSWER), vlan(3)(ANSWER)]) == [0, 0, 0, 0, 1]


def test_a_half_that_timed_out_is_not_joined() -> None:
    frames = [vlan(1)(ASK), vlan(2)(ANSWER)]
    assert len(track(frames, step=29).connections) == 1
    rows = track(frames, step=31).connections
    assert [row.vlan for row in rows] == [1, 2]
    # A joined connection times out as any other, and both of its keys are free again.
    rows = track([*frames, *reversed(frames)], step=31).connections
    assert [row.vlan for row in rows] == [1, 2, 2, 1]
    again = ct.track(
        io.BytesIO(pcap_bytes([(0, frames[0]), (1, frames[1]), (99, frames[1]), (100, frames[0])]))
    ).connections
    assert [(row.vlan, row.vlan_reply) for row in again] == [(1, 2), (2, 1)]


def test_a_port_that_is_used_again() -> None:
    """By either end: the new connection is joined anew."""
    ours = by_direction(WHOLE, vlan(1), vlan(2))
    theirs = by_direction(download(SERVER, 443, CLIENT, PORT, 2000), vlan(2), vlan(1), SERVER)
    rows = track([*ours, *ours, *theirs]).connections
    found = [(row.orig_addr, row.vlan, row.vlan_reply, row.conn_state) for row in rows]
    assert found == [(CLIENT, 1, 2, "SF"), (CLIENT, 1, 2, "SF"), (SERVER, 2, 1, "SF")]
    refused = by_direction(
        [tcp(CLIENT, PORT, SERVER, 80, SYN, 7), tcp(SERVER, 80, CLIENT, PORT, RST | ACK, 0, 8)], vlan(1), vlan(2)
    )
    assert numbers(refused * 3) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("back", [plain, vlan(1), vlan(2), vlan(3)])
def test_errors_quote_either_direction(joined: bool, back: Tag) -> None:
    """An error with the other direction's tag is related, before and after the join."""
    frames = [vlan(1)(ASK), *([vlan(2)(ANSWER)] if joined else []), back(error_about(ASK, "192.0.2.254"))]
    result = track(frames)
    assert result.labels is not None
    *_, label = result.labels
    knows = not joined or back(b"" * 40) in (vlan(1)(b""), vlan(2)(b""))
    assert (label["connection"], label["ctstate"]) == ((0, ct.CtState.RELATED) if knows else (1, label["ctstate"]))
    row = result.connections[len(result.connections) - 1]
    assert row.related_to == (0 if knows else None)


def test_an_error_about_one_of_several_tenants_is_not_related() -> None:
    result = track([vlan(1)(ASK), vlan(2)(ASK), vlan(3)(error_about(ASK, "192.0.2.254"))])
    assert [row.related_to for row in result.connections] == [None] * 3


@pytest.mark.parametrize("early", [True, False])
def test_lookups_from_any_thread(early: bool) -> None:
    """By the tags of either direction; the first reader may be there before the join or after."""
    tracker = ct.Tracker()
    frames = by_direction(WHOLE, vlan(100), vlan(200))[:8]
    ends = [(CLIENT, PORT, SERVER, 443), (SERVER, 443, CLIENT, PORT)]

    def feed(some: Sequence[bytes]) -> None:
        tracker.process(ct.PacketBatch.from_frames(some, [START * 10**9] * len(some), 1))

    def look(found: list[ct.Connection | None]) -> None:
        found += [tracker.lookup(*pair, "tcp", vlan=vid) for pair in ends for vid in (100, 200)]

    if early:
        assert len(tracker.snapshot()) == 0
    feed(frames[:1])
    if early:
        assert tracker.lookup(*ends[0], "tcp", vlan=200) is None
    feed(frames[1:])
    found: list[ct.Connection | None] = []
    thread = threading.Thread(target=look, args=[found])
    thread.start()
    thread.join()
    (row,) = tracker.snapshot()
    assert (row.vlan, row.vlan_reply, row.state) == (100, 200, "ESTABLISHED")
    assert found == [row] * 4
    assert tracker.lookup(*ends[0], "tcp", vlan=300) is None
    assert tracker.lookup(*ends[0], "tcp") is None
    tracker.finish()
    assert tracker.lookup(*ends[0], "tcp", vlan=200) is None


# A naive reference: every connection in a list, without index, hash or record.


@dataclass(frozen=True)
class Event:
    """A packet of one of several conversations with one five-tuple."""

    conversation: int
    from_client: bool
    flags: str
    tag: int


#: The client's and the server's first numbers of each conversation; the first and the last are copies.
BASES = [(1_000, 9_000), (1 << 31, 3 << 30), (1_000, 9_000)]
FLAGS = {"S": SYN, "H": SYN | ACK, "A": ACK}


def frame_of(event: Event, proto: str) -> bytes:
    there, back = (CLIENT, PORT, SERVER, 80), (SERVER, 80, CLIENT, PORT)
    if proto == "udp":
        frame = udp(*(there if event.from_client else back), b"x")
    else:
        own, peer = BASES[event.conversation][:: 1 if event.from_client else -1]
        numbers = own + (event.flags == "A"), 0 if event.flags == "S" else peer + 1
        frame = tcp(*(there if event.from_client else back), FLAGS[event.flags], *numbers)
    return vlan(event.tag)(frame) if event.tag else frame


def fit(event: Event, half: list[Event], proto: str) -> int | None:
    """The fit of a packet to the packets of the other direction: 0 exactly, 1 nearly, 2 by its direction; None: not."""
    if proto == "udp":
        return 2
    if BASES[event.conversation] != BASES[half[0].conversation]:
        return None
    flags = [seen.flags for seen in half]
    opening = "S" if "S" in flags else flags[0]
    match event.flags:
        case "S":
            return 0 if opening == "H" else None
        case "H":
            return 0 if opening == "S" else None
        case _:
            return 0 if set(flags) == {"S"} else 1


def assigned(events: Sequence[Event], proto: str) -> list[list[Event]]:
    """The packets of each connection."""
    found: list[list[Event]] = []
    owners: dict[int, list[Event]] = {}
    joined: list[list[Event]] = []
    for event in events:
        if event.tag not in owners:
            halves = [
                (quality, at)
                for at, half in enumerate(found)
                if not any(half is other for other in joined)
                and all(seen.from_client != event.from_client for seen in half)
                and (quality := fit(event, half, proto)) is not None
            ]
            best = min(halves, default=None)
            if best is None or (best[0] == 2 and len(halves) > 1):
                found.append([])
                owners[event.tag] = found[-1]
            else:
                owners[event.tag] = found[best[1]]
                joined.append(found[best[1]])
        owners[event.tag].append(event)
    return found


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Conversations that take turns; a tag of one direction may be another conversation's tag of the other one."""
    there, back = (draw(st.permutations(range(4))) for _ in range(2))
    told = st.tuples(st.integers(0, 2), st.sampled_from(["S", "H", "A"]), st.booleans())
    drawn = draw(st.lists(told, min_size=1, max_size=14))
    ways = [(c, flags, flags == "S" or (flags == "A" and from_client)) for c, flags, from_client in drawn]
    return [Event(c, way, flags, (there if way else back)[c]) for c, flags, way in ways]


@pytest.mark.filterwarnings("ignore:only one end")
@given(story=events(), proto=st.sampled_from(["tcp", "udp"]), size=st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_the_naive_reference_joins_the_same(
    story: list[Event], proto: str, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the number of threads, the size of batches, or the checkpoint between two packets."""
    expected = assigned(story, proto)
    frames = [frame_of(event, proto) for event in story]
    folder = tmp_path_factory.mktemp("tags")
    path, state = folder / "story.pcap", folder / "state"
    path.write_bytes(pcap_bytes(evenly(frames)))
    # The reference takes packets in their stored order.
    config = ct.Config(reorder_window=0)
    results = [ct.track(path, labels=True, threads=threads, config=config) for threads in (1, 2)]
    for result in results:
        assert result.labels is not None
        labels = result.labels["connection"].tolist()
        assert labels == [
            next(n for n, some in enumerate(expected) if any(event is one for one in some)) for event in story
        ]
        for row, some in zip(result.connections, expected, strict=True):
            other = next((event.tag for event in some if event.from_client != some[0].from_client), some[0].tag)
            assert row.vlan == (some[0].tag or None)
            assert row.vlan_reply == (None if other == some[0].tag else other)
    assert results[0].labels.tobytes() == results[1].labels.tobytes()  # type: ignore[union-attr]
    assert list(results[0].connections) == list(results[1].connections)
    tracker, said = ct.Tracker(config), []
    for at in range(0, len(frames), size):
        some = frames[at : at + size]
        times = [START * 10**9 + 1_000_000 * (at + number) for number in range(len(some))]
        said.append(tracker.process(ct.PacketBatch.from_frames(some, times, 1)))
        tracker.save(state)
        tracker = ct.Tracker.load(state)
    assert np.concatenate(said)["connection"].tolist() == results[0].labels["connection"].tolist()  # type: ignore[index]
    assert [row.vlan_reply for row in tracker.finish()] == [row.vlan_reply for row in results[0].connections]


# Hostile input.


def test_many_tags_of_one_five_tuple(tmp_path: Path) -> None:
    """A half of each of 50,000 networks, then their answers from others: bounded, counted, and soon done."""
    count = 50_000
    halves = [vxlan_of(number)(ASK) for number in range(count)]
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap_bytes(evenly([*halves, *(vxlan_of(count + n)(ANSWER) for n in range(1000))], step=1e-6)))
    begin = time.process_time()
    results = [
        ct.track(path, config=ct.Config(threads=threads, vlan=mode)) for threads in (1, 2) for mode in ("key", "strict")
    ]
    for result in results:
        assert len(result.connections) == count + 1000
    crowded = [result.stats.quality.tags_crowded for result in results]
    # Network 0 is no tag, and answers crowd, too.
    assert crowded == [count - 1 - 16 + 1000, 0] * 2
    assert "could not be joined, for too many have an equal five-tuple" in results[0].stats.quality.describe()[0]
    assert time.process_time() - begin < 20


def test_answered_connections_leave_room() -> None:
    """Only halves count: after many answered connections of a five-tuple, the next half is still joined."""
    frames = [put(frame) for vid in range(1, 101) for put in [vlan(vid)] for frame in (ASK, ANSWER)]
    result = track([*frames, vlan(200)(ASK), vlan(300)(ANSWER)])
    assert result.stats.quality.tags_crowded == 0
    assert [(row.vlan, row.vlan_reply) for row in result.connections][-1] == (200, 300)
    assert len(result.connections) == 101


@pytest.mark.filterwarnings(
    "ignore:.* is hit:conntrack_py.CaptureWarning", "ignore:.* evicted from:conntrack_py.CaptureWarning"
)
def test_a_memory_limit_counts_joined_tags() -> None:
    """Rows stay right under a limit; what has no room is not joined, and the tracker's memory stays below."""
    limit = 4 << 20
    tracker = ct.Tracker(ct.Config(memory_limit=limit))
    for port in range(1024, 41024, 100):
        asks = [udp(CLIENT, number, SERVER, 9999, b"?") for number in range(port, port + 100)]
        answers = [udp(SERVER, 9999, CLIENT, number, b"!") for number in range(port, port + 100)]
        frames = [*map(vlan(1), asks), *map(vlan(2), answers)]
        tracker.process(ct.PacketBatch.from_frames(frames, [START * 10**9 + port] * len(frames), 1))
    live = tracker.snapshot()
    assert 1_000 < len(live) < limit / 128
