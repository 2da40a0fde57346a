"""Fuzz targets of Python on their seeds and on mutants of them, without a fuzzer."""

from __future__ import annotations

import importlib
import io
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import conntrack_py as ct
from support.packets import pcap_bytes

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
RUST = FUZZ.parent / "rust"
#: The function of a target, and its seeds.
Target = tuple[Callable[[bytes], None], Sequence[bytes]]
TARGETS = ("policy", "rulesets", "tables")
#: Mutants of each seed; a fuzzer makes millions.
MUTANTS = 30


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(sys, "path", [str(FUZZ / "python"), str(FUZZ), *sys.path])
    seeds = importlib.import_module("seeds").seeds()[request.param]
    return importlib.import_module(request.param).test_one_input, seeds


@pytest.mark.filterwarnings("ignore::conntrack_py.CaptureWarning")
def test_the_seeds_of_the_decoder_have_packets_of_every_link_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FUZZ), *sys.path])
    seeds = importlib.import_module("packets")
    captures = [*seeds.link_layers()]
    captures += [(seeds.RAW, data) for data in (*seeds.transports(), *seeds.tunnels())]
    skipped = Counter[str]()
    for linktype, data in captures:
        stats = ct.track(io.BytesIO(pcap_bytes([(1.0, data)], linktype=linktype))).stats
        skipped.update({reason: count for reason, count in stats.skipped.items() if count})
    # ARP; and later fragments, here without the first.
    assert skipped == {"not_ip": 1, "fragment_without_first": 6}
    # Seeds name a link type by its place in the decoder's list.
    numbers = dict(re.findall(r"const (\w+): Self = Self\((\d+)\)", (RUST / "capture/src/linktype.rs").read_text()))
    listed = (RUST / "decode/src/link.rs").read_text().split("SUPPORTED", 1)[1].split("];")[0]
    assert [int(numbers[name]) for name in re.findall(r"LinkType::(\w+)", listed)] == sorted(
        {linktype for linktype, _ in captures}
    )


def mutant(seed: bytes, chance: random.Random) -> bytes:
    """A seed with a few bytes changed, left out or repeated."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        some = data[at : at + chance.randint(1, 16)]
        put = chance.choice((b"", some, chance.randbytes(len(some)), b"\xff"))
        data[at : at + chance.choice((0, 1, len(some)))] = put
    return bytes(data)


def test_seeds_and_mutants(target: Target) -> None:
    test_one_input, seeds = target
    chance = random.Random(19)
    for seed in seeds:
        test_one_input(seed)
        for _ in range(MUTANTS):
            test_one_input(mutant(seed, chance))
