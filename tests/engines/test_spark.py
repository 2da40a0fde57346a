"""Spark's connections are those of one shard in one process, whatever fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from support import spark_session
from support.packets import Packet, download, evenly, pcap_bytes, udp

spark_session.needs_java()

import pyarrow as pa  # noqa: E402 - an extra

import conntrack_py.spark as cts  # noqa: E402 - an extra

pytestmark = [
    pytest.mark.xdist_group("spark"),
    # Spark's own words about newer releases of pandas.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    session = spark_session.session("local[2,4]", tmp_path_factory.mktemp("events"))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two taps with a direction each, in two rotations; most connections are of one pair of addresses."""
    packets: list[Packet] = []
    for number in range(60):
        host = "10.0.0.1" if number % 5 else f"10.0.1.{number}"
        packets += evenly(download(host, 40_000 + number, "203.0.113.9", 443), number / 10, 0.01)
        packets.append((number / 10, udp(host, 50_000 + number, "10.0.0.53", 53, b"?")))
    packets.sort(key=lambda packet: packet[0])
    folder = tmp_path_factory.mktemp("captures")
    files = []
    for tap in range(2):
        mine = [packet for packet in packets if (packet[1][26:30] > packet[1][30:34]) == bool(tap)]
        for rotation in range(2):
            path = folder / f"{tap}-{rotation}.pcap"
            path.write_bytes(pcap_bytes(mine[rotation * len(mine) // 2 : (rotation + 1) * len(mine) // 2]))
            files.append(str(path))
    return files


def expected(captures: list[str], until: int | None = None) -> list[dict[str, Any]]:
    """The connections of one shard with hindsight, without Spark."""
    rows = pa.Table.from_batches(
        pa.record_batch(batch)
        for number, path in enumerate(sorted(captures))
        for batch in ct.decode_headers(path, number, 1)
    ).sort_by([("ts", "ascending"), ("file", "ascending"), ("idx", "ascending")])
    flows = list(map(pa.record_batch, ct.track_stream(rows, until=until, facts=True)))
    settled = ct.look_back(flows, list(ct.facts_of(flows)))
    return by_id(pa.Table.from_batches(map(pa.record_batch, settled)).to_pylist())


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["id"]))


def found(frame: Any) -> list[dict[str, Any]]:
    return by_id([row.asDict() for row in frame.collect()])


@pytest.mark.parametrize("shards", [1, 2, 7, 16])
def test_any_number_of_shards(spark: Any, captures: list[str], shards: int) -> None:
    """The files in any order, and one of the runs with files in ranges."""
    size = min(os.path.getsize(path) for path in captures)
    ranges = {"range_bytes": size * 2 // 3} if shards == 7 else {}
    frame = cts.track(spark, captures[::-1] if shards % 2 else captures, shards=shards, **ranges)
    assert found(frame) == expected(captures)


def test_the_connections_are_those_of_track(spark: Any, captures: list[str]) -> None:
    """In every column but `id`."""
    account = cts.account(spark, captures).collect()
    until = max(row["last_timestamp"] for row in account)
    frame = cts.track(spark, captures, shards=5, until=until)
    names = [name for name in frame.columns if name not in ("id", "related_to")]
    schema = pa.schema([field for field in pa.schema(ct.FLOWS) if field.name in names])
    whole = pa.table(ct.track(captures).connections).select(names).cast(schema).to_pylist()
    mine = [{name: row[name] for name in names} for row in found(frame)]
    assert sorted(map(str, mine)) == sorted(map(str, whole))
    without = found(cts.track(spark, captures, shards=5, hindsight=False))
    assert len(without) == len(mine)
    assert sum(row["confidence"] for row in without) < sum(row["confidence"] for row in mine)


def test_bad_files_are_told(spark: Any, captures: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "zzz.pcap"
    bad.write_bytes(b"no capture at all, but some bytes of text")
    from pyspark.errors import PythonException

    with pytest.raises(PythonException, match=r"zzz\.pcap"):
        cts.track(spark, [*captures, str(bad)], shards=2).collect()
    frame = cts.track(spark, [*captures, str(bad)], shards=2, on_error="skip")
    # Files are numbered by name, so the others keep their numbers if the bad one is the last.
    numbers = {row["path"]: row["file"] for row in cts.account(spark, [*captures, str(bad)], on_error="skip").collect()}
    assert len(found(frame)) == len(expected(captures))
    rows = {row["path"]: row for row in cts.account(spark, [*captures, str(bad)], on_error="skip").collect()}
    assert numbers.keys() == {*captures, str(bad)}
    assert "zzz.pcap" in rows[str(bad)]["warnings"][0]
    assert sum(row["packets"] for row in rows.values()) == ct.track(captures).stats.packets


def test_the_format_pcap(spark: Any, captures: list[str]) -> None:
    cts.register(spark)
    frame = spark.read.format("pcap").option("shards", 64).load(captures)
    rows = [dict(zip(row.asDict(), row, strict=True)) for row in frame.filter("dport = 53").collect()]
    assert len(rows) == 60
    assert {row["dst"] for row in rows} == {"10.0.0.53"}
    assert {row["shard"] for row in rows} == {ct.shard_v1(row["src"], row["dst"], 64) for row in rows}
    one = spark.read.format("pcap").option("columns", "tracker").load(captures[0].replace("0-0", "?-0"))
    assert one.columns == pa.schema(ct.HEADERS).names


@pytest.mark.parametrize(("how", "times"), [("kill", 1), ("raise", 2)])
def test_a_task_that_fails(
    spark: Any, captures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, times: int
) -> None:
    monkeypatch.setattr(cts, "tracked", spark_session.fails(times, how, tmp_path))
    assert found(cts.track(spark, captures, shards=2)) == expected(captures)
    assert len(list(tmp_path.iterdir())) == times
    log = Path(spark.conf.get("spark.eventLog.dir").removeprefix("file:")) / spark.sparkContext.applicationId
    log = log if log.exists() else log.with_name(log.name + ".inprogress")
    ended = [json.loads(line) for line in log.read_text().splitlines() if '"SparkListenerTaskEnd"' in line]
    assert sum(one["Task Info"]["Failed"] for one in ended) >= times


def test_what_is_refused(spark: Any, captures: list[str]) -> None:
    with pytest.raises(ct.ConfigError, match="max_connections"):
        cts.track(spark, captures, max_connections=5)
    with pytest.raises(FileNotFoundError):
        cts.track(spark, captures[0] + ".none")
    with pytest.raises(ValueError, match="paths: found '-'"):
        cts.track(spark, "-")
    with pytest.raises(ValueError, match="range_bytes"):
        cts.track(spark, captures, range_bytes=0)
    with pytest.raises(ValueError, match="shards: found 0"):
        cts.track(spark, captures, shards=0)
