"""Connections of captures on Apache Spark: the seam of `decode_headers` and `track_stream`, run by its tasks.

Tasks read files or ranges of them to headers with their shard. A shuffle brings each shard to one task, which sorts it
and tracks it. The facts of all shards are merged, and a last pass over the connections has hindsight. Spark sorts and
spills; no task holds a file, and the last pass holds the connections of one shard, and the facts.

>>> import conntrack_py.spark as cts  # doctest: +SKIP
>>> flows = cts.track(spark, "s3://captures/2026-11/*.pcap.zst", shards=256)  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import operator
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import StorageLevel

from conntrack_py.config import Config
from conntrack_py.distributed import FACTS, FLOWS, facts_of, look_back, merge_facts, shard_count, track_stream
from conntrack_py.exceptions import ConfigError
from conntrack_py.spark import packing, plan
from conntrack_py.spark.source import PcapSource, options_of, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ("account", "register", "track")

#: Captures, as one name or several.
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
#: Shards of a run where none are asked for.
SHARDS = 64
#: Bytes of a file above which it is read in ranges.
RANGE_BYTES = 512 << 20


def register(spark: SparkSession) -> None:
    """Give a session the format `pcap`, for `spark.read.format("pcap").load(...)`."""
    spark.dataSource.register(PcapSource)


def track(
    spark: SparkSession,
    paths: Paths,
    *,
    shards: int = SHARDS,
    range_bytes: int = RANGE_BYTES,
    until: int | None = None,
    hindsight: bool = True,
    **config: Any,
) -> DataFrame:
    """The connections of captures, as a DataFrame with the columns of `track_stream`.

    The rows are those of `conntrack_py.track` on the list of files, beside `id` and what `until` says. They do not
    depend on `shards`, on `range_bytes`, or on failed and repeated tasks. Large files are split at once, in a job of
    its own. With `hindsight` a second job tracks, keeps the connections on the disks of the executors (`persist`), and
    merges the facts; `spark.catalog.clearCache()` frees the disks. Without it nothing runs before an action.

    Args:
        spark: A session, classic or Spark Connect, whose workers have this package.
        paths: Paths, patterns and URLs that each worker can open. Files are numbered by their sorted names.
        shards: Tasks of the tracking stage, 1 to 65536. A shard is a task's memory: its packets are sorted on disk, its
            living connections are held.
        range_bytes: Files above this size are read in ranges of about as many bytes (`split_points`).
        until: When the captures end, in nanoseconds since 1970 UTC; see `track_stream`. The latest `last_timestamp` of
            `account` gives each connection the `end_reason` that `conntrack_py.track` gives.
        hindsight: Judge the initiator by all connections (`look_back`), not only by what had come before.
        **config: The keys of `Config`. With `on_error="skip"` a file that cannot be read is left out; `account` has it.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: An unknown key, a bad value, or what no shard can do alone; see `track_stream`.
        ValueError: `shards` or `range_bytes` is out of range.
    """
    settings = _settings(config)
    # Refuse what no shard can do alone before anything runs.
    track_stream([], config=settings)
    number = shard_count(shards)
    found = _pieces(spark, paths, range_bytes, settings)
    packs = _read(spark, found, settings, shards=str(number), rows="packs")
    ordered = packs.repartitionById(number, packs["shard"]).sortWithinPartitions("first")
    schema = spark_schema(FLOWS)
    if not hindsight:
        return ordered.mapInArrow(functools.partial(tracked, settings, until, False), schema)
    flows = ordered.mapInArrow(functools.partial(tracked, settings, until, True), spark_schema(packing.WHOLE))
    flows = flows.persist(StorageLevel.DISK_ONLY)
    facts = flows.mapInArrow(functools.partial(_facts, settings), spark_schema(FACTS))
    merged = facts.repartition(1).mapInArrow(_merged, spark_schema(FACTS)).toArrow()
    return flows.mapInArrow(functools.partial(_settled, settings, merged), schema)


def account(spark: SparkSession, paths: Paths, *, range_bytes: int = RANGE_BYTES, **config: Any) -> DataFrame:
    """The account of the reading: one row for each file or range, with counts by reason and warnings.

    It reads the captures anew, and sends no packets through Spark.

    Args:
        spark: A session.
        paths: As for `track`.
        range_bytes: As for `track`.
        **config: As for `track`.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: As for `track`.
    """
    settings = _settings(config)
    return _read(spark, _pieces(spark, paths, range_bytes, settings), settings, rows="account")


def _settings(config: dict[str, Any]) -> Config:
    if "config" not in config:
        return Config(**config)
    if len(config) > 1 or not isinstance(config["config"], Config):
        raise ConfigError("config: found it with other keys, or no Config; expected a Config alone, or its keys")
    return config["config"]


def _read(spark: SparkSession, found: list[plan.Piece], config: Config, **options: str) -> DataFrame:
    register(spark)
    return spark.read.format("pcap").options(**options_of(found, config, **options)).load()


def _pieces(spark: SparkSession, paths: Paths, range_bytes: int, config: Config) -> list[plan.Piece]:
    most = operator.index(range_bytes)
    if most < 1:
        raise ValueError(f"range_bytes: found {most}, expected 1 or more")
    return plan.split(plan.pieces(paths, config), most, functools.partial(_run, spark))


def _run(spark: SparkSession, work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Apply a function to each item, in tasks of Spark."""
    if not items:
        return []
    rows = [(number, pickle.dumps(item)) for number, item in enumerate(items)]
    jobs = spark.createDataFrame(rows, "number int, item binary").repartitionById(len(rows), "number")
    done = jobs.mapInArrow(functools.partial(_work, work), "number int, item binary").collect()
    return [pickle.loads(row["item"]) for row in sorted(done, key=operator.itemgetter("number"))]


def _work(work: Callable[[Any], Any], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        done = [pickle.dumps(work(pickle.loads(item))) for item in batch.column("item").to_pylist()]
        yield pa.record_batch([batch.column("number"), pa.array(done, pa.binary())], names=["number", "item"])


def tracked(
    config: Config, until: int | None, facts: bool, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The connections of a task's shard, whose packs are sorted; with facts a row for each batch."""
    rows = packing.unpacked(batches)
    flows = map(pa.record_batch, track_stream(rows, config=config, until=until, facts=facts))
    return packing.wrapped(flows) if facts else flows


def _facts(config: Config, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return map(pa.record_batch, facts_of(packing.unwrapped(batches), config=config))


def _merged(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return map(pa.record_batch, merge_facts(batches, settle=True))


def _settled(config: Config, facts: pa.Table, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return map(pa.record_batch, look_back(packing.unwrapped(batches), facts, config=config))
