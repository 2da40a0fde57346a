"""Host names in rules: those that a capture showed, and those that a person wrote. The addresses decide."""

from __future__ import annotations

import json
from pathlib import Path

import dpkt  # type: ignore[import-untyped]
import pytest

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy
from conntrack_py.policy.model import is_host_name
from support.packets import evenly, packed, pcap_bytes, tcp, udp

RULE = {"to": "192.0.2.7/32", "proto": "tcp", "ports": [443]}


def web(**more: object) -> Policy:
    return Policy.from_dict({"groups": {"web": {"members": ["10.0.1.7/32"], "egress": [{**RULE, **more}]}}})


def session(client: str, sport: int, server: str, dport: int, host: str = "") -> list[bytes]:
    """An answered session; with the host of an HTTP request."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() if host else b"hello"
    return [
        tcp(client, sport, server, dport, 0x02, seq=1),
        tcp(server, dport, client, sport, 0x12, seq=9, ack=2),
        tcp(client, sport, server, dport, 0x10, seq=2, ack=10),
        tcp(client, sport, server, dport, 0x18, seq=2, ack=10, payload=request),
        tcp(server, dport, client, sport, 0x18, seq=10, ack=2 + len(request), payload=b"y" * 400),
    ]


def resolution(client: str, sport: int, name: str, *addresses: str) -> list[bytes]:
    """A DNS query and its answer."""
    query = dpkt.dns.DNS(id=sport, qd=[dpkt.dns.DNS.Q(name=name)])
    answer = dpkt.dns.DNS(id=sport, qr=1, qd=[dpkt.dns.DNS.Q(name=name)])
    answer.op |= 0x8000
    answer.an = [
        dpkt.dns.DNS.RR(name=name, type=1, cls=1, ttl=60, ip=packed(one), rdata=packed(one)) for one in addresses
    ]
    return [
        udp(client, sport, "10.0.0.53", 53, bytes(query)),
        udp("10.0.0.53", 53, client, sport, bytes(answer)),
    ]


def suggested(tmp_path: Path, frames: list[bytes]) -> dict[str, tuple[str, ...]]:
    """The names of the egress rules of the client, by their peers."""
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    made = Policy.suggest(path, local=["10.0.0.0/8"])
    rules = [n.rule for n in made.numbered() if n.side == "egress"]
    assert all(n.rule.names == () for n in made.numbered() if n.side == "ingress")
    return {" ".join(rule.peers): rule.names for rule in rules}


@pytest.mark.parametrize("name", ["api.example.com", "*.example.com", "_sip._udp.example.com", "xn--bcher-kva.example"])
def test_host_names(name: str) -> None:
    assert is_host_name(name)
    made = web(to_name=name)
    assert made.groups["web"].egress[0].names == (name,)


@pytest.mark.parametrize(
    "name",
    [
        *("", "localhost", "192.0.2.7", "a..b", ".a.b", "a.b.", "a b.example", "a.b;rm -rf", "\x1b[2J.example"),
        *(
            "a.*.example",
            "**.example",
            "-a.example",
            "a-.example",
            "x" * 64 + ".example",
            "a." * 127 + "toolong",
            "é.example",
        ),
        *("a.example\n", 'a".example', "a/b.example"),
    ],
)
def test_what_is_no_host_name(name: str) -> None:
    assert not is_host_name(name)
    with pytest.raises(PolicyError, match=r"to_name: found .*, expected a host name"):
        web(to_name=name)


def test_names_come_back_from_a_file() -> None:
    made = web(to_name=["API.Example.com", "b.example.com", "api.example.com"])
    assert made.groups["web"].egress[0].names == ("api.example.com", "b.example.com")
    for format in ("toml", "json"):
        text = made.convert(format).text
        again = Policy._read(text, "policy", format)
        assert again == made
    assert web(to_name="a.example").to_dict()["groups"]["web"]["egress"][0]["to_name"] == "a.example"


def test_each_direction_has_its_key() -> None:
    rule = {"from": "192.0.2.7/32", "from_name": "a.example"}
    made = Policy.from_dict({"groups": {"web": {"members": ["10.0.1.7"], "ingress": [rule]}}})
    assert made.groups["web"].ingress[0].names == ("a.example",)
    assert str(made.numbered()[0]) == "web ingress from 192.0.2.7/32 (a.example) any protocol"
    with pytest.raises(PolicyError, match="to_name: unknown key"):
        Policy.from_dict({"groups": {"web": {"ingress": [{"from": "any", "to_name": "a.example"}]}}})


def test_the_addresses_decide(tmp_path: Path) -> None:
    frames = session("10.0.1.7", 40000, "192.0.2.7", 443) + session("10.0.1.7", 40001, "192.0.2.8", 443, "a.example")
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    table = ct.track(path).connections
    with_name, without = web(to_name="a.example"), web()
    assert with_name.evaluate(table)["verdict"].tolist() == without.evaluate(table)["verdict"].tolist()
    assert with_name.diff(without).same


def test_a_name_of_http(tmp_path: Path) -> None:
    frames = session("10.0.1.7", 40000, "192.0.2.7", 80, "api.example.com")
    assert suggested(tmp_path, frames) == {"192.0.2.7/32": ("api.example.com",)}


def test_a_name_of_dns_with_two_addresses(tmp_path: Path) -> None:
    """The resolver gets no name: queries name what was asked for."""
    frames = resolution("10.0.1.7", 40000, "api.example.com", "192.0.2.6", "192.0.2.7")
    frames += session("10.0.1.7", 40001, "192.0.2.6", 443) + session("10.0.1.7", 40002, "192.0.2.7", 443)
    found = suggested(tmp_path, frames)
    assert found.pop("192.0.2.6/31") == ("api.example.com",)
    assert set(found.values()) == {()}


def test_no_name_where_it_says_too_little_or_too_much(tmp_path: Path) -> None:
    """Of two peers one has no name; a name has an address that is no peer of the rule."""
    little = session("10.0.1.7", 40000, "192.0.2.6", 80, "a.example") + session("10.0.1.7", 40001, "192.0.2.7", 80)
    assert suggested(tmp_path, little) == {"192.0.2.6/31": ()}
    much = session("10.0.1.7", 40000, "192.0.2.6", 80, "a.example")
    much += session("10.0.1.7", 40001, "192.0.2.9", 8000, "a.example")
    assert suggested(tmp_path, much) == {"192.0.2.6/32": (), "192.0.2.9/32": ()}


def test_too_many_names_are_none(tmp_path: Path) -> None:
    frames = [
        frame for at in range(9) for frame in session("10.0.1.7", 40000 + at, "192.0.2.7", 80, f"site{at}.example")
    ]
    assert suggested(tmp_path, frames) == {"192.0.2.7/32": ()}
    assert len(suggested(tmp_path, frames[:-5])["192.0.2.7/32"]) == 8


def test_a_decision_has_the_name_as_well(tmp_path: Path) -> None:
    frames = [frame for at in range(6) for frame in session(f"10.0.2.{at + 1}", 40000, "10.0.1.7", 443)]
    frames += session("10.0.1.7", 50000, "192.0.2.7", 80, "c2.example")
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    made = Policy.suggest(path, local=["10.0.0.0/8"])
    assert 'to_name = "c2.example"' in made.convert("toml").text
    assert json.loads(made.convert("json").text)
    assert made.report is not None
    assert [one.rule.names for one in made.report.decisions] == [("c2.example",)]
