"""The kernel is the judge: a policy as nftables rules accepts and drops exactly the packets that `check` says."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import itertools
import json
import random
import struct
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from conntrack_py.policy.model import Ruleset
from support import corpus, kernel_answers
from support.packets import pcap_bytes
from support.policies import random_policy

#: One worker counts the verdicts of all.
pytestmark = pytest.mark.xdist_group("kernel")

#: A gateway sees outer headers. The kernel's clock is the wall's, so nothing may run out.
NEVER = dict.fromkeys(ct.Config().effective_timeouts, 1e9)
PASSES = {ct.Fate.ACCEPTED, ct.Fate.UNTRACKED}
JUDGED = {"accepted": True, "dropped": False}
#: Packets that the kernel judged, by whether they passed.
SEEN: Counter[bool] = Counter()


def require_kernel() -> None:
    why = kernel_answers.missing()
    if why is not None:
        corpus.missing(f"the kernel cannot be asked: {why}")


def config_for(capture: Path) -> ct.Config:
    """The private networks are local or, where nobody is in them, those who answer."""
    config = ct.Config(tunnels="outer", timeouts=NEVER)
    table = ct.track(capture, config=config).connections
    if set(table["direction"]) <= {"transit", "multicast"} and len(table):
        config = dataclasses.replace(config, local=sorted(set(table["resp_addr"])))
    return config


def thinned(policy: Policy) -> Policy:
    """About half of the rules, the same at every run, so that there is something to accept and something to refuse."""

    def stays(rule: object) -> bool:
        return hashlib.sha256(repr(rule).encode()).digest()[0] % 2 == 0

    groups = {
        name: dataclasses.replace(
            group,
            ingress=tuple(rule for rule in group.ingress if stays((name, "in", rule.peers, rule.ports))),
            egress=tuple(rule for rule in group.egress if stays((name, "out", rule.peers, rule.ports))),
        )
        for name, group in policy.groups.items()
    }
    return dataclasses.replace(policy, groups=groups)


def without_helpers(policy: Ruleset) -> Policy:
    """The policy for a gateway without helpers, as that of `check` is; test_helpers.py has those of the kernel."""
    groups = {
        name: dataclasses.replace(
            group,
            ingress=tuple(dataclasses.replace(rule, helper="") for rule in group.ingress),
            egress=tuple(dataclasses.replace(rule, helper="") for rule in group.egress),
        )
        for name, group in policy.groups.items()
    }
    return Policy(groups=groups, default=policy.default)


def kernel(capture: Path, policy: Ruleset, tmp_path: Path) -> list[str]:
    """The fate of every packet."""
    rules = tmp_path / "rules.nft"
    rules.write_text(without_helpers(policy).convert("nftables").text)
    command = [
        sys.executable,
        str(Path(kernel_answers.__file__).with_name("kernel_policy.py")),
        str(capture),
        str(rules),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words: list[str] = json.loads(done.stdout)
    return words


def compare(capture: Path, policy: Policy, config: ct.Config, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Packets of which the kernel says something else."""
    fates = policy.check(capture, config=config, fates=True).fates
    assert fates is not None
    words = kernel(capture, policy, tmp_path)
    assert len(words) == len(fates)
    wrong = []
    for number, (word, fate) in enumerate(zip(words, fates.tolist(), strict=True)):
        if word in JUDGED:
            SEEN[JUDGED[word]] += 1
            if JUDGED[word] != (fate in PASSES):
                wrong.append((number, word, ct.Fate(fate).name))
    return wrong


@pytest.mark.parametrize("capture", corpus.captures(), ids=lambda capture: capture.name)
def test_captures(capture: corpus.Capture, tmp_path: Path) -> None:
    require_kernel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        config = config_for(capture.path)
        policy = Policy.suggest(capture.path, config=config, server_egress=True)
        assert compare(capture.path, policy, config, tmp_path) == []
        assert compare(capture.path, thinned(policy), config, tmp_path) == []


@pytest.mark.parametrize("seed", range(1, 13))
def test_generated_captures(seed: int, tmp_path: Path) -> None:
    require_kernel()
    path = tmp_path / "generated.pcap"
    make = [sys.executable, kernel_answers.TOOLS / "kernel_fuzz.py", str(seed), path, "--packets", "400"]
    subprocess.run([*map(str, make), *(["--tcp-only"] if seed % 3 == 0 else [])], check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.CaptureWarning)
        config = ct.Config(tunnels="outer", timeouts=NEVER)
        table = ct.track(path, config=config).connections
        for number in range(4):
            assert compare(path, random_policy(100 * seed + number, table), config, tmp_path) == []


def test_both_words_were_heard() -> None:
    """Nothing would be proved if all packets passed."""
    require_kernel()
    assert min(SEEN[True], SEEN[False]) > 5_000
    corpus.SUMMARY.append(
        f"the kernel, with our policies: {SEEN[True]:,} packets accepted, {SEEN[False]:,} dropped, as said"
    )


def fragments(family: int, ident: int, ends: tuple[str, str, int], size: int, cuts: list[int]) -> list[bytes]:
    """Frames of a fragmented UDP datagram, cut at these offsets (multiples of 8)."""
    src, dst, port = ends
    datagram = struct.pack(">HHHH", 4000 + ident % 100, port, 8 + size, 0) + bytes(size)
    frames = []
    for begin, end in itertools.pairwise([0, *cuts, len(datagram)]):
        more, piece = end < len(datagram), datagram[begin:end]
        if family == 4:
            addresses = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
            offset = begin // 8 | (0x2000 if more else 0)
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(piece), ident, offset, 64, 17, 0) + addresses
            frames.append(bytes(12) + b"\x08\x00" + head + piece)
        else:
            addresses = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
            extension = struct.pack(">BBHI", 17, 0, begin | more, ident)
            head = struct.pack(">IHBB", 6 << 28, 8 + len(piece), 44, 64) + addresses
            frames.append(bytes(12) + b"\x86\xdd" + head + extension + piece)
    return frames


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")
def test_fragments_share_their_datagrams_fate(seed: int, tmp_path: Path) -> None:
    """Of allowed and refused datagrams; in any order, twice, or with one missing."""
    require_kernel()
    chance = random.Random(seed)
    packets = []
    for number in range(60):
        family = chance.choice((4, 6))
        ends = ("10.0.0.1", "192.0.2.9") if family == 4 else ("fd00::1", "2001:db8::9")
        size = 8 * chance.randrange(20, 60)
        cuts = sorted(chance.sample(range(8, size, 8), chance.randrange(1, 5)))
        frames = fragments(family, number, (*ends, chance.choice((53, 9999))), size, cuts)
        if chance.random() < 0.5:
            chance.shuffle(frames)
        if chance.random() < 0.2:
            frames.pop()
        if chance.random() < 0.2:
            frames.insert(1, frames[0])
        packets += [(number / 100 + place / 10_000, frame) for place, frame in enumerate(frames)]
    path = tmp_path / "fragments.pcap"
    path.write_bytes(pcap_bytes(packets))
    rules = [{"to": "any", "proto": "udp", "ports": [53]}]
    policy = Policy.from_dict({"groups": {"own": {"members": ["10.0.0.0/8", "fd00::/8"], "egress": rules}}})
    config = ct.Config(local=["10.0.0.0/8", "fd00::/8"])
    assert compare(path, policy, config, tmp_path) == []
    fates = policy.check(path, config=config, fates=True).fates
    assert fates is not None
    found = set(fates.tolist())
    assert {ct.Fate.ACCEPTED, ct.Fate.REFUSED, ct.Fate.INVALID} <= found
    assert ct.Fate.UNTRACKED not in found
