"""Other programs read in the files the values of the table."""

from __future__ import annotations

import io
import re
import shutil
import socket
import struct
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpkt
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

import conntrack_py as ct
from support import corpus
from support.corpus import address
from support.ipfix_reader import Record, messages
from support.packets import SYN, Packet, download, echo, ethernet, packed, pcap_bytes, tcp, udp

#: IANA: flowEndReason.
REASONS = {"timeout": 1, "closed": 3, "reset": 3, "reused": 3, "end_of_capture": 4, "evicted": 5}
#: Evidence that names an end because one must be named.
ARBITRARY = {"unknown", "first_packet", "answered", "role", "scan", "backscatter"}
#: Rows of a row group.
GROUP = 131_072


def six(src: str, dst: str, proto: int, payload: bytes) -> bytes:
    """An Ethernet frame with an IPv6 packet."""
    ip = struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + socket.inet_pton(socket.AF_INET6, src)
    return bytes(12) + b"\x86\xdd" + ip + socket.inet_pton(socket.AF_INET6, dst) + payload


def tagged(frame: bytes, vid: int) -> bytes:
    return frame[:12] + struct.pack("!HH", 0x8100, vid) + frame[12:]


def gre(src: str, dst: str, inner: bytes) -> bytes:
    """An Ethernet frame with an IPv4 packet in GRE."""
    return ethernet(src, dst, 47, struct.pack("!HH", 0, 0x0800) + inner[14:])


def frames() -> list[bytes]:
    """All that a record has a template for: both families, ports, ICMP in pairs and alone, neither, VLANs."""
    refused = udp("10.0.0.5", 4000, "192.0.2.9", 161, b"?")
    port_unreachable = dpkt.icmp.ICMP(type=3, code=3, data=dpkt.icmp.ICMP.Unreach(data=dpkt.ip.IP(refused[14:])))
    asked = struct.pack("!BBHHH", 128, 0, 0, 9, 1) + b"." * 24
    return [
        *download("10.0.0.5", 51514, "203.0.113.80", 443),
        *download("198.51.100.7", 40000, "10.0.0.80", 80, 5000),
        echo("10.0.0.5", "192.0.2.1", 8),
        echo("192.0.2.1", "10.0.0.5", 0),
        echo("10.0.0.6", "192.0.2.1", 8),
        echo("192.0.2.7", "10.0.0.6", 0),  # an answer alone
        refused,
        ethernet("192.0.2.9", "10.0.0.5", 1, port_unreachable),
        tagged(udp("10.0.0.5", 5353, "10.0.0.53", 53, b"?" * 30), 100),
        tagged(udp("10.0.0.53", 53, "10.0.0.5", 5353, b"!" * 90), 100),
        tagged(tcp("10.0.0.9", 1024, "10.0.0.10", 22, SYN), 7),
        six("2001:db8::5", "2001:db8::1", 17, struct.pack("!HHHH", 50000, 53, 12, 0) + b"????"),
        six("2001:db8::1", "2001:db8::5", 17, struct.pack("!HHHH", 53, 50000, 12, 0) + b"!!!!"),
        six("2001:db8::5", "2001:db8::1", 58, asked),
        six("2001:db8::1", "2001:db8::5", 58, b"\x81" + asked[1:]),
        six("2001:db8::1", "2001:db8::5", 58, struct.pack("!BBHI", 1, 4, 0, 0) + b"." * 48),  # unreachable: port
        ethernet("10.0.0.5", "192.0.2.30", 50, b"esp" * 20),
        ethernet("10.0.0.5", "192.0.2.31", 132, struct.pack("!HHII", 5000, 6000, 0, 0) + b"\1\0\0\x14" + b"\0" * 16),
        gre("198.51.100.1", "198.51.100.2", udp("10.9.0.1", 999, "10.9.0.2", 53, b"?" * 9)),
        gre("198.51.100.2", "198.51.100.1", udp("10.9.0.2", 53, "10.9.0.1", 999, b"!" * 9)),
    ]


@pytest.fixture(scope="module")
def many() -> ct.ConnectionTable:
    """The frames, several times under other addresses and with times that need nanoseconds."""
    packets = [
        (number * 400 + place * 0.001357, frame.replace(packed("10.0.0.5"), packed(f"10.0.1.{number}")))
        for number in range(40)
        for place, frame in enumerate(frames())
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        return ct.track(io.BytesIO(pcap_bytes(packets)), config=ct.Config(tunnels="both")).connections


# ---- IPFIX ----


def expected(row: ct.Connection) -> Record:
    """The record of a row, by the RFCs and what the columns say."""
    version = 4 if "." in row.orig_addr else 6
    record: Record = {
        "flowStartMilliseconds": row.start // 10**6,
        "flowEndMilliseconds": row.end // 10**6,
        "flowStartNanoseconds": row.start,
        "flowEndNanoseconds": row.end,
        f"sourceIPv{version}Address": row.orig_addr,
        f"destinationIPv{version}Address": row.resp_addr,
        "protocolIdentifier": {"udp": 17, "tcp": 6, "icmp": 1, "icmp6": 58, "sctp": 132, "gre": 47, "esp": 50}[
            row.proto
        ],
        "flowEndReason": REASONS[row.end_reason],
        "biflowDirection": int(row.evidence not in ARBITRARY),
        "packetDeltaCount": row.orig_pkts,
        "octetDeltaCount": row.orig_ip_bytes,
        "transportOctetDeltaCount": row.orig_bytes,
    }
    if row.proto in ("tcp", "udp", "sctp"):
        record |= {"sourceTransportPort": row.orig_port, "destinationTransportPort": row.resp_port}
    elif row.proto.startswith("icmp"):
        name, ends = f"icmpTypeCodeIPv{version}", (row.orig_port, row.resp_port)
        if ends in {(8, 0), (128, 129)}:
            record |= {name: ends[0] << 8, f"reverse {name}": ends[1] << 8}
        elif row.orig_pkts:
            record |= {name: ends[0] << 8 | ends[1]}
        else:
            record |= {f"reverse {name}": ends[1] << 8 | ends[0]}
    if row.vlan is not None:
        record["vlanId"] = row.vlan
    if row.resp_pkts:
        record |= {
            "reverse packetDeltaCount": row.resp_pkts,
            "reverse octetDeltaCount": row.resp_ip_bytes,
            "reverse transportOctetDeltaCount": row.resp_bytes,
        }
    return record


def test_ipfix(many: ct.ConnectionTable, tmp_path: Path) -> None:
    many.write(tmp_path / "c.ipfix")
    found = messages((tmp_path / "c.ipfix").read_bytes())
    assert [record for message in found for record in message.records] == [expected(row) for row in many]
    assert len({frozenset(record) for message in found for record in message.records}) >= 12
    sequence, latest = 0, 0
    for message in found:
        assert message.sequence == sequence
        assert message.length <= 1452
        assert message.records
        sequence += len(message.records)
        latest = max(latest, *(int(record["flowEndNanoseconds"]) for record in message.records))
        assert message.exported == -(-latest // 10**9)
    assert len(found) > 10
    assert all(message.length > 1200 for message in found[:-1])


def test_ipfix_of_nothing(tmp_path: Path) -> None:
    ct.track(io.BytesIO(pcap_bytes([]))).connections.write(tmp_path / "c.ipfix")
    assert (tmp_path / "c.ipfix").read_bytes() == b""


def test_times_beyond_ipfix(tmp_path: Path) -> None:
    """A value out of range is clamped, and no other value changes."""
    late = bytearray(pcap_bytes([(0, udp("10.0.0.1", 1, "10.0.0.2", 53))]))
    struct.pack_into("<I", late, 24, 0xFFFFFFFF)
    ct.track(io.BytesIO(bytes(late))).connections.write(tmp_path / "c.ipfix")
    [message] = messages((tmp_path / "c.ipfix").read_bytes())
    assert message.exported == 0xFFFFFFFF
    assert message.records[0]["flowStartMilliseconds"] == 0xFFFFFFFF * 1000


def test_tshark_reads_ipfix(many: ct.ConnectionTable, tmp_path: Path) -> None:
    """Every value in the order of the rows; times to the nanosecond that tshark rounds away."""
    if shutil.which("tshark") is None:
        corpus.missing("tshark is not installed")
    many.write(tmp_path / "c.ipfix")
    command = ["tshark", "-r", str(tmp_path / "c.ipfix"), "-V"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Malformed" not in text
    assert "Expert Info" not in text
    flows = re.split(r"\n +Flow \d+\n", text)[1:]
    assert len(flows) == len(many)
    for flow, row in zip(flows, many, strict=True):
        record = expected(row)
        lines = dict(re.findall(r"^ +([^:\n\[]+): ([^(\n]*)(?=\()?", flow.split("\n    Set ")[0], re.MULTILINE))
        assert (lines["SrcAddr"].strip(), lines["DstAddr"].strip()) == (row.orig_addr, row.resp_addr)
        both = re.findall(r"(Packets|Octets): (\d+)", flow.split("\n    Set ")[0])
        counts = [("Packets", row.orig_pkts), ("Octets", row.orig_ip_bytes)]
        if row.resp_pkts:
            counts += [("Packets", row.resp_pkts), ("Octets", row.resp_ip_bytes)]
        assert [(name, int(value)) for name, value in both] == counts
        assert re.search(rf"Biflow Direction: \w+ \({record['biflowDirection']}\)", flow)
        assert re.search(rf"Flow End Reason: .*\({record['flowEndReason']}\)", flow)
        assert re.search(rf"Protocol: .*\({record['protocolIdentifier']}\)", flow)
        if "sourceTransportPort" in record:
            assert (int(lines["SrcPort"]), int(lines["DstPort"])) == (row.orig_port, row.resp_port)
        if row.vlan is not None:
            assert re.search(rf"Vlan Id: {row.vlan}\b", flow, re.IGNORECASE)
        stamps = re.findall(r"(?:Start|End)Time: (\w+ +\d+, \d+ [\d:]+)\.(\d+) UTC", flow)[:4]
        whole = [int(time.mktime(time.strptime(day, "%b %d, %Y %H:%M:%S"))) - time.timezone for day, _ in stamps]
        nanoseconds = [second * 10**9 + int(rest) for second, (_, rest) in zip(whole, stamps, strict=True)]
        assert nanoseconds[:2] == [row.start // 10**6 * 10**6, row.end // 10**6 * 10**6]
        assert all(abs(found - told) <= 1 for found, told in zip(nanoseconds[2:], (row.start, row.end), strict=True))


def test_nfdump_reads_ipfix(many: ct.ConnectionTable, tmp_path: Path) -> None:
    """nfcapd takes the file's messages as datagrams, misses none, and nfdump has the values of the columns."""
    if shutil.which("nfcapd") is None or shutil.which("nfdump") is None:
        corpus.missing("nfdump is not installed")
    many.write(tmp_path / "c.ipfix")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    into = tmp_path / "flows"
    into.mkdir()
    command = ["nfcapd", "-b", "127.0.0.1", "-p", str(port), "-w", str(into), "-t", "3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as collector:
        assert collector.stdout is not None
        while "Startup" not in (line := collector.stdout.readline()):
            assert line, "nfcapd did not start"
        data = (tmp_path / "c.ipfix").read_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while data:
                length = struct.unpack("!H", data[2:4])[0]
                sock.sendto(data[:length], ("127.0.0.1", port))
                data = data[length:]
                time.sleep(0.005)
        time.sleep(0.5)
        collector.terminate()
        account = collector.stdout.read()
    assert f"Flows: {len(many)}, " in account
    assert "Sequence Errors: 0, Bad Packets: 0" in account
    # Its csv: start, end, duration, addresses, ports, protocol, ..., packets and bytes in, packets and bytes out.
    command = ["nfdump", "-R", str(into), "-q", "-N", "-6", "-o", "fmt:%sa,%sp,%da,%dp,%ipkt,%ibyt,%opkt,%obyt"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [[word.strip() for word in line.split(",")] for line in lines if line.count(",") == 7]
    assert len(found) == len(many)
    for words, row in zip(found, many, strict=True):
        if row.proto in ("tcp", "udp", "sctp"):
            ends = (words[0], int(words[1]), words[2], int(words[3]))
            assert ends == (row.orig_addr, row.orig_port, row.resp_addr, row.resp_port)
        counts = [int(word) for word in words[4:]]
        assert counts == [row.orig_pkts, row.orig_ip_bytes, row.resp_pkts, row.resp_ip_bytes]


# ---- Zeek ----

_READ: dict[str, Callable[[str], Any]] = {
    "time": lambda text: int(text.replace(".", "")) * 1000,
    "interval": lambda text: int(text.replace(".", "")) * 1000,
    "count": int,
    "port": int,
    "addr": address,
    "string": str,
    "enum": str,
    "bool": {"T": True, "F": False}.__getitem__,
    "set[string]": lambda text: set(text.split(",")),
}


def zeek_log(text: str) -> list[dict[str, Any]]:
    """The lines of a log, as zeek-cut reads it: the header says what separates, what is unset, and all types."""
    lines = text.split("\n")
    assert lines.pop() == "", "the last line ends"
    assert lines[0] == "#separator \\x09"
    head = dict(line[1:].split("\t", 1) for line in lines[1:] if line.startswith("#"))
    assert list(head) == ["set_separator", "empty_field", "unset_field", "path", "open", "fields", "types", "close"]
    assert lines[-1].startswith("#close")
    assert sum(line.startswith("#") for line in lines) == 9, "one header"
    fields, types = head["fields"].split("\t"), head["types"].split("\t")
    rows = []
    for line in lines:
        if not line.startswith("#"):
            words = line.split("\t")
            values = zip(fields, types, words, strict=True)
            rows.append({name: None if word == "-" else _READ[kind](word) for name, kind, word in values})
    return rows


def test_zeek_log(many: ct.ConnectionTable, tmp_path: Path) -> None:
    many.write(tmp_path / "conn.log")
    rows = zeek_log((tmp_path / "conn.log").read_text())
    assert len({line["uid"] for line in rows}) == len(rows) == len(many)
    transports = {"icmp6": "icmp", "gre": "unknown_transport", "esp": "unknown_transport", "sctp": "unknown_transport"}
    for line, row in zip(rows, many, strict=True):
        assert abs(line["ts"] - row.start) <= 500
        assert (line["id.orig_h"], line["id.orig_p"]) == (address(row.orig_addr), row.orig_port)
        assert (line["id.resp_h"], line["id.resp_p"]) == (address(row.resp_addr), row.resp_port)
        assert line["proto"] == transports.get(row.proto, row.proto)
        assert (line["conn_state"], line["history"] or "") == (row.conn_state, row.history)
        assert (line["orig_pkts"], line["orig_ip_bytes"]) == (row.orig_pkts, row.orig_ip_bytes)
        assert (line["resp_pkts"], line["resp_ip_bytes"]) == (row.resp_pkts, row.resp_ip_bytes)
        assert line["community_id"] == row.community_id
        sizes = (row.orig_bytes, row.resp_bytes) if line["duration"] else (None, None)
        assert (line["orig_bytes"], line["resp_bytes"]) == sizes
        parent = rows[row.related_to]["uid"] if row.tunnel else None
        assert line["tunnel_parents"] == (parent and {parent})


def test_uids_in_many_tables(tmp_path: Path) -> None:
    """A tunnel has the name that what it carries gives it, though it is written later; runs share no names."""
    packets: list[Packet] = []
    for place in range(10):
        inner = udp("10.9.0.1", 999 + place, "10.9.0.2", 53, b"?" * 9)
        packets.append((place * 10, gre("198.51.100.1", "198.51.100.2", inner)))
    path = tmp_path / "conn.log"
    with ct.ConnectionWriter(path) as writer:
        for _ in range(2):
            tracker = ct.Tracker(ct.Config(tunnels="both"))
            for packet in packets:
                tracker.process(ct.PacketBatch.from_dpkt([packet], linktype=1))
                writer.write(tracker.drain())
            writer.write(tracker.finish())
    rows = zeek_log(path.read_text())
    assert len({line["uid"] for line in rows}) == len(rows) == 22
    tunnels = {line["uid"] for line in rows if line["id.orig_h"] == address("198.51.100.1")}
    assert len(tunnels) == 2
    named = [line["tunnel_parents"] for line in rows if line["uid"] not in tunnels]
    assert [len(parents & tunnels) for parents in named] == [1] * 20
    assert set.union(*named) == tunnels


# ---- parquet ----


def test_parquet(tmp_path: Path) -> None:
    """Row groups of one size, statistics, zstd; DuckDB and PyArrow have the table's values."""
    path = tmp_path / "c.parquet"
    frame = bytearray(udp("10.0.0.0", 1024, "192.0.2.1", 53, b"?"))
    frames = []
    for number in range(GROUP + 1000):
        struct.pack_into("!I", frame, 26, 0x0A000000 | number)
        frames.append(bytes(frame))
    tracker = ct.Tracker()
    tracker.process(ct.PacketBatch.from_frames(frames, [10**18 + 1001 * place for place in range(len(frames))], 1))
    table = tracker.finish()
    table.write(path)
    file = pyarrow.parquet.ParquetFile(path)
    words = [
        (field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type) for field in pa.schema(table)
    ]
    plain = pa.schema([pa.field(name, kind, pa.schema(table).field(name).nullable) for name, kind in words])
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [GROUP, 1000]
    for group in range(2):
        for place in range(len(table.columns)):
            column = file.metadata.row_group(group).column(place)
            assert column.compression == "ZSTD"
            assert column.is_stats_set
    start = file.metadata.row_group(1).column(0)
    assert start.path_in_schema == "start"
    assert start.statistics.min.value == 10**18 + 1001 * GROUP
    assert start.has_column_index
    assert path.stat().st_size < 50 * len(table)
    back = pl.read_parquet(path).with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert back.equals(table.to_polars().with_columns(pl.col(pl.Categorical).cast(pl.String)))
    whole = [file.read().cast(plain), pa.table(table).cast(plain)]
    assert whole[0].equals(whole[1])
    same = "select count(*) from (select * from '{}' except all select * from table_) as t"
    table_ = pa.table(table)
    assert table_.num_rows == len(table)
    assert duckdb.sql(same.format(path)).fetchall() == [(0,)]
