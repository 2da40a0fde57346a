"""docs/checkpoint.md decodes checkpoints: a decoder made of its tables meets the end of every part."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import zstandard

import conntrack_py as ct
from support import corpus
from support.packets import ACK, SYN, download, evenly, pcap_bytes, tcp
from support.program import ROOT

PAGE = (ROOT / "docs" / "checkpoint.md").read_text()
TOKEN = re.compile(r"\w+|[\[\](),;]")


def rows(head: str, text: str = PAGE) -> list[list[str]]:
    """The cells of the table with this head."""
    (found,) = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in found.splitlines()]


def structures() -> dict[str, list[str]]:
    """The types of the fields of each structure."""
    parts = re.split(r"^### (\w+)$", PAGE, flags=re.MULTILINE)[1:]
    tables = zip(parts[::2], parts[1::2], strict=True)
    return {name: [row[1].strip("`") for row in rows("field | type | meaning", text)] for name, text in tables}


def enumerations() -> dict[str, list[tuple[str, str]]]:
    """The values of each enumeration, with the type of what follows."""
    values = re.compile(r"(\w+)(?: \(`([^`]+)`\))?(?:, |$)")
    return {name: values.findall(row) for name, row in rows("enumeration | values")}


class Part:
    """A part, read by the types of the page.

    Attributes:
        used: The structures and the values of enumerations that were met.
    """

    used: ClassVar[set[str]] = set()
    structures = structures()
    enumerations = enumerations()

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count, "the part is cut"
        self.at += count
        return taken

    def number(self, bits: int) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                assert value < 1 << bits
                return value

    def whole(self, kind: str) -> Any:
        """The only value of the part."""
        value = self.value(TOKEN.findall(kind))
        assert self.at == len(self.data), f"{kind}: {len(self.data) - self.at} bytes are left"
        return value

    def value(self, tokens: list[str]) -> Any:
        """A value; the tokens of its type are taken from the front."""
        head = tokens.pop(0)
        if head == "(":
            several = []
            while tokens[0] != ")":
                several.append(self.value(tokens))
                if tokens[0] == ",":
                    tokens.pop(0)
            tokens.pop(0)
            return tuple(several)
        if head in ("[", "list", "option"):
            return self.several(head, tokens)
        if head in ("u8", "i8", "bool"):
            (byte,) = self.take(1)
            assert head != "bool" or byte < 2
            return byte
        if head == "text":
            return self.take(self.number(64)).decode()
        if re.fullmatch("[ui][0-9]+", head):
            number = self.number(int(head[1:]))
            return number if head[0] == "u" else (number >> 1) ^ -(number & 1)
        return self.named(head)

    def several(self, head: str, tokens: list[str]) -> Any:
        if head == "list":
            assert tokens.pop(0) == "of"
        inner = self.length(tokens)
        kind = tokens[:inner]
        del tokens[:inner]
        if head == "option":
            (there,) = self.take(1)
            assert there < 2
            return self.value(kind) if there else None
        count = int(tokens[1]) if head == "[" else self.number(64)
        del tokens[: 3 if head == "[" else 0]
        return [self.value(list(kind)) for _ in range(count)]

    @staticmethod
    def length(tokens: list[str]) -> int:
        """The tokens of the first type."""
        if tokens[0] == "option":
            return 1 + Part.length(tokens[1:])
        if tokens[0] == "list":
            return 2 + Part.length(tokens[2:])
        depth = 0
        for at, token in enumerate(tokens, 1):
            depth += (token in "[(") - (token in "])")
            if not depth:
                return at
        raise AssertionError(f"a type without an end: {tokens}")

    def named(self, name: str) -> Any:
        if name in self.structures:
            self.used.add(name)
            return [self.value(TOKEN.findall(kind)) for kind in self.structures[name]]
        values = self.enumerations[name]
        number = self.number(32)
        assert number < len(values), f"{name} {number}"
        word, kind = values[number]
        self.used.add(f"{name}.{word}")
        return word, self.value(TOKEN.findall(kind)) if kind else None


def parts(data: bytes) -> Iterator[bytes]:
    """The parts of a checkpoint, by the section about the file."""
    assert (data[:8], int.from_bytes(data[8:12], "little")) == (b"ctracker", 6)
    assert hashlib.sha1(data[:-20]).digest() == data[-20:]
    frame, at = zstandard.ZstdDecompressor().decompressobj().decompress(data[12:-20]), 0
    while at < len(frame):
        length = int.from_bytes(frame[at : at + 4], "little")
        yield frame[at + 4 : at + 4 + length]
        at += 4 + length
    assert at == len(frame)


def decode(data: bytes) -> dict[str, Any]:
    """The values of a checkpoint, by the table of parts."""
    found, waiting = {}, parts(data)
    for name, kind, _ in rows("part | content | written by"):
        kind = kind.replace("`", "")
        if kind.startswith("series of "):
            left, every = Part(next(waiting)).whole("u64"), []
            while left:
                some = Part(next(waiting)).whole(f"list of {kind.removeprefix('series of ')}")
                assert len(some) == min(left, 1024)
                left -= len(some)
                every += some
            found[name] = every
        else:
            found[name] = Part(next(waiting)).whole(kind)
    assert next(waiting, None) is None, "there are parts that the page does not have"
    return found


def saved(source: Path, path: Path, **options: Any) -> dict[str, Any]:
    """The decoded checkpoint of a tracker that was fed a capture, with what has ended not drained."""
    config = ct.Config(**options)
    tracker = ct.Tracker(config)
    with ct.open_capture(source) as capture:
        for batch in capture:
            tracker.process(batch)
    tracker.save(path)
    found = decode(path.read_bytes())
    live = sum(1 for width in ("narrow", "wide") for slot in found[f"{width} slots"] if slot[1][0])
    assert live + len(found["rows"]) == found["counters"][0], "every connection is live or over"
    assert found["configuration"] == config.to_toml()
    return found


def test_the_demo(demo_pcap: Path, tmp_path: Path) -> None:
    found = saved(demo_pcap, tmp_path / "state", local=["10.0.0.0/8"])
    assert found["counters"] == (17, 0, 0)
    assert len(found["rows"]) == 4


def test_real_captures(corpus_dir: Path, tmp_path: Path) -> None:
    every: tuple[dict[str, Any], ...] = ({}, {"tunnels": "both"}, {"profile": "zeek"})
    for options in every:
        for capture in corpus.captures():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ct.CaptureWarning)
                saved(capture.path, tmp_path / "state", **options)
    # No capture ends between a SYN+ACK and a SYN stored after it, with ports used again.
    frames = [
        *download("10.0.0.1", 40_000, "10.0.0.2", 443, down=0),
        tcp("10.0.0.2", 443, "10.0.0.1", 40_000, SYN | ACK, 7, 9),
    ]
    path = tmp_path / "early.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    [(_, connection)] = saved(path, tmp_path / "state")["narrow cold parts"]
    (_, [[_, tcp_header, *_]], before), lead = connection[-1]
    assert (tcp_header[:2], bool(before), lead) == ([7, 9], True, None)
    # No capture has a fragmented SCTP datagram, and only a snapshot has entries that are alive.
    assert set(Part.structures) - Part.used == {"Sctp", "Live"}
