"""A growing file that another capture is written over, and the captures of a directory that are still to be read."""

from __future__ import annotations

import io
from pathlib import Path

from conntrack_py.io.follow.files import Rotated
from conntrack_py.io.follow.growing import Growing
from conntrack_py.io.follow.position import Position
from support.packets import pcap_bytes, udp

FRAME = udp("10.0.0.1", 1, "10.0.0.2", 2)


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
        growing = Growing(file, lambda: False, lambda: None)  # type: ignore[arg-type]
        assert growing.read(100) == b"the first capture"
        assert growing.read(100) == b""
        assert growing.read(100) == b"", "the other one is opened anew"
        assert file.reads == 2


def test_data_that_was_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "grows.pcap"
    path.write_bytes(b"one")
    with path.open("rb", buffering=0) as file:
        growing = Growing(file, lambda: True, lambda: None)  # type: ignore[arg-type]
        assert growing.read(100) == b"one"
        with path.open("ab") as more:
            more.write(b" two")
        assert growing.read(100) == b" two"
        assert growing.read(100) == b""


def rotated(directory: Path) -> Rotated:
    return Rotated(str(directory), Position(str(directory)))


def names(known: Rotated) -> list[str]:
    """The captures that are read next, up to the last that waits."""
    found = []
    while (one := known.next()) is not None:
        found.append(one.name)
    return found


def test_captures_are_read_once_in_the_order_of_their_first_packets(tmp_path: Path) -> None:
    for name, at in (("b", 2.0), ("c", 1.0), ("a", 3.0)):
        (tmp_path / name).write_bytes(pcap_bytes([(at, FRAME)]))
    known = rotated(tmp_path)
    assert known.has_more()
    assert names(known) == ["c", "b", "a"]
    assert not known.has_more()


def test_a_capture_without_a_packet_is_examined_again(tmp_path: Path) -> None:
    path = tmp_path / "new.pcap"
    path.write_bytes(pcap_bytes([]))
    known = rotated(tmp_path)
    assert names(known) == []
    path.write_bytes(pcap_bytes([(1.0, FRAME)]))
    assert names(known) == ["new.pcap"]


def test_a_capture_that_grows_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "grows.pcap"
    path.write_bytes(pcap_bytes([(1.0, FRAME)]))
    known = rotated(tmp_path)
    assert names(known) == ["grows.pcap"]
    path.write_bytes(pcap_bytes([(1.0, FRAME), (2.0, FRAME)]))
    assert names(known) == []
    path.write_bytes(pcap_bytes([(3.0, FRAME)]))
    assert names(known) == ["grows.pcap"], "another capture under the same name"


def test_links_to_nothing_and_directories_hide_no_capture(tmp_path: Path) -> None:
    for at in range(8):
        (tmp_path / f"{at}-gone").symlink_to(tmp_path / "nothing")
        (tmp_path / f"{at}-directory").mkdir()
        (tmp_path / f"{at}.pcap").write_bytes(pcap_bytes([(at, FRAME)]))
    assert names(rotated(tmp_path)) == [f"{at}.pcap" for at in range(8)]
