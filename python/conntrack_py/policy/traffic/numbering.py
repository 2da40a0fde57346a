"""Numbers for addresses, so that NumPy can count by them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Numbering:
    """Numbers for addresses, in the order in which they turn up."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def numbers(self, addresses: Iterable[str], count: int) -> NDArray[np.int64]:
        """The number of each of so many addresses."""
        known = self.known
        return np.fromiter((known.setdefault(addr, len(known)) for addr in addresses), np.int64, count)
