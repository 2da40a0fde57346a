"""`max_connections` and `memory_limit`: what a flood may take, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import conntrack_py as ct
from support.packets import download, evenly, flood


@pytest.mark.parametrize("bound", [{"max_connections": 50}, {"memory_limit": "256 KiB"}])
def test_a_flood_is_bounded(bound: dict[str, int | str], pcap: Callable[..., Path]) -> None:
    """The flood evicts itself; the connection that both ends have used stays to its end."""
    used = download("10.0.0.5", 40000, "192.0.2.80", 443)
    frames = [*used[:12], *flood(3000), *used[12:]]
    result = ct.track(pcap(evenly(frames)), config=ct.Config(**bound))  # type: ignore[arg-type]
    ends = list(result.connections["end_reason"])
    assert result.stats.evicted == ends.count("evicted") > 500
    assert len(result.connections) == result.stats.connections == 3001
    assert result.stats.peak_connections == 3001 - result.stats.evicted
    assert (result.connections["end_reason"][0], result.connections["orig_pkts"][0]) == ("closed", 25)


def test_a_table_of_assured_connections_is_full(pcap: Callable[..., Path]) -> None:
    """Packets that find no room are in no connection, and a warning says so."""
    frames = [*download("10.0.0.5", 40000, "192.0.2.80", 443)[:12], *flood(7)]
    with pytest.warns(ct.CaptureWarning, match="7 packets that found the table full of assured connections"):
        result = ct.track(pcap(evenly(frames)), config=ct.Config(max_connections=1), labels=True)
    assert result.stats.skipped["table_full"] == 7
    assert result.stats.evicted == 0
    assert result.labels is not None
    assert list(result.labels["connection"][-7:]) == [-1] * 7
    assert set(result.labels["ctstate"][-7:]) == {ct.CtState.INVALID}
