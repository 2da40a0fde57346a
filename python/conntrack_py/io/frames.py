"""Frames of other readers, checked and converted for the extension module."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from datetime import datetime

#: Nanoseconds of a second.
_SECOND = 1_000_000_000
#: Powers of ten of seconds that 64 bits of nanoseconds have room for.
_ORDER = 9


class Frames(NamedTuple):
    """Contiguous frames."""

    data: NDArray[np.uint8]
    ends: NDArray[np.uint64]
    timestamps: NDArray[np.int64]
    lengths: NDArray[np.uint32]


def of_frames(frames: Any, timestamps: ArrayLike, lengths: ArrayLike | None) -> Frames:
    """Frames as `PacketBatch.from_frames` takes them.

    Raises:
        ValueError: A length, type or value is refused; the message names the argument.
    """
    data, ends = _bytes(frames)
    times = _times(timestamps)
    captured = np.diff(ends, prepend=np.uint64(0)).astype(np.uint32)
    wire = captured if lengths is None else _lengths(lengths)
    for name, found in (("timestamps", times), ("lengths", wire)):
        if len(found) != len(ends):
            raise ValueError(f"{name}: found {len(found):,}, expected {len(ends):,}, one for each frame")
    return Frames(data, ends, times, np.maximum(wire, captured))


def of_pairs(pairs: Iterable[tuple[Any, Any]], lengths: list[int] | None = None) -> Frames:
    """Frames from `(time, bytes)`, as `PacketBatch.from_pairs` takes them.

    Args:
        pairs: The packets.
        lengths: A list that `pairs` fills with lengths on the wire.

    Raises:
        ValueError: A time is none, or a frame is no bytes; the message has its place.
    """
    frames, times = [], []
    for number, pair in enumerate(pairs):
        try:
            ts, frame = pair
        except (TypeError, ValueError) as error:
            raise ValueError(f"packet {number}: found {type(pair).__name__}, expected (seconds, bytes)") from error
        frames.append(_frame(number, frame))
        times.append(nanoseconds(number, ts))
    return of_frames(frames, np.array(times, np.int64), lengths)


def _bytes(frames: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """The bytes of all frames, and where each ends."""
    if isinstance(frames, tuple) and len(frames) == 2:
        try:
            data = np.frombuffer(frames[0], np.uint8)
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"frames: found {type(frames[0]).__name__}, expected bytes in one piece") from error
        return _cut(data, _longs("offsets", frames[1]))
    if isinstance(frames, (bytes, bytearray, memoryview, str)) or not isinstance(frames, Sequence | np.ndarray):
        kind = type(frames).__name__
        raise ValueError(f"frames: found {kind}, expected a list of bytes, or a tuple of bytes and offsets")
    listed = [_frame(number, frame) for number, frame in enumerate(frames)]
    ends = np.cumsum(np.fromiter(map(len, listed), np.uint64, len(listed)), dtype=np.uint64)
    return np.frombuffer(b"".join(listed), np.uint8), ends


def _cut(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Data from the first offset on, and the ends: offsets are those of Arrow, one more than there are frames."""
    if len(offsets) == 0:
        raise ValueError("offsets: found none, expected where each frame begins, and where the last one ends")
    if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets: expected to grow from 0 to at most {len(data):,}, the length of the data")
    start = int(offsets[0])
    return data[start : int(offsets[-1])], (offsets[1:] - start).astype(np.uint64)


def _frame(number: int, frame: Any) -> bytes:
    if isinstance(frame, (bytes, bytearray, memoryview)):
        return bytes(frame)
    raise ValueError(f"frames[{number}]: found {type(frame).__name__}, expected bytes")


def whole(name: str, values: Any, kinds: str = "iu") -> NDArray[Any]:
    """Whole numbers in one dimension, of this machine's byte order and of these kinds of NumPy's.

    Raises:
        ValueError: They are none; the message names them.
    """
    found = np.asarray(values)
    if found.ndim != 1 or (found.dtype.kind not in kinds and len(found)):
        raise ValueError(f"{name}: found {found.dtype} of shape {found.shape}, expected whole numbers in one dimension")
    if not found.dtype.isnative:
        raise ValueError(f"{name}: found {found.dtype.str}, of the other byte order; use .astype(int)")
    return found


def _longs(name: str, values: Any) -> NDArray[np.int64]:
    return whole(name, values).astype(np.int64)


def _times(timestamps: ArrayLike) -> NDArray[np.int64]:
    found = np.asarray(timestamps)
    if found.dtype.kind == "M":
        made = found.astype("M8[ns]")
        if (bad := ~np.isnat(found) & (made.astype(found.dtype) != found)).any() and found.ndim == 1:
            place = int(bad.argmax())
            raise ValueError(f"timestamps: found {found[place]} in frame {place}, expected a time from 1677 to 2262")
        return made.astype(np.int64)
    if found.dtype.kind not in "iu" and found.size:
        raise ValueError(f"timestamps: found {found.dtype}, expected nanoseconds as whole numbers, or datetime64")
    return _longs("timestamps", found)


def _lengths(lengths: ArrayLike) -> NDArray[np.uint32]:
    found = _longs("lengths", lengths)
    if ((found < 0) | (found > 0xFFFFFFFF)).any():
        raise ValueError("lengths: found one below 0 or above 4294967295, expected lengths on the wire")
    return found.astype(np.uint32)


def nanoseconds(number: int, ts: Any) -> int:
    """The time of packet `number` as nanoseconds since 1970 UTC, whichever type it has.

    Raises:
        ValueError: It is no time, or there is no room for it in 64 bits.
    """
    wrong = f"packet {number}: found the time {ts!r}, expected"
    try:
        found = _whole_nanoseconds(ts)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{wrong} seconds since 1970, a datetime or a datetime64") from error
    if not -(1 << 63) < found < 1 << 63:
        raise ValueError(f"{wrong} one from 1677 to 2262")
    return found


def _whole_nanoseconds(ts: Any) -> int:
    from datetime import datetime  # few feed pairs
    from decimal import Context, Decimal

    if isinstance(ts, float):
        # A float has no room for more than microseconds of our time.
        return round(ts * 1e6) * 1000
    if isinstance(ts, datetime):
        return _of_datetime(ts)
    if isinstance(ts, np.datetime64):
        whole = ts.astype("M8[ns]")
        if np.isnat(ts):
            raise ValueError("no time")
        # NumPy wraps what has no room.
        return int(whole.astype(np.int64)) if whole.astype(ts.dtype) == ts else 1 << 64
    if isinstance(ts, SupportsIndex) and not isinstance(ts, (bool, np.bool_)):
        return operator.index(ts) * _SECOND
    if not isinstance(ts, Decimal):
        raise TypeError(type(ts).__name__)
    if ts.adjusted() > _ORDER:
        return 1 << 64
    return int(Context(prec=60).multiply(ts, Decimal(_SECOND)))


def _of_datetime(ts: datetime) -> int:
    from datetime import UTC, datetime, timedelta

    aware = ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts
    micros = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    # pandas' Timestamp is a datetime with more digits.
    return int(micros) * 1000 + int(getattr(ts, "nanosecond", 0))
