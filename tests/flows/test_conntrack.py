"""Connection tracking of a gateway: entries, events, translations."""

from __future__ import annotations

import io
import pickle

import pytest

import conntrack_py as ct

LISTED = """\
tcp      6 431999 ESTABLISHED src=10.0.0.5 dst=93.184.216.34 sport=40000 dport=443 packets=10 bytes=1000 \
src=93.184.216.34 dst=203.0.113.1 sport=443 dport=61000 packets=8 bytes=9000 [ASSURED] mark=0 use=1
ipv4     2 udp      17 25 src=10.0.0.5 dst=8.8.8.8 sport=5353 dport=53 [UNREPLIED] \
src=8.8.8.8 dst=10.0.0.5 sport=53 dport=5353 mark=0 zone=0 use=2
icmp     1 29 src=10.0.0.5 dst=8.8.8.8 type=8 code=0 id=77 src=8.8.8.8 dst=203.0.113.1 type=0 code=0 id=99 mark=0 use=1
ipv6     10 tcp      6 300 ESTABLISHED src=2001:db8::1 dst=2001:db8::2 sport=1 dport=22 \
src=2001:db8::2 dst=2001:db8::1 sport=22 dport=1 [ASSURED] mark=0 use=2
"""
EVENTS = """\
[1700000000.123456]	    [NEW] ipv4     2 tcp      6 120 SYN_SENT src=10.0.0.9 dst=198.51.100.1 sport=5000 dport=22 \
[UNREPLIED] src=192.168.1.7 dst=10.0.0.9 sport=2222 dport=5000{id}
[1700000000.223456]	 [UPDATE] ipv4     2 tcp      6 432000 ESTABLISHED src=10.0.0.9 dst=198.51.100.1 sport=5000 \
dport=22 src=192.168.1.7 dst=10.0.0.9 sport=2222 dport=5000 [ASSURED]{id}
[1700000008.000000]	 [UPDATE] ipv4     2 tcp      6 120 TIME_WAIT src=10.0.0.9 dst=198.51.100.1 sport=5000 \
dport=22 src=192.168.1.7 dst=10.0.0.9 sport=2222 dport=5000 [ASSURED]{id}
[1700000009.500000]	[DESTROY] ipv4     2 tcp      6 src=10.0.0.9 dst=198.51.100.1 sport=5000 dport=22 packets=4 \
bytes=300 src=192.168.1.7 dst=10.0.0.9 sport=2222 dport=5000 packets=3 bytes=200 [ASSURED]{id}
"""


def log(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def test_a_listing() -> None:
    table = ct.read_flows(log(LISTED))
    found = {(row.proto, row.orig_addr): row for row in table}
    tcp, udp = found["tcp", "10.0.0.5"], found["udp", "10.0.0.5"]
    assert (tcp.state, tcp.assured, tcp.orig_pkts, tcp.resp_ip_bytes) == ("ESTABLISHED", True, 10, 9000)
    assert (tcp.evidence, tcp.confidence, tcp.start, tcp.history) == ("gateway", 1.0, None, None)
    values = tcp._asdict()
    names = ("nat_orig_addr", "nat_orig_port", "nat_resp_addr", "nat_resp_port", "nat_evidence", "nat_confidence")
    assert [values[name] for name in names] == ["203.0.113.1", 61000, "93.184.216.34", 443, "gateway", 1.0]
    assert (udp.state, udp.seen_reply, udp.orig_pkts) == ("UNREPLIED", False, None)
    assert {values for name in names if (values := udp._asdict()[name]) is not None} == set()
    icmp = found["icmp", "10.0.0.5"]._asdict()
    assert (icmp["orig_port"], icmp["resp_port"], icmp["nat_orig_port"], icmp["state"]) == (8, 0, 99, "REPLIED")
    assert found["tcp", "2001:db8::1"].resp_addr == "2001:db8::2"


@pytest.mark.parametrize("number", ["", " id=42"])
def test_events_of_an_entry_are_one_connection(number: str) -> None:
    # Without an id a second entry of the tuple begins with NEW.
    again = EVENTS.format(id=number.replace("42", "43")).replace("[17000000", "[17000010")
    first, second = ct.read_flows(log(EVENTS.format(id=number) + again))
    assert (first.start, first.end) == (1_700_000_000_123_456_000, 1_700_000_009_500_000_000)
    assert (first.state, first.end_reason, first.orig_pkts, first.records) == ("TIME_WAIT", "closed", 4, 4)
    assert first._asdict()["nat_resp_addr"] == "192.168.1.7"
    assert second.start == 1_700_001_000_123_456_000


def test_translations_are_columns_of_arrow_pickles_and_files() -> None:
    table = ct.translations([log(LISTED), log(EVENTS.format(id=""))])
    frame = table.to_polars()
    assert frame["nat_orig_addr"].null_count() == 2
    assert set(frame["nat_resp_port"].drop_nulls()) == {443, 99, 2222}
    assert pickle.loads(pickle.dumps(table)) == table
    assert table[[1, 3]] == ct.translations([log(LISTED), log(EVENTS.format(id=""))])[[1, 3]]
    for format in ("csv", "jsonl", "ecs", "zeek", "ipfix", "conntrack", "arrow", "parquet"):
        table.write(io.BytesIO(), format)
    with pytest.raises(ct.FlowError, match="no entry of the gateway has a translation"):
        ct.translations(log(LISTED.splitlines()[1] + "\n"))


def test_translations_are_anonymised() -> None:
    table = ct.Anonymiser(b"a key of enough bytes").table(ct.translations(log(LISTED)))
    texts = io.BytesIO()
    table.write(texts, "csv")
    assert b"203.0.113.1" not in texts.getvalue()
    assert b"gateway" in texts.getvalue()


def test_bad_lines_are_counted() -> None:
    text = LISTED + "tcp 6 nonsense\ntcp 6 100 ESTABLISHED src=10.0.0.256 dst=1.2.3.4 sport=1 dport=2\n[half open\n"
    with pytest.warns(ct.FlowWarning, match=r"3 of 7 records were not read: .*first at <BytesIO>:5: tcp 6 nonsense"):
        assert len(ct.read_flows(log(text))) == 4
