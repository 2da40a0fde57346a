"""Writes arrive whole, or an `OSError` has the number and the name."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py import annotate
from support.packets import pcap_bytes, udp
from support.program import COMMAND, run

FORMATS = ["csv", "jsonl", "arrow", "parquet", "zeek", "conntrack", "ipfix"]
#: More than a pipe holds, in every format.
ROWS = 3000
ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": ""}


@pytest.fixture(scope="module")
def capture() -> bytes:
    return pcap_bytes(
        [
            (n / 1000, udp(f"10.0.{n % 251}.{n * 7 % 241}", 1024 + n * 13 % 60000, "192.0.2.1", 53, b"?" * (n % 97)))
            for n in range(ROWS)
        ]
    )


@pytest.fixture(scope="module")
def table(capture: bytes) -> ct.ConnectionTable:
    return ct.track(io.BytesIO(capture)).connections


@pytest.fixture
def file(capture: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "in.pcap"
    path.write_bytes(capture)
    return path


def expected(table: ct.ConnectionTable, format: str) -> bytes:
    whole = io.BytesIO()
    table.write(whole, format)
    return whole.getvalue()


def through_a_pipe(write: Callable[[int], None]) -> bytes:
    """The bytes that a slow reader gets from a descriptor that does not block."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    pieces: list[bytes] = []

    def read() -> None:
        time.sleep(0.05)
        while piece := os.read(reading, 1500):
            pieces.append(piece)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        write(writing)
    finally:
        os.close(writing)
        thread.join()
        os.close(reading)
    return b"".join(pieces)


# ---- file objects ----


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("buffering", [0, -1])
def test_a_pipe_that_does_not_block_gets_everything(table: ct.ConnectionTable, format: str, buffering: int) -> None:
    def write(descriptor: int) -> None:
        with os.fdopen(descriptor, "wb", buffering, closefd=False) as out:
            table.write(out, format)

    assert through_a_pipe(write) == expected(table, format)


def test_a_label_gets_everything(file: Path) -> None:
    def write(descriptor: int) -> None:
        with os.fdopen(descriptor, "wb", 0, closefd=False) as out:
            annotate.label(str(file), out)

    whole = io.BytesIO()
    annotate.label(str(file), whole)
    assert through_a_pipe(write) == whole.getvalue()


class Raw(io.RawIOBase):
    """A raw file with answers of its own."""

    def __init__(self, answer: Callable[[bytes], Any]) -> None:
        self.got = b""
        self.answer = answer
        self.name = "out.csv"

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> Any:
        answer = self.answer(bytes(data))
        if isinstance(answer, int) and answer > 0:
            self.got += bytes(data)[:answer]
        return answer


def test_a_raw_file_may_take_part(table: ct.ConnectionTable) -> None:
    raw = Raw(lambda data: min(len(data), 1 + len(data) % 61))
    table.write(raw, "csv")
    assert raw.got == expected(table, "csv")


def interrupted(data: bytes) -> int:
    raise InterruptedError(errno.EINTR, "a signal")


def test_an_interrupted_write_is_repeated(table: ct.ConnectionTable) -> None:
    calls = iter(range(1 << 30))
    raw = Raw(lambda data: interrupted(data) if next(calls) % 3 == 1 else min(len(data), 700))
    table.write(raw, "csv")
    assert raw.got == expected(table, "csv")


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (lambda _: 0, errno.EIO),
        (lambda _: -1, errno.EIO),
        (lambda data: len(data) + 1, errno.EIO),
        (lambda _: None, errno.EAGAIN),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_that_helps_nobody(table: ct.ConnectionTable, format: str, answer: Any, number: int) -> None:
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"a write took|would block") as caught:
        table.write(Raw(answer), format)
    assert (caught.value.errno, caught.value.filename) == (number, "out.csv")
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("format", FORMATS)
def test_an_error_of_the_file_object_is_handed_on(table: ct.ConnectionTable, format: str) -> None:
    def full(_: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        table.write(Raw(full), format)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "out.csv")


def test_what_says_none_without_being_raw_has_taken_all(table: ct.ConnectionTable) -> None:
    class Silent:
        got = b""

        def write(self, data: bytes) -> None:
            self.got += data

        def flush(self) -> None:
            pass

    silent = Silent()
    table.write(silent, "csv")
    assert silent.got == expected(table, "csv")


def test_a_signal_ends_the_wait(table: ct.ConnectionTable) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def alarm(*_: object) -> None:
        raise TimeoutError("enough")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with os.fdopen(writing, "wb", 0) as out, pytest.raises(TimeoutError, match="enough"):
            table.write(out, "csv")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(reading)


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_has_its_number(table: ct.ConnectionTable, format: str) -> None:
    with open("/dev/full", "wb", 0) as full:
        for target in ("/dev/full", full):
            with pytest.raises(OSError, match="No space left") as caught:
                table.write(target, format)
            assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


# ---- the program's standard output ----


@pytest.mark.parametrize("format", [*FORMATS, "table"])
def test_standard_output_that_does_not_block(file: Path, format: str) -> None:
    command = ["track", "-f", format, *(["--limit", "0"] if format == "table" else []), file]

    def write(descriptor: int) -> None:
        done = subprocess.run([*COMMAND, *map(str, command)], stdout=descriptor, stderr=subprocess.PIPE, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")

    def write_all(descriptor: int) -> None:
        assert run(*command).returncode == 0
        write(descriptor)

    plain = run(*command).stdout
    assert len(plain) > 20_000
    if format == "zeek":  # the names of a run are its own
        assert through_a_pipe(write_all).count(b"\n") == plain.count(b"\n")
    else:
        assert through_a_pipe(write_all) == plain


@pytest.mark.parametrize(
    "command",
    [
        *(["track", "-f", format] for format in [*FORMATS, "table"]),
        ["track", "--stream"],
        ["summary"],
        ["summary", "--json"],
        ["policy", "suggest"],
        ["policy", "suggest", "--json"],
        ["label", "-o", "-"],
        ["track", "-o", "/dev/full", "-f", "csv"],
        ["track", "-o", "/dev/full", "-f", "table"],
        ["policy", "suggest", "-o", "/dev/full"],
    ],
)
def test_a_full_disk_is_told_in_one_line(file: Path, command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, *command, str(file)], stdout=full, stderr=subprocess.PIPE, timeout=60)
    name = b"/dev/full" if "/dev/full" in command else b"standard output"
    assert done.stderr.splitlines()[-1] == b"conntrack-py: " + name + b": No space left on device"
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["config", "--show"], ["track", "--help"]])
def test_a_full_disk_under_short_output(command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, *command], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.stderr == b"conntrack-py: standard output: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize("blocked", [False, True])
def test_a_reader_that_goes_ends_it_silently(file: Path, blocked: bool) -> None:
    def block() -> None:
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})

    with subprocess.Popen(
        [*COMMAND, "track", "-f", "csv", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=block
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == (141 if blocked else -signal.SIGPIPE)


def test_standard_error_that_is_full_changes_no_status(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "track", str(tmp_path / "none")], stdout=full, stderr=full, timeout=60)
    assert done.returncode == 2


# ---- files that are replaced ----


def outputs(file: Path, out: Path) -> dict[str, Callable[[], Any]]:
    """Everything that writes a file."""
    table = ct.track(str(file)).connections
    return {
        **{format: lambda format=format: table.write(out, format) for format in FORMATS},
        "label": lambda: annotate.label(str(file), out),
        "policy": lambda: ct.Policy.suggest(str(file)).write(out, "toml"),
        "table": lambda: run("track", "-f", "table", "-o", out, file).check_returncode(),
        "suggest": lambda: run("policy", "suggest", "-o", out, file).check_returncode(),
    }


def test_a_replaced_file_keeps_its_mode_and_owner(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, write in outputs(file, out).items():
        for mode in (0o600, 0o640, 0o644, 0o444):
            out.write_bytes(b"old")
            out.chmod(mode)
            if os.geteuid() == 0:
                os.chown(out, 1234, 4321)
            before = out.stat()
            write()
            after = out.stat()
            assert out.read_bytes() != b"old", name
            assert [stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid] == [
                mode,
                before.st_uid,
                before.st_gid,
            ], name
            out.unlink()
    assert sorted(os.listdir(tmp_path)) == ["in.pcap"]


def test_a_new_file_has_the_usual_mode(file: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, write in outputs(file, tmp_path / "out").items():
            if name not in ("table", "suggest"):
                write()
                assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640, name
                (tmp_path / "out").unlink()
    finally:
        os.umask(before)


def test_a_planted_link_is_no_way_to_a_victim(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    planted = [f"out.{os.getpid()}{again}.part" for again in ("", "-1", "-2")]
    planted += [f"egress.pcapng.{os.getpid()}.part", f"ingress.pcapng.{os.getpid()}.part"]
    for name in planted:
        (tmp_path / name).symlink_to(victim)
    for name, write in outputs(file, tmp_path / "out").items():
        write()
        assert not (tmp_path / "out").is_symlink(), name
    annotate.split(str(file), tmp_path)
    assert victim.read_bytes() == b"mine"
    assert all((tmp_path / name).is_symlink() for name in planted)


def test_a_link_leads_to_its_file(table: ct.ConnectionTable, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("middle")
    (tmp_path / "middle").symlink_to(tmp_path / "folder" / "end.csv")
    for _ in range(2):  # to nothing yet, then to a file
        table.write(tmp_path / "link", "csv")
        assert (tmp_path / "folder" / "end.csv").read_bytes() == expected(table, "csv")
    assert os.listdir(tmp_path / "folder") == ["end.csv"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links") as caught:
        table.write(tmp_path / "loop", "csv")
    assert caught.value.errno == errno.ELOOP


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "policy.toml"
    out.write_text("old")
    done = run("policy", "suggest", "-o", out, tmp_path / "none.pcap")
    assert done.returncode == 2
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["policy.toml"]
