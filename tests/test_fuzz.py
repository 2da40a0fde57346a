"""Fuzz targets of Python on their seeds and on mutants of them, without a fuzzer."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
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
