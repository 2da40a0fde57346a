"""Growth of a suggestion over the capture's time: does a longer capture show more?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conntrack_py.policy.traffic.keys import Bools
from conntrack_py.policy.traffic.pairs import Traffic

_PARTS = 10


@dataclass(frozen=True, kw_only=True)
class Growth:
    """New pairs of originator and service by tenth of the capture's time, of the connections that rules are made of.

    Attributes:
        new_pairs: Pairs of originator, responder and service that a tenth is the first to show.
        last: Connections of the last tenth.
        refused: Those of them that rules made of the first nine tenths alone would refuse.
    """

    new_pairs: tuple[int, ...]
    last: int
    refused: int

    @property
    def share(self) -> float:
        """The refused share of the last tenth, 0 to 1."""
        return self.refused / self.last if self.last else 0.0


def growth(traffic: Traffic, which: Bools) -> Growth | None:
    """The growth over the time of all connections; None where no rules are made.

    Args:
        traffic: The connections.
        which: Those that rules are made of.
    """
    rows = np.flatnonzero(which)
    if not len(rows):
        return None
    first, last = int(traffic.start.min()), int(traffic.start.max())
    tenths = np.minimum((traffic.start[rows] - first) // max(-((first - last) // _PARTS), 1), _PARTS - 1)
    _, places = np.unique(traffic.keys[rows], return_inverse=True)
    shown = np.full(places.max() + 1, _PARTS)
    np.minimum.at(shown, places, tenths)
    ends = tenths == _PARTS - 1
    return Growth(
        new_pairs=tuple(np.bincount(shown, minlength=_PARTS).tolist()),
        last=int(ends.sum()),
        refused=int((ends & (shown[places] == _PARTS - 1)).sum()),
    )
