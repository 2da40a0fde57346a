"""Rotation faster than the looks, positions that are saved and given back, and waits with and without inotify."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import shutil
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.io.follow.files import is_turned
from conntrack_py.io.follow.watch import LOOK_EVERY, Watch
from support.packets import Packet, pcap_bytes, udp


def numbered(begin: int, count: int) -> list[Packet]:
    """Packets that tell their number by their time."""
    return [
        (float(number), udp("10.0.0.1", 1024 + number % 60_000, "10.0.0.2", 53))
        for number in range(begin, begin + count)
    ]


def numbers(batch: ct.PacketBatch, begin: int = 1_767_225_600) -> list[int]:
    return [int(at) // 10**9 - begin for at in batch.timestamps.astype("i8")]


def read(following: ct.Follow, count: int, within: float = 10.0) -> list[int]:
    """The numbers of so many packets; fewer where no more come."""
    found: list[int] = []
    until = time.monotonic() + within
    while len(found) < count and time.monotonic() < until:
        found += numbers(next(following)[1])
    return found


def rename(path: Path) -> None:
    """As logrotate and `tcpdump` with `mv` do."""
    for number in range(9, 0, -1):
        if (old := path.with_name(f"{path.name}.{number}")).exists():
            old.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def copy_and_truncate(path: Path) -> None:
    """As logrotate's copytruncate does."""
    for number in range(9, 0, -1):
        if (old := path.with_name(f"{path.name}.{number}")).exists():
            old.rename(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("turn", [rename, copy_and_truncate])
def test_no_file_is_lost_between_two_looks(tmp_path: Path, turn: object, turns: int) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap_bytes(numbered(0, 350)))
    # Another capture of the directory, and an old one of this name, have nothing to do with it.
    (tmp_path / "two.pcap").write_bytes(pcap_bytes(numbered(5000, 10)))
    (tmp_path / "one.pcap.1").write_bytes(pcap_bytes(numbered(-10, 10)))
    with ct.follow(path, idle=True) as following:
        assert read(following, 350) == list(range(350))
        with path.open("ab") as file:
            file.write(pcap_bytes(numbered(350, 10))[24:])
        for number in range(turns):
            turn(path)  # type: ignore[operator]
            path.write_bytes(pcap_bytes(numbered(1000 * (number + 1), 350)))
        wanted = [*range(350, 360), *(1000 * (n + 1) + one for n in range(turns) for one in range(350))]
        assert read(following, len(wanted)) == wanted
        assert read(following, 1, within=1.0) == []


def test_names_of_rotation() -> None:
    for name in ("a.pcap.1", "a.pcap.2.gz", "a.pcap-20260101", "a-20260101T1200.pcap", "a.1.pcap.zst", "a.pcap.old"):
        assert is_turned(name, "a.pcap"), name
    for name in ("b.pcap", "a2.pcap", "a-eth1.pcap", "ab.pcap.1", "x-a.pcap"):
        assert not is_turned(name, "a.pcap"), name


def test_a_compressed_file_of_a_rotation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap_bytes(numbered(0, 5)))
    with ct.follow(path, idle=True) as following:
        assert len(read(following, 5)) == 5
        path.rename(tmp_path / "one.pcap.2")
        (tmp_path / "one.pcap.1.gz").write_bytes(gzip.compress(pcap_bytes(numbered(100, 5))))
        path.write_bytes(pcap_bytes(numbered(200, 5)))
        assert read(following, 10) == [*range(100, 105), *range(200, 205)]


@pytest.mark.parametrize("is_directory", [True, False])
def test_a_position_neither_repeats_nor_skips(tmp_path: Path, is_directory: bool) -> None:
    """A run that stops anywhere, while files are renamed, grow, and come."""
    rng = random.Random(22)
    spool = tmp_path / "spool"
    spool.mkdir()
    path = spool / "one.pcap"
    written, found, position = 0, [], None
    for _ in range(25):
        if written and rng.random() < 0.5:
            path.rename(spool / f"one.pcap.{written}")
        for _ in range(rng.randrange(1, 4)):
            count = rng.randrange(1, 40)
            data = pcap_bytes(numbered(written, count))
            with path.open("ab") as file:
                file.write(data[24 if file.tell() else 0 :])
            written += count
        with ct.follow(spool if is_directory else path, idle=True, position=position) as following:
            found += read(following, rng.randrange(1, 200), within=0.5)
            position = following.position
    with ct.follow(spool if is_directory else path, idle=True, position=position) as following:
        found += read(following, written - len(found))
    assert found == list(range(written))


def test_a_position_in_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap_bytes(numbered(0, 5)))
    with ct.follow(path) as following:
        next(following)
        position = following.position
    path.unlink()
    path.write_bytes(pcap_bytes(numbered(100, 5)))
    with (
        pytest.warns(ct.CaptureWarning, match=r"1 capture was taken away before the end: one.pcap \(behind packet 5\)"),
        ct.follow(path, position=position) as following,
    ):
        assert numbers(next(following)[1]) == list(range(100, 105))


def test_positions_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.pcap").write_bytes(pcap_bytes(numbered(0, 5)))
    with ct.follow(tmp_path / "one.pcap") as following:
        next(following)
        good = json.loads(following.position)
    bad = ["", "[]", "{}", "null", "[" * 100_000, json.dumps({**good, "done": 5}), json.dumps({**good, "path": None})]
    changes: list[dict[str, object]] = [
        {"name": "../../etc/passwd"},
        {"records": -1},
        {"records": 1 << 70},
        {"identity": [1]},
        {"head": "x"},
    ]
    bad += [json.dumps({**good, "place": {**good["place"], **change}}) for change in changes]
    for position in bad:
        with pytest.raises(ct.ConfigError, match="position: expected text"):
            ct.follow(tmp_path / "one.pcap", position=position)
    with pytest.raises(ct.ConfigError, match=r"found that of .*one.pcap, expected that of .*two.pcap"):
        ct.follow(tmp_path / "two.pcap", position=json.dumps(good))


def test_a_file_that_is_missed_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.pcap").write_bytes(pcap_bytes(numbered(0, 5)))
    with ct.follow(tmp_path, idle=True) as following:
        assert len(read(following, 5)) == 5
        rotated = following._rotated
        (tmp_path / "2.pcap").write_bytes(pcap_bytes(numbered(100, 5)))
        assert rotated.has_more()
        (tmp_path / "2.pcap").unlink()
        with pytest.warns(ct.CaptureWarning, match=r"1 capture was taken away before the end: 2.pcap"):
            assert not rotated.has_more()


def test_a_copy_in_a_directory_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "1.pcap"
    path.write_bytes(pcap_bytes(numbered(0, 5)))
    with ct.follow(tmp_path, idle=True) as following:
        assert len(read(following, 5)) == 5
        copy_and_truncate(path)
        path.write_bytes(pcap_bytes(numbered(100, 5)))
        assert read(following, 5) == list(range(100, 105))
        assert read(following, 1, within=1.0) == []


def test_the_wait_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "typo.pcap"
    with warnings.catch_warnings(record=True) as told, ct.follow(path, idle=True) as following:
        warnings.simplefilter("always")
        for _ in range(4):
            assert next(following)[0] is None
        path.write_bytes(pcap_bytes(numbered(0, 1)))
        assert read(following, 1) == [0]
    assert [str(one.message) for one in told] == [f"{path}: no such file yet: waiting for it"]
    with pytest.raises(FileNotFoundError, match="No such directory"):
        ct.follow(tmp_path / "no" / "a.pcap")


@pytest.mark.parametrize("content", [b"no capture", b"text, and a few bytes more", bytes(100)])
def test_a_short_file_that_is_no_capture_fails_at_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    begun = time.monotonic()
    with ct.follow(path) as following, pytest.raises(ct.CaptureError, match="expected a capture"):
        next(following)
    assert time.monotonic() - begun < 5


def test_a_pipe_that_stays_open_and_is_no_capture() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"hello, world")
    with (
        pytest.raises(ct.CaptureError, match=r"found text \(first bytes 68 65 6c 6c\)"),
        ct.open_capture(f"/dev/fd/{read_end}") as capture,
    ):
        next(capture)
    os.close(read_end)
    os.close(write_end)


def test_a_header_in_pieces_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "slow.pcap"
    data = pcap_bytes(numbered(0, 1))
    path.write_bytes(data[:10])
    with ct.follow(path, idle=True) as following:
        for _ in range(3):
            assert not len(next(following)[1])
        with path.open("ab") as file:
            file.write(data[10:])
        assert read(following, 1) == [0]


@pytest.mark.parametrize("has_inotify", [True, False])
def test_a_change_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_inotify: bool) -> None:
    if has_inotify and importlib.util.find_spec("watchfiles") is None:
        pytest.skip("watchfiles is not installed; the extra `follow` has it")
    if not has_inotify:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    watch = Watch(str(tmp_path))
    assert watch.is_told is has_inotify
    watch.wait()
    monkeypatch.setattr("conntrack_py.io.follow.watch.LOOK_EVERY", LOOK_EVERY)
    threading.Timer(0.02, lambda: (tmp_path / "new").write_bytes(b"x")).start()
    begun = time.monotonic()
    watch.wait()
    assert time.monotonic() - begun < 5
    watch.close()
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap_bytes(numbered(0, 3)))
    with ct.follow(path, idle=True) as following:
        assert following._watch.is_told is has_inotify
        assert len(read(following, 3)) == 3
        path.rename(tmp_path / "one.pcap.1")
        path.write_bytes(pcap_bytes(numbered(10, 3)))
        assert read(following, 3) == [10, 11, 12]
