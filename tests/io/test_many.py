"""Many files, some of which cannot be read: the others are, and each that is not is listed with its reason."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from support.packets import pcap_bytes, udp
from support.program import run

SKIP = ct.Config(on_error="skip")


class Failing(io.BytesIO):
    """Gives its bytes, and then an error."""

    def __init__(self, content: bytes, error: BaseException) -> None:
        super().__init__(content)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if found := super().read(size):
            return found
        raise self.error


def capture(path: Path, host: int, packets: int = 3) -> Path:
    frame = udp(f"10.0.0.{host}", 5000, "10.0.1.1", 53, b"?")
    path.write_bytes(pcap_bytes((at, frame) for at in range(packets)))
    return path


@pytest.fixture
def batch(tmp_path: Path) -> list[Path]:
    """Two captures, with a file of each kind that cannot be read between them."""
    (tmp_path / "page.html").write_text("<!DOCTYPE html>")
    (tmp_path / "directory").mkdir()
    names = ["missing.pcap", "page.html", "directory"]
    return [capture(tmp_path / "a.pcap", 1), *(tmp_path / name for name in names), capture(tmp_path / "b.pcap", 2)]


def track(source: Any, config: ct.Config = SKIP, **options: Any) -> tuple[ct.TrackResult, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ct.track(source, config=config, **options)
    return result, [str(one.message) for one in caught if issubclass(one.category, ct.CaptureWarning)]


def test_stop_is_the_default(batch: list[Path]) -> None:
    for bad, error in zip(batch[1:4], (FileNotFoundError, ct.CaptureError, IsADirectoryError), strict=True):
        for files in ([bad], [batch[0], bad, batch[4]]):
            with pytest.raises(error):
                ct.track(files)
    assert ct.Config().on_error == "stop"


def test_each_is_listed_with_its_reason(batch: list[Path]) -> None:
    result, (warning,) = track(batch)
    assert (result.stats.packets, len(result.connections)) == (6, 2)
    skipped = result.stats.skipped_files
    assert [one.file for one in skipped] == [str(path) for path in batch[1:4]]
    reasons = ("No such file", "offset 0: found ", "Is a directory; give its files")
    for one, reason in zip(skipped, reasons, strict=True):
        assert reason in one.reason
        assert one.packets == 0
        assert str(one) in warning
    assert warning.startswith("3 files were skipped: ")


def test_one_file_alone(batch: list[Path]) -> None:
    for bad in batch[1:4]:
        result, (warning,) = track(bad)
        assert (result.stats.packets, len(result.stats.skipped_files)) == (0, 1)
        assert "1 file was skipped" in warning


def test_what_was_read_before_a_failure_counts(tmp_path: Path) -> None:
    content = capture(tmp_path / "a.pcap", 1).read_bytes()
    for error in (OSError(5, "Input/output error"), EOFError("ended"), StopIteration()):
        for others in ([], [capture(tmp_path / "b.pcap", 2)]):
            result, _ = track([Failing(content, error), *others])
            (skipped,) = result.stats.skipped_files
            assert (result.stats.packets, skipped.packets, skipped.offset) == (3 + 3 * len(others), 3, len(content))
            assert type(error).__name__ in skipped.reason
            assert "its 3 packets" in str(skipped)
            with pytest.raises((OSError, EOFError, ct.CaptureError)):
                ct.track([Failing(content, error), *others])


def test_who_interrupts_is_no_file_to_skip(tmp_path: Path) -> None:
    content = capture(tmp_path / "a.pcap", 1).read_bytes()
    for error in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(error):
            ct.track(Failing(content, error()), config=SKIP)


def test_strict_skips_a_file_from_its_damage_on(tmp_path: Path) -> None:
    damaged = capture(tmp_path / "a.pcap", 1)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    files = [damaged, capture(tmp_path / "b.pcap", 2)]
    strict, _ = track(files, ct.Config(on_error="skip", strict=True))
    assert strict.stats.packets == 5
    assert [(one.file, one.packets) for one in strict.stats.skipped_files] == [(str(damaged), 2)]
    lenient, _ = track(files)
    assert (lenient.stats.packets, lenient.stats.skipped_files) == (5, ())


def test_a_link_type_without_a_decoder(tmp_path: Path) -> None:
    other = capture(tmp_path / "usb.pcap", 1)
    content = bytearray(other.read_bytes())
    content[20] = 220  # LINKTYPE_USB_LINUX_MMAPPED
    other.write_bytes(content)
    result, _ = track([other, capture(tmp_path / "b.pcap", 2)])
    (skipped,) = result.stats.skipped_files
    assert skipped.file == str(other)
    assert "link type 220" in skipped.reason
    assert len(result.connections) == 1


def test_a_stream_of_batches(batch: list[Path]) -> None:
    tracker = ct.Tracker(SKIP)
    with warnings.catch_warnings(record=True) as caught, ct.open_capture(batch, config=SKIP) as opened:
        warnings.simplefilter("always")
        for packets in opened:
            tracker.process(packets)
        assert tracker.stats(opened).skipped_files == opened.skipped_files()
    assert len(opened.skipped_files()) == 3
    (warning,) = caught
    assert str(warning.message).startswith("3 files were skipped")


def test_the_order_and_number_of_threads_change_nothing(batch: list[Path]) -> None:
    results = [track(batch, ct.Config(on_error="skip", threads=threads))[0] for threads in (1, 4)]
    assert results[0].stats.skipped_files == results[1].stats.skipped_files
    turned, _ = track(batch[::-1])
    assert {one.file for one in turned.stats.skipped_files} == {one.file for one in results[0].stats.skipped_files}
    assert len(turned.connections) == 2


@pytest.mark.parametrize(
    "command",
    [
        "track", "track --stream", "track -f jsonl", "summary", "summary --json", "label -o out.pcapng",
        "split -o parts", "policy suggest", "policy suggest --json",
    ],
)  # fmt: skip
def test_the_status_of_every_command(command: str, batch: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(batch[0].parent)
    done = run(*command.split(), "--json-log", "--on-error", "skip", *batch)
    assert done.returncode == 3, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    (account,) = [event for event in events if event["event"] == "read"]
    assert [one["file"] for one in account["skipped_files"]] == [str(path) for path in batch[1:4]]
    assert account["packets"] == 6
    if "--json" in command.split():
        found = json.loads(done.stdout)
        listed = found["capture"] if "capture" in found else found["report"]
        assert len(listed["skipped_files"]) == 3
    stopped = run(*command.split(), *batch)
    assert (stopped.returncode, stopped.stderr.count(b"\n")) == (2, 1)


def test_a_finding_goes_before_skipped_files(batch: list[Path], tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    assert run("policy", "suggest", "-o", policy, batch[0]).returncode == 0
    # What nobody answered is in no rule.
    for fail_on, status in (("never", 3), ("any", 1)):
        done = run("policy", "check", "--json", "--on-error", "skip", "--fail-on", fail_on, policy, batch[0], batch[1])
        assert (done.returncode, len(json.loads(done.stdout)["skipped_files"])) == (status, 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with captures, and with what is none."""
    top = tmp_path / "tree"
    (top / "below" / "deep").mkdir(parents=True)
    (top / ".git").mkdir()
    capture(top / "b.pcap", 1)
    capture(top / "below" / "deep" / "a.pcap", 2)
    capture(top / ".git" / "c.pcap", 3)
    capture(top / ".d.pcap", 4)
    (top / "notes.txt").write_text("no capture")
    (top / "below" / "loop").symlink_to(top, target_is_directory=True)
    (top / "nowhere").symlink_to("nothing")
    os.mkfifo(top / "pipe")
    return top


def test_a_directory(tree: Path) -> None:
    with pytest.raises(IsADirectoryError, match="recursive"):
        ct.track(tree)
    said = run("track", tree)
    assert (said.returncode, said.stderr.count(b"\n")) == (2, 1)
    assert f"{tree}/*".encode() in said.stderr
    assert b"--recursive" in said.stderr


def test_a_directory_read(tree: Path) -> None:
    result, (warning,) = track(tree, ct.Config(), recursive=True)
    assert result.stats.packets == 6
    listed = {os.path.relpath(one.file, tree): one.reason for one in result.stats.skipped_files}
    assert listed.pop("notes.txt").startswith("offset 0: found")
    assert listed == {
        ".d.pcap": "a hidden file",
        ".git": "a hidden directory",
        "nowhere": "No such file or directory",
        "pipe": "no regular file",
    }
    assert warning.startswith("5 files were skipped")
    for command in (["track"], ["summary"], ["label", "-o", tree.parent / "out.pcapng"], ["policy", "suggest"]):
        done = run(*command, "--recursive", tree)
        assert done.returncode == 3, done.stderr
    assert b"leave --on-error stop out" in run("track", "-r", "--on-error", "stop", tree).stderr


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file is in this directory"):
        ct.track(tmp_path, recursive=True)
    done = run("track", "--recursive", tmp_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
