"""Each kind of flow log, by small logs of every form: what is read, what is null, what is said of bad records."""

from __future__ import annotations

import gzip
import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import conntrack_py as ct

V2 = "2 123456789012 eni-1 {} {} {} {} {} {} {} {} {} ACCEPT OK"
CUSTOM = "interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status tcp-flags"


def read(text: str | bytes, kind: str | None = None, **more: Any) -> ct.FlowResult:
    """The result of a log, without its warnings."""
    data = text if isinstance(text, bytes) else text.encode()
    from conntrack_py import flows

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.FlowWarning)
        return flows.read(io.BytesIO(data), kind, **more)


def rows(text: str | bytes, kind: str | None = None, **more: Any) -> list[ct.Connection]:
    return list(read(text, kind, **more).connections)


def custom(*records: str) -> str:
    return "\n".join((CUSTOM, *records)) + "\n"


CLIENT = "eni-1 10.0.0.5 10.0.1.9 40000 5432 6 {} {} {} {} {} OK {}"
SERVER = "eni-1 10.0.1.9 10.0.0.5 5432 40000 6 {} {} {} {} {} OK {}"

PAIR = (
    CLIENT.format(10, 800, 1700000000, 1700000050, "ACCEPT", 2),
    SERVER.format(8, 900, 1700000000, 1700000050, "ACCEPT", 18),
)


def test_aws_version_2_needs_no_head_and_asks_for_flags() -> None:
    lines = (
        V2.format("10.0.0.5", "10.0.1.9", 40000, 5432, 6, 10, 800, 1700000000, 1700000050),
        V2.format("10.0.1.9", "10.0.0.5", 5432, 40000, 6, 8, 9000, 1700000000, 1700000050),
    )
    with pytest.warns(ct.FlowWarning, match="add tcp-flags"):
        table = ct.read_flows(io.BytesIO("\n".join(lines).encode()))
    row = table[0]
    assert (row.orig_addr, row.resp_port, row.evidence) == ("10.0.0.5", 5432, "service_port")
    assert (row.orig_pkts, row.orig_ip_bytes, row.resp_ip_bytes) == (10, 800, 9000)
    missing = (row.state, row.conn_state, row.history, row.assured, row.orig_bytes, row.end_reason)
    assert missing == (None,) * len(missing)
    assert (row.records, row.observed_at, row.refused, row.sampled) == (2, "eni-1", None, None)
    assert table["orig_bytes"].tolist() == [0]
    assert table.unknown("orig_bytes").tolist() == [True]
    assert not table.unknown("orig_pkts").any()


def test_aws_flags_of_all_windows_together_name_the_originator() -> None:
    # The port of the service is the client's: only the SYN, in a later line, tells.
    swapped = custom(
        "eni-1 10.0.1.9 10.0.0.5 5432 40000 6 5 300 1700000060 1700000110 ACCEPT OK 1",
        "eni-1 10.0.0.5 10.0.1.9 40000 5432 6 5 300 1700000000 1700000050 ACCEPT OK 18",
        "eni-1 10.0.1.9 10.0.0.5 5432 40000 6 5 300 1700000000 1700000050 ACCEPT OK 2",
    )
    (row,) = rows(swapped)
    assert (row.orig_port, row.evidence, row.records, row.confidence) == (5432, "syn", 3, 1.0)
    (row,) = rows(custom(SERVER.format(5, 300, 1700000000, 1700000050, "ACCEPT", 19)))
    assert (row.orig_addr, row.resp_pkts, row.orig_pkts) == ("10.0.0.5", 5, 0)
    both = custom(
        CLIENT.format(1, 60, 1700000000, 1700000000, "ACCEPT", 2),
        SERVER.format(2, 99, 1700000000, 1700000009, "ACCEPT", 18),
    )
    assert rows(both)[0].evidence == "syn"


def test_aws_refusals_name_who_refused() -> None:
    fields = CUSTOM + " flow-direction"
    record = "eni-9 10.0.0.5 10.0.1.9 40000 22 6 1 60 1700000000 1700000000 REJECT OK 2 {}"
    for direction, refused in (("ingress", "resp"), ("egress", "orig")):
        (row,) = rows(f"{fields}\n{record.format(direction)}\n")
        assert (row.refused, row.evidence) == (refused, "syn")
    # Without a direction: where the interface is, by the address that all of its records have.
    at_client = custom(
        CLIENT.format(1, 60, 1700000000, 1700000000, "REJECT", 2),
        "eni-1 10.0.0.5 10.0.7.7 40001 443 6 1 60 1700000000 1700000000 ACCEPT OK 2",
    )
    assert {row.resp_port: row.refused for row in rows(at_client)} == {5432: "orig", 443: None}
    # An accepted connection of which a late packet was refused is none that was refused.
    late = custom(
        CLIENT.format(9, 600, 1700000000, 1700000050, "ACCEPT", 3),
        CLIENT.format(1, 60, 1700000060, 1700000060, "REJECT", 0),
    )
    assert rows(late)[0].refused is None
    # AWS's own example of a ping whose answer a network ACL refuses.
    ping = custom(
        "eni-1 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK 0",
        "eni-1 172.31.16.139 203.0.113.12 0 0 1 4 336 1432917094 1432917142 REJECT OK 0",
    )
    (row,) = rows(ping)
    assert (row.proto, row.orig_port, row.orig_addr, row.refused) == ("icmp", None, "203.0.113.12", "resp")


def test_aws_records_that_are_none_are_counted_with_their_place() -> None:
    text = custom(
        "- 10.0.0.5 - - - - - - 1700000000 1700000050 - NODATA -",
        "eni-1 - - - - - - - 1700000000 1700000050 - SKIPDATA -",
        "eni-1 10.0.0.5 10.0.1.9 40000 5432 6 1 60 1700000000 ACCEPT OK 2",
        "eni-1 10.0.0.5 10.0.1.9 40000 99999 6 1 60 1700000000 1700000001 ACCEPT OK 2",
        "eni-1 10.0.0.5 10.0.1.9 - - 6 1 60 1700000000 1700000001 ACCEPT OK 2",
        "eni-1 10.0.0.5 10.0.1.9 40000 5432 6 1 60 164000066 1640000297 ACCEPT OK 2",
        CLIENT.format(1, 60, 1700000000, 1700000001, "ACCEPT", 2),
    )
    result = read(text)
    stats = result.stats
    assert (len(result.connections), stats.no_data, stats.records, stats.other) == (1, 1, 8, 1)
    assert stats.missing is not None
    assert stats.missing.place == 3
    assert {reason: (one.count, one.place) for reason, one in stats.skipped.items()} == {
        "aws: another number of fields than the format has": (1, 4),
        "aws: a port that is none": (1, 5),
        "aws: no port": (1, 6),
        "aws: a window of more than a day": (1, 7),
    }
    assert "first at <BytesIO>:4: eni-1 10.0.0.5" in " ".join(stats.warnings())


def test_aws_formats_that_cannot_be_paired_name_their_missing_fields() -> None:
    with pytest.raises(ct.FlowError, match="the format has no srcport, dstport, protocol, start, end"):
        read("instance-id interface-id srcaddr dstaddr pkt-srcaddr pkt-dstaddr\n- eni-1 10.0.1.5 10.0.0.220 - -\n")
    bare = CLIENT.format(1, 60, 1700000000, 1700000001, "ACCEPT", 2) + "\n"
    with pytest.raises(ct.FlowError, match=r"--fields"):
        read(bare)
    assert rows(bare, fields=CUSTOM)[0].evidence == "syn"
    assert rows(bare, fields="${" + "} ${".join(CUSTOM.split()) + "}")[0].evidence == "syn"
    with pytest.raises(ct.FlowError, match="not of kind azure: no JSON"):
        read(bare, "azure")


def test_the_packet_has_other_addresses_than_the_interface() -> None:
    text = (
        "srcaddr dstaddr pkt-srcaddr pkt-dstaddr srcport dstport protocol packets bytes start end\n"
        "10.0.0.220 10.0.1.5 203.0.113.5 10.0.1.5 443 40000 6 1 60 1700000000 1700000001\n"
    )
    assert {rows(text)[0].orig_addr, rows(text)[0].resp_addr} == {"203.0.113.5", "10.0.1.5"}


def test_two_interfaces_never_double_the_counts() -> None:
    one = [
        CLIENT.format(10, 800, 1700000000, 1700000050, "ACCEPT", 2),
        SERVER.format(8, 900, 1700000000, 1700000050, "ACCEPT", 18),
    ]
    two = [line.replace("eni-1", "eni-2") for line in one]
    alone, both = rows(custom(*one))[0], rows(custom(*one, *two))[0]
    assert (both.orig_pkts, both.resp_ip_bytes) == (alone.orig_pkts, alone.resp_ip_bytes) == (10, 900)
    assert (both.observed_at, both.records) == ("eni-1,eni-2", 4)
    assert read(custom(*one, *two)).stats.seen_twice == 1


def test_parquet_is_the_same_as_text(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    lines = [
        CLIENT.format(10, 800, 1700000000, 1700000050, "ACCEPT", 2),
        SERVER.format(8, 900, 1700000000, 1700000050, "ACCEPT", 18),
    ]
    names = CUSTOM.replace("-", "_").split()
    columns: list[list[Any]] = [list(column) for column in zip(*(line.split() for line in lines), strict=True)]
    arrays = [pa.array([int(one) for one in column] if column[0].isdigit() else column) for column in columns]
    pq.write_table(pa.table(arrays, names=names), tmp_path / "flows.parquet")
    assert ct.read_flows(tmp_path / "flows.parquet") == read(custom(*lines)).connections
    with (tmp_path / "flows.parquet").open("rb") as file:
        assert ct.read_flows(file) == read(custom(*lines)).connections


NSG = {
    "time": "2023-11-14T22:13:20Z",
    "category": "NetworkSecurityGroupFlowEvent",
    "properties": {
        "Version": 2,
        "flows": [
            {
                "rule": "UserRule",
                "flows": [
                    {
                        "mac": "000D3AF87856",
                        "flowTuples": [
                            "1700000060,10.0.0.5,52.1.1.1,40000,443,T,O,A,E,5,500,4,4000",
                            "1700000000,10.0.0.5,52.1.1.1,40000,443,T,O,A,B,,,,",
                            "1700000030,10.0.0.5,52.1.1.1,40000,443,T,O,A,C,7,700,6,6000",
                            "1700000000,94.102.49.190,10.0.0.5,28746,22,T,I,D,B,,,,",
                            "1700000000,10.0.0.5",
                        ],
                    }
                ],
            }
        ],
    },
}
VNET = {
    "flowLogVersion": 4,
    "macAddress": "00224871C205",
    "flowRecords": {
        "flows": [
            {
                "aclID": "1",
                "flowGroups": [
                    {
                        "rule": "r",
                        "flowTuples": [
                            "1700000000000,10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0",
                            "1700000060000,10.0.0.6,192.0.2.180,23956,443,6,O,E,NX,3,767,2,1580",
                            "1700000000000,10.0.0.6,192.0.2.181,0,0,1,O,D,NX,0,0,0,0",
                        ],
                    }
                ],
            }
        ]
    },
}


@pytest.mark.parametrize("form", ['{{"records": [{0}, {0}]}}', "{0}\n{0}\n", "[{0},\n{0}]", "{0}{0}"])
def test_azure_in_every_form_of_json(form: str) -> None:
    result = read(form.format(json.dumps(NSG)))
    denied, allowed = sorted(result.connections, key=lambda row: row.resp_port)
    assert (allowed.evidence, allowed.orig_pkts, allowed.resp_ip_bytes) == ("flow_state", 24, 20000)
    assert (denied.refused, denied.evidence, denied.orig_pkts, denied.seen_reply) == ("resp", "flow_state", None, None)
    assert result.stats.skipped["azure: a tuple of neither 8 nor 13 fields"].count == 2
    assert result.stats.kinds == {"<BytesIO>": "azure"}


def test_azure_version_4_has_milliseconds_and_other_states() -> None:
    icmp, tcp = sorted(rows(json.dumps({"records": [VNET]}, indent=1)), key=lambda row: row.proto)
    assert (tcp.start, tcp.end) == (1_700_000_000_000_000_000, 1_700_000_060_000_000_000)
    assert (tcp.orig_pkts, tcp.resp_ip_bytes, tcp.refused) == (3, 1580, None)
    assert (icmp.refused, icmp.orig_port) == ("orig", None)
    seconds = json.dumps(VNET).replace("000000000,", "000000,")
    assert sorted(rows(seconds), key=lambda row: row.proto)[1].start == tcp.start


def gcp(
    src: str, dst: str, ports: tuple[int, int], reporter: str, vm: str, start: str, text: bool = True
) -> dict[str, Any]:
    number = str if text else int
    instance = "src_instance" if reporter == "SRC" else "dest_instance"
    return {
        "jsonPayload": {
            "connection": {"src_ip": src, "dest_ip": dst, "src_port": ports[0], "dest_port": ports[1], "protocol": 6},
            "bytes_sent": number(1000),
            "packets_sent": number(10),
            "reporter": reporter,
            "start_time": start,
            "end_time": "2023-11-14T22:13:30Z",
            instance: {"vm_name": vm, "project_id": "p"},
        },
        "logName": "projects/p/logs/compute.googleapis.com%2Fvpc_flows",
    }


def test_gcp_takes_one_reporter_and_tells_that_packets_are_sampled() -> None:
    start = "2023-11-14T22:13:20.5Z"
    there, back = ("10.0.0.5", "10.0.1.9", (40000, 5432)), ("10.0.1.9", "10.0.0.5", (5432, 40000))
    entries = [
        gcp(*there, "SRC", "client", start),
        gcp(*there, "DEST", "server", start, text=False),
        gcp(*back, "SRC", "server", start),
        gcp(*back, "DEST", "client", start),
        {"jsonPayload": {"rule_details": {}}},
    ]
    result = read("\n".join(map(json.dumps, entries)))
    (row,) = result.connections
    assert (row.orig_addr, row.orig_pkts, row.resp_pkts, row.records) == ("10.0.0.5", 10, 10, 4)
    assert (row.sampled, row.observed_at, row.start) == (0, "client,server", 1_700_000_000_500_000_000)
    assert (result.stats.sampled, result.stats.other) == (4, 1)


CONN = {
    "ts": 1700000000.123456,
    "uid": "C1",
    "id.orig_h": "10.0.0.5",
    "id.orig_p": 40000,
    "id.resp_h": "10.0.1.9",
    "id.resp_p": 22,
    "proto": "tcp",
    "duration": 1.5,
    "orig_bytes": 100,
    "resp_bytes": 200,
    "conn_state": "SF",
    "history": "ShADadFf",
    "orig_pkts": 5,
    "orig_ip_bytes": 400,
    "resp_pkts": 6,
    "resp_ip_bytes": 500,
}


def test_zeek_as_json() -> None:
    udp = {
        **CONN,
        "proto": "udp",
        "id.resp_p": 9999,
        "history": "^dD",
        "conn_state": "SF",
        "ts": "2023-11-14T22:13:20.1Z",
    }
    refused = {**CONN, "conn_state": "REJ", "history": "Sr", "ts": 1700000009}
    first, second, third = rows("\n".join(map(json.dumps, (CONN, udp, refused))))
    assert (first.proto, first.evidence, first.flipped) == ("udp", "logged", True)
    assert (second.evidence, second.history, second.conn_state, second.orig_bytes) == ("syn", "ShADadFf", "SF", 100)
    assert (second.start, second.end) == (1_700_000_000_123_456_000, 1_700_000_001_623_456_000)
    assert (second.end_reason, second.state) == ("closed", None)
    assert (third.refused, third.end_reason) == ("resp", "reset")


def test_zeek_as_our_own_writer_writes_it(tmp_path: Path, demo_pcap: Path) -> None:
    table = ct.track(demo_pcap).connections
    table.write(tmp_path / "conn.log")
    back = ct.read_flows(tmp_path / "conn.log")
    names = ["orig_addr", "orig_port", "resp_addr", "resp_port", "proto", "conn_state", "orig_pkts", "resp_ip_bytes"]
    assert sorted(map(tuple, back[names])) == sorted(map(tuple, table[names]))


EVE = {
    "timestamp": "2023-11-14T22:13:40.000000+0000",
    "event_type": "flow",
    "src_ip": "10.0.0.5",
    "src_port": 40000,
    "dest_ip": "10.0.1.9",
    "dest_port": 443,
    "proto": "TCP",
    "flow": {
        "pkts_toserver": 5,
        "pkts_toclient": 4,
        "bytes_toserver": 500,
        "bytes_toclient": 4000,
        "start": "2023-11-14T22:13:20.100000+0000",
        "end": "2023-11-14T22:13:21.000000+0000",
        "state": "closed",
        "reason": "timeout",
    },
    "tcp": {"tcp_flags": "1b", "tcp_flags_ts": "1b", "tcp_flags_tc": "1b", "state": "closed"},
}


def test_suricata_flow_and_netflow() -> None:
    alert = {"event_type": "alert", "src_ip": "10.0.0.5", "dest_ip": "10.0.1.9"}
    refused = json.loads(json.dumps(EVE)) | {"dest_port": 23, "tcp": {"tcp_flags_ts": "02", "tcp_flags_tc": "14"}}
    result = read("\n".join(map(json.dumps, (alert, EVE, refused))))
    whole, no = sorted(result.connections, key=lambda row: -row.resp_port)
    assert (whole.evidence, whole.end_reason, whole.orig_pkts, whole.refused) == ("syn", "closed", 5, None)
    assert (no.refused, no.end_reason, result.stats.other) == ("resp", "reset", 1)
    half = {key: value for key, value in EVE.items() if key not in ("flow", "tcp")} | {
        "event_type": "netflow",
        "netflow": {"pkts": 5, "bytes": 500, "start": "2023-11-14T22:13:20.2+0000", "end": "2023-11-14T22:13:21+0000"},
        "tcp": {"tcp_flags": "1b"},
        "dest_port": 20001,
    }
    back = half | {"src_ip": "10.0.1.9", "dest_ip": "10.0.0.5", "src_port": 20001, "dest_port": 40000}
    back["netflow"] = half["netflow"] | {"start": "2023-11-14T22:13:20.1+0000"}
    (row,) = rows(json.dumps(half) + json.dumps(back))
    # The record with a SYN that began earlier, whatever the ports.
    assert (row.evidence, row.orig_port, row.records) == ("syn_order", 20001, 2)


def netflow_9(*records: tuple[str, str, int, int, int, int], template: bool = True) -> bytes:
    import ipaddress

    fields = ((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 1), (2, 4), (1, 4), (22, 4), (21, 4))
    definition = struct.pack("!HH", 256, len(fields)) + b"".join(struct.pack("!HH", *one) for one in fields)
    data = b"".join(
        b"".join(ipaddress.ip_address(one).packed for one in (src, dst))
        + struct.pack("!HHBBIIII", sport, dport, 6, flags, 3, 300, start, start + 5)
        for src, dst, sport, dport, flags, start in records
    )
    sets = (struct.pack("!HH", 0, 4 + len(definition)) + definition) if template else b""
    sets += struct.pack("!HH", 256, 4 + len(data)) + data
    return struct.pack("!HHIIII", 9, 1 + len(records), 10_000, 1_700_000_000, 1, 0) + sets


def test_netflow_9_with_templates_and_without() -> None:
    there = ("10.0.0.5", "10.0.1.9", 40000, 20001, 0x1B, 9_000)
    back = ("10.0.1.9", "10.0.0.5", 20001, 40000, 0x1B, 9_003)
    (row,) = rows(netflow_9(there) + netflow_9(back, template=False))
    assert (row.evidence, row.orig_addr, row.orig_pkts, row.resp_ip_bytes) == ("syn_order", "10.0.0.5", 3, 300)
    assert row.start == 1_700_000_000_000_000_000 - 1_000_000_000
    result = read(netflow_9(there, template=False) + netflow_9(back))
    assert result.stats.skipped["netflow: records before their template"].count == 1
    assert len(result.connections) == 1
    empty = struct.pack("!HHHHHH", 0, 12, 256, 1, 8, 0) + struct.pack("!HHI", 256, 8, 0)
    message = struct.pack("!HHIIII", 9, 2, 10_000, 1_700_000_000, 1, 0) + empty
    assert "netflow: a template of fields without octets" in read(message).stats.skipped
    assert rows(gzip.compress(netflow_9(there, back)))[0].records == 2


def nfdump(*records: tuple[int, bytes, bytes, int, int, int], compression: int = 0) -> bytes:
    """A file of nfdump 1.7: an IPv4 or IPv6 record each, and an appendix."""
    body = b""
    for start, src, dst, sport, dport, flags in records:
        generic = struct.pack("<QQQQQHHBBBB", start, start + 50, 0, 7, 700, sport, dport, 6, flags, 0, 0)
        ends = struct.pack("<HH", 2 if len(src) == 4 else 3, 4 + 2 * len(src))
        ends += b"".join(one[at : at + 8][::-1] for one in (src, dst) for at in range(0, len(one), 8))
        size = 12 + 4 + len(generic) + len(ends)
        body += (
            struct.pack("<HHHBBHBB", 11, size, 2, 0, 0, 0, 0, 9)
            + struct.pack("<HH", 1, 4 + len(generic))
            + generic
            + ends
        )
    head = struct.pack("<HHIQBBHIQII", 0xA50C, 2, 0x01070100, 0, compression, 0, 1, 0, 40, 0, 1)
    return head + struct.pack("<IIHH", len(records), len(body), 3, 0) + body + b"an appendix"


def test_files_of_nfdump() -> None:
    client, server = bytes((10, 0, 0, 5)), bytes((10, 0, 1, 9))
    file = nfdump(
        (1_700_000_000_000, client, server, 40000, 5432, 0x1B),
        (1_700_000_000_002, server, client, 5432, 40000, 0x1B),
        (1_700_000_000_000, bytes(15) + b"\1", bytes(15) + b"\2", 40000, 22, 2),
    )
    six, four = sorted(rows(file), key=lambda row: row.resp_port)
    assert (four.evidence, four.orig_addr, four.resp_ip_bytes, four.records) == ("service_port", "10.0.0.5", 700, 2)
    assert (six.orig_addr, six.resp_addr, six.evidence, six.start) == ("::1", "::2", "syn", 1_700_000_000_000_000_000)
    assert "ends within a block" in next(iter(read(file[:100], "netflow").stats.skipped))
    with pytest.raises(ct.FlowError, match="undo the compression with nfdump -J 0"):
        read(nfdump(compression=1))


def test_what_was_tried_is_listed() -> None:
    with pytest.raises(ct.FlowError) as error:
        read("hello, this is no flow log\n")
    assert all(f" {kind} (" in str(error.value) for kind in ct.config.FLOW_KINDS)
    with pytest.raises(ValueError, match=r"kind: found .vpc., expected one of aws, azure"):
        read("", "vpc")
    assert len(read("").connections) == 0
