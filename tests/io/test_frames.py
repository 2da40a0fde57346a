"""Packets from elsewhere: frames and dpkt readers give what the file gives."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py.io.frames import of_frames
from support import corpus
from support.packets import START, Packet, pcap_bytes, udp

#: A float has no room for nanoseconds, and the file's own columns have.
FIELDS = ("ctstate", "ctdir", "reply", "direction", "state", "connection")


def fed(batches: Iterator[ct.PacketBatch]) -> tuple[np.ndarray, list[ct.Connection]]:
    """Labels and connections of a tracker that was fed these."""
    tracker = ct.Tracker()
    labels = [tracker.process(batch) for batch in batches]
    rows = list(tracker.finish())
    return np.concatenate(labels) if labels else np.empty(0), rows


def by_file(path: Path) -> tuple[np.ndarray, list[ct.Connection]]:
    with ct.open_capture(path) as capture:
        return fed(capture)


def cuts(number: int, seed: int) -> list[slice]:
    """Batches of any size, some of them empty."""
    choose = random.Random(seed)
    places = sorted(choose.choices(range(number + 1), k=5))
    return [slice(a, b) for a, b in zip([0, *places], [*places, number], strict=True)]


@pytest.mark.parametrize("capture", corpus.captures()[::3], ids=lambda capture: capture.name)
def test_frames_of_the_corpus(capture: corpus.Capture) -> None:
    records = capture.records
    if len({record.linktype for record in records}) != 1:
        pytest.skip("frames have one link type")
    labels, rows = by_file(capture.path)
    linktype = records[0].linktype
    times = np.array([record.ts for record in records])
    wire = np.array([record.wire for record in records])
    frames = [record.data for record in records]
    offsets = np.cumsum([7, *map(len, frames)])
    buffer = b"before " + b"".join(frames) + b" behind"
    assert len(labels) >= len(frames)
    for seed in range(3):
        some = cuts(len(frames), seed)
        lists = (ct.PacketBatch.from_frames(frames[c], times[c], linktype, lengths=wire[c]) for c in some)
        pieces = (
            ct.PacketBatch.from_frames((buffer, offsets[c.start : c.stop + 1]), times[c], linktype, lengths=wire[c])
            for c in some
        )
        for batches in (lists, pieces):
            again, same = fed(batches)
            assert same == rows
            assert all(np.array_equal(again[name], labels[name][: len(again)]) for name in FIELDS)


def test_dpkt(mixed: list[Packet], pcap: Callable[..., Path]) -> None:
    path = pcap(mixed)
    labels, rows = by_file(path)
    for count in (None, 1, 7):
        with path.open("rb") as file:
            reader = dpkt.pcap.Reader(file)

            def batches(reader: Any = reader, count: int | None = count) -> Iterator[ct.PacketBatch]:
                while len(batch := ct.PacketBatch.from_dpkt(reader, count=count)):
                    yield batch

            again, same = fed(batches())
        assert same == rows
        assert np.array_equal(again, labels)


def test_dpkt_has_the_link_type_of_its_reader() -> None:
    ip = udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?")[14:]
    raw = dpkt.pcap.Reader(io.BytesIO(pcap_bytes([(0.5, ip)], linktype=101)))
    (label,) = ct.Tracker().process(ct.PacketBatch.from_dpkt(raw))
    assert label["connection"] == 0
    pairs = [(START + 0.5, ip)]
    (label,) = ct.Tracker().process(ct.PacketBatch.from_dpkt(pairs, linktype=101))
    assert label["connection"] == 0
    (label,) = ct.Tracker().process(ct.PacketBatch.from_dpkt(pairs))
    assert label["connection"] == -1


def test_times_keep_what_they_have() -> None:
    frame = udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?")
    moments = np.array(["2026-01-01T00:00:00.123456789"], "datetime64[ns]")
    assert ct.PacketBatch.from_frames([frame], moments).timestamps.tolist() == moments.tolist()
    batch = ct.PacketBatch.from_dpkt([(START + 0.000_001, frame)])
    assert batch.timestamps.astype("i8").tolist() == [START * 10**9 + 1000]


FRAME = udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([FRAME], [1, 2]), "timestamps: found 2, expected 1, one for each frame"),
        (([FRAME], [1.5]), "timestamps: found float64, expected nanoseconds as whole numbers"),
        (([FRAME], np.array([1], ">i8")), "timestamps: found >i8, of the other byte order"),
        ((["text"], [1]), r"frames\[0\]: found str, expected bytes"),
        ((FRAME, [1]), "frames: found bytes, expected a list of bytes"),
        (((FRAME, [0, 9999]), [1]), "offsets: expected to grow from 0 to at most"),
        (((FRAME, [9, 3]), [1]), "offsets: expected to grow"),
        (((FRAME, []), []), "offsets: found none"),
        (((3, [0, 1]), [1]), "frames: found int, expected bytes in one piece"),
        (((memoryview(FRAME)[::2], [0, 1]), [1]), "frames: found memoryview, expected bytes in one piece"),
        (([FRAME], [1], 0x10000), "linktype: found 65536"),
        (([FRAME], [1], -1), "linktype: found -1"),
    ],
)
def test_refusals_name_the_argument(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ct.PacketBatch.from_frames(*arguments)


@pytest.mark.parametrize("linktype", [0, 0xFFFF])
def test_the_least_and_the_largest_linktype(linktype: int) -> None:
    assert len(ct.PacketBatch.from_frames([FRAME], [1], linktype)) == 1


def test_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="lengths: found one below 0"):
        ct.PacketBatch.from_frames([FRAME], [1], lengths=[-1])
    with pytest.raises(ValueError, match="lengths: found 0, expected 1"):
        ct.PacketBatch.from_frames([FRAME], [1], lengths=[])


def test_pairs_are_checked() -> None:
    with pytest.raises(ValueError, match="packet 1: found the time 'now', expected seconds"):
        ct.PacketBatch.from_dpkt([(1.0, FRAME), ("now", FRAME)])
    with pytest.raises(ValueError, match=r"frames\[0\]: found int, expected bytes"):
        ct.PacketBatch.from_dpkt([(1.0, 7)])


def test_no_frames_are_no_packets() -> None:
    assert len(ct.PacketBatch.from_frames([], [])) == 0
    assert len(ct.Tracker().process(ct.PacketBatch.from_dpkt(iter([])))) == 0


def test_a_frame_is_at_least_as_long_on_the_wire_as_captured() -> None:
    tracker = ct.Tracker()
    tracker.process(ct.PacketBatch.from_frames([FRAME] * 3, [1, 2, 3], lengths=[0, len(FRAME) - 1, len(FRAME) + 1]))
    assert tracker.stats().bytes == 3 * len(FRAME) + 1
    made = of_frames([FRAME] * 2, np.array([1, 2]), [1, 9999])
    assert made.lengths.tolist() == [len(FRAME), 9999]
