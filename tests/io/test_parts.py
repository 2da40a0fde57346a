"""Captures one behind the other in a file or a pipe: their order in time, and the account of what is out of order."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

import conntrack_py as ct
from support.packets import Packet, download, evenly, pcap_bytes, udp
from support.program import run

#: Columns that are compared where the same packets are in other files.
COLUMNS = (
    "start", "end", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port", "direction", "state", "conn_state",
    "history", "evidence", "orig_pkts", "orig_bytes", "resp_pkts", "resp_bytes", "end_reason",
)  # fmt: skip


def traffic(seed: int, count: int = 12) -> list[list[Packet]]:
    """Parts, each of which has every few packets of the same connections."""
    rng = random.Random(seed)
    whole = []
    for number in range(count):
        frames = download(f"10.0.0.{number % 3 + 1}", 40_000 + number, "203.0.113.9", 443)
        whole += evenly(frames, number / 100, 0.001)
    whole.sort(key=lambda packet: packet[0])
    parts: list[list[Packet]] = [[] for _ in range(rng.randint(2, 6))]
    for packet in whole:
        rng.choice(parts).append(packet)
    return parts


def pcapng(packets: list[Packet], order: str) -> bytes:
    """A capture in nanoseconds."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack(order + "I", 12 + len(body))
        return struct.pack(order + "I", kind) + length + body + length

    made = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    made += block(1, struct.pack(order + "HHIHHBxxx", 1, 0, 0, 9, 1, 9))
    plain = io.BytesIO(pcap_bytes(packets))
    plain.seek(24)
    nano = pcap_bytes([])[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
    little = "<" if pcap_bytes([])[0] in (0x4D, 0xD4) else ">"
    while head := plain.read(16):
        sec, fraction, caplen, length = struct.unpack(little + "IIII", head)
        ticks = sec * 10**9 + fraction * (1 if nano else 1000)
        fields = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, caplen, length)
        made += block(6, fields + plain.read(caplen))
    return made


def snoop(packets: list[Packet]) -> bytes:
    """A capture of Solaris, with times that its microseconds can hold."""
    made = b"snoop\0\0\0" + struct.pack(">II", 2, 4)
    for at, frame in packets:
        padded = frame + bytes(-len(frame) % 4)
        micros = struct.unpack("<I", pcap_bytes([(at, b"")])[28:32])[0]
        sec = struct.unpack("<I", pcap_bytes([(at, b"")])[24:28])[0]
        made += struct.pack(">IIIIII", len(frame), len(frame), 24 + len(padded), 0, sec, micros) + padded
    return made


def captures(parts: list[list[Packet]], seed: int) -> list[bytes]:
    """The parts in formats that take turns."""
    kinds = (pcap_bytes, lambda part: pcapng(part, "<"), lambda part: pcapng(part, ">"), snoop)
    return [kinds[(number + seed) % 4](part) for number, part in enumerate(parts)]


def track(source: object, **config: object) -> tuple[ct.TrackResult, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ct.track(source, config=ct.Config(**config))  # type: ignore[arg-type]
    return result, [str(one.message) for one in caught]


def rows(result: ct.TrackResult) -> list[tuple[object, ...]]:
    return list(zip(*(result.connections[name].tolist() for name in COLUMNS), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_merged_as_files_are(tmp_path: Path, seed: int) -> None:
    parts = captures(traffic(seed), seed)
    apart = [tmp_path / f"{number}.pcap" for number in range(len(parts))]
    for path, part in zip(apart, parts, strict=True):
        path.write_bytes(part)
    expected, _ = track(apart)
    whole = tmp_path / "whole"
    for compress in (bytes, gzip.compress):
        whole.write_bytes(compress(b"".join(parts)))
        for threads in (1, 2, 4):
            result, warned = track(whole, threads=threads, strict=True)
            assert rows(result) == rows(expected)
            stats = result.stats
            assert (stats.parts, stats.merged_parts, stats.early_parts) == (len(parts), len(parts), 0)
            assert (stats.file_bytes, dict(stats.skipped), dict(stats.unsorted)) == (sum(map(len, parts)), {}, {})
            assert warned == []


def test_labels_and_a_second_reading_follow_the_merged_order(tmp_path: Path) -> None:
    parts = captures(traffic(1), 0)
    whole, out = tmp_path / "whole.pcapng", tmp_path / "labelled.pcapng"
    whole.write_bytes(b"".join(parts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ct.label(whole, out)
    assert rows(ct.track(out)) == rows(result)


def test_a_pipe_is_tracked_as_stored_and_the_account_says_so(tmp_path: Path) -> None:
    parts = captures(
        [evenly([frame], at) for at, frame in enumerate(download("10.0.0.1", 1, "10.9.9.9", 2)[:5])][::-1], 0
    )
    whole = b"".join(parts)
    result, warned = track(io.BytesIO(whole))
    assert (result.stats.parts, result.stats.merged_parts, result.stats.early_parts) == (5, 0, 4)
    assert dict(result.stats.unsorted) == {}, "no capture is out of order itself"
    assert "4 of 5 captures within a file or pipe begin before the end of earlier ones" in warned[0]
    # As `zcat a.gz b.gz | track -`, and in JSON.
    done = run("track", "--json-log", "-", stdin=whole)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    (account,) = [event for event in events if event["event"] == "read"]
    assert (account["parts"], account["early_parts"], account["merged_parts"]) == (5, 4, 0)
    assert any("begin before the end of earlier ones" in event.get("message", "") for event in events)
    # A file of the same bytes is merged.
    path = tmp_path / "whole"
    path.write_bytes(whole)
    assert track(path)[0].stats.merged_parts == 5


def test_records_that_step_back_are_told_once_a_file(tmp_path: Path) -> None:
    frames = download("10.0.0.1", 1, "10.9.9.9", 2)
    for lead, told in ((0.09, False), (0.2, True)):
        path = tmp_path / f"my day {lead}.pcap"
        times = [at / 1000 for at in range(len(frames))]
        times[3] = times[2] - lead
        path.write_bytes(pcap_bytes([(10 + at, frame) for at, frame in zip(times, frames, strict=True)]))
        names = [str(path)]
        result, warned = track(names)
        assert bool(result.stats.unsorted) == told, lead
        found = [line for line in warned if "step back in time" in line]
        assert len(found) == told
        if told:
            (step,) = result.stats.unsorted.values()
            assert list(result.stats.unsorted) == names
            assert 100_000_000 < step <= 200_000_000
            assert f"(reordercap '{path}' '{path.with_suffix('')}.sorted.pcapng')" in found[0]


def test_a_step_back_between_parts_is_none_within_one(tmp_path: Path) -> None:
    frames = download("10.0.0.1", 1, "10.9.9.9", 2)
    parts = [pcap_bytes(evenly(frames, 10)), pcap_bytes(evenly(frames, 5)), pcap_bytes(evenly(frames, 1))]
    path = tmp_path / "parts.pcap"
    path.write_bytes(b"".join(parts))
    for source in (path, io.BytesIO(b"".join(parts))):
        assert dict(track(source)[0].stats.unsorted) == {}
    assert list(track(io.BytesIO(pcap_bytes(evenly(frames, 10) + evenly(frames, 5))))[0].stats.unsorted.values()) != []


@pytest.mark.parametrize("limits", ["-n 64", "-S -n 40", "-n 20"])
def test_more_overlapping_files_than_descriptors(tmp_path: Path, limits: str) -> None:
    """300 files that overlap over their whole length, so that each is read a piece at a time."""
    frames = [
        udp(f"10.0.{number // 200}.{number % 200 + 1}", 1000, "203.0.113.9", 53, bytes(1200)) for number in range(300)
    ]
    for number, frame in enumerate(frames):
        times = [(turn * 300 + number) / 10_000 for turn in range(60)]
        (tmp_path / f"{number:03}.pcap").write_bytes(pcap_bytes([(at, frame) for at in times]))
    files = sorted(map(str, tmp_path.glob("*.pcap")))
    expected = ct.track(files).connections
    assert len(expected) == 300
    script = (
        "import sys, conntrack_py as ct; result = ct.track(sys.argv[1:], config=ct.Config(on_error='skip'));"
        "assert not result.stats.skipped_files;"
        "print([tuple(map(str, (row.start, row.orig_addr, row.orig_pkts))) for row in result.connections])"
    )
    command = ["bash", "-c", f'ulimit {limits} && exec "$0" -c "$1" "${{@:2}}"', sys.executable, script, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{[tuple(map(str, (row.start, row.orig_addr, row.orig_pkts))) for row in expected]}\n"


def test_a_thousand_parts_of_a_packet_in_gzip(tmp_path: Path) -> None:
    frames = [frame for number in range(200) for frame in download(f"10.0.{number}.1", 1000, "203.0.113.9", 443)[:5]]
    packets = [(number * 7919 % 1000 / 1000, frame) for number, frame in enumerate(frames)]
    whole, one = tmp_path / "whole.gz", tmp_path / "one.pcap"
    whole.write_bytes(gzip.compress(b"".join(pcap_bytes([packet]) for packet in packets)))
    one.write_bytes(pcap_bytes(sorted(packets, key=lambda packet: packet[0])))
    result, _ = track(whole)
    assert (result.stats.parts, result.stats.merged_parts) == (1000, 1000)
    assert rows(result) == rows(track(one)[0])


def test_a_second_capture_behind_one_that_is_followed(tmp_path: Path) -> None:
    """The writer begins again with a header, in another format and byte order."""
    path = tmp_path / "growing"
    first, second = evenly(download("10.0.0.1", 1, "10.9.9.9", 2), 0), evenly(download("10.0.0.2", 1, "10.9.9.9", 2), 9)
    for more in (pcap_bytes(second), pcapng(second, ">"), snoop(second)):
        path.write_bytes(pcap_bytes(first))
        batches, found = ct.follow(path), 0
        for _, batch in batches:
            found += len(batch)
            if found == len(first):
                with path.open("ab") as growing:
                    growing.write(more)
            if found == len(first) + len(second):
                break
        assert found == len(first) + len(second)
        batches.close()  # type: ignore[attr-defined]


def contiguous(seed: int) -> list[list[Packet]]:
    """Parts one after another in time, which divide connections."""
    whole = sorted((packet for part in traffic(seed) for packet in part), key=lambda packet: packet[0])
    cuts = sorted(random.Random(seed).sample(range(1, len(whole)), 5))
    return [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_a_checkpoint_in_the_middle_of_parts(tmp_path: Path, seed: int) -> None:
    """The file ends within a part, a header or a packet; the run ends there, and the next one goes on."""
    parts = captures(contiguous(seed), seed)
    data = b"".join(parts)
    expected, _ = track(io.BytesIO(data), strict=True)
    heads = [sum(map(len, parts[:number])) for number in range(1, len(parts))]
    cuts = [*random.Random(seed).sample(range(100, len(data)), 6), heads[1], heads[2] + 10, heads[3] - 7]
    path, state = tmp_path / "growing", tmp_path / "state"
    tracker, position, found, finished = ct.Tracker(), None, 0, []
    for cut in [*sorted(cuts), len(data)]:
        # The file stays the same one.
        with path.open("ab") as growing:
            growing.write(data[growing.tell() : cut])
        batches = ct.follow(path, idle=True, position=position)
        for _, batch in batches:
            if not len(batch):
                break
            found += len(batch)
            tracker.process(batch)
        finished += list(tracker.drain())
        position = batches.position
        batches.close()
        tracker.save(state)
        tracker = ct.Tracker.load(state)
    finished += list(tracker.finish())
    assert found == expected.stats.packets == sum(map(len, contiguous(seed)))
    assert sorted(map(key, finished)) == sorted(map(key, expected.connections))


def key(row: ct.Connection) -> tuple[object, ...]:
    """Columns of a row that depend on its own packets alone."""
    return row.start, row.end, row.orig_addr, row.orig_port, row.state, row.history, row.orig_pkts, row.resp_bytes


@pytest.mark.parametrize("overlap", [False, True])
def test_headers_of_parts(tmp_path: Path, overlap: bool) -> None:
    """`decode_headers` of a file of parts: the rows of the parts as files, named by their places in the file."""
    parts = captures(traffic(2) if overlap else contiguous(2), 1)
    apart = [tmp_path / f"{number}.pcap" for number in range(len(parts))]
    for path, part in zip(apart, parts, strict=True):
        path.write_bytes(part)
    whole = tmp_path / "whole"
    whole.write_bytes(b"".join(parts))

    def headers(source: Path) -> list[dict[str, object]]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return [row for b in ct.decode_headers(source, 0, 4) for row in pa.record_batch(b).to_pylist()]

    one, many = headers(whole), [row for path in apart for row in headers(path)]
    places = [row["idx"] for row in one]
    assert places == sorted(set(places))
    assert len(one) == len(many) > 50
    # Only the first packet of a file says when the file begins.
    for row in one + many:
        begin = row["packet"][0] & 2
        row.update(idx=None, packet=row["packet"] if not begin else None)
    assert sum(row["packet"] is None for row in one) == 1
    assert sum(row["packet"] is None for row in many) == len(apart)
    sent = [{row["packet"] for row in rows if row["packet"]} for rows in (one, many)]
    assert sent[1] <= sent[0]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n" * 40, "an HTML page"),
        (b"PK\3\4\x14\0\0\0\x08\0" + bytes(3000), "a zip archive"),
        (b"capture.pcap".ljust(257, b"\0") + b"ustar\0" + b"00" + bytes(3000), "a tar archive"),
    ],
)
def test_other_files_within_gzip_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "capture.pcap.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ct.CaptureError, match=rf"found {name} .* in gzip data"):
        ct.track(path)


def test_a_bad_part_among_files_that_are_skipped(tmp_path: Path) -> None:
    """Packets stored before the damage count, merged as without it."""
    frames = download("10.0.0.1", 1, "10.9.9.9", 2)
    parts = [pcap_bytes(evenly(frames[::2], 0, 0.002)), pcap_bytes(evenly(frames[1::2], 0.001, 0.002))]
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"".join(parts))
    bad.write_bytes(b"".join(parts) + b"\xff" * 300 + parts[0])
    result, warned = track([bad, tmp_path / "missing", tmp_path], on_error="skip", strict=True)
    assert [(one.file, one.packets, one.offset) for one in result.stats.skipped_files] == [
        (str(bad), len(frames), sum(map(len, parts))), (str(tmp_path / "missing"), 0, None), (str(tmp_path), 0, None)
    ]  # fmt: skip
    assert rows(result) == rows(track(good)[0])
    assert result.stats.merged_parts == 2
    assert len(warned) == 1
