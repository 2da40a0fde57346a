"""`track`: sources, and who initiated."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
import zstandard

import conntrack_py as ct
from support.interrupts import TRACK
from support.packets import Packet, arp, download, echo, evenly, pcap_bytes, udp

Write = Callable[..., Path]


def test_path_and_str(pcap: Write, mixed: list[Packet]) -> None:
    path = pcap(mixed)
    assert list(ct.track(path).connections) == list(ct.track(str(path)).connections)
    assert len(ct.track(path).connections) == 4


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, lz4.frame.compress, zstandard.ZstdCompressor().compress],
    ids=["gz", "bz2", "xz", "lz4", "zst"],
)
def test_compressed(tmp_path: Path, mixed: list[Packet], compress: Callable[[bytes], bytes]) -> None:
    # The content tells, not the name.
    path = tmp_path / "capture.pcap"
    path.write_bytes(compress(pcap_bytes(mixed)))
    assert len(ct.track(path).connections) == 4


def test_file_objects(pcap: Write, mixed: list[Packet]) -> None:
    assert len(ct.track(io.BytesIO(pcap_bytes(mixed))).connections) == 4
    with open(pcap(mixed), "rb") as file:
        assert len(ct.track(file).connections) == 4
    with open(pcap(mixed), "rb", buffering=0) as raw:
        assert len(ct.track(raw).connections) == 4


def test_several_are_merged_by_time(pcap: Write, mixed: list[Packet]) -> None:
    whole = ct.track(pcap(mixed))
    odd, even = pcap(mixed[1::2], name="odd.pcap"), io.BytesIO(pcap_bytes(mixed[::2]))
    parts = ct.track([odd, even], labels=True)
    assert list(parts.connections) == list(whole.connections)
    assert parts.stats.packets == len(mixed)
    assert parts.labels is not None
    assert parts.labels["connection"][0] == 0


def test_glob(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    pcap(mixed[:20], name="day-2.pcap")
    pcap(mixed[20:], name="day-1.pcap")
    (tmp_path / "day-3.pcap").mkdir()
    assert ct.track(f"{tmp_path}/day-*.pcap").stats.packets == len(mixed)


def test_an_empty_file_among_others(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    """A capturing program has just begun it; alone, and with strict=True, it is an error."""
    pcap(mixed, name="day-1.pcap")
    (tmp_path / "day-2.pcap").touch()
    with pytest.warns(ct.CaptureWarning, match=r"1 file that ends inside a record, first in .*day-2\.pcap at byte 0"):
        result = ct.track(f"{tmp_path}/day-*.pcap")
    assert result.stats.packets == len(mixed)
    with pytest.raises(ct.CaptureError, match=r"day-2\.pcap"):
        ct.track(f"{tmp_path}/day-*.pcap", config=ct.Config(strict=True))
    with pytest.raises(ct.CaptureError, match=r"day-2\.pcap"):
        ct.track(tmp_path / "day-2.pcap")


def test_a_name_goes_before_a_pattern(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    pcap(mixed, name="day[1].pcap")
    pcap([], name="day1.pcap")
    assert ct.track(f"{tmp_path}/day[1].pcap").stats.packets == len(mixed)


def test_a_path_is_not_a_pattern(pcap: Write, mixed: list[Packet], tmp_path: Path) -> None:
    pcap(mixed, name="day1.pcap")
    with pytest.raises(FileNotFoundError):
        ct.track(tmp_path / "day*.pcap")


def test_standard_input(mixed: list[Packet]) -> None:
    run = subprocess.run([sys.executable, "-c", TRACK, "-"], input=pcap_bytes(mixed), capture_output=True, check=True)
    assert run.stdout.split() == [b"ready", b"4"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("none.pcap", FileNotFoundError, r"none\.pcap"),
        ("none-*.pcap", FileNotFoundError, r"no file matches this pattern: 'none-\*\.pcap'"),
        (".", IsADirectoryError, r"'\.'"),
        ([], ValueError, "the list of captures is empty"),
        (b"\xd4\xc3", TypeError, "found bytes; wrap them in io.BytesIO"),
        (3, TypeError, "found int, expected a path, a binary file object or a list"),
        ([3], TypeError, "found int, expected a path or a binary file object"),
        (io.StringIO(), TypeError, "is open as text; open it in binary mode"),
    ],
)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, error: type, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        ct.track(source)


def test_a_name_that_is_not_unicode(tmp_path: Path, mixed: list[Packet]) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.pcap"
    with open(path, "wb") as file:
        file.write(pcap_bytes(mixed))
    assert len(ct.track(os.fsdecode(path)).connections) == 4


def test_not_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and not a capture")
    with pytest.raises(ct.CaptureError, match=r"notes\.txt: offset 0: found .*, expected a capture") as caught:
        ct.track(path)
    assert (caught.value.path, caught.value.offset) == (str(path), 0)


def test_unknown_link_type() -> None:
    with pytest.raises(ct.CaptureError, match="link type 147"):
        ct.track(io.BytesIO(pcap_bytes(evenly([b"?" * 60]), linktype=147)))


def test_an_exception_of_a_file_object_comes_out() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("the cable is out")

    with pytest.raises(RuntimeError, match="the cable is out"):
        ct.track(Broken())


# ---- who initiated ----


def only(frames: list[bytes], **options: Any) -> tuple[ct.Connection, Any]:
    result = ct.track(io.BytesIO(pcap_bytes(evenly(frames))), labels=True, **options)
    assert len(result.connections) == 1
    return result.connections[0], result.labels


def test_a_download_is_egress_whatever_the_byte_counts() -> None:
    frames = download("10.0.0.5", 51514, "203.0.113.80", 443, down=500_000)
    row, labels = only(frames)
    assert (row.orig_addr, row.direction, row.evidence, row.confidence) == ("10.0.0.5", "egress", "syn", 1.0)
    assert row.resp_bytes == 500_000 > 100 * row.orig_bytes
    assert labels.dtype.names == ("connection", "ctstate", "ctdir", "reply", "direction", "state")
    assert [labels.dtype[name] for name in labels.dtype.names] == [
        np.dtype(kind) for kind in ("i8", "u1", "u1", "?", "u1", "u1")
    ]
    assert len(labels) == len(frames)
    assert set(labels["connection"]) == {0}
    assert set(labels["direction"]) == {ct.Direction.EGRESS}
    assert labels["reply"][:5].tolist() == [False, True, False, False, True]
    assert np.array_equal(labels["ctdir"] == ct.CtDir.REPLY, labels["reply"])
    assert labels["ctstate"][0] == ct.CtState.NEW
    assert set(labels["ctstate"][1:]) == {ct.CtState.ESTABLISHED}
    states = [ct.State(state).name for state in labels["state"]]
    assert states[:3] == ["SYN_SENT", "SYN_RECV", "ESTABLISHED"]
    assert states[-3:] == ["FIN_WAIT", "LAST_ACK", "TIME_WAIT"]


def test_an_upload_from_outside_is_ingress() -> None:
    row, labels = only(download("198.51.100.7", 40000, "10.0.0.80", 80))
    assert (row.orig_addr, row.direction) == ("198.51.100.7", "ingress")
    assert set(labels["direction"]) == {ct.Direction.INGRESS}


def test_a_syn_ack_first_still_tells_who_initiated() -> None:
    row, labels = only(download("10.0.0.5", 51514, "203.0.113.80", 443)[1:])
    assert (row.orig_addr, row.direction) == ("10.0.0.5", "egress")
    assert (row.evidence, row.flipped) == ("syn_ack", True)
    assert labels["reply"][:2].tolist() == [True, False]


def test_ping() -> None:
    frames = [echo(*way, kind) for way, kind in ((("10.0.0.5", "192.0.2.1"), 8), (("192.0.2.1", "10.0.0.5"), 0))]
    row, labels = only(frames)
    assert (row.proto, row.orig_addr, row.orig_port, row.resp_port) == ("icmp", "10.0.0.5", 8, 0)
    assert (row.direction, row.evidence) == ("egress", "icmp_request")
    assert labels["reply"].tolist() == [False, True]
    row, labels = only(frames[1:])
    assert (row.orig_addr, row.evidence, row.flipped) == ("10.0.0.5", "icmp_reply", True)
    assert labels["ctstate"].tolist() == [ct.CtState.INVALID]


def test_udp() -> None:
    row, labels = only([udp("10.0.0.5", 5000, "10.0.0.53", 53), udp("10.0.0.53", 53, "10.0.0.5", 5000)])
    assert (row.direction, row.state, row.evidence) == ("internal", "REPLIED", "service_port")
    assert labels["ctstate"].tolist() == [ct.CtState.NEW, ct.CtState.ESTABLISHED]


def test_the_perspective_is_given() -> None:
    frames = download("198.51.100.7", 40000, "203.0.113.80", 80)
    for local, direction in (
        (None, "transit"),
        (["198.51.100.0/24"], "egress"),
        ("203.0.113.80", "ingress"),
        (["198.51.100.0/24", "203.0.113.0/24"], "internal"),
    ):
        assert only(frames, local=local)[0].direction == direction
    config = ct.Config(local=["198.51.100.0/24"])
    assert only(frames, config=config)[0].direction == "egress"
    assert only(frames, config=config, local="203.0.113.0/24")[0].direction == "ingress"


def test_frames_outside_connections() -> None:
    result = ct.track(io.BytesIO(pcap_bytes(evenly([arp(), udp("10.0.0.5", 1, "10.0.0.6", 2)]))), labels=True)
    assert result.labels is not None
    label = result.labels[0]
    assert (label["connection"], label["ctstate"], label["ctdir"]) == (-1, ct.CtState.UNTRACKED, ct.CtDir.NONE)
    assert (label["reply"], label["direction"], label["state"]) == (False, ct.Direction.NONE, ct.State.NONE)
    assert result.labels["connection"].tolist() == [-1, 0]


def test_timeouts_cut_connections() -> None:
    packets = [(float(at), udp("10.0.0.5", 5000, "10.0.0.53", 53)) for at in (0, 20, 40)]
    source = pcap_bytes(packets)
    assert len(ct.track(io.BytesIO(source)).connections) == 1
    config = ct.Config(timeouts={"nf_conntrack_udp_timeout": 10})
    assert ct.track(io.BytesIO(source), config=config).connections["end_reason"].tolist() == [
        "timeout",
        "timeout",
        "end_of_capture",
    ]
