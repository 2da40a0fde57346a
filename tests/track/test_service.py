"""Trackers in services: pickled, printed, forked, resumed, and fed times at the ends of 64 bits."""

from __future__ import annotations

import copy
import io
import os
import pickle
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from support.packets import pcap_bytes, tcp, udp

START = 1_700_000_000_000_000_000
LEAST, MOST = -(2**63), 2**63 - 1


def batch(frames: list[bytes], times: list[int]) -> ct.PacketBatch:
    return ct.PacketBatch.from_frames(frames, times, 1)


def fed(count: int = 5) -> ct.Tracker:
    tracker = ct.Tracker()
    frames = [udp("10.0.0.1", 1000 + n, "192.0.2.1", 53, b"?") for n in range(count)]
    tracker.process(batch(frames, [START + n for n in range(count)]))
    return tracker


# ---- pickle, copy, repr ----


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fed, "use save"),
        (lambda: ct.open_capture(io.BytesIO(pcap_bytes([]))), "open_capture"),
        (lambda: ct.ConnectionWriter(io.BytesIO(), "csv"), "make one"),
        (lambda: batch([udp("10.0.0.1", 1, "10.0.0.2", 2)], [1]), "from_arrow"),
    ],
)
def test_a_refusal_says_how_it_is_handed_on(make: Callable[[], Any], words: str) -> None:
    one = make()
    with pytest.raises(TypeError, match=words):
        pickle.dumps(one)
    if isinstance(one, ct.PacketBatch):
        assert copy.copy(one) is one
        assert copy.deepcopy(one) is one
    else:
        for copied in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=words):
                copied(one)


def test_a_configuration_and_counts_are_pickled() -> None:
    config = ct.Config(zones={"office": ["10.0.0.0/24"]}, timeouts={"nf_conntrack_udp_timeout": 7.5})
    stats = fed().stats()
    for one in (config, stats):
        assert pickle.loads(pickle.dumps(one)) == one
        assert copy.deepcopy(one) == one


def test_a_repr_says_what_is_in_it() -> None:
    tracker = fed()
    assert repr(tracker) == "<Tracker: 5 packets, 5 connections begun, 5 live, 0 to drain>"
    later = [udp("10.0.0.9", 9, "192.0.2.1", 53, b"?")] * 3
    tracker.process(batch(later, [START + n * 10**11 for n in (1, 2, 3)]))
    assert repr(tracker).endswith(" to drain>")
    assert " 0 to drain" not in repr(tracker)
    writer = ct.ConnectionWriter(io.BytesIO(), "csv")
    assert repr(writer) == "<ConnectionWriter: open>"
    writer.close()
    assert repr(writer) == "<ConnectionWriter: closed>"


# ---- fork ----


def in_child(work: Callable[[], str]) -> str:
    """The answer of a forked child; fails where it takes ten seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        answer = ""
        try:
            answer = work()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, answer.encode()[:4000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read().decode()
    assert os.waitpid(child, 0)[1] == 0, "it hangs"
    return answer


def calls(tracker: ct.Tracker, path: Path) -> list[Callable[[], Any]]:
    more = batch([udp("10.0.0.1", 1, "192.0.2.1", 53, b"?")], [START])
    return [
        tracker.stats,
        tracker.drain,
        tracker.snapshot,
        lambda: tracker.process(more),
        lambda: tracker.lookup("10.0.0.1", 1, "192.0.2.1", 53, "udp"),
        lambda: tracker.save(path),
        tracker.finish,
    ]


def test_a_child_has_a_copy(tmp_path: Path) -> None:
    tracker = fed()

    def work() -> str:
        for call in calls(tracker, tmp_path / "state"):
            call()
        return repr(tracker)

    assert in_child(work) == "<Tracker: 6 packets, 6 connections begun, 0 live, 0 to drain>"
    assert repr(tracker) == "<Tracker: 5 packets, 5 connections begun, 5 live, 0 to drain>"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_amid_a_call_is_an_error(tmp_path: Path) -> None:
    """The call of the other thread never ends in the child."""
    tracker, over = ct.Tracker(), threading.Event()
    frames = [udp(f"10.0.{n >> 8}.{n & 255}", 1, "192.0.2.1", 53, b"?") for n in range(20_000)]
    many = batch(frames, [START] * len(frames))

    def feed() -> None:
        while not over.is_set():
            tracker.process(many)

    thread = threading.Thread(target=feed)
    thread.start()
    answers = []

    def work() -> str:
        found = []
        for call in calls(tracker, tmp_path / "state"):
            try:
                call()
            except RuntimeError as error:
                found.append("refused" if "make a tracker after the fork" in str(error) else str(error))
            else:
                found.append("done")
        repr(tracker)
        return " ".join(found)

    try:
        for _ in range(20):
            time.sleep(0.002)
            answers.append(in_child(work))
    finally:
        over.set()
        thread.join()
    assert set(answers) <= {" ".join(["done"] * 7), " ".join(["refused"] * 7)}
    assert " ".join(["refused"] * 7) in answers


def test_a_child_leaves_the_output_of_its_parent_alone(tmp_path: Path) -> None:
    table = fed(50).finish()
    writer = ct.ConnectionWriter(tmp_path / "out.csv")
    writer.write(table)
    holders = [writer]

    def work() -> str:
        holders.clear()
        return ""

    del writer
    assert in_child(work) == ""
    holders[0].close()
    whole = io.BytesIO()
    table.write(whole, "csv")
    assert (tmp_path / "out.csv").read_bytes() == whole.getvalue()


# ---- resumed ----


@pytest.mark.filterwarnings(
    "ignore:.* is hit:conntrack_py.CaptureWarning", "ignore:.* evicted from:conntrack_py.CaptureWarning"
)
def test_counts_begin_with_zeros(tmp_path: Path) -> None:
    tracker = ct.Tracker(ct.Config(max_connections=100))
    frames = [udp(f"10.0.{n >> 8}.{n & 255}", 1, "192.0.2.1", 53, b"?") for n in range(300)]
    fragment = bytearray(udp("10.0.0.9", 9, "10.0.0.8", 8, b"." * 64))
    fragment[18:22] = b"\0\1\0\5"
    tracker.process(batch([*frames, bytes(fragment), b"junk" * 20], [START + n for n in range(302)]))
    before = tracker.stats()
    assert before.evicted
    assert before.skipped
    tracker.save(tmp_path / "state")
    loaded = ct.Tracker.load(tmp_path / "state")
    assert loaded.stats() == ct.Tracker().stats()
    assert len(loaded.snapshot()) == len(tracker.snapshot())
    loaded.process(batch(frames[:1], [START + 400]))
    assert (loaded.stats().packets, loaded.stats().connections) == (1, 1)


def test_a_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "day.state"
    before = os.umask(0)
    try:
        fed().save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)
    fed().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["day.state"]


@pytest.mark.parametrize("kind", ["link", "dangling", "file", "hard link", "folder", "pipe"])
def test_a_planted_part_is_left_alone(tmp_path: Path, kind: str) -> None:
    victim, part = tmp_path / "victim", tmp_path / "day.state.part"
    victim.write_bytes(b"ctracker, and mine")
    match kind:
        case "link":
            part.symlink_to(victim)
        case "dangling":
            part.symlink_to("nowhere")
        case "file":
            part.write_bytes(b"notes")
        case "hard link":
            part.hardlink_to(victim)
        case "folder":
            part.mkdir()
        case _:
            os.mkfifo(part)
    fed().save(tmp_path / "day.state")
    assert len(ct.Tracker.load(tmp_path / "day.state").snapshot()) == 5
    assert victim.read_bytes() == b"ctracker, and mine"
    assert os.path.lexists(part)
    if kind == "file":
        assert part.read_bytes() == b"notes"
    assert set(os.listdir(tmp_path)) == {"victim", "day.state", "day.state.part"}


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    for left in (b"", b"ctra", b"ctracker\x04\0\0\0 and more"):
        (tmp_path / "day.state.part").write_bytes(left)
        fed().save(tmp_path / "day.state")
        assert os.listdir(tmp_path) == ["day.state"]


# ---- times at the ends ----


ENDS = st.sampled_from([LEAST, LEAST + 1, LEAST + 10**9, -1, 0, 1, MOST - 10**9, MOST - 1, MOST])
TIMES = st.one_of(ENDS, st.integers(LEAST, MOST))
FRAMES = [
    tcp("10.0.0.1", 1000, "192.0.2.1", 80, 0x02, 100),
    tcp("192.0.2.1", 80, "10.0.0.1", 1000, 0x12, 200, 101),
    tcp("10.0.0.1", 1000, "192.0.2.1", 80, 0x10, 101, 201),
    tcp("10.0.0.1", 1000, "192.0.2.1", 80, 0x11, 101, 201),
    udp("10.0.0.1", 1000, "192.0.2.1", 53, b"?"),
    udp("192.0.2.1", 53, "10.0.0.1", 1000, b"!"),
]


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.tuples(st.sampled_from(FRAMES), TIMES), min_size=1, max_size=12), st.integers(0, 12))
def test_any_time_goes_in_and_comes_out(packets: list[tuple[bytes, int]], cut: int) -> None:
    frames, times = [frame for frame, _ in packets], [ts for _, ts in packets]
    whole, parted = ct.Tracker(), ct.Tracker()
    one = batch(frames, times)
    assert one.timestamps.view("i8").tolist() == times
    # Through columns and back: the same labels.
    again = ct.PacketBatch.from_arrow(one)
    assert again.timestamps.view("i8").tolist() == times
    labels = whole.process(one)
    assert (ct.Tracker().process(again) == labels).all()
    for some in (slice(0, cut), slice(cut, None)):
        if frames[some]:
            parted.process(batch(frames[some], times[some]))
    repr(whole), whole.snapshot()
    stats, rows = whole.stats(), whole.finish()
    # The least one is NumPy's NaT: no time.
    timed = [ts for ts in times if ts > LEAST]
    assert (stats.first_timestamp, stats.last_timestamp) == ((min(timed), max(timed)) if timed else (None, None))
    assert set(rows["start"].view("i8").tolist()) <= set(times)
    assert set(rows["end"].view("i8").tolist()) <= set(times)
    assert list(rows) == list(parted.finish())
    for format in ("csv", "jsonl", "arrow", "parquet", "zeek", "conntrack", "ipfix", "ecs"):
        rows.write(io.BytesIO(), format)
    repr(rows)


@pytest.mark.parametrize("ts", [LEAST + 1, -1, 0, MOST - 1, MOST])
def test_columns_have_times_at_the_ends(ts: int) -> None:
    columns = {"src": ["10.0.0.1"], "dst": ["192.0.2.1"], "sport": [1], "dport": [53], "proto": [17], "length": [40]}
    one = ct.PacketBatch.from_arrays(timestamp=np.array([ts], dtype=np.int64), **columns)
    tracker = ct.Tracker()
    tracker.process(one)
    row = tracker.finish()[0]
    assert (row.start, row.end, tracker.stats().first_timestamp) == (ts, ts, ts)


def test_a_connection_at_the_end_of_time_times_out_saved(tmp_path: Path) -> None:
    for ts in (LEAST, MOST):
        tracker = ct.Tracker()
        tracker.process(batch(FRAMES, [ts] * len(FRAMES)))
        tracker.save(tmp_path / "state")
        loaded = ct.Tracker.load(tmp_path / "state")
        assert list(loaded.finish()) == list(tracker.finish())


assert sys.maxsize == MOST
