"""Parquet files of flow logs as the text that the extension module reads: a head with names, and a record a line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from conntrack_py.io.source import Input

if TYPE_CHECKING:
    import pyarrow

#: The first and the last bytes of a Parquet file.
_MAGIC = b"PAR1"
#: Rows that are turned into text at once.
_ROWS = 1 << 16


def as_text(source: Input, stack: ExitStack) -> Input:
    """The source, or for a Parquet file its records as text.

    Raises:
        ImportError: PyArrow is not installed.
    """
    name, what = source
    if what is None and name != "-":
        try:
            with open(name, "rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    return source
        except OSError:
            # For the extension module to say, or to skip.
            return source
        return name, Lines(name, stack)
    if what is not None and not isinstance(what, str) and _is_seekable(what):
        head = what.read(len(_MAGIC))
        what.seek(-len(head), io.SEEK_CUR)  # type: ignore[attr-defined]
        if head == _MAGIC:
            return name, Lines(what, stack)
    return source


def _is_seekable(file: Any) -> bool:
    return bool(hasattr(file, "seekable") and file.seekable())


class Lines:
    """A Parquet file as a binary file object of lines."""

    def __init__(self, file: Any, stack: ExitStack) -> None:
        """Open the file; the stack closes it."""
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError("a Parquet file needs PyArrow: pip install pyarrow") from error
        self._file = stack.enter_context(parquet.ParquetFile(file))
        self._pieces = self._texts()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _texts(self) -> Iterator[bytes]:
        names = self._file.schema_arrow.names
        yield " ".join(name.replace("_", "-") for name in names).encode() + b"\n"
        for batch in self._file.iter_batches(batch_size=_ROWS):
            yield _text(batch)


def _text(batch: pyarrow.RecordBatch) -> bytes:
    """Records as lines; what is missing is `-`, as in AWS's own text."""
    import pyarrow
    from pyarrow import compute, csv

    columns = []
    for column in batch.columns:
        kind = column.type
        if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind):
            column = column.cast(pyarrow.timestamp("s", tz=getattr(kind, "tz", None)), safe=False).cast(pyarrow.int64())
        texts = column.cast(pyarrow.string()).fill_null("-")
        texts = compute.replace_substring(compute.if_else(compute.equal(texts, ""), "-", texts), " ", "_")
        columns.append(texts)
    out = io.BytesIO()
    options = csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    csv.write_csv(pyarrow.record_batch(columns, names=batch.schema.names), out, options)
    return out.getvalue()
