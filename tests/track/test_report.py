"""Connections that are due at their close, while their entries live on, and time without packets."""

from __future__ import annotations

from pathlib import Path

import pytest

import conntrack_py as ct
from support.packets import Packet, pcap_bytes, tcp, udp

SECOND = 10**9
CLIENT, SERVER = "10.0.0.5", "203.0.113.80"
#: A handshake, a request, and the four packets of an orderly close, one a second.
OPEN = [
    (0, CLIENT, SERVER, "S", 100, 0),
    (1, SERVER, CLIENT, "SA", 900, 101),
    (2, CLIENT, SERVER, "A", 101, 901),
]
CLOSE = [
    (3, CLIENT, SERVER, "FA", 101, 901),
    (4, SERVER, CLIENT, "FA", 901, 102),
    (5, CLIENT, SERVER, "A", 102, 902),
]
#: A retransmitted FIN and its acknowledgement.
LATER = [(6, SERVER, CLIENT, "FA", 901, 102), (7, CLIENT, SERVER, "A", 102, 902)]


def packets(steps: list[tuple[int, str, str, str, int, int]], port: int = 40000) -> list[Packet]:
    flags = {"S": 0x02, "SA": 0x12, "A": 0x10, "FA": 0x11, "R": 0x04, "RA": 0x14}
    made = []
    for at, src, dst, kind, seq, ack in steps:
        ports = (port, 443) if src == CLIENT else (443, port)
        made.append((at, tcp(src, ports[0], dst, ports[1], flags[kind], seq=seq, ack=ack)))
    return made


def batches(packets: list[Packet], size: int) -> list[ct.PacketBatch]:
    return [
        ct.PacketBatch.from_frames([frame for _, frame in part], [int(at * SECOND) for at, _ in part])
        for part in (packets[at : at + size] for at in range(0, len(packets), size))
    ]


def drained(packets: list[Packet], report: str, size: int = 1) -> tuple[list[list[str]], ct.Tracker]:
    tracker = ct.Tracker(report=report)  # type: ignore[arg-type]
    rows = []
    for batch in batches(packets, size):
        tracker.process(batch)
        rows.append([f"{row.state} {row.end_reason} {row.history}" for row in tracker.drain()])
    return rows, tracker


def test_a_close_is_due_at_once() -> None:
    rows, tracker = drained(packets(OPEN + CLOSE + LATER), "closed")
    assert rows == [[], [], [], [], [], rows[5], [], []]
    assert rows[5][0].startswith("TIME_WAIT closed")
    stats = tracker.stats()
    assert (stats.packets, stats.connections, stats.after_close) == (8, 1, 2)
    assert len(tracker.snapshot()) == 0, "reported, and no longer among the live"
    assert tracker.lookup(CLIENT, 40000, SERVER, 443, "tcp") is not None, "the entry lives on"
    assert len(tracker.finish()) == 0, "reported once"


def test_by_default_a_close_is_due_with_its_entry() -> None:
    rows, tracker = drained(packets(OPEN + CLOSE + LATER), "gone")
    assert rows == [[]] * 8
    assert len(tracker.snapshot()) == 1
    assert [row.end_reason for row in tracker.finish()] == ["closed"]
    assert tracker.stats().after_close == 0


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_rows_do_not_depend_on_batches(size: int) -> None:
    both = sorted(packets(OPEN + CLOSE + LATER) + packets(OPEN + CLOSE, 40001), key=lambda packet: packet[0])
    rows = [row for part in drained(both, "closed", size)[0] for row in part]
    assert len(rows) == 2
    assert rows == [row for part in drained(both, "closed")[0] for row in part]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([*OPEN, (3, SERVER, CLIENT, "RA", 901, 101)], "reset"),
        ([(0, CLIENT, SERVER, "S", 100, 0), (1, SERVER, CLIENT, "RA", 0, 101)], "reset"),
        ([*OPEN, (3, CLIENT, SERVER, "FA", 101, 901)], None),
        ([*OPEN, (3, CLIENT, SERVER, "R", 101 + 2**31, 0)], None),
    ],
    ids=["RST", "refusal", "half-close", "RST outside the window"],
)
def test_resets(steps: list[tuple[int, str, str, str, int, int]], reason: str | None) -> None:
    rows, tracker = drained(packets(steps), "closed")
    assert [row.split()[1] for row in rows[-1]] == ([] if reason is None else [reason])
    assert len(tracker.finish()) == (1 if reason is None else 0)


def test_a_new_connection_of_the_same_ports_is_another() -> None:
    again = [
        (at + 20, src, dst, kind, seq + 5_000_000, ack + (5_000_000 if ack else 0))
        for at, src, dst, kind, seq, ack in OPEN + CLOSE
    ]
    rows, tracker = drained(packets(OPEN + CLOSE + again), "closed")
    assert [len(part) for part in rows] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert tracker.stats().connections == 2
    assert tracker.stats().after_close == 0


def test_a_datagram_has_no_close() -> None:
    rows, tracker = drained([(0, udp(CLIENT, 5353, SERVER, 53)), (1, udp(SERVER, 53, CLIENT, 5353))], "closed")
    assert rows == [[], []]
    assert len(tracker.snapshot()) == 1


def test_drain_says_from_when_on() -> None:
    tracker = ct.Tracker()
    for batch in batches(packets(OPEN + CLOSE), 6):
        tracker.process(batch)
    assert len(tracker.drain()) == 0
    assert len(tracker.drain(report="closed")) == 1, "what closed before is due, too"
    assert len(tracker.drain()) == 0
    tracker.process(batches(packets(OPEN + CLOSE, 40001), 6)[0])
    assert len(tracker.drain(report="gone")) == 1, "closed while reports were wanted"
    tracker.process(batches(packets(OPEN + CLOSE, 40002), 6)[0])
    assert len(tracker.drain()) == 0
    assert [row.orig_port for row in tracker.finish()] == [40002]
    with pytest.raises(ValueError, match="report: found 'now', expected 'closed' or 'gone'"):
        tracker.drain(report="now")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="report: found 'now'"):
        ct.Tracker(report="now")  # type: ignore[arg-type]


def test_reports_survive_a_checkpoint(tmp_path: Path) -> None:
    tracker = drained(packets(OPEN + CLOSE), "closed")[1]
    tracker.save(tmp_path / "state")
    tracker = ct.Tracker.load(tmp_path / "state")
    tracker.process(batches(packets(LATER), 2)[0])
    tracker.process(batches(packets(OPEN + CLOSE, 40001), 6)[0])
    assert [row.orig_port for row in tracker.drain()] == [40001], "the mode is in the state, and what was reported"
    assert tracker.stats().after_close == 2
    assert len(tracker.finish()) == 0


def test_time_advances_without_packets() -> None:
    tracker = ct.Tracker()
    tracker.process(batches([(0, udp(CLIENT, 5353, SERVER, 53)), (1, udp(SERVER, 53, CLIENT, 5353))], 2)[0])
    tracker.advance(40 * SECOND)
    assert len(tracker.drain()) == 0, "31 s, and 10 for late packets"
    tracker.advance(42 * SECOND)
    assert [row.end_reason for row in tracker.drain()] == ["timeout"]
    for end in (-(2**63), 2**63 - 1):
        tracker.advance(end)
    with pytest.raises(OverflowError):
        tracker.advance(2**63)


def test_the_end_of_many_is_told_by_one_tick() -> None:
    tracker = ct.Tracker()
    tracker.process(batches([(0, udp(CLIENT, 1024 + port, SERVER, 53)) for port in range(5000)], 5000)[0])
    tracker.advance(60 * SECOND)
    assert len(tracker.drain()) == 5000


def test_zeek_reports_a_close_too() -> None:
    config = ct.Config(profile="zeek")
    tracker = ct.Tracker(config, report="closed")
    for batch in batches(packets(OPEN + CLOSE), 1):
        tracker.process(batch)
    assert [row.conn_state for row in tracker.drain()] == ["SF"]
    assert len(tracker.finish()) == 0


def test_a_capture_as_a_whole_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(packets(OPEN + CLOSE + LATER)))
    assert ct.track(path).connections[0].orig_pkts == 5
    assert ct.track(path).stats.after_close == 0
