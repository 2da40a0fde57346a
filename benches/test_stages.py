"""Every stage of the path on one capture, with pytest-benchmark; each stage includes those above it.

    pytest benches                                     1M packets, 50k connections
    CONNTRACK_BENCH_PACKETS=60000 pytest benches       the short form that CI runs
    CONNTRACK_BENCH_TRACE=FILE pytest benches          a capture of your own

Compare stages of one run with each other, not with numbers of another day: see benches/README.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py import _native
from make_trace import write_trace

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

PACKETS = int(os.environ.get("CONNTRACK_BENCH_PACKETS", "1_000_000"))
ROUNDS = 5


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The capture that every stage reads, in the page cache."""
    given = os.environ.get("CONNTRACK_BENCH_TRACE")
    if given:
        return given
    path: Path = tmp_path_factory.mktemp("bench") / "trace.pcap"
    write_trace(path, PACKETS, max(PACKETS // 20, 1))
    return str(path)


@pytest.fixture(scope="session")
def result(capture: str) -> ct.TrackResult:
    """The capture tracked once, for the stages behind the tracker."""
    return ct.track(capture)


def measure(benchmark: BenchmarkFixture, stage: object, *args: object, packets: int, **kwargs: object) -> object:
    """Runs a stage and notes its rate in packets (or rows) a second, from the fastest round."""
    value = benchmark.pedantic(stage, args=args, kwargs=kwargs, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[arg-type]
    benchmark.extra_info["millions_per_second"] = round(packets / benchmark.stats["min"] / 1e6, 2)
    return value


@pytest.mark.benchmark(group="packets")
@pytest.mark.parametrize("depth", ["read", "decode", "look_up"], ids=["1 read", "2 read, decode", "3 read, look up"])
def test_walk(benchmark: BenchmarkFixture, capture: str, result: ct.TrackResult, depth: str) -> None:
    """Bytes to records, records to packets, packets to places in a table."""
    native = ct.Config()._native()
    found = measure(benchmark, _native.walk, [capture], native, depth, packets=result.stats.packets)
    assert found == result.stats.packets


@pytest.mark.benchmark(group="packets")
@pytest.mark.parametrize("labels", [False, True], ids=["4 track", "5 track, label"])
def test_track(benchmark: BenchmarkFixture, capture: str, result: ct.TrackResult, labels: bool) -> None:
    """End to end: a file to a ConnectionTable."""
    tracked = measure(benchmark, ct.track, capture, labels=labels, threads=1, packets=result.stats.packets)
    assert isinstance(tracked, ct.TrackResult)
    assert len(tracked.connections) == len(result.connections)


@pytest.mark.benchmark(group="rows")
def test_numpy(benchmark: BenchmarkFixture, result: ct.TrackResult) -> None:
    """A numeric column, asked for again: no copy."""
    first = result.connections["orig_ip_bytes"]
    column = measure(benchmark, result.connections.__getitem__, "orig_ip_bytes", packets=len(result.connections))
    assert np.shares_memory(first, column)  # type: ignore[arg-type]


@pytest.mark.benchmark(group="rows")
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "arrow", "parquet"])
def test_write(benchmark: BenchmarkFixture, result: ct.TrackResult, tmp_path: Path, suffix: str) -> None:
    """The table to a file."""
    path = tmp_path / f"out.{suffix}"
    measure(benchmark, result.connections.write, path, packets=len(result.connections))
    assert path.stat().st_size > 0


@pytest.mark.benchmark(group="rows")
def test_polars(benchmark: BenchmarkFixture, result: ct.TrackResult) -> None:
    """The table through Arrow to a frame."""
    polars = pytest.importorskip("polars")
    frame = measure(benchmark, polars.DataFrame, result.connections, packets=len(result.connections))
    assert len(frame) == len(result.connections)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
