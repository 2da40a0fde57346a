"""Inventories: hosts files, CSV, leases; what hostile ones do, and what suggest and explain make of names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import Inventory, Policy
from support import program

HOSTS = "127.0.0.1 localhost\n10.0.20.10\tweb1 web1.example # the site\n# 10.0.0.9 x\nfe80::1%e y\n2001:DB8::1 six\n"
CSV = 'address,name,owner,group\n10.0.20.10,web1,shop,front\n"10.0.20.53","ns, one",net,resolvers\n\n10.0.5.23,pc,,\n'
DHCPD = """\
lease 10.0.5.23 {
  starts 4 2026/01/01 00:00:00;
  client-hostname "old";
}
lease 10.0.5.23 {
  client-hostname "pc";
}
lease 10.0.5.40 { hardware ethernet 00:11:22:33:44:55; }
"""
DNSMASQ = "1767225600 00:11:22:33:44:55 10.0.5.23 pc 01:00:11:22:33:44:55\n1767225600 00:11:22:33:44:56 10.0.5.40 * *\n"


def loaded(tmp_path: Path, text: str | bytes) -> Inventory:
    path = tmp_path / "inventory"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Inventory.load(path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (HOSTS, {"127.0.0.1": "localhost", "10.0.20.10": "web1", "2001:db8::1": "six"}),
        (CSV, {"10.0.20.10": "web1", "10.0.20.53": "ns, one", "10.0.5.23": "pc"}),
        (CSV.replace("\n", "\r\n"), {"10.0.20.10": "web1", "10.0.20.53": "ns, one", "10.0.5.23": "pc"}),
        (DHCPD, {"10.0.5.23": "pc", "10.0.5.40": ""}),
        (DNSMASQ, {"10.0.5.23": "pc", "10.0.5.40": ""}),
        ("", {}),
    ],
)
def test_formats(tmp_path: Path, text: str, names: dict[str, str]) -> None:
    assert {address: one.name for address, one in loaded(tmp_path, text).hosts.items()} == names


def test_names_and_groups(tmp_path: Path) -> None:
    found = loaded(tmp_path, CSV)
    assert found.named("10.0.20.10") == "10.0.20.10 (web1)"
    assert found.named("192.0.2.1") == "192.0.2.1"
    assert found.hosts["10.0.20.10"].owner == "shop"
    assert {name: group.members for name, group in found.groups().items()} == {
        "front": ("10.0.20.10/32",),
        "resolvers": ("10.0.20.53/32",),
    }


def test_hostile_text_is_printable(tmp_path: Path) -> None:
    for text in (
        "10.0.0.1 \x1b[2J\x9b\u202egnp",
        'address,name\n10.0.0.1,"\x1b[2J\na"',
        DNSMASQ.replace("pc", "\x1b[2J"),
    ):
        found = loaded(tmp_path, text)
        assert found.hosts
        assert all(one.name.isprintable() for one in found.hosts.values())
    assert len(loaded(tmp_path, f"10.0.0.1 {'x' * 5000}").hosts["10.0.0.1"].name) == 253


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"10.0.0.1 \xff", "bytes that are no text at 9"),
        ("address,name\nnowhere,x\n", "row 2: found 'nowhere', expected an address"),
        ("address,group\n10.0.0.1,any\n", "row 2: found the group 'any'"),
        ("address,group\n10.0.0.1,10.0.0.0/8\n", "found the group"),
        ("address,name\n10.0.0.1," + "x" * 200_000, "not CSV"),
    ],
)
def test_others_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ct.PolicyError, match=message):
        loaded(tmp_path, text)


def test_suggest_and_explain(tmp_path: Path, demo_pcap: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(CSV)
    made = Policy.suggest(demo_pcap, local=["10.0.0.0/8"], inventory=Inventory.load(path))
    assert made.groups["front"].members == ("10.0.20.10/32",)
    assert made.groups["resolvers"].members == ("10.0.20.53/32",)
    policy = tmp_path / "p.toml"
    run = program.run("policy", "suggest", "--inventory", path, "--local", "10.0.0.0/8", "-o", policy, demo_pcap)
    assert run.returncode == 0, run.stderr
    assert set(made.groups) == set(Policy.load(policy).groups)
    explain = ("policy", "explain", policy, demo_pcap, "--inventory", path, "--host", "10.0.20.10")
    assert b"10.0.20.10 (web1)" in program.run(*explain).stdout
    assert {one["responder_name"] for one in json.loads(program.run(*explain, "--json").stdout)} >= {"web1"}
    assert "# Hosts: 10.0.20.10 (web1)." in policy.read_text()
    decided = tmp_path / "none.toml"
    decided.write_text('[groups.web]\nmembers = ["10.0.20.10"]\n')
    check = ("policy", "check", decided, demo_pcap, "--inventory", path)
    assert b"10.0.20.10 (web1)" in program.run(*check, COLUMNS="200").stdout
    assert json.loads(program.run(*check, "--json").stdout)["names"]["10.0.5.23"] == "pc"
    run = program.run("policy", "explain", policy, demo_pcap, "--inventory", tmp_path / "absent")
    assert (run.returncode, run.stderr.count(b"\n")) == (2, 1)
    assert b"absent" in run.stderr
