"""Packets of any iterable of times and bytes, and of Scapy."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import conntrack_py as ct
from support import corpus
from support.packets import Packet, udp

FRAME = udp("10.0.0.5", 40000, "203.0.113.1", 53)
NOON = dt.datetime(2026, 1, 1, 12, 0, 0, 123456)
NS = 1_767_268_800_123_456_000


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (1.5, 1_500_000_000),
        (np.float64(-2.25), -2_250_000_000),
        (1_700_000_000.123_456_7, 1_700_000_000_123_457_000),
        (7, 7_000_000_000),
        (np.int32(7), 7_000_000_000),
        (Decimal("1700000000.123456789"), 1_700_000_000_123_456_789),
        (Decimal("1.9999999999"), 1_999_999_999),
        (Decimal("-1E-999999"), 0),
        (NOON, NS),
        (NOON.replace(tzinfo=dt.UTC), NS),
        (NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), NS - 2 * 3600 * 10**9),
        (pd.Timestamp(NS + 789), NS + 789),
        (pd.Timestamp(NS + 789, tz="Europe/Berlin"), NS + 789),
        (np.datetime64(NS + 789, "ns"), NS + 789),
        (np.datetime64("1970-01-02"), 86_400_000_000_000),
        (np.datetime64("1969-12-31T23:59:59"), -1_000_000_000),
    ],
)
def test_times(time: Any, expected: int) -> None:
    batch = ct.PacketBatch.from_pairs([(time, FRAME)])
    assert batch.timestamps.view("i8").tolist() == [expected]


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (math.nan, "the time nan, expected seconds since 1970, a datetime or a datetime64"),
        (math.inf, "the time inf, expected seconds"),
        (-math.inf, "the time -inf, expected seconds"),
        (1e300, "expected one from 1677 to 2262"),
        (9.3e9, "expected one from 1677 to 2262"),
        (1 << 80, "expected one from 1677 to 2262"),
        (Decimal("NaN"), "expected seconds"),
        (Decimal("Infinity"), "expected seconds"),
        (Decimal("1E+999999"), "expected one from 1677 to 2262"),
        (dt.datetime(1600, 1, 1), "expected one from 1677 to 2262"),
        (np.datetime64("3000-01-01"), "expected one from 1677 to 2262"),
        (np.datetime64("NaT"), "expected seconds"),
        (pd.NaT, "expected seconds"),
        ("1.5", "the time '1.5', expected seconds"),
        (None, "the time None, expected seconds"),
        (True, "the time True, expected seconds"),
        (np.float32(1.5), "expected seconds"),
        (dt.date(2026, 1, 1), "expected seconds"),
    ],
)
def test_refused_times_have_their_place(time: Any, message: str) -> None:
    with pytest.raises(ValueError, match="packet 1: found.*" + message):
        ct.PacketBatch.from_pairs([(0, FRAME), (time, FRAME)])


@pytest.mark.parametrize("time", ["3000-01-01", "1600-01-01"])
def test_times_of_arrays_are_not_wrapped(time: str) -> None:
    times = np.array(["2026-01-01", time], "M8[s]")
    with pytest.raises(ValueError, match=f"timestamps: found {time}T00:00:00 in frame 1, expected a time from 1677"):
        ct.PacketBatch.from_frames([FRAME, FRAME], times)


def test_any_iterable_in_batches(mixed: list[Packet]) -> None:
    pairs = iter(mixed)
    sizes = []
    while len(batch := ct.PacketBatch.from_pairs(pairs, count=20)):
        sizes.append(len(batch))
    assert sum(sizes) == len(mixed)
    assert set(sizes[:-1]) == {20}
    ip = ct.PacketBatch.from_pairs([(1, FRAME[14:])], linktype=101)
    assert ip["sport"].tolist() == [40000]


def test_no_packets() -> None:
    assert len(ct.PacketBatch.from_pairs([])) == len(ct.PacketBatch.from_scapy([])) == 0


# ---- scapy ----


@pytest.fixture(scope="module")
def scapy() -> Any:
    """Scapy's own names, or a skip."""
    try:
        import scapy.all as names
    except ImportError:
        corpus.missing("scapy is not installed; the extra `test` has it")
    return names


@pytest.mark.filterwarnings("ignore")
def test_packet_lists_are_the_file(scapy: Any, mixed: list[Packet], pcap: Callable[..., Path]) -> None:
    path = pcap(mixed)
    with ct.open_capture(path) as capture:
        expected = list(capture)
    whole = ct.PacketBatch.from_scapy(scapy.rdpcap(str(path)))
    for name in ("timestamp", "src", "dst", "sport", "dport", "length", "vlan"):
        assert np.array_equal(whole[name], np.concatenate([batch[name] for batch in expected])), name
    with scapy.PcapReader(str(path)) as reader:
        sizes = []
        while len(batch := ct.PacketBatch.from_scapy(reader, count=30)):
            sizes.append(len(batch))
    assert sum(sizes) == len(mixed)


@pytest.mark.filterwarnings("ignore")
def test_packets_made_by_hand(scapy: Any) -> None:
    packet = scapy.Ether() / scapy.IP(src="10.0.0.5", dst="203.0.113.1") / scapy.UDP(sport=1, dport=53)
    packet.time = 1.5
    batch = ct.PacketBatch.from_scapy([packet])
    assert (batch.timestamps.view("i8").tolist(), batch["dport"].tolist()) == ([1_500_000_000], [53])
    assert ct.PacketBatch.from_scapy([packet.payload])["dport"].tolist() == [53]
    with pytest.raises(ValueError, match="packet 1: found IP outermost, expected the layer of packet 0"):
        ct.PacketBatch.from_scapy([packet, packet.payload])
    with pytest.raises(ValueError, match=r"packet 0: found Raw outermost, expected one of Ether, .*, or linktype"):
        ct.PacketBatch.from_scapy([scapy.Raw(b"x")])
    raw = scapy.Raw(bytes(packet))
    assert ct.PacketBatch.from_scapy([raw], linktype=1)["dport"].tolist() == [53]


def test_whatever_is_like_a_packet_of_scapy() -> None:
    class Ether(bytes):
        """Bytes with what from_scapy reads."""

        time = Decimal("1.5")
        wirelen = 1400

    batch = ct.PacketBatch.from_scapy([Ether(FRAME)])
    (row,) = [ct.Tracker().process(batch)]
    assert len(row) == 1
    for wrong in (7, b"bytes", SimpleNamespace(time=1.0)):
        with pytest.raises(ValueError, match=r"packet 0: found .*, expected a packet of Scapy"):
            ct.PacketBatch.from_scapy([wrong])


def test_protocols_by_name() -> None:
    def protos(proto: Any) -> list[int]:
        table = {
            "src": ["10.0.0.5"] * 3,
            "dst": ["10.0.0.6"] * 3,
            "sport": [0] * 3,
            "dport": [0] * 3,
            "length": [40] * 3,
        }
        flags = [0] * 3
        return ct.PacketBatch.from_arrays(timestamp=[1, 2, 3], proto=proto, tcp_flags=flags, **table)["proto"].tolist()

    assert protos(["udp", "ICMP", "47"]) == protos(np.array(["udp", "icmp", "gre"], object)) == [17, 1, 47]
    assert protos(pd.Series(["udp", "ipv6-icmp", "icmpv6"], dtype="category")) == [17, 58, 58]
    assert protos(["udp", 17, 17]) == [17, 17, 17]
