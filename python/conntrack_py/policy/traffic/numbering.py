"""Numbers for addresses, so that NumPy can count by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Numbering:
    """Numbers for addresses, in the order in which they turn up."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def numbers(self, addresses: NDArray[np.object_]) -> NDArray[np.int64]:
        """The number of each address."""
        known = self.known
        return np.fromiter((known.setdefault(addr, len(known)) for addr in addresses), np.int64, len(addresses))
