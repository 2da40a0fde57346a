"""`track`: statistics, losses and warnings."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from support.packets import START, Packet, evenly, pcap_bytes, udp

Write = Callable[..., Path]


def test_stats(mixed: list[Packet]) -> None:
    result = ct.track(io.BytesIO(pcap_bytes(mixed)))
    stats = result.stats
    assert result.labels is None
    assert (stats.packets, stats.connections, stats.evicted, stats.snapped) == (len(mixed), 4, 0, 0)
    assert stats.bytes == sum(len(frame) for _, frame in mixed)
    assert stats.skipped == {"not_ip": 1}
    assert stats.first_timestamp == 1_767_225_600_000_000_000
    assert stats.last_timestamp == stats.first_timestamp + (len(mixed) - 1) * 1_000_000
    assert stats.first_time == np.datetime64("2026-01-01T00:00:00", "ns")
    assert stats.last_time - stats.first_time == np.timedelta64(len(mixed) - 1, "ms")
    assert 1 <= stats.peak_connections <= 4
    assert repr(result) == (
        f"<TrackResult: 4 connections (egress 2, internal 1, ingress 1), {len(mixed)} packets, 0.10 s, 1 skipped>"
    )


def test_stats_of_nothing() -> None:
    result = ct.track(io.BytesIO(pcap_bytes([])), labels=True)
    assert (result.stats.packets, result.stats.first_timestamp) == (0, None)
    assert np.isnat(result.stats.first_time)
    assert result.labels is not None
    assert len(result.labels) == 0
    assert repr(result) == "<TrackResult: 0 connections, 0 packets, with labels>"


def test_a_snapped_capture_counts_in_full(mixed: list[Packet]) -> None:
    result = ct.track(io.BytesIO(pcap_bytes(mixed, snaplen=96)))
    assert result.stats.snapped > 0
    assert result.connections["resp_bytes"][0] == 20_000


def test_not_ip_is_no_loss(mixed: list[Packet]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ct.track(io.BytesIO(pcap_bytes(mixed)))


def test_frames_without_ip_are_named_where_they_are_most(mixed: list[Packet]) -> None:
    stations = bytes.fromhex("020000000002020000000001")
    kinds = [(0x0806, 40), (0x88CC, 30), *((0x7000 + number, 2) for number in range(20))]
    others = [stations + struct.pack(">H", kind) + bytes(46) for kind, count in kinds for _ in range(count)]
    few = ct.track(io.BytesIO(pcap_bytes([*mixed, (1e9 + 2, others[0])])))
    assert few.stats.not_ip == {"ARP": 2}
    frames = [*mixed[:5], *((1e9 + 2, frame) for frame in others)]
    with pytest.warns(
        ct.CaptureWarning, match=r"^110 of 115 frames \(96 %\) have no IP: 40 ARP, 30 LLDP, 2 "
    ) as caught:
        stats = ct.track(io.BytesIO(pcap_bytes(frames))).stats
    assert str(caught[0].message).endswith(", 12 other")
    assert len(stats.not_ip) == 17
    assert stats.not_ip["EtherType 0x7000"] == 2
    assert sum(stats.not_ip.values()) == stats.skipped["not_ip"] == 110
    # As many as others are no majority.
    half = [*mixed[:5], *((1e9 + 2, frame) for frame in others[:5])]
    assert ct.track(io.BytesIO(pcap_bytes(half))).stats.not_ip == {"ARP": 5}


def test_damage_is_a_warning(pcap: Write, mixed: list[Packet]) -> None:
    path = pcap(mixed)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(
        ct.CaptureWarning,
        match=r"part of the capture was not used: 1 file that ends inside a record \(.* bytes\), .* at byte",
    ) as caught:
        result = ct.track(path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert str(path) in str(caught[0].message)
    (place,) = result.stats.skipped_at.values()
    assert place == (str(path), len(pcap_bytes(mixed[:-1])))
    assert len(result.connections) == 4


def test_strict_raises_instead(pcap: Write, mixed: list[Packet]) -> None:
    path = pcap(mixed)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ct.CaptureError) as caught:
        ct.track(path, config=ct.Config(strict=True))
    assert (caught.value.path, caught.value.offset) == (str(path), len(pcap_bytes(mixed[:-1])))


def test_undecoded_packets_are_a_warning() -> None:
    bad = bytearray(udp("10.0.0.5", 1, "10.0.0.6", 2))
    bad[14] = 0x41  # an IP header of 4 bytes
    source = io.BytesIO(pcap_bytes(evenly([bytes(bad), bytes(bad), udp("10.0.0.5", 1, "10.0.0.6", 2)])))
    message = r"2 packets whose IP headers contradict themselves, first in <BytesIO> at byte 24"
    with pytest.warns(ct.CaptureWarning, match=message):
        assert ct.track(source).stats.skipped == {"bad_ip_header": 2}


@pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")
@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_time_is_the_earliest(pcap: Callable[..., Path], threads: int) -> None:
    """The clock steps back within a file, and another file began before."""
    frames = [udp("10.0.0.1", 1000 + port, "10.0.0.2", 53) for port in range(4)]
    late = pcap(list(zip((50.0, 90.0, 20.0, 91.0), frames, strict=True)), name="late.pcap")
    early = pcap([(30.0, frames[0])], name="early.pcap")
    for files, first in (([late], 20), ([early, late], 20), ([early], 30)):
        stats = ct.track(files, config=ct.Config(threads=threads)).stats
        assert stats.first_timestamp == (START + first) * 10**9
        assert stats.last_timestamp == (START + (91 if late in files else 30)) * 10**9
