"""A tracker that is fed batch by batch says what `track` says, and can be read meanwhile."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from make_trace import write_trace
from support.packets import Packet, download, evenly, pcap_bytes, udp

#: Columns that do not depend on hindsight.
COLUMNS = (
    "start",
    "end",
    "proto",
    "orig_addr",
    "orig_port",
    "resp_addr",
    "resp_port",
    "direction",
    "state",
    "conn_state",
)
COUNTS = (
    "history",
    "orig_pkts",
    "orig_ip_bytes",
    "orig_bytes",
    "resp_pkts",
    "resp_ip_bytes",
    "resp_bytes",
    "end_reason",
)


def rows(*tables: ct.ConnectionTable) -> list[tuple[object, ...]]:
    """Rows of all tables in the order of their first packets."""
    found = [row for table in tables for row in zip(*(table[name] for name in (*COLUMNS, *COUNTS)), strict=True)]
    return sorted(found, key=repr)


def test_batches_say_what_a_run_says(tmp_path: Path) -> None:
    big = tmp_path / "big.pcap"
    write_trace(big, 30_000, 1_000)
    whole = ct.track(big, labels=True)
    tracker = ct.Tracker()
    labels, closed, packets = [], [], 0
    with ct.open_capture(big) as capture:
        for batch in capture:
            labels.append(tracker.process(batch))
            closed.append(tracker.drain())
            assert len(labels[-1]) == len(batch) == len(batch.timestamps)
            packets += len(batch)
    closed.append(tracker.finish())
    assert packets == whole.stats.packets
    assert whole.labels is not None
    streamed = np.concatenate(labels)
    for field in ("connection", "ctstate", "ctdir", "state"):
        assert np.array_equal(streamed[field], whole.labels[field]), field
    assert rows(*closed) == rows(whole.connections)
    assert len(tracker.snapshot()) == 0


def test_the_promise_of_the_contract(pcap: Callable[..., Path]) -> None:
    frames = download("10.0.0.5", 51514, "93.184.216.34", 443)[:6]
    path = pcap(evenly(frames))
    tracker = ct.Tracker()
    with ct.open_capture(path) as capture:
        for batch in capture:
            tracker.process(batch)
    found = tracker.lookup("10.0.0.5", 51514, "93.184.216.34", 443, "tcp")
    assert found is not None
    assert (found.orig_addr, found.direction, found.state) == ("10.0.0.5", "egress", "ESTABLISHED")
    assert tracker.lookup("93.184.216.34", 443, "10.0.0.5", 51514, "tcp") == found
    assert list(tracker.snapshot()) == [found]
    assert tracker.lookup("10.0.0.5", 51514, "93.184.216.34", 443, "udp") is None
    assert tracker.lookup("10.0.0.5", 51514, "93.184.216.34", 443, "tcp", vlan=7) is None
    assert list(tracker.finish()) == [found]
    assert tracker.lookup("10.0.0.5", 51514, "93.184.216.34", 443, "tcp") is None


def test_what_timed_out_is_not_found(pcap: Callable[..., Path]) -> None:
    old = (0.0, udp("10.0.0.5", 4000, "10.0.0.6", 5000))
    later = [(100.0 + second, udp("10.0.0.7", 4000, "10.0.0.6", 5000)) for second in range(2)]
    tracker = ct.Tracker()
    with ct.open_capture(pcap([old, *later])) as capture:
        for batch in capture:
            tracker.process(batch)
    assert tracker.lookup("10.0.0.5", 4000, "10.0.0.6", 5000, "udp") is None
    assert [row.orig_addr for row in tracker.snapshot()] == ["10.0.0.7"]


def test_many_threads_feed_and_read() -> None:
    """Each feeder has a capture of its own; readers look while they feed."""
    feeders, packets = 4, 2_000
    tracker = ct.Tracker()
    fed, problems = threading.Event(), []

    def capture(number: int) -> list[Packet]:
        return evenly(udp(f"10.0.{number}.{i % 50}", 4000, "10.9.9.9", 53, b"x" * (i % 7)) for i in range(packets))

    def feed(number: int) -> None:
        with ct.open_capture(io.BytesIO(pcap_bytes(capture(number)))) as packets:
            for batch in packets:
                tracker.process(batch)

    def read() -> None:
        most = 0
        while not fed.is_set():
            seen = tracker.snapshot()
            if len(set(seen["community_id"])) != len(seen):
                problems.append("a connection is there twice")
            one = tracker.lookup("10.0.0.1", 4000, "10.9.9.9", 53, "udp")
            if one is not None and one.orig_pkts < most:
                problems.append("packets were lost")
            most = max(most, one.orig_pkts if one else 0)

    threads = [threading.Thread(target=feed, args=(number,)) for number in range(feeders)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads + readers:
        thread.start()
    for thread in threads:
        thread.join()
    fed.set()
    for thread in readers:
        thread.join()
    assert not problems
    done = tracker.finish()
    assert len(done) == 50 * feeders
    assert done["orig_pkts"].sum() == packets * feeders


def test_what_is_refused(pcap: Callable[..., Path], mixed: list[Packet]) -> None:
    tracker = ct.Tracker()
    for arguments, message in [
        (("10.0.0.x", 1, "10.0.0.2", 2, "tcp"), 'src: found "10.0.0.x"'),
        (("10.0.0.1", 1, "::1", 2, "tcp"), "two of a kind"),
        (("10.0.0.1", 70000, "10.0.0.2", 2, "tcp"), "sport: found 70000"),
        (("10.0.0.1", 1, "10.0.0.2", 2, "tpc"), "proto: found"),
        (("10.0.0.1", 1, "10.0.0.2", 2, "icmp"), "no ports"),
    ]:
        with pytest.raises(ValueError, match=message):
            tracker.lookup(*arguments)
    with pytest.raises(ValueError, match="vlan: found 5000"):
        tracker.lookup("10.0.0.1", 1, "10.0.0.2", 2, "tcp", vlan=5000)
    with pytest.raises(TypeError, match="config"):
        ct.Tracker({"local": []})  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        ct.open_capture("there-is-none.pcap")
    capture = ct.open_capture(pcap(mixed))
    assert sum(len(batch) for batch in capture) == len(mixed)
    capture.close()
    assert list(capture) == [], "a closed capture has no more"
