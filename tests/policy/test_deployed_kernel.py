"""The kernel is the judge: verdicts on connections by a deployed ruleset are those of the kernel that has loaded it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import rulesets
from conntrack_py.policy.deployed import check_ruleset
from support import corpus, kernel_answers, public_rulesets, random_rulesets

#: Verdicts of the kernel that were compared, and those that were not known to us.
SEEN: Counter[str] = Counter()
#: More seeds than those of every run: `CONNTRACK_RULESETS=100`.
SEEDS = range(1, 1 + int(os.environ.get("CONNTRACK_RULESETS", "12")))
#: The bridge of the test, as the rules see it.
BRIDGE = {"br0": ["0.0.0.0/0", "::/0"]}


def require_kernel() -> None:
    why = kernel_answers.missing()
    if why is not None:
        corpus.missing(f"the kernel cannot be asked: {why}")


def kernel(capture: Path, rules: Path) -> list[str]:
    command = [sys.executable, Path(kernel_answers.__file__).with_name("kernel_policy.py"), capture, rules]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words: list[str] = json.loads(done.stdout)
    return words


def wrong(text: str, format: str, seed: int, tmp_path: Path) -> list[tuple[object, ...]]:
    """Connections on which the kernel says something else: all packets of what is allowed pass, and not of others."""
    capture, rules = tmp_path / "x.pcap", tmp_path / "rules"
    capture.write_bytes(random_rulesets.capture(seed))
    rules.write_text(text)
    tracked = ct.track(capture, config=ct.Config(tunnels="outer"), labels=True)
    table = tracked.connections
    result = check_ruleset(rulesets.read(text, format), table, interfaces=BRIDGE)
    words = kernel(capture, rules)
    passed = [True] * len(table)
    assert tracked.labels is not None
    for number, row in enumerate(tracked.labels["connection"].tolist()):
        assert words[number] in ("accepted", "dropped")
        passed[row] &= words[number] == "accepted"
    found = []
    for row, verdict in enumerate(result.verdicts):
        is_ipv6 = ":" in table[row].orig_addr
        if format == "iptables-save" and is_ipv6:
            assert verdict == "unknown"
            continue
        if table[row].proto == "udp" and table[row].orig_port < 20_000:
            continue  # the tracker takes the first packet for an answer; who initiated is judged elsewhere
        SEEN[verdict] += 1
        if verdict != "unknown" and (verdict == "allowed") != passed[row]:
            one = table[row]
            found.append((row, verdict, one.proto, one.orig_addr, one.orig_port, one.resp_addr, one.resp_port))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_random_rulesets_of_nftables(seed: int, tmp_path: Path) -> None:
    require_kernel()
    assert wrong(random_rulesets.nftables(seed), "nftables", seed, tmp_path) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_random_saves_of_iptables(seed: int, tmp_path: Path) -> None:
    require_kernel()
    assert wrong(random_rulesets.iptables(seed), "iptables-save", seed, tmp_path) == []


@pytest.mark.parametrize("name", public_rulesets.NFTABLES)
def test_public_rulesets_of_nftables(name: str, tmp_path: Path) -> None:
    require_kernel()
    assert wrong(public_rulesets.NFTABLES[name], "nftables", 77, tmp_path) == []


@pytest.mark.parametrize("name", public_rulesets.IPTABLES)
def test_public_saves_of_iptables(name: str, tmp_path: Path) -> None:
    require_kernel()
    assert wrong(public_rulesets.IPTABLES[name], "iptables-save", 78, tmp_path) == []


def test_all_words_were_heard() -> None:
    """Nothing would be proved if hardly anything was known, or all of it passed."""
    require_kernel()
    assert min(SEEN["allowed"], SEEN["refused"]) > 200
    assert SEEN["unknown"] < 0.25 * SEEN.total()
    corpus.SUMMARY.append(
        f"the kernel, with random rulesets: {SEEN['allowed']:,} connections allowed, {SEEN['refused']:,} refused, "
        f"as said; {SEEN['unknown']:,} unknown"
    )
