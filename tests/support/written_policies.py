"""Random policies to write in other languages, and the kernel's programs that check what is written."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hypothesis import strategies as st

from conntrack_py.policy.model import SIDES, Group, Rule, Ruleset
from support.corpus import missing

#: Names that some language or other does not take.
NAMES = (
    "web",
    "Web",
    "clients",
    "9 wild",
    "a b",
    "a-b",
    "a_b",
    'q"uote',
    "ça",
    "x" * 80,
    "sg-1",
    "default",
    "-",
    "x}y",
)
NETWORKS = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "10.0.1.128/25", "10.0.2.0/24", "10.0.3.0/24", "192.0.2.7/32"),
    *("::/0", "2001:db8::/32", "2001:db8:1::/64", "2001:db8:1::1/128", "fd00::/8"),
)
#: With what somebody may write, and what languages have as signs of their own.
NOTES = ("", "the site", 'a "b" \\c', "${x} %{y} $${z}", "x # y; z", "é" * 200, "two\nlines")
PLAIN_NOTES = ("", "the site", "since 2024: (ops) #7")
PROTOS = ("any", "tcp", "udp", "sctp", "dccp", "udplite", "icmp", "icmp6", "gre", "esp", "ah", "ospf", "253")

ranges = st.tuples(st.integers(1, 65535), st.sampled_from((0, 0, 1, 90, 65535))).map(
    lambda pair: (pair[0], min(sum(pair), 65535))
)
types = st.tuples(st.integers(0, 254), st.sampled_from((0, 0, 1, 5))).map(lambda pair: (pair[0], min(sum(pair), 254)))


@st.composite
def rules(draw: st.DrawFn, names: list[str], protos: tuple[str, ...], notes: tuple[str, ...]) -> Rule:
    proto = draw(st.sampled_from(protos))
    networks = [network for network in NETWORKS if proto != "icmp6" or ":" in network]
    networks = [network for network in networks if proto != "icmp" or "." in network]
    peers = draw(st.lists(st.sampled_from(["any", *names, *networks]), min_size=1, max_size=4, unique=True))
    of: st.SearchStrategy[list[tuple[int, int]]] = st.just([])
    if proto in ("tcp", "udp", "sctp", "dccp", "udplite"):
        of = st.lists(ranges, max_size=20)
    elif proto in ("icmp", "icmp6"):
        of = st.lists(types, max_size=3)
    return Rule(peers=tuple(peers), proto=proto, ports=tuple(draw(of)), note=draw(st.sampled_from(notes)))


@st.composite
def rulesets(draw: st.DrawFn, protos: tuple[str, ...] = PROTOS, notes: tuple[str, ...] = NOTES) -> Ruleset:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    defaults = st.sampled_from((None, "allow", "deny"))
    groups = {}
    for name in names:
        ingress, egress = (tuple(draw(st.lists(rules(names, protos, notes), max_size=3))) for _ in SIDES)
        groups[name] = Group(
            members=tuple(draw(st.lists(st.sampled_from(NETWORKS), max_size=4, unique=True))),
            ingress=ingress,
            egress=egress,
            ingress_default=draw(defaults),
            egress_default=draw(defaults),
        )
    return Ruleset(groups=groups, default=draw(st.sampled_from(("allow", "deny"))))


def refused(program: str, options: list[str], text: str, directory: Path) -> str:
    """Errors of a program of the kernel's firewall about a text, which is checked and not loaded."""
    for needed in (program, "unshare"):
        if shutil.which(needed) is None:
            missing(f"{needed} is not installed")
    if os.geteuid() != 0:
        missing(f"only root may ask {program}")
    path = directory / "rules"
    path.write_text(text)
    command = ["unshare", "-n", program, *options, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else f"{result.stderr}\n{text}"


#: Options by which each program only checks a file.
CHECKS = {
    "nftables": ("nft", ["-c", "-f"]),
    "iptables": ("iptables-restore", ["--test"]),
    "ip6tables": ("ip6tables-restore", ["--test"]),
}
