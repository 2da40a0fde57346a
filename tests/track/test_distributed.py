"""Distributed runs without an engine: shards together say what one says."""

from __future__ import annotations

import io
import ipaddress
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from support import corpus
from support.packets import START, Packet, download, evenly, pcap_bytes, udp
from support.strategies import error_about, fragments, stories, tagged

#: Skipped packets of stories and of the corpus raise warnings; a test of its own checks them.
pytestmark = pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")

KEY = ["ts", "file", "idx"]
#: The golden vectors of version 1, which are in the documentation of distributed runs: pairs, and their cells.
GOLDEN = {
    ("0.0.0.0", "0.0.0.0"): 52537,
    ("10.0.0.1", "10.0.0.2"): 23076,
    ("10.0.0.5", "203.0.113.80"): 43141,
    ("255.255.255.255", "0.0.0.0"): 34935,
    ("::", "::"): 8496,
    ("2001:db8::1", "2001:db8::2"): 25147,
    ("fe80::1", "ff02::fb"): 31374,
}


def headers(files: Iterable[tuple[int, bytes]], shards: int, config: ct.Config | None = None) -> pl.DataFrame:
    """The headers of captures, in whatever order they come."""
    read = [
        pl.DataFrame(b)
        for number, data in files
        for b in ct.decode_headers(io.BytesIO(data), number, shards, config=config)
    ]
    return pl.concat(read) if read else pl.DataFrame()


def connections(rows: pl.DataFrame, size: int = 1000, **options: Any) -> pl.DataFrame:
    """Track the rows of each shard in batches of `size`, as an engine does."""
    parts = [pl.DataFrame(batch) for batch in ct.track_stream([], **options)]
    for _, part in rows.group_by("shard") if len(rows) else ():
        ordered = part.sort(KEY)
        batches = ct.track_stream((ordered[at : at + size] for at in range(0, len(ordered), size)), **options)
        parts += [pl.DataFrame(batch) for batch in batches]
    return pl.concat(parts).sort("id")


def files_of(story: list[Packet], ways: int, choose: Callable[[Packet], int]) -> list[tuple[int, bytes]]:
    return [(way, pcap_bytes(p for p in story if choose(p) == way)) for way in range(ways)]


@given(story=stories(), seed=st.integers(0, 1000), tunnels=st.sampled_from(["inner", "outer"]))
@settings(max_examples=25, deadline=None)
def test_shards_together_say_what_one_says(story: list[Packet], seed: int, tunnels: Any) -> None:
    """1, 2, 7 and 16 shards, the files in any order, batches of any size."""
    config = ct.Config(tunnels=tunnels)
    half = story[len(story) // 2][0]
    files = files_of(story, 2, lambda packet: int(packet[0] > half))
    whole = connections(headers(files, 1, config), config=config)
    assert whole["id"].n_unique() == len(whole)
    for shards in (2, 7, 16):
        random.Random(seed).shuffle(files)
        assert connections(headers(files, shards, config), 1 + seed % 9, config=config).equals(whole)


@given(story=stories())
@settings(max_examples=20, deadline=None)
def test_taps_that_see_one_direction_each(story: list[Packet]) -> None:
    """Packets of two directions in two files give the connections of one file, whose ids are of other places."""

    def by_direction(packet: Packet) -> int:
        return int(packet[1][26:30] > packet[1][30:34])

    one = connections(headers([(0, pcap_bytes(story))], 7)).drop("id", "related_to")
    two = connections(headers(files_of(story, 2, by_direction), 7)).drop("id", "related_to")
    order = ["start", "orig_addr", "orig_port", "resp_addr", "resp_port", "proto", "vlan"]
    assert one.sort(order).equals(two.sort(order))


@given(story=stories())
@settings(max_examples=25, deadline=None)
def test_connections_are_those_of_a_tracker(story: list[Packet]) -> None:
    """Beside errors, which have connections of their own, and how what is left ends."""
    tracker = ct.Tracker()
    for batch in ct.open_capture(io.BytesIO(pcap_bytes(story))):
        tracker.process(batch)
    theirs = [row for row in tracker.finish() if row.proto != "icmp"]
    # Where a tracker stops: at the smaller of the last two times.
    until = min(START * 10**9 + round(at * 1e6) * 1000 for at, _ in story[-2:])
    rows = (
        connections(headers([(0, pcap_bytes(story))], 1), until=until).filter(pl.col("proto") != "icmp").sort("start")
    )
    for name in rows.columns:
        if name not in ("id", "related_to", "start", "end"):
            assert rows[name].to_list() == pl.Series([getattr(row, name) for row in theirs], strict=False).to_list(), (
                name
            )


def test_the_corpus_in_shards(corpus_dir: Any) -> None:
    for capture in corpus.captures():
        data = [(3, capture.path.read_bytes())]
        rows = headers(data, 1)
        if not len(rows):
            continue
        whole = connections(rows)
        again = connections(headers(data, 16), 7)
        # A capture that was written with tunnels of fragments, or in no order, is sorted alike.
        assert again.equals(whole), capture.name


def test_payloads_that_say_nothing_stay_behind(tmp_path: Path) -> None:
    question = udp("10.0.0.5", 40000, "10.0.0.53", 53, b"\0\1\1\0\0\1" + bytes(6) + b"\1a\0\0\1\0\1")
    story = evenly([question, udp("10.0.0.5", 40000, "203.0.113.80", 9999, b"z" * 1000)])
    rows = headers([(0, pcap_bytes(story))], 1)
    # Flags, the length on the wire, the begin of the file, and 16 bytes of IPv4 and UDP headers; then the question.
    assert [len(packet) for packet in rows["packet"]] == [1 + 1 + 9 + 16 + 19, 1 + 2 + 16]
    assert connections(rows)["orig_bytes"].sort().to_list() == [19, 1000]


def test_columns_to_filter_by(mixed: list[Packet]) -> None:
    """They are there when asked for, and nobody else needs them."""
    data = pcap_bytes(mixed)
    few, all_of = (
        frame_of(ct.decode_headers(io.BytesIO(data), 0, 4, columns=columns)) for columns in ("tracker", "all")
    )
    assert few.columns == ["ts", "file", "idx", "shard", "packet"]
    assert all_of.columns == [*few.columns, "src", "dst", "sport", "dport", "proto", "length"]
    assert all_of.select(few.columns).equals(few)
    # A record of a pcap file is 16 bytes behind the last one.
    places = [24 + sum(16 + len(frame) for _, frame in mixed[:at]) for at in range(len(mixed))]
    assert set(few["idx"]) <= set(places)


def frame_of(batches: Iterable[Any]) -> pl.DataFrame:
    return pl.concat(pl.DataFrame(batch) for batch in batches)


def test_a_packet_takes_less_than_sixty_bytes() -> None:
    story = [(at / 1000, frame) for at, frame in enumerate(download("10.0.0.5", 40000, "203.0.113.80", 443, 900_000))]
    (batch,) = map(pa.record_batch, ct.decode_headers(io.BytesIO(pcap_bytes(story)), 0, 64))
    assert batch.nbytes / batch.num_rows < 60


def test_fragments_and_errors_land_with_their_flow() -> None:
    frame = udp("10.0.0.5", 40000, "203.0.113.80", 5000, b"f" * 1000)
    story = evenly([*fragments(frame, 400, 1), error_about(frame, "192.0.2.254")])
    rows = headers([(0, pcap_bytes(story))], 65536)
    assert set(rows["shard"]) == {ct.shard_v1("203.0.113.80", "10.0.0.5", 65536)}
    found = connections(rows)
    (flow,) = found.filter(pl.col("proto") == "udp")["id"]
    assert found.filter(pl.col("proto") == "icmp")["related_to"].to_list() == [flow]


def test_tags_beside_the_key_are_kept() -> None:
    """A gateway's keys have no VLANs; the column is the first packet's, however the connection began."""
    frame = tagged(udp("10.0.0.5", 40000, "10.9.9.9", 9999), 7)
    rows = headers(
        [(0, pcap_bytes([(0.0, frame), (100.0, frame), (100.1, frame)]))], 1, config := ct.Config(tunnels="outer")
    )
    assert connections(rows, config=config)["vlan"].to_list() == [7, 7]


def splitmix64(seed: int) -> int:
    mask = (1 << 64) - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def cell(one: str, other: str) -> int:
    """The hash as its documentation has it."""

    def sixteen(text: str) -> bytes:
        addr = ipaddress.ip_address(text)
        return addr.packed if addr.version == 6 else bytes(10) + b"\xff\xff" + addr.packed

    low, high = sorted((sixteen(one), sixteen(other)))
    h = 0
    for word in (low[:8], low[8:], high[:8], high[8:]):
        h = splitmix64(h ^ int.from_bytes(word))
    return h >> 48


def test_golden_vectors() -> None:
    assert {pair: ct.shard_v1(*pair, 65536) for pair in GOLDEN} == GOLDEN


@given(st.ip_addresses(), st.ip_addresses(), st.integers(1, 65536))
@settings(max_examples=200)
def test_the_hash_is_symmetric_and_as_it_is_written(one: Any, other: Any, shards: int) -> None:
    if one.version == other.version:
        shard = ct.shard_v1(str(one), str(other), shards)
        assert shard == ct.shard_v1(str(other), str(one), shards) == cell(str(one), str(other)) % shards


def test_types_are_portable(mixed: list[Packet]) -> None:
    """Only types of Spark's row format; and Arrow readers of both kinds take the batch."""
    portable = {pa.int64(), pa.int32(), pa.string(), pa.bool_(), pa.binary(), pa.float32()}
    (batch,) = ct.decode_headers(io.BytesIO(pcap_bytes(mixed)), 1, 4)
    rows = pa.record_batch(batch)
    assert rows.num_rows == len(batch) == len(mixed) - 1
    assert set(rows.schema.types) <= portable
    reader = pa.RecordBatchReader.from_batches(rows.schema, [rows.slice(0, 9), rows.slice(9)])
    over = [pa.record_batch(found) for found in ct.track_stream(reader)]
    assert set(over[0].schema.types) <= portable
    assert sum(found.num_rows for found in over) == 4
    assert pa.table(ct.track_stream([rows]).__next__()).schema == over[0].schema
    assert repr(batch) == f"<ArrowBatch: {len(batch)} rows>"


def test_connections_come_as_they_end() -> None:
    story = [(float(second), udp(f"10.0.{second % 250}.1", 40000, "10.9.9.9", 53)) for second in range(500)]
    rows = headers([(0, pcap_bytes(story))], 1)
    sizes = [len(found) for found in ct.track_stream(rows[at : at + 50] for at in range(0, 500, 50))]
    assert len(sizes) > 5
    assert sizes[-1] < 60


def test_what_was_lost_is_said(mixed: list[Packet], tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(mixed)[:-5])
    with pytest.warns(
        ct.CaptureWarning, match=r"1 file that ends inside a record \(.* bytes\), first in .*cut.pcap at byte"
    ):
        (batch,) = ct.decode_headers(path, 0, 4)
    assert len(batch) > 0
    path.write_bytes(pcap_bytes(mixed, linktype=250))
    with pytest.raises(ct.CaptureError, match="link type 250"):
        list(ct.decode_headers(path, 0, 4))


def test_what_is_refused(mixed: list[Packet]) -> None:
    rows = headers([(0, pcap_bytes(mixed))], 1)

    def refused(message: str, batches: Any, error: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(error, match=message):
            list(ct.track_stream(batches, **options))

    refused("batches: found .ts, file, idx. = .* expected them to grow", [rows.reverse()])
    refused("batches: found", [rows, rows])
    refused("packet: found none, expected that of decode_headers", [rows.drop("packet")])
    refused("packet: found", [rows.with_columns(packet=pl.lit(1))])
    refused("ts: found null", [rows.with_columns(ts=pl.lit(None, pl.Int64))])
    refused("packet: found other bytes in row 0, expected those", [rows.with_columns(packet=pl.lit(b"\xff"))])
    refused("found int, expected an object with __arrow_c_stream__", [7])
    refused("found 1 rows that are null", pa.array([None, {"ts": 1}]))
    refused("until: found", [], until=2**70)
    for options, message in [
        ({"tunnels": "both"}, "tunnels: found 'both'"),
        ({"profile": "zeek"}, "profile: found 'zeek'"),
        ({"max_connections": 9}, "max_connections: found 9, expected none"),
    ]:
        refused(message, [rows], ct.ConfigError, config=ct.Config(**options))
    with pytest.raises(ValueError, match="shards: found 0, expected 1 to 65536"):
        ct.decode_headers("x.pcap", 0, 0)
    with pytest.raises(ValueError, match="file_id: found -1"):
        ct.decode_headers("x.pcap", -1, 1)
    with pytest.raises(ValueError, match="columns: found 'some', expected 'tracker' or 'all'"):
        ct.decode_headers("x.pcap", 0, 1, columns="some")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        ct.decode_headers("there-is-none.pcap", 0, 1)
    with pytest.raises(ValueError, match='one: found "x"'):
        ct.shard_v1("x", "10.0.0.1", 3)
