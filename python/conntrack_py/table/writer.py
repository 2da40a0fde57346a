"""`ConnectionWriter`: a result of any size, written table by table in bounded memory."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Literal, NoReturn, Self

from conntrack_py import _native
from conntrack_py.io.formats import SupportsWrite, checked_format, format_of
from conntrack_py.table.connections import ConnectionTable


class ConnectionWriter:
    """A writer of successive tables to a file, a directory or a file object.

    Output appears under its name once it is complete: a file is written beside its path (`NAME.PID.part`) and renamed
    by `close`, a directory likewise as a whole. An exception in the block, and a writer that is not closed, remove the
    output. A process that is killed leaves the `.part`, which no reader takes for a result.

    Rows keep their order. Output bytes do not depend on the division into tables. Memory holds at most a block of rows
    (32,768 of `arrow`, a row group of 131,072 of `parquet`) for each open file.

    A pipe or file object gets every line after each `write`; blocks and messages (`arrow`, `parquet`, `ipfix`) once
    they are full.

    `related_to` is as in the tables: in those of one `Tracker` (`drain`, `finish`) it is a connection's number in the
    order of first packets, as in its labels. `zeek` names a tunnel by the `uid` of what carries it, in any table of its
    run.

    >>> tracker = Tracker()
    >>> with open_capture("-") as capture, ConnectionWriter("closed.parquet") as writer:  # doctest: +SKIP
    ...     for batch in capture:
    ...         tracker.process(batch)
    ...         writer.write(tracker.drain())
    ...     writer.write(tracker.finish())
    """

    __slots__ = ("_native",)

    def __init__(
        self,
        target: str | os.PathLike[str] | SupportsWrite,
        format: str | None = None,
        *,
        by: Literal["direction", "hour"] | None = None,
    ) -> None:
        """Open a target.

        Args:
            target: A path, or a binary file object, which stays open. A pipe or device is written to as it is.
            format: As for `ConnectionTable.write`. Default: by the suffix of the path.
            by: Write a directory of files, in Hive's layout, which DuckDB, Polars and PyArrow read as columns:
                `"direction"`: `direction=egress/part-0.parquet`, without the column `direction` in the files;
                `"hour"`: by the hour, in UTC, in which a connection began, `hour=2026-11-25T14/part-0.parquet`. Of more
                than 32 hours at once, the one that has waited longest is ended and would go on in `part-1`.

        Raises:
            ValueError: The format is unknown, or there is neither a format nor a suffix that tells it; `by` is neither,
                or is asked of a file object.
            FileExistsError: The directory to write by `by` has something in it.
            OSError: The system refused.
        """
        chosen = checked_format(format) if format is not None else format_of(target)
        self._native = _native.Writer(target, chosen, by)

    @classmethod
    def _growing(cls, path: str, format: str, at: int) -> Self:
        """A writer of lines to the end of a file that exists, behind so many bytes."""
        writer = cls.__new__(cls)
        writer._native = _native.Writer(path, format, None, grow=at)
        return writer

    @classmethod
    def _in_parts(
        cls, path: str, format: str, by: Literal["direction", "hour"] | None, rows: int | None, size: int | None
    ) -> Self:
        """A writer of files that are published one after another."""
        writer = cls.__new__(cls)
        writer._native = _native.Writer(path, format, by, parts=(rows, size))
        return writer

    def __repr__(self) -> str:
        """Open or closed."""
        try:
            return f"<ConnectionWriter: {'open' if self._native.is_open() else 'closed'}>"
        except RuntimeError:
            return "<ConnectionWriter: in use by another thread>"

    def __reduce__(self) -> NoReturn:
        """Refuse: open files stay in their process."""
        raise TypeError("a ConnectionWriter is not pickled or copied: make one in the other process")

    def write(self, table: ConnectionTable) -> None:
        """Append the connections of a table. After an error the writer is closed.

        Raises:
            ValueError: The writer is closed, or the table has other zones than those before.
            OSError: The system refused.
            RuntimeError: Another thread writes at this moment.
        """
        self._native.write(table._native)

    def close(self) -> None:
        """Complete the output and give it its name. Closing a closed writer does nothing.

        Raises:
            OSError: The system refused.
            RuntimeError: Another thread writes at this moment.
        """
        if self._native.is_open():
            self._native.close()

    def discard(self) -> None:
        """Remove the output and close. Data already handed to a pipe or file object stays there."""
        self._native.discard()

    def __enter__(self) -> Self:
        """Return the writer, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or discard where an exception leaves the block."""
        if kind is None:
            self.close()
        else:
            self.discard()
