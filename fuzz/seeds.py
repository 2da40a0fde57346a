"""Write the seed corpora of the fuzz targets, in the forms that this version of the package reads.

    python fuzz/seeds.py fuzz/corpus

Nothing is random, and nothing comes from outside: captures are the demo's, policies are written by the package.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from conntrack_py.policy import document, formats
from conntrack_py.policy.model import Group, Rule, Ruleset

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "fuzz"), str(ROOT / "fuzz" / "python")]
import demo  # noqa: E402
import packets  # noqa: E402
import rulesets  # noqa: E402

import policy  # noqa: E402

#: The decoder's, whose place is the second byte of a seed.
LINK_TYPES = sorted({linktype for linktype, _ in packets.link_layers()})
#: Frames of the demo in a seed.
FRAMES = 24
RULESET = Ruleset(
    groups={
        "web": Group(
            members=("10.0.20.0/24", "2001:db8::/64"),
            ingress=(Rule(peers=("any",), proto="tcp", ports=((443, 443), (8000, 8080)), note="customers"),),
            egress=(Rule(peers=("db", "192.0.2.0/24"), proto="udp", ports=((53, 53),)),),
        ),
        "db": Group(members=("10.0.30.5/32",), ingress=(Rule(peers=("web",), proto="tcp", ports=((5432, 5432),)),)),
    }
)
NFT_JSON = {
    "nftables": [
        {"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "input", "policy": "drop"}},
        {
            "rule": {
                "family": "inet",
                "table": "t",
                "chain": "c",
                "expr": [
                    {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 443}},
                    {"accept": None},
                ],
            }
        },
    ]
}
NACL = {
    "NetworkAcls": [
        {
            "NetworkAclId": "acl-1",
            "Entries": [
                {
                    "RuleNumber": 100,
                    "Protocol": "6",
                    "RuleAction": "allow",
                    "Egress": egress,
                    "CidrBlock": "10.0.0.0/8",
                    "PortRange": {"From": 443, "To": 443},
                }
                for egress in (False, True)
            ],
        }
    ]
}
IPTABLES = """\
*filter
:INPUT DROP [0:0]
:web - [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p tcp -m multiport --dports 80,443,8000:8080 -j web
-A web ! -d 10.0.0.1/32 -p udp --dport 53 -m comment --comment "a name" -j REJECT
COMMIT
"""


def frames() -> list[tuple[float, bytes]]:
    """Frames of the demo, one of each length at most, so that they differ."""
    found = {len(data): (at, data) for at, data in sorted(demo.minute(), reverse=True)}
    return sorted(found.values())[:FRAMES]


def pcap(order: str) -> bytes:
    """A pcap file in this byte order."""
    made = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for at, data in frames():
        made += struct.pack(f"{order}IIII", demo.START + int(at), int(at % 1 * 1e6), len(data), len(data)) + data
    return made


def pcapng() -> bytes:
    """A pcapng file of one section and one interface."""

    def block(kind: int, body: bytes) -> bytes:
        body += b"\0" * (-len(body) % 4)
        size = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + size + body + size

    made = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 65535))
    for at, data in frames():
        ticks = int((demo.START + at) * 1e6)
        made += block(6, struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data)
    return made


def odd(length: int, ahead: int) -> bytes:
    """A pcap file of a writer with habits: original lengths that are too small, and jumps in time."""
    made = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 60, 1)
    for number, (_, data) in enumerate(frames()):
        sec = demo.START + number // 3 * ahead
        made += struct.pack("<IIII", sec, 2_000_000 + number, len(data), max(len(data) - length, 0)) + data
    return made


def snoop() -> bytes:
    """A capture of Solaris: Ethernet, and a field of drops."""
    made = b"snoop\0\0\0" + struct.pack(">II", 2, 4)
    for number, (_, data) in enumerate(frames()):
        padded = data + bytes(-len(data) % 4)
        header = (len(data), len(data), 24 + len(padded), number, demo.START + number, number)
        made += struct.pack(">IIIIII", *header) + padded
    return made


def behind_each_other() -> list[bytes]:
    """Captures one behind the other, which overlap in time, and compressed ones."""
    plain, other, blocks = pcap("<"), pcap(">"), pcapng()
    members = gzip.compress(plain, mtime=0) + gzip.compress(blocks, mtime=0)
    skippable = b"\x50\x2a\x4d\x18\3\0\0\0abc"
    mixed = [snoop(), plain + snoop() + blocks, plain + other, blocks * 2, plain + blocks + other]
    mixed += [members, skippable + plain]
    return [*mixed, lzma.compress(plain * 2), bz2.compress(plain * 2), plain + gzip.compress(blocks, mtime=0)]


def pieces(mode: int, linktype: int, packets: Iterable[bytes]) -> bytes:
    """Packets for the decoder: the length of each in steps of 16 bytes, and its bytes."""
    made = bytes([mode, LINK_TYPES.index(linktype)])
    for data in packets:
        size = min(len(data), 15 * 16) + 15 & ~15
        made += bytes([size // 16]) + data[:size].ljust(size, b"\0")
    return made


def decoded() -> list[bytes]:
    """Seeds of the decoder: the demo in every mode, and packets with each header."""
    found = [pieces(mode, packets.ETHERNET, (data for _, data in frames())) for mode in (0, 1, 2, 0x80)]
    found += [pieces(mode, packets.RAW, made()) for mode in (0, 2) for made in (packets.transports, packets.tunnels)]
    return found + [pieces(0, linktype, [data]) for linktype, data in packets.link_layers()]


def table() -> bytes:
    """Rows of numbers: TCP and UDP over IPv4 and IPv6."""
    made = b""
    for kind, proto in itertools.product((0, 1), (6, 17, 1, 58, 132)):
        header = 40 if kind else 20
        row = struct.pack(">7Bq8s8sHH", kind, 4, 8, 0, 0, 2, proto, 10**9, b"\x0a\0\0\1" * 2, b"\x0a\0\0\2" * 2, 8, 0)
        row += struct.pack(">HBHHHIIHHHI", header + 80, header, 7, 0, 0, 1, 1, 1000, 80, 7, 7)
        made += row.ljust(72, b"\0") + b"\1\1\1\0" + b"payload."
    return made


def seeds() -> dict[str, Sequence[bytes]]:
    """The seeds of each target."""
    captures = [pcap("<"), pcap(">"), pcapng(), gzip.compress(pcapng(), mtime=0)]
    native = {"toml": document.to_toml(RULESET), "json": document.to_json(RULESET)}
    native |= {format: formats.write(RULESET, format).text for format in formats.READERS}
    firewalls = {"nftables": formats.write(RULESET, "nftables").text, "nftables-json": json.dumps(NFT_JSON)}
    firewalls |= {"iptables-save": IPTABLES, "nacl": json.dumps(NACL)}
    return {
        "capture": [*captures, *behind_each_other(), odd(16, 0), odd(2000, 40 * 86_400)],
        "track": captures,
        "decode": decoded(),
        "arrays": [table(), table()[:84]],
        "checkpoint": [bytes([state]) + edit for state in range(4) for edit in (b"", b"\2\0\3\6\1", b"\4\0\1\4\0" * 2)],
        "policy": [bytes([policy.READERS.index(format)]) + text.encode() for format, text in native.items()],
        "rulesets": [bytes([rulesets.READERS.index(format)]) + text.encode() for format, text in firewalls.items()],
        "tables": [bytes(one).ljust(600, b"\0") for one in itertools.product((0, 1), (1, 8), (5, 17))],
    }


def main() -> None:
    """Write them."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for target, inputs in seeds().items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    main()
