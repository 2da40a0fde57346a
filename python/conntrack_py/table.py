"""`ConnectionTable`: connections as NumPy columns, Arrow, rows and files."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from conntrack_py import _native, text
from conntrack_py.io.formats import SupportsWrite, checked_format, format_of

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars
    from numpy.typing import NDArray
    from typing_extensions import CapsuleType

#: Evidence from the weakest to the strongest → confidence, certainty, and a phrase for lists of inferred originators.
EVIDENCE = _native.EVIDENCE
#: Rows that iteration turns into Python objects at once.
_CHUNK = 4096
#: Rows that `repr` shows at each end.
_SHOWN = 5


class Connection(NamedTuple):
    """A row of a `ConnectionTable`. A missing value is None."""

    start: int
    """Capture time of the first packet, nanoseconds since 1970 UTC."""
    end: int
    """Capture time of the last packet, in the same way."""
    proto: str
    """`tcp`, `udp`, `icmp`, `icmp6`, `sctp`, ... or the protocol's number."""
    orig_addr: str
    """Address of the originator: who initiated."""
    orig_port: int
    """Its port; for ICMP the type."""
    resp_addr: str
    """Address of the responder."""
    resp_port: int
    """Its port; for ICMP the type of the answer, or the code."""
    direction: str
    """`egress`, `ingress`, `internal`, `transit` or `multicast`, from the initiator alone."""
    state: str
    """State after the last packet, in the words of nf_conntrack."""
    conn_state: str
    """Zeek's `conn_state`."""
    history: str
    """Zeek's `history`."""
    assured: bool
    """A Linux gateway would keep its entry when its table is full."""
    seen_reply: bool
    """A Linux gateway saw both directions."""
    evidence: str
    """Why we say who initiated. Observed: `syn`, `icmp_request`, `init`. From its packets: `syn_ack`, `icmp_reply`,
    `init_ack`, `refused`, `payload`, `after_silence`, `window`. From the rest of the capture: `related`,
    `seen_before`, `listener`, `many_peers`,
    `role`. From addresses and ports: `multicast`, `service_port`, `ephemeral_port`, `push`. Hardly
    anything: `first_packet`, `answered`, `unknown`; and `scan` and `backscatter`, which nobody initiated in earnest."""
    confidence: float
    """How sure that makes us, 0 to 1."""
    flipped: bool
    """The first packet seen was sent by the responder."""
    orig_pkts: int
    """Packets that the originator sent."""
    orig_ip_bytes: int
    """Their bytes from the IP header on."""
    orig_bytes: int
    """Their bytes above the transport header."""
    resp_pkts: int
    """Packets that the responder sent."""
    resp_ip_bytes: int
    """Their bytes from the IP header on."""
    resp_bytes: int
    """Their bytes above the transport header."""
    orig_zone: str | None
    """The configured zone of the originator."""
    resp_zone: str | None
    """The configured zone of the responder."""
    vlan: int | None
    """VLAN id of the first packet, the outer one of two."""
    tunnel: str | None
    """What carried it: `gre`, `vxlan`, ..."""
    related_to: int | None
    """Row of the connection that an ICMP error speaks of, or that carries the tunnel."""
    end_reason: str
    """`closed`, `reset`, `timeout`, `evicted`, `end_of_capture` or `reused`."""
    community_id: str
    """Community ID, version 1."""
    vlan_reply: int | None
    """VLAN id of the other direction's first packet, where it differs from `vlan`; 0: untagged."""


class ConnectionTable:
    """An immutable table of connections, one row each, in the order of their first packets.

    - `table["orig_bytes"]` is a column as a NumPy array of length `len(table)`, read-only. `start` and `end` are
      `datetime64[ns]` in UTC; numbers come without a copy, and a missing one (`vlan`, `related_to`) is -1; words
      (`proto`, `direction`, `state`, ...) are an array of `str`, a missing one (`tunnel`, the zones) is empty;
      addresses, `history` and `community_id` are `str` objects (dtype `object`).
    - `table[3]` and iteration give `Connection` rows.
    - Consumers of Arrow take the table: `polars.DataFrame(table)`, `pyarrow.table(table)`, DuckDB. There,
      missing values are null.
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
    def __getitem__(self, key: int) -> Connection: ...
    def __getitem__(self, key: str | int) -> NDArray[Any] | Connection:
        """A column by name, or a row by number (from the end if negative).

        Raises:
            KeyError: There is no column of that name. The message has the nearest one.
            IndexError: There is no row of that number.
        """
        if isinstance(key, str):
            return self._column(key)
        try:
            row = operator.index(key)
        except TypeError:
            message = f"a column is asked for by name, a row by number, not by {type(key).__name__}"
            raise TypeError(message) from None
        place = row + len(self) if row < 0 else row
        if not 0 <= place < len(self):
            raise IndexError(f"row {row} of a table of {len(self)} connections")
        return next(self._rows(place, place + 1))

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
            column[:] = self._native.texts(name)
            column.flags.writeable = False
            self._texts[name] = column
        return self._texts[name]

    def _rows(self, start: int, stop: int) -> Iterator[Connection]:
        return map(Connection._make, zip(*(self._values(name, start, stop) for name in self.columns), strict=True))

    def _values(self, name: str, start: int, stop: int) -> list[Any]:
        """Some rows of a column as Python objects, None where a value is missing."""
        dtype = self._native.dtype(name)
        if dtype is None:
            return self._native.texts(name, start, stop)
        numbers = self._numbers(name)[start:stop]
        words = self._native.words(name)
        # Times as whole nanoseconds: a datetime has no room for them.
        values: list[Any] = (numbers.view("i8") if numbers.dtype.kind == "M" else numbers).tolist()
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

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas data frame: words as categories, times in UTC, missing values NaN.

        Raises:
            ImportError: pandas or PyArrow is not installed.
        """
        try:
            import pandas  # noqa: F401 - pyarrow's own message would not say what to install
            import pyarrow
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas and PyArrow: pip install pandas pyarrow") from error
        frame: pandas.DataFrame = pyarrow.table(self).to_pandas()
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
                conn.log, as Zeek writes it (tab-separated, with its header lines); or `ipfix`: biflows in an IPFIX file
                (RFC 5655, RFC 5103). Default: by the suffix of the path (.csv .jsonl .ndjson .arrow .feather .ipc
                .parquet .ipfix, .log for `zeek`).
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
        rows = [_HEAD, *self._shown()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([self._title(), *(f"  {line}" for line in lines)] if len(self) else [self._title()])

    def _repr_html_(self) -> str:
        """HTML of the first and last rows, for notebooks."""
        import html

        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(line(row, "td") for row in self._shown())
        return f"<p>{self._title()}</p><table><thead>{line(_HEAD, 'th')}</thead><tbody>{body}</tbody></table>"

    def _title(self) -> str:
        return f"ConnectionTable: {len(self):,} {'connection' if len(self) == 1 else 'connections'}"

    def _shown(self) -> list[tuple[str, ...]]:
        if len(self) <= 2 * _SHOWN:
            return [_shown_row(row) for row in self]
        first = [_shown_row(row) for row in self._rows(0, _SHOWN)]
        last = [_shown_row(row) for row in self._rows(len(self) - _SHOWN, len(self))]
        return [*first, tuple(repeat("...", len(_HEAD))), *last]


_HEAD = ("start (UTC)", "direction", "proto", "originator", "responder", "state", "sent", "received", "evidence")


def _shown_row(row: Connection) -> tuple[str, ...]:
    return (
        text.moment(row.start),
        row.direction,
        row.proto,
        text.endpoint(row.orig_addr, row.orig_port, row.proto),
        text.endpoint(row.resp_addr, row.resp_port, row.proto),
        row.state,
        text.size(row.orig_ip_bytes),
        text.size(row.resp_ip_bytes),
        row.evidence,
    )
