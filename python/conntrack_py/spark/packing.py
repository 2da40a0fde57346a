"""Headers on their way through a shuffle: many packets of one shard in one row.

Spark takes each row of an Arrow batch apart and puts the row together again on the other side, which costs far more
than tracking the packet. A row here is a pack: packets of one shard of one file, sorted by time, as a compressed Arrow
stream, with the time of the first one. Packs sorted by that time give the packets of a shard back in their order: once
a pack begins at a time, no later pack has a packet before that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

#: Bytes of headers that a reading task collects before it packs them.
PACK_BYTES = 32 << 20
#: Packets that a tracking task collects at least before it sorts them.
SORT_ROWS = 1 << 17

#: A row of whole Arrow batches.
WHOLE = pa.schema([("rows", pa.binary())])
#: Rows of packets of one shard; see `packs`.
PACKS = pa.schema([("shard", pa.int32()), ("first", pa.int64()), ("packets", pa.binary())])
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def packs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Packs of the headers of one file, in batches of bounded size."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= PACK_BYTES:
            yield _packed(held)
            held, size = [], 0
    if held:
        yield _packed(held)


def _packed(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches)
    shards = table["shard"].to_numpy()
    # Stable sorts: packets of one time stay in the order of the file. NumPy sorts 16 bits by radix.
    order = np.argsort(table["ts"].to_numpy(), kind="stable")
    order = order[np.argsort(shards[order].astype(np.uint16), kind="stable")]
    table, shards = table.drop_columns("shard").take(order).combine_chunks(), shards[order]
    begins = np.flatnonzero(np.diff(shards, prepend=-1))
    packets = [_bytes(table.slice(at, end - at)) for at, end in zip(begins, [*begins[1:], len(shards)], strict=True)]
    first = table["ts"].to_numpy()[begins]
    return pa.RecordBatch.from_arrays(
        [pa.array(shards[begins]), pa.array(first), pa.array(packets, pa.binary())], schema=PACKS
    )


def _bytes(rows: pa.Table | pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_OPTIONS) as writer:
        writer.write(rows)
    return bytes(sink.getvalue())


def wrapped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each batch as one row."""
    for batch in batches:
        yield pa.RecordBatch.from_arrays([pa.array([_bytes(batch)], pa.binary())], schema=WHOLE)


def unwrapped(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The batches of such rows."""
    for some in rows:
        for one in some["rows"]:
            yield pa.ipc.open_stream(one.as_buffer()).read_all()


def unpacked(packs: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The headers of packs, which are sorted by `first`, in the order of `ts`, `file` and `idx`.

    Memory holds the packs that overlap in time.
    """
    held: list[pa.Table] = []
    rows, enough = 0, SORT_ROWS
    for batch in packs:
        for first, packets in zip(batch["first"].to_pylist(), batch["packets"], strict=True):
            if rows >= enough:
                whole = _sorted(held)
                done = int(np.searchsorted(whole["ts"].to_numpy(), first))
                if done:
                    yield whole.slice(0, done)
                held, rows = [whole.slice(done)], rows - done
                # Packs that overlap all are sorted a few times in all, not once for each.
                enough = max(SORT_ROWS, 2 * rows)
            held.append(pa.ipc.open_stream(packets.as_buffer()).read_all())
            rows += len(held[-1])
    if held:
        yield _sorted(held)


def _sorted(tables: list[pa.Table]) -> pa.Table:
    whole = pa.concat_tables(tables).combine_chunks()
    return whole.take(np.lexsort([whole[name].to_numpy() for name in ("idx", "file", "ts")]))
