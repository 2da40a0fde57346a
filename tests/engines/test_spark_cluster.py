"""Executors in processes of their own, one of which is killed while it tracks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import spark_session
from support.packets import download, evenly, pcap_bytes

spark_session.needs_java()

import conntrack_py.spark as cts  # noqa: E402 - an extra

pytestmark = [
    pytest.mark.xdist_group("spark"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.skipif("CONNTRACK_SOAK" not in os.environ, reason="long; `make soak` runs it"),
]


@pytest.mark.timeout(900)
def test_an_executor_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = []
    for number in range(300):
        packets += evenly(download(f"10.0.{number % 7}.1", 40_000 + number, "203.0.113.9", 443), number / 10, 0.01)
    captures = []
    for number in range(3):
        path = tmp_path / f"{number}.pcap"
        path.write_bytes(pcap_bytes(sorted(packets)[number::3]))
        captures.append(str(path))
    events, marks = tmp_path / "events", tmp_path / "marks"
    events.mkdir()
    marks.mkdir()
    spark = spark_session.session("local-cluster[2,1,1024]", events, **{"spark.executor.memory": "1g"})
    try:
        rows = sorted(map(str, cts.track(spark, captures, shards=6).collect()))
        monkeypatch.setattr(cts, "tracked", spark_session.fails(1, "executor", marks))
        assert sorted(map(str, cts.track(spark, captures, shards=6).collect())) == rows
        assert len(rows) == 300
    finally:
        spark.stop()
    assert [path.name for path in marks.iterdir()] == ["0"]
    (log,) = [path for path in events.iterdir() if path.is_file()]
    assert "SparkListenerExecutorRemoved" in log.read_text()
