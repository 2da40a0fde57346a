"""Tables of packets: columns in and out, and the same answers through every door."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterable
from typing import Any

import dpkt
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from support import corpus
from support.packets import ACK, FIN, PSH, START, SYN, Packet, download, evenly, pcap_bytes, tcp, udp
from support.strategies import cut, stories

Fed = tuple[np.ndarray, list[ct.Connection]]


def fed(batches: Iterable[ct.PacketBatch], config: ct.Config | None = None) -> Fed:
    """Labels and connections of a tracker that was fed these, in the order of first packets."""
    tracker = ct.Tracker(config)
    labels, rows = [], []
    for batch in batches:
        labels.append(tracker.process(batch))
        rows += list(tracker.drain())
    rows += list(tracker.finish())
    return np.concatenate(labels), sorted(rows, key=repr)


def same(one: Fed, other: Fed) -> bool:
    return one[1] == other[1] and np.array_equal(one[0], other[0])


def times(story: list[Packet]) -> np.ndarray:
    return np.array([START * 10**9 + round(at * 1e6) * 1000 for at, _ in story], np.int64)


@given(story=stories(), places=st.lists(st.integers(0, 1000), max_size=4), profile=st.sampled_from(["linux", "zeek"]))
@settings(max_examples=120, deadline=None)
def test_five_doors_one_answer(story: list[Packet], places: list[int], profile: str) -> None:
    """Whole frames in whatever batches: file, frames, dpkt, arrays and Arrow give the same labels and connections."""
    config = ct.Config(profile=profile)
    capture = pcap_bytes(story)
    by_file = fed(ct.open_capture(io.BytesIO(capture)), config)
    frames, moments = [frame for _, frame in story], times(story)
    batches = [ct.PacketBatch.from_frames(frames[c], moments[c]) for c in cut(len(story), places)]
    assert same(fed(batches, config), by_file)
    assert same(fed([ct.PacketBatch.from_dpkt(dpkt.pcap.Reader(io.BytesIO(capture)))], config), by_file)
    assert same(fed((ct.PacketBatch.from_arrays(**batch.to_arrays()) for batch in batches), config), by_file)
    assert same(fed(map(ct.PacketBatch.from_arrow, batches), config), by_file)


@pytest.mark.parametrize("tunnels", ["inner", "outer", "both"])
def test_columns_of_the_corpus(tunnels: str, corpus_dir: Any) -> None:
    """Real captures through columns; a record without all of its headers is not tracked, and says so."""
    config = ct.Config(tunnels=tunnels)
    compared = total = 0
    for capture in corpus.captures():
        with ct.open_capture(capture.path) as batches:
            read = list(batches)
        if not read:
            continue
        labels, _ = fed(read, config)
        tables = [batch.to_arrays() for batch in read]
        again, _ = fed([ct.PacketBatch.from_arrays(**table) for table in tables], config)
        total += len(labels)
        is_ip = np.concatenate([table["ip_version"] for table in tables]) > 0
        if is_ip[labels["connection"] >= 0].all():
            assert np.array_equal(labels[is_ip], again[is_ip]), capture.name
            compared += int(is_ip.sum())
        assert (again["connection"][~is_ip] == -1).all()
    assert compared > 0.9 * total > 1000


def decoded(frames: list[bytes], moments: np.ndarray) -> dict[str, Any]:
    """Columns as somebody makes them who decodes with dpkt."""
    rows = []
    for frame in frames:
        ip = dpkt.ethernet.Ethernet(frame).data
        above = ip.data
        is_tcp = isinstance(above, dpkt.tcp.TCP)
        rows.append(
            {
                "src": socket.inet_ntoa(ip.src),
                "dst": socket.inet_ntoa(ip.dst),
                "sport": above.sport,
                "dport": above.dport,
                "proto": ip.p,
                "length": ip.len,
                "tcp_flags": above.flags if is_tcp else 0,
                "seq": above.seq if is_tcp else 0,
                "ack": above.ack if is_tcp else 0,
                "window": above.win if is_tcp else 0,
                "tcp_options": bytes(above.opts) if is_tcp else b"",
                "payload": bytes(above.data),
            }
        )
    return {"timestamp": moments} | {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture
def talk() -> list[Packet]:
    frames = [*download("10.0.0.5", 51514, "203.0.113.80", 443), *download("198.51.100.7", 40000, "10.0.0.80", 80)[3:]]
    return evenly([*frames, udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?" * 30)])


def test_columns_of_another_decoder(talk: list[Packet]) -> None:
    frames = [frame for _, frame in talk]
    whole = fed([ct.PacketBatch.from_frames(frames, times(talk))])
    columns = decoded(frames, times(talk))
    batch = ct.PacketBatch.from_arrays(**columns)
    assert batch.window_tracking
    assert same(fed([batch]), whole)
    numbers = {n: np.array([int.from_bytes(socket.inet_aton(a)) for a in columns[n]], "u4") for n in ("src", "dst")}
    assert same(fed([ct.PacketBatch.from_arrays(**columns | numbers)]), whole)
    for frame in (pl.DataFrame(columns), pa.table(columns), pa.record_batch(columns)):
        assert same(fed([ct.PacketBatch.from_arrow(frame)]), whole)
    typed = pl.DataFrame(columns).with_columns(
        pl.col("timestamp").cast(pl.Datetime("ns")), pl.col("src").cast(pl.Categorical), pl.col("proto").cast(pl.UInt8)
    )
    assert same(fed([ct.PacketBatch.from_arrow(typed)]), whole)
    # Every second value of a wider array, and everything of it.
    strided = {n: np.repeat(np.array(v), 2)[::2] for n, v in columns.items() if n not in ("tcp_options", "payload")}
    assert not strided["length"].flags.c_contiguous
    assert same(fed([ct.PacketBatch.from_arrays(**columns | strided)]), whole)


def test_columns_out(talk: list[Packet]) -> None:
    batch = ct.PacketBatch.from_frames([frame for _, frame in talk], times(talk))
    assert batch["src"].shape == (len(talk), 16)
    assert batch["length"].dtype == np.uint32
    assert batch["timestamp"].dtype == np.dtype("M8[ns]")
    assert set(batch.columns) == set(batch.to_arrays())
    with pytest.raises(KeyError, match="nothing"):
        batch["nothing"]
    with pytest.raises(ValueError, match="read-only"):
        batch["sport"][0] = 1
    frame = pl.DataFrame(batch)
    assert frame.columns == [
        "timestamp",
        "ip_version",
        *[n for n in frame.columns if n not in ("timestamp", "ip_version")],
    ]
    assert frame["src"][0] == "10.0.0.5"
    assert frame["payload"].to_list() == decoded([f for _, f in talk], times(talk))["payload"]
    assert pa.table(batch).num_rows == len(talk)


def test_without_numbers(talk: list[Packet]) -> None:
    """States, directions, counts and even the history are those of a connection in which nothing was lost."""
    frames = [frame for _, frame in talk]
    labels, rows = fed([ct.PacketBatch.from_frames(frames, times(talk))])
    columns = decoded(frames, times(talk))
    for name in ("seq", "ack", "window", "tcp_options"):
        lacking = {n: v for n, v in columns.items() if n != name}
        batch = ct.PacketBatch.from_arrays(**lacking)
        assert not batch.window_tracking
        assert not set(batch.columns) & {"seq", "ack", "window", "tcp_options"}
        again, same_rows = fed([batch])
        assert np.array_equal(again, labels)
        assert same_rows == rows
        assert same(fed([ct.PacketBatch.from_arrays(**batch.to_arrays())]), (labels, rows))


def test_without_numbers_nothing_is_out_of_window() -> None:
    ends = ("10.0.0.5", 40000, "10.0.0.80", 80), ("10.0.0.80", 80, "10.0.0.5", 40000)
    frames = [
        tcp(*ends[0], SYN, 100),
        tcp(*ends[1], SYN | ACK, 900, 101),
        tcp(*ends[0], ACK, 101, 901),
        *(tcp(*ends[1], PSH | ACK, 901 + 9000 * i, 101, b"x" * 9000) for i in range(200)),
        *[tcp(*ends[0], ACK, 101, 901)] * 20,
        tcp(*ends[0], FIN | ACK, 3_000_000_000, 901),
        tcp(*ends[1], FIN | ACK, 7, 8),
        tcp(*ends[0], ACK, 9, 10),
    ]
    columns = decoded(frames, np.arange(len(frames)) * 1_000_000)
    labels, _ = fed([ct.PacketBatch.from_arrays(**columns)])
    assert (labels["ctstate"] == ct.CtState.INVALID).any()
    del columns["seq"]
    labels, (row,) = fed([ct.PacketBatch.from_arrays(**columns)])
    assert not (labels["ctstate"] == ct.CtState.INVALID).any()
    assert (row.state, row.conn_state, row.history, row.end_reason) == ("TIME_WAIT", "SF", "ShAdFf", "closed")
    assert row.resp_bytes == 200 * 9000


def test_idle_connections_without_numbers_live_as_long_as_others() -> None:
    """Nobody says that a window is closed: the timeout is that of any. Nor is a timestamp data."""
    client, server = "10.0.0.5", "203.0.113.80"
    steps = [
        *((0.0, client, 0x02, 60), (0.1, server, 0x12, 60), (0.2, client, 0x10, 52), (0.3, client, 0x18, 152)),
        *(
            (0.4, server, 0x18, 552),
            (0.5, client, 0x10, 64),
            (86_400.0, client, 0x18, 152),
            (86_400.1, server, 0x10, 52),
        ),
    ]
    ends = {client: (server, 40000, 443), server: (client, 443, 40000)}
    tracker = ct.Tracker()
    batch = ct.PacketBatch.from_arrays(
        timestamp=[1_700_000_000_000_000_000 + round(at * 1e9) for at, *_ in steps],
        src=[src for _, src, _, _ in steps],
        dst=[ends[src][0] for _, src, _, _ in steps],
        sport=[ends[src][1] for _, src, _, _ in steps],
        dport=[ends[src][2] for _, src, _, _ in steps],
        proto=[6] * len(steps),
        tcp_flags=[flags for _, _, flags, _ in steps],
        length=[length for *_, length in steps],
    )
    tracker.process(batch)
    (row,) = tracker.finish()
    assert (row.history, row.conn_state, row.orig_pkts, row.resp_pkts) == ("ShADda", "S1", 5, 3)
    assert (row.orig_bytes, row.resp_bytes) == (2 * 112, 512)


def test_without_payload_lengths_count(talk: list[Packet]) -> None:
    """A handshake needs no payload; nothing counts as lost because nobody kept it."""
    columns = decoded([frame for _, frame in talk], times(talk))
    labels, rows = fed([ct.PacketBatch.from_arrays(**columns)])
    del columns["payload"]
    batch = ct.PacketBatch.from_arrays(**columns)
    assert "payload" not in batch.columns
    again, without = fed([batch])
    assert np.array_equal(again["ctstate"], labels["ctstate"])
    assert [(r.history, r.orig_bytes, r.resp_bytes) for r in without] == [
        (r.history, r.orig_bytes, r.resp_bytes) for r in rows
    ]


def one(**changed: Any) -> dict[str, Any]:
    """The columns of a SYN, with some of them changed."""
    column = {"timestamp": [1], "src": ["10.0.0.5"], "dst": ["10.0.0.80"], "sport": [40000], "dport": [80]}
    column |= {"proto": [6], "length": [40], "tcp_flags": [SYN]}
    return {name: value for name, value in (column | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sport": [1, 2]}, "sport: found 2, expected 1, one for each packet"),
        ({"src": ["a", "b"]}, "src: found 2, expected 1"),
        ({"payload": [b"", b""]}, "payload: found 2, expected 1"),
        ({"dport": [65536]}, "dport: found 65536 in packet 0, expected 0 to 65535"),
        ({"dport": [-1]}, "dport: found -1 in packet 0"),
        ({"proto": [256]}, "proto: found 256"),
        ({"proto": [6.0]}, "proto: found float64 of shape .1,., expected whole numbers"),
        ({"proto": ["upd"]}, "proto: found 'upd' in packet 0, expected a number, or a name such as tcp"),
        ({"proto": [None]}, "proto: found None in packet 0, expected a number, or a name"),
        ({"proto": ["256"]}, "proto: found '256' in packet 0"),
        ({"proto": [[6]]}, "proto: found int64 of shape .1, 1."),
        ({"length": np.array([40], ">u4")}, "length: found >u4, of the other byte order"),
        ({"length": [39]}, "length: found 39 in packet 0, expected 40 to 2147483647"),
        ({"length": [2**32 - 1]}, "length: found 4294967295 in packet 0, expected 40"),
        ({"length": np.ma.masked_array([40], [True])}, "length: found masked"),
        ({"timestamp": [1.5]}, "timestamp: found float64, expected nanoseconds"),
        ({"timestamp": np.array(["NaT"], "M8[ns]")}, "timestamp: found NaT in packet 0"),
        ({"timestamp": np.array(["9999-01-01"], "M8[D]")}, "timestamp: found 9999-01-01 in packet 0"),
        ({"timestamp": np.array([2**63], "u8")}, "timestamp: found 9223372036854775808"),
        ({"timestamp": np.array([1], ">M8[ns]")}, "timestamp: found >M8"),
        ({"timestamp": np.ma.array([1], mask=[True])}, "timestamp: found masked values"),
        ({"src": np.ma.array([1], mask=[True])}, "src: found masked values"),
        ({"sport": [[1], [2, 3]]}, "sport: found rows of several lengths"),
        ({"src": ["10.0.0.x"]}, 'src: found "10.0.0.x" in packet 0, expected an IPv4 or IPv6 address'),
        ({"src": ["::1"]}, "src and dst: found IPv4 and IPv6 in packet 0"),
        ({"src": [2**32]}, "src: found 4294967296 in packet 0"),
        ({"src": np.zeros((1, 4), "u1")}, "src: found uint8 of shape .1, 4., expected addresses"),
        ({"src": [1.0]}, "src: found float64"),
        ({"ip_version": [5]}, "ip_version: found 5 in packet 0, expected 4, 6, or 0"),
        (
            {"ip_version": [6], "src": [1], "dst": [2]},
            "ip_version: found 6 in packet 0, expected that of its addresses",
        ),
        ({"ip_version": [4], "src": ["::1"], "dst": ["::2"]}, "ip_version: found 4 in packet 0"),
        ({"ip_header_length": [22]}, "ip_header_length: found 22 in packet 0, expected 20 to 60"),
        ({"ip_header_length": [64], "length": [200]}, "ip_header_length: found 64"),
        ({"tcp_flags": None}, "tcp_flags: found none, expected one for each packet, since some are TCP"),
        ({"tcp_flags": [256]}, "tcp_flags: found 256 in packet 0, expected 0 to 255"),
        ({"tcp_options": [b"\x01"]}, "tcp_options: found 1 in packet 0, expected at most 40 bytes, a multiple of 4"),
        ({"tcp_options": [bytes(44)], "length": [99]}, "tcp_options: found 44"),
        ({"tcp_options": np.array([b"ab"])}, "tcp_options: found .S2, expected a list of bytes"),
        ({"payload": ["text"]}, "payload: found str in packet 0, expected bytes"),
        ({"payload": (memoryview(b"abcd")[::2], [0, 1])}, "payload: found memoryview, expected bytes in one piece"),
        ({"payload": (b"abc", [0, 9])}, "payload: expected offsets that grow from 0 to at most 3"),
        ({"payload": (b"abc", [2, 1])}, "payload: expected offsets that grow"),
        ({"payload": (b"abc", [])}, "payload: found no offsets, expected 2"),
        ({"vlan": [4096]}, "vlan: found 4096, expected ids from 1 to 4095"),
        ({"fragment_offset": [7], "length": [60]}, "fragment_offset: found 7 in packet 0, expected bytes"),
        ({"ip_id": [65536]}, "ip_id: found 65536 in packet 0, expected at most 65535 for IPv4"),
        ({"more_fragments": [2]}, "more_fragments: found 2 in packet 0, expected 0 to 1"),
        ({"proto": [1], "sport": [300]}, "sport: found 300 in packet 0, expected an ICMP type or code"),
    ],
)
def test_refusals_name_the_column(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ct.PacketBatch.from_arrays(**one(**changed))


def test_refusals_of_arrow() -> None:
    def refused(message: str, source: Any) -> None:
        with pytest.raises(ValueError, match=message):
            ct.PacketBatch.from_arrow(source)

    refused("found int, expected an object with __arrow_c_stream__", 7)
    refused("found an array of Int64, expected a struct array", pa.array([1]))
    refused("length: found none", pa.table(one(length=None)))
    refused("proto: found Float64, expected whole numbers, timestamps, text or bytes", pa.table(one(proto=[6.0])))
    refused("proto: found 'upd' in packet 0, expected a number, or a name", pa.table(one(proto=["upd"])))
    refused("length: found Utf8, expected whole numbers", pa.table(one(length=["40"])))
    refused("length: .*", pa.table(one(length=pa.array([2**64 - 1], pa.uint64()))))
    refused("sport: found null in packet 0", pa.table(one(sport=pa.array([None], pa.uint16()))))
    refused("tcp_flags: found null in packet 0", pa.table(one(tcp_flags=pa.array([None], pa.uint8()))))
    refused("src: found null in packet 0", pa.table(one(src=pa.array([None], pa.string()))))
    refused("timestamp: found null in packet 0", pa.table(one(timestamp=pa.array([None], pa.timestamp("ns")))))
    refused("src: found 4 bytes in packet 0, expected 16", pa.table(one(src=[b"1234"])))


def test_nulls_where_nothing_is_needed() -> None:
    table = pa.table(
        {
            "timestamp": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
            "src": ["10.0.0.5", "10.0.0.5", None],
            "dst": ["10.0.0.80", "10.0.0.80", None],
            "sport": pa.array([53, None, None], pa.uint16()),
            "dport": pa.array([53, None, None], pa.uint16()),
            "proto": pa.array([17, 50, None], pa.uint8()),
            "length": pa.array([60, 60, None], pa.uint32()),
            "ip_version": [4, 4, 0],
            "tcp_flags": pa.array([None] * 3, pa.uint8()),
            "payload": pa.array([b"?", None, None], pa.binary()),
        }
    )
    labels, rows = fed([ct.PacketBatch.from_arrow(table)])
    assert labels["connection"].tolist() == [0, 1, -1]
    assert [row.proto for row in rows] == ["udp", "esp"] or len(rows) == 2


def test_no_packets() -> None:
    nothing = {name: [] for name in one()}
    assert len(ct.PacketBatch.from_arrays(**nothing)) == 0
    empty = ct.PacketBatch.from_arrays(**nothing)
    assert len(ct.PacketBatch.from_arrow(empty)) == 0
    assert len(ct.PacketBatch.from_arrow(pa.table(empty))) == 0
    assert len(ct.PacketBatch.from_arrays(**empty.to_arrays())) == 0


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_numbers_are_taken_or_refused(data: st.DataObject) -> None:
    """Whatever the columns hold, there is an answer or a ValueError."""
    from conntrack_py.io.columns import NUMBERS

    count = data.draw(st.integers(1, 4))

    def column(elements: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(elements, min_size=count, max_size=count))

    columns: dict[str, Any] = {"timestamp": column(st.integers(-(2**63), 2**63 - 1))}
    raw = st.binary(min_size=16, max_size=16) | st.just(bytes(10) + b"\xff\xff\x0a\0\0\x05")
    columns |= {n: np.array([np.void(a) for a in column(raw)]) for n in ("src", "dst")}
    for name, dtype in NUMBERS.items():
        if name in ("sport", "dport", "proto", "length", "tcp_flags") or data.draw(st.booleans()):
            most = 1 if dtype == "?" else np.iinfo(dtype).max
            usual = {"length": st.integers(20, 200), "proto": st.sampled_from([1, 4, 6, 17, 47, 58, 132, 136])}
            usual |= {"ip_version": st.sampled_from([0, 4, 6]), "ip_header_length": st.sampled_from([20, 40, 48, 2096])}
            columns[name] = column(usual.get(name, st.nothing()) | st.integers(0, most))
    for name in ("tcp_options", "payload"):
        if data.draw(st.booleans()):
            columns[name] = column(st.binary(max_size=60))
    try:
        batch = ct.PacketBatch.from_arrays(**columns)
    except ValueError:
        return
    labels, _ = fed([batch])
    again, _ = fed([ct.PacketBatch.from_arrays(**batch.to_arrays())])
    assert len(labels) == len(again) == count
