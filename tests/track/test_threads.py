"""One answer, whatever the number of threads."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import conntrack_py as ct
from make_trace import write_trace
from support.packets import Packet, evenly, flood, pcap_bytes


def written(source: object, path: Path, threads: int, **keys: object) -> tuple[bytes, bytes, ct.Stats]:
    """The results of a run, as bytes."""
    result = ct.track(source, config=ct.Config(threads=threads, **keys), labels=True)  # type: ignore[arg-type]
    result.connections.write(path)
    assert result.labels is not None
    return path.read_bytes(), result.labels.tobytes(), result.stats


@pytest.mark.filterwarnings("ignore:.* evicted from:conntrack_py.CaptureWarning")
@pytest.mark.parametrize("threads", [2, 4, 8])
@pytest.mark.parametrize("keys", [{}, {"tunnels": "both"}, {"profile": "zeek"}, {"max_connections": 300}])
def test_many_threads_say_the_same(tmp_path: Path, threads: int, keys: dict[str, object]) -> None:
    """Several files, more records than one batch holds, also where a full table evicts."""
    big = tmp_path / "big.pcap"
    write_trace(big, 40_000, 1_000)
    more = tmp_path / "flood.pcap"
    more.write_bytes(pcap_bytes(evenly(flood(2_000))))
    one = written([big, more], tmp_path / "one.csv", 1, **keys)
    several = written([big, more], tmp_path / "several.csv", threads, **keys)
    assert one == several


@pytest.mark.filterwarnings("ignore")  # damage, one-sided captures, clocks
def test_corpus(corpus_dir: Path, tmp_path: Path) -> None:
    """Every kind of packet there is, in one run: fragments, tunnels, ICMP errors, damage."""
    captures = sorted(path for path in (corpus_dir / "pcaps").iterdir() if path.suffix in {".pcap", ".pcapng"})[:400]
    good = [path for path in captures if readable(path)]
    assert good
    assert written(good, tmp_path / "one.csv", 1) == written(good, tmp_path / "two.csv", 2)


def readable(path: Path) -> bool:
    try:
        ct.track(path)
    except (ct.CaptureError, ValueError):
        return False
    return True


def test_a_reader_that_fails_says_so(pcap: Callable[..., Path], mixed: list[Packet], tmp_path: Path) -> None:
    whole = pcap(mixed).read_bytes()
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(whole[:-3])
    with pytest.raises(ct.CaptureError, match=r"broken\.pcap"):
        ct.track(broken, config=ct.Config(threads=2, strict=True))


def test_a_file_object_takes_one_thread(mixed: list[Packet]) -> None:
    two = ct.track(io.BytesIO(pcap_bytes(mixed)), threads=2).connections
    one = ct.track(io.BytesIO(pcap_bytes(mixed)), threads=1).connections
    assert np.array_equal(two["community_id"], one["community_id"])


def test_a_run_with_threads_can_be_stopped(tmp_path: Path) -> None:
    big = tmp_path / "big.pcap"
    write_trace(big, 400_000, 1_000)

    def stop(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        ct.track([big] * 20, threads=2, progress=stop)
