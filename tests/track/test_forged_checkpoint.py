"""Checkpoints with a right sum and wrong contents: an error within a second and 100 MB, or a tracker that works."""

from __future__ import annotations

import hashlib
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

import conntrack_py as ct
from support.packets import tcp, udp

START = 1_700_000_000_000_000_000
#: Values of a count, a length or a number that ask for much.
LARGE = [0, 1, 0x7F, 1 << 14, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 46, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]
MEMORY = 100 << 20


def frames(count: int) -> list[bytes]:
    found = [udp(f"10.0.{n >> 8}.{n & 255}", 1024 + n, "192.0.2.1", 53, b"?") for n in range(count)]
    found += [tcp("10.0.0.1", 2000 + n, "192.0.2.2", 80, flags=2) for n in range(count // 4)]
    fragments = []
    for number in range(3):
        fragment = bytearray(udp("10.0.0.9", 9, "10.0.0.8", 8, b"." * 64))
        fragment[18:22] = struct.pack(">HH", number, 0x2000)
        fragments.append(bytes(fragment))
    return found + fragments


def saved(path: Path, count: int = 40, *, ended: bool = True) -> bytes:
    """A checkpoint with live connections, some that ended, and fragments."""
    tracker = ct.Tracker(ct.Config(max_connections=5000))
    all_of_them = frames(count)
    times = [START + n * 1_000_000 for n in range(len(all_of_them))]
    tracker.process(ct.PacketBatch.from_frames(all_of_them, times, 1))
    if ended:
        later = START + 300 * 10**9
        again = [later + n for n in range(len(all_of_them))]
        tracker.process(ct.PacketBatch.from_frames(all_of_them, again, 1))
    tracker.save(path)
    return path.read_bytes()


def parts_of(checkpoint: bytes) -> list[bytes]:
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(checkpoint[12:-20])
    found, at = [], 0
    while at < len(raw):
        length = struct.unpack_from("<I", raw, at)[0]
        found.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def sealed(parts: list[bytes], head: bytes) -> bytes:
    raw = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    body = head + zstandard.compress(raw)
    return body + hashlib.sha1(body).digest()


def leb(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def varints(part: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of everything in a part that reads as a number."""
    at = 0
    while at < len(part):
        end = at
        while end < len(part) - 1 and part[end] & 0x80:
            end += 1
        yield at, end + 1
        at = end + 1


def mutated(parts: list[bytes], choose: random.Random) -> list[bytes]:
    """Parts with a few numbers replaced, or parts repeated, left out or exchanged."""
    parts = list(parts)
    for _ in range(choose.choice((1, 1, 1, 2, 5))):
        place = choose.randrange(1, len(parts))
        part = parts[place]
        match choose.randrange(8):
            case 0:
                parts[place] = parts[choose.randrange(1, len(parts))]
            case 1:
                parts.insert(place, part)
            case 2 if len(parts) > 3:
                del parts[place]
            case 3:
                parts[place] = part + part
            case _ if part:
                begin, end = choose.choice(list(varints(part)))
                parts[place] = part[:begin] + leb(choose.choice(LARGE)) + part[end:]
    return parts


#: Loads files within a limit of memory, and says how each ended; a worker outlives many files.
WORKER = """
import resource, sys, time
import conntrack_py as ct
import numpy
packets = __import__("pickle").load(open(sys.argv[1], "rb"))
batch = ct.PacketBatch.from_frames(*packets, 1)
ct.Tracker().process(batch)
ct.Tracker().drain()
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + int(sys.argv[2]), pages + int(sys.argv[2])))
for name in sys.stdin:
    begun = time.monotonic()
    try:
        tracker = ct.Tracker.load(name.strip())
    except (ct.CheckpointError, ct.ConfigError) as error:
        answer = f"refused: {error}"
    else:
        answer = "loaded"
    took = time.monotonic() - begun
    if answer == "loaded":
        tracker.process(batch)
        tracker.snapshot()
        tracker.stats()
        len(list(tracker.finish()))
        del tracker
    print(f"{took:.3f} {answer}", flush=True)
"""


class Worker:
    """A process with bounded memory that loads checkpoints."""

    def __init__(self, folder: Path) -> None:
        some = frames(40)
        times = [START + 301 * 10**9 + n for n in range(len(some))]
        (folder / "packets").write_bytes(pickle.dumps((some, times)))
        self.path = folder / "forged"
        command = [sys.executable, "-c", WORKER, str(folder / "packets"), str(MEMORY)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def load(self, content: bytes) -> str:
        """`loaded`, or `refused: ` and the message. Fails where it takes long, or the process dies."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.path.write_bytes(content)
        print(self.path, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, f"the process died: {self.process.wait(10)}"
        took, answer = line.rstrip().split(" ", 1)
        assert float(took) < 1, answer
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(30) == 0


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    one = Worker(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize("ended", [False, True])
def test_random_edits(tmp_path: Path, worker: Worker, ended: bool) -> None:
    whole = saved(tmp_path / "state", ended=ended)
    parts, choose = parts_of(whole), random.Random(22)
    assert worker.load(sealed(parts, whole[:12])) == "loaded"
    answers = [worker.load(sealed(mutated(parts, choose), whole[:12])) for _ in range(400)]
    refused = [answer for answer in answers if answer != "loaded"]
    assert len(refused) > 100
    assert all("forged: " in answer for answer in refused)


def test_every_count(tmp_path: Path, worker: Worker) -> None:
    """The first number of a part is the count of a list, or a counter, in nearly all of them."""
    whole = saved(tmp_path / "state")
    parts = parts_of(whole)
    for place, part in enumerate(parts):
        for large in LARGE[4:] if part else ():
            _, end = next(varints(part))
            forged = [*parts[:place], leb(large) + part[end:], *parts[place + 1 :]]
            worker.load(sealed(forged, whole[:12]))


def test_copies_of_a_key(tmp_path: Path, worker: Worker) -> None:
    tracker = ct.Tracker()
    one = udp("10.0.0.1", 1024, "192.0.2.1", 53, b"?")
    tracker.process(ct.PacketBatch.from_frames([one], [START], 1))
    tracker.save(tmp_path / "state")
    whole = (tmp_path / "state").read_bytes()
    parts = parts_of(whole)
    place = next(n for n, part in enumerate(parts) if part[:2] == b"\x01\x02" and len(part) > 20)
    slot, count = parts[place][1:], 4000
    lists = [leb(min(1024, count - begin)) + slot * min(1024, count - begin) for begin in range(0, count, 1024)]
    forged = [*parts[: place - 1], leb(count), *lists, *parts[place + 1 :]]
    assert "a key is there twice" in worker.load(sealed(forged, whole[:12]))


def test_a_small_file_with_many_places(tmp_path: Path, worker: Worker) -> None:
    """Free slots cost the file next to nothing, and the table 128 bytes each."""
    ct.Tracker().save(tmp_path / "state")
    whole = (tmp_path / "state").read_bytes()
    parts, count = parts_of(whole), 1 << 20
    lists = [leb(1024) + (b"\x02\x00\x00" + bytes(25)) * 1024] * (count // 1024)
    places = [at for at, part in enumerate(parts) if part == b"\x00"]
    assert len(places) > 8
    for at in places:
        content = sealed([*parts[:at], leb(count), *lists, *parts[at + 1 :]], whole[:12])
        assert len(content) < 200_000
        assert worker.load(content).startswith("refused")


def test_a_window_of_the_frame_has_a_bound(tmp_path: Path, worker: Worker) -> None:
    ct.Tracker().save(tmp_path / "state")
    whole = (tmp_path / "state").read_bytes()
    raw = b"".join(struct.pack("<I", len(part)) + part for part in parts_of(whole))
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    out = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = whole[:12] + out.compress(raw) + out.flush()
    assert "refused" in worker.load(body + hashlib.sha1(body).digest())


def test_something_behind_the_last_part(tmp_path: Path, worker: Worker) -> None:
    whole = saved(tmp_path / "state")
    assert "a part has no meaning" in worker.load(sealed([*parts_of(whole), b"\x00"], whole[:12]))


def test_a_large_table_of_free_places_comes_back(tmp_path: Path) -> None:
    """A file that compresses well is padded: the bound for small files does not refuse it."""
    tracker = ct.Tracker()
    one = bytearray(udp("10.0.0.1", 1024, "192.0.2.1", 53, b"?"))
    many = []
    for number in range(60_000):
        struct.pack_into("!I", one, 26, 0x0A000000 | number)
        many.append(bytes(one))
    tracker.process(ct.PacketBatch.from_frames(many, [START] * len(many), 1))
    tracker.save(tmp_path / "state")
    assert len(ct.Tracker.load(tmp_path / "state").snapshot()) == 60_000
