"""Names of files that no terminal should see, and names that are no text; objects whose read() misbehaves."""

from __future__ import annotations

import io
import json
import os
import subprocess
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.text import printable
from support.packets import pcap_bytes, udp
from support.program import COMMAND, in_terminal

CAPTURE = pcap_bytes((at, udp("10.0.0.1", 5000, "10.0.1.1", 53, b"?")) for at in range(3))
#: Escape sequences (C0 and C1), a line end, an override of the writing direction, a byte that is no UTF-8.
NAMES = [b"a\x1b[31mb", b"a\xc2\x9b31mb", b"a\nconntrack-py: all is well", b"a\xe2\x80\xaegpj.pcap", b"a\xffb", b"\x07"]


def place(directory: Path, name: bytes, content: bytes) -> str:
    path = os.path.join(os.fsencode(directory), name)
    with open(path, "wb") as file:
        file.write(content)
    return os.fsdecode(path)


def is_safe(printed: bytes) -> bool:
    """Text of lines, without control characters and the like."""
    return all(letter == "\n" or unicodedata.category(letter)[0] != "C" for letter in printed.decode())


def cli(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *args], capture_output=True, timeout=60)


def test_printable() -> None:
    assert printable("plain, ä and 中") == "plain, ä and 中"
    assert printable("\x1b[0m\x9b\n\u202e\udcff\u2028") == r"\x1b[0m\x9b\n\u202e\xff\u2028"
    assert printable(printable("a\nb")) == printable("a\nb")
    assert "\n" not in printable("".join(map(chr, range(0xE000))))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_name_reaches_a_terminal(name: bytes, tmp_path: Path) -> None:
    good, cut, bad = (
        place(tmp_path, prefix + name, content)
        for prefix, content in ((b"g", CAPTURE), (b"c", CAPTURE[:-1]), (b"n", b"\x80\x81\x82\x83\x84"))
    )
    missing = good + "x"
    out = str(tmp_path / "out")
    for args in (
        ["track", cut], ["track", bad], ["track", missing], ["track", "--strict", cut], ["summary", cut],
        ["summary", "--on-error", "skip", good, cut, bad, missing], ["track", "--on-error", "skip", bad, missing],
        ["label", "-o", out, cut], ["split", "-o", out, "--on-error", "skip", cut, bad], ["policy", "suggest", cut],
        ["track", "--config", missing, cut], ["policy", "check", missing, cut], ["policy", "lint", bad],
        ["track", "--stream", cut], ["track", good, "--bad" + os.fsdecode(name)],
    ):  # fmt: skip
        done = cli(*args)
        assert is_safe(done.stderr), (args, done.stderr)
        assert is_safe(done.stdout), (args, done.stdout)
        assert b"fault of this program" not in done.stderr, done.stderr
        if done.returncode == 2:
            assert done.stderr.count(b"\n") == 1, done.stderr
    _, printed = in_terminal([*COMMAND, "summary", "--on-error", "skip", cut, bad])
    assert all(letter == "\n" or letter.isprintable() for letter in printed), printed


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_openable(name: bytes, tmp_path: Path) -> None:
    cut = place(tmp_path, b"c" + name, CAPTURE[:-1])
    bad = place(tmp_path, b"n" + name, b"\x80\x81\x82\x83\x84")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stats = ct.track(
            [os.fsencode(cut).decode("utf-8", "surrogateescape"), bad], config=ct.Config(on_error="skip")
        ).stats
    assert stats.skipped_at["truncated_file"][0] == cut
    assert stats.skipped_files[0].file == bad
    assert all(str(one.message).isprintable() for one in caught)
    with pytest.raises(ct.CaptureError) as error:
        ct.track(bad)
    assert error.value.path == bad
    assert Path(error.value.path or "").read_bytes()[0] == 0x80
    assert str(error.value).isprintable()
    with pytest.raises(FileNotFoundError) as gone:
        ct.track(bad + "x")
    assert gone.value.filename == bad + "x"
    lines = [
        json.loads(line) for line in cli("track", "--json-log", "--on-error", "skip", cut, bad).stderr.splitlines()
    ]
    (account,) = [line for line in lines if line["event"] == "read"]
    assert account["skipped_at"]["truncated_file"]["file"] == cut
    assert account["skipped_files"][0]["file"] == bad
    (failed,) = [json.loads(line) for line in cli("track", "--json-log", bad).stderr.splitlines()]
    assert os.fsencode(failed["file"]) == os.fsencode(bad)
    listed = json.loads(cli("summary", "--json", "--on-error", "skip", bad).stdout)["capture"]["skipped_files"]
    assert listed[0]["file"] == bad


class Reader:
    """A file object whose read() does what it is told, after some good bytes."""

    def __init__(self, then: Any, before: bytes = b"") -> None:
        self.then, self.before = then, before

    def read(self, size: int) -> Any:
        if self.before:
            given, self.before = self.before[:size], self.before[size:]
            return given
        if isinstance(self.then, BaseException):
            raise self.then
        return self.then(size)


class Stopped(BaseException):
    """No `Exception`."""


@pytest.mark.parametrize("before", [b"", CAPTURE[:30], CAPTURE])
def test_exceptions_of_read_are_no_end(before: bytes) -> None:
    for error in (
        OSError(5, "bad"),
        ValueError("bad"),
        InterruptedError(),
        BlockingIOError(),
        Stopped(),
        MemoryError(),
    ):
        for run in (ct.track, lambda source: list(ct.open_capture(source))):
            with pytest.raises(type(error)) as caught:
                run(Reader(error, before))
            assert caught.value is error
    for run in (ct.track, lambda source: list(ct.open_capture(source))):
        with pytest.raises(ct.CaptureError, match=r"<Reader>: read\(\) raised StopIteration") as stopped:
            run(Reader(StopIteration("end"), before))
        assert isinstance(stopped.value.__cause__, StopIteration)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (lambda _: "text", r"read\(\) returned str, expected bytes: open the file in binary mode"),
        (lambda _: None, r"read\(\) returned None(Type)?, expected bytes"),
        (lambda _: 7, r"read\(\) returned int, expected bytes"),
        (lambda size: b"x" * (size + 1), r"read\(\d+\) returned \d+ bytes, expected no more"),
    ],
)
def test_what_read_returns(then: Any, message: str) -> None:
    for before in (b"", CAPTURE):
        with pytest.raises(ct.CaptureError, match="<Reader>: " + message) as error:
            ct.track(Reader(then, before))
        assert error.value.path == "<Reader>"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stats = ct.track([Reader(then, before), io.BytesIO(CAPTURE)], config=ct.Config(on_error="skip")).stats
        assert stats.packets == (6 if before else 3)
        assert stats.skipped_files[0].file == "<Reader>"


class Once:
    """The same capsules at every export."""

    def __init__(self, **capsules: Any) -> None:
        for name, capsule in capsules.items():
            setattr(self, name, lambda requested_schema=None, capsule=capsule: capsule)


def test_capsules_given_twice() -> None:
    pa = pytest.importorskip("pyarrow")
    frames = ct.PacketBatch.from_frames([udp("10.0.0.1", 1, "10.0.0.2", 2)], [0], 1)
    (table,) = pa.table(frames).combine_chunks().to_batches()
    array = Once(__arrow_c_array__=table.__arrow_c_array__())
    stream = Once(__arrow_c_stream__=frames.__arrow_c_stream__())
    for source in (array, stream):
        assert len(ct.PacketBatch.from_arrow(source)) == 1
        for _ in range(2):
            with pytest.raises(ValueError, match="Arrow data"):
                ct.PacketBatch.from_arrow(source)
    # Somebody else took the schema, or the array.
    schema, one = table.__arrow_c_array__()
    pa.Schema._import_from_c_capsule(schema)
    with pytest.raises(ValueError, match="taken before"):
        ct.PacketBatch.from_arrow(Once(__arrow_c_array__=(schema, one)))
