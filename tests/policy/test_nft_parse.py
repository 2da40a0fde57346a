"""Texts of nftables that are read without nft: nft's own reading is the judge."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import rulesets
from conntrack_py.policy.deployed import check_ruleset
from conntrack_py.policy.rulesets import nft_text
from conntrack_py.policy.rulesets.nft_parse import parse
from support import corpus, public_rulesets, random_rulesets

#: The bridge of the random rulesets, as their rules see it.
BRIDGE = {"br0": ["0.0.0.0/0", "::/0"]}
TEXTS = {**public_rulesets.NFTABLES, **{f"random {seed}": random_rulesets.nftables(seed) for seed in range(1, 15)}}
#: Verdicts without nft, by text.
SEEN: dict[str, Counter[str]] = {}
# The last test counts what the others saw.
pytestmark = pytest.mark.xdist_group("texts of nftables")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    path = tmp_path_factory.mktemp("parse") / "x.pcap"
    path.write_bytes(random_rulesets.capture(5))
    return ct.track(path, config=ct.Config(tunnels="outer")).connections


def without_nft(text: str, monkeypatch: pytest.MonkeyPatch) -> rulesets.Firewall:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda *_, **__: None)
        return rulesets.from_nft_text(text, "x.nft")


def listed(text: str) -> str:
    """The ruleset as nft lists it."""
    load = nft_text._LOAD.replace("nft -j list", "nft list")
    command = ["unshare", "-n", "sh", "-c", load, "sh", *nft_text._interfaces(text)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def compare(name: str, table: ct.ConnectionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the verdicts of a text without nft with those of nft's reading."""
    if shutil.which("nft") is None or os.geteuid() != 0:
        corpus.missing("nft, or root")
    expected = check_ruleset(rulesets.from_nft_text(TEXTS[name]), table, interfaces=BRIDGE)
    seen: Counter[str] = Counter()
    for text in (TEXTS[name], listed(TEXTS[name])):
        firewall = without_nft(text, monkeypatch)
        found = check_ruleset(firewall, table, interfaces=BRIDGE)
        for mine, known in zip(found.verdicts, expected.verdicts, strict=True):
            seen[mine] += known != "unknown"
            assert mine in (known, "unknown"), "what nft does not tell is not told here"
        assert firewall.program is not None
        assert all(step.line for steps in firewall.program.steps.values() for step in steps)
    SEEN[name] = seen


@pytest.mark.parametrize("name", TEXTS)
def test_verdicts_are_those_of_what_nft_reads(
    name: str, table: ct.ConnectionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(name, table, monkeypatch)


def test_most_is_known(table: ct.ConnectionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TEXTS.keys() - SEEN.keys():
        compare(name, table, monkeypatch)
    seen = sum(SEEN.values(), Counter[str]())
    assert min(seen["allowed"], seen["refused"]) > 500
    assert seen["unknown"] < 0.2 * seen.total()


def test_words_of_rules_that_are_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (
        "fib daddr type local accept",
        "meta mark 7 tcp dport 22 jump other",
        "tcp flags syn limit rate 5/second accept",
        "ip saddr . tcp dport vmap { 10.0.0.1 . 22 : accept }",
        'log prefix "a accept: " level info flags tcp sequence,options counter packets 1 bytes 2 drop comment "x"',
        "limit rate over 10 mbytes/second burst 5 packets tcp dport != { 22, 80-90 } reject with icmpx type 3",
        "ct state != established,related ip saddr 10.0.0.0/8 udp dport > 1024 accept",
        "quota over 5 mbytes",
    )
    text = "table ip f { chain other { }\n chain c { type filter hook input priority mangle + 5; policy drop;\n"
    firewall = without_nft(text + "\n".join(rules) + "\n}\n}\n", monkeypatch)
    assert firewall.program is not None
    steps = firewall.program.steps["ip f c"]
    assert [step.line for step in steps] == [3, 4, 5, 6, 7, 8, 9]
    actions = ["accept", "jump", "accept", "unknown", "drop", "drop", "accept"]
    assert [step.action for step in steps] == actions
    assert [step.match.partial for step in steps] == [True, True, True, True, False, False, False]
    assert [step.match.limited for step in steps][5]
    assert steps[0].text == "fib daddr type local accept"
    assert firewall.program.bases[0].priority == -145


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("table ip f {\n" * 20, r"x\.nft:17: nested too deeply: more than 16 blocks"),
        ("table ip f {", "found no brace that ends the last block"),
        ("table ip f { } }", r"x\.nft:1: found a brace that ends nothing"),
        (
            "\nadd element ip f s { 1.2.3.4 }",
            r"x\.nft:2: found 'element ip f', expected what `nft list ruleset` prints",
        ),
        ('include "x"', "found 'include \"x\"', expected"),
        ("table ip f { chain c { tcp dport $ports accept } }", r"found '\$ports', which is not defined before"),
    ],
)
def test_refused_texts(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError, match=expected) as caught:
        without_nft(text, monkeypatch)
    assert "save the output of `nft -j list ruleset`" in str(caught.value)


def test_sets_that_are_not_understood_may_have_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """table ip f {
  set a { type ipv4_addr; elements = { 10.0.0.1 timeout 5m, 10.0.0.2 } }
  map m { type inet_service : verdict; elements = { 22 : queue to 3 } }
  chain c { type filter hook input priority 0; policy drop;
    ip saddr @a accept
    tcp dport vmap @m
  }
}"""
    program = without_nft(text, monkeypatch).program
    assert program is not None
    first, second = program.steps["ip f c"]
    assert (first.match.partial, second.action) == (True, "unknown")


def test_definitions_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["define a0 = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"]
    lines += [f"define a{n} = $a{n - 1} , $a{n - 1} , $a{n - 1} , $a{n - 1}" for n in range(1, 40)]
    with pytest.raises(PolicyError, match="more than 1,000,000 words, with definitions"):
        without_nft("\n".join(lines), monkeypatch)


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_texts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    whole = [text.split(" ") for text in TEXTS.values()]
    for _ in range(100):
        words = list(chance.choice(whole))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(words))
            words[at : at + chance.randrange(3)] = [
                chance.choice(("{", "}", ";", ",", '"', "$x", ":", ".", "accept", "\x1b"))
            ]
        try:
            without_nft(" ".join(words), monkeypatch)
        except PolicyError as error:
            assert "\x1b" not in str(error)  # noqa: PT017


def test_empty_texts(tmp_path: Path) -> None:
    assert parse("") == parse("# nothing\n\n;\n") == parse("flush ruleset") == {"nftables": []}
