"""Labels: the structured array with one row for each packet."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from conntrack_py import _native

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def labels_of(memory: _native.Buffer) -> NDArray[np.void]:
    """The labels that the Rust core laid out: see `TrackResult.labels`."""
    import numpy as np

    return np.frombuffer(memoryview(memory), dtype=_label())


@cache
def _label() -> np.dtype[np.void]:
    import numpy as np

    names, formats, offsets = zip(*_native.LABELS, strict=True)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": _native.LABEL_BYTES})
