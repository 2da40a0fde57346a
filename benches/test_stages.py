"""Every stage of the path on one capture, with pytest-benchmark; each stage includes those above it.

    pytest benches                                     1M packets, 50k connections
    CONNTRACK_BENCH_PACKETS=60000 pytest benches       the short form that CI runs
    CONNTRACK_BENCH_TRACE=FILE pytest benches          a capture of your own

Compare stages of one run with each other, not with numbers of another day: see benches/README.md.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import conntrack_py as ct
from conntrack_py import _native
from conntrack_py.policy import Group, Policy, Rule
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


@pytest.fixture(scope="session")
def policy() -> Policy:
    """A thousand rules in eleven groups, most of them about networks that nobody here is in."""
    choose = random.Random(1)

    def rule() -> Rule:
        first = choose.randrange(1, 60_000)
        network = f"{choose.randrange(1, 224)}.{choose.randrange(256)}.{choose.randrange(256)}.0/24"
        peers = (network if choose.random() < 0.9 else f"{choose.randrange(1, 224)}.0.0.0/8",)
        return Rule(peers=peers, proto=choose.choice(["tcp", "udp"]), ports=((first, first + choose.randrange(3000)),))

    groups = {
        f"group {number}": Group(
            members=(f"10.{number}.0.0/16",),
            ingress=tuple(rule() for _ in range(50)),
            egress=tuple(rule() for _ in range(50)),
        )
        for number in range(10)
    }
    web = Rule(peers=("any",), proto="tcp", ports=((443, 443),))
    return Policy(groups={**groups, "rest": Group(members=("10.0.0.0/8",), ingress=(web,), egress=(web,))})


@pytest.mark.benchmark(group="connections")
def test_evaluate(benchmark: BenchmarkFixture, result: ct.TrackResult, policy: Policy) -> None:
    """The verdict of a thousand rules on every connection."""
    table = result.connections
    verdicts = measure(benchmark, policy.evaluate, table, packets=len(table))
    assert isinstance(verdicts, np.ndarray)
    assert len(verdicts) == len(table)


@pytest.mark.benchmark(group="packets")
def test_check(benchmark: BenchmarkFixture, capture: str, result: ct.TrackResult, policy: Policy) -> None:
    """Track, and send every packet through a gateway with a thousand rules: what `policy check` does."""
    check = measure(benchmark, policy.check, capture, packets=result.stats.packets)
    assert check.connections == len(result.connections)  # type: ignore[attr-defined]
