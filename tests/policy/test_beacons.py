"""Beacons: misses and false alarms as the page has them, and beside RITA's published score, written naively."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from conntrack_py.policy.traffic.beacons import FEWEST, evenness, score

PAGE = Path(__file__).resolve().parents[2] / "docs" / "findings.md"
PERIOD, DAY = 60.0, 86400.0
CALLS = (5, 6, 8, 10, 20, 50, 100, 500)
DRAWS = 2000
#: Draws, and the share of false alarms, of the comparison.
FEW, RITAS = 300, 0.01

Times = NDArray[np.float64]
Arrivals = Callable[[np.random.Generator, int], Times]


def steps(intervals: Times) -> Times:
    return np.concatenate(([0.0], np.cumsum(intervals)))


def jittered(low: float, high: float) -> Arrivals:
    return lambda rng, calls: steps(PERIOD * rng.uniform(low, high, calls - 1))


def diurnal(rng: np.random.Generator, calls: int) -> Times:
    """Memoryless arrivals of three days, at noon at the highest rate, none at midnight."""
    grid = np.linspace(0, 3 * DAY, 20_001)
    expected = grid - DAY / (2 * np.pi) * np.sin(2 * np.pi * grid / DAY)
    return np.interp(np.sort(rng.random(calls)) * expected[-1], expected, grid)


def with_gaps(rng: np.random.Generator, calls: int) -> Times:
    intervals = PERIOD * rng.uniform(0.9, 1.1, calls - 1)
    return steps(intervals * np.where(rng.random(calls - 1) < 0.1, 2, 1))


ARRIVALS: dict[str, Arrivals] = {
    "memoryless": lambda rng, calls: steps(rng.exponential(PERIOD, calls - 1)),
    "memoryless, every 3 s": lambda rng, calls: steps(rng.exponential(3.0, calls - 1)),
    "uniform": lambda rng, calls: np.sort(rng.random(calls)) * PERIOD * calls,
    "diurnal": diurnal,
    "jitter 10 %": jittered(0.9, 1.1),
    "jitter 30 %": jittered(0.7, 1.3),
    "jitter 50 %": jittered(0.5, 1.5),
    "Cobalt Strike, 10 %": jittered(0.9, 1.0),
    "Cobalt Strike, 30 %": jittered(0.7, 1.0),
    "Cobalt Strike, 50 %": jittered(0.5, 1.0),
    "jitter 10 %, a tenth missing": with_gaps,
}
CHANCE = ("memoryless", "memoryless, every 3 s", "uniform", "diurnal")


def nanoseconds(times: Times) -> NDArray[np.int64]:
    return (times * 1e9).astype(np.int64)


def found(name: str, calls: int, draws: int = DRAWS) -> float:
    """The share of draws that are a beacon, in percent."""
    rng = np.random.default_rng([CALLS.index(calls), list(ARRIVALS).index(name)])
    hits = sum(evenness(nanoseconds(ARRIVALS[name](rng, calls))) is not None for _ in range(draws))
    return 100 * hits / draws


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Quartiles as montanaflynn/stats has them: medians of the halves without the middle."""
    half = len(values) // 2
    return statistics.median(values[:half]), statistics.median(values), statistics.median(values[-half:])


def rita(times: Times) -> float:
    """RITA 5's score of times (activecm/rita, analysis/beacons.go): skew, MADM and histogram; sizes are left aside."""
    seconds = [int(at) for at in times]
    deltas = sorted(later - at for at, later in itertools.pairwise(seconds) if later > at)
    if len(deltas) < 3:
        return 0.0
    low, middle, high = quartiles([float(one) for one in deltas])
    skew = (low + high - 2 * middle) / (high - low) if high - low >= 10 and middle not in (low, high) else 0.0
    deviation = statistics.median(abs(one - middle) for one in deltas)
    steady = max(0.0, (middle - deviation) / middle) if middle >= 1 else 1.0
    bins = [0] * 24
    for at in seconds:
        bins[min(23, int((at - seconds[0]) * 24 / max(seconds[-1] - seconds[0], 1)))] += 1
    mean = sum(bins) / 24
    spread = math.sqrt(sum((one - mean) ** 2 for one in bins) / 24) / mean
    width = math.ceil(max(bins) * 0.05)
    heights: dict[int, int] = {}
    for one in filter(None, bins):
        heights[one // width] = heights.get(one // width, 0) + 1
    bars = sum(heights.values())
    modes = sum(sorted(heights.values())[-2:]) / max(bars - 1, 1) if bars >= 11 else 0.0
    return ((1 - abs(skew) + steady) / 2 + max(0.0, 1 - spread, min(1.0, modes))) / 2


def table(title: str) -> dict[str, list[float]]:
    """The rows of the table below a heading of the page."""
    text = PAGE.read_text().split(f"## {title}\n", 1)[1].split("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows[1:] if not row[0].startswith("-")}


def test_the_page_has_what_is_found() -> None:
    measured = {name: [round(found(name, calls), 1) for calls in CALLS] for name in ARRIVALS}
    assert table("Measured") == measured


@pytest.mark.parametrize("calls", [5, 6, 8, 10, 15, 19, 20, 24, 30, 60])
def test_a_thousandth_of_memoryless_arrivals_is_a_false_alarm(calls: int) -> None:
    rng = np.random.default_rng(calls)
    draws = 20_000
    hits = sum(score(1 + rng.exponential(PERIOD, calls - 1)) is not None for _ in range(draws))
    # Five standard deviations of a binomial of 20.
    assert hits <= 20 + 5 * math.sqrt(20)


def test_no_worse_than_ritas_score_at_ten_times_its_false_alarms() -> None:
    """RITA's threshold for each number of calls is the one that a hundredth of memoryless arrivals exceed."""
    measured: dict[str, list[float]] = {name: [] for name in ARRIVALS if name not in CHANCE}
    for calls in (8, 20, 50):
        rng = np.random.default_rng(calls)
        chance = [rita(ARRIVALS["memoryless"](rng, calls)) for _ in range(1000)]
        threshold = float(np.quantile(chance, 1 - RITAS))
        for name, rows in measured.items():
            draws = [ARRIVALS[name](rng, calls) for _ in range(FEW)]
            ours = sum(evenness(nanoseconds(times)) is not None for times in draws)
            theirs = sum(rita(times) > threshold for times in draws)
            rows += [round(100 * ours / FEW, 1), round(100 * theirs / FEW, 1)]
    assert table("Beside RITA's score") == measured
    for name, rows in measured.items():
        for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
            assert ours >= theirs, name


def test_five_calls_have_to_be_nearly_a_clock() -> None:
    assert FEWEST == 4
    assert evenness(nanoseconds(np.array([0.0, 60, 120, 180]))) is None
    assert evenness(nanoseconds(np.array([0.0, 60, 120, 180, 240]))) == (60, 1)
    assert evenness(nanoseconds(np.array([0.0, 54, 120, 170, 240]))) is None
