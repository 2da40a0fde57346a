"""A short form of `make soak`: floods through a bounded pipe."""

from __future__ import annotations

import pytest

import floods


@pytest.mark.parametrize("kind", floods.KINDS)
def test_memory_is_flat_once_the_bound_is_hit(kind: str) -> None:
    """An eighth of the sources fill the table."""
    points = list(floods.run(kind, 400_000, ["--memory-limit", "8M"]))
    each = {"half-open": 1, "assured": 3, "mixed": 2}[kind]
    grown = floods.growth(points, each * 150_000)
    assert grown <= floods.FLAT, [point.resident >> 10 for point in points]
