"""The same packets once more: with what is said of each, and by direction."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import dpkt
import numpy as np
import pytest
from click.testing import CliRunner

import conntrack_py as ct
from conntrack_py.cli import cli
from support import corpus
from support.packets import Packet

BITS = {("EGRESS", False): 2, ("EGRESS", True): 1, ("INGRESS", False): 1, ("INGRESS", True): 2}


def blocks(raw: bytes) -> list[dict[int, bytes]]:
    """The options of every packet block, by dpkt."""
    found, at = [], 0
    while at < len(raw):
        kind, size = (int.from_bytes(raw[place : place + 4], "little") for place in (at, at + 4))
        if kind == dpkt.pcapng.PCAPNG_BT_EPB:
            block = dpkt.pcapng.EnhancedPacketBlockLE(raw[at : at + size])
            found.append({option.code: bytes(option.data) for option in block.opts})
        at += size
    return found


@pytest.mark.parametrize("capture", corpus.captures()[::2], ids=lambda capture: capture.name)
def test_the_corpus_is_written_again(capture: corpus.Capture, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        whole = ct.track(capture.path, labels=True)
        again = ct.label(capture.path, tmp_path / "out.pcapng")
        same = ct.track(tmp_path / "out.pcapng", labels=True)
        _, files = ct.split(capture.path, tmp_path / "parts")
    assert whole.labels is not None
    assert same.labels is not None
    assert list(again.connections) == list(whole.connections) == list(same.connections)
    assert np.array_equal(same.labels, whole.labels)
    raw = (tmp_path / "out.pcapng").read_bytes()
    records = corpus.read_records(raw)
    assert [r.data for r in records][: len(capture.records)] == [r.data for r in capture.records]
    options = blocks(raw)
    assert len(options) == len(whole.labels)
    for label, said in zip(whole.labels, options, strict=True):
        bits = BITS.get((ct.Direction(label["direction"]).name, bool(label["reply"])), 0)
        assert int.from_bytes(said.get(2, b""), "little") == bits
        if label["connection"] < 0:
            assert 1 not in said
            continue
        row = whole.connections[int(label["connection"])]
        words = dict(word.split("=", 1) for word in said[1].decode().split())
        assert words["ctstate"] == ct.CtState(label["ctstate"]).name
        assert words["direction"] == row.direction
        assert words["evidence"] == row.evidence
        assert row.orig_addr in words["orig"]
    counts = {file.stem: len(corpus.read_records(file.read_bytes())) for file in files}
    names, numbers = np.unique(whole.labels["direction"], return_counts=True)
    assert counts == {ct.Direction(name).name.lower(): n for name, n in zip(names, numbers.tolist(), strict=True)}
    assert sorted((tmp_path / "parts").iterdir()) == sorted(files)


def test_wireshark_reads_them(mixed: list[Packet], pcap: Callable[..., Path], tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        corpus.missing("tshark is not installed")
    ct.label(pcap(mixed), tmp_path / "out.pcapng")
    fields = ["-T", "fields", "-e", "frame.packet_flags_direction", "-e", "frame.comment"]
    done = subprocess.run(
        ["tshark", "-r", tmp_path / "out.pcapng", *fields], capture_output=True, text=True, check=True
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(mixed)
    assert lines[0][0] in ("2", "0x00000002")
    assert lines[1][0] in ("1", "0x00000001")
    assert lines[0][1].startswith("orig=10.0.0.5:51514 resp=203.0.113.80:443 direction=egress sender=orig ctstate=NEW")
    assert lines[-1] == [""] or lines[-1] == ["", ""]


def test_what_can_be_read_only_once(demo_pcap: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="source: <BytesIO> can be read only once; write it to a file first"):
        ct.label(io.BytesIO(demo_pcap.read_bytes()), tmp_path / "out.pcapng")
    done = CliRunner().invoke(cli, ["split", "-", "-o", str(tmp_path / "parts")])
    assert (done.exit_code, done.stderr) == (
        2,
        "conntrack-py: source: - can be read only once; write it to a file first\n",
    )


def test_a_name_that_sorts_before_the_standard_input(
    demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(demo_pcap, "(1).pcap")
    assert ct.split("(1).pcap", "parts")[1]


def test_failures_leave_nothing(demo_pcap: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ct.label(demo_pcap, tmp_path / "no" / "out.pcapng")
    with pytest.raises(FileExistsError):
        ct.split(demo_pcap, demo_pcap)
    assert list(tmp_path.iterdir()) == []


def test_to_a_pipe(demo_pcap: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["label", str(demo_pcap), "-o", "-"])
    ct.label(demo_pcap, tmp_path / "out.pcapng")
    assert done.stdout_bytes == (tmp_path / "out.pcapng").read_bytes()
