"""Hindsight across shards: all columns are those of `track` on the list of files."""

from __future__ import annotations

import collections
import io
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from support import corpus, small_world
from support.packets import Packet, arp, pcap_bytes, udp

pytestmark = pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")

KEY = ["ts", "file", "idx"]
#: What names a connection that another one is related to.
NAME = ["start", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port"]


def frames(batches: Iterable[Any]) -> pl.DataFrame:
    return pl.concat(pl.DataFrame(batch) for batch in batches)


class Run:
    """A distributed run with hindsight."""

    def __init__(self, files: Iterable[tuple[int, Any]], shards: int, config: ct.Config | None = None) -> None:
        read = [b for number, file in files for b in ct.decode_headers(file, number, shards, config=config)]
        self.config = config
        self.headers = frames(read) if read else frames([pa.table(empty(ct.HEADERS))])
        # Where a tracker stops: at the smaller of the last two times.
        until = self.headers["ts"].sort()[-2:].min() if read else None
        self.flows = [
            frames(ct.track_stream(part.sort(KEY), config=config, until=until, facts=True))
            for _, part in self.headers.group_by("shard")
        ]

    def facts(self, *, settle: bool = False) -> pl.DataFrame:
        parts = [b for flows in self.flows for b in ct.facts_of(flows, config=self.config)]
        return frames(ct.merge_facts(parts, settle=settle))

    def connections(self, facts: pl.DataFrame) -> pl.DataFrame:
        parts = [b for flows in self.flows for b in ct.look_back(flows, facts, config=self.config)]
        return frames(parts) if parts else frames([pa.table(empty(ct.FLOWS))])


def empty(schema: Any) -> pa.Table:
    return pa.schema(schema).empty_table()


def comparable(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in an order of their own, with the name of the parent in place of an identifier."""
    name = pl.concat_str([pl.col(column).cast(pl.String) for column in NAME], separator=" ")
    named = rows.select(pl.col("id").alias("related_to"), name.alias("parent"))
    rows = rows.with_columns(is_related=pl.col("related_to").is_not_null())
    rows = rows.join(named, on="related_to", how="left").drop("id", "related_to")
    return rows.sort(rows.columns, nulls_last=True)


def tracked(files: Sequence[Any], config: ct.Config | None = None) -> pl.DataFrame:
    """The connections of one machine, in the types of an engine."""
    rows = pa.table(ct.track(files, config=config).connections)
    portable = pa.schema(ct.FLOWS)
    ids = pa.array([f"{number:032x}" for number in range(len(rows))])
    columns = {"id": ids}
    for field in list(portable)[1:]:
        column = rows[field.name]
        if field.name == "related_to":
            column = pa.array([None if at is None else f"{at:032x}" for at in column.to_pylist()], pa.string())
        columns[field.name] = column.cast(field.type) if field.type != pa.int64() else column.cast(pa.int64())
    return comparable(pl.DataFrame(pa.table(columns)))


def assert_equal(files: Sequence[Any], shards: Iterable[int], seed: int = 0, config: ct.Config | None = None) -> None:
    whole, known = tracked(files, config), None
    numbered = list(enumerate(files))
    for count in shards:
        random.Random(seed).shuffle(numbered)
        run = Run(numbered, count, config)
        facts = run.facts()
        assert known is None or facts.equals(known), "facts add up"
        known = facts
        for one in (facts, run.facts(settle=True)):
            found = comparable(run.connections(one))
            for name in whole.columns:
                assert found[name].to_list() == whole[name].to_list(), (count, name)


def split(story: list[Packet], ways: int, seed: int, folder: Path) -> list[Path]:
    """A story in files by direction, or by time."""
    rng = random.Random(seed)
    by_direction = rng.random() < 0.5
    last = story[-1][0] + 1

    def way(packet: Packet) -> int:
        return int(packet[1][26:30] > packet[1][30:34]) if by_direction else int(packet[0] / last * ways)

    parts = [[packet for packet in story if way(packet) == number] for number in range(ways)]
    paths = []
    for number, part in enumerate(part for part in parts if part):
        path = folder / f"{seed}-{number}.pcap"
        path.write_bytes(pcap_bytes(part))
        paths.append(path)
    return paths


@pytest.mark.parametrize("seed", range(10))
def test_a_small_world(seed: int, tmp_path: Path) -> None:
    """Listeners, meeting places, roles, announcements and answers that another shard knows."""
    story = small_world.story(seed)
    assert_equal(split(story, 1 + seed % 4, seed, tmp_path), (1, 2, 7, 16), seed)


def test_the_small_world_has_every_rung(tmp_path: Path) -> None:
    """Evidence of the whole capture is what the other tests are about."""
    words = collections.Counter[str]()
    for seed in range(16):
        words.update(tracked([io.BytesIO(pcap_bytes(small_world.story(seed)))])["evidence"].to_list())
    rungs = ("listener", "many_peers", "role", "related", "after_silence", "seen_before", "multicast", "window")
    assert {rung for rung in rungs if not words[rung]} <= {"window"}


def test_elephants(tmp_path: Path) -> None:
    """Most connections between one pair of hosts."""
    story = small_world.story(5)
    at = story[-1][0]
    for number in range(2000):
        story.append((at := at + 0.01, udp("10.0.0.1", 40000 + number % 700, "10.0.0.2", 9999, b"e")))
    assert_equal(split(story, 2, 1, tmp_path), (1, 7))


def test_zones_and_another_home(tmp_path: Path) -> None:
    config = ct.Config(
        local=["10.0.0.2/31", "203.0.113.0/24"], zones={"dmz": ["10.0.0.3"]}, timeouts={"nf_conntrack_udp_timeout": 60}
    )
    assert_equal(split(small_world.story(77), 2, 1, tmp_path), (1, 7), config=config)


def in_order(path: Path) -> bool:
    """The records of a capture are in the order of their times, and no error quotes a packet."""
    read = list(ct.decode_headers(path, 0, 1, columns="all"))
    if not read:
        return False
    rows = frames(read)
    return rows["ts"].is_sorted()


def test_the_corpus_together(corpus_dir: Any) -> None:
    """All captures of the corpus as one run: hosts of one are hosts of another."""
    rng = random.Random(7)
    paths = [capture.path for capture in corpus.captures() if in_order(capture.path)]
    rng.shuffle(paths)
    assert len(paths) > 40
    for at in range(0, len(paths), 30):
        assert_equal(paths[at : at + 30], (1, 7))


@given(seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_facts_add_up_in_any_order(seed: int, order: random.Random) -> None:
    """Partial sums, and a table in pieces, are the same facts."""
    story = pcap_bytes(small_world.story(seed, 25))
    run = Run([(0, io.BytesIO(story))], 7)
    parts = [pl.DataFrame(b) for flows in run.flows for b in ct.facts_of(flows)]
    whole = frames(ct.merge_facts(parts))
    order.shuffle(parts)
    middle = order.randint(0, len(parts))
    first = list(ct.merge_facts(parts[:middle]))
    rest = frames(ct.merge_facts(parts[middle:])).sample(fraction=1.0, shuffle=True, seed=seed % 1000)
    assert frames(ct.merge_facts([rest, *first])).equals(whole)
    settled = frames(ct.merge_facts(whole, settle=True))
    assert len(settled) <= len(whole) + 2 * whole["kind"].is_in(["meeting"]).sum()


def test_a_file_without_packets_begins(tmp_path: Path) -> None:
    """A capture that begins in a pause is a break, whatever its first record is."""
    exchange = ("10.0.0.1", 7000, "10.0.0.2", 7001)
    first, last = [(0.0, udp(*exchange, b"a"))], [(50.0, udp(*exchange, b"b")), (50.1, udp(*exchange, b"c"))]
    paths = [tmp_path / name for name in ("one.pcap", "arp.pcap")]
    paths[0].write_bytes(pcap_bytes([*first, *last]))
    paths[1].write_bytes(pcap_bytes([(20.0, arp())]))
    assert_equal(paths, (1, 7))


@pytest.mark.parametrize("seed", range(40, 46))
def test_a_stream_is_settled_later(seed: int, tmp_path: Path) -> None:
    """Batches that a `Tracker` drained over the day have hindsight at night."""
    paths = split(small_world.story(seed), 1, seed, tmp_path)[:1]
    tracker = ct.Tracker(facts=True)
    taken = []
    with ct.open_capture(paths[0]) as capture:
        for batch in capture:
            tracker.process(batch)
            taken.append(pl.DataFrame(tracker.flows()))
    taken.append(pl.DataFrame(tracker.flows(finish=True)))
    random.Random(seed).shuffle(taken)
    facts = list(ct.merge_facts(ct.facts_of(taken), settle=True))
    found, whole = comparable(frames(ct.look_back(taken, facts))), tracked(paths)
    for name in whole.columns:
        assert found[name].to_list() == whole[name].to_list(), name


def test_streams_of_batches_are_taken(tmp_path: Path) -> None:
    run = Run([(0, io.BytesIO(pcap_bytes(small_world.story(3))))], 2)
    facts = run.facts()
    flows = frames(run.flows)
    one = frames(ct.look_back(flows, facts))
    stream = pa.RecordBatchReader.from_batches(flows.to_arrow().schema, flows.to_arrow().to_batches(max_chunksize=7))
    assert frames(ct.look_back(stream, iter([facts[:9], facts[9:]]))).equals(one)
    assert pa.table(next(ct.look_back(flows, facts))).schema == pa.schema(ct.FLOWS)
    assert pa.table(next(ct.facts_of(flows))).schema == pa.schema(ct.FACTS)
    assert pa.table(next(ct.decode_headers(io.BytesIO(pcap_bytes(small_world.story(3))), 0, 1))).schema == pa.schema(
        ct.HEADERS
    )
    assert len(frames(ct.merge_facts([]))) == 0


def test_what_is_refused() -> None:
    run = Run([(0, io.BytesIO(pcap_bytes(small_world.story(3))))], 1)
    flows, facts = run.flows[0], run.facts()

    def refused(message: str, flows: Any = flows, facts: Any = facts) -> None:
        with pytest.raises(ValueError, match=message):
            list(ct.look_back(flows, facts))

    refused("hindsight: found none, expected that of track_stream.facts=True.", flows.drop("hindsight"))
    refused("hindsight: found Utf8View|hindsight: found LargeUtf8", flows.with_columns(hindsight=pl.lit("x")))
    refused("hindsight: found no bytes in row 0", flows.with_columns(hindsight=pl.lit(b"")))
    refused("hindsight: found a row of another release in row 0", flows.with_columns(hindsight=pl.lit(b"\xff")))
    refused("hindsight: found bytes of no row in row 0", flows.with_columns(hindsight=pl.lit(b"\x01\x02")))
    refused('id: found "x" in row 0, expected 32 hexadecimal digits', flows.with_columns(id=pl.lit("x")))
    refused('related_to: found "\\+1" in row 0', flows.with_columns(related_to=pl.lit("+1")))
    refused('kind: found "tea" in row 0, expected one of host', facts=facts.with_columns(kind=pl.lit("tea")))
    refused("first: found -1 in row", facts=facts.filter(pl.col("kind") == "host").with_columns(first=pl.lit(-1)))
    refused("key: found other bytes in row 0, expected the key", facts=facts.with_columns(key=pl.lit(b"")))
    refused("parent: found .* in row 0, expected 32", facts=facts.with_columns(parent=pl.lit("0" * 31)))
    refused("bits: found none, expected that of facts", facts=facts.drop("bits"))
    hosts = facts.filter(pl.col("kind") == "host").with_columns(first=pl.lit(2**62))
    (most,) = set(frames(ct.merge_facts([hosts, hosts]))["first"])
    assert most == 2**32 - 1, "counts saturate"
    with pytest.raises(ct.ConfigError, match="profile: found 'zeek'"):
        ct.look_back(flows, facts, config=ct.Config(profile="zeek"))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_from_anywhere(data: st.DataObject) -> None:
    """Rows and facts with changed bytes are refused, or are rows."""
    run = _RUN
    flows, facts = run.flows[0], run.facts()

    def changed(column: pl.Series) -> pl.Series:
        values = column.to_list()
        at = data.draw(st.integers(0, len(values) - 1))
        raw = bytearray(values[at])
        for _ in range(data.draw(st.integers(1, 6))):
            if raw:
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        values[at] = bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
        return pl.Series(column.name, values, pl.Binary)

    if data.draw(st.booleans()):
        flows = flows.with_columns(changed(flows["hindsight"]))
    else:
        facts = facts.with_columns(changed(facts["key"]))
    try:
        found = frames(ct.look_back(flows, facts))
        frames(ct.facts_of(flows))
    except ValueError:
        return
    assert len(found) <= len(flows)


_RUN = Run([(0, io.BytesIO(pcap_bytes(small_world.story(11, 20))))], 1)
