"""The corpus of real captures and what third parties expect of them (`../shared/corpus` beside the project).

Nothing here uses the library under test. Records are read with dpkt's header classes: dpkt's own readers hide the
length on the wire, the offset and, in pcapng, the interface.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import io
import ipaddress
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import dpkt  # type: ignore[import-untyped]
import pytest

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT.parent / "shared" / "corpus"
MORE = ROOT.parent / "shared" / "more"

#: Lines that conftest.py prints when the session ends.
SUMMARY: list[str] = []

#: Settings of a Zeek test that leave five-tuples and sums as they are.
_HARMLESS = (
    "redef:Site::local_nets",
    "redef:likely_server_ports",
    "redef:PacketAnalyzer::SKIP",
    "script-calls:PacketAnalyzer::SKIP",
    "custom-conn-key",
    "extra-id-fields",
    "vlan-in-key",
    "cmdline:ignore_checksums_nets",
    "redef:ignore_checksums_nets",
)
#: Zeek's logs of some connections, each with the connection's originator.
_ZEEK_LOGS = frozenset({"dns", "http", "http.log.cut", "ssh", "ftp", "ssl", "kerberos", "ntp"})

Endpoint = tuple[str, int]


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail where nothing may be skipped (`CI=true`)."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def library() -> Any:
    """The library under test."""
    try:
        return importlib.import_module("conntrack_py")
    except ModuleNotFoundError as error:
        if error.name != "conntrack_py":
            raise
        missing("conntrack_py is not installed: build it with `maturin develop`")


@dataclass(frozen=True)
class Record:
    """One captured packet."""

    offset: int  #: of its header in the file
    ts: int  #: nanoseconds since the epoch
    linktype: int
    wire: int  #: length on the wire
    data: bytes  #: what was captured of it


@dataclass(frozen=True, eq=False)
class Expected:
    """One connection as an oracle has it; a field is None where the oracle does not log it."""

    proto: int | None
    orig: Endpoint
    resp: Endpoint
    packets: tuple[int | None, int | None]  #: of the originator, of the responder
    ip_bytes: tuple[int | None, int | None]
    payload: tuple[int | None, int | None]
    wire: tuple[int | None, int | None]
    offsets: tuple[int, ...] | None  #: of the records, Arkime only
    fields: Mapping[str, Any]  #: everything that the oracle says of it, in the words of the corpus


@dataclass(frozen=True)
class Expectation:
    """The comparable results of one test of one oracle on a capture."""

    oracle: str  #: "zeek", "ndpi" or "arkime"
    test: str
    complete: bool  #: False: it lists some connections only
    sums: bool  #: packets and bytes can be trusted
    checksum: bool  #: packets with wrong checksums were not counted
    connections: tuple[Expected, ...]
    log: str  #: which log of Zeek's it is
    trusted: frozenset[str]  #: what the oracle may be trusted for
    bare: bool  #: Zeek ran without its default scripts
    likely_server_ports: tuple[str, ...]
    local_nets: str | None  #: Zeek's words
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """A Suricata check: so many flow records have these fields."""

    test: str
    count: int
    match: dict[str, Any]
    checksum: bool


@dataclass(frozen=True, eq=False)
class Capture:
    """A capture of the corpus."""

    path: Path
    packets: int
    expectations: tuple[Expectation, ...]
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @functools.cached_property
    def records(self) -> list[Record]:
        """Its packets in capture order."""
        raw = self.path.read_bytes()
        return read_records(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)


@functools.cache
def captures() -> tuple[Capture, ...]:
    """All captures of the corpus; none where it is absent (`require` says so)."""
    listing = CORPUS / "expected.jsonl"
    if not listing.exists():
        return ()
    return tuple(_capture(CORPUS, json.loads(line)) for line in listing.read_text().splitlines())


@functools.cache
def more_captures() -> tuple[Capture, ...]:
    """The further captures beside the corpus, without copies of each other; none where they are absent."""
    listing = MORE / "expected.jsonl"
    if not listing.exists():
        return ()
    entries = {entry["sha1"]: entry for entry in map(json.loads, listing.read_text().splitlines())}
    return tuple(_capture(MORE, entry) for entry in entries.values())


def require() -> None:
    """Skip or fail where the corpus is absent."""
    if not captures():
        missing("the corpus is not at ../shared/corpus beside the project")


def _capture(folder: Path, entry: dict[str, Any]) -> Capture:
    expectations = tuple(e for e in map(_expectation, entry["expectations"]) if e)
    checks = tuple(
        Check(e["test"], check["count"], check["match"], not e["settings"]["ignore_checksums"])
        for e in entry["expectations"]
        if e["oracle"] == "suricata-verify"
        for check in e["checks"]
    )
    return Capture(folder / entry["file"], entry["packets"], expectations, checks)


def _expectation(entry: dict[str, Any]) -> Expectation | None:
    """The usable part of an expectation: None where a filter or a script changed what the oracle saw."""
    oracle, log = entry["oracle"].partition("-")[::2]
    settings, trusted = entry["settings"], entry["oracle_for"]
    if oracle == "zeek":
        caveats = settings["caveats"]
        if settings["bpf_filter"] or not all(c.startswith(_HARMLESS) for c in caveats):
            return None
        if log != "conn.log" and log not in _ZEEK_LOGS:
            return None
        # Verification is off for the sender with wrong checksums: the same as off.
        ignored = settings["ignore_checksums"] or any("ignore_checksums_nets" in c for c in caveats)
    elif oracle in ("ndpi", "arkime"):
        ignored = True
    else:
        return None
    connections = tuple(c for c in map(_connection, entry["connections"]) if c)
    if not connections:
        return None
    return Expectation(
        oracle=oracle,
        test=entry.get("test") or oracle,
        complete=entry["complete"],
        sums="packets" in trusted,
        checksum=not ignored,
        connections=connections,
        log=log,
        trusted=frozenset(trusted),
        bare=bool(settings.get("bare")),
        likely_server_ports=tuple(settings.get("likely_server_ports") or ()),
        local_nets=None if settings.get("local_nets") is None else str(settings["local_nets"]),
        caveats=tuple(settings.get("caveats") or ()),
    )


def _connection(row: dict[str, Any]) -> Expected | None:
    """None where the oracle's log leaves out endpoints."""
    if None in (row["orig_ip"], row["orig_port"], row["resp_ip"], row["resp_port"]):
        return None
    pairs = {
        name: (row.get(f"orig_{column}"), row.get(f"resp_{column}"))
        for name, column in (
            ("packets", "pkts"),
            ("ip_bytes", "ip_bytes"),
            ("payload", "payload_bytes"),
            ("wire", "wire_bytes"),
        )
    }
    offsets = row.get("packet_offsets")
    return Expected(
        proto=row["proto"],
        orig=(address(row["orig_ip"]), row["orig_port"]),
        resp=(address(row["resp_ip"]), row["resp_port"]),
        offsets=None if offsets is None else tuple(offsets),
        fields=row,
        **pairs,
    )


def address(text: str) -> str:
    """An address in its one canonical form."""
    # nDPI writes a single group of zeros as `::` too (`ndpi_patchIPv6Address`).
    while text.count("::") > 1:
        text = text.replace("::", ":0:", 1)
    return str(ipaddress.ip_address(text))


def read_records(raw: bytes) -> list[Record]:
    """All whole records of a pcap or pcapng file."""
    return _read_pcapng(raw) if raw[:4] == b"\n\r\r\n" else _read_pcap(raw)


def _read_pcap(raw: bytes) -> list[Record]:
    header = dpkt.pcap.FileHdr(raw[:24])
    magic = header.magic
    little = magic in (dpkt.pcap.PMUDPCT_MAGIC, dpkt.pcap.PMUDPCT_MAGIC_NANO, dpkt.pcap.PACPDOM_MAGIC)
    header = dpkt.pcap.LEFileHdr(raw[:24]) if little else header
    unit = 1 if magic in (dpkt.pcap.TCPDUMP_MAGIC_NANO, dpkt.pcap.PMUDPCT_MAGIC_NANO) else 1000
    parse = dpkt.pcap.MAGIC_TO_PKT_HDR[magic]
    found, at = [], 24
    while at + parse.__hdr_len__ <= len(raw):
        record = parse(raw[at : at + parse.__hdr_len__])
        start = at + parse.__hdr_len__
        if start + record.caplen > len(raw):
            break
        ts = record.tv_sec * 10**9 + record.tv_usec * unit
        data = raw[start : start + record.caplen]
        found.append(Record(at, ts, header.linktype & 0xFFFF, record.len, data))
        at = start + record.caplen
    return found


def _read_pcapng(raw: bytes) -> list[Record]:
    png = dpkt.pcapng
    found: list[Record] = []
    interfaces: list[tuple[int, int]] = []  # link type, ticks per second
    order, at = "little", 0
    while at + 12 <= len(raw):
        if raw[at : at + 4] == b"\n\r\r\n":
            order = "little" if raw[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else "big"
            interfaces = []
        kind, size = (int.from_bytes(raw[i : i + 4], "little" if order == "little" else "big") for i in (at, at + 4))
        block = raw[at : at + size]
        if size < 12 or len(block) < size:
            break
        if kind == png.PCAPNG_BT_IDB:
            parsed = (png.InterfaceDescriptionBlockLE if order == "little" else png.InterfaceDescriptionBlock)(block)
            ticks = 10**6
            for option in parsed.opts:
                if option.code == png.PCAPNG_OPT_IF_TSRESOL:
                    ticks = (2 if option.data[0] & 128 else 10) ** (option.data[0] & 127)
            interfaces.append((parsed.linktype, ticks))
        elif kind == png.PCAPNG_BT_EPB:
            parsed = (png.EnhancedPacketBlockLE if order == "little" else png.EnhancedPacketBlock)(block)
            linktype, ticks = interfaces[parsed.iface_id]
            ts = (parsed.ts_high << 32 | parsed.ts_low) * 10**9 // ticks
            found.append(Record(at, ts, linktype, parsed.pkt_len, bytes(parsed.pkt_data)))
        at += size
    return found


def write_pcap(records: list[Record]) -> bytes:
    """A pcap file of some records of one link type, with their wire lengths, by dpkt."""
    stream = io.BytesIO()
    dpkt.pcap.Writer(stream, snaplen=262144, linktype=records[0].linktype if records else 1, nano=True)
    parse = dpkt.pcap.LEPktHdr if sys.byteorder == "little" else dpkt.pcap.PktHdr
    for record in records:
        seconds, rest = divmod(record.ts, 10**9)
        stream.write(bytes(parse(tv_sec=seconds, tv_usec=rest, caplen=len(record.data), len=record.wire)))
        stream.write(record.data)
    return stream.getvalue()
