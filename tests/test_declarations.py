"""Declarations in one place are whole in the others: a test names the place that lacks an entry."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py import _native, config, stats
from conntrack_py.io.formats import FORMATS, format_of
from conntrack_py.policy import Group, Rule, formats, policy, rulesets

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_format_is_described_and_told_by_its_suffixes(name: str) -> None:
    """Declared in rust/py/src/write/format.rs."""
    described = ct.ConnectionTable.write.__doc__ or ""
    assert f"`{name}`" in described
    for suffix in FORMATS[name].suffixes:
        assert f".{suffix}" in described
        assert format_of(f"A.{suffix.upper()}") == name


@pytest.mark.parametrize("name", FORMATS)
def test_only_binary_formats_are_not_text(name: str, mixed: list[object], pcap: object) -> None:
    written = io.BytesIO()
    ct.track(pcap(mixed)).connections.write(written, name)  # type: ignore[operator]
    try:
        written.getvalue().decode()
    except UnicodeDecodeError:
        assert FORMATS[name].is_binary
    else:
        assert not FORMATS[name].is_binary


def test_fields_of_labels() -> None:
    """Declared in rust/output/src/labels.rs: they are described, do not overlap and fit."""
    described = ct.TrackResult.__doc__ or ""
    taken = np.zeros(_native.LABEL_BYTES, int)
    for name, kind, offset in _native.LABELS:
        assert f"`{name}` {'bool' if kind == '?' else kind}" in " ".join(described.split())
        taken[offset : offset + np.dtype(kind).itemsize] += 1
    assert taken.max() == 1
    assert taken.sum() == sum(np.dtype(kind).itemsize for _, kind, _ in _native.LABELS)


def test_keys_of_the_configuration() -> None:
    """Declared in `Config`: each has its check, and is described."""
    keys = [field.name for field in dataclasses.fields(ct.Config)]
    assert list(config._CHECKS) == keys
    assert [key for key in keys if f"        {key}: " not in (ct.Config.__doc__ or "")] == []


def test_counters_of_the_quality() -> None:
    """Declared in rust/output/src/quality.rs."""
    quality = ct.track(io.BytesIO(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))).stats.quality
    counters = [field.name for field in dataclasses.fields(ct.Quality)]
    assert list(dataclasses.asdict(quality)) == counters
    assert [one for one in counters if f"        {one}: " not in (ct.Quality.__doc__ or "")] == []


def test_reasons_to_skip_have_words() -> None:
    """Declared in the enums of the core, `Skip` and `DamageKind`."""
    assert len(set(_native.REASONS)) == len(_native.REASONS)
    # Those of interfaces are Python's.
    assert set(stats._WORDS) == {*_native.REASONS, "kernel_drops"}
    assert set(_native.REASONS) >= stats._HARMLESS
    for reason in _native.REASONS:
        one, several = (stats.describe_loss({reason: number}, {}, {}, 0) for number in (1, 2))
        assert (one is None) == (several is None) == (reason in stats._HARMLESS)


def test_rungs_of_evidence_are_on_the_page_of_columns() -> None:
    """Declared in rust/track/src/evidence.rs."""
    text = (DOCS / "reference" / "columns.md").read_text()
    assert [word for word in _native.EVIDENCE if f"`{word}`" not in text] == []


def test_inferred_rungs_have_a_phrase() -> None:
    inferred = {word for word, (_, certainty, _) in _native.EVIDENCE.items() if certainty == "inferred"}
    assert {word for word, (*_, phrase) in _native.EVIDENCE.items() if phrase} == inferred - {"first_packet"}


def test_columns_are_fields_of_a_row() -> None:
    """Declared in rust/output/src/columns.rs."""
    empty = io.BytesIO(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    assert list(ct.Connection._fields) == ct.track(empty).connections.columns
    assert [name for name in ct.Connection._fields if name not in ct.Connection.__annotations__] == []


def test_formats_of_policies() -> None:
    """Declared in `formats.WRITERS`, `formats.READERS` and `rulesets.READERS`: content tells what is written."""
    rule = Rule(peers=("10.1.0.0/24",), proto="tcp", ports=((443, 443),))
    made = ct.Policy(groups={"web": Group(members=("10.0.0.0/24",), ingress=(rule,))}, default="deny")
    for name in policy.WRITTEN:
        told = formats.guess(made.convert(name).text)
        assert told == {"iptables": "iptables-save", "ip6tables": "iptables-save"}.get(name, name)
        assert told in policy.LINTED or name not in policy.READ
    assert {*formats.READERS, *formats.FOR_HOSTS} <= {*formats.WRITERS}
    assert {*rulesets.READERS} <= {*policy.LINTED}
