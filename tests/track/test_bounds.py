"""`max_connections` and `memory_limit`: what a flood may take, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import conntrack_py as ct
from support.packets import download, evenly, flood


@pytest.mark.parametrize("bound", [{"max_connections": 50}, {"memory_limit": "256K"}])
def test_a_flood_is_bounded(bound: dict[str, int | str], pcap: Callable[..., Path]) -> None:
    """The flood evicts itself; the connection that both ends have used stays to its end."""
    used = download("10.0.0.5", 40000, "192.0.2.80", 443)
    frames = [*used[:12], *flood(3000), *used[12:]]
    with pytest.warns(ct.CaptureWarning, match=f"evicted from a full table .* by {next(iter(bound))}"):
        result = ct.track(pcap(evenly(frames)), config=ct.Config(**bound))  # type: ignore[arg-type]
    ends = list(result.connections["end_reason"])
    assert result.stats.evicted == ends.count("evicted") > 500
    assert len(result.connections) == result.stats.connections == 3001
    assert result.stats.peak_connections == 3001 - result.stats.evicted
    assert (result.connections["end_reason"][0], result.connections["orig_pkts"][0]) == ("closed", 25)


def test_a_table_of_assured_connections_is_full(pcap: Callable[..., Path]) -> None:
    """Packets that find no room are in no connection, and a warning says so."""
    frames = [*download("10.0.0.5", 40000, "192.0.2.80", 443)[:12], *flood(7)]
    with pytest.warns(ct.CaptureWarning, match="7 packets that began no connection in a full table"):
        result = ct.track(pcap(evenly(frames)), config=ct.Config(max_connections=1), labels=True)
    assert result.stats.skipped["table_full"] == 7
    assert result.stats.evicted == 0
    assert result.labels is not None
    assert list(result.labels["connection"][-7:]) == [-1] * 7
    assert set(result.labels["ctstate"][-7:]) == {ct.CtState.INVALID}


def test_bounds_that_are_not_hit_change_nothing(pcap: Callable[..., Path]) -> None:
    """With any number of threads; a bound that is hit has the results of one thread."""
    frames = [*download("10.0.0.5", 40000, "192.0.2.80", 443), *flood(3000)]
    path = pcap(evenly(frames))
    free = ct.track(path, labels=True)
    for threads in (1, 2, 5):
        wide = ct.track(path, config=ct.Config(max_connections=3001, memory_limit="1G", threads=threads), labels=True)
        assert list(wide.connections) == list(free.connections)
        assert (wide.labels == free.labels).all()
        assert wide.stats == free.stats
        with pytest.warns(ct.CaptureWarning, match="evicted"):
            bound = ct.track(path, config=ct.Config(max_connections=1000, threads=threads), labels=True)
        assert (bound.stats.evicted, bound.stats.evicted_by) == (2001, {"max_connections": 2001})
        if threads == 1:
            one = bound
        assert list(bound.connections) == list(one.connections)
        assert (bound.labels == one.labels).all()


def test_a_tracker_warns_once_and_tells_its_fill(pcap: Callable[..., Path]) -> None:
    """The first batch that hits the bound warns; `fill` has the counts."""
    path = pcap(evenly(flood(3000)))
    tracker = ct.Tracker(ct.Config(max_connections=100))
    assert tracker.fill[:2] == (0, 100)
    with ct.open_capture(path) as capture:
        batches = list(capture)
    with pytest.warns(ct.CaptureWarning, match="max_connections is hit: 100 of 100 connections"):
        tracker.process(batches[0])
    # Further warnings would be errors.
    for batch in batches:
        tracker.process(batch)
    fill = tracker.fill
    assert (fill.connections, fill.max_connections, fill.memory_limit, fill.refused) == (100, 100, None, 0)
    assert fill.bytes > 100 * 128
    assert fill.evicted_by == tracker.stats().evicted_by
    assert sum(fill.evicted_by.values()) == tracker.stats().evicted > 2900
    free = ct.Tracker()
    for batch in batches:
        free.process(batch)
    assert (free.fill.connections, free.fill.is_bounded) == (3000, False)
