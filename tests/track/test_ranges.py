"""Ranges of a capture together have the records of the whole, whatever the file contains."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py import ranges as rooms
from support import corpus
from support.packets import Packet, download, evenly, pcap_bytes, udp
from support.strategies import stories

pytestmark = pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")


def rows(path: Path, part: ct.Range | None = None) -> list[dict[str, object]]:
    batches = map(pa.record_batch, ct.decode_headers(path, 0, 16, part=part))
    return [row for batch in batches for row in batch.to_pylist()]


def apart(path: Path, number: int) -> tuple[int, list[dict[str, object]]]:
    """The number of ranges, and their rows."""
    found = ct.split_points(path, number)
    assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]
    assert (found[0].start, found[-1].end) == (0, None)
    return len(found), [row for part in found for row in rows(path, part)]


def without_begin(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows without the time at which the file began, which is in the first row, or in one of its own."""
    rest = [row for row in found if row["idx"]]
    return [{**row, "packet": b""} for row in rest[:1]] + rest[1:]


def traffic(count: int, payload: bytes = b"") -> list[Packet]:
    packets: list[Packet] = []
    for number in range(count):
        packets += evenly(download("10.0.0.1", 40_000 + number, "203.0.113.9", 443), number / 10, 0.001)
        if payload:
            packets.append((number / 10, udp("10.0.0.1", 5000, "10.0.0.2", 5000, payload)))
    return sorted(packets, key=lambda packet: packet[0])


@pytest.mark.parametrize("number", [2, 7, 16])
def test_ranges_have_the_rows_of_the_file(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(traffic(200)))
    assert apart(path, number) == (number, rows(path))


@given(story=stories(), number=st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_ranges_of_stories(tmp_path_factory: pytest.TempPathFactory, story: list[Packet], number: int) -> None:
    path = tmp_path_factory.mktemp("story") / "a.pcap"
    path.write_bytes(pcap_bytes(story))
    assert without_begin(apart(path, number)[1]) == without_begin(rows(path))


def test_a_capture_in_payloads_is_walked_over(tmp_path: Path) -> None:
    """Most guesses are false, and each is found out."""
    inside = pcap_bytes(traffic(1)) + pcap_bytes(traffic(1))[24:]
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(traffic(60, (inside * 20)[:60_000])))
    first = path.read_bytes()[: rooms._native.Walk.FRONT]
    wished = [path.stat().st_size * number // 40 for number in range(1, 40)]
    guesses = {guess.offset for at in wished if (guess := rooms._guess(str(path), first, at))}
    starts = {part.start for part in ct.split_points(path, 40)}
    assert len(guesses - starts) > 5
    assert apart(path, 40)[1] == rows(path)


def test_captures_behind_each_other(tmp_path: Path) -> None:
    """Those with the same header are split as one; another header begins a range."""
    one = pcap_bytes(traffic(100))
    path = tmp_path / "a.pcap"
    path.write_bytes(one * 3)
    assert apart(path, 6)[0] == 6
    assert apart(path, 6)[1] == rows(path)
    other = bytearray(one)
    other[16:20] = (1500).to_bytes(4, "little")
    path.write_bytes(one + other + one)
    found = ct.split_points(path, 2)
    assert {len(one), 2 * len(one)} <= {part.start for part in found}
    assert apart(path, 9)[1] == rows(path)


def test_damage(tmp_path: Path) -> None:
    rng = random.Random(25)
    path, data = tmp_path / "a.pcap", pcap_bytes(traffic(80))
    for _ in range(20):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(24, len(data) - 300)
            damaged[at : at + rng.randint(1, 300)] = rng.randbytes(rng.randint(0, 300))
        path.write_bytes(damaged)
        assert apart(path, 8)[1] == rows(path)


def test_what_cannot_be_split_is_one_range(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap.gz"
    path.write_bytes(gzip.compress(pcap_bytes(traffic(50))))
    assert apart(path, 5) == (1, rows(path))
    (tmp_path / "empty.pcap").write_bytes(pcap_bytes([]))
    assert apart(tmp_path / "empty.pcap", 5) == (1, [])


def test_a_file_that_changed_is_an_error(tmp_path: Path) -> None:
    path, data = tmp_path / "a.pcap", pcap_bytes(traffic(50))
    path.write_bytes(data)
    first, second, *_ = ct.split_points(path, 3)
    path.write_bytes(data[: first.end])
    assert rows(path, first)
    path.write_bytes(data[: (first.end or 0) - 5])
    with pytest.raises(ct.CaptureError, match=r"a\.pcap: .*changed since split_points"):
        rows(path, first)
    path.write_bytes(data[:24] + pcap_bytes(traffic(51, b"other"))[24:])
    with pytest.raises(ct.CaptureError, match="changed since split_points"):
        rows(path, second)


def test_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(traffic(1)))
    with pytest.raises(ValueError, match="ranges: found 0"):
        ct.split_points(path, 0)
    with pytest.raises(ValueError, match="part: found"):
        ct.decode_headers([path, path], 0, 1, part=ct.Range(0, None))
    with pytest.raises(FileNotFoundError):
        ct.split_points(tmp_path / "none.pcap", 2)


def test_the_corpus_in_ranges(corpus_dir: Path) -> None:
    """Beside the shard of a fragment inside a tunnel whose first one is in another range."""
    several, elsewhere = 0, set()
    for capture in corpus.captures():
        try:
            whole = rows(capture.path)
        except ct.CaptureError:
            continue
        number, found = apart(capture.path, 5)
        several += number > 1
        found, whole = without_begin(found), without_begin(whole)
        if found != whole:
            elsewhere.add(capture.name)
            assert [{**row, "shard": 0} for row in found] == [{**row, "shard": 0} for row in whole], capture.name
    corpus.SUMMARY.append(f"ranges: {several} captures of the corpus in more than one range")
    assert several > 20
    assert all("frag" in name for name in elsewhere), elsewhere
