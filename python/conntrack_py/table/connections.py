"""`ConnectionTable`: connections as NumPy columns, Arrow, rows and files.

A part of a table shares its rows: of a mask or a choice only the places are kept. Columns in memory are views in a
slice.
"""

from __future__ import annotations

import operator
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex, overload

from conntrack_py import _native, text
from conntrack_py.io.formats import SupportsWrite, checked_format, format_of
from conntrack_py.table.row import ALL_COLUMNS, HEAD, Connection, row_class, shown_row, shown_values

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    import pyarrow
    from numpy.typing import NDArray
    from typing_extensions import CapsuleType

#: Rows that iteration turns into Python objects at once.
_CHUNK = 4096
#: NumPy's NaT as a number.
_NO_TIME = -(1 << 63)
#: Rows that `repr` shows at each end.
_SHOWN = 5


class ConnectionTable:
    """An immutable table of connections, one row each, in the order of their first packets.

    - `table["orig_bytes"]` is a column as a NumPy array of length `len(table)`, read-only. `start` and `end` are
      `datetime64[ns]` in UTC; numbers come without a copy, and a missing one (`vlan`, `related_to`) is -1; words
      (`proto`, `direction`, `state`, ...) are an array of `str`, a missing one (`tunnel`, the zones) is empty;
      addresses, `history` and `community_id` are `str` objects (dtype `object`).
    - `table[3]` and iteration give `Connection` rows.
    - `table[10:20]`, `table[mask]` and `table[numbers]` give a table of these rows, with a mask of one bool a row and
      with row numbers in any order, from the end if negative. Rows are shared, not copied. `related_to` and
      `TrackResult.labels` keep the row numbers of the whole table.
    - `table[["start", "orig_addr"]]` gives a table of these columns; its rows have these fields alone. The formats of
      other programs (`conntrack`, `zeek`, `ipfix`, `ecs`) have their own columns.
    - `==` is True for the same columns with the same values in every row.
    - Tables are pickled for processes of the same release, and are no file format: `write` makes one.
    - A table of flow logs has four columns more (`refused`, `observed_at`, `records`, `sampled`), one with translations
      six more (`nat_orig_addr`, ...). What a log cannot know is None in rows and null in Arrow; in NumPy a count is 0,
      a flag False, a text empty.
    - Consumers of Arrow take the table: `polars.DataFrame(table)`, `pyarrow.table(table)`, DuckDB. There,
      missing values are null.

    Times are nanoseconds since 1970 UTC as `int` in rows, `datetime64[ns]` in NumPy, timestamps with the zone UTC in
    Arrow, Polars and pandas, and ISO 8601 with nine digits of a second in JSON.
    """

    __slots__ = ("_native", "_texts")

    def __init__(self, native: _native.Connections) -> None:
        """Wrap the rows that the extension module holds."""
        self._native = native
        self._texts: dict[str, NDArray[np.object_]] = {}

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return self._native.names()

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._native)

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> Connection: ...
    @overload
    def __getitem__(self, key: slice | Iterable[Any]) -> ConnectionTable: ...
    def __getitem__(
        self, key: str | int | np.integer[Any] | slice | Iterable[Any]
    ) -> NDArray[Any] | Connection | ConnectionTable:
        """A column by name, a row by number, or a table of some rows or columns.

        Raises:
            KeyError: There is no column of that name. The message has the nearest one.
            IndexError: There is no row of that number, or a mask has another length than the table.
            TypeError: The key is something else.
            ValueError: A column is listed twice.
        """
        if isinstance(key, str):
            return self._column(key)
        if isinstance(key, slice):
            return self._slice(key)
        if isinstance(key, Iterable) and not isinstance(key, (tuple, bytes, dict)) and _has_length(key):
            return self._chosen(key)
        if isinstance(key, bool) or not isinstance(key, SupportsIndex):
            raise TypeError(f"{_KEYS}, not by {type(key).__name__}")
        return next(self._rows(place := self._place(operator.index(key)), place + 1))

    def _place(self, row: int) -> int:
        place = row + len(self) if row < 0 else row
        if not 0 <= place < len(self):
            raise IndexError(f"row {row} of a table of {text.counted(len(self), 'connection')}")
        return place

    def _slice(self, key: slice) -> ConnectionTable:
        start, stop, step = key.indices(len(self))
        if step != 1:
            import numpy as np

            return self._part(np.arange(start, stop, step))
        part = ConnectionTable(self._native.slice(start, max(start, stop)))
        part._texts = {name: column[start:stop] for name, column in self._texts.items()}
        return part

    def _chosen(self, key: Iterable[Any]) -> ConnectionTable:
        """The rows of a mask or of numbers, or the columns of names."""
        import numpy as np

        found = np.asarray(key)
        if found.ndim != 1:
            raise TypeError(f"{_KEYS}, not by values of shape {found.shape}")
        if found.dtype.kind in "UO" and found.size and all(isinstance(name, str) for name in found.tolist()):
            return self._pick(found.tolist())
        if found.dtype.kind == "O" and found.size and all(isinstance(value, bool) for value in found.tolist()):
            found = found.astype(bool)  # a mask of pandas' nullable type
        if found.dtype.kind == "b":
            if len(found) != len(self):
                expected = f"expected one bool for each of {text.counted(len(self), 'connection')}"
                raise IndexError(f"a mask of {len(found):,}: {expected}")
            return self._part(np.flatnonzero(found))
        if found.dtype.kind not in "iu" and found.size:
            raise TypeError(f"{_KEYS}, not by values of {found.dtype}")
        return self._part(found)

    def _part(self, places: NDArray[Any]) -> ConnectionTable:
        """The rows at these places, counted from the end if negative."""
        import numpy as np

        if len(places):
            for bad in (places.min(), places.max()):
                self._place(int(bad))
        rows = places.astype(np.int64)
        return ConnectionTable(self._native.choose(np.where(rows < 0, rows + len(self), rows).astype(np.uint64)))

    def _pick(self, names: Sequence[str]) -> ConnectionTable:
        for name in names:
            self._check(name)
        part = ConnectionTable(self._native.pick(list(names)))
        part._texts = {name: column for name, column in self._texts.items() if name in names}
        return part

    def where(self, text: str) -> ConnectionTable:
        """The rows for which a condition holds, such as `direction == "egress" and resp_port in [80, 443]`.

        Raises:
            WhereError: The text is no condition; the message has the place and what was expected.
        """
        from conntrack_py.where import condition

        return self[condition(text, self).mask(self)]

    def parents(self) -> NDArray[np.int64]:
        """Rows in this table of the connections that `related_to` names, -1 where there is none or it is elsewhere."""
        import numpy as np

        ids = np.frombuffer(memoryview(self._native.ids()), dtype=np.uint64).astype(np.int64)
        related = self._column("related_to")
        order = np.argsort(ids, kind="stable")
        places = np.searchsorted(ids, related, sorter=order)
        places = order[np.minimum(places, max(len(ids) - 1, 0))] if len(ids) else places
        found: NDArray[np.int64] = np.where((related >= 0) & (ids[places] == related), places, -1)
        return found

    def __eq__(self, other: object) -> bool:
        """The same columns, with the same values in every row."""
        if not isinstance(other, ConnectionTable):
            return NotImplemented
        return self is other or self._native.equals(other._native)

    #: Rows may be many: nothing hashes them.
    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Connection]:
        """The rows, in order."""
        for start in range(0, len(self), _CHUNK):
            yield from self._rows(start, min(start + _CHUNK, len(self)))

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """A column of words as their numbers (read-only, -1: missing) and the words that the numbers index.

        Raises:
            KeyError: There is no such column.
            ValueError: It does not hold words.
        """
        self._check(name)
        words = self._native.words(name)
        if words is None:
            raise ValueError(f"{name} is not a column of words")
        return self._numbers(name), words

    def places(self, end: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of an end (0: the originators, 1: the responders): is it in a local network, is it multicast or broadcast?"""
        import numpy as np

        both = np.frombuffer(memoryview(self._native.places(end)), dtype=np.bool_).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def texts(self, name: str) -> Iterator[str]:
        """The values of a column of addresses, `history` or `community_id`, none of which is kept.

        A text that a flow log does not have is empty.

        Raises:
            KeyError: There is no such column.
            ValueError: It does not hold texts.
        """
        self._check(name)
        if self._native.dtype(name) is not None:
            raise ValueError(f"{name} is not a column of texts")
        for start in range(0, len(self), _CHUNK):
            yield from (one or "" for one in self._native.texts(name, start, min(start + _CHUNK, len(self))))

    def unknown(self, name: str) -> NDArray[np.bool_]:
        """Mask of the rows whose source does not know the value of a column: of flow logs, most of what packets show.

        Raises:
            KeyError: There is no such column.
        """
        import numpy as np

        self._check(name)
        found = self._native.unknown(name, 0, len(self))
        return np.zeros(len(self), bool) if found is None else np.frombuffer(memoryview(found), dtype=np.bool_)

    def _check(self, name: str) -> None:
        if name not in self.columns:
            import difflib

            nearest = difflib.get_close_matches(name, self.columns, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(self.columns)}"
            raise KeyError(f"no column {name}; {hint}")

    def _numbers(self, name: str) -> NDArray[Any]:
        import numpy as np

        return np.frombuffer(memoryview(self._native.numbers(name)), dtype=self._native.dtype(name))

    def _column(self, name: str) -> NDArray[Any]:
        import numpy as np

        self._check(name)
        if self._native.dtype(name) is None:
            return self._text_column(name)
        numbers = self._numbers(name)
        words = self._native.words(name)
        if words is None:
            return numbers
        # -1 indexes the last word, which is the empty one.
        column: NDArray[np.str_] = np.array([*words, ""])[numbers]
        column.flags.writeable = False
        return column

    def _text_column(self, name: str) -> NDArray[np.object_]:
        """Made once: somebody who writes `table["orig_addr"][i]` in a loop must not pay for the column each time."""
        if name not in self._texts:
            import numpy as np

            column = np.empty(len(self), dtype=object)
            column[:] = [*self.texts(name)]
            column.flags.writeable = False
            self._texts[name] = column
        return self._texts[name]

    def _rows(self, start: int, stop: int) -> Iterator[Connection]:
        columns = self.columns
        row = Connection if columns == ALL_COLUMNS else row_class(tuple(columns))
        return map(row._make, zip(*(self._values(name, start, stop) for name in columns), strict=True))

    def _values(self, name: str, start: int, stop: int) -> list[Any]:
        """Some rows of a column as Python objects, None where a value is missing."""
        dtype = self._native.dtype(name)
        if dtype is None:
            return list(self._native.texts(name, start, stop))
        unknown = self._native.unknown(name, start, stop)
        if unknown is not None:
            known = self._known_values(name, start, stop)
            return [None if lacks else value for value, lacks in zip(known, bytes(memoryview(unknown)), strict=True)]
        return self._known_values(name, start, stop)

    def _known_values(self, name: str, start: int, stop: int) -> list[Any]:
        """Some rows of a column of numbers, where the source knows them all."""
        numbers = self._numbers(name)[start:stop]
        words = self._native.words(name)
        # Times as whole nanoseconds: a datetime has no room for them.
        if numbers.dtype.kind == "M":
            return [None if value == _NO_TIME else value for value in numbers.view("i8").tolist()]
        values: list[Any] = numbers.tolist()
        if words is not None:
            return [words[value] if value >= 0 else None for value in values]
        if numbers.dtype.kind == "i":
            return [value if value >= 0 else None for value in values]
        return values

    def __arrow_c_schema__(self) -> CapsuleType:
        """The schema, as the Arrow PyCapsule interface has it."""
        return self._native.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> CapsuleType:
        """The table as a stream of record batches, as the Arrow PyCapsule interface has it."""
        return self._native.__arrow_c_stream__(requested_schema)

    def to_polars(self) -> polars.DataFrame:
        """The table as a Polars data frame: words as categories, times in UTC, missing values null.

        Raises:
            ImportError: Polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise ImportError("to_polars() needs Polars: pip install polars") from error
        return polars.DataFrame(self)

    def to_arrow(self) -> pyarrow.Table:
        """The table as a PyArrow table: words as dictionaries, times in UTC, missing values null.

        Raises:
            ImportError: PyArrow is not installed.
        """
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError("to_arrow() needs PyArrow: pip install pyarrow") from error
        return pyarrow.table(self)

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas data frame: words as categories, times in UTC.

        Columns of numbers that may be missing (`vlan`, `vlan_reply`, `related_to`) are nullable integers (`Int64`), a
        missing one is `pandas.NA`; missing words are NaN, missing times NaT.

        Raises:
            ImportError: pandas or PyArrow is not installed.
        """
        try:
            import pandas
            import pyarrow
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas and PyArrow: pip install pandas pyarrow") from error
        nullable = {pyarrow.int32(): pandas.Int64Dtype(), pyarrow.int64(): pandas.Int64Dtype()}
        frame: pandas.DataFrame = pyarrow.table(self).to_pandas(types_mapper=nullable.get)
        return frame

    def write(
        self,
        path: str | os.PathLike[str] | SupportsWrite,
        format: str | None = None,
        *,
        by: Literal["direction", "hour"] | None = None,
    ) -> None:
        """Write the table to a file, or to a directory of files.

        Args:
            path: The file or directory, which appears under its name only when it is complete, or a binary file object.
            format: `csv`, `jsonl`, `arrow` (IPC file, Feather V2), `parquet`; `conntrack`: the entries that a Linux
                gateway would hold at the end of the capture, as `conntrack -L -o extended` lists them; `zeek`: a
                conn.log, as Zeek writes it (tab-separated, with its header lines); `ipfix`: biflows in an IPFIX file
                (RFC 5655, RFC 5103); or `ecs`: documents of the Elastic Common Schema, one a line. Default: by the
                suffix of the path (.csv .jsonl .ndjson .arrow .feather .ipc .parquet .ipfix, .log for `zeek`).
            by: Write a directory, one file for each `"direction"` or `"hour"`, as `ConnectionWriter` does.

        Raises:
            ValueError: The format is unknown, or there is neither a format nor a suffix that tells it; `by` is neither,
                or is asked of a file object.
            FileExistsError: The directory to write by `by` has something in it.
            OSError: The system refused.
        """
        chosen = checked_format(format) if format is not None else format_of(path)
        self._native.write(path, chosen, by)

    def __repr__(self) -> str:
        """The first and last rows, as much of them as fits a line."""
        rows = [self._head(), *self._shown()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([self._title(), *(f"  {line}" for line in lines)] if len(self) else [self._title()])

    def __copy__(self) -> Self:
        """The table, which never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """The table, which never changes."""
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """The rows as bytes, out of band where the protocol has it (PEP 574)."""
        saved = self._native.save()
        if operator.index(protocol) < 5:
            return _restored, (bytes(memoryview(saved)),)
        return _restored, (pickle.PickleBuffer(saved),)

    def _repr_html_(self) -> str:
        """HTML of the first and last rows, for notebooks."""
        import html

        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(line(row, "td") for row in self._shown())
        return f"<p>{self._title()}</p><table><thead>{line(self._head(), 'th')}</thead><tbody>{body}</tbody></table>"

    def _title(self) -> str:
        return f"ConnectionTable: {text.counted(len(self), 'connection')}"

    def _head(self) -> tuple[str, ...]:
        columns = self.columns
        return HEAD if columns[: len(ALL_COLUMNS)] == ALL_COLUMNS else tuple(columns)

    def _shown(self) -> list[tuple[str, ...]]:
        cells = shown_row if self.columns[: len(ALL_COLUMNS)] == ALL_COLUMNS else shown_values
        if len(self) <= 2 * _SHOWN:
            return [cells(row) for row in self]
        first = [cells(row) for row in self._rows(0, _SHOWN)]
        last = [cells(row) for row in self._rows(len(self) - _SHOWN, len(self))]
        return [*first, tuple(repeat("...", len(first[0]))), *last]


_KEYS = "a column is asked for by name, a row by number, rows by a slice, mask or numbers, columns by a list of names"


def _has_length(key: Iterable[Any]) -> bool:
    """True for a list, array, range or series, whose values have an order; an iterator and a set have none."""
    return hasattr(key, "__len__") and hasattr(key, "__getitem__")


def _restored(saved: bytes) -> ConnectionTable:
    """A table of a pickle.

    Raises:
        ValueError: The bytes are damaged, or those of another release.
    """
    return ConnectionTable(_native.Connections.restore(bytes(saved)))
