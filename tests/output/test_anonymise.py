"""`Anonymiser` and `--anonymise`: one name for an address, prefixes kept, and nothing else changed."""

from __future__ import annotations

import copy
import io
import ipaddress
import json
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from support.packets import pcap_bytes, udp
from support.program import run

KEY = "a key of tests"
LOCAL = ["10.0.0.0/8", "203.0.113.0/24", "2001:db8:1::/48"]
#: Columns that addresses are in.
RENAMED = ("orig_addr", "resp_addr", "community_id")
FORMATS = ("csv", "jsonl", "arrow", "parquet", "conntrack", "zeek", "ipfix", "ecs")


@pytest.fixture(scope="module")
def names() -> ct.Anonymiser:
    return ct.Anonymiser(KEY)


def connections(seed: int = 1) -> ct.ConnectionTable:
    """Connections of both families between local, private and public addresses, with groups."""
    choose = random.Random(seed)
    v4 = [f"10.{choose.randrange(4)}.0.{host}" for host in range(1, 9)]
    v4 += [f"203.0.113.{choose.randrange(1, 255)}" for _ in range(4)]
    v4 += [str(ipaddress.IPv4Address(choose.randrange(0x20000000, 0x60000000))) for _ in range(9)]
    v6 = [f"2001:db8:1::{host:x}" for host in range(1, 5)]
    v6 += [f"2a00:{choose.randrange(1, 9)}::{host}" for host in range(1, 5)]
    frames = [udp(*_ends(choose, choose.choice((v4, v6))), b"?") for _ in range(120)]
    frames += [udp(v4[0], 5353, "224.0.0.251", 5353), udp(v6[0], 5353, "ff02::fb", 5353)]
    config = ct.Config(local=LOCAL, zones={"office": ["10.1.0.0/16", "2001:db8:1::/64"]})
    return ct.track(
        io.BytesIO(pcap_bytes([(float(n), one) for n, one in enumerate(frames)])), config=config
    ).connections


def _ends(choose: random.Random, addresses: list[str]) -> tuple[str, int, str, int]:
    one, other = choose.sample(addresses, 2)
    return one, choose.randrange(1024, 65536), other, 53


def test_only_addresses_change(names: ct.Anonymiser) -> None:
    table = connections()
    named = names.table(table)
    assert len(named) == len(table)
    others = [name for name in table.columns if name not in RENAMED]
    assert named[others] == table[others]
    for end in ("orig_addr", "resp_addr"):
        assert [names.address(addr) for addr in table[end]] == named[end].tolist()
    for end in (0, 1):
        for kept, real in zip(named.places(end), table.places(end), strict=True):
            assert np.array_equal(kept, real)
    assert set(named["direction"]) >= {"egress", "ingress", "internal", "multicast"}
    assert {"office", ""} == set(named["orig_zone"])
    # The community ID is that of the names, as another program would work it out.
    assert not set(named["community_id"]) & set(table[table["direction"] != "multicast"]["community_id"])


def test_no_real_address_is_in_any_format(names: ct.Anonymiser) -> None:
    table = connections()
    real = {*table["orig_addr"], *table["resp_addr"]}
    real -= {addr for addr in real if names.address(addr) == addr}
    named = names.table(table)
    known = {*named["orig_addr"], *named["resp_addr"]}
    for format in FORMATS:
        memory = io.BytesIO()
        named.write(memory, format)
        for addr in real - known:
            assert ipaddress.ip_address(addr).packed not in memory.getvalue() or format in ("arrow", "parquet"), format
            assert not re.search(rb"(?<![0-9a-f:.])" + re.escape(addr.encode()) + rb"(?![0-9a-f:.])", memory.getvalue())
    assert real - known


def test_uids_come_from_names(names: ct.Anonymiser) -> None:
    """Zeek's uid hashes the first connection, which a guess would otherwise confirm."""

    def uids(table: ct.ConnectionTable) -> list[str]:
        memory = io.BytesIO()
        table.write(memory, "zeek")
        return [line.split("\t")[1] for line in memory.getvalue().decode().splitlines() if not line.startswith("#")]

    table = connections()
    written = uids(table)
    assert not set(written) & set(uids(names.table(table)))
    assert uids(ct.Anonymiser(KEY).table(table)) == uids(ct.Anonymiser(KEY).table(table))


def test_one_name_everywhere(names: ct.Anonymiser) -> None:
    again = ct.Anonymiser(KEY.encode())
    other = ct.Anonymiser(KEY + "x")
    for addr in {*connections()["orig_addr"]}:
        assert again.address(addr) == names.address(addr)
    assert sum(other.address(addr) != names.address(addr) for addr in connections()["orig_addr"]) > 100
    parts = [names.table(connections()[start : start + 7]) for start in range(0, 21, 7)]
    assert [row for part in parts for row in part] == list(names.table(connections())[:21])


def test_networks_keep_their_hosts(names: ct.Anonymiser) -> None:
    for text in ("203.0.113.0/24", "8.8.0.0/17", "2001:db8:1::/48", "10.1.0.0/16", "0.0.0.0/0", "198.51.100.7/32"):
        real, named = ipaddress.ip_network(text), ipaddress.ip_network(names.network(text))
        choose = random.Random(text)
        for _ in range(50):
            host = real.network_address + choose.randrange(real.num_addresses)
            assert ipaddress.ip_address(names.address(str(host))) in named
    assert names.network("10.0.0.0/8") == "10.0.0.0/8"
    assert names.network("203.0.113.0/24") != "203.0.113.0/24"


def test_one_to_one(names: ct.Anonymiser) -> None:
    for net in ("203.0.113.0/24", "127.255.255.0/24", "224.0.0.0/24", "169.253.255.0/24", "192.168.7.0/24"):
        hosts = [str(host) for host in ipaddress.ip_network(net)]
        assert len({names.address(host) for host in hosts}) == 256


@pytest.mark.parametrize("call", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_not_handed_on(names: ct.Anonymiser, call: object) -> None:
    with pytest.raises(TypeError, match="make one of the key"):
        call(names)  # type: ignore[operator]
    assert "tests" not in repr(names)


def test_refusals(names: ct.Anonymiser, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key: found 7 characters, expected at least 8"):
        ct.Anonymiser("seven.7")
    with pytest.raises(ValueError, match=r'found "10.0.0", expected an address'):
        names.address("10.0.0")
    with pytest.raises(ValueError, match=r'found "10.0.0.1/33", expected a network'):
        names.network("10.0.0.1/33")
    with pytest.raises(ValueError, match="there is no environment variable NO_SUCH_KEY"):
        ct.Anonymiser.of("env:NO_SUCH_KEY")
    with pytest.raises(FileNotFoundError):
        ct.Anonymiser.of(f"@{tmp_path / 'none'}")


def test_keys_of_the_program(demo_pcap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.setenv("TEST_KEY", KEY)
    memory = io.BytesIO()
    ct.Anonymiser(KEY).table(ct.track(demo_pcap).connections).write(memory, "csv")
    for key in (KEY, f"@{tmp_path / 'key'}", "env:TEST_KEY"):
        assert run("track", "-f", "csv", "--anonymise", key, demo_pcap).stdout == memory.getvalue()
    for wrong in ("short", "env:NO_SUCH_KEY"):
        done = run("track", "--anonymise", wrong, demo_pcap)
        assert (done.returncode, b"--anonymise: key" in done.stderr) == (2, True)
    assert run("track", "--anonymise", f"@{tmp_path / 'none'}", demo_pcap).returncode == 2


def test_streams_and_summaries(demo_pcap: Path) -> None:
    names = ct.Anonymiser(KEY)
    plain = run("track", "--stream", "-f", "jsonl", demo_pcap).stdout.splitlines()
    named = run("track", "--stream", "-f", "jsonl", "--anonymise", KEY, demo_pcap).stdout.splitlines()
    assert len(plain) == len(named) > 10
    for before, after in zip(map(json.loads, plain), map(json.loads, named), strict=True):
        assert after["orig_addr"] == names.address(before["orig_addr"])
        assert after["direction"] == before["direction"]
    before = json.loads(run("summary", "--json", demo_pcap).stdout)
    after = json.loads(run("summary", "--json", "--anonymise", KEY, "--baseline", demo_pcap, demo_pcap).stdout)
    assert after["directions"] == before["directions"]
    assert after["services"] == before["services"]
    assert {one["server"] for one in after["findings"]} <= {names.address(one["server"]) for one in before["findings"]}


# ---- captures ----


def test_captures_have_names(demo_pcap: Path, tmp_path: Path, names: ct.Anonymiser) -> None:
    result = ct.label(demo_pcap, tmp_path / "named.pcapng", names=names)
    assert result.connections == names.table(ct.track(demo_pcap).connections)
    # Tracked again, with the names of the local networks, connections whose begin was captured are the same.
    local = [names.network(net) for net in ct.Config().local]
    again = ct.track(tmp_path / "named.pcapng", local=local).connections
    fields = ["orig_addr", "orig_port", "resp_addr", "resp_port", "direction", "orig_pkts", "resp_ip_bytes", "state"]

    def seen(table: ct.ConnectionTable) -> list[ct.Connection]:
        return sorted(table[table["evidence"] == "syn"][fields])

    assert len(seen(again)) > 5
    assert seen(again) == seen(result.connections)


def test_no_byte_of_a_payload_or_an_address_is_in_a_capture(tmp_path: Path, names: ct.Anonymiser) -> None:
    secret = b"a secret in a payload"
    real = ["203.0.113.7", "198.51.100.9", "2001:db8:5::7", "2001:db8:6::9"]
    inner = udp("203.0.113.7", 1234, "198.51.100.9", 53, secret)[14:]
    quoted = udp("198.51.100.9", 53, "203.0.113.7", 1234, b"\x03\x01" + inner)
    frames = [
        udp("203.0.113.7", 40000, "198.51.100.9", 53, secret),
        udp("2001:db8:5::7", 40000, "2001:db8:6::9", 53, secret),
        quoted,
        # A tunnel of IPv4 in IPv4, and ARP.
        quoted[:14] + bytes.fromhex("45000050000000004004 0000".replace(" ", "")) + inner[12:20] + inner,
        b"\xff" * 6
        + b"\x02secret"[:6]
        + b"\x08\x06"
        + bytes.fromhex("0001080006040001")
        + b"\x02" * 6
        + inner[12:16] * 2,
        b"\x02real-" + b"\x02mac00"[:6] + b"\x08\x00" + inner,
    ]
    path = tmp_path / "real.pcap"
    path.write_bytes(pcap_bytes([(float(number), frame) for number, frame in enumerate(frames)]))
    with pytest.warns(ct.CaptureWarning, match="1 packet left out"):
        ct.label(path, tmp_path / "named.pcapng", names=names)
    written = (tmp_path / "named.pcapng").read_bytes()
    for gone in (secret, b"secret", b"real-", *(ipaddress.ip_address(addr).packed for addr in real)):
        assert gone not in written
    for addr in real:
        assert addr.encode() not in written
        assert ipaddress.ip_address(names.address(addr)).packed in written
    with pytest.warns(ct.CaptureWarning, match="1 packet left out"):
        _, files = ct.split(path, tmp_path / "by", names=names)
    for file in files:
        assert not any(ipaddress.ip_address(addr).packed in file.read_bytes() for addr in real)


def test_the_program_writes_captures(demo_pcap: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.pcapng", tmp_path / "other.pcapng"
    assert run("label", "--anonymise", KEY, demo_pcap, "-o", one).returncode == 0
    ct.label(demo_pcap, other, names=ct.Anonymiser(KEY))
    assert one.read_bytes() == other.read_bytes()
    assert run("split", "--anonymise", KEY, demo_pcap, "-o", tmp_path / "by").returncode == 0
    assert (tmp_path / "by" / "egress.pcapng").exists()
