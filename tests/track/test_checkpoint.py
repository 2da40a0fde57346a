"""A tracker that goes on from a checkpoint says what one that never stopped says."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import conntrack_py as ct
from make_trace import write_trace
from support import corpus
from support.packets import START, Packet, download, evenly, pcap_bytes, udp

#: Of version 1. If it changes, checkpoints have another form, and VERSION in checkpoint.rs goes up.
GOLDEN = "a4bfaab7d0b3b1b839a0cec30b74879dc3ef9f88"
#: Kills of a process while it saves.
KILLS = 1000

Frames = Sequence[tuple[int, bytes, int]]


def batch(frames: Frames, linktype: int = 1) -> ct.PacketBatch:
    times = np.array([at for at, _, _ in frames], dtype="i8")
    wire = np.array([length for _, _, length in frames], dtype="u4")
    return ct.PacketBatch.from_frames([frame for _, frame, _ in frames], times, linktype, lengths=wire)


def told(tracker: ct.Tracker, packets: ct.PacketBatch, drain: bool) -> tuple[bytes, list[tuple[Any, ...]]]:
    """The labels, and what has closed if that is asked for."""
    labels = tracker.process(packets).tobytes()
    return labels, told_of(tracker.drain()) if drain else []


def told_of(table: ct.ConnectionTable) -> list[tuple[Any, ...]]:
    out = io.BytesIO()
    table.write(out, format="jsonl")
    return [tuple(out.getvalue().splitlines())]


def run(frames: Frames, linktype: int, config: ct.Config, cuts: Sequence[int], path: Path | None) -> list[Any]:
    """Labels and rows of a tracker fed in pieces; with a path, the tracker is saved and loaded at every cut."""
    tracker = ct.Tracker(config)
    said: list[Any] = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(frames)], strict=True)):
        # What ended is sometimes still in the tracker when it is saved.
        said.append(told(tracker, batch(frames[begin:end], linktype), drain=number % 2 == 1))
        if path is not None:
            tracker.save(path)
            tracker = ct.Tracker.load(path)
    return [*said, told_of(tracker.snapshot()), told_of(tracker.finish())]


CONFIGS = [
    ct.Config(),
    ct.Config(profile="zeek"),
    ct.Config(tunnels="both", local=["10.0.0.0/8"], zones={"servers": ["10.0.0.0/24"]}),
    ct.Config(max_connections=7, timeouts={"nf_conntrack_udp_timeout": 0.5}, liberal=True),
]


@pytest.mark.filterwarnings("ignore:.*results depend on the bounds:conntrack_py.CaptureWarning")
@pytest.mark.parametrize("capture", corpus.captures(), ids=lambda capture: capture.name)
def test_resumed_anywhere(capture: corpus.Capture, tmp_path: Path) -> None:
    """Whatever the cut: inside a handshake, between fragments."""
    records = capture.records[:4000]
    if len({record.linktype for record in records}) != 1:
        pytest.skip("frames have one link type")
    frames = [(record.ts, record.data, record.wire) for record in records]
    choose = random.Random(capture.name)
    for config in CONFIGS:
        cuts = sorted(choose.choices(range(len(frames) + 1), k=5))
        arguments = (frames, records[0].linktype, config, cuts)
        assert run(*arguments, tmp_path / "state") == run(*arguments, None), cuts
    assert os.listdir(tmp_path) == ["state"]


def test_rotated_files_are_one_capture(tmp_path: Path) -> None:
    """Each file by a process of its own, as it were, in batches of its own."""
    path = tmp_path / "all.pcap"
    write_trace(path, 60_000, 4_000)
    data = path.read_bytes()
    places, at = [24], 24
    while at < len(data):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
        places.append(at)
    cuts = [24, *sorted(random.Random(7).sample(places[1:-1], 5)), len(data)]
    state, rows, labels = tmp_path / "state", [], []
    for begin, end in itertools.pairwise(cuts):
        tracker = ct.Tracker.load(state) if state.exists() else ct.Tracker()
        with ct.open_capture(io.BytesIO(data[:24] + data[begin:end])) as capture:
            labels += [tracker.process(packets) for packets in capture]
        rows += list(tracker.drain())
        tracker.save(state)
    rows += list(ct.Tracker.load(state).finish())
    whole = ct.track(path, labels=True)
    assert whole.labels is not None
    again = np.concatenate(labels)
    assert all(np.array_equal(again[name], whole.labels[name]) for name in ("connection", "ctstate", "ctdir", "state"))
    key = ("start", "end", "orig_addr", "resp_addr", "orig_port", "conn_state", "history", "orig_pkts", "end_reason")
    assert sorted([getattr(row, name) for name in key] for row in rows) == sorted(
        [getattr(row, name) for name in key] for row in whole.connections
    )


def story() -> list[Packet]:
    frames = [*download("10.0.0.5", 51514, "203.0.113.80", 443)[:9], udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?")]
    return evenly([*frames, *download("198.51.100.7", 40000, "10.0.0.80", 80)])


def tracker_of(packets: list[Packet], config: ct.Config | None = None) -> ct.Tracker:
    tracker = ct.Tracker(config)
    with ct.open_capture(io.BytesIO(pcap_bytes(packets))) as capture:
        for some in capture:
            tracker.process(some)
    return tracker


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    config = ct.Config(local=["192.0.2.0/24"], timeouts={"nf_conntrack_udp_timeout": 7.5}, profile="suricata")
    tracker = tracker_of(story(), config)
    tracker.save(tmp_path / "state")
    again = ct.Tracker.load(tmp_path / "state")
    assert again.config.local == config.local
    assert again.config.profile == "suricata"
    assert again.config.effective_timeouts == config.effective_timeouts
    found = again.lookup("10.0.0.5", 51514, "203.0.113.80", 443, "tcp")
    assert found == tracker.lookup("10.0.0.5", 51514, "203.0.113.80", 443, "tcp")
    assert found is not None


def opened(checkpoint: bytes) -> bytes:
    """The parts of a checkpoint."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(checkpoint[12:-20])


def closed(parts: bytes, head: bytes) -> bytes:
    """A checkpoint of these parts, whose sum is right."""
    body = head + zstandard.compress(parts)
    return body + hashlib.sha1(body).digest()


def test_the_form_has_a_version(tmp_path: Path) -> None:
    tracker_of(story(), ct.Config(local=["10.0.0.0/8"])).save(tmp_path / "state")
    parts = opened((tmp_path / "state").read_bytes())
    begin = 4 + struct.unpack("<I", parts[:4])[0]
    # Behind the configuration, whose words may change.
    assert hashlib.sha1(parts[begin:]).hexdigest() == GOLDEN


def test_what_cannot_be_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(FileNotFoundError, match="state"):
        ct.Tracker.load(path)
    for content, message in [
        (b"", "state: found an empty file, expected a checkpoint"),
        (pcap_bytes(story()), "state: found the bytes d4 c3 b2 a1 02 00 04 00, expected a checkpoint"),
        (b"ctracker\x06\x00\x00\x00", "it is cut"),
        (b"ctracker\xe7\x03\x00\x00" + b"." * 50, "found a checkpoint of version 999, expected version 6"),
        (closed(b"", b"ctracker\x06\x00\x00\x00"), "a part is not there"),
        (closed(b"\xff\xff\xff\xff", b"ctracker\x06\x00\x00\x00"), "a part is too long"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ct.CheckpointError, match=message):
            ct.Tracker.load(path)
    tracker = tracker_of(story())
    tracker.save(path)
    whole = path.read_bytes()
    for cut in (11, 12, 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ct.CheckpointError, match="damaged"):
            ct.Tracker.load(path)
    with pytest.raises(FileNotFoundError):
        tracker.save(tmp_path / "no" / "such" / "folder")
    with pytest.raises(OSError, match="directory"):
        tracker.save(tmp_path)
    assert [entry for entry in os.listdir(tmp_path.parent) if entry.endswith(".part")] == []


def test_forged_checkpoints(tmp_path: Path) -> None:
    """A forged checksum gives an error or a wrong tracker, and no panic."""
    packets = story()
    fragments = [udp("10.0.0.9", 9, "10.0.0.8", 8, b"." * 64) for _ in range(3)]
    for number, frame in enumerate(fragments):
        changed = bytearray(frame)
        changed[18:22] = struct.pack(">HH", number, 0x2000)
        packets.append((0.5, bytes(changed)))
    limited = ct.Config(max_connections=100)
    path = tmp_path / "state"
    tracker_of(packets, limited).save(path)
    whole = path.read_bytes()
    parts = opened(whole)
    frames = [(int((START + at) * 1e9) + 10**9, frame, len(frame)) for at, frame in packets]
    choose, refused = random.Random(3), 0
    for _ in range(1500):
        forged = bytearray(parts)
        for _ in range(choose.choice((1, 1, 2, 8))):
            forged[choose.randrange(len(forged))] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
        path.write_bytes(closed(bytes(forged), whole[:12]))
        try:
            tracker = ct.Tracker.load(path)
        except (ct.CheckpointError, ct.ConfigError):
            refused += 1
            continue
        tracker.process(batch(frames))
        tracker.snapshot()
        list(tracker.finish())
    assert 100 < refused < 1500


def test_killed_while_it_saves(tmp_path: Path) -> None:
    """The path has one of the two states that are written in turn, whenever the process is killed."""
    states = [tracker_of(evenly(udp("10.0.0.5", 1000 + i, "10.0.0.6", 53) for i in range(n))) for n in (300, 900)]
    path = tmp_path / "state"
    begun = time.monotonic()
    for state in reversed(states):
        state.save(path)
    both = time.monotonic() - begun
    choose = random.Random(11)
    seen = set()
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            while True:
                for state in states:
                    state.save(path)
        time.sleep(choose.uniform(0, min(2 * both, 0.02)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(len(ct.Tracker.load(path).snapshot()))
    # A slow disk may never get to the second one in that time.
    assert seen == {300, 900} if both < 0.01 else seen <= {300, 900}
    assert set(os.listdir(tmp_path)) <= {"state", "state.part"}


def test_who_saves_at_the_same_time_waits(tmp_path: Path) -> None:
    """One path, two trackers, and a reader that always finds a whole checkpoint."""
    states = [tracker_of(evenly(udp("10.0.0.5", 1000 + i, "10.0.0.6", 53) for i in range(n))) for n in (300, 900)]
    path = tmp_path / "state"
    states[0].save(path)
    over = threading.Event()

    def save(state: ct.Tracker) -> None:
        while not over.is_set():
            state.save(path)

    threads = [threading.Thread(target=save, args=[state]) for state in states]
    for thread in threads:
        thread.start()
    try:
        seen = {len(ct.Tracker.load(path).snapshot()) for _ in range(200)}
    finally:
        over.set()
    for thread in threads:
        thread.join()
    assert seen == {300, 900}
    assert os.listdir(tmp_path) == ["state"]


def test_devices_stay(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe: found a device or a pipe, expected a file"):
        ct.Tracker().save(tmp_path / "pipe")
    assert os.listdir(tmp_path) == ["pipe"]


def test_names_of_a_log_go_on(tmp_path: Path) -> None:
    """The `uid` of a connection, of which others speak, does not depend on who writes it."""
    frames = [(int((START + at) * 1e9), frame, len(frame)) for at, frame in story()]
    whole, first = ct.Tracker(), ct.Tracker()
    whole.process(batch(frames))
    first.process(batch(frames[: len(frames) // 2]))
    first.snapshot().write(tmp_path / "begun.log")
    first.save(tmp_path / "state")
    second = ct.Tracker.load(tmp_path / "state")
    second.process(batch(frames[len(frames) // 2 :]))
    whole.snapshot().write(tmp_path / "whole.log")
    second.snapshot().write(tmp_path / "resumed.log")

    def uids(name: str) -> list[str]:
        return [line.split("\t")[1] for line in (tmp_path / name).read_text().splitlines() if line[0] != "#"]

    assert uids("resumed.log") == uids("whole.log")
    assert uids("begun.log") == uids("whole.log")[: len(uids("begun.log"))]


def test_saved_while_it_is_fed(tmp_path: Path) -> None:
    """A checkpoint has whole batches."""
    tracker, over = ct.Tracker(), threading.Event()

    def feed() -> None:
        for number in range(300):
            hosts = [udp(f"10.{number // 250}.{number % 250}.{host}", 9, "10.9.9.9", 53) for host in range(40)]
            tracker.process(batch([(int(START * 1e9) + number, frame, len(frame)) for frame in hosts]))
        over.set()

    thread = threading.Thread(target=feed)
    thread.start()
    sizes = []
    while not over.is_set():
        tracker.save(tmp_path / "state")
        sizes.append(len(ct.Tracker.load(tmp_path / "state").snapshot()))
    thread.join()
    assert sizes == sorted(sizes)
    assert all(size % 40 == 0 for size in sizes)
    tracker.save(tmp_path / "state")
    assert len(ct.Tracker.load(tmp_path / "state").snapshot()) == 300 * 40
