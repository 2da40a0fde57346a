"""A SYN+ACK stored before its SYN: the same row for every way in, the account, and the gateway's view."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from support.packets import ACK, FIN, PSH, SYN, Packet, download, evenly, pcap_bytes, tcp
from support.program import run

CLIENT, SERVER, OUTSIDE = "10.0.0.5", "10.0.1.80", "203.0.113.80"


def quietly(packets: Iterable[Packet], *, labels: bool = False, **keys: object) -> ct.TrackResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        return ct.track(io.BytesIO(pcap_bytes(packets)), labels=labels, config=ct.Config(**keys))


def skewed(
    number: int = 1, *, client: str = CLIENT, server: str = SERVER, lead: float = 0.005, port: int = 40_000
) -> list[Packet]:
    """Downloads whose SYN+ACK is stamped so many seconds before its SYN; stored by time."""
    packets = []
    for at in range(number):
        syn, answer, *rest = download(client, port + at, server, 443, down=3000)
        start = 10.0 * at + 1
        packets += [(start - lead, answer), (start, syn), *evenly(rest, start + 0.001)]
    return packets


def swapped(packets: list[Packet]) -> list[Packet]:
    """The first two packets with their times, in the other order."""
    return [packets[1], packets[0], *packets[2:]]


def rows(result: ct.TrackResult) -> str:
    out = io.BytesIO()
    result.connections.write(out, "csv")
    return out.getvalue().decode()


def test_an_unsorted_file_has_the_row_of_the_sorted_one() -> None:
    sent = evenly(download(CLIENT, 40_000, SERVER, 443))
    expected, found = quietly(sent, labels=True), quietly(swapped(sent), labels=True)
    assert rows(found) == rows(expected)
    assert found.labels[0]["ctstate"] == ct.CtState.INVALID
    assert np.array_equal(found.labels[1], expected.labels[0])
    assert np.array_equal(found.labels[2:], expected.labels[2:])


def test_a_skew_changes_the_start_alone() -> None:
    [row] = quietly(skewed()).connections
    assert (row.history, row.conn_state, row.evidence, row.flipped) == ("ShADdFf", "SF", "syn", False)
    assert (row.state, row.seen_reply, row.assured) == ("TIME_WAIT", True, True)
    sent = skewed()
    [true] = quietly([(1.0, sent[1][1]), (1.0, sent[0][1]), *sent[2:]]).connections
    assert true.start - row.start == 5_000_000
    assert [name for name in row._fields if getattr(row, name) != getattr(true, name)] == ["start"]


@pytest.mark.parametrize("window", [0, 0.0049])
def test_beyond_the_window_the_stored_order_stands(window: float) -> None:
    for packets in (skewed(), swapped([(0.0, skewed()[1][1]), (0.005, skewed()[0][1]), *skewed()[2:]])):
        [row] = quietly(packets, reorder_window=window).connections
        assert (row.history[:3], row.state) == ("^hS", "SYN_SENT")
        [row] = quietly(packets, reorder_window=0.005).connections
        assert (row.history[:3], row.state) == ("ShA", "TIME_WAIT")


def test_zeek_follows_the_stored_order() -> None:
    assert rows(quietly(skewed(), profile="zeek")) == rows(quietly(skewed(), profile="zeek", reorder_window=0))


def reused() -> list[Packet]:
    """The same ports again two seconds after a close, the second time out of order."""
    first = download(CLIENT, 40_000, SERVER, 443, down=1000)
    ends = ((CLIENT, 40_000, SERVER, 443), (SERVER, 443, CLIENT, 40_000))
    syn, answer = tcp(*ends[0], SYN, 700_000), tcp(*ends[1], SYN | ACK, 800_000, 700_001)
    data = tcp(*ends[0], PSH | ACK, 700_001, 800_001, b"GET")
    end = tcp(*ends[0], FIN | ACK, 700_004, 800_001)
    return [*evenly(first), (2.0, answer), (2.001, syn), (2.002, data), (2.003, end)]


def test_ports_used_again() -> None:
    old, new = quietly(reused()).connections
    assert (old.end_reason, old.resp_pkts, old.history) == ("closed", 3, "ShADdFf")
    assert (new.history, new.state, new.orig_pkts, new.resp_pkts) == ("ShDF", "FIN_WAIT", 3, 1)
    old, new = quietly(reused(), reorder_window=0).connections
    assert (old.resp_pkts, new.state, new.resp_pkts) == (4, "SYN_SENT", 0)


MANY = [*skewed(12), *[(at + 200, frame) for at, frame in reused()]]


def test_threads() -> None:
    expected = quietly(MANY, labels=True, threads=1)
    assert set(expected.connections["evidence"]) == {"syn"}
    found = quietly(MANY, labels=True, threads=4)
    assert rows(found) == rows(expected)
    assert np.array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_batches_and_a_checkpoint_between_the_two(size: int, tmp_path: Path) -> None:
    expected = quietly(MANY, labels=True)
    tracker, labels, parts = ct.Tracker(), [], []
    for at in range(0, len(MANY), size):
        times, frames = zip(*MANY[at : at + size], strict=True)
        stamps = [1_767_225_600_000_000_000 + round(time * 1e6) * 1000 for time in times]
        labels.append(tracker.process(ct.PacketBatch.from_frames(list(frames), stamps, 1)))
        tracker.save(tmp_path / "state")
        tracker = ct.Tracker.load(tmp_path / "state")
        parts.append(len(tracker.snapshot()))
    assert np.array_equal(np.concatenate(labels), expected.labels)
    names = ("start", "end", "history", "state", "orig_pkts", "resp_pkts", "end_reason", "flipped")
    found = sorted(tuple(str(getattr(row, name)) for name in names) for row in tracker.finish())
    assert found == sorted(tuple(str(getattr(row, name)) for name in names) for row in expected.connections)
    assert max(parts) > 0


@pytest.mark.parametrize("shards", [1, 2, 7, 16])
def test_a_distributed_run(shards: int, tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "skewed.pcap"
    path.write_bytes(pcap_bytes(MANY))
    headers = pl.concat([pl.DataFrame(batch) for batch in ct.decode_headers(str(path), 0, shards)])
    found = []
    for _, part in headers.group_by("shard"):
        found += [pl.DataFrame(batch) for batch in ct.track_stream([part.sort("ts", "file", "idx")])]
    names = ["start", "end", "orig_port", "history", "state", "orig_pkts", "resp_pkts"]
    table = pl.concat(found).select(names).sort(names)
    times = pl.col("start", "end").dt.epoch("ns")
    expected = pl.DataFrame(quietly(MANY).connections).with_columns(times).select(names).sort(names)
    assert table.rows() == expected.rows()


def test_a_gateway_with_a_policy(tmp_path: Path) -> None:
    policy, capture = tmp_path / "policy.toml", tmp_path / "skewed.pcap"
    capture.write_bytes(pcap_bytes(skewed(3)))
    run("policy", "suggest", "-o", str(policy), str(capture))
    done = json.loads(run("policy", "check", "--json", str(policy), str(capture)).stdout)
    assert done["packets"]["invalid"] == 3, "the SYN+ACKs alone"
    assert done["packets"]["refused"] == done["connections"]["refused"] == 0


def account(packets: Iterable[Packet]) -> tuple[ct.Quality, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ct.track(io.BytesIO(pcap_bytes(packets)))
    return result.stats.quality, [str(one.message) for one in caught]


def test_the_account_of_two_taps() -> None:
    leads = (0.002, 0.004, 0.09)
    outside = [skewed(1, server=OUTSIDE, lead=lead, port=port) for port, lead in enumerate(leads, 40_000)]
    packets = [(at + 20 * turn, frame) for turn, part in enumerate(outside) for at, frame in part]
    packets += [(at + 100, frame) for at, frame in skewed(1, client=OUTSIDE, server=CLIENT, lead=0.006)]
    quality, warned = account(packets)
    assert (quality.reordered, quality.reordered_outside, quality.reordered_inside) == (4, 3, 1)
    assert quality.reordered_lead == 4_000_000, "the lower one of two middle values"
    assert len(warned) == 1
    for word in (
        "4 TCP handshakes",
        "4 ms before the SYN",
        "3 from outside and 1 from the local networks",
        "editcap -t",
    ):
        assert word in warned[0], word
    assert quality.describe() != []


def test_the_account_of_an_unsorted_file() -> None:
    quality, warned = account(swapped(evenly(download(CLIENT, 40_000, SERVER, 443))))
    assert (quality.reordered, quality.reordered_outside, quality.reordered_inside) == (1, 0, 0)
    assert quality.reordered_lead == -1_000_000
    assert "1 ms after the SYN" in warned[0]
    assert "reordercap" in warned[0]
    quality, warned = account(evenly(download(CLIENT, 40_000, SERVER, 443)))
    assert (quality.reordered, quality.reordered_lead, warned) == (0, 0, [])


@pytest.mark.parametrize("value", [-1, "1", True, float("nan"), float("inf"), 10**400, None])
def test_a_window_that_is_none(value: object) -> None:
    with pytest.raises(ct.ConfigError, match=r"^reorder_window: "):
        ct.Config(reorder_window=value)  # type: ignore[arg-type]
