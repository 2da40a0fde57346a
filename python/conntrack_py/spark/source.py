"""The data source `pcap`: headers of packets, or accounts of the reading, by the Python DataSource API of Spark."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from conntrack_py.config import Config
from conntrack_py.distributed import decode_headers, read_account, track_stream
from conntrack_py.exceptions import CaptureError
from conntrack_py.spark import plan

#: Columns of headers in types that Spark has.
HEADERS = pa.schema(
    [
        *((name, pa.int64()) for name in ("ts", "file", "idx")),
        ("shard", pa.int32()),
        *((name, pa.string()) for name in ("src", "dst")),
        *((name, pa.int32()) for name in ("sport", "dport", "proto")),
        ("length", pa.int64()),
        ("linktype", pa.int32()),
        ("wire", pa.int64()),
        ("abridged", pa.bool_()),
        ("frame", pa.binary()),
    ]
)
#: Columns that a tracker needs, and the shard.
TRACKED = ("ts", "file", "idx", "shard", "linktype", "wire", "abridged", "frame")
#: Columns of the account: of each file or range, the records read, what was not used by reason, and the warnings.
ACCOUNT = pa.schema(
    [
        ("file", pa.int64()),
        ("path", pa.string()),
        *((name, pa.int64()) for name in ("start", "end", "packets", "bytes")),
        ("skipped", pa.map_(pa.string(), pa.int64())),
        ("skipped_bytes", pa.map_(pa.string(), pa.int64())),
        ("first_timestamp", pa.int64()),
        ("last_timestamp", pa.int64()),
        ("warnings", pa.list_(pa.string())),
    ]
)


def flows_schema() -> StructType:
    """The columns of connections, as Spark has them."""
    return from_arrow_schema(pa.record_batch(next(track_stream([]))).schema)


class PcapSource(DataSource):
    """Headers of packets in captures, one row each.

    Options: `shards` (1); `config`, the keys of `Config` as a JSON object; `columns`, those wanted, with commas between;
    `account` (`true`: one row for each file instead of packets).
    """

    @classmethod
    def name(cls) -> str:
        """The name of the format."""
        return "pcap"

    def schema(self) -> StructType:
        """The columns."""
        return from_arrow_schema(_schema(self.options))

    def reader(self, schema: StructType) -> PcapReader:
        """A reader of these captures."""
        return PcapReader(dict(self.options))


class Task(InputPartition):
    """What one task reads."""

    def __init__(self, pieces: list[plan.Piece]) -> None:
        """Keep the files and ranges."""
        self.pieces = pieces


class PcapReader(DataSourceReader):
    """A reader of headers or accounts, one task for each large file or range."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Keep the options of a `PcapSource`."""
        known = {"path", "paths", "pieces", "shards", "config", "columns", "account"}
        for key in options:
            if key not in known:
                raise ValueError(f"{key}: unknown option of the format pcap, expected one of {', '.join(sorted(known))}")
        self.options = {key.lower(): value for key, value in options.items()}
        self.config = Config(**json.loads(self.options.get("config", "{}")))
        self.shards = int(self.options.get("shards", "1"))
        self.schema = _schema(self.options)
        self.names = self.schema.names

    def partitions(self) -> list[Task]:
        """The tasks."""
        if "pieces" in self.options:
            found = pickle.loads(base64.b64decode(self.options["pieces"]))
        else:
            paths = json.loads(self.options["paths"]) if "paths" in self.options else self.options.get("path")
            if not paths:
                raise ValueError("path: found none, expected captures: load('captures/*.pcap')")
            found = plan.pieces(paths, self.config)
        return [Task(pieces) for pieces in plan.tasks(found)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of a task, in pieces of bounded size."""
        assert isinstance(partition, Task)
        read = self._accounts if _wants_account(self.options) else self._headers
        for piece in partition.pieces:
            yield from read(piece)

    def _headers(self, piece: plan.Piece) -> Iterator[pa.RecordBatch]:
        for batch in decode_headers(piece.path, piece.file, self.shards, config=self.config, part=piece.part):
            # The types are equal; Spark's own columns may be null.
            yield pa.RecordBatch.from_arrays(pa.record_batch(batch).select(self.names).columns, schema=self.schema)

    def _accounts(self, piece: plan.Piece) -> Iterator[pa.RecordBatch]:
        stats, warnings = read_account(piece.path, config=self.config, part=piece.part)
        row = {
            "file": piece.file,
            "path": piece.path,
            "start": piece.part.start if piece.part else 0,
            "end": piece.part.end if piece.part else None,
            "packets": stats.packets,
            "bytes": stats.bytes,
            "skipped": list(stats.skipped.items()),
            "skipped_bytes": list(stats.skipped_bytes.items()),
            "first_timestamp": stats.first_timestamp,
            "last_timestamp": stats.last_timestamp,
            "warnings": warnings,
        }
        yield pa.RecordBatch.from_pylist([row], schema=ACCOUNT)


def options_of(found: list[plan.Piece], config: Config, **more: str) -> dict[str, str]:
    """The options that have a `PcapSource` read pieces."""
    keys = {key: value for key, value in _keys(config).items()}
    return {"pieces": base64.b64encode(pickle.dumps(found)).decode(), "config": json.dumps(keys), **more}


def _keys(config: Config) -> dict[str, Any]:
    """The keys of a configuration that are not at their defaults."""
    import dataclasses

    default = Config()
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    return {
        name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(default, name)
    }


def _wants_account(options: Mapping[str, str]) -> bool:
    return options.get("account", "false").lower() == "true"


def _schema(options: Mapping[str, str]) -> pa.Schema:
    if _wants_account(options):
        return ACCOUNT
    names = options.get("columns")
    if names is None:
        return HEADERS
    wanted = [name.strip() for name in names.split(",")]
    unknown = sorted(set(wanted) - set(HEADERS.names))
    if unknown:
        raise CaptureError(f"columns: found {unknown[0]}, expected some of {', '.join(HEADERS.names)}")
    return pa.schema([HEADERS.field(name) for name in wanted])
