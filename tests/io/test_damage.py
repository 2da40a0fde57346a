"""Captures that are cut short or damaged: what can be read is tracked, nothing crashes, and the loss is told."""

from __future__ import annotations

import functools
import io
import random
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from support.corpus import Capture, Record, captures, library, read_records, require, write_pcap

CAPTURES = captures()
by_capture = pytest.mark.parametrize("capture", CAPTURES, ids=lambda c: c.name)

#: Columns that are compared where two captures hold the same packets.
COLUMNS = (
    "start", "end", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port", "direction", "state", "conn_state",
    "history", "evidence", "orig_pkts", "orig_ip_bytes", "orig_bytes", "resp_pkts", "resp_ip_bytes", "resp_bytes",
    "end_reason",
)  # fmt: skip

#: An Ethernet frame with a UDP datagram.
FRAME = bytes.fromhex("000000000000 000000000000 0800 4500001c000040004011 0000 0a000001 0a000002 03e803e9 00080000")


def track(source: object, **config: object) -> tuple[Any, list[str]]:
    """The result, and what was warned of the capture."""
    ct = library()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        result = ct.track(opened, config=ct.Config(**config), labels=True)
    return result, [str(w.message) for w in caught if issubclass(w.category, ct.CaptureWarning)]


def lost(warned: list[str]) -> list[str]:
    """Those warnings that say that something was not used."""
    return [message for message in warned if "not used" in message]


def rows(result: Any) -> list[tuple[object, ...]]:
    """The connections, as something to compare."""
    return list(zip(*(result.connections[name].tolist() for name in COLUMNS), strict=True))


@functools.cache
def raw(capture: Capture) -> bytes:
    """The whole file."""
    return capture.path.read_bytes()


def head(capture: Capture) -> int:
    """Offset of the first packet: nothing before that offset can be tracked."""
    return capture.records[0].offset


def lengths(capture: Capture) -> list[int]:
    """The prefixes to try: the first 64 and 40 evenly spread ones."""
    size = len(raw(capture))
    return sorted({*range(min(64, size)), *(size * i // 40 for i in range(40))})


@by_capture
def test_prefixes(capture: Capture) -> None:
    """A capture cut anywhere: its whole records are tracked, and a cut inside one is told."""
    ct = library()
    for length in lengths(capture):
        prefix = raw(capture)[:length]
        try:
            result, warned = track(prefix)
        except ct.CaptureError:
            assert length < head(capture), f"{length} bytes hold a header"
            continue
        whole = [r for r in capture.records if r.offset < length]
        complete = read_records(prefix) if length >= head(capture) else []
        # A packet that was cut may count or not.
        assert len(complete) <= len(result.labels) <= len(whole), length
        if length > head(capture) and len(complete) < len(whole):
            assert any(re.search(r"\d", text) for text in warned), f"nothing said of the cut at {length}: {warned}"


@by_capture
def test_prefixes_at_borders(capture: Capture) -> None:
    """A capture cut between two records is a capture of the packets before."""
    library()
    borders = range(1, len(capture.records), max(1, len(capture.records) // 6))
    for count in borders:
        prefix = raw(capture)[: capture.records[count].offset]
        result, warned = track(prefix)
        again, _ = track(write_pcap(capture.records[:count]))
        assert result.labels.tolist() == again.labels.tolist(), count
        assert rows(result) == rows(again), count
        assert not lost(warned) or "fuzz" in capture.name  # which has damaged packets


@by_capture
def test_flipped_bits(capture: Capture) -> None:
    """Bits turned over anywhere: an error only where the header is hit, and as many labels as packets."""
    ct = library()
    chance = random.Random(capture.name)
    for _ in range(20):
        damaged = bytearray(raw(capture))
        places = [chance.randrange(len(damaged)) for _ in range(chance.randint(1, 8))]
        for place in places:
            damaged[place] ^= 1 << chance.randrange(8)
        try:
            result, _ = track(bytes(damaged))
        except ct.CaptureError:
            assert min(places) < head(capture), places
            continue
        assert len(result.labels) == result.stats.packets, places


@by_capture
def test_whole_captures_are_whole(capture: Capture) -> None:
    """No warning of damage, a label for every packet, and the same with strict=True."""
    library()
    result, warned = track(str(capture.path))
    assert len(result.labels) == len(capture.records) == result.stats.packets
    assert not lost(warned) or "fuzz" in capture.name  # which has damaged packets
    strict, _ = track(str(capture.path), strict=True)
    assert rows(strict) == rows(result)


@by_capture
def test_strict(capture: Capture, tmp_path: Path) -> None:
    """With strict=True a cut record is an error that names the file and the place."""
    ct = library()
    last = capture.records[-1]
    path = tmp_path / capture.name
    cut = raw(capture)[: last.offset + 20]
    path.write_bytes(cut)
    result, warned = track(str(path))
    assert len(capture.records) - 1 <= len(result.labels) <= len(capture.records)
    assert warned
    with pytest.raises(ct.CaptureError) as error:
        track(str(path), strict=True)
    assert path.name in str(error.value)
    numbers = {int(n) for n in re.findall(r"\d+", str(error.value).replace(str(path), ""))}
    assert numbers & set(range(last.offset, len(cut) + 1)), str(error.value)


def udp(count: int) -> bytes:
    """A pcap file of some equal packets."""
    return write_pcap([Record(0, n * 10**9, 1, len(FRAME), FRAME) for n in range(1, count + 1)])


def test_empty() -> None:
    """No bytes are no capture; a header alone is an empty one."""
    ct = library()
    with pytest.raises(ct.CaptureError):
        track(b"")
    result, warned = track(udp(0))
    assert (len(result.connections), len(result.labels), warned) == (0, 0, [])


@pytest.mark.parametrize("noise", [b"\x00" * 64, b"\xff" * 64, b"GIF89a" * 20, random.Random(1).randbytes(4096)])
def test_not_a_capture(noise: bytes) -> None:
    """A file without a known magic number is an error."""
    ct = library()
    with pytest.raises(ct.CaptureError):
        track(noise)


def test_garbage_after_header() -> None:
    """Noise where records should be gives nothing, or little, and a warning."""
    library()
    for seed in range(20):
        result, warned = track(udp(0) + random.Random(seed).randbytes(4096))
        assert len(result.labels) == result.stats.packets
        assert warned, seed


@pytest.mark.parametrize("caplen", [0x7FFFFFFF, 0xFFFFFFFF, 0x10000000, 1 << 20])
def test_absurd_length(caplen: int) -> None:
    """A length beyond the file costs its record, not the memory; what was before is kept."""
    library()
    whole = udp(2)
    little = whole[:4] == b"\x4d\x3c\xb2\xa1"
    bad = struct.pack("<IIII" if little else ">IIII", 3, 0, caplen, caplen) + FRAME
    result, warned = track(whole + bad)
    assert 2 <= len(result.labels) <= 3
    assert result.connections["orig_pkts"].sum() + result.connections["resp_pkts"].sum() >= 2
    assert any(re.search(r"\d", text) for text in warned)


def test_zero_length_records() -> None:
    """A record without bytes is a packet that was captured, and cannot be read."""
    library()
    records = [Record(0, n * 10**9, 1, len(data), data) for n, data in enumerate((FRAME, b"", FRAME))]
    result, _ = track(write_pcap(records))
    assert [row >= 0 for row in result.labels["connection"].tolist()] == [True, False, True]
    assert sum(dict(result.stats.skipped).values()) == 1


def block(kind: int, body: bytes) -> bytes:
    """A little-endian pcapng block."""
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
INTERFACE = block(1, struct.pack("<HHI", 1, 0, 0))


def packet(interface: int = 0) -> bytes:
    """An enhanced packet block."""
    return block(6, struct.pack("<IIIII", interface, 0, 1, len(FRAME), len(FRAME)) + FRAME)


@pytest.mark.parametrize("kind", [4, 5, 10, 0xBAD, 0x40000BAD, 0x7FFFFFFF, 0xFFFFFFFF])
def test_unknown_blocks(kind: int) -> None:
    """A pcapng block that carries no packet is passed over, without a word."""
    library()
    result, warned = track(SECTION + block(kind, b"x" * 13) + INTERFACE + packet() + block(kind, b"") + packet())
    assert (len(result.labels), len(result.connections), warned) == (2, 1, [])


def test_simple_packets() -> None:
    """A simple packet block has no time, and counts."""
    library()
    result, _ = track(SECTION + INTERFACE + packet() + block(3, struct.pack("<I", len(FRAME)) + FRAME))
    assert len(result.labels) == 2
    assert result.labels["connection"].tolist() == [0, 0]


@pytest.mark.parametrize("timed", [0, 2])
def test_leading_simple_packets_have_no_time(timed: int, tmp_path: Path) -> None:
    """Without a packet with a time before it, a simple packet is at no time, and not in 1970."""
    library()
    simple = block(3, struct.pack("<I", len(FRAME)) + FRAME)
    result, warned = track(SECTION + INTERFACE + simple * 3 + packet() * timed)
    table, stats = result.connections, result.stats
    first = table[0]
    assert (first.start, first.end, first.orig_pkts) == (None, None, 3)
    assert np.isnat([table["start"][0], table["end"][0]]).all()
    assert pa.table(table)["start"].null_count == 1
    assert warned == []
    assert stats.quality.clock_steps == 0
    assert [row.start for row in table][1:] == ([1000] if timed else [])
    assert (stats.first_timestamp, stats.last_timestamp) == ((1000, 1000) if timed else (None, None))
    for suffix, start in (("csv", ",,"), ("jsonl", '"start":null,"end":null'), ("log", "-\t")):
        path = tmp_path / f"out.{suffix}"
        table.write(path)
        lines = [line for line in path.read_text().splitlines() if not line.startswith(("#", "start"))]
        assert lines[0].lstrip("{").startswith(start), lines[0]
    for suffix in ("ipfix", "parquet", "arrow"):
        table.write(tmp_path / f"out.{suffix}")
    table.write(tmp_path / "hours", "csv", by="hour")
    assert (tmp_path / "hours" / "hour=__HIVE_DEFAULT_PARTITION__").is_dir()
    assert repr(table).splitlines()[2].lstrip().startswith("-")


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack("<II", 6, 0),  # a block of no length
        struct.pack("<III", 6, 8, 8),  # shorter than its own frame
        struct.pack("<II", 6, 13) + bytes(5),  # no multiple of 4
        struct.pack("<II", 6, 0xFFFFFFFC) + bytes(64),  # beyond the file
        packet()[:-4] + struct.pack("<I", 7),  # two lengths that differ
        block(6, struct.pack("<IIIII", 0, 0, 1, 0xFFFFFFFF, 1) + FRAME),  # a packet larger than its block
        block(6, b""),  # no room for its fields
        packet(7),  # an interface that was not described
    ],
    ids=["zero", "short", "odd", "beyond", "unequal", "overfull", "bare", "interface"],
)
def test_bad_blocks(bad: bytes, tmp_path: Path) -> None:
    """A damaged pcapng block: what was before is kept, and it is told; with strict=True it is an error."""
    ct = library()
    start = SECTION + INTERFACE + packet()
    path = tmp_path / "bad.pcapng"
    path.write_bytes(start + bad + packet())
    result, warned = track(str(path))
    assert 1 <= len(result.labels) <= 3
    assert warned
    with pytest.raises(ct.CaptureError) as error:
        track(str(path), strict=True)
    assert path.name in str(error.value)
    assert re.search(r"\d", str(error.value).replace(str(path), ""))


def test_damage_so_far(tmp_path: Path) -> None:
    """An open capture tells the damage of what was read, and after it is closed, all there was."""
    ct = library()
    path = tmp_path / "bad.pcapng"
    path.write_bytes(SECTION + INTERFACE + packet() + packet(7) + packet())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        with ct.open_capture(path) as capture:
            assert capture.damage() == {}
            assert sum(len(batch) for batch in capture) == 2
            damage = capture.damage()
        assert capture.damage() == damage
    assert damage == {"unknown_interface": (1, str(path), len(SECTION + INTERFACE + packet()))}


def test_loss_is_told_in_bytes() -> None:
    """The bytes lost and read are told; a share over a percent comes before anything else."""
    ct = library()
    # Records of odd lengths, and a hole of which nothing chains.
    whole = udp(200)
    little, size = whole[:4] == b"\x4d\x3c\xb2\xa1", 16 + len(FRAME)
    assert little
    for lost, first in ((1, "part of the capture"), (100, "33 % (")):
        hole = whole[: 24 + 100 * size] + b"\xff" * (lost * size) + whole[24 + 100 * size :]
        result, (warned,) = track(hole)
        told = f"{lost * size:,} of {len(hole):,} bytes"
        assert (result.stats.packets, result.stats.file_bytes) == (200, len(hole))
        assert dict(result.stats.skipped_bytes) == {"bad_record_header": lost * size}
        assert warned.startswith(first)
        assert told in warned
        assert told in result.stats.describe_skipped("bad_record_header")
    assert ct.track(io.BytesIO(whole)).stats.skipped_bytes == {}


def test_captures_one_behind_the_other() -> None:
    """Each part is read as what it is, also with strict=True."""
    library()
    parts = [udp(3), SECTION + INTERFACE + packet(), udp(2), udp(0)]
    result, warned = track(b"".join(parts), strict=True)
    assert (result.stats.packets, result.stats.parts, lost(warned)) == (6, 4, [])
    assert dict(result.stats.skipped) == {}


def test_corpus_is_there() -> None:
    """The parametrised tests above need it."""
    require()
