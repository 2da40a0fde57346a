"""Addresses, services, sizes and times in words."""

from __future__ import annotations

import numpy as np
import pytest

from conntrack_py import text

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0.00 s"),
        (123_000_000, "0.12 s"),
        (9_994_000_000, "9.99 s"),
        (10 * SECOND, "10 s"),
        (59 * SECOND + 499_000_000, "59 s"),
        (59 * SECOND + 500_000_000, "1 min 0 s"),
        (65 * SECOND, "1 min 5 s"),
        (3599 * SECOND, "59 min 59 s"),
        (3600 * SECOND, "1 h 0 min"),
        (86_399 * SECOND, "23 h 59 min"),
        (86_400 * SECOND, "1 d 0 h"),
        ((2 * 86_400 + 5 * 3600 + 3599) * SECOND, "2 d 5 h"),
    ],
)
def test_spans(ns: int, words: str) -> None:
    assert text.span(ns) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (34_000_000, "34 MB"),
        (5e9, "5.0 GB"),
        (5e12, "5.0 TB"),
        (5e15, "5.0 PB"),
        (1234e15, "1,234.0 PB"),
    ],
)
def test_sizes(count: float, words: str) -> None:
    assert text.size(count) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 9, "0 %"),
        (0, 0, "0 %"),
        (1, 0, "0 %"),
        (1, 101, "<1 %"),
        (1, 100, "1 %"),
        (12, 100, "12 %"),
        (999, 1000, "99 %"),
        (7, 7, "100 %"),
    ],
)
def test_shares(part: int, whole: int, words: str) -> None:
    assert text.share(part, whole) == words


def test_moments() -> None:
    assert text.moment(1_767_323_045_678_901_234) == "2026-01-02 03:04:05.678"
    assert text.moment(1_767_323_045_678_901_234, "s") == "2026-01-02 03:04:05"
    assert text.moment(int(np.datetime64("NaT").astype("i8"))) == "-"
