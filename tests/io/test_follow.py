"""A growing file that another capture is written over."""

from __future__ import annotations

import io
from pathlib import Path

from conntrack_py.io.follow import _Growing


class Overtaken(io.FileIO):
    """A file that is written over just before its second read."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads == 2:
            Path(str(self.name)).write_bytes(b"another capture, longer than the first one")
        return super().read(size) or b""


def test_nothing_is_read_from_the_middle_of_another_capture(tmp_path: Path) -> None:
    path = tmp_path / "ring.pcap"
    path.write_bytes(b"the first capture")
    with Overtaken(str(path)) as file:
        growing = _Growing(file, lambda: False)  # type: ignore[arg-type]
        assert growing.read(100) == b"the first capture"
        assert growing.read(100) == b""
        assert growing.read(100) == b"", "the other one is opened anew"
        assert file.reads == 2


def test_data_that_was_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "grows.pcap"
    path.write_bytes(b"one")
    with path.open("rb", buffering=0) as file:
        growing = _Growing(file, lambda: True)  # type: ignore[arg-type]
        assert growing.read(100) == b"one"
        with path.open("ab") as more:
            more.write(b" two")
        assert growing.read(100) == b" two"
        assert growing.read(100) == b""
