"""Words that the core declares, against every place that has to know them: a failure names the missing place."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import conntrack_py as ct
from conntrack_py import _native, stats

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_every_rung_is_on_the_page_of_columns() -> None:
    text = (DOCS / "reference" / "columns.md").read_text()
    assert [word for word in _native.EVIDENCE if f"`{word}`" not in text] == []


def test_every_inferred_rung_has_a_phrase() -> None:
    inferred = {word for word, (_, certainty, _) in _native.EVIDENCE.items() if certainty == "inferred"}
    assert {word for word, (*_, phrase) in _native.EVIDENCE.items() if phrase} == inferred - {"first_packet"}


def test_every_reason_to_skip_has_words() -> None:
    assert set(_native.WORDS["Skipped"]) - {"not_ip"} == set(stats._WORDS)


def test_every_quality_counter_is_an_attribute_with_its_line() -> None:
    capture = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    quality = ct.track(io.BytesIO(capture)).stats.quality
    names = [field.name for field in dataclasses.fields(quality)]
    assert [name for name in names if f"        {name}: " not in (ct.Quality.__doc__ or "")] == []
