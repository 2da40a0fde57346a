"""Arrow data for consumers of the Arrow PyCapsule interface."""

from __future__ import annotations

from typing import Any

from conntrack_py import _native


class ArrowBatch:
    """An Arrow record batch, for consumers of the Arrow PyCapsule interface, without a copy.

    >>> import pyarrow
    >>> batches = map(pyarrow.record_batch, decode_headers("capture.pcap", 0, 4096))  # doctest: +SKIP
    """

    __slots__ = ("_native",)

    def __init__(self, native: _native.ArrowBatch) -> None:
        """Wrap what the extension module holds."""
        self._native = native

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._native)

    def __arrow_c_schema__(self) -> Any:
        """The schema."""
        return self._native.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        """The batch as a struct array. `requested_schema` is not followed, which the interface permits."""
        return self._native.__arrow_c_array__(requested_schema)

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """The batch as a stream of one."""
        return self._native.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        """The number of rows."""
        return f"<ArrowBatch: {len(self):,} row{'' if len(self) == 1 else 's'}>"


class ArrowSchema:
    """An Arrow schema, for consumers of the Arrow PyCapsule interface, as `pyarrow.schema` is."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.ArrowBatch) -> None:
        """Wrap a batch of that schema."""
        self._native = native

    def __arrow_c_schema__(self) -> Any:
        """The schema."""
        return self._native.__arrow_c_schema__()
