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
from conntrack_py.distributed import HEADERS, HEADERS_TO_FILTER, decode_headers, read_account
from conntrack_py.spark import packing, plan

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


def spark_schema(schema: Any) -> StructType:
    """An Arrow schema as Spark has it."""
    return from_arrow_schema(pa.schema(schema))


class PcapSource(DataSource):
    """Headers of packets in captures, one row each.

    Options: `shards` (1); `config`, the keys of `Config` as a JSON object; `columns` (`all`, or `tracker`: those that
    `track_stream` needs); `rows` (`packets`, or `packs` for `track`, or `account`: one row for each file).
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
    """The files and ranges that one task reads."""

    def __init__(self, pieces: list[plan.Piece]) -> None:
        """Keep the files and ranges."""
        self.pieces = pieces


class PcapReader(DataSourceReader):
    """A reader of headers or accounts, one task for each large file or range."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Keep the options of a `PcapSource`."""
        known = {"path", "paths", "pieces", "shards", "config", "columns", "rows"}
        for key in options:
            if key not in known:
                raise ValueError(
                    f"{key}: unknown option of the format pcap, expected one of {', '.join(sorted(known))}"
                )
        self.options = {key.lower(): value for key, value in options.items()}
        self.config = Config(**json.loads(self.options.get("config", "{}")))
        self.shards = int(self.options.get("shards", "1"))
        self.schema = _schema(self.options)

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
        read = {"account": self._accounts, "packs": self._packs}.get(_rows(self.options), self._headers)
        for piece in partition.pieces:
            yield from read(piece)

    def _headers(self, piece: plan.Piece) -> Iterator[pa.RecordBatch]:
        columns: Any = self.options.get("columns", "all")
        for batch in self._decoded(piece, columns):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def _packs(self, piece: plan.Piece) -> Iterator[pa.RecordBatch]:
        return packing.packs(self._decoded(piece, "tracker"))

    def _decoded(self, piece: plan.Piece, columns: Any) -> Iterator[pa.RecordBatch]:
        return map(
            pa.record_batch,
            decode_headers(piece.path, piece.file, self.shards, columns=columns, config=self.config, part=piece.part),
        )

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
    return {"pieces": base64.b64encode(pickle.dumps(found)).decode(), "config": json.dumps(_keys(config)), **more}


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


def _rows(options: Mapping[str, str]) -> str:
    rows = options.get("rows", "packets")
    if rows not in ("packets", "packs", "account"):
        raise ValueError(f"rows: found {rows!r}, expected packets, packs or account")
    return rows


def _schema(options: Mapping[str, str]) -> pa.Schema:
    rows = _rows(options)
    if rows != "packets":
        return ACCOUNT if rows == "account" else packing.PACKS
    columns = options.get("columns", "all")
    if columns not in ("all", "tracker"):
        raise ValueError(f"columns: found {columns!r}, expected all or tracker")
    schema = pa.schema(HEADERS_TO_FILTER if columns == "all" else HEADERS)
    # Spark's own columns may be null.
    return pa.schema([field.with_nullable(True) for field in schema])
